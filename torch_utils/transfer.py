"""Copies from the host to a device that do not wait for what the device is doing."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["copy_to", "to_device"]


def to_device(t: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device, without waiting for what the device is doing.

    Not on Apple's: there the copy is still being read when the tensor may be gone (PyTorch issue 189690).
    """
    return _page_locked(t, device).to(device, non_blocking=device.type != "mps")


def copy_to(buffer: Tensor, t: Tensor) -> None:
    """Copy a tensor of the host into one on a device, without waiting for what the device is doing."""
    buffer.copy_(_page_locked(t, buffer.device), non_blocking=buffer.device.type != "mps")


def _page_locked(t: Tensor, device: torch.device) -> Tensor:
    """In memory that a CUDA device reads itself: from other memory, a copy may wait until the device is idle.

    PyTorch keeps such memory, and gives it to nobody else before the device has read it.
    """
    return t.pin_memory() if device.type == "cuda" and t.device.type == "cpu" else t
