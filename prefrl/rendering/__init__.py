"""Frames of segments: replayed, filmed, and shown to people."""
