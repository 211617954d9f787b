"""The reader of ZIP archives."""
