"""Probe a reward model: what agents do that optimise it while it is frozen (over-optimisation)."""
