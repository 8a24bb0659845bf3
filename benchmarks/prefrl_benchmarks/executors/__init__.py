"""Where cells run: here, on Ray, on Slurm."""
