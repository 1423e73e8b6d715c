"""Every private interface of PyTorch that this project uses; no other file may touch one.

What is private may change in any release, and the range of releases in ``requirements.txt`` is open to new ones. Each
function says what rests on it and what is left where PyTorch no longer has it. ``tests/test_pytorch_internals.py`` has
a test for each: when one fails after an upgrade, this is the file to change, and the only one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "below_autograd",
    "convolve_prepacked",
    "convolve_prepacked_transposed",
    "copy_all",
    "hardtanh_gradient",
    "is_transformed",
    "is_view",
    "leaky_relu_gradient",
    "lerp_all",
    "prepack_convolution_weight",
    "version",
]

_BELOW_AUTOGRAD = getattr(torch._C, "_AutoDispatchBelowAutograd", None)


def below_autograd() -> contextlib.AbstractContextManager[Any]:
    """Within, nothing is recorded for gradients, nor does anything look whether it should be.

    For code that computes its gradient itself. PyTorch asks an operator's Python half first even where gradients are
    off, which takes several times as long as the operator does on a window of ten cells.

    Rests on ``torch._C._AutoDispatchBelowAutograd``. Without it this is `torch.no_grad`: the same results, later.
    """
    return torch.no_grad() if _BELOW_AUTOGRAD is None else _BELOW_AUTOGRAD()


def version(t: Tensor) -> int | None:
    """How often a tensor was written to in place, views of it included; None for inference tensors, which do not count.

    What was computed from a tensor once and kept (prepared weights, modulations, recorded graphs) is stale when this
    number has changed.

    Rests on ``Tensor._version``. Without it there is no such thing as a cache that notices; the error says so.
    """
    return None if t.is_inference() else t._version


def is_view(t: Tensor) -> bool:
    """Whether a tensor shares the memory of another one that it keeps alive, possibly a much larger one.

    Rests on ``Tensor._base``, which PyTorch fills in where gradients could flow: an inference tensor has none.
    """
    return t._base is not None


def is_transformed() -> bool:
    """Whether `torch.func` (vmap, grad, jvp, ...) or forward-mode differentiation is at work in this thread.

    Code that reads values or works in buffers of its own must not run then: it would see wrapped tensors, and lose
    what is differentiated.

    Rests on ``torch._C._are_functorch_transforms_active`` and ``torch.autograd.forward_ad._current_level``.
    """
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def copy_all(buffers: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    """Copy every tensor into its buffer, without gradients, all in one call: on a GPU as one operation.

    Rests on ``torch._foreach_copy_``. Without it they are copied one by one.
    """
    if not buffers:
        return
    with torch.no_grad():
        copy = getattr(torch, "_foreach_copy_", None)
        if copy is not None:
            copy(list(buffers), list(tensors))
            return
        for buffer, t in zip(buffers, tensors, strict=True):
            buffer.copy_(t)


def lerp_all(tensors: Sequence[Tensor], targets: Sequence[Tensor], weight: float) -> None:
    """Move every tensor towards its target by that share of the way, in place and all in one call.

    Rests on ``torch._foreach_lerp_``. Training alone uses it.
    """
    torch._foreach_lerp_(list(tensors), list(targets), weight)


# ------------------------------------------------------------------------------------------- gradients written by hand


def leaky_relu_gradient(gradient: Tensor, y: Tensor, slope: float) -> Tensor:
    """The gradient of leaky ReLU to its input, from its *result* (whose sign is the input's where the slope is > 0).

    Rests on ``aten::leaky_relu_backward``.
    """
    return torch.ops.aten.leaky_relu_backward(gradient, y, slope, True)


def hardtanh_gradient(gradient: Tensor, y: Tensor, low: float, high: float) -> Tensor:
    """The gradient of a clamp to [low, high], zero where the result ``y`` is at a limit.

    Rests on ``aten::hardtanh_backward``.
    """
    return torch.ops.aten.hardtanh_backward(gradient, y, low, high)


# ------------------------------------------------------------------- convolutions with weights in the library's order
#
# All of these rest on operators of ``torch.ops.mkldnn`` (oneDNN), and raise `AttributeError` or `RuntimeError` where a
# build of PyTorch lacks them. `torch_utils.ops.prepacked_convolution` tries them once before it relies on them.


def prepack_convolution_weight(weight: Tensor, stride: int, transposed: bool) -> Tensor:
    """The weight ``[c, d, 3, 3]`` in the processor's order: for the convolution d -> c, or the transposed one c -> d.

    With AVX-512 it is good for inputs of every size; the one given here serves the library's choice.

    Rests on ``mkldnn::_reorder_convolution_weight`` and ``mkldnn::_reorder_convolution_transpose_weight``.
    """
    strides, ones = (stride, stride), (1, 1)
    size = (1, weight.shape[0 if transposed else 1], 9, 9)
    if transposed:
        pads = (0, 0)
        return torch.ops.mkldnn._reorder_convolution_transpose_weight(weight, pads, pads, strides, ones, 1, size)
    return torch.ops.mkldnn._reorder_convolution_weight(weight, (0, 0), strides, ones, 1, size)


def convolve_prepacked(x: Tensor, prepacked: Tensor, stride: int, padding: int) -> Tensor:
    """``F.conv2d(x, weight, stride=stride, padding=padding)`` with a prepacked weight.

    Rests on ``mkldnn::_convolution_pointwise``.
    """
    pads, strides = (padding, padding), (stride, stride)
    return torch.ops.mkldnn._convolution_pointwise.default(x, prepacked, None, pads, strides, (1, 1), 1, "none", [], "")


def convolve_prepacked_transposed(x: Tensor, prepacked: Tensor, stride: int, padding: int) -> Tensor:
    """``F.conv_transpose2d(x, weight, stride=stride, padding=padding)`` with a prepacked weight.

    Rests on ``mkldnn::_convolution_transpose_pointwise``.
    """
    pads, strides = (padding, padding), (stride, stride)
    return torch.ops.mkldnn._convolution_transpose_pointwise.default(
        x, prepacked, None, pads, (0, 0), strides, (1, 1), 1, "none", [], ""
    )
