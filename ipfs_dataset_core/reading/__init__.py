"""Verified files and directories out of blocks: resolving, fetching, reading ahead."""
