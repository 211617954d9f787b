"""Building blocks for plugins: string tables, indexes, file views, exit handling."""
