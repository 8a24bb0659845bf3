"""Ratings or pairs: which tells more in a labeller's minute."""
