"""Generators whose synthesis weights are their own, for one photo; all else is shared with the model they come from.

Nothing of the model itself changes. A copy shares the mapping network, so that latents mean the same, and every tensor
that a tuning does not touch.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from draggan.errors import LatentError
from draggan.generators.base import Generator

__all__ = ["differences_between", "to_be_tuned", "tuned"]


def to_be_tuned(generator: Generator) -> tuple[Generator, dict[str, nn.Parameter]]:
    """A copy whose weights for tuning take gradients, and those weights by their names in the synthesis network."""
    names = generator.tunable_weights
    mine = _copy(generator, names)
    weights = {name: weight for name, weight in mine.synthesis.named_parameters() if name in names}  # type: ignore[attr-defined]
    for weight in weights.values():
        weight.requires_grad_(True)
    return mine, weights


def differences_between(generator: Generator, weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """What has to be added to a generator's weights to have these, as float16: rounded as `tuned` will add it."""
    before = dict(generator.synthesis.named_parameters())  # type: ignore[attr-defined]
    return {name: (weight.detach() - before[name]).half().cpu().numpy() for name, weight in weights.items()}


@torch.no_grad()
def tuned(generator: Generator, differences: Mapping[str, np.ndarray]) -> Generator:
    """The generator with differences added to its synthesis weights, frozen; the given one stays as it is.

    Args:
        differences: by the names of weights of its synthesis network, each of the weight's shape.

    Raises:
        LatentError: they are not those of this model.
    """
    there = dict(generator.synthesis.named_parameters())  # type: ignore[attr-defined]
    for name, difference in differences.items():
        if name not in generator.tunable_weights or tuple(there[name].shape) != difference.shape:
            raise LatentError(
                f"the tuning of this photo does not fit this model, which has no weight '{name:.80}' of "
                f"{list(difference.shape)[:6]}; open the photo again with it"
            )
    mine = _copy(generator, differences)
    weights = dict(mine.synthesis.named_parameters())  # type: ignore[attr-defined]
    for name, difference in differences.items():
        weights[name] += torch.tensor(difference, dtype=torch.float32, device=weights[name].device)
    return mine.freeze()


def _copy(generator: Generator, names: Collection[str]) -> Generator:
    """A copy with weights of these names of its own; everything else that never changes is shared."""
    shared: dict[int, object] = {id(generator.mapping): generator.mapping}
    for name, weight in generator.synthesis.named_parameters():  # type: ignore[attr-defined]
        if name not in names:
            shared[id(weight)] = weight
    mine = copy.deepcopy(generator, shared)
    return mine.requires_grad_(False)
