"""How much showing pictures slows a drag, with the page's own pacing, rendering and encoding, without a browser.

The drag runs on a thread of its own, as in the page; another renders and encodes the newest step whenever a picture is
due. Compared with the same drag unseen, for the whole picture and for the smaller ones that a ``skip`` network has on
the way. The drag is the published optimiser's, on random weights, and does not arrive.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.models import LAYOUTS, network, points, start
from benchmarks.timing import publish, table
from draggan.engine.base import RunningDrag
from draggan.engine.local import LocalEngine
from draggan.engine.models import Model
from draggan.generators.stylegan2 import StyleGAN2Generator
from draggan.pixels import to_uint8
from draggan.recipe import Edit, ModelReference, Recipe, read_points
from draggan.ui.canvas.component import frame_url
from draggan.ui.frame_pacing import FramePacer

__all__ = ["follow", "main"]


class _One:
    """A source of one model."""

    def __init__(self, generator: StyleGAN2Generator) -> None:
        self._generator = generator

    def find(self, name: str) -> Model:
        """What it is."""
        return Model(name=name, title=name)

    def load(self, name: str) -> StyleGAN2Generator:
        """The generator."""
        return self._generator

    def sha256(self, name: str) -> str:
        """It has no file."""
        return ""


def _drag(generator: StyleGAN2Generator) -> RunningDrag:
    handles, targets = points(1, max(generator.image_size))
    model, latent = ModelReference(name="benchmark"), start(generator).cpu().numpy()
    recipe = Recipe(model=model, image_size=generator.image_size, start=latent)
    pairs = [[*handle, *target] for handle, target in zip(np.asarray(handles), np.asarray(targets), strict=True)]
    settings = {"max_steps": 10000, "stall_steps": 10000, "step_size": 1e-3}
    edit = Edit(points=read_points(pairs, recipe.image_size), settings=settings)
    return LocalEngine(_One(generator)).drag(recipe, edit)


def follow(
    generator: StyleGAN2Generator, seconds: float, picture: Callable[[Tensor], Tensor] | None
) -> tuple[float, float, float]:
    """Run a drag for so long, shown or not.

    Args:
        picture: latent to picture; None: not shown.

    Returns:
        Steps a second, frames a second, and seconds per frame (rendering and encoding; median).
    """
    drag, pacer = _drag(generator), FramePacer()
    shown, costs = None, []
    first = drag.newer(None, patience=60.0)
    assert first is not None
    begun = time.perf_counter()
    try:
        # A handle may arrive before the time is over.
        while time.perf_counter() - begun < seconds and not drag.ended(patience=0):
            if picture is None:
                drag.ended(patience=0.1)
                continue
            if drag.ended(patience=pacer.wait()) or drag.update is shown:
                drag.newer(shown, patience=1.0)
                continue
            update = drag.update
            assert update is not None
            pacer.begin()
            since = time.perf_counter()
            with torch.no_grad():
                frame_url(to_uint8(picture(torch.from_numpy(update.ws))), quality=80)
            costs.append(time.perf_counter() - since)
            pacer.end()
            shown = update
    finally:
        taken = time.perf_counter() - begun
        drag.stop()
        drag.ended(patience=60.0)
    assert drag.update is not None
    steps = (drag.update.index - first.index) / taken
    return steps, len(costs) / taken, float(np.median(costs)) if costs else float("nan")


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks preview", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small network, one second each")
    parser.add_argument("--sizes", nargs="+", default=None, choices=[*LAYOUTS])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    machine.add_options(parser)
    args = parser.parse_args(argv)
    here = machine.prepare(args)
    rows: list[list[object]] = []
    for layout in args.sizes or (["32-tiny"] if args.quick else ["256-cat", "512"]):
        generator = network(layout)
        size = max(generator.image_size)
        seconds = 1.0 if args.quick else args.seconds
        follow(generator, 1.0, None)  # what the first drag prepares
        alone, _, _ = follow(generator, seconds, None)
        rows.append([layout, "not shown", f"{alone:.1f}", "-", "-", "-"])
        for edge in (size, size // 2, size // 4):
            picture = functools.partial(generator.synthesis, resolution=None if edge == size else edge)
            steps, frames, cost = follow(generator, seconds, picture)
            row = [layout, f"{edge} px", f"{steps:.1f}", f"{frames:.1f}", f"{1e3 * cost:.0f}", f"{alone / steps:.2f}"]
            rows.append(row)
            print(" | ".join(row), flush=True)
    columns = ["size", "shown", "steps a second", "frames a second", "ms a frame", "times slower than not shown"]
    text = f"{here.markdown()}\n\n{table(columns, rows)}"
    publish(text, args.out)
    return 0
