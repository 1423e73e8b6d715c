"""The component with pictures to start with, and what crosses between it and the server.

From the page, as ``value`` with an event:

* ``suggest``: ``{"key", "first"}``: pictures of seeds from the first one on, as many as a row has; ``key`` comes back.
* ``take_start``: ``{"seed"}``: one was chosen.
* ``favour``: ``{"count"}``: the picture on the canvas becomes a favourite.
* ``open_favourite``: ``{"title", "recipe"}``: one was chosen; the recipe is as it had come from here.

To the page, as props:

* ``of``: ``{"number", "key", "seed"}``, whenever another picture is shown: its number, what pictures there are to
  choose from (the same key: the same ones), and the seed where nothing was changed.
* ``suggested``: ``{"key", "pictures": [{"seed", "picture"}], "done"}``, more and more of them.
* ``kept``: ``{"count", "digest", "title", "recipe"}`` or ``{"count", "error"}``.

Favourites are kept by the browser alone, with a thumbnail that it makes itself. Pictures come as JPEG data URLs:
previews, not files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr

from draggan.session import Session

__all__ = ["CSS", "MOST_RECIPE", "ROW", "pictures_of", "start_pictures"]

_HERE = Path(__file__).parent
CSS = _HERE / "starts.css"
ROW = 6
"""Pictures in a row."""
MOST_RECIPE = 2 << 20
"""Letters of a favourite's recipe."""


def start_pictures(**look: Any) -> gr.HTML:
    """The component."""
    return gr.HTML(
        value=None,
        html_template=(_HERE / "starts.html").read_text(encoding="utf-8"),
        js_on_load=(_HERE / "starts.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        of=None,
        suggested=None,
        kept=None,
        row=ROW,
        most=MOST_RECIPE,
        **look,
    )


def pictures_of(session: Session, truncation: float) -> dict[str, Any]:
    """The prop ``of``; ``truncation``: of the pictures."""
    key = json.dumps([session.model, truncation, session.label])
    return {"number": session.now.seen, "key": key, "seed": None if session.is_edited else session.seed}
