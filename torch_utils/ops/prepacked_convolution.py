"""A convolution with a constant weight, prepared ("prepacked") once.

Networks that are only asked for features, and for gradients to their latent, convolve small maps with the same weights
thousands of times. On processors the library behind PyTorch brings a weight into an order of its own first, every time;
for small maps that takes longer than the convolution. Here it happens once per weight, type and direction. The gradient
is the adjoint convolution; gradients to the weight itself there are none.

Of several ways, the first that there is:

* 3x3 kernels of float32 on a processor, where the compiled operators are loaded: theirs, direct (``csrc/direct.h``), or
  at stride 1 in four times fewer multiplications where that pays (``csrc/winograd.h``). The latter are the same sums in
  another order; with 64 to 512 channels they round by 6e-7 to 1.5e-6 of the result's standard deviation, direct ones by
  4e-7 to 1.2e-6. Weights prepared for it are four times as large;
* on a processor with AVX-512: PyTorch's library, with weights in its order. Elsewhere that order depends on the size of
  the map, and weights in a wrong one take it far longer than unprepared ones;
* PyTorch's own convolutions, with weights in the order of memory of the maps.

The backward pass looks where its gradient is not zero (a drag pulls at a few cells of each window) and convolves that
rectangle only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils import pytorch_internals
from torch_utils.nonzero import nonzero_extent
from torch_utils.ops import status

__all__ = [
    "PrepackedConvolution",
    "compiled_convolution_available",
    "convolution_cost",
    "prepacking_works",
    "register",
    "winograd_pays",
]

_log = logging.getLogger(__name__)

# Whether this build of PyTorch can prepare weights of a type; filled on first use.
_works: dict[torch.dtype, bool] = {}


def prepacking_works(dtype: torch.dtype) -> bool:
    """Whether weights of this type can be brought into the library's order here, for maps of all sizes.

    Tried once per type.
    """
    if dtype not in _works:
        known = dtype in (torch.float32, torch.bfloat16, torch.float16)
        with torch.autocast("cpu", enabled=False):
            _works[dtype] = known and "AVX512" in torch.backends.cpu.get_cpu_capability() and _try_prepacking(dtype)
    return _works[dtype]


@torch.no_grad()
def _try_prepacking(dtype: torch.dtype) -> bool:
    """Both directions at both strides, against PyTorch's own."""
    if not torch.backends.mkldnn.is_available():
        return False
    weight = torch.linspace(-1, 1, 4 * 3 * 9).reshape(4, 3, 3, 3).to(dtype)
    narrow, wide = (torch.linspace(-1, 1, c * 25).reshape(1, c, 5, 5).to(dtype) for c in (3, 4))
    try:
        for stride in (1, 2):
            got = pytorch_internals.convolve_prepacked(
                narrow, pytorch_internals.prepack_convolution_weight(weight, stride, False), stride, 0
            )
            expected = F.conv2d(narrow.float(), weight.float(), stride=stride)
            back = pytorch_internals.convolve_prepacked_transposed(
                wide, pytorch_internals.prepack_convolution_weight(weight, stride, True), stride, 0
            )
            expected_back = F.conv_transpose2d(wide.float(), weight.float(), stride=stride)
            # Not `torch.testing`: it imports 0.6 s of PyTorch that nothing else here needs, before the first picture.
            for a, b in ((got.float(), expected), (back.float(), expected_back)):
                if a.shape != b.shape or not torch.allclose(a, b, atol=0.1, rtol=0.02):
                    raise RuntimeError("the library gives another answer than PyTorch")
    except (RuntimeError, AttributeError) as e:
        # In this order: a type this processor lacks, a build without these operations, another answer.
        _log.info("convolution weights of type %s are not prepared here: %s", dtype, e)
        return False
    return True


# What reading one weight costs, in multiply-adds: as much as this many output cells. It decides about small maps.
_WEIGHT_READ = 24
# What it costs to bring one number to a frequency and back, in multiply-adds.
_TRANSFORM = 30
# Multiply-adds that each number of weights prepared for fewer multiplications has to save, for the memory it takes.
_WORTH_KEEPING = 32


def convolution_cost(shape: Sequence[int], count: int, size: tuple[int, int], *, winograd: bool) -> float:
    """What a convolution costs on a processor, in multiply-adds at the rate of large ones.

    Args:
        shape: of the weight, ``[out, in, kernel, kernel]``.
        count, size: how many maps, and how many cells of each are multiplied with all taps: those of the result, for a
            transposed convolution of stride 2 those of the input.
        winograd: in fewer multiplications (stride 1 only).
    """
    channels = shape[0] * shape[1]
    if not winograd:
        return shape[2] * shape[3] * channels * (count * size[0] * size[1] + _WEIGHT_READ)
    tiles = count * -(-size[0] // 4) * -(-size[1] // 4)
    return 36 * (channels * (tiles + _WEIGHT_READ) + _TRANSFORM * tiles * (shape[0] + shape[1]))


def compiled_convolution_available(like: Tensor, dtype: torch.dtype) -> bool:
    """Whether the compiled convolutions are used for maps of that type on the device of ``like``."""
    return dtype == torch.float32 and like.device.type == "cpu" and status.loaded("cpu")


def winograd_pays(shape: Sequence[int], count: int, size: tuple[int, int]) -> bool:
    """Whether fewer multiplications pay for a convolution of stride 1; arguments as for `convolution_cost`."""
    less, plain = (convolution_cost(shape, count, size, winograd=w) for w in (True, False))
    return shape[2] == 3 and plain - less > _WORTH_KEEPING * 36 * shape[0] * shape[1]


class PrepackedConvolution:
    """Convolves with a weight that is given every time, and prepared only when it is another one than last time.

    A weight that was moved or written to counts as another one. A copy of this object starts with nothing prepared.

    Args:
        stride: 1, or 2 for the transposed convolution that doubles the size. The weight ``[out, in, 3, 3]``, at
            stride 1 ``[out, in, 1, 1]`` as well, is for
            ``F.conv2d(x, weight, padding=padding)`` or ``F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)``.
    """

    def __init__(self, stride: int = 1) -> None:
        self.stride = stride
        # Of which weight, and what was prepared of it; only replaced together.
        self._kept: tuple[tuple[Any, ...], dict[tuple[torch.dtype, str], Tensor]] = (), {}

    def __reduce__(self) -> tuple[Any, ...]:
        return PrepackedConvolution, (self.stride,)

    def __call__(self, x: Tensor, weight: Tensor, padding: int = 0) -> Tensor:
        """Convolve ``[batch, in, height, width]``, in the type of x; differentiable in x, never in the weight."""
        return _Apply.apply(x, weight.detach(), self, padding, self.stride == 2, None)

    def run(self, x: Tensor, weight: Tensor, padding: int, transposed: bool) -> Tensor:
        """One direction: in -> out unless ``transposed`` differs from what the stride means. Without gradients."""
        # The axes of the weight as the convolution that is *not* transposed sees them.
        swap = self.stride == 2
        prepackable = x.device.type == "cpu" and x.numel() > 0 and prepacking_works(x.dtype)
        # Of kernels of one tap, the library's are a little faster.
        if x.numel() and compiled_convolution_available(x, x.dtype) and not (prepackable and weight.shape[2] == 1):
            return self._run_compiled(x, weight, padding, transposed)
        if prepackable:
            prepacked = self._prepare(
                (x.dtype, "transposed" if transposed else "straight"),
                weight,
                lambda: pytorch_internals.prepack_convolution_weight(
                    _to(weight, x.dtype, swap).contiguous(), self.stride, transposed
                ),
            )
            # The library computes channels-last several times faster, and gives back what it was given.
            x = x.contiguous(memory_format=torch.channels_last)
            if transposed:
                return pytorch_internals.convolve_prepacked_transposed(x, prepacked, self.stride, padding)
            return pytorch_internals.convolve_prepacked(x, prepacked, self.stride, padding)
        # Of two orders of memory PyTorch would bring one into the other's, every time.
        last = x.device.type in ("cpu", "cuda") and x.is_contiguous(memory_format=torch.channels_last)
        order = torch.channels_last if last else torch.contiguous_format
        plain = self._prepare(
            (x.dtype, f"plain, {order}"), weight, lambda: _to(weight, x.dtype, swap).contiguous(memory_format=order)
        )
        return (F.conv_transpose2d if transposed else F.conv2d)(x, plain, stride=self.stride, padding=padding)

    def _run_compiled(self, x: Tensor, weight: Tensor, padding: int, transposed: bool) -> Tensor:
        """By the compiled operators."""
        operators, kernel, adjoint = torch.ops.draggan, weight.shape[2], transposed == (self.stride == 1)
        out = weight.shape[1 if adjoint else 0]

        def turned() -> Tensor:
            # The adjoint at stride 1 is a convolution too, with the weight turned round.
            w = weight.flip(2, 3) if adjoint and self.stride == 1 else weight
            return (w.transpose(0, 1) if adjoint else w).float()

        if self.stride == 1:
            padding, transposed = (kernel - 1 - padding if adjoint else padding), False
            grown = 2 * padding - kernel + 1
            if winograd_pays(weight.shape, len(x), (x.shape[2] + grown, x.shape[3] + grown)):
                key = (x.dtype, "winograd, adjoint" if adjoint else "winograd")
                prepared = self._prepare(key, weight, lambda: operators.winograd_weight(turned()))
                return operators.winograd_convolve(x, prepared, out, padding)
        key = (x.dtype, "direct, adjoint" if adjoint else "direct")
        prepared = self._prepare(key, weight, lambda: operators.direct_weight(turned()))
        return operators.direct_convolve(x, prepared, out, kernel, self.stride, padding, transposed)

    def _prepare(self, key: tuple[torch.dtype, str], weight: Tensor, make: Callable[[], Tensor]) -> Tensor:
        state = (weight.data_ptr(), weight.device, weight.dtype, pytorch_internals.version(weight))
        kept, ready = self._kept
        if state != kept:
            # Another thread may do the same at this moment: both then prepare, and one result stays.
            self._kept = state, (ready := {})
        found = ready.get(key)
        if found is None:
            with torch.no_grad():
                found = ready.setdefault(key, make())
        return found


def _to(weight: Tensor, dtype: torch.dtype, swap: bool) -> Tensor:
    weight = weight.to(dtype)
    return weight.transpose(0, 1) if swap else weight


class _Apply(torch.autograd.Function):
    """One direction of a convolution with a constant weight; its gradient is the other direction, and so on."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        convolution: PrepackedConvolution,
        padding: int,
        transposed: bool,
        size: tuple[int, int] | None,
    ) -> Tensor:
        """``size``: height and width of the result where this is a gradient, whose zeros are then left out."""
        ctx.save_for_backward(weight)
        ctx.convolution, ctx.padding, ctx.transposed, ctx.size = convolution, padding, transposed, tuple(x.shape[2:])
        # The direction of a first gradient: only there zeros are worth looking for.
        adjoint = transposed == (convolution.stride == 1)
        if size is None or not adjoint or x.device.type != "cpu":
            return convolution.run(x, weight, padding, transposed)
        return _sparse(x, weight, convolution, padding, size)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        back = _Apply.apply(gradient, weight, ctx.convolution, ctx.padding, not ctx.transposed, ctx.size)
        return back, None, None, None, None, None


def _sparse(
    x: Tensor, weight: Tensor, convolution: PrepackedConvolution, padding: int, size: tuple[int, int]
) -> Tensor:
    """The adjoint, from the rectangle of x that is not zero (in all samples together) to a result of that size."""
    transposed = convolution.stride == 1
    height, width = x.shape[2:]
    extent = nonzero_extent(x)
    if extent is None:
        return x.new_zeros(x.shape[0], weight.shape[1], *size)
    top, left = extent[0], extent[2]
    bottom, right = extent[1] - 1, extent[3] - 1
    if (bottom - top + 1) * (right - left + 1) > 0.8 * height * width:
        return convolution.run(x, weight, padding, transposed)
    if convolution.stride == 1:
        # One cell more on every side; cell k of that is cell k - padding of the result.
        x = x[:, :, top : bottom + 1, left : right + 1]
        return _place(convolution.run(x, weight, 0, transposed), top - padding, left - padding, size)
    # Cell i of the result takes cells 2 i .. 2 i + 2 of x.
    top, left = max((top - 1) // 2, 0), max((left - 1) // 2, 0)
    bottom, right = min(bottom // 2, size[0] - 1), min(right // 2, size[1] - 1)
    x = x[:, :, 2 * top : 2 * bottom + 3, 2 * left : 2 * right + 3]
    return _place(convolution.run(x, weight, 0, transposed), top, left, size)


def _place(part: Tensor, top: int, left: int, size: tuple[int, int]) -> Tensor:
    """Zeros of that size with ``part`` from cell (top, left) on; what sticks out is cut off."""
    part = part[:, :, max(-top, 0) : size[0] - top, max(-left, 0) : size[1] - left]
    top, left = max(top, 0), max(left, 0)
    whole = part.new_zeros(part.shape[0], *size, part.shape[1]).permute(0, 3, 1, 2)
    whole[:, :, top : top + part.shape[2], left : left + part.shape[3]] = part
    return whole


# ----------------------------------------------------------------------------------------------- the compiled version


def register(library: torch.library.Library) -> None:
    """Tell PyTorch the compiled operators' shapes. Gradients there are none: the adjoint needs another weight."""
    for name in ("direct_weight", "winograd_weight"):
        torch.library.register_fake(f"draggan::{name}", _fake_weight, lib=library)
    torch.library.register_fake("draggan::direct_convolve", _fake_direct, lib=library)
    torch.library.register_fake("draggan::winograd_convolve", _fake_winograd, lib=library)


def _fake_weight(weight: Tensor) -> Tensor:
    return weight.new_empty(torch.library.get_ctx().new_dynamic_size())


def _fake_direct(
    x: Tensor, prepared: Tensor, out: int, kernel: int, stride: int, padding: int, transposed: bool
) -> Tensor:
    sizes = x.shape[2:]
    if transposed:
        return _empty(x, out, *(2 * (n - 1) + kernel for n in sizes))
    return _empty(x, out, *((n + 2 * padding - kernel) // stride + 1 for n in sizes))


def _fake_winograd(x: Tensor, prepared: Tensor, out: int, padding: int) -> Tensor:
    return _empty(x, out, *(n + 2 * padding - 2 for n in x.shape[2:]))


def _empty(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    size = (len(x), channels, height, width)
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
