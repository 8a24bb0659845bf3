"""Over-optimisation: what is left of a reward model when an agent climbs it."""
