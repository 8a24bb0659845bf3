"""A KL penalty holds what it is told to hold."""
