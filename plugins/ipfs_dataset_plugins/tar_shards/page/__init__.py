"""What a published dataset shows of itself: statistics, previews of samples, its page, its Croissant metadata."""
