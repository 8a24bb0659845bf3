"""Measurements: speed, growth, people's cost, the viewer."""
