"""Drags: one that Start begins, and one that follows the pointer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
import numpy as np

from draggan.engine.base import RunningDrag
from draggan.sentences import sentence
from draggan.session import Session
from draggan.ui import messages
from draggan.ui.canvas.component import frame_url
from draggan.ui.canvas.value import CanvasValue, Pull, read_pull
from draggan.ui.errors import PageError, explained
from draggan.ui.frame_pacing import FramePacer
from draggan.ui.live_words import LiveWords
from draggan.ui.page import Page, Updates, notice
from draggan.ui.server.callers import Caller, caller_of
from draggan.ui.tab_queue import tab_of, visitor_of
from draggan.ui.time_left import TimeLeft
from draggan.ui.watching import newest_updates

__all__ = [
    "at_rest",
    "close",
    "follow_pointer",
    "refused_while_dragging",
    "reset_settings",
    "set_settings",
    "start",
    "stop",
]

_DRAGGING_QUALITY = 88  # of JPEG; a still picture has the canvas's own
_KEPT_EVERY = 2.0  # seconds after which what a drag has reached is kept
_LAST_STEP = 600.0  # seconds that the last step of a drag that was stopped may take


def at_rest(page: Page, handler: Callable[..., Any]) -> Callable[..., Any]:
    """The handler, made to wait until its tab is free, and refused while a drag runs there.

    For those that change the picture. Their controls are off then, but a click may come before the page has heard of
    the drag; it would unlock the page, and what it brings be gone with the end of the drag.
    """
    return page.tabs.serialized(handler, unless=lambda tab, session: refused_while_dragging(page, tab, session))


def refused_while_dragging(page: Page, tab: str, session: Session | None) -> Updates | None:
    """Updates that put the controls back while a drag runs in that tab; None if no drag runs."""
    if tab not in page.drags:
        return None
    notice(gr.Warning, messages.DRAGGING, "Not now")
    session = page.session_of(session)
    # The controls say again what the picture began with.
    return {
        page.parts.session: session,
        **page.show_model(session),
        page.parts.seed: gr.update(value=session.seed),
        page.parts.truncation: gr.update(value=page.truncation_of(session)),
        page.parts.label: gr.update(value=session.label),
    }


def set_settings(page: Page, session: Session | None, settings: Any) -> Iterator[Updates]:
    """Settings were changed: wrong ones are explained, and the last good ones come back."""
    session = yield from page.with_settings(session, settings)
    # In place of what was wrong before.
    yield {page.parts.session: session} | page.say(messages.hint(session))


def reset_settings(page: Page, session: Session | None) -> Updates:
    """All settings as they suit the model."""
    with explained():
        session = page.session_of(session).set_settings({}).set_space("w+")
        return {page.parts.session: session} | page.model_settings(session)


def start(
    page: Page, session: Session | None, value: CanvasValue, settings: Any, request: gr.Request
) -> Iterator[Updates]:
    """Drag the handles to their targets; pictures and figures come as it goes."""
    tab = tab_of(request)
    with explained():
        session = page.drawn(session, value)
    session = yield from page.with_settings(session, settings)
    with explained():
        session = session.sent_to_page()
        recipe, edit = session.recipe, session.edit()
        drag = page.drags.begin(tab, lambda: page.engine.drag(recipe, edit, visitor=visitor_of(request)))
    yield from _attend(page, tab, drag, session, FramePacer(drags=page.drags.__len__), caller=caller_of(request))


def follow_pointer(
    page: Page, session: Session | None, value: CanvasValue, settings: Any, request: gr.Request
) -> Iterator[Updates]:
    """A person holds the picture: it follows the pointer, see `LiveDrags.steer`, until that lets go."""
    tab = tab_of(request)
    with explained():
        session = page.drawn(session, value)
    session = yield from page.with_settings(session, settings)
    with explained():
        pull = read_pull(value, session.image_size, len(session.pairs))
        recipe, edit = session.recipe, session.live_edit(pull.at, pull.pair)
        drag = page.drags.begin(tab, lambda: page.engine.live(recipe, edit, visitor=visitor_of(request)))
    page.live.begin(pull.key, drag, 0 if pull.pair is None else session.active_numbers.index(pull.pair))
    try:
        pacer = FramePacer(rate=25, share=0.9, drags=page.drags.__len__)
        yield from _attend(page, tab, drag, session, pacer, pull, caller_of(request))
    finally:
        page.live.end(pull.key)


def stop(page: Page, request: gr.Request) -> None:
    """End this tab's drag with its next step, and a film that is being drawn."""
    page.drags.stop(tab_of(request))
    page.films.stop(tab_of(request))


def close(page: Page, request: gr.Request) -> None:
    """The tab was closed: its drag, its film and its download are no longer waited for."""
    page.drags.stop(tab_of(request))
    page.films.stop(tab_of(request))
    page.openings.stop(tab_of(request))
    page.photos.leave(tab_of(request))
    page.downloads.stop(tab_of(request))


def _attend(
    page: Page,
    tab: str,
    drag: RunningDrag,
    session: Session,
    pacer: FramePacer,
    pull: Pull | None = None,
    caller: Caller | None = None,
) -> Iterator[Updates]:
    """Show a drag from its first picture to its last; ``pull``: how a live one began, ``caller``: who is to see it."""
    # What others do to the session meanwhile (a file was opened) counts at the end.
    page.tabs.remember(tab, {page.parts.session: session})
    failed = None
    try:
        try:
            yield page.busy(session, "" if pull is None else pull.key)
            yield from _follow(page, session, drag, pacer, pull, caller)
        except PageError as error:
            failed = error
        stopped = drag.stopping
        drag.stop()
        drag.ended(patience=_LAST_STEP)
        with page.tabs.exclusive(tab, session) as newest:
            ended, failed = _end(page, newest or session, drag, pull, failed, urgent=stopped)
            page.tabs.remember(tab, ended)
            # From here on, others may change the picture again.
            page.drags.end(tab, drag)
    finally:
        drag.stop()
        page.drags.end(tab, drag)
    # What was reached is kept; only then is an error shown.
    yield ended | {page.parts.progress: None}
    if failed is not None:
        failed.said_already()
        raise failed


def _follow(
    page: Page, session: Session, drag: RunningDrag, pacer: FramePacer, pull: Pull | None, caller: Caller | None
) -> Iterator[Updates]:
    """Show the newest picture of a drag whenever one is due, up to its end, or until nobody listens any more."""
    started, words, time_left = time.perf_counter(), LiveWords(), TimeLeft()
    kept = started
    sizes = page.sizes if pull is None else page.live_sizes
    size = sizes.begin(session.model, drag.preview_heights)

    def due() -> float:
        if caller is not None and caller.unheard() > page.site.limits.unwatched:
            drag.stop()
        return pacer.wait()

    for update in newest_updates(drag, due):
        if pull is not None and update.index == 0:
            continue  # the picture that is there
        pacer.begin()
        with explained():
            frame = frame_url(drag.preview(update, size.height), quality=_DRAGGING_QUALITY)
        size.record(pacer.end())
        sizes.keep(session.model, size)
        progress: Updates = {}
        if time.perf_counter() - kept > _KEPT_EVERY:
            kept = time.perf_counter()
            with explained():
                reached, _ = _reached(session, drag, pull)
            # What is drawn on the canvas is older: the points are elsewhere by now.
            progress = {page.parts.progress: reached.sent_to_page()}
        if pull is not None:
            # Past the queue; words only when they change: a person who pulls reads a line, not figures.
            page.live.show(pull.key, frame, update)
            sentence = words.after(update, time.perf_counter(), let_go=page.live.is_let_go(pull.key))
            if progress or sentence is not None:
                yield progress | ({} if sentence is None else page.say(sentence, "run"))
            continue
        seconds = time.perf_counter() - started
        left = time_left.after(update, seconds)
        text = messages.drag_progress(update, seconds, session.active_numbers, left)
        said = page.say(text, "run", aloud=False, done=update.way)
        yield {page.parts.canvas: gr.HTML(frame=frame, live=update.handles.tolist())} | said | progress


def _end(
    page: Page, session: Session, drag: RunningDrag, pull: Pull | None, failed: PageError | None, *, urgent: bool
) -> tuple[Updates, PageError | None]:
    """The page at rest again, with what the drag has reached, and what has failed first.

    Nothing that fails here keeps the page locked, or loses what was reached: where the picture cannot be drawn, as
    there is no memory left, the last one on the way stays on the screen.
    """
    news = None
    try:
        with explained():
            session, news = _reached(session, drag, pull)
            shown = page.show(session, after_a_drag=pull is None, urgent=urgent)
    except PageError as error:
        failed = failed or error
        shown = page.show(session, picture=False, after_a_drag=pull is None)
    if failed is not None:
        return shown | page.say(failed.text, "bad"), failed
    return shown if news is None else shown | page.say(*reversed(news)), None


def _reached(session: Session, drag: RunningDrag, pull: Pull | None) -> tuple[Session, tuple[str, str] | None]:
    """The session with what the drag has reached, and the kind of news and the sentence about it, if any."""
    update, recipe = drag.update, drag.reached()
    if update is None:
        return session, None
    moved = len(recipe.edits) > len(drag.recipe.edits)
    if pull is not None:
        if not moved:
            # Held and let go again: nothing has happened. Or nothing could.
            beyond = update.done and messages.is_taut(update)
            return session, messages.live_outcome(update, moved=False) if beyond else None
        dropped = pull.pair is None and bool(session.pairs)
        if pull.pair is None:
            session = session.pulled(recipe, drag.frames)
        else:
            session = session.pulled_by_pair(recipe, update.handles, update.targets, drag.frames)
            session = session.with_arrived() if update.outcome == "arrived" else session
        return session, messages.live_outcome(update, dropped=dropped)
    if moved and messages.holds_nothing(update) and np.array_equal(update.ws, session.ws):
        moved = False  # nothing has come of it that one could go back from
    if moved:
        session = session.dragged(recipe, update.handles, drag.frames)
    there = update.outcome == "arrived" and bool((update.distances <= update.stop_distance).all())
    # Also where it is not certain that it is what was held: it cannot be brought any nearer.
    if there or update.unsure:
        session = session.with_arrived()
    if drag.notice:
        return session, ("note", sentence(drag.notice))
    return session, messages.drag_outcome(update, session, moved=moved) if update.done else None
