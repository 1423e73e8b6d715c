"""What a moderator is, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

__all__ = ["Decision", "Moderator", "Stage", "Subject", "Verdict"]

Stage = Literal["upload", "export"]
Decision = Literal["allow", "review", "refuse"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What is looked at.

    Attributes:
        stage: on its way in or out.
        pictures: uint8 ``[height, width, 3]`` each; one, or some frames of an animation.
        photo: whether a photograph is in it, rather than only what a model has drawn.
    """

    stage: Stage
    pictures: Sequence[UInt8[np.ndarray, "height width 3"]]
    photo: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a moderator says.

    Attributes:
        decision: "allow", "review" (a person has to look) or "refuse".
        code: why, in one or a few words of small letters: what is recorded, never shown.
        moderator: who says so.
        score: how sure it is, 0 to 1, where it has a number for that.
    """

    decision: Decision
    code: str = "ok"
    moderator: str = "none"
    score: float | None = None


@runtime_checkable
class Moderator(Protocol):
    """Looks at pictures. May be called by several threads at once."""

    name: str
    """Small letters, digits, blanks and hyphens."""

    def check(self, subject: Subject) -> Verdict:
        """Its verdict. Whatever it raises counts as "refuse"."""
