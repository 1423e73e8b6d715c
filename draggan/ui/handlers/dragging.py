"""Drags: one that Start begins, and one that follows the pointer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
import numpy as np

from draggan.config import Space
from draggan.drag import DragStep
from draggan.recipe import Edit
from draggan.session import Session
from draggan.ui import messages
from draggan.ui.canvas.component import frame_url
from draggan.ui.canvas.value import CanvasValue, read_pull
from draggan.ui.errors import PageError, explained
from draggan.ui.frame_pacing import FramePacer, PreviewHeight
from draggan.ui.jobs import DragJob
from draggan.ui.page import Page, Updates, notice
from draggan.ui.rendering import begin_drag, begin_pull, preview
from draggan.ui.tab_queue import tab_of

__all__ = ["at_rest", "close", "follow_pointer", "refused_while_dragging", "set_settings", "start", "stop"]

_DRAGGING_QUALITY = 88  # of JPEG; a still picture has the canvas's own
_SILENCE = 20.0  # seconds without a message of the pointer after which a live drag ends


def at_rest(page: Page, handler: Callable[..., Any]) -> Callable[..., Any]:
    """The handler, made to wait until its tab is free, and refused while a drag runs there.

    For those that change the picture. Their controls are off then, but a click may come before the page has heard of
    the drag; it would unlock the page, and what it brings be gone with the end of the drag.
    """
    return page.tabs.serialized(handler, unless=lambda tab, session: refused_while_dragging(page, tab, session))


def refused_while_dragging(page: Page, tab: str, session: Session | None) -> Updates | None:
    """What the page gets in place of another picture while a drag runs in that tab; None: none does."""
    if tab not in page.drags:
        return None
    notice(gr.Warning, messages.DRAGGING, "Not now")
    session = page.session_of(session)
    # The controls say again what the picture began with.
    return {
        page.parts.session: session,
        page.parts.model: gr.update(value=session.model),
        page.parts.seed: gr.update(value=session.seed),
        page.parts.truncation: gr.update(value=session.truncation),
        page.parts.label: gr.update(value=session.label),
    }


def set_settings(page: Page, session: Session | None, *settings: float | None) -> Iterator[Updates]:
    """Settings were typed: wrong ones are explained, and the last good ones come back."""
    session = yield from page.with_settings(session, settings)
    yield {page.parts.session: session}


def start(
    page: Page, session: Session | None, value: CanvasValue, space: Space, request: gr.Request, *settings: float
) -> Iterator[Updates]:
    """Drag the handles to their targets; pictures and figures come as it goes."""
    tab = tab_of(request)
    with explained():
        session = page.drawn(session, value)
    session = yield from page.with_settings(session, settings)
    with explained():
        session = session.set_space(space).sent_to_page()
        job = DragJob(begin_drag(page.models, session, session.settings))
        page.drags.begin(tab, job)
    yield from _attend(page, tab, job, session, FramePacer())


def follow_pointer(
    page: Page, session: Session | None, value: CanvasValue, space: Space, request: gr.Request, *settings: float
) -> Iterator[Updates]:
    """A person holds the picture: it follows the pointer, see `LiveDrags.steer`, until that lets go."""
    tab = tab_of(request)
    with explained():
        session = page.drawn(session, value)
    session = yield from page.with_settings(session, settings)
    with explained():
        key, at = read_pull(value)
        session = session.set_space(space)
        job = DragJob(begin_pull(page.models, session, at, session.settings))
        page.drags.begin(tab, job)
    page.live.begin(key, job)
    try:
        yield from _attend(page, tab, job, session, FramePacer(rate=25, share=0.9), key)
    finally:
        page.live.end(key)


def stop(page: Page, request: gr.Request) -> None:
    """End this tab's drag with its next step."""
    page.drags.stop(tab_of(request))


def close(page: Page, request: gr.Request) -> None:
    """The tab was closed: nobody waits for its drag or download any more."""
    page.drags.stop(tab_of(request))
    page.downloads.stop(tab_of(request))


def _attend(
    page: Page, tab: str, job: DragJob, session: Session, pacer: FramePacer, key: str = ""
) -> Iterator[Updates]:
    """Run a drag from its first picture to its last; ``key``: of a live one."""
    # What others do to the session meanwhile (a file was opened) counts at the end.
    page.tabs.remember(tab, {page.parts.session: session})
    placed, failed = False, None
    try:
        try:
            yield page.busy(session, key)
            while not (placed := page.drags.take_slot(patience=0.5)) and not job.stopping:
                yield page.say(messages.WAITING, "run")
            if placed:
                yield from _follow(page, job, pacer, key)
        except PageError as error:
            failed = error
        job.end()
        with page.tabs.exclusive(tab, session) as newest:
            ended, failed = _end(page, newest or session, job, key, failed)
            page.tabs.remember(tab, ended)
            # From here on, others may change the picture again.
            page.drags.end(tab, job)
    finally:
        job.end()
        page.drags.end(tab, job)
        if placed:
            page.drags.leave_slot()
    # What was reached is kept; only then is an error shown.
    yield ended
    if failed is not None:
        raise failed


def _follow(page: Page, job: DragJob, pacer: FramePacer, key: str) -> Iterator[Updates]:
    """Run a drag to its end, showing its newest picture whenever one is due."""
    started, size = time.perf_counter(), PreviewHeight(job.drag.generator.preview_heights)
    job.begin()
    shown: DragStep | None = None
    while True:
        with explained():
            step = job.newer(shown, patience=1.0)
        if step is not None and step.done:
            return
        if key and page.live.silence(key) > _SILENCE:
            # A pointer that lets go says so; one that says nothing has lost its way to us.
            job.drag.settle()
        if job.ended(patience=pacer.wait()):
            continue
        step = job.step
        if step is None or step is shown or step.done:
            continue  # the last one has come meanwhile: nothing newer will, so it is shown at rest
        shown = step
        if key and step.index == 0:
            continue  # the picture that is there
        pacer.begin()
        with explained():
            frame = frame_url(preview(job.drag, step, size.height), quality=_DRAGGING_QUALITY)
        size.record(pacer.end())
        if key:
            # Past the queue, and no words: a person who pulls does not read.
            page.live.show(key, frame, step.handles.tolist())
            continue
        said = page.say(messages.drag_progress(step, time.perf_counter() - started), "run", aloud=False)
        yield {page.parts.canvas: gr.HTML(frame=frame, live=step.handles.tolist())} | said


def _end(
    page: Page, session: Session, job: DragJob, key: str, failed: PageError | None
) -> tuple[Updates, PageError | None]:
    """The page at rest again, with what the drag has reached, and what has failed first.

    Nothing that fails here keeps the page locked, or loses what was reached: where the picture cannot be drawn, as
    there is no memory left, the last one on the way stays on the screen.
    """
    news = None
    try:
        with explained():
            session, news = _reached(session, job, key)
            shown = page.show(session, after_a_drag=not key)
    except PageError as error:
        failed = failed or error
        shown = page.show(session, picture=False, after_a_drag=not key)
    if failed is not None:
        return shown | page.say(failed.text, "bad"), failed
    return shown if news is None else shown | page.say(*reversed(news)), None


def _reached(session: Session, job: DragJob, key: str) -> tuple[Session, tuple[str, str] | None]:
    """The session with what the drag has reached, and the kind of news and the sentence about it, if any."""
    step = job.step
    if step is None:
        return session, None
    ws, frames = step.ws.cpu().numpy(), job.frames.frames
    if key:
        # Held and let go again: nothing has happened.
        moved = not np.array_equal(ws, session.ws)
        recipe = session.recipe.then(Edit(mask=session.now.mask, recorded=ws), ws)
        return (session.pulled(recipe, frames), messages.live_outcome(step)) if moved else (session, None)
    if step.index > 0:
        session = session.dragged(session.recipe.then(session.edit(), ws), step.handles, frames)
    return session, messages.drag_outcome(step, job.drag.stop_distance, session) if step.done else None
