"""Imitation of the best: the agent clones its own segments that were rated best, without a reward model."""
