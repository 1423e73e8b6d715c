"""How small networks that come with built-in models are trained: by the clock, on scenes, resumed where they ended."""

from __future__ import annotations

import copy
import logging
import math
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dnnlib.cache import replacing
from draggan.errors import ConfigError
from draggan.scenes.scene import Scene
from draggan.small_networks import follow

__all__ = ["Progress", "SmallConfig", "SmallTrainer", "training_facts"]

logger = logging.getLogger(__name__)

NetworkType = TypeVar("NetworkType", bound=nn.Module)
ConfigType = TypeVar("ConfigType", bound="SmallConfig")


@dataclass(frozen=True, kw_only=True)
class SmallConfig:
    """Settings of one training, all chosen by us.

    Attributes:
        minutes: training time, all runs of a resumed training together; rendering included.
        seed: of weights, pictures and batches.
        batch: pictures per step.
        lr: AdamW's step after the warm-up; it falls to 1 % along a cosine.
        warmup: steps of linear warm-up.
        weight_decay: of AdamW.
        ema_steps: half-life of the weight average, in steps.
        stock: how many pictures are kept to draw from.
        first: how many are rendered before the first step.
        renew: steps per 32 new pictures.
        generated: how seldom pictures of the generator are among them.
        save_minutes: time between checkpoints.
    """

    minutes: float
    seed: int = 0
    batch: int = 32
    lr: float
    warmup: int = 100
    weight_decay: float = 1e-3
    ema_steps: float = 200.0
    stock: int
    first: int = 1024
    renew: int = 3
    generated: int
    save_minutes: float

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise ConfigError(f"minutes {self.minutes} is not allowed; it must be above 0")
        if min(self.batch, self.stock, self.first, self.renew, self.generated) < 1:
            raise ConfigError("batch, stock, first, renew and generated must be at least 1")

    def step_size(self, steps: int, part: float) -> float:
        """AdamW's step after so many steps, when that part (0 to 1) of the time is over."""
        warm = min(1.0, (steps + 1) / self.warmup)
        return self.lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))


@dataclass
class Progress:
    """The progress of a training; saved with the weights.

    Attributes:
        seconds: it has taken.
        steps: of the optimiser.
        block: of scenes' noise, the next one.
        rendered, generated: the network's figure on held renderings and on held pictures of the generator.
        curve: (minutes, mean figure of the last steps).
    """

    seconds: float = 0.0
    steps: int = 0
    block: int = 0
    rendered: float = 0.0
    generated: float = 0.0
    curve: list[tuple[float, float]] = field(default_factory=list)


class SmallTrainer(ABC, Generic[NetworkType, ConfigType]):
    """One training in one folder: ``checkpoint.pt``.

    Args:
        scene: whose pictures are learnt from.
        network: with the weights to begin with.
        config: the settings; those of a resumed training need not be those of its beginning.
        out: folder, created if missing.
        resume: go on from ``checkpoint.pt`` if there is one.

    Raises:
        ConfigError: the checkpoint is of another scene.
    """

    line: ClassVar[str]
    """What a step's figure is called in the log, for ``format``."""
    held_line: ClassVar[str]
    """What the two figures of held pictures are called in the log, for ``format``."""

    def __init__(self, scene: Scene, network: NetworkType, config: ConfigType, out: Path, *, resume: bool) -> None:
        self.scene, self.network, self.config, self.out = scene, network, config, out
        out.mkdir(parents=True, exist_ok=True)
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True
        )
        self.progress = Progress()
        if resume and self.checkpoint.is_file():
            self._restore()
        steps = self.progress.steps
        self.rng = np.random.default_rng((config.seed, steps))
        self.random = torch.Generator().manual_seed(1_000_003 * config.seed + steps)

    @property
    def checkpoint(self) -> Path:
        """The file that a resumed training starts from."""
        return self.out / "checkpoint.pt"

    def run(self) -> None:
        """Train until the time is up; saves from time to time and at the end."""
        p, limit = self.progress, self.config.minutes * 60
        before = last_save = last_log = time.monotonic()
        running = weight = 0.0
        while p.seconds < limit:
            figure = self.step(p.seconds / limit)
            running, weight = running * 0.98 + figure * 0.02, weight * 0.98 + 0.02
            now = time.monotonic()
            p.seconds += now - before
            before = now
            if now - last_log >= 20:
                p.curve.append((p.seconds / 60, running / weight))
                logger.info("%5.1f min  step %d  %s", p.seconds / 60, p.steps, self.line.format(running / weight))
                last_log = now
            if now - last_save >= self.config.save_minutes * 60:
                self.save()
                last_save = time.monotonic()
        self.save()

    def step(self, part: float) -> float:
        """One optimiser step.

        Args:
            part: how much of the time is over, 0 to 1; decides the step size.

        Returns:
            The batch's figure, before the step.
        """
        config, p = self.config, self.progress
        for group in self.optimiser.param_groups:
            group["lr"] = config.step_size(p.steps, part)
        self.network.train()
        loss, figure = self.loss()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        p.steps += 1
        follow(self.average, self.network, p.steps, config.ema_steps)
        return float(figure.detach())

    @abstractmethod
    def loss(self) -> tuple[Tensor, Tensor]:
        """Of a new batch: the loss, and the figure that people understand; both scalars."""

    @abstractmethod
    def measure(self) -> tuple[float, float]:
        """The averaged network's figure on held renderings, and on held pictures of the generator."""

    def save(self) -> None:
        """Write the checkpoint, as a whole or not at all."""
        p = self.progress
        p.rendered, p.generated = self.measure()
        logger.info("%5.1f min  held pictures: %s", p.seconds / 60, self.held_line.format(p.rendered, p.generated))
        state = {
            "scene": self.scene.name,
            "config": asdict(self.config),
            "progress": asdict(p),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        with replacing(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def _restore(self) -> None:
        state: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        if not {"scene", "config", "progress"} <= set(state):
            raise ConfigError(f"{self.checkpoint} is of an earlier version; begin anew in another --out")
        if state["scene"] != self.scene.name:
            raise ConfigError(f"{self.checkpoint} is a training of another scene; choose another --out")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])
        logger.info("resumed after %.1f min and %d steps", self.progress.seconds / 60, self.progress.steps)


def training_facts(scene: str, kind: str, config: SmallConfig, progress: Progress) -> dict[str, str]:
    """What the file of a finished network says of itself and its training.

    Args:
        kind: what it is, such as "encoder".
    """
    return {
        "name": f"{scene}-{kind}",
        "licence": "Apache-2.0",
        "source": f"trained on the procedural scene '{scene}' of this project; no photograph was used",
        "training": f"{progress.steps} steps of {config.batch} in {progress.seconds / 60:.1f} minutes",
    }
