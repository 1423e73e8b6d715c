"""What happens when a person does something: a `Session` in, updates of the page out."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, TypeAlias, TypeVar

import gradio as gr
import numpy as np

from draggan.config import DragConfig, Space, describe
from draggan.drag import DragStep
from draggan.errors import ConfigError, ExportError
from draggan.export import save_animation, save_png
from draggan.session import Session
from draggan.ui import texts
from draggan.ui.canvas import CanvasValue, canvas_value, frame_url, is_outdated, read_pull, with_canvas
from draggan.ui.models import Model, Models, Terms
from draggan.ui.preview import Pace, Size
from draggan.ui.running import Drags, Fetch, Pulls, Run, SessionGone, Tabs, explained
from draggan.ui.turns import Turns, tab_of
from draggan.ui.work import begin_drag, begin_pull, first_session, latent, picture, picture_details, preview, render

__all__ = ["SETTINGS", "Handlers", "Parts"]

T = TypeVar("T")
Updates: TypeAlias = dict[Any, Any]

# Settings of a drag that the page offers besides the latent space; everything else about them is in the dataclass.
SETTINGS = (
    *("step_size", "max_steps", "stop_distance", "mask_weight", "r1", "r2", "free_rows"),
    *("solver", "naturalness"),
)

_SUITED = ("step_size", "solver")
"""Those of them that belong to a model: another model brings its own."""

_DRAGGING_QUALITY = 88  # of JPEG; a still picture has the canvas's own
_SILENCE = 20.0  # seconds without a word of the pointer after which a pull ends
_SAVED = 600.0  # seconds until a file that was saved makes room: long after it is written and Gradio has copied it


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The components that handlers update."""

    session: gr.State
    canvas: gr.HTML
    status: gr.HTML
    model: gr.Dropdown
    presets: tuple[gr.Button, ...]
    preset_row: gr.Row
    offered: gr.State
    asked: gr.State
    offer: gr.Group
    terms: gr.Markdown
    bar: gr.HTML
    download: gr.Button
    not_now: gr.Button
    upload: gr.UploadButton
    path: gr.Textbox
    label: gr.Dropdown
    seed: gr.Number
    random: gr.Button
    truncation: gr.Slider
    space: gr.Radio
    settings: tuple[gr.Number | gr.Slider | gr.Radio, ...]
    start: gr.Button
    stop: gr.Button
    undo: gr.Button
    redo: gr.Button
    reset: gr.Button
    remove_last: gr.Button
    clear_points: gr.Button
    clear_mask: gr.Button
    save: gr.Button
    save_gif: gr.Button
    save_webp: gr.Button
    file: gr.DownloadButton


class Handlers:
    """All handlers of a page.

    Args:
        parts: its components.
        models: where generators come from.
        drags: shared by all tabs.
        pulls: likewise; what the canvas of ``parts`` steers.
    """

    def __init__(self, parts: Parts, models: Models, drags: Drags, pulls: Pulls | None = None) -> None:
        self.parts, self.models, self.drags = parts, models, drags
        self.pulls = Pulls() if pulls is None else pulls
        self.fetches: Tabs[Fetch] = Tabs("download")
        self.turns = Turns(parts.session)
        # Where saved pictures are put until Gradio has taken its copy.
        self._folder = TemporaryDirectory(prefix="draggan-")

    def at_rest(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """The handler, made to wait for its turn, and refused while a drag runs in its tab.

        For those that change the picture. Their controls are off then, but a click may come before the page has heard
        of the drag; it would unlock the page, and what it brings be gone with the end of the drag.
        """
        return self.turns.of(handler, unless=self._dragging)

    def _dragging(self, tab: str, session: Session | None) -> Updates | None:
        """What the page gets in place of another picture while a drag runs in that tab; None: none does."""
        if tab not in self.drags:
            return None
        gr.Warning(texts.DRAGGING, title="Not now")
        session = self._session(session)
        # The controls say again what the picture began with.
        return {
            self.parts.session: session,
            self.parts.model: gr.update(value=session.model),
            self.parts.seed: gr.update(value=session.seed),
            self.parts.truncation: gr.update(value=session.truncation),
            self.parts.label: gr.update(value=session.label),
        }

    # Pictures

    def open_page(self, model: str, seed: int | None, truncation: float) -> Updates:
        """A first picture. If there is none, the page itself says why."""
        try:
            with explained():
                return self._new_model(None, model, seed, truncation)
        except gr.Error as e:
            return self._say(str(e.message), "bad")

    def choose_model(self, session: Session | None, model: str, seed: int | None) -> Iterator[Updates]:
        """Another model, with the truncation that suits it and the same seed. One that is not here is offered."""
        try:
            with explained():
                chosen = self.models.find(model)
                if chosen.here:
                    updates = self._new_model(session, model, seed, chosen.truncation)
                else:
                    # `ask` and `tell` follow.
                    updates = self._offer(chosen, self.models.terms(model, ask=False), asking=True)
        except gr.Error as error:
            # The list says what is on the canvas, not what was refused.
            yield self._list(session) | self._say(str(error.message), "bad")
            raise
        yield updates

    def ask(self, offered: str) -> Updates:
        """What the server says about the model on offer, if one is. That takes a while."""
        with explained():
            return {self.parts.asked: (offered, self.models.terms(offered, ask=True)) if offered else None}

    def tell(self, offered: str, asked: tuple[str, Terms] | None) -> Updates:
        """Add that to the offer, unless another model is on offer by now, or none."""
        with explained():
            if asked is None or asked[0] != offered:
                return {self.parts.asked: None}
            return {self.parts.asked: None, self.parts.terms: texts.offer(self.models.find(offered), asked[1])}

    def _new_model(
        self, session: Session | None, model: str, seed: int | None, truncation: float, *, opened: str = ""
    ) -> Updates:
        """The first picture of another model; ``opened``: its title, where it was read from a file now."""
        # Any number may stand in the seed's box.
        if not (isinstance(seed, int) and 0 <= seed < 2**32):
            seed = 0 if session is None else session.seed or 0
        begun = first_session(self.models, model, seed, truncation)
        session = begun if session is None else _suited(session.with_picture(begun.picture))
        if opened:
            session = session.with_opened(opened, model)
        return self._show(session) | self._list(session) | self._controls(session) | self._suiting(session)

    def _controls(self, session: Session) -> Updates:
        """The controls that say what the picture on the screen began with.

        Settings are not among them: one that was chosen and not used yet is known to the page alone, and stays.
        """
        model = self.models.find(session.model)
        classes = [(f"class {i}", i) for i in range(self.models.load(session.model).c_dim)]
        presets = {
            button: gr.update(value=preset.title if preset else "", visible=preset is not None, interactive=True)
            for button, preset in zip_longest(self.parts.presets, model.presets[: len(self.parts.presets)])
        }
        return presets | {
            self.parts.preset_row: gr.update(visible=bool(model.presets)),
            self.parts.truncation: gr.update(value=session.truncation, interactive=True),
            self.parts.seed: gr.update(value=session.seed, interactive=True),
            self.parts.label: gr.Dropdown(classes, value=session.label, visible=bool(classes), interactive=True),
        }

    def _suiting(self, session: Session) -> Updates:
        """The settings that another model brings."""
        suited = self._settings(session)
        return {
            self.parts.settings[SETTINGS.index(name)]: gr.update(value=suited[name], interactive=True)
            for name in _SUITED
        }

    def _settings(self, session: Session) -> dict[str, Any]:
        """Every setting that the page offers, as it was last chosen or else as it suits the model."""
        suited = DragConfig(**self.models.find(session.model).settings)
        return {name: session.settings.get(name, getattr(suited, name)) for name in SETTINGS}

    def _list(self, session: Session | None) -> Updates:
        """The list of models, with the one on the canvas chosen and none on offer."""
        listed = self.models.listed()
        choices = [(texts.line(m), m.name) for m in listed] + [*(session.opened if session else ())]
        return {
            self.parts.model: gr.Dropdown(choices, value=session.model if session else listed[0].name),
            self.parts.offered: "",
            self.parts.offer: gr.update(visible=False),
        }

    # Downloads and files

    def _offer(self, model: Model, terms: Terms, *, asking: bool = False) -> Updates:
        can = not terms.by_hand
        return {
            self.parts.offered: model.name,
            self.parts.offer: gr.update(visible=True),
            self.parts.terms: texts.offer(model, terms, asking=asking),
            self.parts.bar: gr.HTML(value="", percent=0, visible=False),
            self.parts.download: gr.update(visible=can, interactive=can),
            self.parts.not_now: gr.update(value="Not now" if can else "Close"),
        }

    def not_now(self, session: Session | None, request: gr.Request) -> Updates:
        """Cancel the download that runs; without one, take the offer away."""
        if self.fetches.stop(tab_of(request)):
            return {self.parts.not_now: gr.update(value="Cancelling …")}
        with explained():
            return self._list(session)

    def download(self, session: Session | None, model: str, request: gr.Request) -> Iterator[Updates]:
        """Fetch the model on offer, with a bar that says how far it is, and use it if that throws no work away.

        One that does not come stays on offer, and the list says again what is on the canvas.
        """
        tab = tab_of(request)
        with explained():
            chosen = self.models.find(model)
            fetch = Fetch(lambda progress: self.models.fetch(model, progress))
            self.fetches.begin(tab, fetch)
        buttons = {self.parts.download: gr.update(interactive=False), self.parts.not_now: gr.update(value="Cancel")}
        try:
            fetch.begin()
            yield buttons | self._fetched(fetch)
            here = False
            while not here:
                with explained():
                    here = fetch.ended(patience=0.25)
                yield self._fetched(fetch)
            yield self._come(tab, session, chosen)
        except gr.Error as e:
            with explained(), self.turns.turn(tab, session) as newest:
                back = self._list(newest)
                if not self.models.find(model).here:
                    back |= self._offer(chosen, self.models.terms(model, ask=False))
            yield back | self._say(str(e.message), "note")
            if not fetch.stopping:
                raise
        finally:
            fetch.stop()
            self.fetches.end(tab, fetch)

    def _fetched(self, fetch: Fetch) -> Updates:
        seconds = max(time.monotonic() - fetch.started, 0.1)
        new = fetch.done - (fetch.first or 0)
        # A server's first word may be long in coming; so may its first byte.
        text = texts.downloading(fetch.done if new else None, fetch.total, new / seconds)
        percent = 100 * fetch.done / fetch.total if fetch.total else 0
        return {self.parts.bar: gr.HTML(value=text, percent=round(percent, 1), visible=True)}

    def _come(self, tab: str, before: Session | None, model: Model) -> Updates:
        """A download has ended: its picture, unless work was done, or another model chosen meanwhile."""
        with explained(), self.turns.turn(tab, before) as newest:
            touched = newest is not None and newest.is_touched
            if touched or tab in self.drags or self._model_of(newest) != self._model_of(before):
                return self._list(newest) | self._here(model, tab)
            return self.turns.keep(tab, self._new_model(newest, model.name, None, model.truncation))

    def open_file(self, session: Session | None, path: str | None, request: gr.Request) -> Iterator[Updates]:
        """Read a model file, uploaded or on this machine, and show a picture of it.

        That takes a while: what was done meanwhile counts, and a drag that runs by then is not disturbed.
        """
        if not path:
            return
        tab = tab_of(request)
        yield self._say(f"Reading {Path(path).name} …", "run")
        try:
            with explained(hide=f"{Path(path).parent}{os.sep}"):
                model = self.models.open(Path(path))
                with self.turns.turn(tab, session) as newest:
                    if newest is not None and tab in self.drags:
                        newest = newest.with_opened(model.title, model.name)
                        updates = {self.parts.session: newest} | self._list(newest) | self._here(model, tab)
                    else:
                        updates = self._new_model(newest, model.name, None, model.truncation, opened=model.title)
                    self.turns.keep(tab, updates)
        except gr.Error as e:
            yield self._say(str(e.message), "bad")
            raise
        yield updates | {self.parts.path: ""}

    def _here(self, model: Model, tab: str) -> Updates:
        """A model can be used now, and is not, as there is work that it would replace."""
        if tab in self.drags:
            # The next step is about to overwrite the status line.
            gr.Info(texts.here(model), title="A model has come")
        return self._say(texts.here(model), "good")

    def set_seed(
        self, session: Session | None, seed: float | None, request: gr.Request | None = None
    ) -> Iterator[Updates]:
        """The picture of a seed; points and mask belong to the old one and go, until undo."""
        with explained():
            session = self._session(session)
        # The box is also left, unchanged, for a click on Start.
        if seed != session.seed and (refused := self._dragging(tab_of(request), session)) is not None:
            yield refused
            return
        back = {self.parts.seed: gr.update(value=session.seed)}
        yield (yield from self._attempt(lambda: self._another(session, seed=seed), back))

    def set_truncation(self, session: Session | None, truncation: float | None) -> Updates:
        """The same seed at another truncation."""
        with explained():
            return self._another(self._session(session), truncation=truncation)

    def set_label(self, session: Session | None, label: int | None) -> Updates:
        """The same seed of another class."""
        with explained():
            return self._another(self._session(session), label=label)

    def random_picture(self, session: Session | None) -> Updates:
        """The picture of a random seed."""
        seed = secrets.randbelow(1_000_000)
        with explained():
            new = self._another(self._session(session), seed=seed)
        return new | {self.parts.seed: gr.update(value=seed, interactive=True)}

    def try_preset(self, session: Session | None, number: int) -> Updates:
        """The picture and the points of a drag to try; one more click runs it."""
        with explained():
            session = self._session(session)
            model = self.models.find(session.model)
            if not 0 <= number < len(model.presets):
                raise ConfigError(f"example {number} is not there; this model has {len(model.presets)}")
            preset = model.presets[number]
            ws = latent(self.models.load(model.name), preset.seed, model.truncation, session.label)
            session = session.with_latent(
                ws,
                seed=preset.seed,
                truncation=model.truncation,
                label=session.label,
                pairs=[((hx, hy), (tx, ty)) for hx, hy, tx, ty in preset.points],
            )
            return self._show(session) | self._controls(session) | self._say(texts.ready(preset.title))

    def _another(self, session: Session, **changes: Any) -> Updates:
        """The picture of another seed, truncation or class. Where nothing is another, nothing is done."""
        now = {"seed": session.seed, "truncation": session.truncation, "label": session.label}
        wanted = now | changes
        if wanted == now:
            return {self.parts.session: session}
        ws = latent(self.models.load(session.model), **wanted)
        return self._show(session.with_latent(ws, **wanted))

    def _attempt(self, work: Callable[[], T], back: Updates) -> Generator[Updates, None, T]:
        """What the work returns; if it fails, the page first gets back what was there before."""
        try:
            with explained():
                return work()
        except gr.Error as error:
            yield back | self._say(str(error.message), "bad")
            raise

    # Points, mask, history

    def edit(self, session: Session | None, value: CanvasValue, request: gr.Request | None = None) -> Updates:
        """Points or mask were changed on the canvas. It shows them already: it is not written to."""
        if session is not None and tab_of(request) in self.drags:
            # The drag began with what the canvas showed; this is the same, or too late.
            return {self.parts.session: session}
        with explained():
            known, session = session is not None, self._session(session)
            if is_outdated(session, value):
                if not known:
                    # Nothing else would tell the page, and all that is drawn there would be passed over.
                    begun = {self.parts.model: gr.update(value=session.model)} | self._suiting(session)
                    return self._show(session) | self._controls(session) | begun | self._say(texts.GONE, "note")
                if not session.overtaken:
                    # The page is about to be told what is there instead.
                    return {self.parts.session: session.overtake()}
                # Edits come one after the other: it had an answer since, and not that one. A connection was lost.
                there = self._show(session) | self._list(session) | self._controls(session)
                return there | self._say(texts.MISSED, "note")
            session = with_canvas(session, value)
            said = self._say(texts.hint(session))
            return {self.parts.session: session} | said | self._enable(session, after_a_drag=False)

    def remove_last(self, session: Session | None, value: CanvasValue) -> Updates:
        """Drop the last point."""
        with explained():
            return self._show(self._drawn(session, value).remove_last(), picture=False)

    def clear_points(self, session: Session | None, value: CanvasValue) -> Updates:
        """Drop all points."""
        with explained():
            return self._show(self._drawn(session, value).clear_points(), picture=False)

    def clear_mask(self, session: Session | None, value: CanvasValue) -> Updates:
        """Everything may change again."""
        with explained():
            return self._show(self._drawn(session, value).clear_mask(), picture=False)

    def undo(self, session: Session | None, value: CanvasValue) -> Updates:
        """Take the last step back."""
        return self._travel(session, value, Session.undo)

    def redo(self, session: Session | None, value: CanvasValue) -> Updates:
        """Do it again."""
        return self._travel(session, value, Session.redo)

    def _travel(self, session: Session | None, value: CanvasValue, move: Callable[[Session], Session]) -> Updates:
        """To another moment of the history; the controls follow where it is about another picture."""
        with explained():
            before = self._drawn(session, value)
            after = move(before)
            if after.picture is before.picture:
                return self._show(after)
            if after.model == before.model:
                return self._show(after) | self._controls(after)
            after = _suited(after)
            return self._show(after) | self._list(after) | self._controls(after) | self._suiting(after)

    def reset(self, session: Session | None, value: CanvasValue) -> Updates:
        """Back to the starting picture."""
        with explained():
            return self._show(self._drawn(session, value).reset())

    # The drag

    def start(
        self, session: Session | None, value: CanvasValue, space: Space, request: gr.Request, *settings: float
    ) -> Iterator[Updates]:
        """Drag the handles to their targets; pictures and figures come as it goes."""
        tab = tab_of(request)
        with explained():
            session = self._drawn(session, value)
        session = yield from self._with_settings(session, settings)
        with explained():
            session = session.set_space(space).given()
            run = Run(begin_drag(self.models, session, session.settings))
            self.drags.begin(tab, run)
        yield from self._attend(tab, run, session, Pace())

    def pull(
        self, session: Session | None, value: CanvasValue, space: Space, request: gr.Request, *settings: float
    ) -> Iterator[Updates]:
        """The picture was taken hold of: it follows the pointer, which `Pulls.steer` tells of, until that lets go."""
        tab = tab_of(request)
        with explained():
            session = self._drawn(session, value)
        session = yield from self._with_settings(session, settings)
        with explained():
            key, at = read_pull(value)
            session = session.set_space(space)
            run = Run(begin_pull(self.models, session, at, session.settings))
            self.drags.begin(tab, run)
        self.pulls.begin(key, run)
        try:
            yield from self._attend(tab, run, session, Pace(rate=25, share=0.9), key)
        finally:
            self.pulls.end(key)

    def _attend(self, tab: str, run: Run, session: Session, pace: Pace, key: str = "") -> Iterator[Updates]:
        """Run a drag from its first picture to its last; ``key``: of the pull that it is."""
        # What others do to the session meanwhile (a file was opened) counts at the end.
        self.turns.keep(tab, {self.parts.session: session})
        placed, failed = False, None
        try:
            try:
                yield self._busy(session, key)
                while not (placed := self.drags.take_place(patience=0.5)) and not run.stopping:
                    yield self._say("Waiting until another drag has ended …", "run")
                if placed:
                    yield from self._follow(run, pace, key)
            except gr.Error as error:
                failed = error
            run.end()
            with self.turns.turn(tab, session) as newest:
                ended, failed = self._end(newest or session, run, key, failed)
                self.turns.keep(tab, ended)
                # From here on, others may change the picture again.
                self.drags.end(tab, run)
        finally:
            run.end()
            self.drags.end(tab, run)
            if placed:
                self.drags.leave_place()
        # What was reached is kept; only then is an error shown.
        yield ended
        if failed is not None:
            raise failed

    def set_settings(self, session: Session | None, *settings: float | None) -> Iterator[Updates]:
        """Settings were typed: wrong ones are explained, and the last good ones come back."""
        session = yield from self._with_settings(session, settings)
        yield {self.parts.session: session}

    def _with_settings(
        self, session: Session | None, settings: Sequence[float | None]
    ) -> Generator[Updates, None, Session]:
        """The session with the settings that the page shows; if one is wrong, the page gets the last good ones back."""
        with explained():
            before = self._session(session)
        return (yield from self._attempt(lambda: self._chosen(before, settings), self._unset(before, settings)))

    def _chosen(self, session: Session, settings: Sequence[float | None]) -> Session:
        """The session with these settings.

        Raises:
            ConfigError: one of them is not possible; the message calls it as the page does.
        """
        if len(settings) != len(SETTINGS):
            raise ConfigError(f"{len(settings)} settings were given; they are {', '.join(SETTINGS)}")
        for name, value in _numbers(settings).items():
            if (error := _refusal(name, value)) is not None:
                raise ConfigError(texts.setting(name, value, str(error))) from error
        return session.set_settings(_numbers(settings))

    def _unset(self, session: Session, settings: Sequence[float | None]) -> Updates:
        """The settings' controls: wrong ones as they were when they were last good, the others as they are."""
        if len(settings) != len(SETTINGS):
            return {}
        good, given = self._settings(session), _numbers(settings)
        return {
            part: gr.update(value=given[name] if _refusal(name, given[name]) is None else good[name])
            for part, name in zip(self.parts.settings, SETTINGS, strict=True)
        }

    def stop(self, request: gr.Request) -> None:
        """End this tab's drag with its next step."""
        self.drags.stop(tab_of(request))

    def close(self, request: gr.Request) -> None:
        """The tab was closed: nobody waits for its drag or download any more."""
        self.drags.stop(tab_of(request))
        self.fetches.stop(tab_of(request))

    def _follow(self, run: Run, pace: Pace, key: str) -> Iterator[Updates]:
        """Run a drag to its end, showing its newest picture whenever one is due."""
        started, size = time.perf_counter(), Size(run.drag.generator.preview_heights)
        run.begin()
        shown: DragStep | None = None
        while True:
            with explained():
                step = run.newer(shown, patience=1.0)
            if step is not None and step.done:
                return
            if key and self.pulls.silence(key) > _SILENCE:
                # A pointer that lets go says so; one that says nothing has lost its way to us.
                run.drag.settle()
            if run.ended(patience=pace.wait()):
                continue
            step = run.step
            if step is None or step is shown or step.done:
                continue  # the last one has come meanwhile: nothing newer will, so it is shown at rest
            shown = step
            if key and step.index == 0:
                continue  # the picture that is there
            pace.begin()
            with explained():
                frame = frame_url(preview(run.drag, step, size.height), quality=_DRAGGING_QUALITY)
            size.took(pace.end())
            if key:
                # Past the queue, and no words: nobody who pulls reads.
                self.pulls.show(key, frame, step.handles.tolist())
                continue
            said = self._say(texts.progress(step, time.perf_counter() - started), "run", aloud=False)
            yield {self.parts.canvas: gr.HTML(frame=frame, live=step.handles.tolist())} | said

    def _end(self, session: Session, run: Run, key: str, failed: gr.Error | None) -> tuple[Updates, gr.Error | None]:
        """The page at rest again, with what the drag has reached, and what has failed first.

        Nothing that fails here keeps the page locked, or loses what was reached: where the picture cannot be drawn, as
        there is no memory left, the last one on the way stays on the screen.
        """
        news = None
        try:
            with explained():
                session, news = self._reached(session, run, key)
                shown = self._show(session, after_a_drag=not key)
        except gr.Error as error:
            failed = failed or error
            shown = self._show(session, picture=False, after_a_drag=not key)
        if failed is not None:
            return shown | self._say(str(failed.message), "bad"), failed
        return shown if news is None else shown | self._say(*reversed(news)), None

    def _reached(self, session: Session, run: Run, key: str) -> tuple[Session, tuple[str, str] | None]:
        """The session with what the drag has reached, and the kind of news and the sentence about it, if any."""
        step = run.step
        if step is None:
            return session, None
        ws, film = step.ws.cpu().numpy(), run.film.frames
        if key:
            # Taken hold of and let go again: nothing has happened.
            moved = not np.array_equal(ws, session.ws)
            return (session.pulled(ws, film), texts.pulled(step)) if moved else (session, None)
        if step.index > 0:
            session = session.commit(ws, step.handles, film)
        return session, texts.outcome(step, run.drag.stop_distance, session) if step.done else None

    # Saving

    def save(self, session: Session | None, value: CanvasValue) -> Updates:
        """A PNG of the picture, without points, marked as made by AI."""
        with explained():
            session = self._drawn(session, value)
            path = self._place(self._file_name(session, ".png"))
            save_png(path, *picture(self.models, session))
            return {self.parts.file: str(path)}

    def save_gif(self, session: Session | None, value: CanvasValue) -> Iterator[Updates]:
        """The way from the starting picture as a GIF, through every drag and pull, marked as made by AI."""
        yield from self._save_film(session, value, ".gif")

    def save_webp(self, session: Session | None, value: CanvasValue) -> Iterator[Updates]:
        """The same as an animated WebP."""
        yield from self._save_film(session, value, ".webp")

    def _save_film(self, session: Session | None, value: CanvasValue, suffix: str) -> Iterator[Updates]:
        with explained():
            session = self._drawn(session, value)
            film = session.film
            if not film:
                raise ExportError("there is no drag to show; drag something first")
            generator = self.models.load(session.model)
        frames: list[np.ndarray] = []
        for ws in film:
            # A large model takes a while.
            yield self._say(f"Drawing picture {len(frames) + 1} of {len(film)} …", "run", aloud=not frames)
            with explained():
                frames.append(render(generator, ws))
        with explained():
            path = self._place(self._file_name(session, suffix))
            save_animation(path, frames, picture_details(session))
        yield {self.parts.file: str(path)} | self._say(texts.hint(session))

    def _file_name(self, session: Session, suffix: str) -> str:
        seed = "" if session.seed is None else f"-seed{session.seed}"
        edited = "-dragged" if session.is_edited else ""
        return f"{self.models.find(session.model).file}{seed}{edited}{suffix}"

    def _place(self, name: str) -> Path:
        """A path for a file of that name in a folder of its own; old ones make room.

        Any number may be saved at the same time: by age, none is touched that is being written, and whoever finds
        that another has removed an old one first is content.
        """
        folder = Path(self._folder.name)
        for old in folder.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - old.stat().st_mtime > _SAVED:
                    shutil.rmtree(old, ignore_errors=True)
        return Path(mkdtemp(dir=folder)) / name

    # Parts of updates

    def _session(self, session: Session | None) -> Session:
        """The session; a fresh one for a caller that opened no page."""
        if session is not None:
            return session
        first = self.models.listed()[0]
        return first_session(self.models, first.name, 0, first.truncation)

    def _drawn(self, session: Session | None, value: CanvasValue) -> Session:
        """The session with what the canvas shows.

        Raises:
            SessionGone: the page shows what is no longer kept; anything done to the first picture would surprise.
        """
        there = self._session(session)
        if session is None and is_outdated(there, value):
            raise SessionGone("the page was away for so long that its work is no longer kept; reload it to begin again")
        return with_canvas(there, value)

    def _model_of(self, session: Session | None) -> str:
        """Name of the model on the canvas."""
        return self.models.listed()[0].name if session is None else session.model

    def _show(self, session: Session, *, picture: bool = True, after_a_drag: bool = True) -> Updates:
        """The page at rest."""
        session = session.given()
        canvas: dict[str, Any] = {"value": canvas_value(session), "busy": False, "live": None, "held": ""}
        if picture:
            generator = self.models.load(session.model)
            height, width = session.image_size
            canvas |= {"size": [width, height], "frame": frame_url(render(generator, session.ws))}
        return (
            {self.parts.session: session, self.parts.canvas: gr.HTML(**canvas)}
            | self._say(texts.hint(session))
            | self._enable(session, after_a_drag=after_a_drag)
        )

    def _busy(self, session: Session, key: str) -> Updates:
        """The page while a drag runs: nothing can be changed, but it can be stopped."""
        if key:
            # Quickly: somebody is pulling already. The canvas itself keeps everything else from being pressed.
            return {self.parts.canvas: gr.HTML(busy=True, live=None, held=key)} | self._say(texts.PULLING, "run")
        off = {part: gr.update(interactive=False) for part in self._resting_parts()}
        canvas = gr.HTML(value=canvas_value(session), busy=True, live=None)
        return (
            {self.parts.session: session, self.parts.canvas: canvas, self.parts.stop: gr.update(interactive=True)}
            | off
            | self._say("Starting …", "run")
        )

    def _enable(self, session: Session, *, after_a_drag: bool = True) -> Updates:
        """What can be pressed on a page at rest; all of it after a drag, else only what may have changed."""
        parts = self.parts
        on = {part: gr.update(interactive=True) for part in self._resting_parts() if after_a_drag}
        points = bool(session.pairs) or session.pending is not None
        special = {
            parts.stop: False,
            parts.undo: session.can_undo,
            parts.redo: session.can_redo,
            parts.reset: session.is_edited,
            parts.remove_last: points,
            parts.clear_points: points,
            parts.clear_mask: session.mask is not None,
            parts.save_gif: bool(session.film),
            parts.save_webp: bool(session.film),
        }
        return on | {part: gr.update(interactive=is_on) for part, is_on in special.items()}

    def _resting_parts(self) -> tuple[Any, ...]:
        """What is off while a drag runs."""
        p = self.parts
        return (
            *(p.model, p.upload, p.path, p.label, p.seed, p.random, p.truncation, p.space, *p.settings),
            *(p.start, p.undo, p.redo, p.reset, p.remove_last, p.clear_points, p.clear_mask, *p.presets),
            *(p.save, p.save_gif, p.save_webp),
        )

    def _say(self, text: str, kind: str = "", *, aloud: bool = True) -> Updates:
        """The status line; not ``aloud``: seen only, as what changes many times a second is no use read out."""
        return {self.parts.status: gr.HTML(value=text, kind=kind, spoken="polite" if aloud else "off")}


def _suited(session: Session) -> Session:
    """The session after a change of model: what the old one needed is forgotten, what a person chose is kept."""
    return session.set_settings({name: value for name, value in session.settings.items() if name not in _SUITED})


def _numbers(settings: Sequence[float | None]) -> dict[str, Any]:
    """Settings by name as the page sends them; JavaScript knows no whole numbers."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() and _is_whole(name) else value
        for name, value in zip(SETTINGS, settings, strict=True)
    }


def _refusal(name: str, value: Any) -> ConfigError | None:
    """Why a setting cannot have this value; None: it can."""
    try:
        DragConfig(**{name: value})
    except ConfigError as error:
        return error
    return None


def _is_whole(name: str) -> bool:
    return isinstance(describe(DragConfig, name)["default"], int)
