"""What a drag reports, made up for tests of what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from draggan.engine.base import Update

__all__ = ["an_update"]


def an_update(
    outcome: str | None, *, distances: Sequence[float] = (3.14,), lost: Sequence[bool] = (), **more: Any
) -> Update:
    """One with a handle for every distance; whatever is not told is as dull as can be."""
    n = len(distances)
    told = {
        "index": 3,
        "ws": np.zeros((1, 2, 4), np.float32),
        "handles": np.zeros((n, 2), np.float32),
        "targets": np.zeros((n, 2), np.float32),
        "stop_distance": 1.0,
        "seconds": 0.1,
        "loss": 0.0,
        "way": 0.5,
        "contrast": 1.0,
        "done": outcome is not None,
    }
    flags = np.array(lost or [False] * n)
    return Update(outcome=outcome, distances=np.array(distances, np.float32), lost=flags, **(told | more))
