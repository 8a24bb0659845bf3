"""Offline labels, with and without a KL penalty."""
