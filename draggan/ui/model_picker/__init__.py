"""The list of models to choose from: groups of cards, which can be searched."""
