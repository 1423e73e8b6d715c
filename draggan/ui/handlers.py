"""What happens when a person does something: a `Session` in, updates of the page out."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, TypeAlias

import gradio as gr

from draggan.config import DragConfig, Space
from draggan.drag import DragStep
from draggan.errors import ConfigError, LatentError
from draggan.export import save_png
from draggan.session import Session
from draggan.ui import texts
from draggan.ui.canvas import CanvasValue, canvas_value, frame_url, with_canvas
from draggan.ui.models import Model, Models, Terms
from draggan.ui.preview import Pace
from draggan.ui.running import Drags, Fetch, Run, Tabs, explained
from draggan.ui.work import begin_drag, first_session, latent, picture, render

__all__ = ["SETTINGS", "Handlers", "Parts"]

Updates: TypeAlias = dict[Any, Any]
# Title and name of every file that was opened in a tab.
Opened: TypeAlias = tuple[tuple[str, str], ...]

# Settings of a drag that the page offers besides the latent space; everything else about them is in the dataclass.
SETTINGS = ("step_size", "max_steps", "stop_distance", "mask_weight", "r1", "r2", "free_rows")

_DRAGGING_QUALITY = 88  # of JPEG; a still picture has the canvas's own
_SAVED = 8  # files kept until Gradio has copied them


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The components that handlers update."""

    session: gr.State
    canvas: gr.HTML
    status: gr.HTML
    model: gr.Dropdown
    opened: gr.State
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
    settings: tuple[gr.Number, ...]
    start: gr.Button
    stop: gr.Button
    undo: gr.Button
    redo: gr.Button
    reset: gr.Button
    remove_last: gr.Button
    clear_points: gr.Button
    save: gr.Button
    file: gr.DownloadButton


class Handlers:
    """All handlers of a page.

    Args:
        parts: its components.
        models: where generators come from.
        drags: shared by all tabs.
    """

    def __init__(self, parts: Parts, models: Models, drags: Drags) -> None:
        self.parts, self.models, self.drags = parts, models, drags
        self.fetches: Tabs[Fetch] = Tabs("download")
        # Where saved pictures are put until Gradio has taken its copy.
        self._folder = TemporaryDirectory(prefix="draggan-")

    # Pictures

    def open_page(self, model: str, seed: int | None, truncation: float) -> Updates:
        """A first picture. If there is none, the page itself says why."""
        try:
            with explained():
                return self._new_model(None, (), model, seed, truncation)
        except gr.Error as e:
            return self._say(str(e.message), "bad")

    def choose_model(
        self, session: Session | None, opened: Opened, model: str, seed: int | None
    ) -> Iterator[Updates]:
        """Another model, with the truncation that suits it and the same seed. One that is not here is offered."""
        with explained():
            chosen = self.models.find(model)
            if chosen.here:
                updates = self._new_model(session, opened, model, seed, chosen.truncation)
            else:
                updates = self._offer(chosen, self.models.terms(model, ask=False), asking=True)
        yield updates
        if not chosen.here:
            with explained():
                updates = self._offer(chosen, self.models.terms(model, ask=True))
            yield updates

    def _new_model(
        self, session: Session | None, opened: Opened, model: str, seed: int | None, truncation: float
    ) -> Updates:
        listed = self.models.find(model)
        space: Space = "w+" if session is None else session.space
        seed = 0 if seed is None else seed
        session = first_session(self.models, model, seed, truncation).set_space(space)
        classes = [(f"class {i}", i) for i in range(self.models.load(model).c_dim)]
        step_size = self.parts.settings[SETTINGS.index("step_size")]
        return (
            self._show(session)
            | self._list(opened, model)
            | {
                self.parts.truncation: gr.update(value=truncation, interactive=True),
                self.parts.seed: gr.update(value=seed, interactive=True),
                self.parts.label: gr.Dropdown(classes, value=session.label, visible=bool(classes), interactive=True),
                step_size: gr.update(value=DragConfig(**listed.settings).step_size, interactive=True),
            }
        )

    def _list(self, opened: Opened, model: str) -> Updates:
        """The list of models, with one of them chosen and none on offer."""
        choices = [(texts.line(m), m.name) for m in self.models.listed()] + [(title, name) for title, name in opened]
        return {
            self.parts.model: gr.Dropdown(choices, value=model, interactive=True),
            self.parts.opened: opened,
            self.parts.offer: gr.update(visible=False),
        }

    # Downloads and files

    def _offer(self, model: Model, terms: Terms, *, asking: bool = False) -> Updates:
        can = not terms.by_hand
        return {
            self.parts.offer: gr.update(visible=True),
            self.parts.terms: texts.offer(model, terms, asking=asking),
            self.parts.bar: gr.HTML(value="", percent=0, visible=False),
            self.parts.download: gr.update(visible=can, interactive=can),
            self.parts.not_now: gr.update(value="Not now" if can else "Close"),
        }

    def not_now(self, session: Session | None, opened: Opened, request: gr.Request) -> Updates:
        """Cancel the download that runs; without one, take the offer away."""
        if self.fetches.stop(tab_of(request)):
            return {self.parts.not_now: gr.update(value="Cancelling …")}
        with explained():
            return self._list(opened, self._session(session).model)

    def download(
        self, session: Session | None, opened: Opened, model: str, request: gr.Request
    ) -> Iterator[Updates]:
        """Fetch the model on offer, with a bar that says how far it is."""
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
                try:
                    with explained():
                        here = fetch.ended(patience=0.25)
                except gr.Error as e:
                    yield self._offer(chosen, self.models.terms(model, ask=False)) | self._say(str(e.message), "note")
                    if fetch.stopping:
                        return
                    raise
                yield self._fetched(fetch)
        finally:
            fetch.stop()
            self.fetches.end(tab)

    def _fetched(self, fetch: Fetch) -> Updates:
        seconds = max(time.monotonic() - fetch.started, 0.1)
        text = texts.downloading(fetch.done, fetch.total, (fetch.done - (fetch.first or 0)) / seconds)
        percent = 100 * fetch.done / fetch.total if fetch.total else 0
        return {self.parts.bar: gr.HTML(value=text, percent=round(percent, 1), visible=True)}

    def downloaded(
        self, session: Session | None, opened: Opened, model: str, seed: int | None
    ) -> Updates:
        """Use the model, if it has come and that would throw no work away."""
        with explained():
            chosen = self.models.find(model)
            if not chosen.here:
                return {self.parts.opened: opened}
            if session is None or not session.can_undo:
                return self._new_model(session, opened, model, seed, chosen.truncation)
            said = self._say(f"{chosen.title} is here now. Choose it again to use it.", "good")
            return self._list(opened, session.model) | said

    def open_file(
        self, session: Session | None, opened: Opened, path: str | None, seed: int | None
    ) -> Iterator[Updates]:
        """Read a model file, uploaded or on this machine, and show a picture of it."""
        if not path:
            return
        yield self._say(f"Reading {Path(path).name} …", "run")
        try:
            with explained():
                model = self.models.open(Path(path))
                opened = (*opened, (model.title, model.name))
                updates = self._new_model(session, opened, model.name, seed, model.truncation)
        except gr.Error as e:
            yield self._say(str(e.message), "bad")
            raise
        yield updates | {self.parts.path: ""}

    def new_picture(
        self, session: Session | None, seed: int | None, truncation: float, label: int | None = None
    ) -> Updates:
        """The picture of a seed; points and mask belong to the old one and go."""
        with explained():
            session = self._session(session)
            if seed is None:
                raise LatentError("give a seed: a whole number, or press Random")
            generator = self.models.load(session.model)
            ws = latent(generator, seed, truncation, label)
            return self._show(session.with_latent(ws, seed=seed, truncation=truncation, label=label))

    def random_picture(self, session: Session | None, truncation: float, label: int | None = None) -> Updates:
        """The picture of a random seed."""
        seed = secrets.randbelow(1_000_000)
        new = self.new_picture(session, seed, truncation, label)
        return new | {self.parts.seed: gr.update(value=seed, interactive=True)}

    # Points, mask, history

    def edit(self, session: Session | None, value: CanvasValue) -> Updates:
        """Points or mask were changed on the canvas. It shows them already: it is not written to."""
        with explained():
            session = with_canvas(self._session(session), value)
            return {self.parts.session: session} | self._say(texts.hint(session)) | self._enable(session)

    def remove_last(self, session: Session | None, value: CanvasValue) -> Updates:
        """Drop the last point."""
        with explained():
            return self._show(with_canvas(self._session(session), value).remove_last(), picture=False)

    def clear_points(self, session: Session | None, value: CanvasValue) -> Updates:
        """Drop all points."""
        with explained():
            return self._show(with_canvas(self._session(session), value).clear_points(), picture=False)

    def undo(self, session: Session | None, value: CanvasValue) -> Updates:
        """Take the last step back."""
        with explained():
            return self._show(with_canvas(self._session(session), value).undo())

    def redo(self, session: Session | None, value: CanvasValue) -> Updates:
        """Do it again."""
        with explained():
            return self._show(with_canvas(self._session(session), value).redo())

    def reset(self, session: Session | None, value: CanvasValue) -> Updates:
        """Back to the starting picture."""
        with explained():
            return self._show(with_canvas(self._session(session), value).reset())

    # The drag

    def start(
        self, session: Session | None, value: CanvasValue, space: Space, request: gr.Request, *settings: float
    ) -> Iterator[Updates]:
        """Drag the handles to their targets; pictures and figures come as it goes."""
        tab = tab_of(request)
        with explained():
            session = with_canvas(self._session(session), value).set_space(space)
            if len(settings) != len(SETTINGS):
                raise ConfigError(f"{len(settings)} settings were given; they are {', '.join(SETTINGS)}")
            run = Run(begin_drag(self.models, session, dict(zip(SETTINGS, settings, strict=True))))
            self.drags.begin(tab, run)
        placed = False
        try:
            yield self._busy(session)
            while not (placed := self.drags.take_place(patience=0.5)) and not run.stopping:
                yield self._say("Waiting until another drag has ended …", "run")
            if placed:
                yield from self._follow(run)
            ended = self._end(session, run)
        except gr.Error as error:
            # What was reached is kept; only then is the error shown.
            yield self._end(session, run) | self._say(str(error.message), "bad")
            raise
        finally:
            run.end()
            self.drags.end(tab)
            if placed:
                self.drags.leave_place()
        yield ended

    def stop(self, request: gr.Request) -> None:
        """End this tab's drag with its next step."""
        self.drags.stop(tab_of(request))

    def close(self, request: gr.Request) -> None:
        """The tab was closed: nobody waits for its drag or download any more."""
        self.drags.stop(tab_of(request))
        self.fetches.stop(tab_of(request))

    def _follow(self, run: Run) -> Iterator[Updates]:
        """Run a drag to its end, showing its newest picture whenever one is due."""
        started, pace = time.perf_counter(), Pace()
        run.begin()
        shown: DragStep | None = None
        while True:
            with explained():
                step = run.newer(shown, patience=1.0)
            if step is not None and step.done:
                return
            if run.ended(patience=pace.wait()):
                continue
            step = run.step
            if step is None or step is shown:
                continue
            pace.begin()
            with explained():
                frame = frame_url(render(run.drag.generator, step.ws), quality=_DRAGGING_QUALITY)
            pace.end()
            shown = step
            said = self._say(texts.progress(step, time.perf_counter() - started), "run")
            yield {self.parts.canvas: gr.HTML(frame=frame, live=step.handles.tolist())} | said

    def _end(self, session: Session, run: Run) -> Updates:
        """The page at rest again, with what the drag has reached."""
        step = run.step
        if step is None:
            return self._show(session)
        if step.index > 0:
            session = session.commit(step.ws.cpu().numpy(), step.handles)
        shown = self._show(session)
        if step.done:
            kind, text = texts.outcome(step, run.drag.stop_distance, session)
            shown |= self._say(text, kind)
        return shown

    # Saving

    def save(self, session: Session | None, value: CanvasValue) -> Updates:
        """A PNG of the picture, without points, marked as made by AI."""
        with explained():
            session = with_canvas(self._session(session), value)
            seed = "" if session.seed is None else f"-seed{session.seed}"
            edited = "-dragged" if session.is_edited else ""
            path = self._place(f"{self.models.find(session.model).file}{seed}{edited}.png")
            save_png(path, *picture(self.models, session))
            return {self.parts.session: session, self.parts.file: str(path)}

    def _place(self, name: str) -> Path:
        """A path for a file of that name in a folder of its own; old ones make room."""
        folder = Path(self._folder.name)
        for old in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)[:-_SAVED]:
            shutil.rmtree(old, ignore_errors=True)
        return Path(mkdtemp(dir=folder)) / name

    # Parts of updates

    def _session(self, session: Session | None) -> Session:
        """The session; a fresh one for a caller that opened no page."""
        if session is not None:
            return session
        first = self.models.listed()[0]
        return first_session(self.models, first.name, 0, first.truncation)

    def _show(self, session: Session, *, picture: bool = True) -> Updates:
        """The page at rest."""
        canvas: dict[str, Any] = {"value": canvas_value(session), "busy": False, "live": None}
        if picture:
            generator = self.models.load(session.model)
            height, width = session.image_size
            canvas |= {"size": [width, height], "frame": frame_url(render(generator, session.ws))}
        return (
            {self.parts.session: session, self.parts.canvas: gr.HTML(**canvas)}
            | self._say(texts.hint(session))
            | self._enable(session)
        )

    def _busy(self, session: Session) -> Updates:
        """The page while a drag runs: nothing can be changed, but it can be stopped."""
        off = {part: gr.update(interactive=False) for part in self._resting_parts()}
        canvas = gr.HTML(value=canvas_value(session), busy=True, live=None)
        return (
            {self.parts.session: session, self.parts.canvas: canvas, self.parts.stop: gr.update(interactive=True)}
            | off
            | self._say("Starting …", "run")
        )

    def _enable(self, session: Session) -> Updates:
        """What can be pressed on a page at rest."""
        parts = self.parts
        on = {part: gr.update(interactive=True) for part in self._resting_parts()}
        points = bool(session.pairs) or session.pending is not None
        special = {
            parts.stop: False,
            parts.undo: session.can_undo,
            parts.redo: session.can_redo,
            parts.reset: session.is_edited,
            parts.remove_last: points,
            parts.clear_points: points,
        }
        return on | {part: gr.update(interactive=is_on) for part, is_on in special.items()}

    def _resting_parts(self) -> tuple[Any, ...]:
        """What is off while a drag runs."""
        p = self.parts
        return (
            *(p.model, p.upload, p.path, p.label, p.seed, p.random, p.truncation, p.space, *p.settings),
            *(p.start, p.undo, p.redo, p.reset, p.remove_last, p.clear_points, p.save),
        )

    def _say(self, text: str, kind: str = "") -> Updates:
        return {self.parts.status: gr.HTML(value=text, kind=kind)}


def tab_of(request: gr.Request | None) -> str:
    """What tells one browser tab from another."""
    return getattr(request, "session_hash", None) or ""
