"""The component that opens saved work: by a button, or by dropping a file anywhere on the page.

The file comes as a value of the page, as one that is checked does (`draggan.ui.file_check.component`): it never lies on
a disk. `opener.js` sends ``{"count", "name", "content"}``, the content in base64; empty where it would not be read.
The prop ``photo`` is the count of a file that is no saved work but may be a photo: it goes to where photos are opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from draggan.checkpoints.catalogue import SUFFIXES
from draggan.config import Limits
from draggan.ui.file_check.component import most_bytes

__all__ = ["work_opener"]

_SCRIPT = Path(__file__).parent / "opener.js"
_TEMPLATE = """<label class="dg-open"><input type="file" accept=".png,.jpg,.jpeg,.webp,.gif,.mp4,.json,.draggan">
<span>Open saved work …</span></label>"""


def work_opener(limits: Limits, **look: Any) -> gr.HTML:
    """The component. Its event ``open_work``: a file is there."""
    return gr.HTML(
        value=None,
        html_template=_TEMPLATE,
        js_on_load=_SCRIPT.read_text(encoding="utf-8"),
        apply_default_css=False,
        most=most_bytes(limits),
        models=[*SUFFIXES],
        photo=0,
        **look,
    )
