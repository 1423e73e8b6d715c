"""A photo becomes a latent code and tuned weights, step by step.

1. *The latent*: gradient descent in coordinates of w that are whitened by the covariance of the model's own latents
   (`draggan.drag.latent_statistics`), from their mean. There a step is as likely in every direction, and the sum of
   squares of the coordinates says how unusual a latent is. First on a small picture that the model draws on the way to
   the large one, then on one of 256 px.
2. *The weights*: what the latent cannot draw, a small change of the weights does, around this latent alone (pivotal
   tuning: Roich et al., "Pivotal Tuning for Latent-based Editing of Real Images", 2021). A locality term holds what the
   model draws of other latents nearby (their equation 4), so that a drag still leads to pictures of the model.

An `Inversion` is an iterator: each step is one step of the optimiser, and whoever iterates may stop at any time and
take what there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from draggan.config import InversionConfig
from draggan.drag.latent_statistics import latent_statistics
from draggan.errors import ConfigError, PhotoError
from draggan.generators.base import Generator
from draggan.generators.tuned import differences_between, to_be_tuned, tuned
from draggan.inversion.coordinates import Coordinates
from draggan.inversion.descent import Descent
from draggan.inversion.distance import psnr, pyramid_distance, scaled
from draggan.inversion.lpips import Lpips
from draggan.inversion.stepwise import Abandoned, look_between_layers
from draggan.inversion.verdict import Verdict, verdict_of
from draggan.tuning import Tuning

__all__ = ["Inversion", "InversionResult", "InversionStep", "Stage", "target_of"]

Stage = Literal["latent", "weights"]
# Takes the number of a step, and gives the picture before it.
_Optimise: TypeAlias = Callable[[int], Tensor]

_COARSE, _FINE = 64, 256  # heights in pixels of the pictures on which latents are found
_GROWTH = 0.9  # of a step's time with the picture's height, beyond the height on which latents are found
_OTHERS_EVERY = 4  # steps of the weights to one look at another picture
_OTHERS_DISTANCE = 0.5  # how far from the latent that picture is, of the way to a random one


@dataclass(frozen=True, kw_only=True, eq=False)
class InversionStep:
    """What is known after one step.

    Attributes:
        index: 1 after the first step.
        stage: what this step has changed: "latent" or "weights".
        progress: how much of the work is done, by its expected time, 0 to 1.
        seconds: computing time so far.
        seconds_left: expected, of computing time.
        psnr: of the picture against the photo at the size of this step, dB.
        picture: ``[1, channels, height, width]``, nominal range [-1, 1], perhaps smaller than the model's.
        verdict: whether the model knows such pictures; None as long as the latent is looked for.
        done: this was the last one.
    """

    index: int
    stage: Stage
    progress: float
    seconds: float
    seconds_left: float
    psnr: float
    picture: Tensor
    verdict: Verdict | None
    done: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class InversionResult:
    """A photo as a model draws it.

    Attributes:
        ws: the latent, ``[1, num_ws, w_dim]``.
        tuning: of the weights.
        picture: ``[1, channels, height, width]``, what the tuned model draws.
        psnr: of the picture against the photo, dB, of whole pictures.
        latent_psnr: likewise before the weights were tuned, on a picture of at most 256 px.
        unusual: how far the latent is from the mean, in spreads of the model's latents: about 1 for its own.
        verdict: whether the model knows such pictures.
        seconds: of computing.
    """

    ws: Float[Tensor, "1 num_ws w_dim"]
    tuning: Tuning
    picture: Tensor
    psnr: float
    latent_psnr: float
    unusual: float
    verdict: Verdict
    seconds: float


@dataclass(frozen=True)
class _Part:
    """Steps of one kind.

    Attributes:
        cost: what one takes, in those of the first kind.
    """

    stage: Stage
    height: int
    rows: int
    steps: int
    cost: float


class _Clock:
    """How far it is and how long the rest will take, by what steps have taken."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts, self._total = parts, sum(part.steps * part.cost for part in parts)
        self._left = [part.steps for part in parts]
        self._each: dict[int, float] = {}  # seconds a step, by the number of its part
        self._now, self.index, self.seconds = 0, 0, 0.0

    def count(self, number: int, seconds: float) -> None:
        """A step of that part was made."""
        part, before = self._parts[number], self._each.get(number, seconds)
        # The first of a kind also prepares things.
        first = part.steps - self._left[number] <= 1
        self._each[number] = seconds if first else 0.9 * before + 0.1 * seconds
        self._now, self.index, self.seconds = number, self.index + 1, self.seconds + seconds
        self._left[number] -= 1

    @property
    def progress(self) -> float:
        """By expected time, 0 to 1."""
        left = sum(steps * part.cost for steps, part in zip(self._left, self._parts, strict=True))
        return 1 - left / self._total

    @property
    def seconds_left(self) -> float:
        """Expected; of parts that have not begun, by what this one takes."""
        unit = self._each[self._now] / self._parts[self._now].cost
        kinds = enumerate(zip(self._left, self._parts, strict=True))
        return sum(steps * self._each.get(number, unit * part.cost) for number, (steps, part) in kinds)


class Inversion:
    """Brings a photo into a model.

    Args:
        generator: frozen; it stays as it is.
        photo: the crop at the size of the model's pictures (`draggan.inversion.crop.cut`).
        config: how.
        start: a latent to begin with, such as that of the film's frame before or an encoder's guess; None: the mean.
        weights: a tuning to begin with, likewise.
        model_sha256: of the model's file, for the tuning.
        lpips: also makes pictures alike by this, ``config.lpips_weight`` times.

    Raises:
        PhotoError: the photo has another size than the model's pictures.
        ConfigError: the model's latents are all alike, or its pictures are not in colour.
    """

    def __init__(
        self,
        generator: Generator,
        photo: UInt8[np.ndarray, "height width 3"],
        config: InversionConfig | None = None,
        *,
        start: Float[Tensor, "1 num_ws w_dim"] | None = None,
        weights: Tuning | None = None,
        model_sha256: str = "",
        lpips: Lpips | None = None,
    ) -> None:
        if tuple(photo.shape) != (*generator.image_size, 3):
            height, width = generator.image_size
            raise PhotoError(f"a crop of {list(photo.shape)} does not fit; give one of {width} x {height} pixels")
        statistics = latent_statistics(generator)
        if statistics is None:
            raise ConfigError("photos cannot be opened in this model: it draws the same picture of every latent")
        self._generator, self._config = generator, config or InversionConfig()
        self._lpips = None if lpips is None else lpips.to(generator.device)
        self._begun_with = generator if weights is None else tuned(generator, weights.differences)
        self._tuning_before = weights or Tuning(model_sha256=model_sha256)
        self._target = target_of(photo, generator)
        self._targets: dict[int, Tensor] = {}
        self._coordinates = Coordinates(statistics, generator.num_ws, generator.device)
        self._at = self._coordinates.of(start) if start is not None else self._coordinates.mean()
        # From nearby a third of the way is left.
        self._parts = self._plan(coarse_steps=self._config.coarse_steps // (1 if start is None else 3))
        self._seconds = 0.0
        self._stopped = False
        self._newest: InversionStep | None = None
        self._latent_psnr = 0.0
        self._mine: Generator | None = None
        self._weights: dict[str, Tensor] = {}
        self._result: InversionResult | None = None
        self._run = self._steps()

    # For whoever iterates

    def __iter__(self) -> Iterator[InversionStep]:
        return self

    def __next__(self) -> InversionStep:
        return next(self._run)

    @property
    def steps(self) -> int:
        """How many there are in all."""
        return sum(part.steps for part in self._parts)

    @property
    def plan(self) -> tuple[_Part, ...]:
        """What will be done, part by part."""
        return tuple(self._parts)

    def stop(self) -> None:
        """Good enough: the next step is the last one, which then only says so; one of the weights that is under way is
        given up between two layers. May be called from any thread."""
        self._stopped = True

    @property
    def result(self) -> InversionResult:
        """What has been reached; only between steps."""
        if self._result is None:
            self._result = self._measured()
        return self._result

    # The work

    def _plan(self, coarse_steps: int) -> list[_Part]:
        config, heights = self._config, self._generator.preview_heights
        full = self._generator.image_size[0]
        fine = max((h for h in heights if h <= _FINE), default=full)
        coarse = max((h for h in heights if h <= _COARSE), default=fine)
        rows = self._generator.num_ws
        # Measured on two cores at 256 px: a picture of 64 px takes less than half as long as one of 256 px.
        # And a step of the weights at 512 px 1.9 times as long as one at 256 px in the published network, whose maps
        # have half as many channels when they are twice as large (benchmarks/inversion.md).
        grown = (full / fine) ** _GROWTH
        parts = [
            _Part("latent", coarse, 1, coarse_steps, 0.5 if coarse < fine else 1.0),
            _Part("latent", fine, 1, config.steps, 1.0),
            _Part("latent", fine, rows, config.row_steps, 1.1),
            _Part("weights", fine, rows, config.tuning_steps, 1.8),
            _Part("weights", full, rows, config.full_size_steps if full > fine else 0, 1.8 * grown),
        ]
        return [part for part in parts if part.steps]

    def _steps(self) -> Iterator[InversionStep]:
        clock = _Clock(self._parts)
        for number, part in enumerate(self._parts):
            optimise = self._latent_steps(part) if part.stage == "latent" else self._weight_steps(part)
            for step in range(part.steps):
                begun = time.perf_counter()
                try:
                    self._abandon_if_over()
                    picture = optimise(step)
                except Abandoned:
                    assert self._newest is not None
                    yield replace(self._newest, progress=1.0, seconds_left=0.0, done=True)
                    return
                clock.count(number, time.perf_counter() - begun)
                self._newest = self._told(part, picture, clock)
                yield self._newest
                if self._newest.done:
                    return

    def _told(self, part: _Part, picture: Tensor, clock: _Clock) -> InversionStep:
        """What is known after a step of a part."""
        self._result, self._seconds = None, clock.seconds
        error = psnr(picture, self._target_at(part.height))
        if part.stage == "latent":
            self._latent_psnr = error
        last = self._stopped or clock.index == self.steps
        return InversionStep(
            index=clock.index,
            stage=part.stage,
            progress=1.0 if last else clock.progress,
            seconds=clock.seconds,
            seconds_left=0.0 if last else clock.seconds_left,
            psnr=error,
            picture=picture,
            verdict=None if part.stage == "latent" else verdict_of(self._latent_psnr, error),
            done=last,
        )

    def _abandon_if_over(self) -> None:
        """Good enough: there is something, and no more is wanted."""
        if self._stopped and self._newest is not None:
            raise Abandoned

    def _latent_steps(self, part: _Part) -> _Optimise:
        generator, config = self._begun_with, self._config
        if part.rows > 1:
            self._at = self._coordinates.in_rows(self._at)
        at = self._at = self._at.detach().clone().requires_grad_(True)
        descent = Descent([at], config.rate if part.rows == 1 else config.rate / 2, part.steps)
        target = self._target_at(part.height)

        def optimise(step: int) -> Tensor:
            with torch.enable_grad():
                picture = generator.draw(self._coordinates.ws(at), part.height)
                loss = self._distance(picture, target) + config.unusual_weight * at.square().mean()
            descent.step(loss)
            return picture.detach()

        return optimise

    def _weight_steps(self, part: _Part) -> _Optimise:
        config, base = self._config, self._begun_with
        if self._mine is None:
            self._mine, tunable = to_be_tuned(base)
            self._weights = dict(tunable)
            # On a processor a step takes seconds where pictures are large; a GPU takes it as a whole.
            if base.device.type == "cpu":
                look_between_layers(self._mine.synthesis, self._abandon_if_over)  # type: ignore[arg-type]
        generator, descent = self._mine, Descent(self._weights.values(), config.tuning_rate, part.steps)
        target, ws = self._target_at(part.height), self.ws
        others = torch.Generator().manual_seed(0)
        near = min((h for h in base.preview_heights), key=lambda h: abs(h - _COARSE))

        def optimise(step: int) -> Tensor:
            with torch.enable_grad():
                picture = generator.draw(ws, part.height)
                loss = self._distance(picture, target)
                if config.locality_weight and step % _OTHERS_EVERY == 0:
                    other = self._coordinates.towards(ws, others, _OTHERS_DISTANCE)
                    with torch.no_grad():
                        wanted = base.draw(other, near)
                    held = pyramid_distance(generator.draw(other, near), wanted)
                    loss = loss + config.locality_weight * _OTHERS_EVERY * held
            descent.step(loss)
            return picture.detach()

        return optimise

    def _distance(self, picture: Tensor, target: Tensor) -> Tensor:
        distance = pyramid_distance(picture, target)
        if self._lpips is not None and self._config.lpips_weight:
            coloured = (x.expand(-1, 3, -1, -1) for x in (picture, target))
            distance = distance + self._config.lpips_weight * self._lpips(*coloured)
        return distance

    @property
    def ws(self) -> Float[Tensor, "1 num_ws w_dim"]:
        """The latent as far as it has been found."""
        return self._coordinates.ws(self._at.detach()).contiguous()

    @property
    def _unusual(self) -> float:
        return float(self._at.detach().square().mean().sqrt())

    @torch.no_grad()
    def _measured(self) -> InversionResult:
        tuning, ws = self._tuning_before, self.ws
        if self._weights:
            differences = differences_between(self._generator, self._weights)
            tuning = Tuning(model_sha256=tuning.model_sha256, differences=differences)
        # With the differences as they are kept, rounded.
        picture = tuned(self._generator, tuning.differences).synthesis(ws)
        reached = psnr(picture, self._target)
        return InversionResult(
            ws=ws,
            tuning=tuning,
            picture=picture,
            psnr=reached,
            latent_psnr=self._latent_psnr,
            unusual=self._unusual,
            verdict=verdict_of(self._latent_psnr, reached if tuning.differences else None),
            seconds=self._seconds,
        )

    def _target_at(self, height: int) -> Tensor:
        if height not in self._targets:
            full = self._generator.image_size
            size = (height, round(full[1] * height / full[0]))
            self._targets[height] = scaled(self._target, size)
        return self._targets[height]


def target_of(photo: UInt8[np.ndarray, "height width 3"], generator: Generator) -> Float[Tensor, "1 _ height width"]:
    """The photo as the generator draws pictures: as many channels, nominal range [-1, 1]."""
    with torch.no_grad():
        channels = generator.synthesis(generator.sample(0, 0.0, 0 if generator.c_dim else None)).shape[1]
    if channels not in (1, 3):
        raise ConfigError(f"photos cannot be opened in this model, whose pictures have {channels} channels, not 3 or 1")
    # The inverse of `draggan.pixels.to_uint8` in the middle of what becomes the same byte.
    target = (torch.tensor(photo, device=generator.device).permute(2, 0, 1)[None].float() - 127.5) / 127.5
    return target if channels == 3 else target.mean(1, keepdim=True)
