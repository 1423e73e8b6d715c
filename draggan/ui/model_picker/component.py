"""The component that a model is chosen with, and what crosses between it and the server.

From the page:

* ``choose``, with the name as ``value``: a model was chosen, here or not.
* ``list_models``: the list was opened and wants to know what there is.

To the page, as props:

* ``value``, ``title``: the model on the canvas or on offer, and what people call it.
* ``shown``: the model on the canvas.
* ``recommended``: ``[{"name", "title", "short"}]``, published ones that are offered without a look at the list.
* ``models``: ``[{"name", "title", "group", "sign", "facts": [...], "picture"}]`` in their order; the group as people
  call it, and as the catalogue does for its sign; the picture a JPEG data URL or empty: then the sign stands for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from draggan.engine.models import Model

__all__ = ["CSS", "model_picker"]

_HERE = Path(__file__).parent
CSS = _HERE / "picker.css"


def model_picker(models: Sequence[Model], **look: Any) -> gr.HTML:
    """The component; the first model is on the canvas."""
    return gr.HTML(
        value=models[0].name,
        html_template=(_HERE / "picker.html").read_text(encoding="utf-8"),
        js_on_load=(_HERE / "picker.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        title=models[0].title,
        shown=models[0].name,
        recommended=[
            {"name": m.name, "title": m.title, "short": m.what.partition(" (")[0]}
            for m in models
            if m.recommended and not m.here
        ],
        models=None,
        **look,
    )
