"""Files: atomic writes, bounded reads and locks."""
