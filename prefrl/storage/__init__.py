"""Files: written whole, read within bounds."""
