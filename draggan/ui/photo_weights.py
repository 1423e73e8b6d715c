"""The tuned weights of photos on their way out of a page and back: in a session's file, and in what a browser keeps.

A tuning draws its photo again. So what holds one is taken in by the rules for photos: somebody has agreed, and what it
draws is looked at as an uploaded picture is.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial

import gradio as gr

from draggan.config import Limits
from draggan.engine.models import portable_reference
from draggan.errors import DragGANError, RecipeError
from draggan.images import over_white
from draggan.kept_session import BUDGET, pieces_of, read_session
from draggan.provenance.consent import PHOTO
from draggan.recipe import ModelReference, Recipe, parse_json
from draggan.session import Session
from draggan.session_file import PhotoPlace, SessionFile, photos_of, read_session_file
from draggan.ui.page import Page
from draggan.ui.tab_queue import owner_of, visit_of

__all__ = ["admit", "kept_pieces", "kept_weights", "missing_weights", "work_file"]

_PREFIX = "photo-"
_NAME = re.compile(_PREFIX + r"([0-9a-f]{64})-([0-9]{1,9})")
_AROUND = 0.06  # of what a browser keeps, what may come to it as it is sent back inside another text


def work_file(page: Page, session: Session, owner: str) -> SessionFile:
    """A session with all that is needed to go on with it elsewhere. Steps of its history that lie beyond a photo whose
    tuned weights are gone are left out.

    Args:
        owner: whose it is (`draggan.ui.tab_queue.owner_of`).

    Raises:
        RecipeError: those of the picture on the screen are.
        ModelNotFound: a model of its history is gone.
    """
    gone = missing_weights(page, session)
    if session.recipe.model.tuning in gone:
        page.engine.tuning(session.recipe)
    session = session.without(lambda model: model.tuning in gone)
    tunings, places = {}, {}
    for digest, recipe in photos_of(session).items():
        tunings[digest], place = page.engine.tuning(recipe), page.photos.place(digest, owner)
        if place is not None:
            places[digest] = place
    portable = read_session(pieces_of(session).text(), found=partial(portable_reference, page.models))
    return SessionFile(session=portable.with_only_opened([]), tunings=tunings, places=places)


def missing_weights(page: Page, session: Session) -> frozenset[str]:
    """Hashes of tuned weights that a session needs and that are not here any more."""
    return frozenset(digest for digest, recipe in photos_of(session).items() if not _is_here(page, recipe))


def admit(page: Page, work: SessionFile, request: gr.Request | None) -> None:
    """Take in the tuned weights of a session that has come, so that its pictures can be drawn.

    Raises:
        ConsentError: nobody has agreed.
        DragGANError: they do not fit their model, or draw what is not allowed. None of them was kept then.
    """
    if not work.tunings:
        return
    page.site.consents.check(visit_of(request), PHOTO)
    recipes = photos_of(work.session)
    with ExitStack() as looks:
        # In one order, so that no two wait for each other.
        for digest in sorted(recipes):
            looks.enter_context(page.photos.look(digest))
        new = [digest for digest, recipe in recipes.items() if not _is_here(page, recipe)]
        for digest in new:
            _look_at(page, work, recipes[digest])
        for digest in new:
            page.engine.keep_tuning(work.tunings[digest])
        for digest in recipes:
            page.photos.hold(digest, work.places.get(digest), owner_of(request))


def kept_pieces(
    page: Page, session: Session, owner: str, *, there: Collection[str], limits: Limits
) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """The tuned weights of a session's photos for its browser, beside the pieces of `draggan.kept_session`.

    Args:
        owner: whose it is (`draggan.ui.tab_queue.owner_of`).
        there: names of pieces that the browser has already.
        limits: they go as far as one call can bring them back: of the photo on the screen first, then what only the
            browser has, then the others as far as they fit.

    Returns:
        Names of all of them, each with the characters that it takes, and the JSON texts of those that are not there.
    """
    room = int(min(2 * BUDGET, limits.call_bytes) * (1 - _AROUND)) - BUDGET
    names, texts = [], {}
    recipes, gone, shown = photos_of(session), missing_weights(page, session), session.recipe.model.tuning
    theirs = {match[1]: match for name in there if (match := _NAME.fullmatch(name))}
    for digest in sorted(recipes, key=lambda digest: (digest != shown, digest not in gone)):
        if digest in gone:
            # Perhaps it comes back from there.
            if digest in theirs and int(theirs[digest][2]) <= room:
                room -= int(theirs[digest][2])
                names.append(theirs[digest][0])
            continue
        recipe = recipes[digest]
        tuning, place = page.engine.tuning(recipe), page.photos.place(digest, owner)
        start = Session.of(recipe.up_to(0) if recipe.edits else recipe)
        # Both become text twice: the latent, 4 bytes a number, in the session's own.
        size = 4 * tuning.bytes // 3 + 2 * 4 * start.ws.size + 16_000
        if size > room:
            continue
        room -= size
        name = f"{_PREFIX}{digest}-{size}"
        names.append(name)
        if name not in there:
            places: dict[str, PhotoPlace] = {} if place is None else {digest: place}
            data = SessionFile(session=start, tunings={digest: tuning}, places=places).to_bytes()
            texts[name] = json.dumps(base64.b64encode(data).decode("ascii"))
    return tuple(names), texts


def kept_weights(text: str, found: Callable[[ModelReference], ModelReference]) -> list[SessionFile]:
    """What `kept_pieces` has made, from what a browser has kept: from outside. What cannot be read is not there.

    Args:
        found: what a model is called now.
    """
    files = []
    value = parse_json(text, 2 * BUDGET)
    pieces = value.get("pieces") if isinstance(value, dict) else None
    for name, piece in (pieces if isinstance(pieces, dict) else {}).items():
        if name.startswith(_PREFIX) and isinstance(piece, str):
            try:
                files.append(read_session_file(base64.b64decode(piece, validate=True), found=found))
            except (DragGANError, binascii.Error, ValueError):
                continue
    return files


def _look_at(page: Page, work: SessionFile, recipe: Recipe) -> None:
    """Have what the tuned weights of a recipe draw looked at. By their hash nobody can draw with them yet: where a
    recipe names it, it is said that they are not here.

    Raises:
        DragGANError: they do not fit their model, or draw what is not allowed.
    """
    name = page.engine.keep_tuning(work.tunings[recipe.model.tuning], secretly=True)
    try:
        start = recipe.up_to(0) if recipe.edits else recipe
        drawn = page.picture(replace(start, model=replace(start.model, tuning=name)))
        page.site.deployment.moderation.check_upload(over_white(drawn))
    finally:
        page.engine.forget_tuning(name)


def _is_here(page: Page, recipe: Recipe) -> bool:
    """Whether the tuned weights of a photo are; those that somebody is just looking at, once they have passed."""
    with page.photos.look(recipe.model.tuning), suppress(RecipeError):
        page.engine.tuning(recipe)
        return True
    return False
