"""What a published dataset shows of itself: statistics, previews, its page, its Croissant metadata."""
