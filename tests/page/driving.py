"""Drives the handlers of a page as functions, and reads what the page is to show."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from draggan.config import DragConfig
from draggan.session import Session
from draggan.ui.canvas.value import EMPTY
from draggan.ui.drag_settings import SETTINGS
from draggan.ui.handlers import downloads, dragging, editing, keeping, models, opening, pictures, saving, starting
from draggan.ui.page import Page
from tests.pages import BUMP


class Handlers:
    """Every handler of a page, bound to it.

    Args:
        page: what they work with.
    """

    def __init__(self, page: Page) -> None:
        self.page = page

    def __getattr__(self, name: str) -> Callable[..., Any]:
        for module in (models, downloads, pictures, starting, editing, dragging, saving, keeping, opening):
            if name in module.__all__:
                return partial(getattr(module, name), self.page)
        raise AttributeError(name)


DEFAULTS = {name: getattr(DragConfig(), name) for name in (*SETTINGS, "space")}


ONE_PAIR = {"points": [[*BUMP, BUMP[0] + 6, BUMP[1]]], "pending": None, "mask": None}


def request(tab: str = "a") -> gr.Request:
    return gr.Request(session_hash=tab)


def chosen(do: Handlers, session: Session | None, model: str, seed: int = 1) -> dict:
    """What the page shows once a model has been chosen."""
    return list(do.choose_model(session, model, seed))[-1]


def last_of(answer) -> dict:
    """The updates that a handler ends with, whether it is a function or a generator function."""
    return answer if isinstance(answer, dict) else list(answer)[-1]


def shown(updates, part) -> dict:
    """An update as the page gets it."""
    value = updates[part]
    return value if isinstance(value, dict) else value.constructor_args


def picture_of(updates, parts) -> np.ndarray:
    return pixels_of(shown(updates, parts.canvas)["frame"])


def pixels_of(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))))


def drawn_on(value) -> dict:
    """Points and mask of a canvas value, whatever revision they are."""
    return {name: value[name] for name in EMPTY}


def text_of(updates, parts) -> str:
    return shown(updates, parts.status)["text"]


def png(size: tuple[int, int]) -> str:
    buffer = io.BytesIO()
    Image.new("RGBA", size, (255, 255, 255, 255)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def seeded(do: Handlers, session: Session, seed) -> dict:
    """What the page shows once a seed has been typed."""
    return list(do.set_seed(session, seed))[-1]


def far(session: Session) -> dict:
    return {"points": [[*BUMP, 62, 62]], "pending": None, "mask": None}


def slow(steps: int = 5000) -> dict:
    """Settings with which a long drag creeps: on for seconds, but never so slowly that it counts as stalled."""
    return DEFAULTS | {"step_size": 2e-4, "max_steps": steps}


KEY = "1234-5678-9012-3456"


def holding(xy=BUMP, key: str = KEY, **value) -> dict:
    """What the canvas sends when it takes hold of the picture."""
    return EMPTY | value | {"pull": {"key": key, "at": list(xy)}}


def follow(do: Handlers, run, way, key: str = KEY) -> dict:
    """Move the pointer along a way, a picture for every place, and let go; returns the page at rest."""
    next(run)
    with going_on(run) as updates:
        seen = 0
        for place in way:
            seen = picture_at(do, place, seen, key)["count"]
        assert do.page.live.steer({"key": key, "at": list(way[-1]), "end": True})
    return updates[-1]


@contextmanager
def going_on(run) -> Iterator[list]:
    """What a handler yields meanwhile, and after: all of it."""
    updates: list = []
    thread = threading.Thread(target=lambda: updates.extend(run))
    thread.start()
    yield updates
    thread.join(60)
    assert not thread.is_alive()


def picture_at(do: Handlers, place, seen: int, key: str = KEY) -> dict:
    """What the page is answered when the pointer is there: another picture than it has seen."""
    deadline = time.monotonic() + 60
    while True:
        answer = asyncio.run(do.page.live.answer({"key": key, "at": list(place), "seen": seen}))
        if answer:
            return answer
        assert answer is not None
        assert time.monotonic() < deadline
