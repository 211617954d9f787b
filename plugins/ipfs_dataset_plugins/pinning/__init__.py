"""Remote pinning services, which keep data that is available elsewhere."""
