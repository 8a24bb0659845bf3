"""Demonstrations move the label curve to the left."""
