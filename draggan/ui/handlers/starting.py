"""Pictures to start with: suggested ones, and favourites."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from draggan.config import SEEDS
from draggan.errors import DragGANError, LatentError, RecipeError
from draggan.recipe import Recipe
from draggan.session import Session
from draggan.ui import messages
from draggan.ui.errors import PageError, explained
from draggan.ui.handlers.opening import reopened
from draggan.ui.handlers.pictures import picture_of_seed
from draggan.ui.page import Page, Updates
from draggan.ui.start_pictures.component import MOST_RECIPE, ROW, pictures_of

__all__ = ["favour", "open_favourite", "suggest", "take_start"]


def suggest(page: Page, session: Session | None, value: Any) -> Iterator[Updates]:
    """Pictures of seeds, one more with every update, each when the engine has nothing else to do.

    The same seeds for everybody, so that each is drawn once.
    """
    value = value if isinstance(value, dict) else {}
    first = value.get("first")
    first = first if isinstance(first, int) and 0 <= first < SEEDS else 0
    with explained():
        session = page.session_of(session)
    truncation = page.truncation_of(session)
    key, pictures = pictures_of(session, truncation)["key"], []
    if value.get("key") != key:
        # Another picture is on the canvas by now; its own are asked for.
        return
    try:
        # The picture that everybody begins with is on the canvas already.
        for seed in range(first + 1, first + 1 + ROW):
            picture = page.thumbnails.of_seed(session.model, seed % SEEDS, truncation, session.label)
            if picture is None:
                break
            pictures.append({"seed": seed % SEEDS, "picture": picture})
            if len(pictures) < ROW:
                yield {page.parts.starts: gr.HTML(suggested={"key": key, "pictures": [*pictures], "done": False})}
    except DragGANError:
        # Nobody has asked for anything: whoever does next is told what is wrong.
        pass
    yield {page.parts.starts: gr.HTML(suggested={"key": key, "pictures": pictures, "done": True})}


def take_start(page: Page, session: Session | None, value: Any) -> Updates:
    """The picture of a seed that was suggested; undo brings the one before back."""
    seed = value.get("seed") if isinstance(value, dict) else None
    return picture_of_seed(page, session, seed)


def favour(page: Page, session: Session | None, value: Any) -> Updates:
    """What a browser keeps of the picture on the canvas, to open it again."""
    count = value.get("count") if isinstance(value, dict) else None
    try:
        with explained():
            session = page.session_of(session)
            if session.recipe.is_of_photo:
                raise RecipeError("a favourite cannot hold a photo; “Save session” keeps the work on it")
            recipe = page.portable(session.recipe)
            text = recipe.to_json()
            if len(text) > MOST_RECIPE:
                raise RecipeError("so many drags are too much for a favourite; save the picture, which opens again too")
            title = messages.favourite(page.models.find(session.model).title, session)
            kept = {"count": count, "digest": recipe.digest, "title": title, "recipe": text}
    except PageError as error:
        kept = {"count": count, "error": error.text}
    return {page.parts.starts: gr.HTML(kept=kept)}


def open_favourite(page: Page, session: Session | None, value: Any, request: gr.Request) -> Updates:
    """A favourite is on the canvas again, with its drags as steps to undo."""
    value = value if isinstance(value, dict) else {}
    title, text = str(value.get("title", ""))[:200], value.get("recipe")
    try:
        with explained():
            if not isinstance(text, str) or len(text) > MOST_RECIPE:
                raise LatentError("this favourite cannot be read any more")
            return reopened(page, session, Recipe.from_json(text), title, request)
    except PageError as error:
        return page.say(error.text, "bad")
