"""The run directory: one folder holds the whole state of a training."""
