"""Measurements of speed, scaling, the cost of human labels, and the viewer."""
