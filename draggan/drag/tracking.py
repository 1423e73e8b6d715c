"""Point tracking: where has the content of each handle gone? Nearest neighbour in feature space.

Pan et al., "Drag Your GAN" (SIGGRAPH 2023), section 3.3.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.drag.motion import Sampler
from draggan.geometry import inside

__all__ = ["track"]


@torch.no_grad()
def track(
    sampler: Sampler,
    handles: Float[Tensor, "n 2"],
    templates: Float[Tensor, "n channel"],
    window: Float[Tensor, "q 2"],
    image_size: tuple[int, int],
) -> Float[Tensor, "n 2"]:
    """``p_i := argmin over q in Omega_2(p_i, r2) of |F'(q) - f_i|`` (their Eq. 2), q inside the picture.

    The paper measures with L1, the published code with L2; L2 here, because the published results come from that code.

    Args:
        sampler: features at image points.
        handles: positions before this step, image pixels.
        templates: ``f_i = F_0(p_i)``, the features of the *initial* handles, so that errors do not add up.
        window: offsets of Omega_2 in image pixels, nearest first.
    """
    candidates = handles[:, None] + window
    distance = (sampler(candidates) - templates[:, None]).norm(dim=-1)
    distance = distance.masked_fill(~inside(candidates, image_size), torch.inf)
    return candidates[torch.arange(len(handles), device=handles.device), distance.argmin(1)]
