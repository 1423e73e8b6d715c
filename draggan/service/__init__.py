"""Recipes over plain HTTP and WebSockets, for other programs: no page, no Gradio, nothing remembered."""
