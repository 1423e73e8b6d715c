"""The component that has the browser keep the work; what crosses between page and server is in ``protocol.md``.

Apart from a line for what there is to say about it, nothing of it can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from draggan.kept_session import BUDGET
from draggan.ui.canvas.value import CanvasValue

__all__ = ["READ", "KeptWork", "asked_for", "keeper", "kept_work", "storage_script"]

_HERE = Path(__file__).parent
_LINE = """<div class="dg-kept" role="status" hidden><span></span>
<button data-name="Continue" hidden>Continue it</button><button data-name="Again" hidden>Try again</button>
<button data-name="Discard" hidden>Discard</button></div>"""
_MOST_NAMES = 100_000

# The JavaScript of the page's first event: what comes before the work goes as it is.
READ = "async (...values) => [...values.slice(0, -1), await window.dragganStorage?.read() ?? null]"


@dataclass(frozen=True, kw_only=True)
class KeptWork:
    """What a browser gives back; none of it has been looked at.

    Attributes:
        text: as `draggan.kept_session.read_session` takes it.
        draft: what the canvas showed last.
        opened: title and name of the model now, where it has been opened again.
        agreed: a token that says that somebody has agreed to what has to be agreed to of photos.
    """

    text: str
    draft: CanvasValue | None = None
    opened: tuple[str, str] | None = None
    agreed: str | None = None


def keeper(**look: Any) -> gr.HTML:
    """The component. Its event ``keep``: the page asks for what is new."""
    return gr.HTML(
        value=None,
        html_template=_LINE,
        js_on_load=(_HERE / "keeper.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        stamp=None,
        answer=None,
        back=None,
        aside=None,
        model=None,
        expired=0,
        **look,
    )


def storage_script() -> str:
    """For the head of the page: it is there before the first event."""
    return f"<script>{(_HERE / 'storage.js').read_text(encoding='utf-8')}</script>"


def kept_work(value: Any) -> KeptWork | None:
    """What came with the page's first event; None: nothing was kept."""
    if not isinstance(value, dict) or not isinstance(value.get("text"), str) or len(value["text"]) > 2 * BUDGET:
        return None
    opened, draft, agreed = value.get("opened"), value.get("draft"), value.get("agreed")
    if not isinstance(opened, list) or len(opened) != 2 or not all(isinstance(text, str) for text in opened):
        opened = None
    return KeptWork(
        text=value["text"],
        draft=draft if isinstance(draft, dict) else None,
        opened=None if opened is None else (opened[0], opened[1]),
        agreed=agreed if isinstance(agreed, str) else None,
    )


def asked_for(value: Any) -> tuple[int, frozenset[str]]:
    """What the page asks: the count of the newest change that it knows of, and the names of pieces that it has."""
    value = value if isinstance(value, dict) else {}
    count, there = value.get("count"), value.get("there")
    count = count if isinstance(count, int) and 0 <= count < 1 << 53 else 0
    there = there if isinstance(there, list) and len(there) <= _MOST_NAMES else []
    return count, frozenset(name for name in there if isinstance(name, str))
