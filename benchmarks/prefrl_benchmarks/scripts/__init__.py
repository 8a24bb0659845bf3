"""One-off scripts that create pictures and numbers for the documentation."""
