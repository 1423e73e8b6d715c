"""The component for a photo of one's own, and what crosses between it and the server.

From the page, as ``value`` with an event:

* ``photo_sent``: ``{"count", "name", "content"}``, the content in base64: it never lies on a disk.
* ``aim``, ``open_photo``: what is to be cut out, and now to be opened: ``{"crop": {"box": [x0, y0, x1, y1]}}``, or of a
  face ``{"crop": {"face": [eye, eye, mouth]}}``, each ``[x, y]``; pixels of the photo, integers at pixel centres.
* ``foresee``: ``{"count"}``, the shown photo's. What will come of it: how long it takes, and where on the photo
  the model sees its subject.
* ``enough``, ``cancel_photo``: what is being opened is good enough, or not wanted any more.

To the page, as props:

* ``allowed``: whether somebody has agreed to `draggan.provenance.consent.PHOTO`; the server checks it again.
* ``model``: name of the one on the canvas; with another one, the photo is looked at anew.
* ``shown``: ``{"count", "url", "size": [width, height], "ratio", "box", "note"}`` or ``{"count", "error"}``.
* ``aimed``: ``{"corners", "cut"}``, what the model would see, or ``{"error"}``.
* ``expected``: ``{"count", "text"}``, how long opening it takes, a sentence.
* ``found``: ``{"count", "box", "text"}``, a proposal for what is cut out; without a box, why there is none. A search
  takes some seconds: of another photo than the one that is shown it is ignored, and so is ``expected``.
* ``work``: ``{"running", "percent", "text", "picture"}``.

Pictures come as JPEG data URLs: previews, not files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from draggan.config import Limits
from draggan.ui.file_check.component import most_bytes

__all__ = ["photo_box"]

_HERE = Path(__file__).parent


def photo_box(limits: Limits, **look: Any) -> gr.HTML:
    """The component."""
    return gr.HTML(
        value=None,
        html_template=(_HERE / "photo.html").read_text(encoding="utf-8"),
        js_on_load=(_HERE / "photo.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        allowed=False,
        model=None,
        shown=None,
        aimed=None,
        found=None,
        expected=None,
        work=None,
        most=most_bytes(limits),
        **look,
    )
