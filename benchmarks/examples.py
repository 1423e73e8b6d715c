"""The examples of the page, before and after: every preset of a built-in model, dragged as the page drags it."""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from benchmarks import machine
from benchmarks.timing import publish, table
from draggan import load_generator, suggested_config, suggested_truncation
from draggan.checkpoints import catalogue
from draggan.config import SOLVER_NAMES, SolverName
from draggan.drag import Drag
from draggan.evaluation.report import tile

__all__ = ["joined", "main"]

SIDE = 192
"""Pixels of a picture in the strips."""
COLUMNS = 3
"""Examples beside each other."""


def joined(
    pairs: Sequence[UInt8[np.ndarray, "height width 3"]], columns: int = COLUMNS, gap: int = 8
) -> UInt8[np.ndarray, "height width 3"]:
    """Strips of one size beside and below each other on white, row by row."""
    height, width, _ = pairs[0].shape
    lines = math.ceil(len(pairs) / columns)
    canvas = np.full((lines * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, pair in enumerate(pairs):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        canvas[y : y + height, x : x + width] = pair
    return canvas


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks examples", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one model, two examples")
    parser.add_argument("--models", nargs="+", default=[m.name for m in catalogue.all_models() if m.builtin])
    parser.add_argument("--solver", choices=SOLVER_NAMES, help="default: the model's own")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pictures", type=Path, help="write strips MODEL-examples.jpg into this folder")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    here = machine.describe()
    rows: list[list[object]] = []
    for name in args.models[:1] if args.quick else args.models:
        strips = []
        for preset in catalogue.find(name).presets[: 2 if args.quick else None]:
            row, strip = _example(name, preset, args.solver)
            rows.append(row)
            strips.append(strip)
            print(" | ".join(map(str, row)), flush=True)
        if args.pictures and strips:
            buffer = io.BytesIO()
            comment = b"AI-generated images, made with DragGAN"
            Image.fromarray(joined(strips)).save(buffer, "JPEG", quality=86, comment=comment)
            (args.pictures / f"{name}-examples.jpg").write_bytes(buffer.getvalue())
    columns = ["model", "example", "solver", "ended", "steps", "px asked", "px left", "processor s"]
    text = f"# The page's examples\n\n`python -m benchmarks examples`; {here.markdown()}.\n\n{table(columns, rows)}"
    publish(text, args.out)
    return 0


def _example(
    name: str, preset: catalogue.Preset, solver: SolverName | None
) -> tuple[list[object], UInt8[np.ndarray, "height width 3"]]:
    """Row of the table, and both pictures with the points."""
    generator = load_generator(name, "cpu")
    config = suggested_config(name, **({} if solver is None else {"solver": solver}))
    truncation = suggested_truncation(name)
    ws = generator.sample(preset.seed, truncation)
    points = np.array(preset.points, np.float32)
    handles, targets = points[:, :2], points[:, 2:]
    clock = time.process_time()
    *_, last = Drag(generator, ws, handles, targets, config=config)
    seconds = time.process_time() - clock
    asked = float(np.linalg.norm(targets - handles, axis=1).max())
    row: list[object] = [name, preset.title, config.solver, last.outcome, last.index]
    row += [f"{asked:.0f}", f"{float(max(last.distances)):.1f}", f"{seconds:.2f}"]
    with torch.no_grad():
        before, after = generator.synthesis(ws)[0], generator.synthesis(last.ws)[0]
    moved = np.asarray(last.handles, np.float32)
    tiles = [tile(before, handles, targets, SIDE, preset.title), tile(after, moved, targets, SIDE, "")]
    return row, np.concatenate(tiles, 1)
