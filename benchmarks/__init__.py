"""Measures this library beside the limit and what users would write otherwise; see README.md."""
