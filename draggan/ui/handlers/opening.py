"""Saved work opens again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import gradio as gr

from draggan.checkpoints.catalogue import SUFFIXES
from draggan.errors import ConsentError, DragGANError, ModelNotFound, NoRecipeError, RecipeError
from draggan.export import recipe_in
from draggan.provenance.consent import PHOTO
from draggan.recipe import ModelReference, Recipe
from draggan.session import Session
from draggan.session_file import SUFFIX, is_session_file, read_session_file
from draggan.ui import messages
from draggan.ui.drag_settings import without_model_settings
from draggan.ui.errors import PageError, explained
from draggan.ui.file_check.component import read_sent
from draggan.ui.page import Page, Updates
from draggan.ui.photo_weights import admit
from draggan.ui.tab_queue import owner_of, visit_of, visitor_of

__all__ = ["open_work", "reopened"]


class _MayBePhoto(RecipeError):
    """A picture that was not saved here."""


def open_work(page: Page, session: Session | None, value: Any, request: gr.Request) -> Updates:
    """A saved picture, a recipe or a session was chosen or dropped: its picture, with its drags as steps to undo."""
    used: Updates = {page.parts.opener: gr.HTML(value=None)}
    try:
        with explained():
            name = _readable(value)
            sent = read_sent(value, page.site.limits)
            if PurePath(name).suffix.lower() == SUFFIX or is_session_file(sent.content):
                return _session_opened(page, session, sent.content, name, request) | used
            return reopened(page, session, _recipe_in(sent.content, name), name, request) | used
    except PageError as error:
        if isinstance(error.__cause__, _MayBePhoto):
            # Where photos are opened it goes on.
            return page.say(error.text, "note") | {page.parts.opener: gr.HTML(value=None, photo=value["count"])}
        return page.say(error.text, "bad") | used


def _session_opened(page: Page, session: Session | None, content: bytes, name: str, request: gr.Request) -> Updates:
    """The work in a session's file; what was there before is what its history begins with.

    Raises:
        ConsentError: it is of a photo, and nobody has agreed.
        DragGANError: it cannot be used; nothing of it was kept.
    """
    work = read_session_file(content, found=lambda model: _found(page, session, model))
    if work.tunings:
        try:
            page.site.consents.check(visit_of(request), PHOTO)
        except ConsentError as error:
            raise ConsentError(messages.agree_before_opening(name)) from error
    admit(page, work, request)
    steps = len(work.session.past)
    opened = page.session_of(session).with_session(work.session)
    digest, owner = opened.recipe.model.tuning, owner_of(request)
    missing = bool(digest) and page.photos.opened(digest, owner) is None
    missing = missing and page.photos.place(digest, owner) is not None
    arrived = {page.parts.keeper: gr.HTML(model={"photos": sorted(work.tunings)})} if work.tunings else {}
    said = page.say(messages.session_opened(name, steps, photo_missing=missing), "good")
    return page.whole_model(opened) | arrived | said


def reopened(page: Page, session: Session | None, recipe: Recipe, name: str, request: gr.Request) -> Updates:
    """A recipe on the canvas, with its drags as steps to undo; ``name``: what the person calls it.

    Raises:
        DragGANError: it cannot be shown.
    """
    recipe = replace(recipe, model=_found(page, session, recipe.model))
    recipe = page.engine.complete(recipe, visitor=visitor_of(request))
    session = without_model_settings(page.session_of(session).with_work(recipe))
    said = page.say(messages.work_opened(name, len(recipe.edits)), "good")
    return page.whole_model(session) | said


def _recipe_in(content: bytes, name: str) -> Recipe:
    """The recipe in a file's content; of a picture that has none, where photos are opened.

    Raises:
        RecipeError, LatentError, PointError, MaskError: there is none that can be used.
    """
    try:
        return recipe_in(content, name)
    except NoRecipeError as error:
        raise _MayBePhoto(
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
        raise RecipeError(f"{name} is too large, or could not be read; pictures, recipes and sessions can be opened")
    return name


def _found(page: Page, session: Session | None, wanted: ModelReference) -> ModelReference:
    """A model by the name that it has here: a file that was opened has another one each time.

    Raises:
        ModelNotFound: it is not here.
    """
    for _, name in session.opened if session else ():
        with suppress(DragGANError):
            if wanted.sha256 and page.models.sha256(name) == wanted.sha256:
                return replace(wanted, name=name)
    for model in page.models.listed():
        if wanted.name in (model.name, model.file):
            if not model.here:
                raise ModelNotFound(
                    f"this work needs {model.title}, which is not here; download it, then open it again"
                )
            return replace(wanted, name=model.name)
    raise ModelNotFound(f"this work needs the model '{wanted.name:.80}'; open that file first, then this one again")
