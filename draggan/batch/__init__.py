"""Many recipes at once: lists of them, the processes that run them, and what is written down about it."""
