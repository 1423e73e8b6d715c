"""Pictures and films as files, and pictures for the clipboard, all marked as made by AI."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gradio as gr
import numpy as np
from jaxtyping import UInt8

from draggan.errors import ExportError
from draggan.export import NO_MP4, Provenance, can_write_mp4, save_animation, save_picture
from draggan.export import save_recipe as write_recipe
from draggan.film import Frame, evenly, there_and_back
from draggan.images import draw_points, enlarged
from draggan.recipe import Point
from draggan.session import Session
from draggan.session_file import SUFFIX, photos_of
from draggan.ui import messages
from draggan.ui.canvas.value import CanvasValue
from draggan.ui.errors import PageError, explained
from draggan.ui.handlers.photos import in_photo
from draggan.ui.jobs import FilmJob, StoppableJob
from draggan.ui.layout import FILMS, PICTURES, SPEEDS, TIMES
from draggan.ui.page import Page, Updates
from draggan.ui.photo_weights import work_file
from draggan.ui.photos import OpenedPhoto
from draggan.ui.tab_queue import owner_of, tab_of, visit_of, visitor_of

__all__ = ["copy", "save", "save_film", "save_recipe", "save_session"]

# Pixels of the longer side of what is enlarged: a picture, and a frame of many that are in memory together.
_LARGEST, _LARGEST_FRAME = 4096, 1024
# Of a smooth film: pictures a second (players of GIF know hundredths of a second only, and each picture costs), and how
# long it takes at normal speed.
_RATES = {"MP4": 25.0, "WebP": 25.0, "GIF": 12.5}
_SECONDS_OF_A_DRAG, _MOST_SECONDS = 1.6, 8.0
_SHORTEST_FRAME, _LONGEST_FRAME = 0.06, 0.3  # of one with the drag's own pictures alone
_MOST_BYTES = 200 << 20  # of frames, which are all in memory at the end
_KEPT = 600.0  # seconds until a saved file makes room: long after it is written and Gradio has copied it


def save(
    page: Page,
    session: Session | None,
    value: CanvasValue,
    request: gr.Request,
    form: str | None = "PNG",
    times: int | None = 1,
    compared: bool = False,
    dots: bool = False,
    pasted: bool = True,
) -> Updates:
    """The picture as a file.

    Args:
        form: of `PICTURES`.
        times: how much larger than it is drawn, by plain resampling.
        compared: the starting picture stands beside it, on the left.
        dots: with the points that are set, in each where they are there.
        pasted: of a photo, what has changed goes back into the whole of it, as large as it was.
    """
    with explained():
        session = page.drawn(session, value)
        path = _saved_picture(page, session, request, _among(form, PICTURES), times, compared, dots, pasted)
        return {page.parts.file: str(path)} | page.say(messages.saved(path.name), "good")


def copy(
    page: Page,
    session: Session | None,
    value: CanvasValue,
    request: gr.Request,
    times: int | None = 1,
    compared: bool = False,
    dots: bool = False,
    pasted: bool = True,
) -> Updates:
    """The same for the clipboard, which takes PNG alone; the page puts it there."""
    with explained():
        session = page.drawn(session, value)
        path = _saved_picture(page, session, request, "PNG", times, compared, dots, pasted)
        return {page.parts.file: str(path)} | page.say(messages.COPIED, "good")


def save_film(
    page: Page,
    session: Session | None,
    value: CanvasValue,
    request: gr.Request,
    form: str | None = "GIF",
    times: int | None = 1,
    smooth: bool = True,
    back: bool = False,
    dots: bool = False,
    speed: float = 1,
) -> Iterator[Updates]:
    """The way from the starting picture as a film, through every drag.

    Args:
        form: of `FILMS`.
        times: as for `save`, as far as `_LARGEST_FRAME` goes.
        smooth: with pictures in between, at an even speed; else the drag's own alone.
        back: and the way back.
        dots: with the points of each drag, where they were when it began.
        speed: one of `SPEEDS`.
    """
    with explained():
        form, session = _among(form, FILMS), page.drawn(session, value)
        if speed not in SPEEDS.values():
            raise ExportError(f"a film can be {', '.join(SPEEDS)}; choose one of them")
        if form == "MP4" and not can_write_mp4():
            raise ExportError(NO_MP4)
        shown: Sequence[Frame] = session.frames
        if not shown:
            raise ExportError("there is no drag to show; drag something first")
        shown, seconds = _paced(session, form, smooth=smooth, speed=speed, times=times)
    tab, job, is_written = tab_of(request), StoppableJob(), False
    with explained():
        page.films.begin(tab, lambda: job)
    try:
        yield page.lock(session)
        frames = yield from _drawn(page, job, shown, times=times, dots=dots)
        with explained():
            path = _place(page, _file_name(page, session, f".{form.lower()}"))
            recipe, provenance = page.portable(session.recipe), _provenance(page, request, session)
        if not job.stopping:
            frames = [frames[number] for number in there_and_back(len(frames))] if back else frames
            write = partial(save_animation, path, frames, seconds=seconds, recipe=recipe, provenance=provenance)
            is_written = yield from _written(page, job, write)
        # One that Stop came too late for is there, marked and on the record.
        if is_written:
            ended = {page.parts.file: str(path)} | page.say(messages.saved(path.name), "good")
        else:
            ended = page.say(messages.NO_FILM, "note")
        yield ended | _at_rest(page, tab, session)
    except PageError:
        yield _at_rest(page, tab, session)
        raise
    finally:
        page.films.end(tab, job)


def _drawn(
    page: Page, job: StoppableJob, shown: Sequence[Frame], *, times: int | None, dots: bool
) -> Generator[Updates, None, list[np.ndarray]]:
    """The pictures of a film, as they are saved, saying how far that is; fewer if ``job`` is to stop."""
    frames: list[np.ndarray] = []
    began = time.monotonic()
    for number, (recipe, ws) in enumerate(shown):
        # A large model takes a while.
        left = (time.monotonic() - began) / number * (len(shown) - number) if number > 3 else None
        yield page.say(
            messages.drawing(number + 1, len(shown), left), "run", aloud=not frames, done=number / len(shown)
        )
        if job.stopping:
            break
        with explained():
            points = _points_of(shown, number) if dots else ()
            frames.append(_finished(page.render(recipe, ws), times, points, _LARGEST_FRAME))
    return frames


def _written(page: Page, job: StoppableJob, write: Callable[..., object]) -> Generator[Updates, None, bool]:
    """Write a film, and say how far that is, until it is there or ``job`` is to stop; returns whether it is there.

    Args:
        write: takes ``progress``.
    """
    writing = FilmJob(lambda progress: write(progress=progress))
    writing.begin()
    here = False
    try:
        while not (here or job.stopping):
            yield page.say(messages.writing(writing.done), "run", aloud=writing.done == 0, done=writing.done)
            with explained():
                here = writing.ended(patience=0.25)
    finally:
        writing.stop()
    return here


def save_session(page: Page, session: Session | None, value: CanvasValue, request: gr.Request) -> Updates:
    """The work itself as a file, with its history and what a photo needs: it goes on where the file is opened."""
    with explained():
        session = page.drawn(session, value)
        path = work_file(page, session, owner_of(request)).save(_place(page, _file_name(page, session, SUFFIX)))
        text = messages.saved_session(path.name, of_photo=bool(photos_of(session)))
        return {page.parts.file: str(path)} | page.say(text, "good")


def save_recipe(page: Page, session: Session | None, value: CanvasValue, request: gr.Request) -> Updates:
    """How the picture came to be, alone: no pixels, for programs and for people who compare."""
    with explained():
        session = page.drawn(session, value)
        if session.recipe.is_of_photo:
            # It draws the person again, and is of no use without the tuned weights, which a session's file has.
            raise ExportError("the recipe of a photo is saved with its weights alone; press Save session")
        path = write_recipe(_place(page, _file_name(page, session, ".json")), page.portable(session.recipe))
        return {page.parts.file: str(path)} | page.say(messages.saved(path.name), "good")


def _at_rest(page: Page, tab: str, session: Session) -> Updates:
    """What was switched off while a film was made is on again, unless there is a drag by now."""
    if tab in page.drags:
        return {}
    with page.tabs.exclusive(tab, session) as newest:
        return page.unlock(newest or session)


def _among(form: Any, allowed: Sequence[str]) -> str:
    if form not in allowed:
        raise ExportError(f"it can be saved as {', '.join(allowed)}; choose one of them")
    return str(form)


def _paced(
    session: Session, form: str, *, smooth: bool, speed: float, times: int | None
) -> tuple[Sequence[Frame], float]:
    """The frames of a film, and how long each is shown."""
    shown = session.frames
    if not smooth:
        return shown, min(max(2 / len(shown), _SHORTEST_FRAME), _LONGEST_FRAME) / speed
    drags = len({id(recipe) for recipe, _ in shown}) - 1
    seconds = min(_SECONDS_OF_A_DRAG * max(drags, 1), _MOST_SECONDS) / speed
    height, width = (side * _times(session.image_size, times, _LARGEST_FRAME) for side in session.image_size)
    count = min(round(seconds * _RATES[form]), _MOST_BYTES // (3 * height * width))
    count = max(count, 2)
    return evenly(shown, count), seconds / count


def _points_of(shown: Sequence[Frame], number: int) -> Sequence[Point]:
    """Those of the drag that a frame is on the way of; before the first, of that one."""
    recipe = shown[number][0]
    if not recipe.edits:
        recipe = next((other for other, _ in shown if other.edits), recipe)
    return recipe.edits[-1].points if recipe.edits else ()


def _saved_picture(
    page: Page,
    session: Session,
    request: gr.Request,
    form: str,
    times: int | None,
    compared: bool,
    dots: bool,
    pasted: bool,
) -> Path:
    """The file of `save`, which says what the arguments are."""
    opened, provenance = _photo_of(page, session, request) if pasted else None, _provenance(page, request, session)
    if compared and not session.is_edited:
        raise ExportError("there is nothing to compare yet; drag something first")
    if opened is not None:
        photo, pixels = in_photo(page, session, opened, visitor_of(request))
        if compared:
            pixels = _beside(photo, pixels)
        named = _stem_of(opened.sent.name)
        path = _place(page, _file_name(page, session, _suffix(form), compared=compared, named=named))
        recipe = page.portable(session.recipe)
        provenance = replace(provenance, source="compositeWithTrainedAlgorithmicMedia")
        return save_picture(path, pixels, recipe=recipe, provenance=provenance)
    pixels = _finished(page.picture(session.recipe), times, session.active_pairs if dots else ())
    if compared:
        there = [replace(pair, handle=pair.origin or pair.handle) for pair in session.active_pairs] if dots else ()
        pixels = _beside(_finished(page.picture(session.start), times, there), pixels)
    name = _file_name(page, session, _suffix(form), compared=compared)
    path, recipe = _place(page, name), page.portable(session.recipe)
    return save_picture(path, pixels, recipe=recipe, provenance=provenance)


def _beside(
    before: UInt8[np.ndarray, "height width channels"], after: UInt8[np.ndarray, "height width channels"]
) -> UInt8[np.ndarray, "height width2 channels"]:
    """Two pictures beside each other, white between them."""
    height, width, channels = after.shape
    gap = np.full((height, max(2, width // 64), channels), 255, np.uint8)
    return np.concatenate([before, gap, after], axis=1)


def _finished(
    pixels: UInt8[np.ndarray, "height width channels"],
    times: int | None,
    points: Sequence[Point] = (),
    most: int = _LARGEST,
) -> UInt8[np.ndarray, "height2 width2 channels"]:
    """The picture as it is saved: so many times as large, with points."""
    times = _times(pixels.shape[:2], times, most)
    pixels = enlarged(pixels, times)
    if not points:
        return pixels
    handles, targets = (
        times * (np.array([getattr(point, end) for point in points], np.float64) + 0.5) - 0.5
        for end in ("handle", "target")
    )
    return draw_points(pixels, handles, targets)


def _times(size: tuple[int, int], times: Any, most: int) -> int:
    """How many times as large it is saved: as it was asked for, or fewer, up to ``most`` pixels a side."""
    if times not in TIMES:
        raise ExportError(f"a file can be {', '.join(map(str, TIMES))} times as large; choose one of them")
    return max(1, min(int(times), most // max(size)))


def _suffix(form: str) -> str:
    return f".{form.lower()}".replace("jpeg", "jpg")


def _provenance(page: Page, request: gr.Request, session: Session) -> Provenance:
    """By whose rules a file leaves, through which door, on whose visit, by its random name, and from which photo."""
    visit = page.site.consents.name_of(visit_of(request))
    opened = _photo_of(page, session, request)
    photo = None if opened is None else opened.ingredient
    return Provenance(deployment=page.site.deployment, door="page", visit=visit, photo=photo)


def _photo_of(page: Page, session: Session, request: gr.Request) -> OpenedPhoto | None:
    """The photo of the picture on the screen, if this visitor has sent it."""
    return page.photos.opened(session.recipe.model.tuning, owner_of(request)) if session.recipe.is_of_photo else None


def _stem_of(name: str) -> str:
    """What a file is called, as far as it can be part of another file's name anywhere; empty: nothing of it can."""
    stem = re.sub(r"[^\w.-]+", "-", Path(name).stem).strip("-.")[:60]
    # File systems count bytes.
    return stem.encode()[:120].decode(errors="ignore")


def _file_name(page: Page, session: Session, suffix: str, *, compared: bool = False, named: str = "") -> str:
    seed = "-photo" if session.recipe.is_of_photo else "" if session.seed is None else f"-seed{session.seed}"
    # Never called as the photo itself.
    edited = "-before-after" if compared else "-dragged" if session.is_edited else "-drawn" if named else ""
    return f"{named or page.models.find(session.model).file + seed}{edited}{suffix}"


def _place(page: Page, name: str) -> Path:
    """A path for a file of that name in a folder of its own; old ones make room.

    Any number may be saved at the same time: by age, none is touched that is being written, and one that another call
    has removed first is no error.
    """
    folder = page.site.saved
    folder.mkdir(parents=True, exist_ok=True)  # the system may have cleaned up
    for old in folder.iterdir():
        with suppress(FileNotFoundError):
            if time.time() - old.stat().st_mtime > _KEPT:
                shutil.rmtree(old, ignore_errors=True)
    return Path(mkdtemp(dir=folder)) / name
