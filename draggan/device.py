"""Which device to compute on."""

from __future__ import annotations

import torch

from draggan.errors import ConfigError
from draggan.program import own_command

__all__ = ["available_devices", "choose_device"]


def available_devices() -> list[str]:
    """Devices that this machine has, the one that "auto" means first: CUDA devices, the CPU, then Apple's.

    Apple's comes last because released PyTorch lacks the gradient of bilinear sampling there, which a drag needs; who
    asks for it by name needs ``PYTORCH_ENABLE_MPS_FALLBACK=1``.
    """
    devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*devices, "cpu", *(["mps"] if torch.backends.mps.is_available() else [])]


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The device of that name, with an index where there can be several.

    Args:
        device: "auto" (cuda, else cpu), "cpu", "mps", "cuda" or "cuda:N".

    Raises:
        ConfigError: no such device here.
    """
    available = available_devices()
    if device == "auto":
        return torch.device(available[0])
    name = "cuda:0" if str(device) == "cuda" else str(device)
    if name not in available:
        why = ""
        if name.startswith("cuda") and not torch.cuda.is_available():
            why = f"; this PyTorch sees no CUDA device (`{own_command()} doctor` says more)"
        raise ConfigError(f"device '{device}' is not available{why}; choose auto or one of {', '.join(available)}")
    return torch.device(name)
