"""Runs recipes: `draggan.engine.base` is the seam, `draggan.engine.local` does it in this process."""
