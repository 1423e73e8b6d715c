"""The canvas as a component of the page. Pictures that stream in leave alone what is being drawn.

It is a ``gr.HTML`` component, not a compiled one: no build step. Its script is the files beside this one, joined; what
crosses between page and server is written down in ``protocol.md``.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from draggan.images import over_white
from draggan.ui.canvas.value import EMPTY

__all__ = ["CSS", "drag_canvas", "frame_url", "history_strip", "points_list"]

_HERE = Path(__file__).parent
_SCRIPT = (
    *("view", "zoom", "loupe", "mask", "live", "film", "whole", "story"),
    *("points_list", "pointer", "keyboard", "server"),
)

CSS = _HERE / "canvas.css"


def drag_canvas(steer: Callable[[Any], Awaitable[Any]] | None = None, **kwargs: Any) -> gr.HTML:
    """A new canvas component.

    Its events are ``edit``: a person has changed points or mask; ``pull``: a person holds the picture and pulls;
    ``look``: a frame of the drags is to be seen; ``go_on``: work is to go on from one; ``see_whole``: the whole photo
    of the picture is to be seen; ``go_to``: a picture of the history is to be gone to.

    Args:
        steer: called with where the pointer is during a live drag, and when it lets go; what it returns goes to the
            page. See `live_channel.LiveDrags.answer`.
    """

    # Gradio marks it, which a method does not allow.
    async def steer_(message: Any) -> Any:
        return None if steer is None else await steer(message)

    steer_.__name__ = "steer"
    return gr.HTML(
        value=EMPTY,  # type: ignore[arg-type]  # any JSON value; the annotation knows plain HTML only
        html_template=(_HERE / "canvas.html").read_text(encoding="utf-8"),
        js_on_load="\n".join((_HERE / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPT),
        apply_default_css=False,
        frame="",
        size=[1, 1],
        live=None,
        busy=False,
        holds=False,
        held="",
        film=None,
        story=None,
        seen=None,
        photo=False,
        whole=None,
        server_functions=[steer_],
        **kwargs,
    )


def points_list(**look: Any) -> gr.HTML:
    """Where the canvas lists its points, elsewhere on the page; it fills the list by itself."""
    columns = "".join(f'<span aria-hidden="true">{name}</span>' for name in ("x", "y", "→ x", "y"))
    return gr.HTML(
        html_template='<section class="dg-points" aria-label="Points" data-none><h2><span>Points</span>'
        f"{columns}</h2><p>No points yet.</p><ol></ol></section>",
        apply_default_css=False,
        **look,
    )


def history_strip(**look: Any) -> gr.HTML:
    """Where the canvas shows the history as thumbnails, likewise."""
    template = '<section class="dg-story" aria-label="History"><h2>History</h2><ol></ol></section>'
    return gr.HTML(html_template=template, apply_default_css=False, **look)


def frame_url(pixels: UInt8[np.ndarray, "height width channels"], *, quality: int = 95) -> str:
    """A picture as the canvas takes it: a JPEG data URL without colour subsampling. A preview, not a file."""
    buffer = io.BytesIO()
    Image.fromarray(over_white(pixels)).save(buffer, "JPEG", quality=quality, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
