"""The page: its layout, its handlers and its texts in both languages."""
