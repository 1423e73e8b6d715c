"""Checking which marks a file carries."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from draggan.errors import DragGANError, LimitError
from draggan.provenance.verify import verify_bytes
from draggan.ui import messages
from draggan.ui.errors import explained, presentable
from draggan.ui.file_check.component import answer, read_sent, refusal
from draggan.ui.page import Page, Updates
from draggan.ui.tab_queue import visitor_of

__all__ = ["check"]

_SECONDS = 8.0  # for the search of the invisible mark
_PATIENCE = 20.0  # seconds until a file is refused while others are looked at
_AT_ONCE = threading.BoundedSemaphore(2)
_visitors: set[str] = set()  # whose files are looked at, or wait for it
_lock = threading.Lock()


@contextmanager
def _turn(visitor: str) -> Iterator[None]:
    """One file of each visitor at a time, and few in all: two of one visitor would leave others no place.

    Raises:
        LimitError: it is not the turn of this one.
    """
    with _lock:
        if visitor in _visitors:
            raise LimitError("another file of yours is being checked; wait until it is done")
        _visitors.add(visitor)
    try:
        if not _AT_ONCE.acquire(timeout=_PATIENCE):
            raise LimitError("other files are being checked; try again in a minute")
        try:
            yield
        finally:
            _AT_ONCE.release()
    finally:
        with _lock:
            _visitors.discard(visitor)


def check(page: Page, value: Any, request: gr.Request) -> Updates:
    """Look at a file that the page has sent; what is wrong with it is told beside it."""
    with explained():
        try:
            sent = read_sent(value, page.site.limits)
            with _turn(visitor_of(request)):
                ours = page.site.deployment
                record = None if ours.audit is None else ours.recorded
                report = verify_bytes(sent.content, folder=ours.folder, record=record, seconds=_SECONDS)
        except DragGANError as error:
            return {page.parts.check: refusal(value, messages.sentence(presentable(str(error))))}
    return {page.parts.check: answer(sent, [*report.findings()])}
