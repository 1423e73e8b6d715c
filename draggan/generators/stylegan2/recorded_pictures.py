"""Pictures and previews of a StyleGAN2 with frozen weights, each kind recorded and replayed as one CUDA graph.

Beside `features` in the stack, above `cuda_graphs`, by whose rules it goes: a kind of picture is recorded the third
time it is asked for, compared with the ordinary one before its first use, and drawn the ordinary way from then on if
it differs or cannot be recorded. On the one GPU that was at hand a picture took 8 to 13 ms, of which 1 to 2 are
arithmetic; the rest was the giving of some two hundred operations. This module has not run on a GPU yet.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from draggan.generators.base import Latent
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
        """See `SynthesisNetwork.forward`."""
        if noise_mode == "const" and isinstance(ws, Tensor) and self._is_plain(ws):
            found = _recorded(self, ws, resolution)
            if found is not None:
                return found.draw(ws)
        return super().forward(ws, resolution, noise_mode)

    def ordinary(self, ws: Tensor, resolution: int | None) -> Tensor:
        """The picture, not recorded."""
        return super().forward(ws, resolution)

    def _is_plain(self, ws: Tensor) -> bool:
        """Whether nothing but the picture is wanted: no gradient, no other precision, and the weights stay."""
        if not recorders.can_record([ws]) or torch.is_autocast_enabled(ws.device.type):
            return False
        wanted = ws.requires_grad and torch.is_grad_enabled()
        return not wanted and not any(p.requires_grad for p in self.parameters())


@dataclass(eq=False)
class _Picture:
    """One kind, recorded."""

    ws: Tensor
    result: Tensor
    run: Callable[[], None]
    recorder: Recorder
    weights: list[tuple[int, int | None]]

    def draw(self, ws: Tensor) -> Tensor:
        """The picture of another latent."""
        with recorders.replaying():
            self.recorder.wait_for_replays()
            with torch.no_grad():
                self.ws.copy_(ws)
            self.run()
            return self.result.clone()


@dataclass(eq=False)
class _Pictures:
    """Of one network: how often which kind was asked for, what is recorded, and whether recording failed."""

    requests: dict[tuple[Any, ...], int] = field(default_factory=dict)
    kept: OrderedDict[tuple[Any, ...], _Picture] = field(default_factory=OrderedDict)
    failed: bool = False


_networks: WeakKeyDictionary[nn.Module, _Pictures] = WeakKeyDictionary()


def _recorded(network: RecordedSynthesis, ws: Tensor, resolution: int | None) -> _Picture | None:
    """This kind of picture, recorded now if it is asked for often enough; None: it is not (yet)."""
    known = _networks.setdefault(network, _Pictures())
    if known.failed:
        return None
    deterministic = torch.are_deterministic_algorithms_enabled()
    key = (resolution, ws.shape, ws.dtype, ws.device, status.available(ws), deterministic)
    weights = _states(network)
    found = known.kept.get(key)
    if found is not None and found.weights == weights:
        return found
    if found is not None:
        known.kept.clear()  # the weights have changed
    known.requests[key] = count = known.requests.get(key, 0) + 1
    if count < recorders.RECORD_AFTER or _memory(network, len(ws)) > cuda_graphs.MAX_BYTES / 2:
        return None
    with recorders.recording():
        found = known.kept.get(key)
        if found is None and not known.failed:
            try:
                found = _record(network, ws, resolution, weights)
            except RuntimeError as error:
                known.failed = True
                _log.warning("pictures are drawn without CUDA graphs on %s, more slowly: %s", ws.device, error)
                return None
            known.kept[key] = found
            while len(known.kept) > MOST:
                known.kept.popitem(last=False)
    return found


def _record(
    network: RecordedSynthesis, ws: Tensor, resolution: int | None, weights: list[tuple[int, int | None]]
) -> _Picture:
    recorders.count_graph()
    with torch.inference_mode(False), torch.no_grad():
        recorder = recorders.recorder_for(ws.device)
        assert recorder is not None
        given = torch.zeros_like(ws)
        with recorders.replaying():
            result, run = recorder.record(lambda: network.ordinary(given, resolution))
        picture = _Picture(ws=given, result=result, run=run, recorder=recorder, weights=weights)
        drawn, expected = picture.draw(ws), network.ordinary(ws, resolution)
        difference, size = (float(t.double().norm()) for t in (drawn.double() - expected, expected))
    # Not a number is not less.
    if not difference <= TOLERANCE * size:
        raise RuntimeError(f"a replayed picture differs by {difference:.3g} from one of norm {size:.3g}")
    return picture


def _states(network: nn.Module) -> list[tuple[int, int | None]]:
    return [(w.data_ptr(), None if w.is_inference() else version(w)) for w in network.parameters()]


def _memory(network: SynthesisNetwork, batch: int) -> int:
    """About how many bytes a recording holds: three maps of every block, of four bytes a number."""
    maps = [block.conv1.weight.shape[0] * math.prod(block.conv1.size) for _, block, _ in network.blocks()]
    return 3 * 4 * batch * sum(maps)
