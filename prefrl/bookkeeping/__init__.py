"""Metrics, checkpoints, evaluations and progress of a training."""
