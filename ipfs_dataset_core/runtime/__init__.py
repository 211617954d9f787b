"""Threads, deadlines and process-local state, for all of the core."""
