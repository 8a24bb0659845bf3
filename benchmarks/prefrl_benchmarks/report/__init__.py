"""Scores, tables, figures and an HTML page from the results of suites."""
