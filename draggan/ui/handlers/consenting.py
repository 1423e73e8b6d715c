"""Agreeing to what has to be agreed to before a file is uploaded."""

from __future__ import annotations

from typing import Any

import gradio as gr

from draggan.provenance.consent import MODEL
from draggan.ui.errors import PageError, explained
from draggan.ui.page import Page, Updates
from draggan.ui.server.callers import gate_of
from draggan.ui.tab_queue import visit_of

__all__ = ["agree"]


def agree(page: Page, value: Any, request: gr.Request) -> Updates:
    """Take down that somebody has agreed, or no longer does; a browser that has a token of before shows it."""
    value, visit, consents = value if isinstance(value, dict) else {}, visit_of(request), page.site.consents
    token = value.get("token")
    try:
        with explained():
            if token is not None:
                consents.remember(visit, token, gate=gate_of(request))
            elif value.get("agreed") is True:
                token = consents.agree(visit, MODEL, gate=gate_of(request))
            else:
                consents.withdraw(visit)
    except PageError as error:
        return _answer(page, visit, None) | page.say(error.text, "bad")
    return _answer(page, visit, token)


def _answer(page: Page, visit: str, token: Any) -> Updates:
    agreed = MODEL.name in page.site.consents.of(visit)
    answer = {"agreed": agreed, "token": token if agreed else None}
    return {page.parts.consent: gr.HTML(answer=answer), page.parts.upload: gr.update(visible=agreed)}
