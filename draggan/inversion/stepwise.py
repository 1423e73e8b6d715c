"""Work that yields after each of its steps, so that somebody else may have a turn, or say that nobody wants it; and a
step that takes long, given up in its middle."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from torch import Tensor, nn

__all__ = ["Abandoned", "finished", "look_between_layers"]

_T = TypeVar("_T")


def finished(work: Generator[None, None, _T]) -> _T:
    """What comes of it, all steps at once."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: _T = end.value
            return result


class Abandoned(Exception):
    """Nobody wants the rest of a step; nothing of it was kept."""


def look_between_layers(network: nn.Module, look: Callable[[], None]) -> None:
    """From now on ``look`` is called after each layer of a network, on the way to its picture and on the way back.

    Args:
        look: may raise, which ends both.
    """

    def forward(layer: nn.Module, inputs: Any, output: Any) -> None:
        look()
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(backward)

    def backward(gradient: Tensor) -> None:
        look()

    for layer in network.modules():
        layer.register_forward_hook(forward)
