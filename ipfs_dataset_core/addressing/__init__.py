"""Parses URLs of objects and addresses of sources, as users write them."""
