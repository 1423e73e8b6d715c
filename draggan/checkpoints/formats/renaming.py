"""Bringing the tensors of another layout under our names, which are those of NVIDIA's published PyTorch files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from draggan.errors import CheckpointError

__all__ = ["NO_NOISE", "Renamer", "resample_filter"]

# Said of a file whose program draws noise anew each time and keeps none.
NO_NOISE = "the file has no constant noise, so none is added to its pictures"


def resample_filter(taps: list[float]) -> np.ndarray:
    """The separable low-pass filter with sum 1, float32 ``[n, n]``, as our layers keep it."""
    line = np.asarray(taps, np.float32)
    square = np.outer(line, line)
    return square / square.sum()


class Renamer:
    """Takes tensors out one by one and collects them under our names; what is left in the end is an error.

    Args:
        tensors: by the names of the file.

    Attributes:
        left: what has not been taken yet.
        tensors: what has been taken, by our names.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self.left = dict(tensors)
        self.tensors: dict[str, np.ndarray] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.left

    def pop(self, name: str, rank: int) -> np.ndarray:
        """A tensor of the file, which must have ``rank`` sizes from 1 on."""
        array = self.left.pop(name, None)
        if array is None:
            raise CheckpointError(f"the file has no tensor '{name}'; it is incomplete or another kind of network")
        if array.ndim != rank or 0 in array.shape:
            raise CheckpointError(f"tensor '{name}' has shape {list(array.shape)}; {rank} sizes from 1 on are expected")
        return array

    def take(self, name: str, ours: str, rank: int, convert: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        """Move a tensor to our name, converted."""
        array = self.pop(name, rank)
        # Not ascontiguousarray, which makes a list of one number out of a number.
        self.tensors[ours] = np.asarray(array if convert is None else convert(array), order="C")

    def numbers(self, pattern: str) -> list[int]:
        """The numbers that occur in names of this pattern, which must follow one another without gaps."""
        found = sorted({int(m.group(1)) for name in self.left if (m := re.match(pattern, name))})
        if found and found != list(range(found[0], found[0] + len(found))):
            raise CheckpointError(f"the layers {found[:40]} of the file are not numbered one after the other")
        return found

    def finish(self) -> dict[str, np.ndarray]:
        """All tensors by our names.

        Raises:
            CheckpointError: some have no place in the network.
        """
        if self.left:
            names = ", ".join(sorted(self.left)[:6])
            raise CheckpointError(
                f"{len(self.left)} tensors have no place in a StyleGAN2 network: {ascii(names)[1:-1][:300]}"
            )
        return self.tensors
