"""The desktop viewer in which people compare clips (not written yet)."""
