"""Checking which marks a file carries."""

from __future__ import annotations

import threading
from typing import Any

from draggan.errors import DragGANError, LimitError
from draggan.provenance.verify import verify_bytes
from draggan.ui import messages
from draggan.ui.errors import explained, presentable
from draggan.ui.file_check.component import answer, read_sent, refusal
from draggan.ui.page import Page, Updates

__all__ = ["check"]

_SECONDS = 8.0  # for the search of the invisible mark
_PATIENCE = 20.0  # seconds until a file is refused while others are looked at
_AT_ONCE = threading.BoundedSemaphore(2)


def check(page: Page, value: Any) -> Updates:
    """Look at a file that the page has sent; what is wrong with it is told beside it."""
    with explained():
        try:
            sent = read_sent(value, page.site.limits)
            if not _AT_ONCE.acquire(timeout=_PATIENCE):
                raise LimitError("other files are being checked; try again in a minute")
            try:
                ours = page.site.deployment
                record = None if ours.audit is None else ours.recorded
                report = verify_bytes(sent.content, folder=ours.folder, record=record, seconds=_SECONDS)
            finally:
                _AT_ONCE.release()
        except DragGANError as error:
            return {page.parts.check: refusal(value, messages.sentence(presentable(str(error))))}
    return {page.parts.check: answer(sent, [*report.findings()])}
