"""From which noise a model would draw a latent, or one near it: where among its own pictures that lies."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeAlias
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.drag.latent_statistics import sample_noise
from draggan.errors import DragGANError
from draggan.generators.base import Generator

__all__ = ["Noise", "mapped", "nearest_noise"]

log = logging.getLogger(__name__)

# Of so many random pictures the nearest is begun with.
STARTS = 250
# Levenberg and Marquardt: steps at most; attempts a step; damping, as a share of the mean diagonal, to begin with, at
# least, and how it changes after an attempt that was good and one that was not.
STEPS, ATTEMPTS, DAMPING, LEAST_DAMPING, LESS, MORE = 30, 6, 1e-3, 1e-6, 0.3, 4.0
# It ends where a step wins less than this share of what is left, or where no more than this share of the latent is left
# (both of squared lengths).
LEAST_GAIN, FOUND = 0.05, 1e-3
# So many searches of a model are remembered: of 512 numbers one takes seconds, and a drag is often begun once more from
# the same picture, or taken up by another process.
REMEMBERED = 64


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise, and a class where the model has classes.

    Attributes:
        generator: whose.
        z, label: what its mapping network takes; label None: it has no classes.
        rest: how far its latent is from the one that it was found for.
    """

    generator: Generator
    z: Float[Tensor, "1 z_dim"]
    label: Float[Tensor, "1 c_dim"] | None
    rest: float = 0.0

    def latents(self, z: Float[Tensor, "n z_dim"]) -> Float[Tensor, "n w_dim"]:
        """The latents of other noise and the same class, without truncation."""
        return mapped(self.generator, z, self.label)


_Parts: TypeAlias = "tuple[Tensor, Tensor | None, float] | None"
# By model, and by the latent that was looked for and where it was: noise without the model, which goes when nobody else
# has it.
_remembered: WeakKeyDictionary[Generator, OrderedDict[tuple[bytes, str], _Parts]] = WeakKeyDictionary()
_lock = threading.Lock()


def mapped(
    generator: Generator, z: Float[Tensor, "n z_dim"], label: Float[Tensor, "1 c_dim"] | None
) -> Float[Tensor, "n w_dim"]:
    """The latents of noise, without truncation."""
    return generator.mapping(z, None if label is None else label.expand(len(z), -1))[:, 0]


def nearest_noise(generator: Generator, w: Float[Tensor, "w_dim"]) -> Noise | None:
    """``argmin_z |M(z) - w|^2``, a local minimum, by Levenberg's and Marquardt's method; M is the mapping network.

    For a latent that the model has drawn itself, it is near the noise that was drawn from: the search ends where 3 % of
    the latent are left. For any other (truncated, of a photo) it is noise of a picture like it, if there is one.

    Returns:
        None for a model of whose mapping network there is nothing to find out.
    """
    latent = hashlib.sha256(w.detach().cpu().contiguous().numpy().tobytes()).digest(), str(w.device)
    with _lock:
        found = _remembered.setdefault(generator, OrderedDict())
        if latent in found:
            found.move_to_end(latent)
            parts = found[latent]
            return None if parts is None else Noise(generator, *parts)
    # Two threads that look for the same find the same.
    noise = _searched(generator, w)
    with _lock:
        found[latent] = None if noise is None else (noise.z, noise.label, noise.rest)
        if len(found) > REMEMBERED:
            found.popitem(last=False)
    return noise


def _searched(generator: Generator, w: Float[Tensor, "w_dim"]) -> Noise | None:
    try:
        with torch.no_grad():
            z, labels = sample_noise(generator, STARTS)
            away = (generator.mapping(z, labels)[:, 0] - w).square().sum(1)
    except (DragGANError, NotImplementedError) as e:
        log.info("no noise of latents: %s", e)
        return None
    k = int(away.argmin())
    if not bool(torch.isfinite(away[k])):
        return None
    noise = Noise(generator, z[k : k + 1].clone(), None if labels is None else labels[k : k + 1])
    z, rest = _descended(noise, w)
    # Mapping networks look at its direction alone, so that on the way its length is anything.
    usual = z / z.square().mean().sqrt()
    with torch.no_grad():
        same = torch.allclose(noise.latents(usual), noise.latents(z), rtol=1e-3, atol=1e-3 * float(w.abs().max()))
    return Noise(generator, usual if same else z, noise.label, rest)


def _descended(noise: Noise, w: Float[Tensor, "w_dim"]) -> tuple[Float[Tensor, "1 z_dim"], float]:
    """From that noise to the minimum, and how far that is from the latent.

    What is added up is so in float64, on the host: not every device has that.
    """
    z, damping, wanted = noise.z, DAMPING, _exact(w)
    rest, jacobian = _linearised(noise, z, wanted)
    left = float(rest.square().sum())
    enough = FOUND * float(wanted.square().sum())
    for _ in range(STEPS):
        normal, slope = jacobian.T @ jacobian, jacobian.T @ rest
        if not normal.diagonal().mean() > 0:
            break
        unit = normal.diagonal().mean() * torch.eye(len(normal), dtype=normal.dtype)
        for _ in range(ATTEMPTS):
            tried = z - torch.linalg.solve(normal + damping * unit, slope).float().to(z)[None]
            with torch.no_grad():
                now = float((_exact(noise.latents(tried)[0]) - wanted).square().sum())
            if now < left:
                break
            damping *= MORE
        else:
            break
        z, gain, left = tried, left - now, now
        if left <= enough or gain <= LEAST_GAIN * left:
            break
        damping = max(LESS * damping, LEAST_DAMPING)
        rest, jacobian = _linearised(noise, z, wanted)
    return z, left**0.5


def _exact(t: Tensor) -> Tensor:
    return t.detach().cpu().double()


def _linearised(
    noise: Noise, z: Float[Tensor, "1 z_dim"], w: Float[Tensor, "w_dim"]
) -> tuple[Float[Tensor, "w_dim"], Float[Tensor, "w_dim z_dim"]]:
    """``M(z) - w`` and ``dM/dz``, float64 on the host, like w."""
    # A copy for every number of the latent, or where there are far fewer, of the noise; that takes twice the passes.
    by_columns = 2 * z.shape[1] < len(w)
    with torch.enable_grad():
        copies = z.detach().repeat(z.shape[1] if by_columns else len(w), 1).requires_grad_()
        latents = noise.latents(copies)
        if by_columns:
            cotangents = torch.zeros_like(latents, requires_grad=True)
            (rows,) = torch.autograd.grad(latents, copies, cotangents, create_graph=True)
            # What is linear in the cotangents has the other factor for its derivative.
            (columns,) = torch.autograd.grad(rows.diagonal().sum(), cotangents)
            jacobian = columns.T
        else:
            (jacobian,) = torch.autograd.grad(latents.diagonal().sum(), copies)
    return _exact(latents[0]) - w, _exact(jacobian)
