"""The desktop viewer in which people compare clips."""
