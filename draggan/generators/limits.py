"""Checks of constructor arguments: what is not possible, or absurdly large, is refused before anything is built."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from draggan.errors import ConfigError
from torch_utils.ops.bias_act import ACTIVATIONS

__all__ = ["MAX_PARAMETERS", "check_budget", "check_mapping", "flag", "number", "one_of", "resolution", "whole"]

# Ten times the largest published StyleGAN2 and StyleGAN3 networks; 1 GiB in float32.
MAX_PARAMETERS = 2**28


def whole(name: str, value: Any, low: int, high: int) -> int:
    """The value if it is a whole number from low to high, else `ConfigError`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} = {value!r} is not allowed; give a whole number from {low} to {high}")
    return value


def number(name: str, value: Any, low: float, high: float) -> float:
    """The value if it is a number from low to high, else `ConfigError`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{name} = {value!r} is not allowed; give a number from {low:g} to {high:g}")
    return value


def flag(name: str, value: Any) -> bool:
    """The value if it is True or False, else `ConfigError`."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} = {value!r} is not allowed; give True or False")
    return value


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """The value if it is one of the names, else `ConfigError`."""
    if value not in allowed:
        raise ConfigError(f"{name} = {value!r} is not allowed; there are {', '.join(allowed)}")
    return value


def resolution(value: Any, low: int = 8) -> int:
    """A picture size that networks double up to: a power of two from ``low`` to 4096."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= 4096 or value & (value - 1):
        raise ConfigError(f"img_resolution = {value!r} is not allowed; give a power of two from {low} to 4096")
    return value


def check_mapping(kwargs: Mapping[str, Any] | None, known: tuple[str, ...]) -> dict[str, Any]:
    """The arguments of a mapping network, or `ConfigError` for one that is unknown or out of range.

    Args:
        known: which arguments this family's mapping network has.
    """
    given = dict(kwargs or {})
    for name, value in given.items():
        if name not in known:
            raise ConfigError(f"unknown argument mapping_kwargs.{name}; known are {', '.join(known)}")
        full = f"mapping_kwargs.{name}"
        if name == "num_layers":
            whole(full, value, 1, 64)
        elif name in ("embed_features", "layer_features") and value is not None:
            whole(full, value, 1, 8192)
        elif name == "lr_multiplier":
            number(full, value, 1e-6, 1e3)
        elif name == "w_avg_beta" and value is not None:
            number(full, value, 0, 1)
        elif name == "activation":
            one_of(full, value, tuple(ACTIVATIONS))
    return given


def mapping_parameters(z_dim: int, c_dim: int, w_dim: int, kwargs: Mapping[str, Any], num_layers: int) -> int:
    """How many weights a mapping network has, about (biases left out)."""
    layers = kwargs.get("num_layers", num_layers)
    hidden = kwargs.get("layer_features") or w_dim
    embed = (kwargs.get("embed_features") or w_dim) if c_dim else 0
    widths = [z_dim + embed, *[hidden] * (layers - 1), w_dim]
    return c_dim * embed + sum(math.prod(pair) for pair in itertools.pairwise(widths))


def check_budget(parameters: int) -> None:
    """`ConfigError` for a network that no published architecture comes near."""
    if parameters > MAX_PARAMETERS:
        raise ConfigError(
            f"these arguments describe a network of {parameters / 1e6:.0f} million weights; up to "
            f"{MAX_PARAMETERS / 1e6:.0f} million are allowed. Check channel_base, channel_max and the mapping's widths"
        )
