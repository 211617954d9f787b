"""The order of samples, and the samples that each rank and worker reads, as pure functions."""
