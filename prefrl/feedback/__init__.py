"""Feedback: what is asked, the store of queries and answers, and how good the answers are. All SQL is in here."""
