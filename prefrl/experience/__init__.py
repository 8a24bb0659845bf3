"""Environments, and the experience recorded from them."""
