"""Where to begin: pictures of the model to choose from, and those that a person has marked as favourites."""
