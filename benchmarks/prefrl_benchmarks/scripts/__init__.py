"""One-off scripts that make pictures and figures for the documentation."""
