"""Publishes datasets and files to IPFS, and imports published datasets."""
