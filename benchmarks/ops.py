"""Compiled operators against their PyTorch twins at the sizes that occur, by turns in one process.

The figures are processor time on one thread unless options say otherwise: with two threads on a busy machine most of an
operator's time is spent waiting for the other thread, and several plain operators wait several times.

The libraries are built first if the cache lacks them, for this processor or the one that ``DRAGGAN_MARCH`` names. A
case whose operator leaves it to the twin (see `_pays` in upfirdn2d) is measured all the same, by calling the compiled
version directly: "left to the twin" says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.models import network, start
from benchmarks.timing import publish, race, table
from draggan.generators.base import Generator
from draggan.generators.stylegan3 import StyleGAN3Generator
from draggan.generators.stylegan3.config import StyleGAN3Config
from draggan.geometry import Windows
from torch_utils.ops import library, status
from torch_utils.ops.bias_act import modulated_act
from torch_utils.ops.filtered_lrelu import filtered_lrelu
from torch_utils.ops.prepacked_convolution import PrepackedConvolution, winograd_pays
from torch_utils.ops.upfirdn2d import _pays, setup_filter, upfirdn2d

__all__ = ["main"]

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        run: what is timed.
        used: whether the compiled version is used for this.
        compiled: what is timed instead of ``run`` as the compiled version, where that is not used.
    """

    op: str
    shape: str
    run: Callable[[], object]
    used: bool = True
    compiled: Callable[[], object] | None = None


def _map(shape: Shape, dtype: torch.dtype, last: bool) -> Tensor:
    return torch.randn(shape).to(dtype, memory_format=torch.channels_last if last else torch.contiguous_format)


def _text(shape: Shape, last: bool) -> str:
    return "x".join(map(str, shape)) + (", channels last" if last else "")


def _no_grad(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    return torch.no_grad()(run)


def _with_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    x = x.detach().requires_grad_()
    cotangent = torch.randn_like(function(x))
    return lambda: torch.autograd.grad(function(x), x, cotangent)


def act_cases(dtype: torch.dtype) -> Iterator[Case]:
    """Whole maps as a picture needs them, and windows as a drag does."""
    for shape in ((1, 512, 4, 4), (1, 512, 16, 16), (1, 512, 64, 64), (1, 256, 128, 128), (1, 64, 512, 512)):
        x, scale, bias = _map(shape, dtype, True), torch.rand(1, shape[1]) + 0.5, torch.randn(shape[1])
        noise = torch.randn(shape[2:]).to(dtype)
        in_place = partial(modulated_act, x, scale, noise, bias, activation="lrelu", overwrite=True)
        yield Case("modulated_act, in place", _text(shape, True), _no_grad(in_place))
    for shape in ((1, 512, 10, 10), (5, 256, 14, 14), (8, 128, 64, 64)):
        x, scale, bias = _map(shape, dtype, True), torch.rand(1, shape[1]) + 0.5, torch.randn(shape[1])
        noise = torch.randn(shape[2:]).to(dtype)
        scale.requires_grad_()
        act = partial(modulated_act, scale=scale, noise=noise, bias=bias, activation="lrelu")
        yield Case("modulated_act and gradient", _text(shape, True), _with_gradient(act, x))


class Resampling(NamedTuple):
    """Settings of `upfirdn2d`, in the order of the compiled operator's arguments."""

    up: int = 1
    down: int = 1
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    gain: float = 1.0


def upfirdn_cases(dtype: torch.dtype) -> Iterator[Case]:
    """Behind the convolution that doubles the size, for the picture of the `skip` architecture, and down by 2."""
    f = setup_filter((1, 3, 3, 1))
    after = Resampling(padding=(1, 1, 1, 1), gain=4.0)
    double = Resampling(up=2, padding=(2, 1, 2, 1), gain=4.0)
    half = Resampling(down=2, padding=(1, 1, 1, 1))
    cases: list[tuple[str, Shape, bool, Resampling, bool]] = [
        ("filter", (1, 512, 9, 9), True, after, False),
        ("filter", (1, 512, 65, 65), True, after, False),
        ("filter", (1, 64, 513, 513), True, after, False),
        ("filter", (1, 512, 13, 13), False, after, False),
        ("filter", (1, 512, 65, 65), False, after, False),
        ("filter and gradient", (1, 512, 13, 13), True, Resampling(gain=4.0), True),
        ("filter and gradient", (8, 128, 65, 65), True, after, True),
        ("up 2", (1, 3, 8, 8), False, double, False),
        ("up 2", (1, 3, 64, 64), False, double, False),
        ("up 2", (1, 3, 256, 256), False, double, False),
        ("down 2", (8, 64, 128, 128), False, half, False),
    ]
    for name, shape, last, settings, gradient in cases:
        # Pictures are float32 whatever the features are.
        x = _map(shape, torch.float32 if name == "up 2" else dtype, last)
        run = partial(upfirdn2d, f=f, **settings._asdict())
        compiled = partial(torch.ops.draggan.upfirdn2d, x, f, *settings)
        used = _pays(x, settings.up)
        timed = _with_gradient(run, x) if gradient else _no_grad(partial(run, x))
        yield Case(f"upfirdn2d, {name}", _text(shape, last), timed, used, None if used else _no_grad(compiled))


def lrelu_cases(dtype: torch.dtype) -> Iterator[Case]:
    """Layers of StyleGAN3 at 256 px, with the channels published for that size."""
    for radial in (False, True):
        generator = StyleGAN3Generator(
            StyleGAN3Config(
                z_dim=8,
                c_dim=0,
                w_dim=8,
                img_resolution=256,
                channel_base=16384,
                channel_max=512,
                conv_kernel=1,
                use_radial_filters=radial,
            )
        )
        seen: set[tuple[int, int, int]] = set()
        for _, layer in generator.synthesis.layers():
            key = layer.up, layer.down, layer.after.size
            if key in seen or (radial and len(seen) > 1):
                continue
            seen.add(key)
            # What the convolution gives: it is `kernel - 1` larger on both sides of the map.
            size = layer.before.size + layer.kernel - 1
            shape = 1, layer.weight.shape[0], size, size
            x = _map(shape, dtype, False)
            run = partial(
                filtered_lrelu,
                up_filter=layer.up_filter,
                down_filter=layer.down_filter,
                bias=layer.bias.detach(),
                up=layer.up,
                down=layer.down,
                padding=layer.padding,
                clamp=layer.conv_clamp,
            )
            what = f"filtered_lrelu up {layer.up} down {layer.down}{', radial' if radial else ''}"
            yield Case(what, _text(shape, False), _no_grad(partial(run, x)))
            if not radial and 50 < size < 200:
                yield Case(f"{what}, and gradient", _text(shape, False), _with_gradient(run, x))


def convolution_cases(dtype: torch.dtype) -> Iterator[Case]:
    """Whole maps and a few windows, with weights prepared for both; of float32 only."""
    if dtype != torch.float32:
        return
    shapes: list[Shape] = [(1, 512, 4, 4), (1, 512, 8, 8), (1, 512, 16, 16), (1, 512, 32, 32), (1, 512, 64, 64)]
    shapes += [(1, 256, 128, 128), (1, 128, 256, 256), (1, 64, 512, 512), (1, 32, 1024, 1024), (1, 16, 256, 256)]
    shapes += [(1, 512, 10, 10), (5, 512, 10, 10), (30, 256, 12, 12), (1, 128, 32, 32), (1, 64, 64, 64)]
    for shape in shapes:
        x, weight = _map(shape, dtype, True), torch.randn(shape[1], shape[1], 3, 3)
        run = partial(PrepackedConvolution().run, x, weight, 1, False)
        prepared = torch.ops.draggan.winograd_weight(weight)
        compiled = partial(torch.ops.draggan.winograd_convolve, x, prepared, shape[1], 1)
        used = winograd_pays(weight.shape, len(x), shape[2:])
        yield Case("3x3 convolution", _text(shape, True), _no_grad(run), used, None if used else _no_grad(compiled))


def whole_cases(dtype: torch.dtype) -> Iterator[Case]:
    """What a user waits for."""

    def within(run: Callable[[], object]) -> Callable[[], object]:
        def timed() -> object:
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                return run()

        return timed

    def picture(generator: Generator) -> Callable[[], object]:
        return within(_no_grad(lambda: generator.synthesis(start(generator))))

    large = network("512")
    for layout, generator in (("128-cat", network("128-cat")), ("512", large)):
        yield Case("picture, StyleGAN2", layout, picture(generator))
    aliasfree = StyleGAN3Generator(
        StyleGAN3Config(z_dim=512, c_dim=0, w_dim=512, img_resolution=256, channel_base=16384)
    ).freeze()
    yield Case("picture, StyleGAN3-T", "256 px", picture(aliasfree))
    windows = Windows(((50, 60),), (13, 13))
    rows = [row.clone() for row in start(large).unbind(1)]

    def step() -> object:
        own = [row.clone().requires_grad_(i < 6) for i, row in enumerate(rows)]
        y = large.local_features(own, "b128", windows)
        return torch.autograd.grad(y.float().square().sum(), own[:6])

    yield Case("13x13 window of b128 and gradient", "512 px", within(step))


def measure(case: Case, *, repeats: int) -> tuple[float, float]:
    """Processor milliseconds of the twin and of the compiled version, medians."""

    def twin() -> None:
        with status.reference_only():
            case.run()

    found = race({"twin": twin, "compiled": case.compiled or case.run}, repeats=repeats, limit=6.0)
    return 1e3 * float(np.median(found["twin"].cpu)), 1e3 * float(np.median(found["compiled"].cpu))


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ops", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repeats")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    library.load()
    here = machine.describe()
    torch.manual_seed(0)
    rows: list[list[object]] = []
    for make in (act_cases, upfirdn_cases, lrelu_cases, convolution_cases, whole_cases):
        for dtype in (torch.float32, torch.bfloat16):
            for case in make(dtype):
                twin, compiled = measure(case, repeats=5 if args.quick else 15)
                name = str(dtype).removeprefix("torch.")
                note = "" if case.used else "left to the twin"
                rows.append(
                    [case.op, case.shape, name, f"{twin:.3g}", f"{compiled:.3g}", f"{twin / compiled:.1f}", note]
                )
                print(*rows[-1], flush=True)
    columns = ["operator", "shape", "type", "twin, ms", "compiled, ms", "ratio", ""]
    text = f"{here.markdown()}\n\n{table(columns, rows)}"
    print()
    publish(text, args.out)
    return 0
