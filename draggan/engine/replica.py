"""One process of many that compute: it takes any step of any drag, and faster those of drags that it knows.

Nothing is in it that is not elsewhere too: whoever asks has the recipe and the drag's state, and asks another one if
this one is gone.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8

from dnnlib.cache import replacing
from draggan.config import DragConfig, Precision
from draggan.drag import Drag, DragStep
from draggan.drag.state import DragState
from draggan.engine.computing import Drawing, Facts, LocalComputing
from draggan.engine.models import AnyModels, Model
from draggan.errors import DragGANError
from draggan.generators.base import Generator
from draggan.recipe import Edit, Recipe, Seed

__all__ = ["PROTOCOL", "Begun", "Order", "Replica", "Sent", "SentModels", "Taken"]

T = TypeVar("T")
PROTOCOL = 9
"""Of what is sent to replicas and back: another number for another form or meaning."""

_WARM = 64  # drags, and masks, that are kept ready
_MOST_BYTES = 8 << 30  # of files of models that were sent
_FEWEST = 8  # of them stay, whatever they have: some may be about to be read


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A model by its name and, where that says nothing elsewhere, its file.

    Attributes:
        name: as in recipes.
        file: of what name.
        sha256: of its content.
        content: where the content is to be had, for `Replica`'s ``fetch``; None: the name is enough.
        tuning: where a `draggan.tuning.Tuning` is to be had, likewise; None: the weights are the file's.
    """

    name: str
    file: str = ""
    sha256: str = ""
    content: Any = None
    tuning: Any = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Begun:
    """What a drag was begun with; all latents of the recipe are known."""

    recipe: Recipe
    edit: Edit
    config: DragConfig
    live: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """The next steps of a drag.

    Attributes:
        drag: which one, a name that no other has.
        model: that it needs.
        begun: where its `Begun` is to be had.
        index: of the first of them.
        seconds: one step after the other is taken for about so long; 0: one step.
        state: to go on from, if it is not known there; None before the first step.
        targets: ``[n, 2]`` image pixels.
        live, stopped: whether the targets may still move; whether somebody wants it to end.
    """

    drag: str
    model: Sent
    begun: Any
    index: int
    seconds: float
    state: DragState | None
    targets: Float[np.ndarray, "n 2"]
    live: bool
    stopped: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Taken:
    """Steps that were taken, and where the drag stands then.

    Attributes:
        steps: at least one.
        state: after the last of them.
        stop_distance, near: of the drag, image pixels (`draggan.drag.problem.Problem`).
    """

    steps: tuple[DragStep, ...]
    state: DragState
    stop_distance: float
    near: float


class SentModels:
    """Models by their names, and those whose files were sent (`draggan.engine.models.ModelSource`).

    Args:
        fetch: gets the content of a file from where it was put.
        device: where to load them.
    """

    def __init__(self, fetch: Callable[[Any], Any], device: str = "auto") -> None:
        self._models = AnyModels(device)
        self._fetch = fetch
        self._files: dict[str, Path] = {}
        self._received: OrderedDict[str, int] = OrderedDict()  # bytes by SHA-256, the last used at the end
        self._folder = tempfile.TemporaryDirectory(prefix="draggan-models-")
        self._lock = threading.Lock()

    def receive(self, model: Sent) -> str:
        """The name of a model, once its file is here."""
        if model.content is not None:
            with self._lock:
                path = Path(self._folder.name, model.sha256, re.sub(r"[^\w.-]", "_", model.file)[-100:])
                if not path.exists():
                    with replacing(path) as temporary:
                        temporary.write_bytes(self._fetch(model.content))
                self._files[model.name] = path
                self._received[model.sha256] = path.stat().st_size
                self._received.move_to_end(model.sha256)
                while len(self._received) > _FEWEST and sum(self._received.values()) > _MOST_BYTES:
                    self._forget(self._received.popitem(last=False)[0])
        return model.name

    def _forget(self, sha256: str) -> None:
        """A file is sent again when it is needed again."""
        shutil.rmtree(Path(self._folder.name, sha256), ignore_errors=True)
        for name in [name for name, path in self._files.items() if path.parent.name == sha256]:
            del self._files[name]

    def find(self, name: str) -> Model:
        """What is known of a model."""
        return Model(name=name, title=name) if name in self._files else self._models.find(name)

    def load(self, name: str) -> Generator:
        """Its generator."""
        return self._models.load(str(self._files.get(name, name)))

    def sha256(self, name: str) -> str:
        """Of its file."""
        return self._models.sha256(str(self._files.get(name, name)))


class Replica:
    """Computes what it is asked for; any number of threads may ask.

    Args:
        fetch: gets what was put somewhere for all, such as the `Begun` of an order.
        device: as for `draggan.device.choose_device`.
        threads: of PyTorch; None: its own choice.
    """

    def __init__(self, fetch: Callable[[Any], Any], device: str = "auto", threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._fetch = fetch
        self._models = SentModels(fetch, device)
        self._computing = LocalComputing(self._models)
        self._drags: _Kept[tuple[int, Drag]] = _Kept()
        self._drawings: _Kept[Drawing] = _Kept()

    def facts(self, model: Sent) -> Facts:
        """See `draggan.engine.computing.Computing.facts`; the model is loaded now."""
        return self._computing.facts(self._models.receive(model))

    def latent(self, model: Sent, start: Seed) -> Float[np.ndarray, "1 num_ws w_dim"]:
        """See `draggan.engine.computing.Computing.latent`."""
        return self._computing.latent(self._models.receive(model), start)

    def step(self, order: Order) -> Taken | None:
        """Take steps; None: where the drag stands is not known here, and was not told."""
        index, drag = self._drags.take(order.drag) or (-1, None)
        if drag is None or index != order.index:
            if order.index and order.state is None:
                return None
            drag = self._made(order.model, order.begun, order.state)
        drag.retarget(order.targets)
        if not order.live:
            drag.settle()
        if order.stopped:
            drag.stop()
        if drag.would_sleep():
            raise DragGANError("a step was asked for that a drag at rest does not take")
        begun = time.perf_counter()
        steps = [next(drag)]
        # As long as another one, of the length of those before, fits in.
        while not steps[-1].done and (time.perf_counter() - begun) * (1 + 1 / len(steps)) < order.seconds:
            steps.append(next(drag))
        if not steps[-1].done:
            self._drags.put(order.drag, (order.index + len(steps), drag))
        return Taken(steps=tuple(steps), state=drag.state(), stop_distance=drag.stop_distance, near=drag.near)

    def draw(
        self,
        name: str,
        model: Sent,
        begun: Any,
        ws: Float[np.ndarray, "1 num_ws w_dim"],
        height: int | None,
        precision: Precision,
    ) -> UInt8[np.ndarray, "_ _ channels"]:
        """A picture of `Begun` with this latent; see `draggan.engine.computing.Drawing`.

        Args:
            name: of all pictures that differ in their latent alone.
            begun: a recipe and an edit, or none.
        """
        drawing = self._drawings.take(name)
        if drawing is None:
            recipe, edit = self._fetch(begun)
            self._receive(model, recipe)
            drawing = self._computing.drawing(recipe, edit)
        try:
            return drawing(ws, height, precision)
        finally:
            self._drawings.put(name, drawing)

    def _receive(self, model: Sent, recipe: Recipe) -> None:
        self._models.receive(model)
        if model.tuning is not None:
            self._computing.tunings.keep(self._fetch(model.tuning), recipe.model.tuning)

    def _made(self, model: Sent, begun: Any, state: DragState | None) -> Drag:
        what: Begun = self._fetch(begun)
        self._receive(model, what.recipe)
        return self._computing.steps(what.recipe, what.edit, what.config, live=what.live, state=state)


class _Kept(Generic[T]):
    """The things used last, by name. One that is taken is nobody else's until it is put back."""

    def __init__(self) -> None:
        self._things: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str) -> T | None:
        with self._lock:
            return self._things.pop(name, None)

    def put(self, name: str, thing: T) -> None:
        with self._lock:
            self._things[name] = thing
            while len(self._things) > _WARM:
                self._things.popitem(last=False)
