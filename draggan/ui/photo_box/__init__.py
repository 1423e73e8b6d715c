"""Where a person chooses a photo, says which part of it is meant, and sees what a model makes of it."""
