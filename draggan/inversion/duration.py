"""How long an inversion will take, before it begins."""

from __future__ import annotations

from collections.abc import Generator as Turns
from dataclasses import dataclass

import numpy as np

from draggan.config import InversionConfig
from draggan.generators.base import Generator
from draggan.inversion.invert import Inversion
from draggan.inversion.lpips import Lpips
from draggan.inversion.stepwise import finished

__all__ = ["Expected", "expected", "timing"]

_TIMED = 2  # steps of a kind that are timed before anything is begun; the first of them also prepares things


@dataclass(frozen=True, kw_only=True)
class Expected:
    """How long an inversion will take.

    Attributes:
        latent: seconds of computing until the latent is found.
        done: until the end.
    """

    latent: float
    done: float


def expected(
    generator: Generator,
    config: InversionConfig | None = None,
    *,
    guessed: bool = False,
    lpips: Lpips | None = None,
) -> Expected:
    """`timing`, all at once."""
    return finished(timing(generator, config, guessed=guessed, lpips=lpips))


def timing(
    generator: Generator,
    config: InversionConfig | None = None,
    *,
    guessed: bool = False,
    lpips: Lpips | None = None,
) -> Turns[None, None, Expected]:
    """How long an inversion would take on this machine as it is now: a few steps are timed, the others by their ratio.

    Takes as long as four steps, and yields after each.

    Args:
        guessed: it will begin with a guess, such as an encoder's.
        lpips: as `Inversion` takes it.

    Raises:
        ConfigError: as for `Inversion`.
    """
    config = config or InversionConfig()
    mean = generator.sample(0, 0.0, 0 if generator.c_dim else None)
    grey = np.full((*generator.image_size, 3), 128, np.uint8)
    few = InversionConfig(
        coarse_steps=min(config.coarse_steps, _TIMED),
        steps=_TIMED,
        row_steps=0,
        tuning_steps=0,
        full_size_steps=0,
        lpips_weight=config.lpips_weight,
    )
    before = 0.0
    seconds: dict[int, float] = {}
    for step in Inversion(generator, grey, few, lpips=lpips):
        seconds[step.picture.shape[-2]], before = step.seconds - before, step.seconds
        yield
    planned = Inversion(generator, grey, config, start=mean if guessed else None).plan
    fine = seconds[max(seconds)]
    times = [part.steps * (seconds.get(part.height, 0.0) if part.cost < 1 else fine * part.cost) for part in planned]
    latent = sum(t for t, part in zip(times, planned, strict=True) if part.stage == "latent")
    return Expected(latent=latent, done=sum(times))
