"""In which coordinates v a drag moves its latent: what is short in them is a likely way for a picture to differ.

`Linear` is one metric for all latents of a model (`draggan.drag.solvers.latent_metric`). `Pictures` follows the surface
on which the model's own pictures lie. Latents of a model are drawn by its mapping network M from noise z, and fill no
more than a curved surface of the space they are numbers of; what is not on it the model has never been taught to draw,
and a drag that goes straight leaves it. So the first part of v is noise, and the second, which counts for much more, a
step that leaves the surface, for what no picture of the model shows:

    dw_r = M(z + (K v)_r) - M(z) + kappa (K S u)_r        for every row r that moves,

z the noise of the latent that the drag begins with (`draggan.drag.noise`), S the square root of the covariance of the
latents, K the coupling of rows. Moving every row by noise of its own is the space Z+ (Song et al., "AgileGAN", 2021).
"""

from __future__ import annotations

import abc
import math
import threading
import weakref
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.drag.latent_statistics import enough_rows
from draggan.drag.noise import Noise, mapped
from draggan.drag.solvers.latent_metric import LatentMetric
from draggan.generators.base import Generator
from torch_utils.recorder import replayed

__all__ = ["Coordinates", "Linear", "Pictures"]


class Coordinates(abc.ABC):
    """Coordinates of a shift, all zero where the drag begins, or was let go."""

    @abc.abstractmethod
    def origin(self, shift_rows: int) -> Float[Tensor, "1 shift_rows d"]:
        """Where they begin."""

    @abc.abstractmethod
    def shift(self, v: Float[Tensor, "1 shift_rows d"]) -> Float[Tensor, "1 shift_rows w_dim"]:
        """By how much the latent has moved there."""

    @abc.abstractmethod
    def pulled_back(
        self, rows: Float[Tensor, "k shift_rows w_dim"], v: Float[Tensor, "1 shift_rows d"]
    ) -> Float[Tensor, "k shift_rows d"]:
        """Rows of a Jacobian in w, as what they are in v, at v."""

    def astray(self, v: Float[Tensor, "1 shift_rows d"]) -> Float[Tensor, ""] | None:
        """How far from the model's own pictures that is, in distances between two of them; None: nobody knows."""
        return None


@dataclass(frozen=True, eq=False)
class Linear(Coordinates):
    """``dw = K S v``, everywhere the same.

    Attributes:
        metric: K and S.
        like: a tensor with the size and the place of a latent.
        begins: the shift where v is zero; None: none.
    """

    metric: LatentMetric
    like: Float[Tensor, "1 num_ws w_dim"]
    begins: Float[Tensor, "1 shift_rows w_dim"] | None = None

    def origin(self, shift_rows: int) -> Float[Tensor, "1 shift_rows w_dim"]:
        """See `Coordinates.origin`."""
        return self.like.new_zeros(1, shift_rows, self.like.shape[2])

    def shift(self, v: Float[Tensor, "1 shift_rows w_dim"]) -> Float[Tensor, "1 shift_rows w_dim"]:
        """See `Coordinates.shift`."""
        way = self.metric(v)
        return way if self.begins is None else self.begins + way

    def pulled_back(
        self, rows: Float[Tensor, "k shift_rows w_dim"], v: Float[Tensor, "1 shift_rows w_dim"]
    ) -> Float[Tensor, "k shift_rows w_dim"]:
        """See `Coordinates.pulled_back`."""
        return self.metric(rows)


class Pictures(Coordinates):
    """Along the model's own pictures, and at a price away from them.

    Args:
        noise: of the latent that the drag begins with.
        metric: K and S, the root of the covariance as it is.
        beyond: kappa.
    """

    def __init__(self, noise: Noise, metric: LatentMetric, beyond: float) -> None:
        self._z, self._label, self._metric, self._beyond = noise.z, noise.label, metric, beyond
        with torch.no_grad():
            self._begins = noise.latents(noise.z)
        self._map = _map_of(noise.generator)

    def origin(self, shift_rows: int) -> Float[Tensor, "1 shift_rows d"]:
        """See `Coordinates.origin`."""
        return self._z.new_zeros(1, shift_rows, self._z.shape[1] + self._begins.shape[1])

    @torch.no_grad()
    def shift(self, v: Float[Tensor, "1 shift_rows d"]) -> Float[Tensor, "1 shift_rows w_dim"]:
        """See `Coordinates.shift`."""
        return self._map.shift(v, self._z, self._label, self._begins, self._metric, self._beyond)

    @torch.no_grad()
    def pulled_back(
        self, rows: Float[Tensor, "k shift_rows w_dim"], v: Float[Tensor, "1 shift_rows d"]
    ) -> Float[Tensor, "k shift_rows d"]:
        """See `Coordinates.pulled_back`. One backward pass through the mapping network, of a copy for every row."""
        return self._map.pulled_back(rows, v, self._z, self._label, self._metric, self._beyond)

    def astray(self, v: Float[Tensor, "1 shift_rows d"]) -> Float[Tensor, ""]:
        """See `Coordinates.astray`; the root mean square of what leaves the surface, in standard deviations."""
        return _astray(v[..., self._z.shape[1] :], self._metric, self._beyond)


@replayed
def _astray(leaves: Float[Tensor, "1 shift_rows w_dim"], metric: LatentMetric, beyond: float) -> Float[Tensor, ""]:
    return beyond / math.sqrt(2) * metric.coupled(leaves).square().mean().sqrt()


class _Map:
    """What follows the surface on which the pictures of a model lie, as functions that may be recorded."""

    def __init__(self, generator: Generator) -> None:
        known = weakref.ref(generator)  # it is remembered as long as the model is there, and no longer

        def latents(z: Float[Tensor, "n z_dim"], label: Float[Tensor, "1 c_dim"] | None) -> Float[Tensor, "n w_dim"]:
            generator = known()
            assert generator is not None
            return mapped(generator, z, label)

        def shift(
            v: Float[Tensor, "1 shift_rows d"],
            z: Float[Tensor, "1 z_dim"],
            label: Float[Tensor, "1 c_dim"] | None,
            begins: Float[Tensor, "1 w_dim"],
            metric: LatentMetric,
            beyond: float,
        ) -> Float[Tensor, "1 shift_rows w_dim"]:
            """See `Pictures.shift`."""
            shift_rows = v.shape[1]
            rows = enough_rows(metric.coupled(v))
            along, leaves = rows.split([z.shape[1], v.shape[2] - z.shape[1]], 2)
            found = latents(z + along[0], label)[None] - begins
            if metric.root is not None:
                leaves = leaves @ metric.root
            return (found + beyond * leaves)[:, :shift_rows]

        def pulled_back(
            rows: Float[Tensor, "k shift_rows w_dim"],
            v: Float[Tensor, "1 shift_rows d"],
            z: Float[Tensor, "1 z_dim"],
            label: Float[Tensor, "1 c_dim"] | None,
            metric: LatentMetric,
            beyond: float,
        ) -> Float[Tensor, "k shift_rows d"]:
            """See `Pictures.pulled_back`."""
            k, shift_rows, _ = rows.shape
            there = (z + metric.coupled(v[..., : z.shape[1]])[0]).repeat(k, 1)
            with torch.enable_grad():
                there = there.detach().requires_grad_()
                (along,) = torch.autograd.grad(latents(there, label), there, rows.flatten(0, 1))
            return torch.cat([metric.coupled(along.reshape(k, shift_rows, -1)), beyond * metric(rows)], 2)

        self.shift, self.pulled_back = replayed(shift), replayed(pulled_back)


_maps: WeakKeyDictionary[Generator, _Map] = WeakKeyDictionary()
_lock = threading.Lock()


def _map_of(generator: Generator) -> _Map:
    with _lock:
        if generator not in _maps:
            _maps[generator] = _Map(generator)
        return _maps[generator]
