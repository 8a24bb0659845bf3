"""Select queries and schedule labels (paper, section 2.2.4)."""
