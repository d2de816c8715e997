"""Search: from what was typed to one ranked list of hits."""
