"""The compiled versions of the operators here: when they are used, and how they come to be.

Every operator is a plain PyTorch function. Where a compiled version is *already loaded* for a tensor's device, it is
called instead; nothing ever waits for a compiler. `build_in_background` brings them in, from the cache or by building:
an application calls it once when it starts, and the operators become faster when it is done. Without a compiler, or
if anything fails, everything works as before; ``draggan doctor`` says why. ``DRAGGAN_NATIVE_OPS=0`` keeps them away,
``DRAGGAN_MARCH`` names another processor than this one to build them for.

The CUDA versions were compiled for all the architectures named in ``csrc/cuda`` and their index arithmetic is tested on
processors, but they have never run on a GPU.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from draggan.errors import OpBuildError
from torch_utils import custom_ops
from torch_utils.pytorch_internals import below_autograd

__all__ = [
    "available",
    "below_autograd",
    "build_in_background",
    "empty_map",
    "load",
    "loaded",
    "switched_on",
    "twins_only",
    "wanted",
]

_log = logging.getLogger(__name__)

_SOURCES = Path(__file__).parent / "csrc"
_DTYPES = {
    "cpu": frozenset({torch.float32, torch.float64, torch.bfloat16}),
    "cuda": frozenset({torch.float32, torch.float16, torch.bfloat16}),
}

# Kinds of devices whose operators are loaded; only ever added to.
_ready: set[str] = set()
# Nothing is dispatched while this is not zero.
_held_back = 0
_lock = threading.Lock()
_registered = False
_thread: threading.Thread | None = None


def wanted() -> bool:
    """Whether compiled operators may be used at all: ``DRAGGAN_NATIVE_OPS`` is not 0."""
    return switched_on("DRAGGAN_NATIVE_OPS")


def switched_on(variable: str) -> bool:
    """Whether a variable of the environment is not 0."""
    return os.environ.get(variable, "1").strip().lower() not in ("0", "off", "false", "no")


def loaded(kind: str) -> bool:
    """Whether the compiled operators of this kind of device are there to be used."""
    return kind in _ready and not _held_back


def available(x: Tensor) -> bool:
    """Whether the compiled operators are loaded for this tensor's device and type."""
    kind = x.device.type
    return loaded(kind) and x.dtype in _DTYPES[kind]


def build_in_background() -> threading.Thread | None:
    """Load the compiled operators, building them if the cache lacks them, in a thread; returns at once.

    The first build takes about a minute, at low priority; later starts take milliseconds. Call it as often as you like.

    Returns:
        The thread, for those who want to wait for it; None where compiled operators are not wanted.
    """
    global _thread
    if not wanted():
        return None
    with _lock:
        if _thread is None:
            # A daemon: a program that is done does not wait for a compiler.
            _thread = threading.Thread(target=_load_all, name="draggan-ops", daemon=True)
            _thread.start()
        return _thread


def load(kind: str = "cpu") -> None:
    """Load the operators for one kind of device, building them if need be, before returning.

    Raises:
        OpBuildError: there is no compiler, it failed, or the result cannot be loaded.
    """
    if kind in _ready:
        return
    # The processor's library holds the schemas too.
    custom_ops.load_library("draggan_cpu", [_SOURCES / "native.cpp"], cflags=_cpu_flags())
    if kind == "cuda":
        sources = sorted((_SOURCES / "cuda").glob("*.cu"))
        custom_ops.load_library("draggan_cuda", sources, cflags=["-O3"], cuda_cflags=_CUDA_FLAGS)
    with _lock:
        _register()
        _ready.add(kind)


@contextlib.contextmanager
def twins_only() -> Iterator[None]:
    """Within, the plain PyTorch versions are used, in all threads; for tests and benchmarks."""
    global _held_back
    with _lock:
        _held_back += 1
    try:
        yield
    finally:
        with _lock:
            _held_back -= 1


_CUDA_FLAGS = ["-O3", "--expt-relaxed-constexpr"]


def _cpu_flags() -> list[str]:
    flags = ["-O3", custom_ops.for_processor(), "-fno-math-errno", "-fno-trapping-math"]
    # PyTorch's threads come through OpenMP where its own build has it; Apple's compiler does not.
    return flags if sys.platform == "darwin" else [*flags, "-fopenmp"]


def _load_all() -> None:
    kinds = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for kind in kinds:
        try:
            load(kind)
        except OpBuildError:
            # The door has logged it, and remembers it for `draggan doctor`.
            return


def _register() -> None:
    """Shapes and gradients of the operators, once they are in PyTorch's tables."""
    global _registered
    if _registered:
        return
    _registered = True
    # They import this module.
    from torch_utils.ops import bias_act, filtered_lrelu, frozen_conv, upfirdn2d

    for module in (bias_act, upfirdn2d, filtered_lrelu, frozen_conv):
        module.register()


def empty_map(x: Tensor, size: Sequence[int]) -> Tensor:
    """An empty map in the order of memory that the operators give their results: channels last like x, or plain."""
    channels_last = x.ndim == 4 and x.shape[1] > 1 and x.stride(1) == 1 and not x.is_contiguous()
    order = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(tuple(size), dtype=x.dtype, device=x.device, memory_format=order)
