"""Threads, deadlines and process-local state, for the whole core."""
