"""Copies between the host and a device: to it without waiting for what it is doing, from it as seldom as can be."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from torch_utils.pytorch_internals import version

__all__ = ["copy_to", "to_device", "to_host"]

# What has been brought to the host, and how often that had been written to then; for as long as it exists.
_brought: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def to_device(t: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device, without waiting for what the device is doing.

    Not on Apple's: there the copy is still being read when the tensor may be gone (PyTorch issue 189690).
    """
    return _page_locked(t, device).to(device, non_blocking=device.type != "mps")


def copy_to(buffer: Tensor, t: Tensor) -> None:
    """Copy a tensor of the host into one on a device, without waiting for what the device is doing."""
    buffer.copy_(_page_locked(t, buffer.device), non_blocking=buffer.device.type != "mps")


def to_host(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Values that the host decides by, to be read only.

    Each copy from a device waits until that has done all it was given. So what is going to be looked at is asked for
    together, which makes one copy of it; and what has been brought once is not brought again, as long as it is not
    written to. On the host it is the tensors themselves.

    Args:
        tensors: of one device; float32, or exact in it, as booleans are.
    """
    found = [_known(t) for t in tensors]
    missing = [t for t, known in zip(tensors, found, strict=True) if known is None]
    if missing:
        values = torch.cat([t.detach().reshape(-1).float() for t in missing]).cpu()
        parts = iter(values.split([t.numel() for t in missing]))
        for k, t in enumerate(tensors):
            if found[k] is None:
                found[k] = brought = next(parts).to(t.dtype).reshape(t.shape)
                if not t.is_inference():
                    _brought[t] = version(t), brought
    return tuple(t for t in found if t is not None)


def _known(t: Tensor) -> Tensor | None:
    """Its values on the host; None: they are not there."""
    if _is_on_host(t):
        return t.detach()
    at, values = _brought.get(t, (None, None))
    return values if values is not None and at == version(t) else None


def _is_on_host(t: Tensor) -> bool:
    return t.device.type == "cpu"


def _page_locked(t: Tensor, device: torch.device) -> Tensor:
    """In memory that a CUDA device reads itself: from other memory, a copy may wait until the device is idle.

    PyTorch keeps such memory, and gives it to nobody else before the device has read it.
    """
    return t.pin_memory() if device.type == "cuda" and t.device.type == "cpu" else t
