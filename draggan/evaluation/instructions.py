"""Drags written down in a file: which picture, from where to where."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from draggan.config import SEEDS
from draggan.errors import ConfigError

__all__ = ["Instruction", "read_instructions"]

_FORM = '{"seed": 7, "points": [[[60, 70], [80, 64]]]}'


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One drag.

    Attributes:
        seed: of the picture.
        handles, targets: pairs ``(x, y)`` in pixels.
        size: the picture size ``(height, width)`` that these are pixels of; None for the model's own.
    """

    seed: int
    handles: tuple[tuple[float, float], ...]
    targets: tuple[tuple[float, float], ...]
    size: tuple[int, int] | None = None

    def at_size(self, size: tuple[int, int]) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"]]:
        """Handles and targets in pixels of a picture of that size; pixel centres are integers."""
        height, width = self.size or size
        scale = np.array([size[1] / width, size[0] / height])
        limit = np.array([size[1] - 1, size[0] - 1])

        def scaled(points: tuple[tuple[float, float], ...]) -> Float[np.ndarray, "n 2"]:
            p = (np.array(points, np.float64) + 0.5) * scale - 0.5
            # A point in the outermost half pixel of a larger picture is outside the pixel centres of a smaller one.
            near = p.clip(0, limit)
            return np.where(np.abs(p - near) <= 0.5, near, p).astype(np.float32)

        return scaled(self.handles), scaled(self.targets)

    def as_list(self) -> list[Any]:
        """The same as JSON values."""
        return [self.seed, [list(p) for p in self.handles], [list(p) for p in self.targets], self.size and [*self.size]]


def read_instructions(path: str | Path) -> tuple[Instruction, ...]:
    """Instructions from a file: one JSON object per line, or one JSON list of them, as benchmarks of drags have.

    An object has ``seed`` and either ``points``, a list of pairs ``[[x, y], [x, y]]`` of handle and target, or
    ``handles`` and ``targets``, lists of ``[x, y]``. ``size`` (a number, or ``[height, width]``) says of which picture
    size these are pixels, if not of the model's. Other keys are ignored.

    Raises:
        ConfigError: the file cannot be read; the message says where and why.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"cannot read the instructions {path}: {e}; give a file of lines like {_FORM}") from e
    try:
        if text.lstrip().startswith("["):
            found = list(enumerate(json.loads(text), 1))
        else:
            found = [(n, json.loads(line)) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
        instructions = tuple(_instruction(value, n) for n, value in found)
    except (ValueError, RecursionError) as e:
        raise ConfigError(f"cannot read the instructions {path}: {e}; every entry has the form {_FORM}") from e
    if not instructions:
        raise ConfigError(f"there are no instructions in {path}; every line has the form {_FORM}")
    return instructions


def _instruction(value: Any, number: int) -> Instruction:
    """One entry; a ValueError says what is wrong with it."""
    if not isinstance(value, dict):
        raise ValueError(f"entry {number} is not an object")
    seed = value.get("seed")
    if type(seed) is not int or not 0 <= seed < SEEDS:
        raise ValueError(f"entry {number}: seed {seed!r} is not a whole number from 0 to {SEEDS - 1}")
    try:
        if "points" in value:
            handles, targets = zip(*((_point(p), _point(t)) for p, t in value["points"]), strict=True)
        else:
            handles, targets = (tuple(_point(p) for p in value[key]) for key in ("handles", "targets"))
    except (KeyError, TypeError, ValueError) as e:
        raise ValueError(f"entry {number}: its points cannot be read") from e
    if not handles or len(handles) != len(targets):
        raise ValueError(f"entry {number}: {len(handles)} handles and {len(targets)} targets")
    size = value.get("size")
    size = [size, size] if type(size) is int else size
    pair = isinstance(size, list) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)
    if size is not None and not pair:
        raise ValueError(f"entry {number}: size {size!r} is neither a number of pixels nor [height, width]")
    return Instruction(
        seed=seed, handles=tuple(handles), targets=tuple(targets), size=None if size is None else (size[0], size[1])
    )


def _point(value: Any) -> tuple[float, float]:
    x, y = (float(v) for v in value)
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError("not finite")
    return x, y
