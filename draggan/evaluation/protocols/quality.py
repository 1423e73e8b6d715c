"""How well a built-in model draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from draggan.config import DragConfig
from draggan.evaluation.protocols.figures import (
    landmark_features,
    mean_distance,
)
from draggan.evaluation.protocols.protocol import (
    Case,
    Column,
    Method,
    Protocol,
    Task,
)
from draggan.evaluation.similarity import gradient_distance, ms_ssim, psnr, sharpness
from draggan.evaluation.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Quality(Protocol):
    """How well a built-in model draws: generated pictures against the renderings that they should be.

    Nothing is dragged. The seeds are not those of the training, which draws its noise another way. Sharpness is
    the energy of the gradients, generated over rendered.
    """

    first_seed: int = 0

    name = "quality"
    main = "psnr"
    columns = (
        Column(key="psnr", title="PSNR", unit="dB", more_is_better=True),
        Column(key="ms_ssim", title="MS-SSIM", digits=3),
        Column(key="perceptual", title="perceptual distance", digits=3),
        Column(key="sharpness", title="sharpness, generated over rendered", digits=2),
        Column(key="landmarks_rendered", title="landmark network's error on renderings", unit="px"),
        Column(key="landmarks_generated", title="landmark network's error on generated pictures", unit="px"),
    )

    def missing(self, subject: Subject) -> str:
        if subject.scene is None:
            return "it needs the scene that the model was trained on, which only built-in models have"
        return "" if subject.exact is not None else "a scene knows the right picture at truncation 1 only"

    def settings(self) -> dict[str, Any]:
        return {"first_seed": self.first_seed}

    def task(self, subject: Subject, index: int) -> Task | str:
        seed = self.first_seed + index
        z = subject.noise(seed)
        assert subject.exact is not None
        rendering = subject.exact.render(subject.exact.parameters(z.numpy()), subject.size[0])
        none = np.zeros((0, 2), np.float32)
        truth = torch.from_numpy(np.asarray(rendering.pictures)).float() / 127.5 - 1
        return Task(
            seed=seed, ws=subject.latent(z), handles=none, targets=none, truth=truth.to(subject.generator.device)
        )

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        assert task.truth is not None
        made, right = subject.picture(task.ws), task.truth
        figures: dict[str, float | None] = {
            "psnr": psnr(made, right),
            "ms_ssim": ms_ssim(made, right),
            "perceptual": gradient_distance(made, right),
            "sharpness": sharpness(made) / max(sharpness(right), 1e-12),
            "landmarks_rendered": None,
            "landmarks_generated": None,
        }
        true = None if subject.finder is None else subject.truth(subject.noise(task.seed), subject.names)
        if true is not None and true[1].any():
            points, visible = true
            for key, picture in (("landmarks_rendered", right), ("landmarks_generated", made)):
                found = subject.find(picture)
                assert found is not None
                figures[key] = mean_distance(found[visible], points[visible])
        return Case(
            seed=task.seed, figures=figures, outcome="", features=landmark_features(subject, before=right, after=made)
        )
