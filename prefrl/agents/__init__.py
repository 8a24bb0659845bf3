"""Agents: Stable-Baselines3 algorithms behind one protocol, and the reward they are trained on."""
