"""Loads the compiled operators, building them on first use, and tells PyTorch their shapes and gradients.

On top of all operators: it imports them, none of them imports it. An application calls `build_in_background` once when
it starts, and the operators become faster when it is done. Compiled operators round otherwise than plain ones, and a
drag makes more of it, so whoever computes pictures calls `load_built` first: what is there is used from the first
number on, and the same recipe has the same result, to the last bit, however busy the machine is. Without a compiler, or
if anything fails, everything works as before; ``draggan doctor`` says why. ``DRAGGAN_NATIVE_OPS=0`` keeps them away,
``DRAGGAN_MARCH`` names another processor than this one to build them for.

The CUDA versions, a file an operator so that they are compiled side by side, are for all the architectures named in
``csrc/cuda``, and their index arithmetic is tested on processors. An earlier state of them passed its tests on a GPU
once (H100, PyTorch 2.11, November 2026); this one has not been tried there.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import torch

from torch_utils.errors import BuildError
from torch_utils.ops import bias_act, build, filtered_lrelu, prepacked_convolution, status, upfirdn2d

__all__ = ["build_in_background", "load", "load_all", "load_built"]

_SOURCES = Path(__file__).parent / "csrc"
_CUDA_FLAGS = ["-O3", "--expt-relaxed-constexpr"]

_lock = threading.Lock()
_thread: threading.Thread | None = None
# What was told to PyTorch holds as long as this object does.
_registered: torch.library.Library | None = None


def build_in_background() -> threading.Thread | None:
    """Load the compiled operators, building them if the cache lacks them, in a thread; returns at once.

    The first build takes about a minute, at low priority; later starts take milliseconds. Call it as often as you like.

    Returns:
        The thread, for those who want to wait for it; None where compiled operators are switched off.
    """
    global _thread
    if not status.allowed():
        return None
    with _lock:
        if _thread is None:
            # A daemon: a program that is done does not wait for a compiler.
            _thread = threading.Thread(target=load_all, name="draggan-ops", daemon=True)
            _thread.start()
        return _thread


def load(kind: str = "cpu") -> None:
    """Load the operators for one kind of device ("cpu" or "cuda"), building them if need be, before returning.

    Raises:
        BuildError: there is no compiler, it failed, or the result cannot be loaded.
    """
    if status.loaded(kind):
        return
    for name, options in _libraries(kind).items():
        build.load_library(name, **options)
    _register()
    status.mark_loaded(kind)


def load_all() -> None:
    """Load the operators for all kinds of devices that this machine has, building them if need be.

    A failure costs speed alone: `build` has logged it, and remembers it for ``draggan doctor``.
    """
    if not status.allowed():
        return
    for kind in _kinds():
        try:
            load(kind)
        except BuildError:
            return


def load_built() -> bool:
    """Load those operators that an earlier process has built, in milliseconds; never builds, nor waits for a build.

    Returns:
        Whether compiled operators are loaded for all kinds of devices that this machine has.
    """
    if not status.allowed():
        return False
    kinds = _kinds()
    for kind in kinds:
        try:
            if not status.loaded(kind) and all(build.load_cached(name, **o) for name, o in _libraries(kind).items()):
                _register()
                status.mark_loaded(kind)
        except BuildError:
            return False
    return all(status.loaded(kind) for kind in kinds)


def _libraries(kind: str) -> dict[str, dict[str, Any]]:
    """What the operators of a kind of device consist of, in the order of loading: names, and what `build` is told."""
    # The processor's library holds the schemas too.
    libraries: dict[str, dict[str, Any]] = {
        "draggan_cpu": {"sources": [_SOURCES / "native.cpp"], "cflags": _cpu_flags()}
    }
    if kind == "cuda":
        sources = sorted((_SOURCES / "cuda").glob("*.cu"))
        libraries["draggan_cuda"] = {"sources": sources, "cflags": ["-O3"], "cuda_cflags": _CUDA_FLAGS}
    return libraries


def _kinds() -> tuple[str, ...]:
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def _cpu_flags() -> list[str]:
    flags = ["-O3", build.for_processor(), "-fno-math-errno", "-fno-trapping-math"]
    # PyTorch's threads come through OpenMP where its own build has it; Apple's compiler does not.
    return flags if sys.platform == "darwin" else [*flags, "-fopenmp"]


def _register() -> None:
    """Shapes and gradients of the operators, once their schemas are in PyTorch's tables."""
    global _registered
    with _lock:
        if _registered is not None:
            return
        _registered = torch.library.Library("draggan", "IMPL")
        for module in (bias_act, upfirdn2d, filtered_lrelu, prepacked_convolution):
            module.register(_registered)
