"""How strong an edit has to be on each frame of a film, so that its points go as far as they went when it was made.

The same step in latent space moves one picture by a third as much as another and a third by three times as much: the
edit of a film that added it as it is was 1.3 to 2.9 times too large (benchmarks/video.md). So points are followed:

1. Every handle of the edit is looked for in the frame, by the features of the model around it (`corresponding`), or
   where the landmarks around it are, in models that have a landmark network (`carried`).
2. It is followed through the pictures between the frame and the edited frame, each compared with the one before and
   with the first (`followed`), and so it is in the picture on which the edit was made. As both are measured in the same
   way, what is wrong with the measure cancels.
3. The strength is what makes both ways as long; measured once more with that. Frames in between have strengths in
   between, smoothed over time: an edit that grows and shrinks moves all that it changes, also where nothing was pulled
   (benchmarks/video.md).

Why not by what drags follow content with (`draggan.drag.line`): it errs as little on single pictures, takes 1.8 times
as long, and makes the edit of the film of the car 1.20 times as large as it should be, this 1.05 times.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from draggan.generators.base import Generator
from draggan.geometry import sample
from draggan.inversion.film import smoothed
from draggan.landmarks import LandmarkNetwork

__all__ = ["CALM", "KEYS", "carried", "corresponding", "followed", "strengths"]

KEYS = 8
"""Frames on which it is measured, spread over the film."""
CALM = 6.0
"""Standard deviation of strengths over time, frames: with more the edit is too weak here and too strong there."""
_GUIDES = 4  # landmarks that a point goes along with
_CELLS = 16  # along a picture's side, of the map that says where something is
_PIECES = 6  # pictures from the frame to the edited frame
_REACH = 0.03  # how far content may go in one of them, of the picture's width
_PATCH = 5  # of so many points a side
_APART = 1 / 64  # of which neighbours lie so far apart, of the width; 1.5 times as far to find it in another picture
_AWAY = 0.5  # what a place a whole width away has to look more alike for, as a difference of cosines
_ANCHORED = 0.3  # weight of the first picture beside the one before
_SHORTEST = 0.01  # a way that is shorter, of the width, says nothing
_WEAKEST, _STRONGEST = 0.25, 4.0

Points = Float[Tensor, "n 2"]


@torch.no_grad()
def corresponding(
    generator: Generator,
    first: Float[Tensor, "1 num_ws w_dim"],
    second: Float[Tensor, "1 num_ws w_dim"],
    points: Points,
) -> Points:
    """Where points of one latent's picture are in another's, by features; near where they were, as models draw their
    subjects at about the same place.

    Args:
        points: image pixels.
    """
    fine = _Looks(generator, generator.default_level)
    places = fine.lattice()
    alike = -_AWAY * torch.cdist(points, places) / fine.width
    # What is around it says which of two eyes it is, what it looks like where exactly.
    for looks, wide in ((_Looks(generator, _coarse(generator)), 4.0), (fine, 1.5)):
        maps = [looks.map(ws) for ws in (first, second)]
        spread, mean = torch.std_mean(torch.cat(maps), (0, 2, 3), keepdim=True)
        before, after = ((one - mean) / (spread + 1e-6) for one in maps)
        wanted = F.normalize(looks.at(before, points[:, None] + wide * looks.patch).flatten(1), dim=-1)
        there = F.normalize(looks.at(after, places[:, None] + wide * looks.patch).flatten(1), dim=-1)
        alike = alike + wanted @ there.T
    return places[alike.argmax(1)]


def carried(points: Points, first: Float[Tensor, "landmark 2"], second: Float[Tensor, "landmark 2"]) -> Points:
    """Where points are that go along with the landmarks around them, from one picture to another; image pixels."""
    away = torch.cdist(points, first)
    # A point on a landmark is that landmark; between several it goes with all of them.
    weights = 1 / (away.square() + 1.0)
    near = weights.topk(min(_GUIDES, len(first)), dim=1)
    moved = (second - first)[near.indices]
    return points + (near.values[..., None] * moved).sum(1) / near.values.sum(1, keepdim=True)


@torch.no_grad()
def followed(
    generator: Generator,
    ws: Float[Tensor, "1 num_ws w_dim"],
    offset: Float[Tensor, "1 num_ws w_dim"],
    points: Points,
) -> Points:
    """Where the content of points goes while an offset is added to a latent bit by bit.

    Args:
        points: in the latent's picture, image pixels.
    """
    looks = _Looks(generator, generator.default_level)
    first = before = looks.map(ws)
    reach = _REACH * looks.width
    coarse, fine = _around(reach, 9, points), _around(0.75 * reach / 4, 9, points)
    anchor = looks.at(first, points[:, None] + looks.patch)
    places = points
    for piece in range(1, _PIECES + 1):
        now = looks.map(ws + offset * (piece / _PIECES))
        wanted = looks.at(before, places[:, None] + looks.patch)
        for around in (coarse, fine):
            there = looks.at(now, places[:, None, None] + around[None, :, None] + looks.patch)
            error = (there - wanted[:, None]).square().mean((-1, -2))
            error = error + _ANCHORED * (there - anchor[:, None]).square().mean((-1, -2))
            places = places + around[error.argmin(1)]
        before = now
    return places


def _around(reach: float, count: int, like: Tensor) -> Float[Tensor, "place 2"]:
    """Places around (0, 0), the nearest first: of several alike it is taken."""
    steps = torch.linspace(-reach, reach, count, device=like.device)
    around = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
    return around[around.norm(dim=-1).argsort(stable=True)]


def _coarse(generator: Generator) -> str:
    """The level whose map has about 16 cells along a picture's side."""
    sides = {level: max(generator.grid(level).size) for level in generator.levels}
    return min(sides, key=lambda level: abs(sides[level] - _CELLS))


@torch.no_grad()
def strengths(
    model: Generator,
    edited: Float[Tensor, "1 num_ws w_dim"],
    offset: Float[Tensor, "1 num_ws w_dim"],
    points: Points,
    film: Generator,
    frames: Float[Tensor, "frames num_ws w_dim"],
    landmarks: LandmarkNetwork | None = None,
    smoothing: float = CALM,
) -> Float[Tensor, "frames"]:
    """How often the offset has to be added to each frame's latent, so that the points go as far as in the picture on
    which the edit was made; 1 where that cannot be told.

    Args:
        model: what the edit was made with.
        edited: the latent on which it was made.
        offset: what it has added.
        points: its handles there, image pixels.
        film: what draws the film.
        landmarks: the model's landmark network, which then says where the points are on each frame.
        smoothing: of strengths over time, standard deviation in frames; 0: none.
    """
    count = len(frames)
    one = torch.ones(count, device=frames.device)
    way = followed(model, edited, offset, points) - points
    if not len(points) or float(way.norm(dim=-1).max()) < _SHORTEST * max(model.image_size):
        return one
    known = None if landmarks is None else landmarks(model.synthesis(edited))[0].to(points.device)
    keys = sorted({round(k * (count - 1) / max(1, KEYS - 1)) for k in range(KEYS)})
    found = []
    for key in keys:
        ws, strength = frames[key : key + 1], 1.0
        if landmarks is None or known is None:
            there = corresponding(film, edited, ws, points)
        else:
            there = carried(points, known, landmarks(film.synthesis(ws))[0].to(points.device))
        for _ in range(2):
            gone = followed(film, ws, strength * offset, there) - there
            share = float((gone * way).sum() / way.square().sum())
            strength = min(max(strength / max(share, _WEAKEST), _WEAKEST), _STRONGEST)
        found.append(strength)
    return torch.as_tensor(_between(keys, found, count, smoothing), dtype=frames.dtype, device=frames.device)


def _between(keys: Sequence[int], found: Sequence[float], count: int, smoothing: float) -> Float[np.ndarray, "frames"]:
    """Of every frame: what differs from both its neighbours alike is taken for a mistake, the rest is smoothed."""
    padded = [found[0], *found, found[-1]]
    calm = [float(np.median(padded[k : k + 3])) for k in range(len(found))]
    wanted = torch.from_numpy(np.interp(np.arange(count), keys, np.log(calm)))
    return np.exp(smoothed(wanted[:, None, None], smoothing)[:, 0, 0].numpy())


class _Looks:
    """What a model's pictures look like at places, by the features of a level."""

    def __init__(self, generator: Generator, level: str) -> None:
        self._generator, self._level = generator, level
        self._grid = generator.grid(level)
        height, width = generator.image_size
        self.width = width
        self._limit = torch.tensor([width - 1.0, height - 1.0], device=generator.device)
        side = (torch.arange(_PATCH, device=generator.device) - (_PATCH - 1) / 2) * max(_APART * width, 1.0)
        self.patch = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)

    def map(self, ws: Float[Tensor, "1 num_ws w_dim"]) -> Float[Tensor, "1 channel cells_y cells_x"]:
        """Features of a latent's picture."""
        return self._generator.features(ws, self._level).float()

    def at(
        self, features: Float[Tensor, "1 channel cells_y cells_x"], points: Float[Tensor, "*n 2"]
    ) -> Float[Tensor, "*n channel"]:
        """At points; those beyond the picture are on its edge."""
        inside = torch.minimum(points.clamp(min=0), self._limit)
        return sample(features, self._grid, inside.reshape(-1, 2)).reshape(*points.shape[:-1], -1)

    def lattice(self) -> Points:
        """Places all over the picture."""
        step = max(1, round(self.width / 64))
        ends = (int(self._limit[1]) + 1, int(self._limit[0]) + 1)
        y, x = torch.meshgrid(
            *(torch.arange(step // 2, n, step, device=self._limit.device) for n in ends), indexing="ij"
        )
        return torch.stack([x, y], -1).reshape(-1, 2).float()
