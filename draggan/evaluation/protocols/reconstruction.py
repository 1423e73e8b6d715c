"""Paired reconstruction: does a drag by the true flow end at the picture it comes from?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from draggan.config import DragConfig
from draggan.evaluation.protocols.figures import (
    DRAG_COLUMNS,
    counted,
    drag,
    drag_figures,
    mean_distance,
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
from draggan.evaluation.similarity import gradient_distance, mean_square, ms_ssim
from draggan.evaluation.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Protocol):
    """Paired reconstruction (DragGAN, Table 2): from one picture to a nearby one by points of the flow between them.

    ``z2 = z1 cos a + n sin a`` with ``sin a`` = ``perturbation``; 32 random points that the flow knows in both
    pictures are dragged from the first to the second, in at most 100 steps, as published. The flow is the scene's
    truth where there is one, else correspondences of features. Size of the perturbation: ours, none is published.

    Attributes:
        points: how many points of the flow.
        perturbation: how far away the second picture is, 0 to 1.
    """

    points: int = 32
    perturbation: float = 0.3
    first_seed: int = 0

    name = "reconstruction"
    main = "mse"
    finds = False
    columns = (
        Column(key="mse_before", title="MSE x 100, before", digits=3, factor=100),
        Column(key="mse", title="MSE x 100", digits=3, factor=100),
        Column(key="perceptual_before", title="perceptual distance, before", digits=3),
        Column(key="perceptual", title="perceptual distance", digits=3),
        Column(key="ms_ssim", title="MS-SSIM", digits=3),
        Column(key="asked", title="points to targets, before", unit="px"),
        Column(key="tracked", title="points to targets, tracked", unit="px"),
        *DRAG_COLUMNS,
    )

    @property
    def title(self) -> str:
        return counted(self.name, self.points)

    def settings(self) -> dict[str, Any]:
        return {"points": self.points, "perturbation": self.perturbation, "first_seed": self.first_seed}

    def limited(self, config: DragConfig) -> DragConfig:
        return replace(config, max_steps=min(config.max_steps, 100))

    def task(self, subject: Subject, index: int) -> Task | str:
        seed, z_a, noise = seed_pair(self, subject, index)
        z_b = z_a * (1 - self.perturbation**2) ** 0.5 + noise * self.perturbation
        height, width = subject.size
        points = self.random(index).uniform([1, 1], [width - 2, height - 2], (16 * self.points, 2)).astype(np.float32)
        there, good = subject.flow(z_a, z_b, points)
        chosen = np.flatnonzero(good)[: self.points]
        if not len(chosen):
            return "no point could be found in both pictures"
        return Task(
            seed=seed,
            ws=subject.latent(z_a),
            handles=points[chosen],
            targets=there[chosen].astype(np.float32),
            truth=subject.picture(subject.latent(z_b)),
        )

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        assert task.truth is not None
        dragged = drag(subject, task.ws, task.handles, task.targets, task.mask, config, method)
        before, after = subject.picture(task.ws), subject.picture(dragged.ws)
        figures = drag_figures(subject, task.ws, dragged) | {
            "asked": mean_distance(task.handles, task.targets),
            "mse_before": mean_square(before, task.truth),
            "mse": mean_square(after, task.truth),
            "perceptual_before": gradient_distance(before, task.truth),
            "perceptual": gradient_distance(after, task.truth),
            "ms_ssim": ms_ssim(after, task.truth),
        }
        return Case(
            seed=task.seed,
            figures=figures,
            outcome=dragged.outcome,
            shift=shift_between(task.ws, dragged.ws),
        )
