"""Points, mask and history."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from draggan.session import Session
from draggan.ui import messages
from draggan.ui.canvas.component import frame_url
from draggan.ui.canvas.value import CanvasValue, is_outdated, read_frame, read_place, with_canvas
from draggan.ui.drag_settings import without_model_settings
from draggan.ui.errors import explained
from draggan.ui.page import Page, Updates
from draggan.ui.tab_queue import tab_of

__all__ = ["edit", "forget", "go_on", "go_to", "look", "redo", "reset", "undo"]


def edit(page: Page, session: Session | None, value: CanvasValue, request: gr.Request | None = None) -> Updates:
    """Points or mask were changed on the canvas. It shows them already: it is not written to."""
    if session is not None and tab_of(request) in page.drags:
        # The drag began with what the canvas showed; this is the same, or too late.
        return {page.parts.session: session}
    with explained():
        known, session = session is not None, page.session_of(session)
        if is_outdated(session, value):
            return _outdated(page, session, known=known)
        session = with_canvas(session, value)
        said = page.say(messages.hint(session))
        return {page.parts.session: session} | said | page.enable(session, after_a_drag=False)


def _outdated(page: Page, session: Session, *, known: bool) -> Updates:
    """What was drawn on something that is no longer there; ``known``: the session was kept."""
    if not known:
        # Nothing else would tell the page, and all that is drawn there would be passed over.
        begun = page.show_model(session) | page.model_settings(session)
        # Where the browser has kept the work, the page loads itself again.
        lost = page.say(messages.EXPIRED, "note") | {page.parts.keeper: gr.HTML(expired=True)}
        return page.show(session) | page.controls(session) | begun | lost
    if not session.page_outdated:
        # The page is about to be told what is there instead.
        return {page.parts.session: session.mark_page_outdated()}
    # Edits come one after the other: it had an answer since, and not that one. A connection was lost.
    there = page.show(session) | page.show_model(session) | page.controls(session)
    return there | page.say(messages.OUT_OF_STEP, "note")


def undo(page: Page, session: Session | None, value: CanvasValue) -> Updates:
    """Take the last step back."""
    return _travel(page, session, value, Session.undo, "Undone")


def redo(page: Page, session: Session | None, value: CanvasValue) -> Updates:
    """Do it again."""
    return _travel(page, session, value, Session.redo, "Redone")


def _travel(
    page: Page, session: Session | None, value: CanvasValue, move: Callable[[Session], Session], done: str = ""
) -> Updates:
    """To another moment of the history; the controls follow where it is about another picture.

    Args:
        done: what was done with a step, if that is to be said.
    """
    with explained():
        before = page.drawn(session, value)
        after = move(before)
        if after.now is before.now and after is not before:
            back = {number for number, _ in after.pictures} - {number for number, _ in before.pictures}
            return _another_history(page, after, messages.PUT_BACK if back else messages.DELETED)
        said: Updates = {}
        if done and after is not before:
            said = page.say(messages.hint(after), hints=messages.travelled(done, before, after))
        if after.start is before.start:
            return page.show(after) | said
        if after.model == before.model:
            return page.show(after) | page.controls(after) | said
        return page.whole_model(without_model_settings(after)) | said


def go_to(page: Page, session: Session | None, value: CanvasValue) -> Updates:
    """To a picture of the history."""
    with explained():
        place = read_place(value)
    return _travel(page, session, value, lambda before: before.go_to(place))


def forget(page: Page, session: Session | None, value: CanvasValue) -> Updates:
    """A picture of the history is deleted; what is on the canvas stays."""
    with explained():
        return _another_history(page, page.drawn(session, value).without_picture(read_place(value)), messages.DELETED)


def _another_history(page: Page, session: Session, said: str) -> Updates:
    """The page with other pictures in its history, and what is on the canvas as it is."""
    canvas = {page.parts.session: session, page.parts.canvas: gr.HTML(**page.history(session))}
    return canvas | page.enable(session, after_a_drag=False) | page.say(said, "note")


def reset(page: Page, session: Session | None, value: CanvasValue) -> Updates:
    """Back to the starting picture."""
    with explained():
        return page.show(page.drawn(session, value).reset())


def look(page: Page, session: Session | None, value: CanvasValue) -> Updates:
    """A frame of the drags so far, to be looked at: nothing changes."""
    with explained():
        frames = page.session_of(session).frames
        number = read_frame(value)
        if not 0 <= number < len(frames):
            return {page.parts.canvas: gr.HTML(seen={"number": number})}
        frame = frame_url(page.render(*frames[number]))
        film = value.get("film") if isinstance(value, dict) else None
        return {page.parts.canvas: gr.HTML(seen={"film": film, "number": number, "frame": frame})}


def go_on(page: Page, session: Session | None, value: CanvasValue) -> Updates:
    """Work goes on from a frame of the drags so far."""
    with explained():
        return page.show(page.drawn(session, value).from_frame(read_frame(value)))
