"""What shows how the page is used."""

from __future__ import annotations

import gradio as gr

from draggan.ui.help_film.component import film_url
from draggan.ui.page import Page, Updates

__all__ = ["watch"]


def watch(page: Page) -> Updates:
    """A short film of the page in use."""
    return {page.parts.film: gr.HTML(film=film_url())}
