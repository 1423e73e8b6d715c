"""There and back: what a drag did that its reverse does not undo."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from draggan.config import DragConfig
from draggan.evaluation.instructions import Instruction
from draggan.evaluation.protocols.figures import (
    DRAG_COLUMNS,
    counted,
    drag,
    drag_figures,
    landmark_features,
    mean_distance,
    random_move,
    seed_pair,
    shift_between,
)
from draggan.evaluation.protocols.landmarks import Landmarks
from draggan.evaluation.protocols.protocol import (
    Case,
    Column,
    Method,
    Protocol,
    Task,
)
from draggan.evaluation.similarity import gradient_distance, mean_square, ms_ssim
from draggan.evaluation.subject import Subject


def there_and_back(subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
    """Drag, drag back from where the handles were tracked to, and compare with the start."""
    there = drag(subject, task.ws, task.handles, task.targets, task.mask, config, method)
    height, width = subject.size
    limit = np.array([width - 1, height - 1], np.float32)
    back = drag(subject, there.ws, there.handles.clip(0, limit), task.handles, task.mask, config, method)
    before, after = subject.picture(task.ws), subject.picture(back.ws)
    a, b = (ws[0].double().cpu().numpy() for ws in (task.ws, back.ws))
    again = subject.find(after)
    figures = drag_figures(subject, task.ws, there) | {
        "asked": mean_distance(task.handles, task.targets),
        "arrived_back": float(back.outcome == "arrived"),
        "steps": float(there.steps + back.steps),
        "seconds": there.seconds + back.seconds,
        "cpu": there.cpu + back.cpu,
        "tracked_back": float(back.distances.mean()),
        "mse": mean_square(before, after),
        "perceptual": gradient_distance(before, after),
        "ms_ssim": ms_ssim(before, after),
        "latent_back": subject.whitening.between(a, b),
        "landmarks_back": None if again is None or task.found is None else mean_distance(again, task.found),
    }
    return Case(
        seed=task.seed,
        figures=figures,
        outcome=f"{there.outcome}, {back.outcome}",
        shift=shift_between(task.ws, back.ws),
        features=landmark_features(subject, before=before, after=subject.picture(there.ws)),
    )


THERE_AND_BACK_COLUMNS = (
    Column(key="asked", title="asked", unit="px"),
    Column(key="tracked", title="handles to targets, tracked", unit="px"),
    Column(key="tracked_back", title="handles to start, tracked, back", unit="px"),
    Column(key="mse", title="MSE x 100, back", digits=3, factor=100),
    Column(key="perceptual", title="perceptual distance, back", digits=3),
    Column(key="ms_ssim", title="MS-SSIM, back", digits=3),
    Column(key="landmarks_back", title="all landmarks to start, back", unit="px"),
    Column(key="latent_back", title="latent distance to start, back", digits=2),
    Column(key="arrived_back", title="arrived back", unit="%", digits=0, factor=100, share=True),
    *DRAG_COLUMNS,
)


@dataclass(frozen=True, kw_only=True)
class Roundtrip(Protocol):
    """There and back (the idea of FreeDrag's CCSD): what a drag did that its reverse does not undo.

    Tasks are those of `Landmarks`. Without landmarks one random point in the middle of the picture is dragged by
    12 % of the picture's size in a random direction. Steps and seconds are of both ways together.

    Attributes:
        points: how many landmarks; `ALL` for every one.
    """

    points: int = 1
    first_seed: int = 0

    name = "roundtrip"
    main = "perceptual"
    columns = THERE_AND_BACK_COLUMNS
    returns = True

    @property
    def title(self) -> str:
        return counted(self.name, self.points)

    def settings(self) -> dict[str, Any]:
        return {"points": self.points or "all", "first_seed": self.first_seed}

    def task(self, subject: Subject, index: int) -> Task | str:
        if subject.names:
            task = Landmarks(points=self.points, first_seed=self.first_seed).task(subject, index)
            return task if isinstance(task, str) else replace(task, truth=subject.picture(task.ws))
        seed, z, _ = seed_pair(self, subject, index)
        ws = subject.latent(z)
        handles, targets = random_move(subject, self.random(index), None, 0.12 * max(subject.size))
        return Task(seed=seed, ws=ws, handles=handles, targets=targets, truth=subject.picture(ws))

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        return there_and_back(subject, task, config, method)


@dataclass(frozen=True, kw_only=True)
class Instructions(Protocol):
    """Drags that a file asks for (`read_instructions`), there and back as FreeDragBench measures them.

    Attributes:
        instructions: what the file says.
    """

    instructions: tuple[Instruction, ...]
    first_seed: int = 0

    name = "instructions"
    main = "perceptual"
    columns = THERE_AND_BACK_COLUMNS
    returns = True

    def settings(self) -> dict[str, Any]:
        return {"instructions": [i.as_list() for i in self.instructions]}

    def count(self) -> int | None:
        return len(self.instructions)

    def task(self, subject: Subject, index: int) -> Task | str:
        instruction = self.instructions[index]
        ws = subject.latent(subject.noise(instruction.seed))
        picture = subject.picture(ws)
        handles, targets = instruction.at_size(subject.size)
        return Task(
            seed=instruction.seed, ws=ws, handles=handles, targets=targets, truth=picture, found=subject.find(picture)
        )

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        return there_and_back(subject, task, config, method)
