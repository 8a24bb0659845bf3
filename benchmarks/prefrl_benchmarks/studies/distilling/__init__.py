"""Distilling: what a student loses that observes less, and what it takes over from a teacher who abstains."""
