"""Landmark manipulation: points of one picture to where they are in another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from draggan.config import DragConfig
from draggan.evaluation.protocols.figures import (
    DRAG_COLUMNS,
    counted,
    drag,
    drag_figures,
    landmark_features,
    mean_distance,
    seed_pair,
    shift_between,
)
from draggan.evaluation.protocols.protocol import (
    ALL,
    Case,
    Column,
    Method,
    Protocol,
    Task,
)
from draggan.evaluation.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Landmarks(Protocol):
    """Landmark manipulation (DragGAN, Table 1): two random pictures, landmarks of one to where they are in the other.

    Figures: mean distance of the landmarks to their targets as *found again* in the result by the landmark network,
    which knows nothing of the drag ("landmarks"), before any drag ("asked") and by the drag's own tracker ("tracked").
    Which landmarks are dragged is drawn anew for every pair, of those visible in both pictures.

    Attributes:
        points: how many landmarks; `ALL` for every one.
    """

    points: int = 1
    first_seed: int = 0

    name = "landmarks"
    main = "landmarks"
    columns = (
        Column(key="asked", title="landmarks to targets, before", unit="px"),
        Column(key="landmarks", title="landmarks to targets, found again", unit="px"),
        Column(key="tracked", title="handles to targets, tracked", unit="px"),
        *DRAG_COLUMNS,
        Column(key="detector", title="error of the landmark network itself", unit="px"),
    )

    @property
    def title(self) -> str:
        return counted(self.name, self.points)

    def missing(self, subject: Subject) -> str:
        return "" if subject.names else "it needs a landmark network or a scene, which only built-in models have"

    def settings(self) -> dict[str, Any]:
        return {"points": self.points or "all", "first_seed": self.first_seed}

    def task(self, subject: Subject, index: int) -> Task | str:
        seed, z_a, z_b = seed_pair(self, subject, index)
        ws = subject.latent(z_a)
        picture, other = subject.picture(ws), subject.picture(subject.latent(z_b))
        (found, good), (there, good_there) = subject.landmarks(z_a, picture), subject.landmarks(z_b, other)
        able = np.flatnonzero(good & good_there)
        if not len(able):
            return "no landmark is visible in both pictures"
        chosen = able if self.points == ALL else np.sort(self.random(index).permutation(able)[: self.points])
        return Task(
            seed=seed,
            ws=ws,
            handles=found[chosen].astype(np.float32),
            targets=there[chosen].astype(np.float32),
            names=tuple(subject.names[i] for i in chosen),
            z_other=z_b,
            truth=other,
            other=other,
            found=found,
        )

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        dragged = drag(subject, task.ws, task.handles, task.targets, task.mask, config, method)
        after = subject.picture(dragged.ws)
        figures = drag_figures(subject, task.ws, dragged)
        figures["asked"] = mean_distance(task.handles, task.targets)
        again = subject.find(after)
        chosen = [subject.names.index(name) for name in task.names]
        figures["landmarks"] = None if again is None else mean_distance(again[chosen], task.targets)
        true = None if task.z_other is None or again is None else subject.truth(task.z_other, task.names)
        figures["detector"] = None if true is None else mean_distance(task.targets, true[0])
        return Case(
            seed=task.seed,
            figures=figures,
            outcome=dragged.outcome,
            shift=shift_between(task.ws, dragged.ws),
            features=landmark_features(subject, before=subject.picture(task.ws), after=after, other=task.other),
        )
