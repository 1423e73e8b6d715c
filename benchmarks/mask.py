"""How well is the fixed region held, and what does that cost: without a mask, by the loss, and to the last bit.

With ``--hold`` the drags of `benchmarks.mask_hold` on all built-in models: the loss alone against blended features.
Without it the loss, exact and estimated from windows.
The fixed drags of `benchmarks.drags` on the built-in cat. What may change is a disc around handle and target; the
protection is how little the picture changes outside it, as the mean absolute difference of its values (0 to 255).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks import machine, mask_hold
from benchmarks.drags import drags
from benchmarks.precision import run
from benchmarks.timing import publish, table
from draggan import load_generator
from draggan.config import DragConfig
from draggan.evaluation.protocols import around

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks mask", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--model", default="cat")
    parser.add_argument("--seeds", type=int, default=7)
    parser.add_argument("--windows", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--level", default=None, help="feature level (default: that of the model)")
    parser.add_argument("--margin", type=float, default=None, help="px (default: a fifth of the picture)")
    parser.add_argument("--hold", action="store_true", help="compare with pictures that hold to the last bit")
    parser.add_argument("--cases", type=int, default=12, help="with --hold: drags on each model")
    parser.add_argument("--first-seed", type=int, default=mask_hold.SEED, help="with --hold: of the first picture")
    parser.add_argument("--sheet", type=Path, help="with --hold: write the pictures to this .jpg")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    machine.add_options(parser)
    args = parser.parse_args(argv)
    here = machine.prepare(args)
    if args.hold:
        held = mask_hold.compare(2 if args.quick else args.cases, args.sheet, args.first_seed)
        publish(f"{here.markdown()}\n\n{held}", args.out)
        return 0
    generator = load_generator(args.model, "cpu")
    size = generator.image_size
    margin = args.margin or max(size) / 5
    cases = {"no mask": None, "exact": 0} | {f"{n} windows": n for n in args.windows}
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in cases}
    for seed in range(1 if args.quick else args.seeds):
        with torch.no_grad():
            ws = generator.sample(seed)
            before = generator.synthesis(ws).clamp(-1, 1)
        for handle, target in drags(seed).values():
            mask = around(handle, target, size, margin)
            outside = torch.from_numpy(~mask)
            for name, windows in cases.items():
                config = DragConfig(
                    precision=args.precision, mask_windows=windows or 0, level=args.level, mask_hold="soft"
                )
                result = run(generator, ws, handle, target, None if windows is None else mask, config)
                with torch.no_grad():
                    after = generator.synthesis(result.ws).clamp(-1, 1)
                change = 127.5 * (after - before).abs().mean((0, 1))
                found[name].append(
                    (
                        change[outside].mean().item(),
                        change[~outside].mean().item(),
                        result.outcome == "arrived",
                        result.steps,
                        result.judged,
                        result.seconds,
                        result.seconds * result.steps,
                    )
                )
                print(seed, name, result.outcome, *(f"{v:.3g}" for v in found[name][-1]), flush=True)
    rows: list[list[object]] = []
    for name, values in found.items():
        outside_change, inside_change, arrived, steps, left, seconds, total = np.array(values).T
        rows.append(
            [
                name,
                f"{outside_change.mean():.2f}",
                f"{inside_change.mean():.2f}",
                f"{arrived.sum():.0f} of {len(arrived)}",
                f"{np.median(steps):.0f}",
                f"{left.mean():.2f}",
                f"{1e3 * np.median(seconds):.1f}",
                f"{np.mean(total):.2f}",
            ]
        )
    columns = ["mask loss", "change outside (of 255)", "change inside", "arrived", "steps, median"]
    columns += ["px left, float32 judge, mean", "ms a step", "s a drag, mean"]
    text = (
        f"{here.markdown()}; model {args.model}, level {args.level or generator.default_level}, {args.precision}, "
        f"region {margin:.0f} px around the way of the handle"
        f"\n\n{table(columns, rows)}"
    )
    publish(text, args.out)
    return 0
