"""Features of a StyleGAN2: the choice among its three ways to compute them, all of which give the same numbers.

Sixth in the stack, below `generator` alone. From the fastest on: a CUDA graph that was recorded of this kind of pass
(`cuda_graphs`); the pass with its backward written out, for frozen weights (`analytic`); the layers themselves with
automatic differentiation, for weights that still learn and for what the fast ways do not know (`windows`, `networks`).
"""

from __future__ import annotations

from torch import Tensor

from draggan.generators.base import Latent, latent_rows
from draggan.generators.stylegan2.analytic import analytic_features, layout_for
from draggan.generators.stylegan2.cuda_graphs import recorded_pass
from draggan.generators.stylegan2.networks import SynthesisNetwork
from draggan.generators.stylegan2.windows import window_features
from draggan.geometry import Windows

__all__ = ["features"]


def features(synthesis: SynthesisNetwork, ws: Latent, resolution: int, windows: Windows | None = None) -> Tensor:
    """Block ``b{resolution}``'s feature map, or windows of it, by the fastest way there is.

    Args:
        ws: a batch of latents; with windows one for all of them, or one per window.
        windows: what of the map; None for all of it.

    Returns:
        ``[batch, channel, height, width]``, or ``[n, channel, height, width]`` for n windows, where cells outside the
        map are zero. Differentiable once if the weights are frozen.
    """
    rows = latent_rows(ws)
    recorded = recorded_pass(synthesis, resolution, rows, windows)
    if recorded is not None:
        return recorded.features(rows, windows)
    layout = layout_for(synthesis, resolution, windows)
    if layout is not None:
        return analytic_features(layout, rows)
    return (
        synthesis.features(rows, resolution)
        if windows is None
        else window_features(synthesis, rows, resolution, windows)
    )
