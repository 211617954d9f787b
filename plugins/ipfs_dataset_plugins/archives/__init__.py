"""What the readers of archives share: decompression, member names, buffered reading."""
