"""The run directory, which contains the complete state of a training."""
