"""The order of samples, and which of them each rank and worker reads: pure functions."""
