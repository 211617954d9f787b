"""The page of a published dataset, its statistics, previews and Croissant metadata."""
