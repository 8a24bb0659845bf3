"""Trust boundaries: which modules may be imported, and what a database made by someone else may contain."""
