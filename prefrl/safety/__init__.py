"""Trust boundaries: whose modules may be imported, and what a database of somebody else's may hold."""
