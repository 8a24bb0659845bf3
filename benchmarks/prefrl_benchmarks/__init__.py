"""Suites, speed figures and their reports."""
