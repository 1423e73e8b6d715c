"""Models: the first one, another one of the list, one from a file."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from draggan.config import SEEDS
from draggan.engine.models import Model
from draggan.errors import ConsentError, DragGANError, LimitError, ModelNotFound
from draggan.provenance import consent
from draggan.session import Session
from draggan.ui import messages
from draggan.ui.browser_storage.component import kept_work
from draggan.ui.drag_settings import without_model_settings
from draggan.ui.errors import PageError, explained
from draggan.ui.handlers import keeping
from draggan.ui.page import Page, Updates, notice
from draggan.ui.server.callers import is_own
from draggan.ui.tab_queue import tab_of, visit_of, visitor_of

__all__ = ["announce", "choose_model", "list_models", "new_model", "open_file", "open_page", "open_path"]

_MOST_PICTURE = 64_000  # bytes of the picture of a model


def open_page(
    page: Page, model: str, seed: int | None, truncation: float, kept: Any = None, request: gr.Request | None = None
) -> Updates:
    """A first picture, or the work that the browser has kept. If there is none, the page itself says why."""
    work, news = kept_work(kept), {}
    if work is not None:
        try:
            return keeping.restored(page, work, request)
        except Exception as error:  # noqa: BLE001  # said there, and logged where nobody has expected it
            news = keeping.set_aside(page, error)
    try:
        with explained():
            return new_model(page, None, model, seed, truncation) | news
    except PageError as e:
        return news | page.say(e.text, "bad")


def choose_model(
    page: Page, session: Session | None, model: str, seed: int | None, offered: str = ""
) -> Iterator[Updates]:
    """Another model, with the truncation that suits it and the seed of its first example; one without examples keeps
    the seed. One that is not here is offered.

    A list that is left says once more what is chosen: of what is there already, nothing is done.

    Args:
        offered: the model on offer, if one is.
    """
    try:
        with explained():
            chosen = page.models.find(model)
            if session is not None and model == (offered or session.model):
                updates: Updates = {page.parts.session: session} | (page.name_model(session) if offered else {})
            elif session is not None and model == session.model:
                updates = {page.parts.session: session} | page.show_model(session)
            elif chosen.here:
                first = chosen.presets[0].seed if chosen.presets else seed
                updates = new_model(page, session, model, first, chosen.truncation)
            else:
                # `ask` and `tell` follow.
                terms = page.models.terms(model, ask=False)
                updates = page.name_model(session) | page.offer(chosen, terms, asking=True)
                # In place of what was wrong before.
                updates |= page.say(messages.hint(page.session_of(session)))
    except PageError as error:
        # The list says what is on the canvas, not what was refused.
        yield page.show_model(session) | page.say(error.text, "bad")
        error.said_already()
        raise
    yield updates


def list_models(page: Page, session: Session | None) -> Updates:
    """What there is to choose from, in groups, with what is to be known of each."""
    with explained():
        listed = sorted(page.models.listed(), key=lambda model: [*messages.GROUPS].index(model.group))
        own = [(name, title) for title, name in session.opened] if session else []
        models = [_card(page, model, model.name, model.title) for model in listed]
        models += [_card(page, page.models.find(name), name, title) for name, title in own]
        return {page.parts.model: gr.HTML(models=models)}


def _card(page: Page, model: Model, name: str, title: str) -> dict[str, Any]:
    """A model as the list shows it."""
    # Of a file that was opened nobody knows any terms.
    terms = None
    with suppress(DragGANError):
        terms = page.models.terms(name, ask=False)
    picture = ""
    if model.picture is not None and model.here and model.picture.is_file():
        content = model.picture.read_bytes()
        if len(content) <= _MOST_PICTURE:
            picture = "data:image/jpeg;base64," + base64.b64encode(content).decode()
    shown = {"name": name, "title": title, "group": messages.GROUPS[model.group], "sign": model.group}
    return shown | {"facts": messages.model_facts(model, terms), "picture": picture}


def open_path(page: Page, session: Session | None, path: str | None, request: gr.Request) -> Iterator[Updates]:
    """Read a model file on this machine, for its own user only."""
    with explained():
        if not is_own(request):
            raise LimitError("only the user who has started this page can open files of this machine")
        # As file managers copy them.
        path = (path or "").strip().strip("\"'").strip()
    yield from open_file(page, session, path, request)


def open_file(page: Page, session: Session | None, path: str | None, request: gr.Request) -> Iterator[Updates]:
    """Read a model file, uploaded or on this machine, and show a picture of it.

    That takes a while: what was done meanwhile counts, and a drag that runs by then is not disturbed.
    """
    if not path:
        return
    tab, place = tab_of(request), Path(path)
    yield page.say(messages.reading(place.name), "run")
    try:
        with explained(hide=f"{place.parent}{os.sep}"):
            # A file that has gone is explained by whoever reads it.
            uploaded = page.site.uploads.holds(place)
            if uploaded and place.is_file():
                place = _agreed(page, place, request)
        with explained(hide=f"{place.parent}{os.sep}"):
            model = _read(page, place)
            if uploaded:
                page.site.deployment.record_upload(
                    what="model",
                    sha256=page.models.sha256(model.name),
                    verdict="not moderated",  # there is nothing to see in weights
                    visit=page.site.consents.name_of(visit_of(request)),
                )
            with page.tabs.exclusive(tab, session) as newest:
                updates = page.tabs.remember(tab, _opened(page, tab, newest, model))
    except PageError as e:
        yield page.say(e.text, "bad")
        e.said_already()
        raise
    yield updates | {page.parts.path: ""}


def _agreed(page: Page, place: Path, request: gr.Request) -> Path:
    """Where an uploaded file lies from now on; one of somebody who has not agreed leaves the disk."""
    try:
        page.site.consents.check(visit_of(request), consent.MODEL)
    except ConsentError:
        page.site.uploads.release(place)
        raise
    return page.site.uploads.keep(place, visitor_of(request))


def _read(page: Page, place: Path) -> Model:
    """The model in a file; an uploaded one that holds none leaves the disk."""
    try:
        return page.models.open(place)
    except ModelNotFound as error:
        # What that says is for terminals.
        raise ModelNotFound(messages.no_model(place.name)) from error
    except BaseException:
        page.site.uploads.discard(place)
        raise


def _opened(page: Page, tab: str, session: Session | None, model: Model) -> Updates:
    """A file was read: its picture, or its line in the list while a drag runs."""
    if session is not None:
        # The same file once more is the same line of the list.
        digest = page.models.sha256(model.name)
        known = [name for _, name in session.opened if digest and page.models.sha256(name) == digest]
        if known:
            model = replace(page.models.find(known[0]), title=model.title)
    if session is None or tab not in page.drags:
        return new_model(page, session, model.name, None, model.truncation, opened=model.title)
    if model.name not in [name for _, name in session.opened]:
        session = session.with_opened(model.title, model.name)
    return {page.parts.session: session} | page.show_model(session) | announce(page, model, tab)


def new_model(
    page: Page, session: Session | None, model: str, seed: int | None, truncation: float, *, opened: str = ""
) -> Updates:
    """The first picture of another model; ``opened``: its title, where it was read from a file now."""
    # Any number may stand in the seed's box.
    if not (isinstance(seed, int) and 0 <= seed < SEEDS):
        seed = 0 if session is None else session.seed or 0
    recipe = page.begin(model, seed, truncation)
    session = Session.of(recipe) if session is None else without_model_settings(session.with_picture(recipe))
    if opened and model not in [name for _, name in session.opened]:
        session = session.with_opened(opened, model)
    # Kept work may have waited for it.
    here = {"name": model, "title": opened, "sha256": recipe.model.sha256}
    return page.whole_model(session) | {page.parts.keeper: gr.HTML(model=here)}


def announce(page: Page, model: Model, tab: str) -> Updates:
    """A model can be used now, and is not, as there is work that it would replace."""
    if tab in page.drags:
        # The next step is about to overwrite the status line.
        notice(gr.Info, messages.arrived_model(model), "Model ready")
    return page.say(messages.arrived_model(model), "good")
