"""Computing by replicas that are elsewhere: in other processes, on other machines. How they are asked is told apart.

All that a step needs goes with the request or can be fetched, so it does not matter who takes it (`replica.py`).
"""

from __future__ import annotations

import abc
import threading
import uuid
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8

from draggan.config import DragConfig, InversionConfig, Precision
from draggan.drag import DragStep
from draggan.drag.live import MovingTargets
from draggan.drag.state import DragState
from draggan.engine.computing import Drawing, Facts, SteppedDrag, inversion_here
from draggan.engine.models import ModelSource
from draggan.engine.replica import Begun, Order, Sent, Taken
from draggan.engine.tunings import Tunings
from draggan.errors import LatentError, ModelNotFound
from draggan.inversion.invert import Inversion
from draggan.recipe import Edit, Recipe, Seed
from draggan.tuning import Tuning

__all__ = ["FileSource", "RemoteComputing"]

_MOST_BYTES = 2 << 30  # of files that are held for replicas; one of them always is
_MOST_FACTS = 1000


@runtime_checkable
class FileSource(Protocol):
    """Models of which some are files of this machine alone."""

    def file(self, name: str) -> Path | None:
        """Such a file; None: the name is enough everywhere."""


class RemoteComputing(abc.ABC):
    """Has everything computed by replicas (`draggan.engine.computing.Computing`).

    Args:
        models: what is known of models here.
        slice_seconds: of steps in one request, where no hand leads.
    """

    def __init__(self, models: ModelSource, *, slice_seconds: float) -> None:
        self._models = models
        self.slice_seconds = slice_seconds
        # What was not asked for longest goes first: every visitor may open a model of their own.
        self._facts: OrderedDict[tuple[str, str], Facts] = OrderedDict()
        self._contents: OrderedDict[str, tuple[int, Any]] = OrderedDict()  # with how many bytes it has
        self.tunings = Tunings()
        # For as long as the tunings themselves are held.
        self._sent_tunings: weakref.WeakKeyDictionary[Tuning, Any] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    @abc.abstractmethod
    def call(self, method: str, *args: Any, model: Sent, run: str = "") -> Any:
        """Have a replica do something (`draggan.engine.replica.Replica`).

        Args:
            model: that it needs.
            run: name of what it is a part of, such as a drag; best goes to the replica that has done the part before.

        Raises:
            LimitError: all are too busy.
            DragGANError: nobody could do it; and whatever a replica has raised.
        """

    @abc.abstractmethod
    def put(self, value: Any) -> Any:
        """What replicas fetch it by."""

    def facts(self, model: str) -> Facts:
        """See `draggan.engine.computing.Computing.facts`."""
        sent = self.sent(model)
        key = sent.name, sent.sha256
        with self._lock:
            known = self._facts.get(key)
        if known is None:
            known = self.call("facts", sent, model=sent)
        with self._lock:
            self._facts[key] = known
            self._facts.move_to_end(key)
            while len(self._facts) > _MOST_FACTS:
                self._facts.popitem(last=False)
        return known

    def check_latent(self, model: str, ws: Float[np.ndarray, "1 num_ws w_dim"]) -> None:
        """See `draggan.engine.computing.Computing.check_latent`."""
        wanted = self.facts(model).latent
        if ws.shape[1:] != wanted:
            raise LatentError(
                f"a latent code of shape {list(ws.shape)} is not one of this model; its latents are {[1, *wanted]}"
            )

    def latent(self, model: str, start: Seed) -> Float[np.ndarray, "1 num_ws w_dim"]:
        """See `draggan.engine.computing.Computing.latent`."""
        sent = self.sent(model)
        return self.call("latent", sent, start, model=sent)

    def steps(self, recipe: Recipe, edit: Edit, config: DragConfig, *, live: bool) -> SteppedDrag:
        """See `draggan.engine.computing.Computing.steps`."""
        return _RemoteSteps(self, self._sent_for(recipe), Begun(recipe=recipe, edit=edit, config=config, live=live))

    def drawing(self, recipe: Recipe, edit: Edit | None) -> Drawing:
        """See `draggan.engine.computing.Computing.drawing`."""
        return _RemoteDrawing(self, self._sent_for(recipe), recipe, edit)

    def inversion(
        self, model: str, photo: UInt8[np.ndarray, "height width 3"], config: InversionConfig, sha256: str
    ) -> Inversion:
        """See `draggan.engine.computing.Computing.inversion`. Computed here: a photo does not travel."""
        return inversion_here(self._models, model, photo, config, sha256)

    def close(self) -> None:  # noqa: B027  # most have nothing to give back
        """See `draggan.engine.computing.Computing.close`."""

    def _sent_for(self, recipe: Recipe) -> Sent:
        """The model of a recipe, with the tuned weights that it needs."""
        sent, digest = self.sent(recipe.model.name), recipe.model.tuning
        if not digest:
            return sent
        tuning = self.tunings.get(digest)
        with self._lock:
            if tuning not in self._sent_tunings:
                self._sent_tunings[tuning] = self.put(tuning)
            return replace(sent, tuning=self._sent_tunings[tuning])

    def sent(self, name: str) -> Sent:
        """A model as replicas know it.

        Raises:
            ModelNotFound: it is not one that is offered here.
        """
        if not self._models.find(name).here:
            raise ModelNotFound(f"the model '{name}' is not on this machine; download it first")
        path = self._models.file(name) if isinstance(self._models, FileSource) else None
        if path is None:
            return Sent(name=name)
        sha256 = self._models.sha256(name)
        with self._lock:
            if sha256 not in self._contents:
                content = path.read_bytes()
                self._contents[sha256] = len(content), self.put(content)
            self._contents.move_to_end(sha256)
            # Whoever drags with one that goes holds it for as long.
            while len(self._contents) > 1 and sum(size for size, _ in self._contents.values()) > _MOST_BYTES:
                self._contents.popitem(last=False)
            return Sent(name=name, file=path.name, sha256=sha256, content=self._contents[sha256][1])


class _RemoteSteps:
    """A drag whose steps replicas take (`draggan.engine.computing.SteppedDrag`).

    Args:
        computing: who is asked.
        model: of the recipe.
        begun: what it is begun with.
    """

    def __init__(self, computing: RemoteComputing, model: Sent, begun: Begun) -> None:
        self._computing, self._model = computing, model
        self._name = uuid.uuid4().hex
        self._begun = computing.put(begun)
        points = begun.edit.points
        self._handles = torch.tensor([point.handle for point in points], dtype=torch.float32)
        targets = torch.tensor([point.target for point in points], dtype=torch.float32)
        # What comes with the first step is not needed before it.
        self.stop_distance = 0.0
        self._moving = MovingTargets(targets, near=0.0, live=begun.live)
        self._state: DragState | None = None
        self._ahead: deque[DragStep] = deque()  # taken, and not asked for yet
        self._index, self._ended = 0, False

    def __iter__(self) -> Iterator[DragStep]:
        return self

    def __next__(self) -> DragStep:
        if self._ended:
            raise StopIteration
        if not self._ahead:
            self._ask()
        step = self._ahead.popleft()
        self._ended = step.done
        return step

    def _ask(self) -> None:
        """Have the next steps taken."""
        targets, live = self._moving.newest(self._handles)
        taken = self._taken(targets.numpy(), live, None)
        if taken is None:
            # The replica that knew it is gone, or too busy.
            taken = self._taken(targets.numpy(), live, self._state)
        assert taken is not None
        self._state = taken.state
        self._moving.idle = taken.state.idle
        # A copy: what comes from elsewhere cannot be written to.
        self._handles = torch.tensor(taken.steps[-1].handles)
        self.stop_distance, self._moving.near = taken.stop_distance, taken.near
        self._index += len(taken.steps)
        self._ahead.extend(taken.steps)

    def would_sleep(self) -> bool:
        """See `draggan.drag.Drag.would_sleep`."""
        return not (self._ended or self._ahead) and self._moving.would_sleep(self._handles)

    def stop(self) -> None:
        """See `draggan.drag.Drag.stop`."""
        self._moving.stop()

    def retarget(self, targets: Float[np.ndarray, "n 2"]) -> None:
        """See `draggan.drag.Drag.retarget`."""
        self._moving.retarget(torch.from_numpy(np.asarray(targets, np.float32)))

    def settle(self) -> None:
        """See `draggan.drag.Drag.settle`."""
        self._moving.settle()

    def _taken(self, targets: Float[np.ndarray, "n 2"], live: bool, state: DragState | None) -> Taken | None:
        order = Order(
            drag=self._name,
            model=self._model,
            begun=self._begun,
            index=self._index,
            seconds=0.0 if live else self._computing.slice_seconds,
            state=state,
            targets=targets,
            live=live,
            stopped=self._moving.stopped,
        )
        return self._computing.call("step", order, model=self._model, run=self._name)


class _RemoteDrawing:
    """Pictures that replicas draw (`draggan.engine.computing.Drawing`)."""

    def __init__(self, computing: RemoteComputing, model: Sent, recipe: Recipe, edit: Edit | None) -> None:
        self._computing, self._model = computing, model
        self._name = uuid.uuid4().hex
        self._begun = computing.put((recipe, edit))

    def __call__(
        self, ws: Float[np.ndarray, "1 num_ws w_dim"], height: int | None = None, precision: Precision = "float32"
    ) -> UInt8[np.ndarray, "_ _ channels"]:
        return self._computing.call(
            *("draw", self._name, self._model, self._begun, ws, height, precision),
            model=self._model,
            run=self._name,
        )
