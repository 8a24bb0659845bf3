"""From results to scores, tables, figures and one page."""
