"""The average latent of a mapping network whose file does not have it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from draggan.errors import CheckpointError

__all__ = ["SAMPLES", "average_latent"]

# What rosinality's programs average over when a file has none.
SAMPLES = 4096
# Eight times the largest published ones.
MAX_WEIGHTS, MAX_WIDTH = 1 << 24, 8192
# At once: a thousand latents of 512 numbers take 2 MB.
_BATCH = 1024
_LEARNING_RATE_MULTIPLIER = 0.01


def average_latent(tensors: Mapping[str, np.ndarray]) -> Float[np.ndarray, "w_dim"]:
    """The mean of ``SAMPLES`` mapped z (and random classes, where there are some), always the same ones.

    Args:
        tensors: of the mapping network, by published names: leaky ReLU, learning-rate multiplier 0.01.

    Raises:
        CheckpointError: its layers do not fit one another, or are larger than those of any known network.
    """
    weights, biases = _layers(tensors)
    embed, embed_bias = tensors.get("mapping.embed.weight"), tensors.get("mapping.embed.bias")
    width = weights[0].shape[1] - (embed.shape[0] if embed is not None else 0)
    if width < 1 or (embed is not None and (embed_bias is None or embed_bias.shape != embed.shape[:1])):
        raise CheckpointError("the mapping network's layers do not fit one another, so no average can be computed")
    random = np.random.RandomState(0)
    total = np.zeros(weights[-1].shape[0], np.float64)
    for _ in range(SAMPLES // _BATCH):
        x = _normalised(random.randn(_BATCH, width).astype(np.float32))
        if embed is not None and embed_bias is not None:
            chosen = random.randint(embed.shape[1], size=_BATCH)
            label = _float32(embed).T[chosen] / np.sqrt(np.float32(embed.shape[1]))
            x = np.concatenate([x, _normalised(label + _float32(embed_bias))], axis=1)
        for weight, bias in zip(weights, biases, strict=True):
            scale = np.float32(_LEARNING_RATE_MULTIPLIER / np.sqrt(weight.shape[1]))
            x = x @ (weight * scale).T + bias * np.float32(_LEARNING_RATE_MULTIPLIER)
            x = np.where(x < 0, x * np.float32(0.2), x) * np.float32(np.sqrt(2))
        total += x.sum(0, dtype=np.float64)
    return (total / SAMPLES).astype(np.float32)


def _layers(tensors: Mapping[str, np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights and biases in order, each layer taking what the one before gives."""
    pattern = re.compile(r"mapping\.fc([0-9]{1,3})\.weight")
    numbers = sorted(int(m.group(1)) for name in tensors if (m := pattern.fullmatch(name)))
    weights = [_float32(tensors[f"mapping.fc{i}.weight"]) for i in numbers]
    biases = [_float32(tensors[name]) for i in numbers if (name := f"mapping.fc{i}.bias") in tensors]
    fits = bool(weights) and len(weights) == len(biases) and all(w.ndim == 2 and 0 not in w.shape for w in weights)
    fits = fits and all(weight.shape[:1] == bias.shape for weight, bias in zip(weights, biases, strict=True))
    if not fits or any(a.shape[0] != b.shape[1] for a, b in itertools.pairwise(weights)):
        raise CheckpointError("the mapping network's layers do not fit one another, so no average can be computed")
    if sum(weight.size for weight in weights) > MAX_WEIGHTS or max(max(w.shape) for w in weights) > MAX_WIDTH:
        raise CheckpointError("the mapping network is too large for its average to be computed")
    return weights, biases


def _float32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32, copy=False)


def _normalised(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + np.float32(1e-8))
