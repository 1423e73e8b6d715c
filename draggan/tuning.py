"""What was changed in a model's weights so that it draws a photo: a value, with a hash by which recipes name it.

A tuning belongs to one photo, and so to whoever brought it. It is never part of a recipe, of a picture's file or of a
model: an engine holds it for as long as a session needs it (`draggan.engine.tunings`), a session's file carries it
(`draggan.session_file`). NumPy only.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from draggan.errors import RecipeError

__all__ = ["MOST_NUMBERS", "Tuning"]

MOST_NUMBERS = 1 << 26
"""Numbers in all differences together, 128 MB; the synthesis network of a 1024 px StyleGAN2 has 28 million weights."""
_MOST_TENSORS = 1000
_LONGEST_NAME = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuning:
    """Differences to the weights of one model.

    Attributes:
        model_sha256: of that model's file, 64 hexadecimal digits; empty: not known.
        differences: what is added to a weight of the synthesis network, by its name there; float16, of the weight's
            shape. Weights that are not named stay as they are; none: the model draws the photo as it is.

    Raises:
        RecipeError: differences that no model could take.
    """

    model_sha256: str = ""
    differences: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.differences) > _MOST_TENSORS:
            raise RecipeError(
                f"a tuning of {len(self.differences)} weights is not allowed; at most {_MOST_TENSORS} are"
            )
        kept = {}
        for name in sorted(self.differences):
            given = np.asarray(self.differences[name])
            if len(name) > _LONGEST_NAME or not name.isprintable() or given.dtype != np.float16:
                raise RecipeError(
                    f"{name!r:.80} is not the difference of a weight; it is given as float16, by its name"
                )
            if not np.isfinite(given).all():
                raise RecipeError(f"the tuning of '{name:.80}' has values that are not finite; open the photo again")
            kept[name] = given.copy()
            kept[name].setflags(write=False)
        if sum(array.size for array in kept.values()) > MOST_NUMBERS:
            raise RecipeError(f"the tuning has more than {MOST_NUMBERS} numbers, which is more than is read")
        object.__setattr__(self, "differences", MappingProxyType(kept))

    @property
    def bytes(self) -> int:
        """Of all differences."""
        return sum(array.nbytes for array in self.differences.values())

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of what it says, 64 hexadecimal digits, the same on every machine."""
        shapes = {name: list(array.shape) for name, array in self.differences.items()}
        found = hashlib.sha256(json.dumps([self.model_sha256, shapes], separators=(",", ":")).encode())
        for array in self.differences.values():
            found.update(np.ascontiguousarray(array, "<f2").tobytes())
        return found.hexdigest()
