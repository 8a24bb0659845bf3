"""Executors, which run cells on this machine, on Ray or on Slurm."""
