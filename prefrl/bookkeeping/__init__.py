"""What is written down of a training: rounds, metrics, checkpoints, progress."""
