"""Render segments as clips, and read and write videos."""
