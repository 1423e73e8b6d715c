"""Do drags in lower precision end at the same place, and sooner?

The fixed drags of `benchmarks.drags` on the built-in cat, each with both solvers, as its entry suggests them, and in
every precision by turns, from the same picture. Where a drag
ended is judged twice: by its own tracker, and, the same judge for all, by float32 features: the template of the handle
in the first picture is looked for around the target in the last one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.drags import drags
from benchmarks.timing import publish, table
from draggan import load_generator, suggested_config
from draggan.config import DragConfig
from draggan.drag import Drag
from draggan.generators.base import Generator
from draggan.geometry import inside, sample, square_offsets

__all__ = ["Result", "judged", "main", "run"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """How one drag ended.

    Attributes:
        distance: from target, by its own tracker, image pixels.
        judged: by the judge.
        position: of the handle at the end, by the judge.
        seconds: per step, median.
        whole: seconds from start to end.
    """

    outcome: str
    steps: int
    distance: float
    judged: float
    position: np.ndarray
    seconds: float
    whole: float
    ws: Tensor


@torch.no_grad()
def judged(
    generator: Generator, before: Tensor, after: Tensor, handle: Sequence[float], target: Sequence[float]
) -> np.ndarray:
    """Where the content of a handle is in another picture, by float32 features; looked for around the target."""
    level = generator.default_level
    grid = generator.grid(level)
    template = sample(generator.features(before, level), grid, torch.tensor(handle))
    reach = round(max(generator.image_size) / 8)
    # Half pixels: the tracker itself goes by whole ones.
    candidates = torch.tensor(target) + square_offsets(2 * reach) / 2
    found = sample(generator.features(after, level), grid, candidates)
    distance = (found - template).norm(dim=-1).masked_fill(~inside(candidates, generator.image_size), torch.inf)
    return candidates[distance.argmin()].numpy()


def run(
    generator: Generator,
    ws: Tensor,
    handle: Sequence[float],
    target: Sequence[float],
    mask: np.ndarray | None,
    config: DragConfig,
) -> Result:
    """One drag to its end."""
    seconds, steps = [], []
    started = time.perf_counter()
    drag = Drag(generator, ws, [handle], [target], mask, config)
    begun = time.perf_counter()
    for step in drag:
        steps.append(step)
        seconds.append(time.perf_counter() - begun)
        begun = time.perf_counter()
    whole, last = begun - started, steps[-1]
    position = judged(generator, ws, last.ws, handle, target)
    return Result(
        outcome=last.outcome or "",
        steps=last.index,
        distance=float(last.distances[0]),
        judged=float(np.linalg.norm(position - np.array(target))),
        position=position,
        seconds=float(np.median(seconds)),
        whole=whole,
        ws=last.ws,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks precision", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two seeds")
    parser.add_argument("--model", default="cat")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--solvers", nargs="+", default=["gauss-newton", "adam"])
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    machine.add_options(parser)
    args = parser.parse_args(argv)
    here = machine.prepare(args)
    generator = load_generator(args.model, args.device)
    keys = [(solver, precision) for solver in args.solvers for precision in args.precisions]
    configs = {key: suggested_config(args.model, solver=key[0], precision=key[1]) for key in keys}
    results: dict[tuple[str, str], list[Result]] = {key: [] for key in keys}
    for solver in args.solvers:
        # What the first drag of a process prepares is ready from here on.
        run(generator, generator.sample(0), *drags(0)["mouth"], None, configs[solver, args.precisions[0]])
    for seed in range(2 if args.quick else args.seeds):
        ws = generator.sample(seed)
        for handle, target in drags(seed).values():
            for key, config in configs.items():
                results[key].append(run(generator, ws, handle, target, None, config))
    rows: list[list[object]] = []
    for (solver, precision), found in results.items():
        first = results[solver, args.precisions[0]]
        apart = [float(np.linalg.norm(a.position - b.position)) for a, b in zip(first, found, strict=True)]
        arrived = sum(r.outcome == "arrived" for r in found)
        rows.append(
            [
                solver,
                precision,
                f"{arrived} of {len(found)}",
                f"{np.median([r.steps for r in found]):.0f} ({max(r.steps for r in found)})",
                f"{np.mean([r.distance for r in found]):.2f}",
                f"{np.mean([r.judged for r in found]):.2f}",
                f"{np.median(apart):.2f}, {np.percentile(apart, 90):.2f}, {max(apart):.2f}",
                f"{1e3 * np.median([r.seconds for r in found]):.1f}",
                f"{np.mean([r.whole for r in found]):.2f}",
            ]
        )
    columns = ["solver", "precision", "arrived", "steps, median (most)", "px left, own tracker, mean"]
    columns += ["px left, float32 judge, mean", f"px from where {args.precisions[0]} ended: median, 90 %, most"]
    text = f"{here.markdown()}; model {args.model}\n\n{table([*columns, 'ms a step', 's a drag, mean'], rows)}"
    publish(text, args.out)
    return 0
