"""Cloning one's own best samples, by three rules of what is best."""
