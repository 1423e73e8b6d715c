"""A drag as a film: what lies between the pictures that a drag has gone through, at an even speed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from draggan.recipe import Recipe

__all__ = ["Frame", "evenly", "there_and_back"]

Frame: TypeAlias = tuple[Recipe, Float[np.ndarray, "1 num_ws w_dim"]]
"""A latent, and the recipe whose last mask holds in its picture (`draggan.engine.base.Engine`'s ``render``)."""


def evenly(frames: Sequence[Frame], count: int) -> list[Frame]:
    """So many frames along the way through all of these, the first and the last among them.

    A drag makes steps of very different lengths. These are as far from each other as the next ones are, measured in
    latents along the straight lines between one frame and the next: a mixture of two latents that a drag has gone
    through is a latent too, and its picture is drawn like any other.

    Args:
        count: at least 2; fewer come where all frames are the same.
    """
    if len(frames) < 2 or count < 2:
        return list(frames[:1]) if count < 2 else list(frames)
    lengths = [float(np.linalg.norm(after[1] - before[1])) for before, after in pairwise(frames)]
    reached = np.concatenate([[0.0], np.cumsum(lengths)])
    if reached[-1] == 0:
        return [frames[0], frames[-1]]
    made: list[Frame] = []
    for place in np.linspace(0, reached[-1], count):
        # The stretch that it lies in; the later frame says which mask holds there.
        after = min(int(np.searchsorted(reached, place)), len(frames) - 1)
        if reached[after] == place or after == 0:
            made.append(frames[after])
            continue
        share = np.float32((place - reached[after - 1]) / lengths[after - 1])
        ws = frames[after - 1][1] * (1 - share) + frames[after][1] * share
        made.append((frames[after][0], ws.astype(np.float32)))
    # Not by rounding alone: a film begins and ends with the pictures that were there.
    made[0], made[-1] = frames[0], frames[-1]
    return made


def there_and_back(count: int) -> list[int]:
    """The order in which so many pictures are shown to the last and back; the last and the first once."""
    return [*range(count), *range(count - 2, 0, -1)]
