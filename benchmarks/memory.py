"""Peak memory of a fresh process that drags: ours and the published procedure, each in its own.

Resident memory, as the kernel counts it; on Linux only. "before" is after imports and with the network built.

With ``--drags N``: what a page's process has after so many drags in one tab, each kept by the browser as a real one is,
and what stays of one that was as heavy as is allowed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Literal

from benchmarks import machine
from benchmarks.models import LAYOUTS, network
from benchmarks.timing import publish, table
from benchmarks.visitors import Visitor, page_settings, serving
from draggan.config import Precision

__all__ = ["main", "of_a_session", "peak"]

_HANDLE, _REACH = (128, 128), 20  # pixels
_STEPS = 10
_FIRST = 20  # drags after which everything has been prepared that is prepared once
_HEAVY = [[10 + k % 100, 10 + k // 5, 64, 64] for k in range(40)], {"r1": 8, "r2": 24, "max_steps": 2}


def _status(key: str) -> float:
    """A line of the kernel's view of this process, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1000
    raise KeyError(key)


def _child(layout: str, count: int, mask: str, precision: Precision | Literal["reference"], steps: int) -> None:
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


def of_a_session(drags: int, port: int = 7992) -> tuple[list[tuple[int, float]], dict[str, float]]:
    """Memory of a page's process, MB: after so many drags in one tab; and around the heaviest that is allowed."""
    random = Random(0)
    with serving("--listen", port=port) as process:
        visitor = Visitor(port, "127.0.0.1")
        visitor.open()
        visitor.page("open", "cat", 7, 0.7)
        time.sleep(10)  # what the server prepares at its start
        seen = []
        for number in range(drags + 1):
            x, y = _HANDLE
            target = (x + random.randint(-_REACH, _REACH), y + random.randint(-_REACH, _REACH))
            value = {"points": [[x, y, *target]], "pending": None, "mask": None}
            visitor.page("start", None, value, page_settings(visitor, _STEPS))
            visitor.keep()
            if number % 20 == 0:
                seen.append((number, anonymous(process.pid)))
        before = anonymous(process.pid)
        found = {"before": before, "peak": before}
        points, settings = _HEAVY
        event = visitor.post("drag", "cat", 0, points, None, 0, "", settings)
        for _ in visitor.request("GET", f"/gradio_api/call/drag/{event}"):
            found["peak"] = max(found["peak"], anonymous(process.pid))
        time.sleep(6)
        found["after"] = anonymous(process.pid)
    return seen, found


def anonymous(pid: int) -> float:
    """MB that a process has got from the system for itself: without the files that it has mapped."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1000
    raise KeyError("Anonymous")


def _session_report(drags: int) -> str:
    seen, heavy = of_a_session(drags)
    first = next(memory for number, memory in seen if number >= min(_FIRST, drags))
    rows: list[list[object]] = [[number, f"{memory:.0f}"] for number, memory in seen]
    return (
        f"{table(['drags', 'MB'], rows)}\n\nFrom {_FIRST} to {drags} drags: {seen[-1][1] - first:+.0f} MB. "
        f"The heaviest drag that is allowed ({len(_HEAVY[0])} points, r1 {_HEAVY[1]['r1']}, r2 {_HEAVY[1]['r2']}): "
        f"{heavy['before']:.0f} MB before, {heavy['peak']:.0f} at its peak, {heavy['after']:.0f} six seconds after."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small networks")
    parser.add_argument("--sizes", nargs="+", default=None, choices=[*LAYOUTS])
    parser.add_argument("--handles", nargs="+", type=int, default=[1])
    parser.add_argument("--masks", nargs="+", default=["none", "exact", "estimated"])
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16", "reference"])
    parser.add_argument("--drags", type=int, help="so many drags in one tab of a page, instead of all that")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)
    if not Path("/proc/self/status").exists():
        print("memory is measured on Linux only")
        return 1
    here = machine.describe()
    if args.drags is not None:
        publish(f"{here.markdown()}\n\n{_session_report(args.drags)}", args.out)
        return 0
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
