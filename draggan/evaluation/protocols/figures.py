"""What several protocols share: one timed drag, its figures, and how tasks are drawn."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.config import DragConfig
from draggan.evaluation.protocols.protocol import ALL, DRAG, WS, Column, Method, Picture, Points, Protocol
from draggan.evaluation.subject import Subject


@dataclass(frozen=True, kw_only=True, eq=False)
class Dragged:
    """How a drag went.

    Attributes:
        ws: where it ended.
        handles: as tracked there.
        distances: pixels left, by the tracker.
        lost: which handles it says nothing of.
        steps, outcome: as in `DragStep`.
        seconds, cpu: wall clock and processor time from before the construction to the last step.
    """

    ws: WS
    handles: Points
    distances: Float[np.ndarray, "n"]
    lost: Bool[np.ndarray, "n"]
    steps: int
    outcome: str
    seconds: float
    cpu: float


def drag(
    subject: Subject,
    ws: WS,
    handles: Points,
    targets: Points,
    mask: Bool[np.ndarray, "height width"] | None,
    config: DragConfig,
    method: Method = DRAG,
) -> Dragged:
    """One whole drag, timed."""
    clock, cpu = time.perf_counter(), time.process_time()
    step = deque(method.begin(subject.generator, ws, handles, targets, mask, config), maxlen=1).pop()
    if step.ws.device.type == "cuda":
        torch.cuda.synchronize()
    return Dragged(
        ws=step.ws,
        handles=step.handles,
        distances=step.distances,
        lost=step.lost,
        steps=step.index,
        outcome=step.outcome or "stopped",
        seconds=time.perf_counter() - clock,
        cpu=time.process_time() - cpu,
    )


DRAG_COLUMNS: tuple[Column, ...] = (
    Column(key="arrived", title="arrived", unit="%", digits=0, factor=100, share=True),
    Column(key="steps", title="steps", digits=0),
    Column(key="seconds", title="time", unit="s", digits=2),
    Column(key="cpu", title="processor time", unit="s", digits=2),
    Column(key="latent_before", title="latent distance from the mean, before", digits=2),
    Column(key="latent_after", title="latent distance from the mean, after", digits=2),
    Column(key="latent_moved", title="latent distance moved", digits=2),
)


def counted(name: str, points: int) -> str:
    """A title: "landmarks, 5 points"."""
    return f"{name}, {'all landmarks' if points == ALL else f'{points} points' if points > 1 else '1 point'}"


def seed_pair(protocol: Protocol, subject: Subject, index: int) -> tuple[int, Tensor, Tensor]:
    """Two pictures that no other task has: the first one's seed, and the noise of both."""
    seed = protocol.first_seed + 2 * index
    return seed, subject.noise(seed), subject.noise(seed + 1)


def drag_figures(subject: Subject, before: WS, dragged: Dragged) -> dict[str, float | None]:
    """The figures of `DRAG_COLUMNS`."""
    a, b = (ws[0].double().cpu().numpy() for ws in (before, dragged.ws))
    return {
        "arrived": float(dragged.outcome == "arrived"),
        "steps": float(dragged.steps),
        "seconds": dragged.seconds,
        "cpu": dragged.cpu,
        "tracked": float(dragged.distances.mean()),
        "latent_before": subject.whitening.distance(a),
        "latent_after": subject.whitening.distance(b),
        "latent_moved": subject.whitening.between(a, b),
    }


def shift_between(before: WS, after: WS) -> Float[np.ndarray, "rows w_dim"]:
    """The rows up to the last that changed."""
    change = (after - before)[0].cpu().numpy()
    changed = np.flatnonzero(np.abs(change).max(1))
    return change[: changed[-1] + 1 if len(changed) else 0]


def landmark_features(subject: Subject, **pictures: Picture | None) -> dict[str, np.ndarray]:
    """What the landmark network sees in each, by the same names; empty without a network."""
    found = {name: subject.features(picture) for name, picture in pictures.items() if picture is not None}
    return {name: features for name, features in found.items() if features is not None}


def mean_distance(points: Points, targets: Points) -> float:
    """Mean distance in pixels."""
    return float(np.linalg.norm(points - targets, axis=-1).mean())


def random_move(
    subject: Subject, random: np.random.Generator, handle: Sequence[float] | None, length: float
) -> tuple[Points, Points]:
    """A handle (drawn from the middle of the picture if none is given) and a target that far off, both inside."""
    height, width = subject.size
    limit = np.array([width - 1, height - 1], np.float64)
    p = limit * random.uniform(0.25, 0.75, 2) if handle is None else np.asarray(handle, np.float64)
    for _ in range(100):
        angle = random.uniform(0, 2 * np.pi)
        t = p + length * np.array([np.cos(angle), np.sin(angle)])
        if (t >= 1).all() and (t <= limit - 1).all():
            break
    else:
        t = p + (limit / 2 - p) * min(length / max(float(np.linalg.norm(limit / 2 - p)), 1e-9), 1.0)
    return p[None].astype(np.float32), t[None].astype(np.float32)
