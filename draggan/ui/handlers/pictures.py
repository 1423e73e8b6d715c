"""Other pictures of the same model: by seed, truncation, class, at random, or as an example to try."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import gradio as gr

from draggan.errors import ConfigError
from draggan.session import Session
from draggan.ui import messages
from draggan.ui.canvas.value import CanvasValue, is_outdated
from draggan.ui.errors import explained
from draggan.ui.handlers.dragging import refused_while_dragging
from draggan.ui.page import Page, Updates
from draggan.ui.tab_queue import tab_of

__all__ = [
    "leave_seed",
    "picture_of_seed",
    "random_picture",
    "set_label",
    "set_seed",
    "set_truncation",
    "try_preset",
]


def set_seed(
    page: Page, session: Session | None, seed: float | None, request: gr.Request | None = None
) -> Iterator[Updates]:
    """The picture of a seed; points and mask belong to the old one and go, until undo."""
    with explained():
        session = page.session_of(session)
    # The box is also left, unchanged, for a click on Start.
    if seed != session.seed and (refused := refused_while_dragging(page, tab_of(request), session)) is not None:
        yield refused
        return
    back = {page.parts.seed: gr.update(value=session.seed)}
    yield (yield from page.attempt(lambda: _another(page, session, seed=seed), back))


def leave_seed(
    page: Page, session: Session | None, seed: float | None, value: CanvasValue, request: gr.Request
) -> Iterator[Updates]:
    """The same where the box of the seed is left.

    It is left by pressing something else, too, such as an example, and what that brings may be there first: the seed
    belongs to what was there before, which the canvas tells, and must not take the place of it.
    """
    with explained():
        session = page.session_of(session)
    if is_outdated(session, value):
        yield {page.parts.session: session, page.parts.seed: gr.update(value=session.seed)}
        return
    yield from set_seed(page, session, seed, request)


def set_truncation(page: Page, session: Session | None, truncation: float | None) -> Updates:
    """The same seed at another truncation."""
    with explained():
        return _another(page, page.session_of(session), truncation=truncation)


def set_label(page: Page, session: Session | None, label: int | None) -> Updates:
    """The same seed of another class."""
    with explained():
        return _another(page, page.session_of(session), label=label)


def random_picture(page: Page, session: Session | None) -> Updates:
    """The picture of a random seed."""
    return picture_of_seed(page, session, secrets.randbelow(1_000_000))


def picture_of_seed(page: Page, session: Session | None, seed: Any) -> Updates:
    """The picture of a seed that was not typed, which the page shows with it."""
    with explained():
        new = _another(page, page.session_of(session), seed=seed)
    return new | {page.parts.seed: gr.update(value=seed, interactive=True)}


def try_preset(page: Page, session: Session | None, number: int) -> Updates:
    """The picture and the points of a drag to try; one more click runs it."""
    with explained():
        session = page.session_of(session)
        model = page.models.find(session.model)
        if not 0 <= number < len(model.presets):
            raise ConfigError(f"example {number} is not there; this model has {len(model.presets)}")
        preset = model.presets[number]
        recipe = page.begin(model.name, preset.seed, model.truncation, session.label)
        other = session.is_edited or session.start.seed != recipe.seed
        session = session.with_picture(recipe, [((hx, hy), (tx, ty)) for hx, hy, tx, ty in preset.points])
        hints = messages.preset_hints(session, preset.title, other=other)
        said = page.say(messages.preset_ready(preset.title, other=other), hints=hints)
        return page.show(session) | page.controls(session) | said


def _another(page: Page, session: Session, **changes: Any) -> Updates:
    """The picture of another seed, truncation or class. Where nothing is another, nothing is done."""
    now = {"seed": session.seed, "truncation": page.truncation_of(session), "label": session.label}
    wanted = now | changes
    if wanted == now:
        return {page.parts.session: session}
    return page.show(session.with_picture(page.begin(session.model, **wanted)))
