"""Agreeing to what has to be agreed to before a file is uploaded."""

from __future__ import annotations

from typing import Any

import gradio as gr

from draggan.provenance.consent import MODEL, PHOTO, Text
from draggan.ui.errors import PageError, explained
from draggan.ui.page import Page, Updates
from draggan.ui.server.callers import uploader_of
from draggan.ui.tab_queue import tab_of, visit_of

__all__ = ["agree", "agree_photo"]


def agree(page: Page, value: Any, request: gr.Request) -> Updates:
    """Take down that somebody may use a model's file, or no longer says so; a browser that has a token of before shows
    it."""
    agreed, updates = _agreed(page, page.parts.consent, MODEL, value, request)
    return updates | {page.parts.upload: gr.update(visible=agreed)}


def agree_photo(page: Page, value: Any, request: gr.Request) -> Updates:
    """The same of photos. Without it, the one that was chosen is given up."""
    agreed, updates = _agreed(page, page.parts.photo_consent, PHOTO, value, request)
    if not agreed:
        page.photos.leave(tab_of(request))
    updates |= {page.parts.photo: gr.HTML(allowed=agreed)}
    if agreed and isinstance(value, dict) and value.get("agreed") is True:
        # A click, not what a browser has kept of one: kept work may have waited for it.
        updates |= {page.parts.keeper: gr.HTML(model={"agreed": True})}
    return updates


def _agreed(page: Page, box: Any, text: Text, value: Any, request: gr.Request) -> tuple[bool, Updates]:
    value, visit, consents = value if isinstance(value, dict) else {}, visit_of(request), page.site.consents
    token, said = value.get("token"), {}
    try:
        with explained():
            if token is not None:
                consents.remember(visit, token, uploader=uploader_of(request))
            elif value.get("agreed") is True:
                token = consents.agree(visit, text, uploader=uploader_of(request))
            else:
                consents.withdraw(visit, text)
    except PageError as error:
        token, said = None, page.say(error.text, "bad")
    agreed = text.name in consents.of(visit)
    return agreed, said | {box: gr.HTML(answer={"agreed": agreed, "token": token if agreed else None})}
