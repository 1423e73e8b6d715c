"""Checking which marks a file carries."""

from __future__ import annotations

from typing import Any

import gradio as gr

from draggan.errors import DragGANError
from draggan.provenance.verify import verify_bytes
from draggan.ui.errors import explained, presented
from draggan.ui.file_check.component import answer, read_sent, refusal
from draggan.ui.page import Page, Updates
from draggan.ui.reading_turns import ReadingTurns
from draggan.ui.tab_queue import visitor_of

__all__ = ["check"]

_SECONDS = 8.0  # for the search of the invisible mark
# Two of one visitor would leave others no place.
_TURNS = ReadingTurns(what="checked")


def check(page: Page, value: Any, request: gr.Request) -> Updates:
    """Look at a file that the page has sent; what is wrong with it is told beside it."""
    with explained():
        try:
            sent = read_sent(value, page.site.limits)
            with _TURNS.turn(visitor_of(request)):
                ours = page.site.deployment
                record = None if ours.audit is None else ours.recorded
                report = verify_bytes(sent.content, folder=ours.folder, record=record, seconds=_SECONDS, name=sent.name)
        except DragGANError as error:
            return {page.parts.check: refusal(value, presented(str(error)))}
    return {page.parts.check: answer(sent, [*report.findings()])}
