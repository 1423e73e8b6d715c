"""An edit on a film: every frame is found from the one before, one tuning serves all of them, the edit moves each.

1. *Latents*: the first frame's as a photo's; every other one from the latent of the frame before, in a few steps.
   Smoothed over time, as what flickers from frame to frame is what the optimiser could not decide.
2. *Weights*: tuned once, on frames spread over the clip by turns, around their latents.
3. *The edit*: the same step in latent space that a drag has made on one picture, added to every frame's latent as often
   as makes its points go as far there (`draggan.inversion.film_edit`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from draggan.config import InversionConfig
from draggan.errors import LatentError, PhotoError
from draggan.generators.base import Generator
from draggan.generators.tuned import differences_between, to_be_tuned, tuned
from draggan.inversion.descent import Descent
from draggan.inversion.distance import pyramid_distance, scaled
from draggan.inversion.invert import Inversion, target_of
from draggan.inversion.verdict import Verdict
from draggan.pixels import to_uint8
from draggan.reel import Frames, Reel
from draggan.tuning import Tuning

__all__ = ["STEPS", "Film", "FilmStep", "invert_film", "smoothed"]

Picture = UInt8[np.ndarray, "height width 3"]

# Of every frame but the first; of the coarse steps an inversion that begins nearby takes a third.
_NEXT = InversionConfig(coarse_steps=30, steps=6, tuning_steps=0, full_size_steps=0, rate=0.05)
_KEYS = 8  # frames that the weights are tuned on
STEPS = 120
"""Of the weights."""
_SMOOTHING = 1.0  # standard deviation, frames
_FINE = 256  # height in pixels of the pictures on which the weights are tuned


@dataclass(frozen=True, kw_only=True, eq=False)
class Film:
    """A clip as a model draws it.

    Attributes:
        ws: a latent for each frame.
        tuning: of the weights, for all of them.
        verdict: whether the model knows the first frame.
        generator: the model with that tuning.
    """

    ws: Float[Tensor, "frames num_ws w_dim"]
    tuning: Tuning
    verdict: Verdict
    generator: Generator

    def pictures(self, offset: Float[Tensor, "_ num_ws w_dim"] | None = None) -> Reel[Picture]:
        """Every frame as it is drawn, with an edit if one is given: what is added to all latents, or to each."""
        return Reel(self._drawn, (self.ws if offset is None else self.ws + offset).split(1))

    @torch.no_grad()
    def _drawn(self, ws: Float[Tensor, "1 num_ws w_dim"]) -> Picture:
        return to_uint8(self.generator.synthesis(ws))


@dataclass(frozen=True, kw_only=True, eq=False)
class FilmStep:
    """How far it is.

    Attributes:
        progress: by expected time, 0 to 1.
        said: what is being done, for people.
        seconds_left: expected.
        film: the result, with the last one.
    """

    progress: float
    said: str
    seconds_left: float
    film: Film | None = None


def invert_film(
    generator: Generator,
    crops: Frames[Picture],
    *,
    first: InversionConfig | None = None,
    start: Float[Tensor, "1 num_ws w_dim"] | None = None,
    steps: int = STEPS,
    smoothing: float = _SMOOTHING,
    model_sha256: str = "",
) -> Iterator[FilmStep]:
    """Bring a clip into a model.

    Args:
        crops: of its frames, at the size of the model's pictures; gone through once, and not kept.
        first: how the first frame is found.
        start: what it is looked for from, such as an encoder's guess; None: the mean.
        steps: of the weights.
        smoothing: of latents over time, standard deviation in frames; 0: none.

    Raises:
        PhotoError: there is no frame, or one has another size.
    """
    if not len(crops):
        raise PhotoError("the film has no frame")
    begun, count = time.perf_counter(), len(crops)
    config = first or InversionConfig()
    # The weights are tuned once, for all frames.
    how = replace(config, tuning_steps=0, full_size_steps=0)
    alone = how.coarse_steps // (1 if start is None else 3) + how.steps + how.row_steps
    work = alone + (count - 1) * (_NEXT.coarse_steps // 3 + _NEXT.steps) + 2 * steps
    done = 0

    def step(said: str, film: Film | None = None) -> FilmStep:
        share = 1.0 if film is not None else done / work
        left = (time.perf_counter() - begun) * (1 - share) / max(share, 1e-6)
        return FilmStep(progress=share, said=said, seconds_left=left, film=film)

    height = max((h for h in generator.preview_heights if h <= _FINE), default=generator.image_size[0])
    size = (height, round(generator.image_size[1] * height / generator.image_size[0]))
    keys = sorted({round(k * (count - 1) / max(1, _KEYS - 1)) for k in range(_KEYS)})
    targets: dict[int, Tensor] = {}
    found: list[Tensor] = []
    verdict: Verdict = "recognisable"
    for number, crop in enumerate(crops):
        inversion = Inversion(generator, crop, _NEXT if found else how, start=found[-1] if found else start)
        for _ in inversion:
            done += 1
            if not found:
                yield step("looking for the first frame")
        if not found:
            verdict = inversion.result.verdict
        found.append(inversion.ws)
        if number in keys:
            targets[number] = scaled(target_of(crop, generator), size)
        yield step(f"frame {number + 1} of {count}")
    ws = smoothed(torch.cat(found), smoothing)
    mine, weights = to_be_tuned(generator)
    descent = Descent(weights.values(), config.tuning_rate, steps)
    for k in range(steps):
        key = keys[k % len(keys)]
        with torch.enable_grad():
            loss = pyramid_distance(mine.draw(ws[key : key + 1], height), targets[key])
        descent.step(loss)
        done += 2
        yield step("tuning the model for all frames")
    tuning = Tuning(model_sha256=model_sha256, differences=differences_between(generator, weights) if steps else {})
    film = Film(ws=ws, tuning=tuning, verdict=verdict, generator=tuned(generator, tuning.differences))
    yield step("done", film)


def smoothed(ws: Float[Tensor, "frames num_ws w_dim"], deviation: float) -> Float[Tensor, "frames num_ws w_dim"]:
    """Latents over time through a Gaussian; at the ends those frames count that there are.

    Args:
        deviation: its standard deviation, frames; 0: as they are.

    Raises:
        LatentError: not a finite number from 0 on.
    """
    if not (math.isfinite(deviation) and deviation >= 0):
        raise LatentError(f"a smoothing of {deviation} frames is not allowed; give a number from 0 on")
    if deviation == 0 or len(ws) == 1:
        return ws
    at = torch.arange(len(ws), dtype=ws.dtype, device=ws.device)
    weights = torch.exp(-((at[:, None] - at[None]) ** 2) / (2 * deviation**2))
    return torch.einsum("ab,brw->arw", weights / weights.sum(1, keepdim=True), ws)
