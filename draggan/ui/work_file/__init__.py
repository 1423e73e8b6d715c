"""Opening what was saved: a picture with its recipe, or a recipe, goes on as work."""
