"""Pictures and previews of a StyleGAN2 with frozen weights and their gradients, each kind recorded as one CUDA graph.

Beside `features` in the stack, above `cuda_graphs`, by whose rules it goes: a kind of picture is recorded the third
time it is asked for, compared with the ordinary one before its first use, and drawn the ordinary way from then on if
it differs or cannot be recorded. On the one GPU that was at hand a picture took 8 to 13 ms, of which 1 to 2 are
arithmetic; the rest was the giving of some two hundred operations. This module has not run on a GPU yet.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from draggan.generators.base import Latent, latent_rows
from draggan.generators.stylegan2 import cuda_graphs
from draggan.generators.stylegan2.networks import NoiseMode, SynthesisNetwork
from torch_utils import recorder as recorders
from torch_utils.ops import status
from torch_utils.pytorch_internals import version
from torch_utils.recorder import Recorder

__all__ = ["RecordedSynthesis"]

_log = logging.getLogger(__name__)

TOLERANCE = 2e-2
"""How much of its norm a replayed picture may differ by: TensorFloat-32 and other algorithms, as for features."""
MOST = 8
"""Kinds that are kept per network: a few heights, and a batch or two."""


class RecordedSynthesis(SynthesisNetwork):
    """The network, whose pictures are replayed where they can be. Features are not its business."""

    def forward(self, ws: Latent, resolution: int | None = None, noise_mode: NoiseMode = "const") -> Tensor:
        """See `SynthesisNetwork.forward`. Replayed, it is differentiable once, by the latent."""
        rows = latent_rows(ws)
        if noise_mode == "const" and self._is_plain(rows):
            wanted = torch.is_grad_enabled() and any(row.requires_grad for row in rows)
            picture = _recorded(self, rows, resolution, gradient=False)
            slope = _recorded(self, rows, resolution, gradient=True) if wanted else None
            if picture is not None and (slope is not None or not wanted):
                whole = ws if isinstance(ws, Tensor) else torch.stack(list(rows), 1)
                return picture.run(whole) if slope is None else _Drawn.apply(picture, slope, whole)
        return super().forward(ws, resolution, noise_mode)

    def ordinary(self, ws: Tensor, resolution: int | None) -> Tensor:
        """The picture, not recorded."""
        return super().forward(ws, resolution)

    def _is_plain(self, rows: Sequence[Tensor]) -> bool:
        """Whether nothing but the picture is wanted: no other precision, and the weights stay."""
        if not recorders.can_record(rows) or torch.is_autocast_enabled(rows[0].device.type):
            return False
        return not any(p.requires_grad for p in self.parameters())


class _Drawn(torch.autograd.Function):
    """A picture, and its gradient: the network is gone through once more for that, in one call as well."""

    @staticmethod
    def forward(ctx: Any, picture: _Pass, slope: _Pass, ws: Tensor) -> Tensor:
        ctx.slope = slope
        ctx.save_for_backward(ws)
        return picture.run(ws)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        (ws,) = ctx.saved_tensors
        return None, None, ctx.slope.run(ws, gradient)


@dataclass(eq=False)
class _Pass:
    """One kind, recorded: from a latent to its picture, or from both and a gradient by the picture to that by it."""

    inputs: tuple[Tensor, ...]
    result: Tensor
    replay: Callable[[], None]
    recorder: Recorder
    weights: list[tuple[int, int | None]]

    def run(self, *inputs: Tensor) -> Tensor:
        """The result for others."""
        with recorders.replaying():
            self.recorder.wait_for_replays()
            with torch.no_grad():
                for buffer, given in zip(self.inputs, inputs, strict=True):
                    buffer.copy_(given)
            self.replay()
            return self.result.clone()


@dataclass(eq=False)
class _Pictures:
    """Of one network: how often which kind was asked for, what is recorded, and what cannot be: pictures (False), their
    gradients (True)."""

    requests: dict[tuple[Any, ...], int] = field(default_factory=dict)
    kept: OrderedDict[tuple[Any, ...], _Pass] = field(default_factory=OrderedDict)
    failed: set[bool] = field(default_factory=set)


_networks: WeakKeyDictionary[nn.Module, _Pictures] = WeakKeyDictionary()


def _recorded(
    network: RecordedSynthesis, rows: Sequence[Tensor], resolution: int | None, *, gradient: bool
) -> _Pass | None:
    """This kind of pass, recorded now if it is asked for often enough; None: it is not (yet)."""
    known = _networks.setdefault(network, _Pictures())
    if gradient in known.failed:
        return None
    like, deterministic = rows[0], torch.are_deterministic_algorithms_enabled()
    shape = len(rows), like.shape, like.dtype, like.device
    key = (gradient, resolution, *shape, status.available(like), deterministic)
    weights = _states(network)
    found = known.kept.get(key)
    if found is not None and found.weights == weights:
        return found
    if found is not None:
        known.kept.clear()  # the weights have changed
    known.requests[key] = count = known.requests.get(key, 0) + 1
    # For a gradient, what was computed on the way to the picture is held as well.
    memory = _memory(network, len(like)) * (3 if gradient else 1)
    if count < recorders.RECORD_AFTER or memory > cuda_graphs.MAX_BYTES / 2:
        return None
    with recorders.recording():
        found = known.kept.get(key)
        if found is None and gradient not in known.failed:
            try:
                found = _record(network, torch.stack(list(rows), 1).detach(), resolution, weights, gradient=gradient)
            except RuntimeError as error:
                known.failed.add(gradient)
                what = "gradients of pictures are computed" if gradient else "pictures are drawn"
                _log.warning("%s without CUDA graphs on %s, more slowly: %s", what, like.device, error)
                return None
            known.kept[key] = found
            while len(known.kept) > MOST:
                known.kept.popitem(last=False)
    return found


def _record(
    network: RecordedSynthesis,
    ws: Tensor,
    resolution: int | None,
    weights: list[tuple[int, int | None]],
    *,
    gradient: bool,
) -> _Pass:
    recorders.count_graph()

    def slope(ws: Tensor, by_picture: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = ws.detach().requires_grad_()
            (by_latent,) = torch.autograd.grad(network.ordinary(leaf, resolution), leaf, by_picture)
        return by_latent

    with torch.inference_mode(False), torch.no_grad():
        recorder = recorders.recorder_for(ws.device)
        assert recorder is not None
        picture = network.ordinary(ws, resolution)
        # The gradient of half the sum of squares.
        inputs = (ws.clone(), picture.clone()) if gradient else (ws.clone(),)
        others = tuple(torch.zeros_like(t) for t in inputs)
        with recorders.replaying():
            result, replay = recorder.record(
                lambda: slope(*others) if gradient else network.ordinary(others[0], resolution)
            )
        found = _Pass(inputs=others, result=result, replay=replay, recorder=recorder, weights=weights)
        got, expected = found.run(*inputs), slope(*inputs) if gradient else picture
        difference, size = (float(t.double().norm()) for t in (got.double() - expected, expected))
    # Not a number is not less.
    if not difference <= TOLERANCE * size:
        raise RuntimeError(f"what is replayed differs by {difference:.3g} from what has the norm {size:.3g}")
    return found


def _states(network: nn.Module) -> list[tuple[int, int | None]]:
    return [(w.data_ptr(), None if w.is_inference() else version(w)) for w in network.parameters()]


def _memory(network: SynthesisNetwork, batch: int) -> int:
    """About how many bytes a recording holds: three maps of every block, of four bytes a number."""
    maps = [block.conv1.weight.shape[0] * math.prod(block.conv1.size) for _, block, _ in network.blocks()]
    return 3 * 4 * batch * sum(maps)
