"""Work that the browser keeps: what is new of it goes there, and what was kept comes back."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from typing import Any

import gradio as gr

from draggan.errors import ConfigError, ConsentError, DragGANError, ModelNotFound, RecipeError
from draggan.kept_session import pieces_of, read_session
from draggan.recipe import ModelReference
from draggan.sentences import sentence
from draggan.session import Session
from draggan.ui import messages
from draggan.ui.browser_storage.component import KeptWork, asked_for
from draggan.ui.canvas.value import with_canvas
from draggan.ui.drag_settings import chosen_settings
from draggan.ui.errors import explained, explanation
from draggan.ui.page import Page, Updates
from draggan.ui.photo_weights import admit, kept_pieces, kept_weights, missing_weights
from draggan.ui.server.callers import uploader_of
from draggan.ui.tab_queue import owner_of, tab_of, visit_of

__all__ = ["keep", "restored", "set_aside"]

log = logging.getLogger(__name__)


class _Unreadable(DragGANError):
    """Kept work that something is wrong with."""


class _ModelGone(DragGANError):
    """Kept work whose model is not here, or not as it was.

    Args:
        model: of the work.
        title: what people call it.
    """

    def __init__(self, model: ModelReference, title: str) -> None:
        super().__init__(messages.model_gone(title))
        self.model = model


class _PhotoGone(DragGANError):
    """Kept work of a photo whose tuned weights are not here.

    Args:
        tuning: their hash.
        agreed: whether somebody has agreed to what has to be agreed to; else the browser may have them.
    """

    def __init__(self, tuning: str, *, agreed: bool) -> None:
        super().__init__(messages.PHOTO_GONE if agreed else messages.AGREE_TO_PHOTO)
        self.tuning, self.agreed = tuning, agreed


def keep(
    page: Page,
    session: Session | None,
    progress: Session | None,
    asked: Any,
    request: gr.Request,
    settings: Any,
) -> Updates:
    """What the browser lacks of the work; of a drag under way, what it has reached."""
    count, there = asked_for(asked)
    with explained():
        if session is None:
            # Forgotten here, which is what the browser keeps it for.
            return {page.parts.keeper: gr.HTML(answer={"count": count, "names": None})}
        if progress is not None and tab_of(request) in page.drags:
            session = progress
        if not page.is_worth_keeping(session):
            return {page.parts.keeper: gr.HTML(answer={"count": count, "outline": None, "names": [], "pieces": {}})}
        # As the controls show them, though no drag has used them yet.
        with suppress(ConfigError):
            session = chosen_settings(session, settings)
        kept = pieces_of(session, there=there)
        names, weights = kept_pieces(page, session, owner_of(request), there=there, limits=page.site.limits)
        pieces = {**kept.pieces, **weights}
        answer = {"count": count, "outline": kept.outline, "names": [*kept.names, *names], "pieces": pieces}
        return {page.parts.keeper: gr.HTML(answer=answer)}


def restored(page: Page, work: KeptWork, request: gr.Request | None) -> Updates:
    """The page as it was, from what the browser has kept.

    Raises:
        Exception: it cannot be shown, for now or for good; `set_aside` tells the browser.
    """
    try:
        session = read_session(work.text, found=lambda model: _found(page, model, work))
    except DragGANError as error:
        raise _Unreadable(str(error)) from error
    title = {name: title for title, name in session.opened}.get(session.model, session.model)
    try:
        gone = _without_weights(page, session, work, request)
        session = session.without(lambda model: model.tuning in gone)
        if work.draft is not None:
            # Drawn on this very state, and perhaps never heard of; anything else is no loss.
            with suppress(DragGANError):
                session = with_canvas(session, work.draft)
        steps = len(session.past) + len(session.future)
        session = _with_models_that_are_here(page, session)
        lost = steps - len(session.past) - len(session.future)
        updates = page.whole_model(session)
    except (ModelNotFound, RecipeError) as error:
        raise _ModelGone(session.recipe.model, title) from error
    said = page.say(messages.restored(session, lost=lost), "good")
    return updates | said | {page.parts.keeper: gr.HTML(back=True)}


def set_aside(page: Page, error: Exception) -> Updates:
    """What the browser is told of work that `restored` has failed with: what it waits for, or that it is of no use."""
    waiting: dict[str, Any] | None
    said: Updates = {}
    if isinstance(error, _Unreadable):
        waiting, said = None, page.say(messages.refused_work(str(error)), "bad")
    elif isinstance(error, _ModelGone):
        waiting = {"text": sentence(str(error)), "name": error.model.name, "sha256": error.model.sha256}
    elif isinstance(error, _PhotoGone):
        waiting = {"text": sentence(str(error)), "photo": error.tuning, "agreed": error.agreed}
    else:
        # The work itself is as it should be: of a full machine, or a model that could not be read this time.
        waiting = {"text": messages.later_work(explanation(error)), "again": True}
    return {page.parts.keeper: gr.HTML(aside={"waiting": waiting})} | said


def _found(page: Page, model: ModelReference, work: KeptWork) -> ModelReference:
    """What a model is called now: an opened file has another name each time."""
    if work.opened is None:
        return model
    name = work.opened[1]
    with suppress(DragGANError):
        if model.sha256 and page.models.sha256(name) == model.sha256:
            return replace(model, name=name)
    return model


def _without_weights(page: Page, session: Session, work: KeptWork, request: gr.Request | None) -> frozenset[str]:
    """Hashes of tuned weights that neither this server nor the browser has; those that only the browser has are taken
    in.

    Raises:
        _PhotoGone: among them are those of the picture on the screen.
        DragGANError: those could not be taken in.
    """
    gone, agreed = missing_weights(page, session), True
    if not gone:
        return gone
    if work.agreed is not None:
        page.site.consents.remember(visit_of(request), work.agreed, uploader=uploader_of(request))
    for photo in kept_weights(work.text, lambda model: _found(page, model, work)):
        if not gone.isdisjoint(photo.tunings):
            try:
                admit(page, photo, request)
            except ConsentError:
                agreed = False
            except DragGANError as error:
                if session.recipe.model.tuning in photo.tunings:
                    raise
                log.info("the tuned weights that a browser has kept were not taken: %s", error)
    gone = missing_weights(page, session)
    if session.recipe.model.tuning in gone:
        raise _PhotoGone(session.recipe.model.tuning, agreed=agreed)
    return gone


def _with_models_that_are_here(page: Page, session: Session) -> Session:
    """The session without history and list entries of models that are gone; what is on the screen stays."""
    here = {name: _is_here(page, name) for name in {moment.start.model.name for moment in session.moments}}
    session = session.without(lambda model: not here[model.name])
    return session.with_only_opened([name for _, name in session.opened if _is_here(page, name)])


def _is_here(page: Page, name: str) -> bool:
    try:
        return page.models.find(name).here
    except DragGANError:
        return False
