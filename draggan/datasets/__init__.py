"""Data sets for other models: pictures before and after, and what is true of them."""
