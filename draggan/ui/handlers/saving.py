"""Pictures and animations as files, marked as made by AI."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gradio as gr
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from draggan.errors import ExportError
from draggan.export import save_animation, save_picture
from draggan.recipe import Recipe
from draggan.session import Session
from draggan.ui import messages
from draggan.ui.canvas.value import CanvasValue
from draggan.ui.errors import explained
from draggan.ui.layout import TIMES
from draggan.ui.page import Page, Updates
from draggan.ui.tab_queue import visit_of

__all__ = ["save", "save_gif", "save_webp"]

# Pixels of the longer side of what is enlarged: a picture, and a frame of many that are in memory together.
_LARGEST, _LARGEST_FRAME = 4096, 1024
_KEPT = 600.0  # seconds until a saved file makes room: long after it is written and Gradio has copied it


def save(
    page: Page, session: Session | None, value: CanvasValue, request: gr.Request, times: int | None = 1
) -> Updates:
    """A PNG of the picture, without points.

    Args:
        times: how much larger than it is drawn, by plain resampling.
    """
    with explained():
        session = page.drawn(session, value)
        path = _place(page, _file_name(page, session, ".png"))
        recipe = _portable(page, session.recipe)
        pixels, details = _enlarged(page.picture(session.recipe), times), _details(recipe, session)
        save_picture(path, pixels, details, recipe=recipe, **_how(page, request))
        return {page.parts.file: str(path)} | page.say(messages.saved(path.name), "good")


def save_gif(
    page: Page, session: Session | None, value: CanvasValue, request: gr.Request, times: int | None = 1
) -> Iterator[Updates]:
    """The way from the starting picture as a GIF, through every drag."""
    yield from _save_animation(page, session, value, ".gif", _how(page, request), times)


def save_webp(
    page: Page, session: Session | None, value: CanvasValue, request: gr.Request, times: int | None = 1
) -> Iterator[Updates]:
    """The same as an animated WebP."""
    yield from _save_animation(page, session, value, ".webp", _how(page, request), times)


def _save_animation(
    page: Page, session: Session | None, value: CanvasValue, suffix: str, how: dict[str, Any], times: int | None
) -> Iterator[Updates]:
    with explained():
        session = page.drawn(session, value)
        shown = session.frames
        if not shown:
            raise ExportError("there is no drag to show; drag something first")
    frames: list[np.ndarray] = []
    for recipe, ws in shown:
        # A large model takes a while.
        yield page.say(messages.drawing(len(frames) + 1, len(shown)), "run", aloud=not frames)
        with explained():
            frames.append(_enlarged(page.render(recipe, ws), times, _LARGEST_FRAME))
    with explained():
        path = _place(page, _file_name(page, session, suffix))
        recipe = _portable(page, session.recipe)
        save_animation(path, frames, _details(recipe, session), recipe=recipe, **how)
    yield {page.parts.file: str(path)} | page.say(messages.saved(path.name), "good")


def _enlarged(
    pixels: UInt8[np.ndarray, "height width channels"], times: Any, most: int = _LARGEST
) -> UInt8[np.ndarray, "..."]:
    """The picture so many times as large, with no detail that was not there; or fewer, up to ``most`` pixels a side."""
    if times not in TIMES:
        raise ExportError(f"a file can be {', '.join(map(str, TIMES))} times as large; choose one of them")
    height, width = pixels.shape[:2]
    times = max(1, min(int(times), most // max(height, width)))
    if times == 1:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((times * width, times * height), Image.Resampling.LANCZOS))


def _how(page: Page, request: gr.Request) -> dict[str, Any]:
    """By whose rules a file leaves, through which door, and on whose visit, by its random name."""
    visit = page.site.consents.name_of(visit_of(request))
    return {"deployment": page.site.deployment, "door": "page", "session": visit}


def _portable(page: Page, recipe: Recipe) -> Recipe:
    """The recipe for others: the name under which a file was opened here is its owner's secret, and useless there."""
    name = page.models.find(recipe.model.name).file
    return replace(recipe, model=replace(recipe.model, name=name))


def _details(recipe: Recipe, session: Session) -> dict[str, Any]:
    """How the picture on the screen came about."""
    return {
        "model": recipe.model.name,
        "seed": session.seed,
        "truncation": session.truncation,
        "class": session.label,
        "handles": [pair.handle for pair in session.pairs],
        "targets": [pair.target for pair in session.pairs],
    }


def _file_name(page: Page, session: Session, suffix: str) -> str:
    seed = "" if session.seed is None else f"-seed{session.seed}"
    edited = "-dragged" if session.is_edited else ""
    return f"{page.models.find(session.model).file}{seed}{edited}{suffix}"


def _place(page: Page, name: str) -> Path:
    """A path for a file of that name in a folder of its own; old ones make room.

    Any number may be saved at the same time: by age, none is touched that is being written, and one that another call
    has removed first is no error.
    """
    folder = page.site.saved
    for old in folder.iterdir():
        with suppress(FileNotFoundError):
            if time.time() - old.stat().st_mtime > _KEPT:
                shutil.rmtree(old, ignore_errors=True)
    return Path(mkdtemp(dir=folder)) / name
