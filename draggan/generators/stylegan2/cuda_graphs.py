"""Features of a StyleGAN2 with frozen weights and their gradient, each recorded and replayed as one CUDA graph.

Fifth in the stack, above `static_shapes`. On a GPU a step of a drag is a few hundred operations on windows of ten
cells; giving them to the device one by one takes longer than they do. A graph is all of them in one call, with the
shapes, addresses and numbers they had when they were recorded. So a pass is recorded once per kind (`_key`), over the
buffers of a `MovableLayout`; from then on its inputs (latent rows, where the windows are) are written to their buffers,
and the graph is run again.

* Forward and backward are two graphs, for a drag decides between them. What the one leaves for the other is overwritten
  by the next forward pass, of another session perhaps: a counter notices, and that forward pass is repeated first.
* Rows that need a gradient are inputs. Of the others, style and demodulation factor are, which seldom change; if no
  row needs one, all are inputs.
* Recording takes three passes and waits for the device, so a kind of pass is recorded the third time it is asked for
  (`torch_utils.recorder`).
* What was recorded is compared with the ordinary pass before it is used, on inputs that were not there when it was
  recorded. If it differs, or recording fails, the network goes the ordinary way from then on, and the log says why.

Both graphs are recorded before the first is used, so that all of this happens in one place, not in autograd's threads.
``DRAGGAN_CUDA_GRAPHS=0`` turns it off. It has run on one GPU, in an earlier version; the tests record on processors, by
the rules of CUDA's graphs (tests/test_cuda_graphs.py).
"""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from draggan.generators.stylegan2 import analytic
from draggan.generators.stylegan2.analytic import Layout, Modulation
from draggan.generators.stylegan2.networks import SynthesisNetwork
from draggan.generators.stylegan2.static_shapes import MovableLayout, movable_layout_for
from draggan.geometry import Windows
from torch_utils import recorder as recorders
from torch_utils.ops import status
from torch_utils.pytorch_internals import below_autograd, version
from torch_utils.recorder import Recorder

__all__ = ["RecordedPass", "recorded_pass"]

_log = logging.getLogger(__name__)

# So many are kept per network, in so many bytes; one that would take more than half of them is not recorded: its
# operations are long.
MAX_RECORDED, MAX_BYTES = 16, 1 << 30
# How much of their norm features may differ by from the ordinary ones, and gradients by three times as much. Windows of
# other sizes may be convolved by other algorithms, on GPUs in TensorFloat-32; inputs that are not read, or memory that
# is another's, make all of it differ.
TOLERANCE = {torch.float32: 1e-2, torch.float16: 3e-2, torch.bfloat16: 1e-1}


def recorded_pass(
    synthesis: SynthesisNetwork, resolution: int, rows: Sequence[Tensor], windows: Windows | None
) -> RecordedPass | None:
    """The graphs of this kind of pass, recorded now if it is asked for often enough; None: there are none (yet).

    Args:
        resolution: of the block whose features are asked for.
        rows: of the latent.
        windows: of the features; None for whole maps.
    """
    if not (all(row.shape == rows[0].shape for row in rows) and recorders.can_record(rows)):
        return None
    key, device = _key(synthesis, resolution, rows, windows), rows[0].device
    with _lock:
        known = _networks.setdefault(synthesis, _NetworkGraphs())
        if device in known.failed_on:
            return None
        found = known.current(key)
        if found is not None:
            return found
        known.requests[key] = count = known.requests.pop(key, 0) + 1
        if len(known.requests) > 8 * MAX_RECORDED:
            known.requests.popitem(last=False)
    if count < recorders.RECORD_AFTER:
        return None
    with recorders.recording():
        with _lock:
            if device in known.failed_on:
                return None
            found = known.current(key)
        return found or _record(known, key, synthesis, resolution, rows, windows)


def _needs_grad(rows: Sequence[Tensor]) -> tuple[bool, ...]:
    enabled = torch.is_grad_enabled()
    return tuple(enabled and row.requires_grad for row in rows)


def _key(
    synthesis: SynthesisNetwork, resolution: int, rows: Sequence[Tensor], windows: Windows | None
) -> tuple[Any, ...]:
    """What tells recorded passes of a network apart: all that decides which operations there are, on which shapes."""
    # Wherever they are, that is.
    some = None if windows is None else Windows(((0, 0),) * len(windows), windows.size)
    operations = status.available(rows[0]), torch.are_deterministic_algorithms_enabled()
    latent = _needs_grad(rows), rows[0].shape, rows[0].device
    return resolution, some, analytic.feature_type(synthesis), *latent, *operations


class _Replay(torch.autograd.Function):
    """Only rows that are inputs of the graph are among the arguments."""

    @staticmethod
    def forward(
        ctx: Any, graphs: RecordedPass, windows: Windows | None, fixed: tuple[Modulation | None, ...], *rows: Tensor
    ) -> Tensor:
        y, ctx.number = graphs.forward(_Inputs(windows, rows, fixed))
        ctx.graphs, ctx.windows, ctx.fixed = graphs, windows, fixed
        ctx.save_for_backward(*rows)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs = _Inputs(ctx.windows, ctx.saved_tensors, ctx.fixed)
        to_rows, ctx.number = ctx.graphs.backward(ctx.number, inputs, gradient)
        return None, None, None, *to_rows


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What a pass depends on.

    Attributes:
        rows: those that are inputs.
        fixed: of the others, what multiplies features; None in the place of a row that is an input.
    """

    windows: Windows | None
    rows: Sequence[Tensor]
    fixed: tuple[Modulation | None, ...]


class RecordedPass:
    """Passes of one kind, recorded; with all the memory that they read and write.

    Args:
        needs_grad: which layers' rows need a gradient.
        like: one row.

    Attributes:
        memory: about how many bytes stay in use between passes.
    """

    def __init__(self, layout: MovableLayout, needs_grad: tuple[bool, ...], like: Tensor, recorder: Recorder) -> None:
        batch, width = like.shape
        device, dtype = like.device, layout.dtype
        self._layout, self._needs_grad, self._batch, self._recorder = layout, needs_grad, batch, recorder
        self._variable = needs_grad if any(needs_grad) else (True,) * len(needs_grad)
        self._rows = torch.zeros(sum(self._variable), batch, width, device=device)
        self._fixed: list[tuple[Tensor, Tensor] | None] = []
        for layer, varies in zip(layout.layers, self._variable, strict=True):
            out, into = layer.weights.kernel.shape[:2]
            s = torch.zeros(batch, into, 1, 1, dtype=dtype, device=device)
            d = torch.zeros(batch, out, dtype=dtype if dtype == torch.float16 else torch.float32, device=device)
            self._fixed.append(None if varies else (s, d))
        # What the buffers hold: a row's modulation is one object for as long as the row stays as it is.
        self._loaded: list[Modulation | None] = [None] * len(needs_grad)
        self._number, self.memory = 0, _memory(layout, batch)
        self._weights = self._states()
        self._gradient: Tensor | None = None
        with recorders.replaying():
            (self._features, self._saved), self._run_forward = recorder.record(self._forward)
            if any(needs_grad):
                self._run_forward()
                self._gradient = torch.zeros_like(self._features)
                self._to_rows, self._run_backward = recorder.record(self._backward)

    def is_current(self) -> bool:
        """Whether the layers still have the weights that were recorded, where they were."""
        return self._layout.is_current() and self._states() == self._weights

    def _states(self) -> list[tuple[int, int | None]]:
        weights = [layer.weights.kernel for layer in self._layout.layers]
        return [(w.data_ptr(), version(w)) for w in weights if not w.is_inference()]

    def inputs(self, windows: Windows | None, rows: Sequence[Tensor]) -> _Inputs:
        """Those of a pass over these rows of a latent."""
        layout = self._layout
        own = [rows[k] for k in layout.rows]
        with torch.autocast(own[0].device.type, enabled=False), below_autograd():
            fixed = tuple(
                None if varies else analytic.cached_modulation(layer, row, layout.dtype)
                for layer, row, varies in zip(layout.layers, own, self._variable, strict=True)
            )
        return _Inputs(windows, [row for row, varies in zip(own, self._variable, strict=True) if varies], fixed)

    def features(self, rows: Sequence[Tensor], windows: Windows | None) -> Tensor:
        """What `analytic.analytic_features` gives of windows at these places, by a replay; differentiable once."""
        inputs = self.inputs(windows, rows)
        return _Replay.apply(self, inputs.windows, inputs.fixed, *inputs.rows)

    def forward(self, inputs: _Inputs) -> tuple[Tensor, int]:
        """The features; and the number of this pass, for `backward`."""
        with recorders.replaying():
            self._recorder.wait_for_replays()
            self._compute(inputs)
            return self._features.clone(), self._number

    def backward(self, number: int, inputs: _Inputs, gradient: Tensor) -> tuple[tuple[Tensor, ...], int]:
        """Gradients to the rows that are inputs; and the number of the pass that is now the last.

        Args:
            number: the number of the forward pass, in case no other came in between.
            inputs: those it had, in case one did.
        """
        assert self._gradient is not None
        with recorders.replaying():
            self._recorder.wait_for_replays()
            if number != self._number:
                self._compute(inputs)
            self._gradient.copy_(gradient)
            self._run_backward()
            return self._to_rows.clone().unbind(), self._number

    def _compute(self, inputs: _Inputs) -> None:
        """Bring the inputs to where they are read, and replay."""
        # Whatever becomes of this, what earlier passes left is gone.
        self._number += 1
        if inputs.rows:
            torch.stack(list(inputs.rows), out=self._rows)
        for k, (new, buffers) in enumerate(zip(inputs.fixed, self._fixed, strict=True)):
            if new is not None and buffers is not None and self._loaded[k] is not new:
                buffers[0].copy_(new[2])
                buffers[1].copy_(new[3])
                self._loaded[k] = new
        self._layout.move(inputs.windows)
        self._run_forward()

    def _forward(self) -> tuple[Tensor, list[Tensor | None]]:
        """What is recorded: features from the buffers, and what their gradient needs."""
        layout = self._layout
        with torch.autocast(self._rows.device.type, enabled=False), below_autograd():
            layout.locate()
            variable = [layer for layer, varies in zip(layout.layers, self._variable, strict=True) if varies]
            new = iter(analytic.compute_modulations(variable, self._rows.unbind(), layout.dtype))
            modulations = [next(new) if fixed is None else (*fixed, *fixed) for fixed in self._fixed]
            return analytic.forward(layout, modulations, self._needs_grad, self._batch)

    def _backward(self) -> Tensor:
        """What is recorded: gradients to the rows, one after the other."""
        assert self._gradient is not None
        with torch.autocast(self._rows.device.type, enabled=False), below_autograd():
            to_rows = analytic.backward(self._layout, self._saved, self._needs_grad, self._batch, self._gradient)
            return torch.stack([g for g in to_rows if g is not None])

    def check(self, windows: Windows | None, rows: Sequence[Tensor], ordinary: Layout) -> None:
        """Both passes against the ordinary ones.

        Raises:
            _DiffersError: they give something else.
        """
        inputs, dtype = self.inputs(windows, rows), self._layout.dtype
        y, number = self.forward(inputs)
        with torch.autocast(y.device.type, enabled=False), below_autograd():
            modulations = analytic.compute_modulations(ordinary.layers, [rows[k] for k in ordinary.rows], dtype)
            expected, saved = analytic.forward(ordinary, modulations, self._needs_grad, self._batch)
            _compare("features", y, expected, TOLERANCE[dtype])
            if self._gradient is None:
                return
            # The gradient of half the sum of squares.
            to_rows, _ = self.backward(number, inputs, expected)
            gradients = analytic.backward(ordinary, saved, self._needs_grad, self._batch, expected)
            needs_grad = torch.stack([g for g in gradients if g is not None])
            _compare("gradients", torch.stack(to_rows), needs_grad, 3 * TOLERANCE[dtype])


def _memory(layout: Layout, batch: int) -> int:
    """Three maps per layer: its input, what its convolution gave, its result."""
    sizes = [
        layer.weights.kernel.shape[0] * max(layer.window_count, batch) * math.prod(layer.output_size)
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
class _NetworkGraphs:
    """Of one network: how often which pass was asked for, what is recorded, and on which devices recording failed."""

    requests: OrderedDict[tuple[Any, ...], int] = field(default_factory=OrderedDict)
    graphs: OrderedDict[tuple[Any, ...], RecordedPass] = field(default_factory=OrderedDict)
    failed_on: set[torch.device] = field(default_factory=set)

    def current(self, key: tuple[Any, ...]) -> RecordedPass | None:
        """What is recorded of this kind of pass, with the weights that the network has now."""
        found = self.graphs.get(key)
        if found is None:
            return None
        if not found.is_current():
            # They hold the weights that the layers had.
            self.graphs.clear()
            return None
        self.graphs.move_to_end(key)
        return found


_networks: WeakKeyDictionary[nn.Module, _NetworkGraphs] = WeakKeyDictionary()
# For the tables; taken after the locks of `torch_utils.recorder`.
_lock = threading.Lock()


def _record(
    known: _NetworkGraphs,
    key: tuple[Any, ...],
    synthesis: SynthesisNetwork,
    resolution: int,
    rows: Sequence[Tensor],
    windows: Windows | None,
) -> RecordedPass | None:
    """Record a pass, compare it, and keep it; None if that is no use."""
    recorders.count_graph()
    device, batch, needs_grad = rows[0].device, len(rows[0]), _needs_grad(rows)
    try:
        # Later passes may want gradients even if this one is for inference.
        with torch.inference_mode(False), torch.no_grad():
            layout = movable_layout_for(synthesis, resolution, windows, batch)
            reference = analytic.layout_for(synthesis, resolution, windows)
            if layout is None or reference is None or _memory(layout, batch) > MAX_BYTES / 2:
                with _lock:
                    known.requests[key] = -100  # and does not plan it every time
                return None
            recorder = recorders.recorder_for(device)
            assert recorder is not None
            found = RecordedPass(layout, tuple(needs_grad[k] for k in layout.rows), rows[0], recorder)
            found.check(windows, rows, reference)
    except RuntimeError as error:
        with _lock:
            known.failed_on.add(device)
            known.graphs.clear()
        _log.warning("features are computed without CUDA graphs on %s, more slowly: %s", device, error)
        return None
    with _lock:
        known.graphs[key] = found
        while len(known.graphs) > 1 and (
            len(known.graphs) > MAX_RECORDED or sum(g.memory for g in known.graphs.values()) > MAX_BYTES
        ):
            # One that comes back now and then is not recorded again at once.
            known.requests.pop(known.graphs.popitem(last=False)[0], None)
    return found
