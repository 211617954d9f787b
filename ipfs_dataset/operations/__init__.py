"""Operations of the commands on whole objects: list, copy, compare, verify, prefetch, picture and serve."""
