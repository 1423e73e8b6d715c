"""What a mask holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from draggan.config import DragConfig
from draggan.evaluation.protocols.figures import (
    DRAG_COLUMNS,
    drag,
    drag_figures,
    landmark_features,
    random_move,
    seed_pair,
    shift_between,
)
from draggan.evaluation.protocols.protocol import (
    Case,
    Column,
    Method,
    Protocol,
    Task,
)
from draggan.evaluation.subject import Subject


def around(handle: Sequence[float], target: Sequence[float], size: tuple[int, int], margin: float) -> np.ndarray:
    """bool ``[height, width]``: everything up to ``margin`` pixels from the handle's way to its target."""
    y, x = np.mgrid[: size[0], : size[1]]
    p, t = np.array(handle, dtype=np.float64), np.array(target, dtype=np.float64)
    along = t - p
    s = (((x - p[0]) * along[0] + (y - p[1]) * along[1]) / max(float(along @ along), 1e-9)).clip(0, 1)
    return np.hypot(x - p[0] - s * along[0], y - p[1] - s * along[1]) <= margin


@dataclass(frozen=True, kw_only=True)
class Mask(Protocol):
    """A small drag with and without a mask: what changes outside it, against what changes inside.

    A random landmark (a random point where there are none) is dragged by 6 % of the picture's size in a random
    direction; what is within a fifth of the picture's size of its way may change. Changes are mean absolute
    differences of the picture's values, 0 to 255, of what the latents draw: how well the mask loss alone holds
    (``mask_hold`` is "soft"). Outcome, arrival, time and latent distances are of the masked drag.
    """

    first_seed: int = 0

    name = "mask"
    main = "outside"
    columns = (
        Column(key="outside", title="change outside, with mask", unit="of 255"),
        Column(key="outside_free", title="change outside, without", unit="of 255"),
        Column(key="inside", title="change inside, with mask", unit="of 255"),
        Column(key="inside_free", title="change inside, without", unit="of 255"),
        Column(key="arrived_free", title="arrived, without", unit="%", digits=0, factor=100, share=True),
        Column(key="steps_free", title="steps, without", digits=0),
        Column(key="seconds_free", title="time, without", unit="s", digits=2),
        Column(key="tracked", title="handles to targets, tracked", unit="px"),
        *DRAG_COLUMNS,
    )

    def settings(self) -> dict[str, Any]:
        return {"first_seed": self.first_seed}

    def task(self, subject: Subject, index: int) -> Task | str:
        seed, z, _ = seed_pair(self, subject, index)
        ws = subject.latent(z)
        random = self.random(index)
        found, good = subject.landmarks(z, subject.picture(ws))
        able = np.flatnonzero(good)
        if subject.names and not len(able):
            return "no landmark is visible"
        handle = found[random.choice(able)].tolist() if len(able) else None
        handles, targets = random_move(subject, random, handle, 0.06 * max(subject.size))
        mask = around(handles[0].tolist(), targets[0].tolist(), subject.size, max(subject.size) / 5)
        return Task(seed=seed, ws=ws, handles=handles, targets=targets, mask=mask)

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        assert task.mask is not None
        config = replace(config, mask_hold="soft")
        held = drag(subject, task.ws, task.handles, task.targets, task.mask, config, method)
        free = drag(subject, task.ws, task.handles, task.targets, None, config, method)
        before = subject.picture(task.ws)
        figures = drag_figures(subject, task.ws, held) | {
            "arrived_free": float(free.outcome == "arrived"),
            "steps_free": float(free.steps),
            "seconds_free": free.seconds,
        }
        for ending, dragged in (("", held), ("_free", free)):
            change = (subject.picture(dragged.ws) - before).abs().mean((0, 1)).cpu().numpy() * 127.5
            figures["outside" + ending] = float(change[~task.mask].mean()) if not task.mask.all() else None
            figures["inside" + ending] = float(change[task.mask].mean())
        return Case(
            seed=task.seed,
            figures=figures,
            outcome=held.outcome,
            shift=shift_between(task.ws, held.ws),
            features=landmark_features(subject, before=before, after=subject.picture(held.ws)),
        )
