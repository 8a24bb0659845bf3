"""A learned judge answers most of the queries."""
