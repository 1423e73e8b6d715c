"""Saved work opens again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import gradio as gr

from draggan.checkpoints.catalogue import SUFFIXES
from draggan.errors import DragGANError, ModelNotFound, RecipeError
from draggan.export import recipe_in
from draggan.recipe import Recipe
from draggan.session import Session
from draggan.ui import messages
from draggan.ui.drag_settings import without_model_settings
from draggan.ui.errors import PageError, explained
from draggan.ui.file_check.component import read_sent
from draggan.ui.page import Page, Updates
from draggan.ui.tab_queue import visitor_of

__all__ = ["open_work"]


def open_work(page: Page, session: Session | None, value: Any, request: gr.Request) -> Updates:
    """A saved picture or a recipe was chosen or dropped: its picture, with its drags as steps to undo."""
    used: Updates = {page.parts.opener: gr.HTML(value=None)}
    try:
        with explained():
            name = _readable(value)
            sent = read_sent(value, page.site.limits)
            recipe = _found(page, session, _recipe_in(sent.content, name))
            recipe = page.engine.complete(recipe, visitor=visitor_of(request))
            session = without_model_settings(page.session_of(session).with_work(recipe))
            said = page.say(messages.work_opened(name, len(recipe.edits)), "good")
            return page.whole_model(session) | said | used
    except PageError as error:
        return page.say(error.text, "bad") | used


def _recipe_in(content: bytes, name: str) -> Recipe:
    """The recipe in a file's content; of a picture that has none, where photos are opened.

    Raises:
        RecipeError, LatentError, PointError, MaskError: there is none that can be used.
    """
    try:
        return recipe_in(content, name)
    except RecipeError as error:
        if "has no recipe in it" not in str(error):
            raise
        raise RecipeError(
            f"{name} was not saved here; to drag a photo of your own, open it under “Your photo”"
        ) from error


def _readable(value: Any) -> str:
    """The name of the file that has come.

    Raises:
        RecipeError: it was not read, and why.
    """
    value = value if isinstance(value, dict) else {}
    name = str(value.get("name", ""))[:200]
    if PurePath(name).suffix.lower() in SUFFIXES:
        raise RecipeError(f"{name} is a model file; open it under “Open a model file”")
    if not value.get("content"):
        raise RecipeError(f"{name} is too large, or could not be read; pictures and recipes saved here can be opened")
    return name


def _found(page: Page, session: Session | None, recipe: Recipe) -> Recipe:
    """The recipe with the name that its model has here: a file that was opened has another one each time.

    Raises:
        ModelNotFound: it is not here.
    """
    wanted = recipe.model
    for _, name in session.opened if session else ():
        with suppress(DragGANError):
            if wanted.sha256 and page.models.sha256(name) == wanted.sha256:
                return replace(recipe, model=replace(wanted, name=name))
    for model in page.models.listed():
        if wanted.name in (model.name, model.file):
            if not model.here:
                raise ModelNotFound(
                    f"this work needs {model.title}, which is not here; download it, then open it again"
                )
            return replace(recipe, model=replace(wanted, name=model.name))
    raise ModelNotFound(f"this work needs the model '{wanted.name}'; open that file first, then this one again")
