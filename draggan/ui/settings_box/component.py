"""The component for the settings of a drag, and what crosses between it and the server.

Both ways, as ``value``: every setting by its name, in the units of `draggan.config.DragConfig`, and ``space``. Lengths
that are given at 512 px there are shown and typed in pixels of the picture: the component alone converts.

From the page: ``settings``, one was changed; ``reset_settings``, all go back to what suits the model.

To the page, as props: ``rows``, what there is to say of each; ``suited``, as they suit the model; ``longer``, pixels of
the picture's longer side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from draggan.config import DragConfig
from draggan.ui.drag_settings import SETTINGS, UP_FRONT, row_of

__all__ = ["CSS", "settings_box"]

_HERE = Path(__file__).parent
CSS = _HERE / "settings.css"


def settings_box(**look: Any) -> gr.HTML:
    """The component, with the settings as they are without a model."""
    usual = DragConfig()
    values = {name: getattr(usual, name) for name in (*SETTINGS, "space")}
    others = [name for name in SETTINGS if name not in UP_FRONT]
    return gr.HTML(
        value=values,  # type: ignore[arg-type]  # any JSON value; the annotation knows plain HTML only
        html_template=(_HERE / "settings.html").read_text(encoding="utf-8"),
        js_on_load=(_HERE / "settings.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        rows=[row_of(name) for name in (*UP_FRONT, *others)],
        suited=values,
        longer=512,
        **look,
    )
