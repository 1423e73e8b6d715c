"""Scenes on a CUDA device: the renderer's own headers, one thread for a pixel (``csrc/scenes.cu``).

Tests emulate it on a processor; on a GPU it ran once, on one H100, which drew 1,240 cats, 2,040 faces and 5,670 cars of
256 px a second. Where it cannot be built or does not run, one line is logged and the processor draws as before.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from torch_utils.errors import BuildError
from torch_utils.ops import build

__all__ = ["CUDA_FLAGS", "draw", "draw_there"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

CUDA_FLAGS = ("-O3", "-use_fast_math", "--expt-relaxed-constexpr")
WORKSPACE = 256 * 2**20
"""Bytes on the device that a batch may take besides its pictures; larger batches are drawn in parts."""

# Devices that failed; they are not tried again.
_failed: set[torch.device] = set()


def draw(
    scene: int, parameters: NDArray[np.float32], size: int, *, device: torch.device, segments: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8] | None] | None:
    """Draw a batch.

    Args:
        scene: `Scene.index`.
        parameters: ``[batch, parameter]``, C order.
        size: height and width in pixels.
        device: a CUDA device, with its index.
        segments: whether to label the pixels too.

    Returns:
        Pictures ``[batch, 3, size, size]``, 16 times their importance and, if asked for, segments, both
        ``[batch, size, size]``; None if this device cannot.
    """
    return _tried(lambda library: _draw(library, scene, parameters, size, device, segments), device)


def draw_there(
    scene: int, parameters: NDArray[np.float32], size: int, *, device: torch.device, segments: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] | None:
    """As `draw`, but what was drawn stays on the device, and is there when this returns."""
    return _tried(lambda library: _draw_there(library, scene, parameters, size, device, segments), device)


def _tried(work: Callable[[ctypes.CDLL], T], device: torch.device) -> T | None:
    library = _library()
    if library is None or device in _failed:
        return None
    try:
        return work(library)
    except RuntimeError as error:  # what torch raises for CUDA, memory included
        _failed.add(device)
        logger.warning("scenes cannot be drawn on %s (%s); the processor draws them", device, error)
        return None


def _draw(
    library: ctypes.CDLL,
    scene: int,
    parameters: NDArray[np.float32],
    size: int,
    device: torch.device,
    segments: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8] | None]:
    pictures, weights, labels = _draw_there(library, scene, parameters, size, device, segments)
    return pictures.cpu().numpy(), weights.cpu().numpy(), None if labels is None else labels.cpu().numpy()


def _draw_there(
    library: ctypes.CDLL,
    scene: int,
    parameters: NDArray[np.float32],
    size: int,
    device: torch.device,
    segments: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    n, width = parameters.shape
    one = library.draggan_cuda_workspace(scene, 1, width, size)
    assert one > 0, "the parameter tables of Python and CUDA disagree"
    part = max(1, min(n, WORKSPACE // one, 65535))
    # A stream of its own, beside the training, which it does not wait for.
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.Stream(device)):
        stream = torch.cuda.current_stream(device).cuda_stream

        def empty(*shape: int) -> torch.Tensor:
            return torch.empty(shape, dtype=torch.uint8, device=device)

        pictures, weights = empty(n, 3, size, size), empty(n, size, size)
        labels = empty(n, size, size) if segments else None
        workspace = empty(library.draggan_cuda_workspace(scene, part, width, size))
        for i in range(0, n, part):
            status = library.draggan_cuda_draw(
                device.index,
                stream,
                scene,
                parameters[i : i + part].ctypes.data,
                min(part, n - i),
                width,
                size,
                workspace.data_ptr(),
                pictures[i].data_ptr(),
                weights[i].data_ptr(),
                None if labels is None else labels[i].data_ptr(),
            )
            if status:
                raise RuntimeError(library.draggan_cuda_reason(status).decode())
        torch.cuda.current_stream(device).synchronize()
    return pictures, weights, labels


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The CUDA renderer, built on first use; None without it. `torch_utils.ops.build` has logged why."""
    try:
        library = build.load_library(
            "draggan_scenes_cuda",
            [Path(__file__).parent / "csrc" / "scenes.cu"],
            cflags=["-O3"],
            cuda_cflags=CUDA_FLAGS,
        )
    except BuildError:
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.draggan_cuda_workspace.argtypes = [number] * 4
    library.draggan_cuda_workspace.restype = ctypes.c_longlong
    library.draggan_cuda_draw.argtypes = [number, pointer, number, pointer, *[number] * 3, *[pointer] * 4]
    library.draggan_cuda_reason.restype = ctypes.c_char_p
    return library
