"""A short film of the page in use."""
