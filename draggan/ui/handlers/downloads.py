"""Downloads of models: what there is to know before, how far one is, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from draggan.downloads import Terms, offer
from draggan.engine.models import Model
from draggan.session import Session
from draggan.ui import messages
from draggan.ui.errors import PageError, explained
from draggan.ui.handlers import models
from draggan.ui.jobs import DownloadJob
from draggan.ui.page import Page, Updates
from draggan.ui.tab_queue import tab_of

__all__ = ["ask", "download", "not_now", "tell"]


def ask(page: Page, offered: str) -> Updates:
    """What the server says about the model on offer, if one is. That takes a while."""
    with explained():
        return {page.parts.asked: (offered, page.models.terms(offered, ask=True)) if offered else None}


def tell(page: Page, offered: str, asked: tuple[str, Terms] | None) -> Updates:
    """Add that to the offer, unless another model is on offer by now, or none."""
    with explained():
        if asked is None or asked[0] != offered:
            return {page.parts.asked: None}
        return {
            page.parts.asked: None,
            page.parts.terms: gr.HTML(text=offer(page.models.find(offered).title, asked[1])),
        }


def not_now(page: Page, session: Session | None, request: gr.Request) -> Updates:
    """Cancel the download that runs; without one, take the offer away."""
    if page.downloads.stop(tab_of(request)):
        return {page.parts.not_now: gr.update(value="Cancelling …")}
    with explained():
        # In place of what was wrong before; a drag says how far it is.
        said = {} if tab_of(request) in page.drags else page.say(messages.hint(page.session_of(session)))
        return page.show_model(session) | said


def download(page: Page, session: Session | None, model: str, request: gr.Request) -> Iterator[Updates]:
    """Fetch the model on offer, with a bar that says how far it is, and use it if that throws no work away.

    One that does not come stays on offer, and the list says again what is on the canvas.
    """
    tab = tab_of(request)
    with explained():
        chosen = page.models.find(model)
        job = page.downloads.begin(tab, lambda: DownloadJob(lambda progress: page.models.fetch(model, progress)))
    buttons = {page.parts.download: gr.update(interactive=False), page.parts.not_now: gr.update(value="Cancel")}
    try:
        job.begin()
        yield buttons | _progress(page, job)
        here = False
        while not here:
            with explained():
                here = job.ended(patience=0.25)
            yield _progress(page, job)
        yield _finished(page, tab, session, chosen)
    except PageError as e:
        with explained(), page.tabs.exclusive(tab, session) as newest:
            back = page.show_model(newest)
            if not page.models.find(model).here:
                back |= page.offer(chosen, page.models.terms(model, ask=False))
        yield back | page.say(e.text, "note")
        if not job.stopping:
            e.said_already()
            raise
    finally:
        job.stop()
        page.downloads.end(tab, job)


def _progress(page: Page, job: DownloadJob) -> Updates:
    done = job.progress
    return {page.parts.bar: gr.HTML(text=done.text, percent=round(100 * done.fraction, 1), visible=True)}


def _finished(page: Page, tab: str, before: Session | None, model: Model) -> Updates:
    """A download has ended: its picture, unless work was done, or another model chosen meanwhile."""
    with explained(), page.tabs.exclusive(tab, before) as newest:
        touched = newest is not None and newest.is_touched
        if touched or tab in page.drags or page.model_of(newest) != page.model_of(before):
            return page.show_model(newest) | models.announce(page, model, tab)
        return page.tabs.remember(tab, models.new_model(page, newest, model.name, None, model.truncation))
