"""The component that sends a file to be checked and shows what was found.

The file comes as a value of the page, not as an upload: it never lies on a disk, and nobody has to agree to anything to
find out what marks a file carries. `checker.js` sends ``{"count", "name", "content"}``, the content in base64, and
shows the prop ``report``: ``{"count", "name", "findings": [{"layer", "text", "mood"}]}`` or ``{"count", "error"}``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from draggan.config import Limits
from draggan.errors import VerifyError
from draggan.provenance.verify import Finding

__all__ = ["SentFile", "answer", "file_check", "read_sent", "refusal"]

_SCRIPT = Path(__file__).parent / "checker.js"
_TEMPLATE = """<div class="dg-check"><label class="dg-check-zone">
<input type="file" accept="image/*,video/mp4,.png,.jpg,.jpeg,.webp,.gif,.avif,.tiff,.mp4">
<span>Choose a file, or drop one here</span></label>
<p class="dg-status" role="status" aria-live="polite" hidden></p><dl></dl></div>"""
_MOST = 64_000_000  # bytes of a file, where calls may be as large as that
_AROUND = 10_000  # bytes of a call beside the file


@dataclass(frozen=True, kw_only=True)
class SentFile:
    """A file as it came.

    Attributes:
        count: which one it is, of those that this page has sent.
        name: what the browser calls it.
        content: its bytes.
    """

    count: int
    name: str
    content: bytes


def file_check(limits: Limits, **look: Any) -> gr.HTML:
    """The component. Its event ``check``: a file is there."""
    return gr.HTML(
        value=None,
        html_template=_TEMPLATE,
        js_on_load=_SCRIPT.read_text(encoding="utf-8"),
        apply_default_css=False,
        report=None,
        most=most_bytes(limits),
        **look,
    )


def most_bytes(limits: Limits) -> int:
    """Of a file that can be sent in one call: in base64, three bytes are four letters."""
    return min(_MOST, (limits.call_bytes - _AROUND) * 3 // 4)


def read_sent(value: Any, limits: Limits) -> SentFile:
    """What the page has sent.

    Raises:
        VerifyError: not a file, or one that is too large.
    """
    value = value if isinstance(value, dict) else {}
    count, name, content = (value.get(key) for key in ("count", "name", "content"))
    if not isinstance(count, int) or not isinstance(name, str) or not isinstance(content, str):
        raise VerifyError("no file has come; choose one again")
    if len(content) > most_bytes(limits) * 4 // 3 + 4:
        raise VerifyError(
            f"the file is larger than {most_bytes(limits) // 10**6} MB; `draggan verify` checks such files"
        )
    try:
        return SentFile(count=count, name=name[:200], content=base64.b64decode(content, validate=True))
    except (binascii.Error, ValueError) as error:
        raise VerifyError("the file did not come whole; choose it again") from error


def answer(sent: SentFile, findings: Sequence[Finding]) -> gr.HTML:
    """What the component is to show."""
    listed = [{"layer": f.layer, "text": f.text, "mood": f.mood} for f in findings]
    return gr.HTML(report={"count": sent.count, "name": sent.name, "findings": listed}, value=None)


def refusal(value: Any, text: str) -> gr.HTML:
    """The same where a file could not be checked."""
    count = value.get("count") if isinstance(value, dict) else None
    return gr.HTML(report={"count": count, "error": text}, value=None)
