"""Shared by the readers of archives: decompression, member names, buffered reading."""
