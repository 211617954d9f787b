"""What plugins are built with: string tables, indexes, file views, exit handling."""
