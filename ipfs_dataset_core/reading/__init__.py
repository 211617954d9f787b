"""Verified files and directories from blocks: resolving, fetching, reading ahead."""
