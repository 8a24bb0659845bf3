"""What to ask about, and when (paper, section 2.2.4)."""
