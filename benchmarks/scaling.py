"""Seconds and memory over picture size and number of handles, ours alone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.memory import peak
from benchmarks.models import LAYOUTS, network
from benchmarks.step import endless
from benchmarks.timing import publish, race, table

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small networks")
    parser.add_argument("--sizes", nargs="+", default=None, choices=[*LAYOUTS])
    parser.add_argument("--handles", nargs="+", type=int, default=None)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    machine.add_options(parser)
    args = parser.parse_args(argv)
    here = machine.prepare(args)
    sizes = args.sizes or (["32-tiny", "64-tiny"] if args.quick else ["128-cat", "128", "256", "512", "1024"])
    counts = args.handles or ([1, 4] if args.quick else [1, 2, 5, 10, 20, 40, 68])
    rows: list[list[object]] = []
    for layout in sizes:
        generator = network(layout)
        row: list[object] = [layout, generator.default_level]
        runs = {str(n): endless(generator, n, "none", precision=args.precision) for n in counts}
        samples = race(runs, repeats=2 if args.quick else args.repeats, at_least=2)
        row += [samples[str(n)] for n in counts]
        for n in (counts[0], counts[-1]):
            found = peak(layout, n, "none", args.precision, steps=2)
            row.append(f"{found['peak']:.0f}")
        rows.append(row)
        print(" | ".join(map(str, row)), flush=True)
    columns = ["size", "level", *(f"{n} handles" for n in counts)]
    columns += [f"MB at the peak, {counts[0]} handles", f"MB, {counts[-1]} handles"]
    text = f"{here.markdown()}; {args.precision}, no mask\n\n{table(columns, rows)}"
    publish(text, args.out)
    return 0
