"""Datasets published by the original library, which are only read."""
