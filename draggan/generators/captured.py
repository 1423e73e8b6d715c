"""Features of a frozen network and their gradient, each as one CUDA graph.

On a GPU a step of a drag is a few hundred operations on windows of ten cells; giving them to the device one by one
takes longer than they do. A graph is all of them in one call, with the shapes, addresses and numbers they had when they
were recorded. So a pass is recorded once per kind (`_key`), over the buffers of a `SteadyLayout`; from then on its
inputs (latent rows, where the windows are) are written to their buffers, and the graph is run again.

* Forward and backward are two graphs, for a drag decides between them. What the one leaves for the other is overwritten
  by the next forward pass, of another session perhaps: a counter notices, and that forward pass is repeated first.
* Rows that ask for a gradient are inputs. Of the others, style and demodulation factor are, which seldom change; if no
  row asks, all are inputs.
* Recording takes three passes and waits for the device, so a kind of pass is recorded the third time it is asked for.
* What was recorded is compared with the ordinary pass before it is used, on inputs that were not there when it was
  recorded. If it differs, or recording fails, the network goes the ordinary way from then on, and the log says why.

Both graphs are recorded before the first is used, so that all of this happens in one place, not in autograd's threads.
``DRAGGAN_CUDA_GRAPHS=0`` turns it off. None of this has run on a GPU yet: the tests record on processors, by the rules
of CUDA's graphs (tests/test_captured.py).
"""

from __future__ import annotations

import abc
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from draggan.generators import frozen
from draggan.generators.frozen import Layout, Modulation
from draggan.generators.steady import SteadyLayout
from draggan.geometry import Windows
from torch_utils.ops import status
from torch_utils.pytorch_internals import below_autograd, is_transformed, version

__all__ = ["Recorder", "features", "possible", "wanted"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

# A kind of pass is recorded when it is asked for so often. So many are kept per network, in so many bytes; one that
# would take more than half of them is not recorded: its operations are long.
OFTEN, KEPT, MEMORY = 3, 16, 1 << 30
# How much of their norm features may differ by from the ordinary ones, and gradients by three times as much. Windows of
# other sizes may be convolved by other algorithms, on GPUs in TensorFloat-32; inputs that are not read, or memory that
# is another's, make all of it differ.
TOLERANCE = {torch.float32: 1e-2, torch.float16: 3e-2, torch.bfloat16: 1e-1}


class Recorder(abc.ABC):
    """Records work on a device, to be done again at the same addresses."""

    @abc.abstractmethod
    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """Do the work a few times, then record it.

        Returns:
            What the work returned, whose tensors hold results after each replay; and what replays it.
        """

    @abc.abstractmethod
    def begin(self) -> None:
        """What is given to the device from here on comes after all that was replayed before."""


# By device. Recorded is on one stream, so that libraries have their workspaces there beforehand. Replayed is on any:
# this is the one last used, so that another can wait for it.
_record_streams: dict[torch.device, torch.cuda.Stream] = {}
_replay_streams: dict[torch.device, torch.cuda.Stream] = {}


class _CudaRecorder(Recorder):
    """CUDA graphs that share their memory: the second leaves alone what the first one's results hold."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._pool = device, torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        with torch.cuda.device(self._device):
            if self._device not in _record_streams:
                _record_streams[self._device] = torch.cuda.Stream(self._device)
            stream = _record_streams[self._device]
            stream.wait_stream(torch.cuda.current_stream())
            # Leaves the stream again even where `torch.cuda.graph` fails to.
            with torch.cuda.stream(stream):
                # Graphs that are replayed elsewhere have libraries' workspaces in common with this.
                self.begin()
                for _ in range(2):
                    work()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                    result = work()
            torch.cuda.current_stream().wait_stream(stream)
        return result, graph.replay

    def begin(self) -> None:
        now = torch.cuda.current_stream(self._device)
        last = _replay_streams.get(self._device)
        if last is not None and last != now:
            now.wait_stream(last)
        _replay_streams[self._device] = now


# By kind of device.
_recorders: dict[str, Callable[[torch.device], Recorder]] = {"cuda": _CudaRecorder}


def wanted() -> bool:
    """Whether graphs may be used at all: ``DRAGGAN_CUDA_GRAPHS`` is not 0."""
    return status.switched_on("DRAGGAN_CUDA_GRAPHS")


def possible(rows: Sequence[Tensor]) -> bool:
    """Whether a pass over these rows could be a graph: on such a device, and nobody traces or transforms it."""
    first = rows[0]
    return (
        first.device.type in _recorders
        and wanted()
        and all(type(row) in (Tensor, nn.Parameter) and row.shape == first.shape for row in rows)
        and not torch.compiler.is_compiling()
        and not is_transformed()
        and not (first.device.type == "cuda" and torch.cuda.is_current_stream_capturing())
    )


def features(
    network: nn.Module,
    kind: tuple[Any, ...],
    rows: Sequence[Tensor],
    windows: Windows | None,
    make: Callable[[int], SteadyLayout | None],
    ordinary: Callable[[], Layout | None],
) -> Tensor | None:
    """`frozen.features` by a graph; None where there is none (yet).

    Args:
        kind: what tells apart passes of a network that need different layouts.
        rows: of the latent, as for `possible`.
        windows: where they are; None for whole maps.
        make: makes a layout for windows of this size and number and that batch of latents; None: there is none.
        ordinary: makes the layout that the result is compared with.
    """
    graphs = _graphs(network, kind, rows, windows, make, ordinary)
    if graphs is None:
        return None
    inputs = graphs.inputs(windows, rows)
    return _Replay.apply(graphs, inputs.windows, inputs.still, *inputs.rows)


def _asked(rows: Sequence[Tensor]) -> tuple[bool, ...]:
    asking = torch.is_grad_enabled()
    return tuple(asking and row.requires_grad for row in rows)


def _key(kind: tuple[Any, ...], rows: Sequence[Tensor]) -> tuple[Any, ...]:
    """With which rows ask, how many latents there are, and what decides which operations are recorded."""
    operations = status.available(rows[0]), torch.are_deterministic_algorithms_enabled()
    return *kind, _asked(rows), rows[0].shape, rows[0].device, *operations


class _Replay(torch.autograd.Function):
    """Only rows that are inputs of the graph are among the arguments."""

    @staticmethod
    def forward(
        ctx: Any, graphs: _Graphs, windows: Windows | None, still: tuple[Modulation | None, ...], *rows: Tensor
    ) -> Tensor:
        y, ctx.turn = graphs.forward(_Inputs(windows, rows, still))
        ctx.graphs, ctx.windows, ctx.still = graphs, windows, still
        ctx.save_for_backward(*rows)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs = _Inputs(ctx.windows, ctx.saved_tensors, ctx.still)
        to_rows, ctx.turn = ctx.graphs.backward(ctx.turn, inputs, gradient)
        return None, None, None, *to_rows


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What a pass depends on.

    Attributes:
        rows: those that are inputs.
        still: of the others, what multiplies features; None in the place of a row that is an input.
    """

    windows: Windows | None
    rows: Sequence[Tensor]
    still: tuple[Modulation | None, ...]


class _Graphs:
    """Passes of one kind, recorded; with all the memory that they read and write.

    Args:
        asked: which layers' rows ask for a gradient.
        like: one row.

    Attributes:
        memory: about how many bytes stay in use between passes.
    """

    def __init__(self, layout: SteadyLayout, asked: tuple[bool, ...], like: Tensor, recorder: Recorder) -> None:
        batch, width = like.shape
        device, dtype = like.device, layout.dtype
        self._layout, self._asked, self._batch, self._recorder = layout, asked, batch, recorder
        self._moving = asked if any(asked) else (True,) * len(asked)
        self._rows = torch.zeros(sum(self._moving), batch, width, device=device)
        self._still: list[tuple[Tensor, Tensor] | None] = []
        for layer, moves in zip(layout.layers, self._moving, strict=True):
            out, into = layer.ready.weight.shape[:2]
            s = torch.zeros(batch, into, 1, 1, dtype=dtype, device=device)
            d = torch.zeros(batch, out, dtype=dtype if dtype == torch.float16 else torch.float32, device=device)
            self._still.append(None if moves else (s, d))
        # What the buffers hold: a row's modulation is one object for as long as the row stays as it is.
        self._held: list[Modulation | None] = [None] * len(asked)
        self._turn, self.memory = 0, _memory(layout, batch)
        self._weights = self._states()
        self._gradient: Tensor | None = None
        with _replaying:
            (self._features, self._saved), self._run_forward = recorder.record(self._forward)
            if any(asked):
                self._run_forward()
                self._gradient = torch.zeros_like(self._features)
                self._to_rows, self._run_backward = recorder.record(self._backward)

    def current(self) -> bool:
        """Whether the layers still have the weights that were recorded, where they were."""
        return self._layout.current() and self._states() == self._weights

    def _states(self) -> list[tuple[int, int | None]]:
        weights = [layer.ready.weight for layer in self._layout.layers]
        return [(w.data_ptr(), version(w)) for w in weights if not w.is_inference()]

    def inputs(self, windows: Windows | None, rows: Sequence[Tensor]) -> _Inputs:
        """Those of a pass over these rows of a latent."""
        layout = self._layout
        own = [rows[k] for k in layout.rows]
        with torch.autocast(own[0].device.type, enabled=False), below_autograd():
            still = tuple(
                None if moves else frozen.remembered(layer, row, layout.dtype)
                for layer, row, moves in zip(layout.layers, own, self._moving, strict=True)
            )
        return _Inputs(windows, [row for row, moves in zip(own, self._moving, strict=True) if moves], still)

    def forward(self, inputs: _Inputs) -> tuple[Tensor, int]:
        """The features; and the number of this pass, for `backward`."""
        with _replaying:
            self._recorder.begin()
            self._compute(inputs)
            return self._features.clone(), self._turn

    def backward(self, turn: int, inputs: _Inputs, gradient: Tensor) -> tuple[tuple[Tensor, ...], int]:
        """Gradients to the rows that are inputs; and the number of the pass that is now the last.

        Args:
            turn: the number of the forward pass, in case no other came in between.
            inputs: those it had, in case one did.
        """
        assert self._gradient is not None
        with _replaying:
            self._recorder.begin()
            if turn != self._turn:
                self._compute(inputs)
            self._gradient.copy_(gradient)
            self._run_backward()
            return self._to_rows.clone().unbind(), self._turn

    def _compute(self, inputs: _Inputs) -> None:
        """Bring the inputs to where they are read, and replay."""
        # Whatever becomes of this, what earlier passes left is gone.
        self._turn += 1
        if inputs.rows:
            torch.stack(list(inputs.rows), out=self._rows)
        for k, (new, buffers) in enumerate(zip(inputs.still, self._still, strict=True)):
            if new is not None and buffers is not None and self._held[k] is not new:
                buffers[0].copy_(new[2])
                buffers[1].copy_(new[3])
                self._held[k] = new
        self._layout.move(inputs.windows)
        self._run_forward()

    def _forward(self) -> tuple[Tensor, list[Tensor | None]]:
        """What is recorded: features from the buffers, and what their gradient needs."""
        layout = self._layout
        with torch.autocast(self._rows.device.type, enabled=False), below_autograd():
            layout.locate()
            moving = [layer for layer, moves in zip(layout.layers, self._moving, strict=True) if moves]
            new = iter(frozen.modulated(moving, self._rows.unbind(), layout.dtype))
            modulations = [next(new) if still is None else (*still, *still) for still in self._still]
            return frozen.forward(layout, modulations, self._asked, self._batch)

    def _backward(self) -> Tensor:
        """What is recorded: gradients to the rows, one after the other."""
        assert self._gradient is not None
        with torch.autocast(self._rows.device.type, enabled=False), below_autograd():
            to_rows = frozen.backward(self._layout, self._saved, self._asked, self._batch, self._gradient)
            return torch.stack([g for g in to_rows if g is not None])

    def check(self, windows: Windows | None, rows: Sequence[Tensor], ordinary: Layout) -> None:
        """Both passes against the ordinary ones.

        Raises:
            _DiffersError: they give something else.
        """
        inputs, dtype = self.inputs(windows, rows), self._layout.dtype
        y, turn = self.forward(inputs)
        with torch.autocast(y.device.type, enabled=False), below_autograd():
            modulations = frozen.modulated(ordinary.layers, [rows[k] for k in ordinary.rows], dtype)
            expected, saved = frozen.forward(ordinary, modulations, self._asked, self._batch)
            _compare("features", y, expected, TOLERANCE[dtype])
            if self._gradient is None:
                return
            # The gradient of half the sum of squares.
            to_rows, _ = self.backward(turn, inputs, expected)
            gradients = frozen.backward(ordinary, saved, self._asked, self._batch, expected)
            asked = torch.stack([g for g in gradients if g is not None])
            _compare("gradients", torch.stack(to_rows), asked, 3 * TOLERANCE[dtype])


def _memory(layout: Layout, batch: int) -> int:
    """Three maps per layer: its input, what its convolution gave, its result."""
    sizes = [
        layer.ready.weight.shape[0] * max(len(layer.starts), batch) * math.prod(layer.wanted_size)
        for layer in layout.layers
    ]
    return 3 * sum(sizes) * layout.dtype.itemsize


class _DiffersError(RuntimeError):
    """A replay gave something else than the ordinary pass."""


def _compare(what: str, got: Tensor, expected: Tensor, tolerance: float) -> None:
    difference, size = (t.double().norm().item() for t in (got.double() - expected, expected))
    # Not a number is not less.
    if not difference <= tolerance * size:
        raise _DiffersError(f"replayed {what} differ by {difference:.3g} from {what} of norm {size:.3g}")


@dataclass(eq=False)
class _Known:
    """Of one network: how often which pass was asked for, what is recorded, and where that is no use."""

    asked: OrderedDict[tuple[Any, ...], int] = field(default_factory=OrderedDict)
    graphs: OrderedDict[tuple[Any, ...], _Graphs] = field(default_factory=OrderedDict)
    given_up: set[torch.device] = field(default_factory=set)


_networks: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()
# For the tables; for recording, of which a process does one at a time; for one pass from its inputs to its results, so
# that no two passes mix. Taken in the order recording, replaying, tables.
_lock, _recording, _replaying = threading.Lock(), threading.Lock(), threading.Lock()


def _graphs(
    network: nn.Module,
    kind: tuple[Any, ...],
    rows: Sequence[Tensor],
    windows: Windows | None,
    make: Callable[[int], SteadyLayout | None],
    ordinary: Callable[[], Layout | None],
) -> _Graphs | None:
    """What is recorded of this kind of pass, recording it if it is asked for often enough."""
    key, asked, device = _key(kind, rows), _asked(rows), rows[0].device
    with _lock:
        known = _networks.setdefault(network, _Known())
        if device in known.given_up:
            return None
        found = _current(known, key)
        if found is not None:
            return found
        known.asked[key] = count = known.asked.pop(key, 0) + 1
        if len(known.asked) > 8 * KEPT:
            known.asked.popitem(last=False)
    if count < OFTEN:
        return None
    with _recording:
        with _lock:
            if device in known.given_up:
                return None
            found = _current(known, key)
        return found or _record(known, key, asked, windows, rows, make, ordinary)


def _record(
    known: _Known,
    key: tuple[Any, ...],
    asked: tuple[bool, ...],
    windows: Windows | None,
    rows: Sequence[Tensor],
    make: Callable[[int], SteadyLayout | None],
    ordinary: Callable[[], Layout | None],
) -> _Graphs | None:
    """Record a pass, compare it, and keep it; None if that is no use."""
    device = rows[0].device
    try:
        # Later passes may want gradients even if this one is for inference.
        with torch.inference_mode(False), torch.no_grad():
            layout, reference = make(len(rows[0])), ordinary()
            if layout is None or reference is None or _memory(layout, len(rows[0])) > MEMORY / 2:
                with _lock:
                    known.asked[key] = -100  # and does not plan it every time
                return None
            found = _Graphs(layout, tuple(asked[k] for k in layout.rows), rows[0], _recorders[device.type](device))
            found.check(windows, rows, reference)
    except RuntimeError as error:
        with _lock:
            known.given_up.add(device)
            known.graphs.clear()
        _log.warning("features are computed without CUDA graphs on %s, more slowly: %s", device, error)
        return None
    with _lock:
        known.graphs[key] = found
        while len(known.graphs) > 1 and (
            len(known.graphs) > KEPT or sum(g.memory for g in known.graphs.values()) > MEMORY
        ):
            # One that comes back now and then is not recorded again at once.
            known.asked.pop(known.graphs.popitem(last=False)[0], None)
    return found


def _current(known: _Known, key: tuple[Any, ...]) -> _Graphs | None:
    found = known.graphs.get(key)
    if found is None:
        return None
    if not found.current():
        # They hold the weights that the layers had.
        known.graphs.clear()
        return None
    known.graphs.move_to_end(key)
    return found
