"""Measures this library beside the limit and beside what its users would take otherwise; see README.md."""
