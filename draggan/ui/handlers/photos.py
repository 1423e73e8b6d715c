"""A photo of one's own becomes the picture on the canvas."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import gradio as gr
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from draggan.engine.base import RunningInversion
from draggan.errors import PhotoError
from draggan.images import over_white
from draggan.inversion import Crop, Photo, aligned_face, box, centred, cut, paste, read_crop
from draggan.provenance.consent import PHOTO
from draggan.session import Session
from draggan.session_file import is_session_file
from draggan.ui import messages
from draggan.ui.canvas.component import frame_url
from draggan.ui.canvas.value import EMPTY
from draggan.ui.errors import PageError, explained
from draggan.ui.file_check.component import read_sent
from draggan.ui.layout import PICTURES
from draggan.ui.page import Page, Updates
from draggan.ui.photos import OpenedPhoto, SentPhoto
from draggan.ui.tab_queue import owner_of, tab_of, visit_of, visitor_of
from draggan.ui.watching import newest_updates

__all__ = ["aim", "cancel_photo", "foresee", "in_photo", "open_photo", "photo_sent", "whole"]

_PREVIEW = 1024  # pixels of the longer side of a photo on the page
_INTERVAL = 0.25  # seconds between two pictures on the way
_LAST_STEP = 600.0  # seconds that the last step may take


class _Opening:
    """A photo on its way, as a tab's drags are: Stop means that it is good enough."""

    def __init__(self, running: RunningInversion, owner: str) -> None:
        self.running, self.owner, self.stopped, self.cancelled = running, owner, False, False

    def stop(self) -> None:
        self.stopped = True
        self.running.stop()

    def cancel(self) -> None:
        self.cancelled = True
        self.running.cancel()


class _Cancel:
    """The other way to end it."""

    def __init__(self, opening: _Opening) -> None:
        self._opening = opening

    def stop(self) -> None:
        self._opening.cancel()


def photo_sent(page: Page, session: Session | None, value: Any, request: gr.Request) -> Updates:
    """A photo was chosen or dropped: it is looked at, and shown with a proposal for what is cut out."""
    part, count = page.parts.photo, value.get("count") if isinstance(value, dict) else None
    try:
        with explained(), page.photos.turns.turn(visitor_of(request)):
            page.site.consents.check(visit_of(request), PHOTO)
            came = read_sent(value, page.site.limits)
            if is_session_file(came.content):
                raise PhotoError(messages.not_a_photo(came.name))
            sent = SentPhoto(data=came.content, name=came.name)
            photo = sent.read()
            page.site.deployment.moderation.check_upload(photo.pixels)
            size = page.session_of(session).image_size
            crop = centred(photo, size)
            page.photos.choose(tab_of(request), sent, visitor_of(request))
            known = _belongs(page, session, sent, photo, owner_of(request))
            height, width = photo.size
            low, high = crop.corners.min(0), crop.corners.max(0)
            shown = {
                "count": count,
                "url": frame_url(_smaller(photo.pixels), quality=88),
                "size": [width, height],
                "ratio": size[1] / size[0],
                "box": [*low.tolist(), *high.tolist()],
                "note": messages.PHOTO_AGAIN if known else "",
            }
            # Whatever tool is chosen: this is what is to be done next.
            hints = dict.fromkeys(("points", "pull", "mask", "erase"), messages.PHOTO_CHOSEN)
            said = {} if known else page.say(messages.PHOTO_CHOSEN, hints=hints)
            return {part: gr.HTML(shown=shown, aimed=_aimed(photo, crop, size), value=None)} | said
    except PageError as error:
        return {part: gr.HTML(shown={"count": count, "error": error.text}, value=None)}


def _belongs(page: Page, session: Session | None, sent: SentPhoto, photo: Photo, owner: str) -> bool:
    """Whether it is the photo of the picture on the canvas, which has come back without it; then it is there again."""
    if session is None or not session.recipe.is_of_photo:
        return False
    digest = session.recipe.model.tuning
    place = page.photos.place(digest, owner)
    if place is None or place.photo_sha256 != photo.sha256:
        return False
    again = OpenedPhoto(sent=sent, crop=read_crop(place.crop), kind=photo.kind, place=place)
    page.photos.keep(digest, again, owner)
    return True


def aim(page: Page, session: Session | None, value: Any, request: gr.Request) -> Updates:
    """Another part of the photo is meant: this is what the model would see."""
    try:
        with explained(), page.photos.turns.turn(visitor_of(request)):
            photo, size = page.photos.chosen(tab_of(request)).read(), page.session_of(session).image_size
            return {page.parts.photo: gr.HTML(aimed=_aimed(photo, _crop(photo, value, size), size))}
    except PageError as error:
        return {page.parts.photo: gr.HTML(aimed={"error": error.text})}


def foresee(page: Page, session: Session | None, value: Any, request: gr.Request) -> Iterator[Updates]:
    """How long opening the photo will take; and what the model draws is looked for on it: a proposal that one click
    accepts."""
    part, count, tab = page.parts.photo, value.get("count") if isinstance(value, dict) else None, tab_of(request)
    sent: SentPhoto | None = None

    def wanted() -> bool:
        # Not once there is another photo, or this one is being opened.
        return sent is not None and page.photos.is_chosen(tab, sent) and tab not in page.openings

    try:
        with explained():
            sent, model = page.photos.chosen(tab), page.session_of(session).model
            draws = page.models.find(model).what.partition(" (")[0].lower()
            time = page.expectations.of(model, visitor_of(request), wanted)
        if time is None:
            return
        yield {part: gr.HTML(expected={"count": count, "text": messages.expected_opening(time)})}
        with explained(), page.photos.turns.turn(visitor_of(request)):
            photo = sent.read()
        with explained(), page.searches.turn(visitor_of(request)):
            proposal = page.finders.find(model, photo, visitor_of(request), wanted)
        if proposal is None:
            return
        can, crop = proposal
        with page.tabs.exclusive(tab, session) as newest:
            changed = page.session_of(newest).model != model
        if changed:
            # Another model is on the canvas by now, which draws something else.
            yield {part: gr.HTML(found={"count": count, "box": None, "text": ""})}
            return
        if crop is None:
            text = messages.not_found(draws) if can else ""
            yield {part: gr.HTML(found={"count": count, "box": None, "text": text})}
            return
        low, high = crop.corners.min(0), crop.corners.max(0)
        yield {part: gr.HTML(found={"count": count, "box": [*low.tolist(), *high.tolist()], "text": ""})}
    except PageError as error:
        yield {part: gr.HTML(found={"count": count, "box": None, "text": error.text})}


def open_photo(page: Page, session: Session | None, value: Any, request: gr.Request) -> Iterator[Updates]:
    """The model learns to draw the photo; then it is the picture on the canvas, to be dragged like any other."""
    tab, part = tab_of(request), page.parts.photo
    try:
        with explained(), page.photos.turns.turn(visitor_of(request)):
            page.site.consents.check(visit_of(request), PHOTO)
            session = page.session_of(session).sent_to_page()
            sent = page.photos.chosen(tab)
            photo, size = sent.read(), session.image_size
            crop = _crop(photo, value, size)
            pixels, model, visitor = cut(photo, crop, size), session.model, visitor_of(request)
            opening = page.drags.begin(
                tab, lambda: _Opening(page.engine.invert(model, pixels, visitor=visitor), owner_of(request))
            )
    except PageError as error:
        yield {part: gr.HTML(work={"running": False, "text": error.text})} | page.say(error.text, "bad")
        return
    opened = OpenedPhoto.of(sent, photo, crop)
    try:
        page.openings.begin(tab, lambda: _Cancel(opening))
        begun = {part: gr.HTML(work={"running": True, "percent": 0, "text": messages.OPENING})}
        busy = page.busy(session, "")
        # Points and mask of the picture that was there do not belong to what is seen on the way.
        busy[page.parts.canvas] = gr.HTML(value=EMPTY, busy=True, live=None, holds=False)  # type: ignore[arg-type]
        yield busy | begun | page.say(messages.OPENING, "run")
        failed: PageError | None = None
        try:
            yield from _follow(page, opening.running)
        except PageError as error:
            failed = error
            opening.running.cancel()
        with page.tabs.exclusive(tab, session) as newest:
            ended = _end(page, newest or session, opening, opened, failed)
            page.tabs.remember(tab, ended)
            page.drags.end(tab, opening)
        yield ended
    finally:
        # Whoever has left does not want it.
        if not opening.running.ended(patience=0.0):
            opening.running.cancel()
        page.drags.end(tab, opening)
        page.openings.stop(tab)
        page.openings.forget(tab)


def in_photo(
    page: Page, session: Session, opened: OpenedPhoto, visitor: str
) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width 3"]]:
    """The whole photo of the picture on the canvas as it was, and with what has changed."""
    after, before = (over_white(page.picture(recipe)) for recipe in (session.recipe, session.start))
    with page.photos.turns.turn(visitor):
        photo = opened.sent.read()
        return photo.pixels, paste(photo, opened.crop, after, before=before, mask=session.recipe.allowed)


def whole(page: Page, session: Session | None, value: Any, request: gr.Request) -> Updates:
    """The whole photo with what has changed, to be looked at, as large as it is seen on the page.

    With the moment: what is the same as before does not reach the page, and it may have been closed there.
    """
    with explained():
        session = page.drawn(session, value)
        opened = page.photos.opened(session.recipe.model.tuning, owner_of(request))
        if opened is None:
            return page.say(messages.NO_PHOTO, "note")
        _, pixels = in_photo(page, session, opened, visitor_of(request))
        return {
            page.parts.canvas: gr.HTML(whole={"url": frame_url(_smaller(pixels), quality=92), "at": time.monotonic()})
        }


def cancel_photo(page: Page, request: gr.Request) -> None:
    """The photo that is being opened is not wanted any more."""
    page.openings.stop(tab_of(request))


def _follow(page: Page, running: RunningInversion) -> Iterator[Updates]:
    """Show how far it is, up to its end."""
    for update in newest_updates(running, lambda: _INTERVAL):
        picture, text = frame_url(update.pixels, quality=88), messages.opening(update)
        work = {"running": True, "percent": round(100 * update.progress), "text": text, "picture": picture}
        shown = {page.parts.photo: gr.HTML(work=work), page.parts.canvas: gr.HTML(frame=picture, live=None)}
        yield shown | page.say(text, "run", aloud=False, done=update.progress)


def _end(page: Page, session: Session, opening: _Opening, opened: OpenedPhoto, failed: PageError | None) -> Updates:
    """The page at rest: with the photo's picture, or what was there before."""
    running = opening.running
    try:
        if failed is not None:
            raise failed
        running.ended(patience=_LAST_STEP)
        with explained():
            recipe = running.reached()
            page.photos.keep(recipe.model.tuning, opened, opening.owner)
            session = session.with_picture(recipe)
            shown, last = page.show(session) | page.controls(session), running.update
        kind, text = messages.opened_photo(
            None if opening.stopped or last is None else last.verdict, cut_short=running.notice
        )
        picture = None if last is None else frame_url(last.pixels)
        work = {"running": False, "text": text, "picture": picture}
        # As it came, it is saved, until another format is chosen.
        form = {form.lower(): form for form in PICTURES}.get(opened.kind)
        shown |= {} if form is None else {page.parts.picture_format: gr.update(value=form)}
    except PageError as error:
        kind, text = ("note", messages.NOT_OPENED) if opening.cancelled else ("bad", error.text)
        shown, work = page.show(session), {"running": False, "text": text}
    return shown | page.say(text, kind) | {page.parts.photo: gr.HTML(work=work)}


def _crop(photo: Photo, value: Any, size: tuple[int, int]) -> Crop:
    """What the page says is to be cut out.

    Raises:
        PhotoError: it says nothing that can be cut out.
    """
    crop = value.get("crop") if isinstance(value, dict) else None
    crop = crop if isinstance(crop, dict) else {}
    if crop.get("face") is not None:
        eye, other, mouth = _points(crop["face"], 3)
        return aligned_face(photo, eye, other, mouth)
    if crop.get("box") is not None:
        corners = crop["box"]
        pairs = [corners[:2], corners[2:]] if isinstance(corners, list) else None
        first, second = _points(pairs, 2)
        return box(photo, first, second, size)
    return centred(photo, size)


def _points(value: Any, count: int) -> list[tuple[float, float]]:
    with suppress(TypeError, ValueError, OverflowError):
        array = np.asarray(value, np.float64)
        if array.shape == (count, 2) and np.isfinite(array).all() and np.abs(array).max() < 1e6:
            return [(float(x), float(y)) for x, y in array]
    raise PhotoError(f"what is cut out is given as {count} points; draw it anew")


def _aimed(photo: Photo, crop: Crop, size: tuple[int, int]) -> dict[str, Any]:
    return {"corners": crop.corners.tolist(), "cut": frame_url(cut(photo, crop, size), quality=90)}


def _smaller(pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height2 width2 3"]:
    """A photo as large as it is seen on the page."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((_PREVIEW, _PREVIEW), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(picture)
