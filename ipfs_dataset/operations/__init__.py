"""What the commands do with whole objects: list, copy, compare, verify, prefetch, picture and serve them."""
