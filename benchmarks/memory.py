"""Peak memory of a fresh process that drags: ours and the published procedure, each in its own.

Resident memory, as the kernel counts it; on Linux only. "before" is after imports and with the network built.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.models import LAYOUTS, network
from benchmarks.timing import publish, table

__all__ = ["main", "peak"]


def _status(key: str) -> float:
    """A line of the kernel's view of this process, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1000
    raise KeyError(key)


def _child(layout: str, count: int, mask: str, precision: str, steps: int) -> None:
    """Drag in this process and print what it took, as JSON."""
    from benchmarks.reference import ReferenceSynthesis
    from benchmarks.step import endless, reference_step

    machine.load_operators()
    generator = network(layout)
    before = _status("VmRSS")
    if precision == "reference":
        synthesis = ReferenceSynthesis(generator)
        before = _status("VmRSS")
        step = reference_step(generator, synthesis, count, mask)
    else:
        step = endless(generator, count, mask, precision=precision)
    for _ in range(steps):
        step()
    print(json.dumps({"before": before, "peak": _status("VmHWM")}))


def peak(layout: str, count: int, mask: str, precision: str, steps: int = 3) -> dict[str, float]:
    """MB before the drag and at its peak, in a fresh process.

    Args:
        precision: of ours, or "reference" for the published procedure.
    """
    code = "import sys, json; from benchmarks import memory; memory._child(*json.loads(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([layout, count, mask, precision, steps])],
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the measured process failed:\n{done.stderr}")
    return json.loads(done.stdout)


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small networks")
    parser.add_argument("--sizes", nargs="+", default=None, choices=[*LAYOUTS])
    parser.add_argument("--handles", nargs="+", type=int, default=[1])
    parser.add_argument("--masks", nargs="+", default=["none", "exact", "estimated"])
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16", "reference"])
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)
    if not Path("/proc/self/status").exists():
        print("memory is measured on Linux only")
        return 1
    here = machine.describe()
    rows: list[list[object]] = []
    for layout in args.sizes or (["32-tiny"] if args.quick else ["128-cat", "256", "512", "1024"]):
        for count in args.handles:
            for mask in args.masks:
                for precision in args.precisions:
                    if precision == "reference" and mask == "estimated":
                        continue
                    found = peak(layout, count, mask, precision, steps=2 if args.quick else 3)
                    row = [layout, count, mask, precision, f"{found['before']:.0f}", f"{found['peak']:.0f}"]
                    rows.append([*row, f"{found['peak'] - found['before']:.0f}"])
                    print(" | ".join(map(str, rows[-1])), flush=True)
    columns = ["size", "handles", "mask", "precision", "MB before", "MB at the peak", "MB for the drag"]
    text = f"{here.markdown()}\n\n{table(columns, rows)}"
    publish(text, args.out)
    return 0
