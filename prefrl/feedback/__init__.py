"""Feedback kinds, the store of queries and answers, and the quality of answers. No other package uses SQL."""
