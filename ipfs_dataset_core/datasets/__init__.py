"""Datasets that users construct, index, iterate and shuffle."""
