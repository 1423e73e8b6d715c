"""Checking in the page which marks a file carries."""
