"""Two versions of the project against each other: steps, whole drags and the start, in processes by turns.

Two trees cannot be imported into one process, so each round runs one process of either, in alternating order, and what
counts is the ratio within a round::

    git worktree add ../before COMMIT
    python -m benchmarks versions --before ../before
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.timing import publish, table

__all__ = ["main"]

# Runs in either tree, so only with what both have. Seconds of processor time, as other processes may be running.
_WORK = """
import json, time
begun = time.perf_counter()
import draggan
G = draggan.load_generator("cat", device="cpu")
ws = G.mapping(draggan.z_from_seed(7, G.z_dim), truncation_psi=0.7)
pixels = draggan.to_uint8(G.synthesis(ws))
found = {"import, load and first picture": time.perf_counter() - begun}
import numpy as np
from benchmarks.machine import load_operators
load_operators()
mask = np.zeros((128, 128), bool); mask[32:112, 24:104] = True
cases = {
    "Adam step, one handle": ("adam", [(78, 78)], [(30, 78)], None, 30),
    "Adam step, five handles": ("adam", [(78, 78), (50, 60), (82, 60), (64, 96), (64, 40)], [(70, 70)] * 5, None, 30),
    "Adam step, exact mask": ("adam", [(78, 78)], [(40, 78)], mask, 10),
    "Gauss-Newton drag, one handle": ("newton", [(78, 78)], [(64, 78)], None, 40),
    "Gauss-Newton drag, two handles": ("newton", [(44, 30), (84, 30)], [(42, 24), (86, 24)], None, 40),
    "Gauss-Newton drag, exact mask": ("newton", [(78, 78)], [(70, 78)], mask, 40),
}
scale = G.image_size[0] / 128
mask = mask.repeat(int(scale), 0).repeat(int(scale), 1)
for name, (solver, handles, targets, allowed, steps) in cases.items():
    handles, targets = ([(x * scale, y * scale) for x, y in p] for p in (handles, targets))
    allowed = None if allowed is None else mask
    best = []
    for _ in range(6):
        config = draggan.suggested_config("cat", solver=solver, max_steps=steps)
        drag = draggan.Drag(G, ws, handles, targets, allowed, config)
        if solver == "adam":
            next(drag), next(drag)
        count, before = 0, time.process_time()
        for step in drag:
            count += 1
        spent = time.process_time() - before
        best.append(spent / count if solver == "adam" else spent)
    found[name] = min(best[1:])
print(json.dumps(found))
"""


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks versions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the older version")
    parser.add_argument("--after", type=Path, default=Path(), help="of the newer one (default: here)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)
    trees = {"before": args.before, "after": args.after}
    machine.load_operators()
    here = machine.describe()
    rounds: list[dict[str, dict[str, float]]] = []
    for k in range(1 if args.quick else args.rounds):
        order = list(trees) if k % 2 == 0 else list(trees)[::-1]
        rounds.append({name: _measured(trees[name]) for name in order})
    rows: list[list[object]] = []
    for case in rounds[0]["after"]:
        ratios = [r["after"][case] / r["before"][case] for r in rounds]
        low, high = np.percentile(ratios, [25, 75])
        before, after = (float(np.median([r[name][case] for r in rounds])) for name in trees)
        rows.append(
            [case, f"{1e3 * before:.1f}", f"{1e3 * after:.1f}", f"{np.median(ratios):.3f} ({low:.3f}-{high:.3f})"]
        )
    text = "\n".join(
        [
            "# Two versions by turns",
            "",
            f"`python -m benchmarks versions`: {_commit(args.before)} before, {_commit(args.after)} after; medians of",
            f"{len(rounds)} rounds, one process of either in each; the best of five repeats, in processor time",
            "(the first line: wall clock, Python's imports included). Ratios are after / before within a round, with",
            "quartiles.",
            "",
            f"{here.markdown()}.",
            "",
            table(["", "before ms", "after ms", "ratio"], rows),
        ]
    )
    publish(text, args.out)
    return 0


def _measured(tree: Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", _WORK], cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{tree} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _commit(tree: Path) -> str:
    words = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
