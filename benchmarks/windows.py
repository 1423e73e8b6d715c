"""Windows against whole maps: the same drag step, the features of its windows computed alone or cut out of the map."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from benchmarks.models import points, start
from benchmarks.timing import publish, race, table
from draggan.config import DragConfig, Precision, choices
from draggan.drag import Drag
from draggan.generators.base import Generator, Latent
from draggan.generators.stylegan3 import StyleGAN3Generator
from draggan.generators.stylegan3.config import StyleGAN3Config
from draggan.geometry import Windows, crop

__all__ = ["main", "network3"]

# Configuration R: convolutions of one cell, twice the channels, radial filters.
_R = {"conv_kernel": 1, "channel_base": 65536, "channel_max": 1024, "use_radial_filters": True}
NETWORKS: dict[str, dict[str, Any]] = {
    "t-tiny": {"img_resolution": 32, "channel_base": 1024, "channel_max": 32},
    "t-256": {"img_resolution": 256, "channel_base": 16384},
    "r-256": {"img_resolution": 256, **_R, "channel_base": 32768},
    "t-512": {"img_resolution": 512},
    "r-512": {"img_resolution": 512, **_R},
    "t-1024": {"img_resolution": 1024},
    "r-1024": {"img_resolution": 1024, **_R},
}


def network3(name: str) -> StyleGAN3Generator:
    """A frozen StyleGAN3 with random weights."""
    torch.manual_seed(0)
    generator = StyleGAN3Generator(StyleGAN3Config(z_dim=512, c_dim=0, w_dim=512, **NETWORKS[name]))
    with torch.no_grad():
        for key, parameter in generator.synthesis.named_parameters():
            if key.endswith("bias") and "affine" not in key:
                parameter.normal_()
    return generator.freeze()


class _Whole:
    """A generator that computes whole maps and cuts the windows out; otherwise the one it is made from."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def local_features(self, ws: Latent, level: str, windows: Windows) -> torch.Tensor:
        return crop(self._generator.features(ws, level), windows)


def _steps(generator: Any, count: int, precision: Precision) -> Callable[[], object]:
    size = max(generator.image_size)
    handles, targets = points(count, size)
    config = DragConfig(max_steps=10000, stall_steps=10000, step_size=1e-3, precision=precision)
    drag = Drag(generator, start(generator), handles, targets, None, config)
    return lambda: next(drag)


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks windows", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small network")
    parser.add_argument("--networks", nargs="+", default=None, choices=[*NETWORKS])
    parser.add_argument("--handles", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--precisions", nargs="+", default=["float32"], choices=choices(DragConfig)["precision"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    machine.add_options(parser)
    args = parser.parse_args(argv)
    here = machine.prepare(args)
    rows: list[list[object]] = []
    for name in args.networks or (["t-tiny"] if args.quick else ["t-256", "r-256", "t-512"]):
        generator = network3(name)
        for count in args.handles:
            for precision in args.precisions:
                runs = {
                    "whole": _steps(_Whole(generator), count, precision),
                    "windows": _steps(generator, count, precision),
                }
                found = race(runs, warmup=1, repeats=args.repeats)
                whole, windows = found["whole"], found["windows"]
                ratio = f"{whole.median / windows.median:.1f}"
                rows.append([name, generator.default_level, count, precision, whole, windows, ratio])
                print(" | ".join(map(str, rows[-1])), flush=True)
    columns = ["network", "level", "handles", "precision", "whole maps", "windows", "times faster"]
    text = f"{here.markdown()}\n\n{table(columns, rows)}"
    publish(text, args.out)
    return 0
