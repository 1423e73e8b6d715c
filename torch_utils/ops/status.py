"""Which compiled operators are loaded, and whether they may be used: a leaf that every operator asks.

Every operator is a plain PyTorch function. Where a compiled version is *already loaded* for a tensor's device, it is
called instead; nothing ever waits for a compiler. `torch_utils.ops.library` loads them and says so here.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["allowed", "available", "loaded", "mark_loaded", "reference_only", "switched_on"]

_DTYPES = {
    "cpu": frozenset({torch.float32, torch.float64, torch.bfloat16}),
    "cuda": frozenset({torch.float32, torch.float16, torch.bfloat16}),
}

# Kinds of devices whose operators are loaded; only ever added to.
_loaded: set[str] = set()
# How many `reference_only` blocks are open: compiled operators are used while it is zero.
_reference_only = 0
_lock = threading.Lock()


def switched_on(variable: str) -> bool:
    """Whether a variable of the environment is not 0 (nor off, false or no); one that is not set is on."""
    return os.environ.get(variable, "1").strip().lower() not in ("0", "off", "false", "no")


def allowed() -> bool:
    """Whether compiled operators may be loaded at all: ``DRAGGAN_NATIVE_OPS`` is not 0."""
    return switched_on("DRAGGAN_NATIVE_OPS")


def loaded(kind: str) -> bool:
    """Whether the compiled operators for this kind of device ("cpu", "cuda") are loaded and in use."""
    return kind in _loaded and not _reference_only


def available(x: Tensor) -> bool:
    """Whether the compiled operators are loaded and in use for this tensor's device and type."""
    kind = x.device.type
    return loaded(kind) and x.dtype in _DTYPES[kind]


def mark_loaded(kind: str) -> None:
    """From now on the compiled operators for this kind of device are used. For `torch_utils.ops.library`."""
    with _lock:
        _loaded.add(kind)


@contextlib.contextmanager
def reference_only() -> Iterator[None]:
    """Within, the plain PyTorch versions are used, in all threads; for tests and benchmarks."""
    global _reference_only
    with _lock:
        _reference_only += 1
    try:
        yield
    finally:
        with _lock:
            _reference_only -= 1
