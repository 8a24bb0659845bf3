"""What may be imported, and on whose word."""
