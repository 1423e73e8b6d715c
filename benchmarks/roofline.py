"""What the arithmetic of a step needs, at the rate its convolutions reach on this machine, and what the step takes.

The convolutions that one real step runs are recorded, forward and backward, with their sizes, and run again alone, in
the same order on the same weights (so that weights come from memory as they do in the step). Everything else in a step
is what the step takes beyond that.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.models import LAYOUTS, network
from benchmarks.step import MASKS, endless
from benchmarks.timing import publish, race, table
from draggan.config import Precision
from draggan.generators.stylegan2 import StyleGAN2Generator
from torch_utils.ops.prepacked_convolution import PrepackedConvolution

__all__ = ["Call", "calls_of", "main"]


@dataclass(frozen=True, eq=False)
class Call:
    """One convolution of a step.

    Attributes:
        layer: name of the layer whose weight it is.
        backward: it is the gradient of the layer's convolution.
    """

    layer: str
    backward: bool
    convolution: PrepackedConvolution
    weight: Tensor
    shape: tuple[int, ...]
    result: tuple[int, ...]
    dtype: torch.dtype
    padding: int
    transposed: bool

    @property
    def macs(self) -> int:
        """Multiply-adds: every tap of the kernel at every cell of the smaller of the two maps at most.

        A convolution computes its cells from nine each; a transposed one spreads each of its inputs to nine.
        """
        cells = self.shape if self.transposed else self.result
        return self.weight.numel() * cells[0] * cells[2] * cells[3]

    @property
    def bytes(self) -> int:
        """Weights, input and output, each once."""
        size = torch.empty(0, dtype=self.dtype).element_size()
        return size * (self.weight.numel() + int(np.prod(self.shape)) + int(np.prod(self.result)))

    def prepare(self) -> Callable[[], Tensor]:
        """The same convolution of random numbers."""
        x = torch.randn(self.shape).to(self.dtype).contiguous(memory_format=torch.channels_last)
        return lambda: self.convolution.run(x, self.weight, self.padding, self.transposed)


@contextmanager
def _recorded(generator: StyleGAN2Generator) -> Iterator[list[Call]]:
    """The convolutions that run in this block."""
    names = {p.data_ptr(): n.removesuffix(".weight") for n, p in generator.synthesis.named_parameters()}
    calls: list[Call] = []
    plain = PrepackedConvolution.run

    def run(self: PrepackedConvolution, x: Tensor, weight: Tensor, padding: int, transposed: bool) -> Tensor:
        y = plain(self, x, weight, padding, transposed)
        calls.append(
            Call(
                layer=names[weight.data_ptr()],
                backward=transposed == (self.stride == 1),
                convolution=self,
                weight=weight,
                shape=tuple(x.shape),
                result=tuple(y.shape),
                dtype=x.dtype,
                padding=padding,
                transposed=transposed,
            )
        )
        return y

    with mock.patch.object(PrepackedConvolution, "run", run):
        yield calls


def calls_of(generator: StyleGAN2Generator, step: Callable[[], Any]) -> list[Call]:
    """The convolutions of one step; the first steps are not typical (no tracking, everything new)."""
    for _ in range(3):
        step()
    with _recorded(generator) as calls:
        step()
    return list(calls)


def ceilings(dtype: torch.dtype) -> tuple[float, float]:
    """The machine's best: GFLOP/s of a large matrix product of that type, and GB/s of copying 256 MB."""
    n = 2048
    a, b = (torch.randn(n, n).to(dtype) for _ in range(2))
    source, target = torch.zeros(2**26), torch.empty(2**26)
    runs = {"product": lambda: a @ b, "copy": lambda: target.copy_(source)}
    samples = race(runs, warmup=1, repeats=5, limit=10)
    best = {name: min(sample.seconds) for name, sample in samples.items()}
    return 2e-9 * n**3 / best["product"], 2e-9 * source.nbytes / best["copy"]


def analyse(
    generator: StyleGAN2Generator, count: int, mask: str, precision: Precision, repeats: int
) -> tuple[str, list[object]]:
    """The table of layers, and one row of the summary."""
    step = endless(generator, count, mask, precision=precision)
    calls = calls_of(generator, step)
    runs = [call.prepare() for call in calls]
    each = np.zeros((repeats, len(calls)))
    rounds = iter(range(10**9))

    def convolutions() -> None:
        k = next(rounds) % repeats
        for i, run in enumerate(runs):
            begun = time.perf_counter()
            run()
            each[k, i] = time.perf_counter() - begun

    with torch.no_grad():
        convolutions()
    samples = race({"step": step, "convolutions": torch.no_grad()(convolutions)}, warmup=1, repeats=repeats, limit=60)
    seconds = np.median(each[each.sum(1) > 0], 0)
    product, copy = ceilings(calls[0].dtype)
    rows: list[list[object]] = []
    for call, t in zip(calls, seconds, strict=True):
        rate, traffic = 2e-9 * call.macs / t, 1e-9 * call.bytes / t
        rows.append(
            [
                call.layer,
                "backward" if call.backward else "forward",
                "x".join(map(str, call.shape)),
                f"{1e-6 * call.macs:.0f}",
                f"{1e-6 * call.bytes:.1f}",
                f"{1e3 * t:.2f}",
                f"{rate:.0f} ({100 * rate / product:.0f} %)",
                f"{traffic:.1f} ({100 * traffic / copy:.0f} %)",
            ]
        )
    columns = ["layer", "direction", "input", "million MACs", "MB", "ms", "GFLOP/s (of a product)", "GB/s (of a copy)"]
    total = sum(call.macs for call in calls)
    ratio = samples["step"].median / samples["convolutions"].median
    cpu = float(np.median(samples["step"].cpu) / np.median(samples["convolutions"].cpu))
    name = f"{max(generator.image_size)} px, {count} handles, mask {mask}, {precision}"
    summary: list[object] = [
        name,
        f"{1e-9 * total:.2f}",
        f"{1e-6 * sum(call.bytes for call in calls):.0f}",
        samples["convolutions"],
        samples["step"],
        f"{ratio:.2f}",
        f"{cpu:.2f}",
        f"{2e-9 * total / samples['convolutions'].median:.0f} of {product:.0f}",
    ]
    text = f"\n## {name}\n\nA product of 2048 x 2048 matrices: {product:.0f} GFLOP/s. Copying: {copy:.1f} GB/s.\n\n"
    return text + table(columns, rows), summary


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks roofline", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small network")
    parser.add_argument("--sizes", nargs="+", default=None, choices=[*LAYOUTS])
    parser.add_argument("--handles", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--masks", nargs="+", default=["none", "exact", "estimated"], choices=MASKS)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    machine.add_options(parser)
    args = parser.parse_args(argv)
    here = machine.prepare(args)
    details, rows = [], []
    for layout in args.sizes or (["32-tiny"] if args.quick else ["512"]):
        generator = network(layout)
        for count in args.handles[:1] if args.quick else args.handles:
            for mask in args.masks:
                for precision in args.precisions:
                    text, row = analyse(generator, count, mask, precision, 3 if args.quick else args.repeats)
                    details.append(text)
                    rows.append(row)
                    print(" | ".join(map(str, row)), flush=True)
    columns = ["case", "GMACs", "MB", "convolutions alone", "step", "step / convolutions", "the same in processor time"]
    text = f"{here.markdown()}\n\n{table([*columns, 'GFLOP/s'], rows)}{''.join(details)}"
    publish(text, args.out)
    return 0
