"""Remote pinning services, which keep what others publish."""
