"""The reader of TAR archives."""
