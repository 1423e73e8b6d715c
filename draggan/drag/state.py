"""A drag between two of its steps, as values: what another process needs to go on from there."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.drag.solvers.base import Kept
from draggan.drag.step import Nearest
from draggan.drag.stopping import Findings, Progress

__all__ = ["DragState", "on_device"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class DragState:
    """All that is not in what a drag was begun with. `draggan.drag.Drag` goes on from it, with the same numbers.

    It is on the host, and shares nothing with the drag that it was taken of.

    Attributes:
        index: of the next step.
        counted_from: the step from which `DragConfig.max_steps` counts.
        targets: where the handles are to go, image pixels.
        live: it follows them until `Drag.settle`.
        idle: it has nothing to do until there are other targets.
        rest: what has made it rest short of these targets; None: it does not.
        by_hand: a hand has led it.
        ended: there is no next step.
        corrections: how often it may still go on where its content turns out to be elsewhere.
        progress, nearest: the last progress, and the best step so far.
        here: where it is; None before the first step.
    """

    index: int
    counted_from: int
    targets: Float[Tensor, "n 2"]
    live: bool
    idle: bool
    rest: Findings | None
    by_hand: bool
    ended: bool
    corrections: int
    progress: Progress
    nearest: Nearest
    here: Kept | None


def on_device(value: T, device: torch.device | str) -> T:
    """The same values there, copied: tensors, and those in dataclasses."""
    if isinstance(value, Tensor):
        # A copy: part of a larger tensor would take all of that along to wherever it is sent.
        return value.detach().to(device, copy=True)  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{field.name: on_device(getattr(value, field.name), device) for field in fields(value)})
    return value
