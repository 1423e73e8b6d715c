"""What happens when a person does something: a `Session` in, updates of the page out."""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, TypeAlias

import gradio as gr
import numpy as np
import torch
from torch import Tensor

from draggan.config import DragConfig, Space
from draggan.drag import Drag, DragStep, Reference
from draggan.errors import ConfigError, DragGANError, LatentError, PointError
from draggan.export import save_png
from draggan.generators.base import Generator, z_from_seed
from draggan.images import to_uint8
from draggan.session import Session
from draggan.ui import texts
from draggan.ui.canvas import CanvasValue, canvas_value, frame_url, with_canvas
from draggan.ui.models import Model, Models
from draggan.ui.preview import Pace

__all__ = ["SETTINGS", "Drags", "Handlers", "Parts"]

log = logging.getLogger(__name__)

Updates: TypeAlias = "dict[Any, Any]"

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


class Run:
    """A drag under way, and its newest step (None before the first)."""

    def __init__(self, drag: Drag) -> None:
        self.drag = drag
        self.step: DragStep | None = None
        self._stopping = threading.Event()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ask it to end with its next step."""
        self._stopping.set()
        self.drag.stop()


class Drags:
    """The drags that run now, by the browser tab they belong to, and how many may run at a time."""

    def __init__(self, limit: int) -> None:
        self._running: dict[str, Run] = {}
        self._lock = threading.Lock()
        self._places = threading.Semaphore(limit)

    def begin(self, tab: str, run: Run) -> None:
        """Remember a drag; `end` must follow.

        Raises:
            PointError: this tab has one already.
        """
        with self._lock:
            if tab in self._running:
                raise PointError("a drag is running in this tab already; stop it first")
            self._running[tab] = run

    def end(self, tab: str) -> None:
        """Forget it."""
        with self._lock:
            self._running.pop(tab, None)

    def stop(self, tab: str) -> None:
        """Ask the drag of a tab, if there is one, to end with its next step."""
        with self._lock:
            run = self._running.get(tab)
        if run is not None:
            run.stop()

    def take_place(self, patience: float) -> bool:
        """Wait up to that many seconds until fewer than the limit are running; True: the place is ours."""
        return self._places.acquire(timeout=patience)

    def leave_place(self) -> None:
        """Give it back."""
        self._places.release()


@contextmanager
def explained() -> Iterator[None]:
    """Turn every error into a sentence for a person. Not to be held across a ``yield``."""
    try:
        yield
    except gr.Error:
        raise
    except DragGANError as e:
        raise gr.Error(str(e), title="That did not work", print_exception=False) from e
    except (MemoryError, torch.OutOfMemoryError) as e:
        log.exception("out of memory")
        message = "There is not enough memory for this. Close other programs, or choose a smaller model."
        raise gr.Error(message, title="Out of memory", print_exception=False) from e
    except Exception as e:
        log.exception("unexpected error in the page")
        message = "Something unexpected went wrong; your picture and points are kept. The log says what it was."
        raise gr.Error(message, title="Unexpected error", print_exception=False) from e


class Handlers:
    """All handlers of a page.

    Args:
        parts: its components.
        models: where generators come from.
        drags: shared by all tabs.
    """

    def __init__(self, parts: Parts, models: Models, drags: Drags) -> None:
        self.parts, self.models, self.drags = parts, models, drags
        # Where saved pictures are put until Gradio has taken its copy.
        self._folder = TemporaryDirectory(prefix="draggan-")

    # Pictures

    def open_page(self, model: str, seed: int | None, truncation: float) -> Updates:
        """A first picture. If there is none, the page itself says why."""
        try:
            with explained():
                return self._new_model(None, model, seed, truncation)
        except gr.Error as e:
            return self._say(str(e.message), "bad")

    def choose_model(self, session: Session | None, model: str, seed: int | None) -> Updates:
        """Another model, with the truncation that suits it and the same seed."""
        with explained():
            return self._new_model(session, model, seed, self._listed(model).truncation)

    def _new_model(self, session: Session | None, model: str, seed: int | None, truncation: float) -> Updates:
        generator, listed = self.models.load(model), self._listed(model)
        seed = 0 if seed is None else seed
        label = 0 if generator.c_dim else None
        ws = latent(generator, seed, truncation, label)
        begin = Session.begin if session is None else session.with_model
        session = begin(model, generator.image_size, ws, seed=seed, truncation=truncation, label=label)
        classes = [(f"class {i}", i) for i in range(generator.c_dim)]
        step_size = self.parts.settings[SETTINGS.index("step_size")]
        return self._show(session) | {
            self.parts.truncation: gr.update(value=truncation, interactive=True),
            self.parts.seed: gr.update(value=seed, interactive=True),
            self.parts.label: gr.Dropdown(choices=classes, value=label, visible=generator.c_dim > 0, interactive=True),
            step_size: gr.update(value=listed.step_size or DragConfig.step_size, interactive=True),
        }

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
            run = Run(self._drag(session, settings))
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
            self.drags.end(tab)
            if placed:
                self.drags.leave_place()
        yield ended

    def stop(self, request: gr.Request) -> None:
        """End this tab's drag with its next step."""
        self.drags.stop(tab_of(request))

    def _drag(self, session: Session, settings: tuple[float, ...]) -> Drag:
        generator = self.models.load(session.model)
        if len(settings) != len(SETTINGS):
            raise ConfigError(f"{len(settings)} settings were given; there are {len(SETTINGS)}: {', '.join(SETTINGS)}")
        chosen: dict[str, Any] = dict(zip(SETTINGS, settings, strict=True))
        config = DragConfig(space=session.space, level=self._listed(session.model).level, **chosen)
        given = session.drag_arguments()
        reference = Reference(
            handles=_tensor(given.reference_handles, generator),
            ws=_tensor(given.reference_ws, generator),
            mask_ws=None if given.mask_ws is None else _tensor(given.mask_ws, generator),
        )
        ws = _tensor(given.ws, generator)
        return Drag(generator, ws, given.handles, given.targets, given.mask, config, reference=reference)

    def _follow(self, run: Run) -> Iterator[Updates]:
        """Run a drag to its end, showing a picture whenever one is due."""
        started, pace = time.perf_counter(), Pace()
        while run.step is None or not run.step.done:
            with explained():
                run.step = next(run.drag)
            if run.step.done or not pace.due():
                continue
            pace.begin()
            with explained():
                pixels = render(run.drag.generator, run.step.ws)
                frame = frame_url(pixels, quality=_DRAGGING_QUALITY)
            said = self._say(texts.progress(run.step, time.perf_counter() - started), "run")
            yield {self.parts.canvas: gr.HTML(frame=frame, live=run.step.handles.tolist())} | said
            pace.end()

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
            generator = self.models.load(session.model)
            seed = "" if session.seed is None else f"-seed{session.seed}"
            edited = "-dragged" if session.is_edited else ""
            path = self._place(f"{Path(session.model).stem}{seed}{edited}.png")
            details = {
                "model": session.model,
                "seed": session.seed,
                "truncation": session.truncation,
                "class": session.label,
                "handles": [pair.handle for pair in session.pairs],
                "targets": [pair.target for pair in session.pairs],
            }
            save_png(path, render(generator, _tensor(session.ws, generator)), details)
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
        generator = self.models.load(first.name)
        label = 0 if generator.c_dim else None
        ws = latent(generator, 0, first.truncation, label)
        return Session.begin(
            first.name, generator.image_size, ws, seed=0, truncation=first.truncation, label=label
        )

    def _listed(self, name: str) -> Model:
        for model in self.models.listed():
            if model.name == name:
                return model
        return Model(name=name, title=name)

    def _show(self, session: Session, *, picture: bool = True) -> Updates:
        """The page at rest."""
        canvas: dict[str, Any] = {"value": canvas_value(session), "busy": False, "live": None}
        if picture:
            generator = self.models.load(session.model)
            height, width = session.image_size
            canvas |= {"size": [width, height], "frame": frame_url(render(generator, _tensor(session.ws, generator)))}
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
            *(p.model, p.label, p.seed, p.random, p.truncation, p.space, *p.settings),
            *(p.start, p.undo, p.redo, p.reset, p.remove_last, p.clear_points, p.save),
        )

    def _say(self, text: str, kind: str = "") -> Updates:
        return {self.parts.status: gr.HTML(value=text, kind=kind)}


def latent(generator: Generator, seed: int, truncation: float, label: int | None) -> np.ndarray:
    """The latent ``[1, num_ws, w_dim]`` of a seed, and of a class where the model has classes.

    Raises:
        LatentError, ConfigError: a seed, truncation or class that there is not.
    """
    if not isinstance(seed, int):
        raise LatentError(f"seed {seed} is not allowed; give a whole number from 0 to {2**32 - 1}")
    if not isinstance(truncation, (int, float)) or not 0 <= truncation <= 1:
        raise ConfigError(f"truncation {truncation} is not allowed; give a number from 0 to 1")
    c = None
    if generator.c_dim:
        if not isinstance(label, int) or not 0 <= label < generator.c_dim:
            raise ConfigError(f"class {label} is not allowed; this model has the classes 0 to {generator.c_dim - 1}")
        c = torch.eye(generator.c_dim, device=generator.device)[label][None]
    with torch.no_grad():
        z = z_from_seed(seed, generator.z_dim).to(generator.device)
        return generator.mapping(z, c, truncation_psi=truncation).cpu().numpy()


def render(generator: Generator, ws: Tensor) -> np.ndarray:
    """The picture of a latent, ``[height, width, 3]`` bytes."""
    with torch.no_grad():
        return to_uint8(generator.synthesis(ws))


def tab_of(request: gr.Request | None) -> str:
    """What tells one browser tab from another."""
    return getattr(request, "session_hash", None) or ""


def _tensor(array: np.ndarray, generator: Generator) -> Tensor:
    return torch.tensor(array, device=generator.device)
