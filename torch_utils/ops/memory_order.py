"""In which order the operators lay out the maps they return."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["empty_map"]


def empty_map(x: Tensor, size: Sequence[int]) -> Tensor:
    """An empty map in the order of memory that the operators give their results: channels last like x, or plain."""
    channels_last = x.ndim == 4 and x.shape[1] > 1 and x.stride(1) == 1 and not x.is_contiguous()
    order = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(tuple(size), dtype=x.dtype, device=x.device, memory_format=order)
