"""Agents: Stable-Baselines3 algorithms behind one protocol, and the reward that they are given."""
