"""Steps of a training on a GPU, each kind recorded as a CUDA graph and replayed.

A step is a thousand short operations; one by one they take the host longer than the device. So everything that changes
from step to step is on the device: scenes (`device_pool`), step size, exponent and weights of the loss, averages; and
nothing is read back. One GPU, before the discriminator: 18 ms a step of 64 pictures at 128 px, 29 ms at 256 px, from a
trial of the same procedure; this module itself has not run on a GPU yet. Tests record it on a processor, by the rules
of CUDA's graphs (tests/emulated.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from draggan.generators.stylegan2 import StyleGAN2Generator
from draggan.scenes.adversary import Adversary
from draggan.scenes.device_pool import DevicePool, Scenes
from draggan.scenes.objective import loss, pixel_weights, synthesise
from torch_utils.recorder import Recorder

__all__ = ["RecordedSteps"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedSteps:
    """All kinds of steps of one training, each recorded when it is first taken.

    Attributes:
        generator, average: in training, and the average of its weights.
        optimiser: of the generator, with a tensor for a step size, and capturable.
        adversary: its discriminator, recordable; None for a training without.
        pool: of scenes at the full size.
        batch: pictures a step.
        outline, slopes, adversarial, clip: as in `TrainConfig`.
        dtype: of feature maps.
        recorder: None: steps are taken, not recorded.
    """

    generator: StyleGAN2Generator
    average: StyleGAN2Generator
    optimiser: torch.optim.Optimizer
    adversary: Adversary | None
    pool: DevicePool
    batch: int
    outline: float
    slopes: float
    adversarial: float
    clip: float
    dtype: torch.dtype
    recorder: Recorder | None
    _kinds: dict[tuple[Any, ...], Callable[[], Tensor]] = field(default_factory=dict)
    _scalars: dict[str, Tensor] = field(default_factory=dict)

    def step(
        self, resolution: int, *, lr: float, exponent: float, energy: float, keep: float, adversarial: bool
    ) -> Float[Tensor, ""]:
        """One step, of the discriminator too where it takes part.

        Args:
            resolution: which skip picture to train.
            lr: step size.
            exponent: of the importance weights.
            energy: weight of the term for detail.
            keep: how much of the average stays.
            adversarial: whether the discriminator takes part.

        Returns:
            The generator's loss, on the device; the next step overwrites it.
        """
        for group in self.optimiser.param_groups:
            group["lr"].fill_(lr)
        for name, number in (("exponent", exponent), ("energy", energy), ("blend", 1 - keep)):
            self._scalar(name).fill_(number)
        if adversarial and self.adversary is not None:
            penalise = self.adversary.penalty_is_due
            self._do(("discriminator", penalise), lambda: self._teach(penalise))
            self.adversary.steps += 1
        value = self._do(("generator", resolution, adversarial), lambda: self._learn(resolution, adversarial))
        self.pool.refresh()
        return value

    @property
    def recorded(self) -> int:
        """How many kinds of steps there are by now."""
        return len(self._kinds)

    def _scalar(self, name: str) -> Tensor:
        if name not in self._scalars:
            self._scalars[name] = torch.zeros((), device=self.pool.device)
        return self._scalars[name]

    def _do(self, kind: tuple[Any, ...], work: Callable[[], Tensor]) -> Tensor:
        if kind not in self._kinds:
            self._kinds[kind] = self._record(kind, work)
        return self._kinds[kind]()

    def _record(self, kind: tuple[Any, ...], work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """The work as one replay; as it is where it cannot be recorded. What recording changes is put back."""
        if self.recorder is None:
            return work
        before = [(t, t.detach().clone()) for t in self._state()]
        try:
            with self.pool.quiet:
                result, replay = self.recorder.record(work)
        except RuntimeError as error:
            logger.warning("%s cannot be recorded (%s); its steps are taken one operation at a time", kind, error)
            return work
        finally:
            known = {id(t) for t, _ in before}
            with torch.no_grad():
                for t, was in before:
                    t.copy_(was)
                for t in self._state():
                    if id(t) not in known:  # an optimiser's moments come into being with its first step
                        t.zero_()

        def run() -> Tensor:
            replay()
            return result

        return run

    def _state(self) -> list[Tensor]:
        """All that a step changes."""
        moments = [v for one in self.optimiser.state.values() for v in one.values() if isinstance(v, Tensor)]
        means = [network.mapping.w_avg for network in (self.generator, self.average)]
        networks = [*self.generator.parameters(), *self.average.parameters()]
        return [*networks, *means, *moments, *([] if self.adversary is None else self.adversary.state)]

    def _scenes(self, resolution: int) -> tuple[Scenes, Float[Tensor, "batch 3 size size"]]:
        """A batch, and its pictures in [-1, 1] at that size."""
        scenes = self.pool.sample(self.batch)
        pictures, shrink = scenes.pictures.float() / 127.5 - 1, self.pool.size // resolution
        return scenes, pictures if shrink == 1 else F.avg_pool2d(pictures, shrink)

    def _weights(self, scenes: Scenes, resolution: int) -> Float[Tensor, "batch 1 size size"]:
        weight = pixel_weights(
            scenes.importance, scenes.outlines, exponent=self._scalar("exponent"), extra=self.outline
        )
        shrink = self.pool.size // resolution
        return weight if shrink == 1 else F.avg_pool2d(weight, shrink)

    def _fresh(self, resolution: int, count: int) -> Float[Tensor, "count 3 size size"]:
        """Pictures of noise that no pair was made for: the discriminator should judge what users will see."""
        z = torch.randn(count, self.generator.z_dim, device=self.pool.device)
        return synthesise(self.generator, self.generator.mapping(z), resolution, self.dtype)

    def _learn(self, resolution: int, adversarial: bool) -> Tensor:
        scenes, right = self._scenes(resolution)
        ws = self.generator.mapping(scenes.z)
        made = synthesise(self.generator, ws, resolution, self.dtype)
        value = loss(made, right, self._weights(scenes, resolution), self._scalar("energy"), self.slopes)
        if adversarial and self.adversary is not None:
            count = max(1, self.batch // 2)
            value = value + self.adversarial * self.adversary.objection(self._fresh(resolution, count))
        parameters: Sequence[Tensor] = [p for group in self.optimiser.param_groups for p in group["params"]]
        # None for the blocks beyond the resolution being trained.
        for q, gradient in zip(parameters, torch.autograd.grad(value, parameters, allow_unused=True), strict=True):
            q.grad = gradient
        torch.nn.utils.clip_grad_norm_([q for q in parameters if q.grad is not None], self.clip)
        self.optimiser.step()
        with torch.no_grad():
            self.generator.mapping.w_avg.lerp_(ws[:, 0].detach().mean(0), 0.002)
            self.average.mapping.w_avg.copy_(self.generator.mapping.w_avg)
            for mine, its in zip(self.average.parameters(), self.generator.parameters(), strict=True):
                mine.lerp_(its, self._scalar("blend"))
        return value.detach()

    def _teach(self, penalise: bool) -> Tensor:
        assert self.adversary is not None
        with torch.no_grad():
            made = self._fresh(self.pool.size, self.batch)
        _, real = self._scenes(self.pool.size)
        return self.adversary.teach(made, real, penalise=penalise)
