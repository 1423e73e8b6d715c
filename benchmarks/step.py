"""Seconds per drag step against the published procedure, in one process, by turns."""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.models import LAYOUTS, face_mask, network, points, start
from benchmarks.reference import ReferenceDrag, ReferenceSynthesis
from benchmarks.timing import publish, race, steady, table
from draggan.config import DragConfig, Precision
from draggan.drag import Drag
from draggan.generators.stylegan2 import StyleGAN2Generator

__all__ = ["endless", "main"]

MASKS = ("none", "exact", "estimated")


def endless(
    generator: StyleGAN2Generator, count: int, mask: str, *, precision: Precision, windows: int = 1
) -> Callable[[], object]:
    """One step of a drag that does not end, as a function.

    Args:
        mask: "none", "exact" or "estimated" (from ``windows`` windows).
        precision: see `DragConfig`.
    """
    size = max(generator.image_size)
    handles, targets = points(count, size)
    config = DragConfig(
        max_steps=10000,
        stall_steps=10000,
        step_size=1e-3,
        # As published: the loss alone.
        mask_hold="soft",
        mask_windows=windows if mask == "estimated" else 0,
        precision=precision,
    )
    drag = Drag(generator, start(generator), handles, targets, None if mask == "none" else face_mask(size), config)
    return lambda: next(drag)


def reference_step(
    generator: StyleGAN2Generator, synthesis: ReferenceSynthesis, count: int, mask: str
) -> Callable[[], object]:
    """One step of the published procedure on the same drag."""
    size = max(generator.image_size)
    handles, targets = points(count, size)
    level = "b128" if size >= 128 else generator.levels[-1]
    fixed = None if mask == "none" else face_mask(size)
    return ReferenceDrag(synthesis, start(generator), handles, targets, fixed, level=level).step


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks step", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small networks, few rounds")
    parser.add_argument("--sizes", nargs="+", default=None, choices=[*LAYOUTS], help="layouts of networks")
    parser.add_argument("--handles", nargs="+", type=int, default=None)
    parser.add_argument("--masks", nargs="+", default=None, choices=MASKS)
    parser.add_argument("--windows", type=int, default=1, help="windows of the estimated mask loss (default: 1)")
    parser.add_argument("--precisions", nargs="+", default=None, help="of ours (default: float32 and bfloat16)")
    parser.add_argument("--no-reference", action="store_true", help="ours alone")
    parser.add_argument("--repeats", type=int, default=None)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds per case (default: 60)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    machine.add_options(parser)
    args = parser.parse_args(argv)
    here = machine.prepare(args)
    quick = args.quick
    sizes = args.sizes or (["32-tiny", "64-tiny"] if quick else ["128-cat", "128", "256", "512", "1024"])
    counts = args.handles or ([1, 3] if quick else [1, 5, 30, 68])
    precisions: list[Precision] = args.precisions or ["float32", "bfloat16"]
    columns = ["size", "level", "handles", "mask", "reference (median, quartiles)"]
    columns += [text for p in precisions for text in (p, "times faster")]
    rows: list[list[object]] = []
    wanted = args.masks or MASKS
    for layout in sizes:
        generator = network(layout, device=args.device)
        synthesis = None if args.no_reference else ReferenceSynthesis(generator).to(args.device)
        for count in counts:
            # The reference knows one mask loss only, and is timed once beside both of ours.
            for beside in (["none"], ["exact", "estimated"]):
                masks = [m for m in beside if m in wanted]
                if not masks:
                    continue
                runs: dict[tuple[str, str], Callable[[], object]] = {
                    (m, p): endless(generator, count, m, windows=args.windows, precision=p)
                    for m in masks
                    for p in precisions
                }
                if synthesis is not None:
                    runs["reference", ""] = reference_step(generator, synthesis, count, masks[0])
                repeats = args.repeats or (3 if quick else 9)
                for run in runs.values():
                    steady(run)
                samples = race(runs, warmup=1 if quick else 2, repeats=repeats, limit=args.limit)
                slow = samples.get(("reference", ""))
                for m in masks:
                    row: list[object] = [layout, generator.default_level, count, m, slow or "-"]
                    for p in precisions:
                        fast = samples[m, p]
                        row += [fast, "-" if slow is None else f"{slow.median / fast.median:.1f}"]
                    rows.append(row)
                    print(" | ".join(str(cell) for cell in row), flush=True)
                del runs
                gc.collect()
    text = f"{here.markdown()}; load average at the end {os.getloadavg()[0]:.1f}\n\n{table(columns, rows)}"
    publish(text, args.out)
    return 0
