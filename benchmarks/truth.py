"""Whether a drag that says it has arrived has arrived: pulls, two landmarks apart, and pairs of pictures.

``published`` is the published optimiser as it is, ``Adam, the model's step`` the same with the step size that suits the
model, ``before`` our solver as it was (nearest resembling place, naturalness 0.25, independent rows), and ``now`` the
defaults. The others change one thing of ``now``. Configurations take turns on every case, so that times can be
compared.

As it stands (150 pulls of each of three models, before and now) it takes about 12 minutes in one process on a quiet
machine, about 8 in two. ``--protocol many`` is two landmarks apart, and pairs with one, five and all landmarks, in one
go: about half an hour in one process. ``--protocol parts`` is lips, eyelids and ears, which the cat and the face have.
It can be broken off and goes on where it was, with --json.
"""

from __future__ import annotations

import argparse
import functools
import math
import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import machine
from benchmarks.ablations import FIXED_STEPS, PRECONDITIONED_ADAM
from benchmarks.evaluation import nested
from benchmarks.line_search import LINE_SEARCH
from benchmarks.parts import PARTS, Parts
from benchmarks.timing import publish
from draggan.drag import Drag
from draggan.evaluation.protocols import ALL, DRAG, Cycle, Method, Pairs, Protocol, Pulls, PullsApart, Task
from draggan.evaluation.report import markdown, tile
from draggan.evaluation.results import ResultFile, Row, measure
from draggan.evaluation.subject import Subject, load_subject
from draggan.export import save_picture
from draggan.suggestions import suggested_config

__all__ = ["CONFIGURATIONS", "main"]

_AS_BEFORE: dict[str, Any] = {
    "tracker": "template",
    "naturalness": 0.25,
    "row_independence": 1.0,
    "max_departure": 100.0,
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "before": {"solver": "gauss-newton", **_AS_BEFORE},
    "now": {"solver": "gauss-newton"},
    "published": {"solver": "adam", "step_size": 2e-3, "stall_steps": 10000, "precision": "float32"},
    "Adam, the model's step": {"solver": "adam"},
    "Adam, continuity": {"solver": "adam", "tracker": "continuity"},
    "now, template tracker": {"solver": "gauss-newton", "tracker": "template"},
    "now, identity metric": {"solver": "gauss-newton", "naturalness": 0.0, "max_departure": 100.0},
    "now, independent rows": {"solver": "gauss-newton", "row_independence": 1.0},
    "now, one metric": {"solver": "gauss-newton", "naturalness": 0.99},
    "now, W": {"solver": "gauss-newton", "space": "w"},
    "now, fixed steps": {"solver": "gauss-newton", "tracker": "continuity"},
    "preconditioned Adam, continuity": {"solver": "adam", "tracker": "continuity"},
    "line search": {"solver": "adam"},
}
METHODS: dict[str, Method] = {
    "now, fixed steps": FIXED_STEPS,
    "preconditioned Adam, continuity": PRECONDITIONED_ADAM,
    "line search": LINE_SEARCH,
}
"""What drags, where it is not the package's own."""

PROTOCOLS: dict[str, type[Pulls | PullsApart | Cycle]] = {"pulls": Pulls, "apart": PullsApart, "cycle": Cycle}

# Claims of `before` that a person would see to be false; seeds at truncation 0.7, handle and target.
KNOWN_CLAIMS: dict[str, list[tuple[int, tuple[float, float], tuple[float, float]]]] = {
    "cat": [(0, (164, 172), (164, 124)), (0, (164, 172), (10, 20)), (0, (128, 20), (128, 120))],
    "face": [(0, (128, 150), (190, 150))],
}
# The page's words for an end, as few as there is room for.
_SAID = {
    "arrived": "Arrived",
    "stalled": "As far as it goes",
    "unlikely": "Unlikely beyond",
    "lost": "Not followed beyond",
}


def main(argv: Sequence[str] = ()) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks truth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="six cases")
    parser.add_argument("--models", nargs="+", default=["cat", "face", "car"])
    parser.add_argument("--protocol", choices=[*PROTOCOLS, "pairs", "many", "parts"], default="pulls")
    parser.add_argument("--points", type=int, default=1, help="of pairs; 0 for all")
    parser.add_argument("--configurations", nargs="+", default=["before", "now"], choices=[*CONFIGURATIONS])
    parser.add_argument("--cases", type=int, default=150)
    parser.add_argument("--slow-cases", type=int, default=30, help="of configurations that take hundreds of steps")
    parser.add_argument("--seed", type=int, default=3_000_000, help="of the first picture; nothing was tuned on these")
    parser.add_argument("--threads", type=int, default=1, help="of every process")
    parser.add_argument("--processes", type=int, default=1, help="so many models at a time")
    parser.add_argument("--minutes", type=float, default=math.inf, help="a model; no case begins later")
    parser.add_argument(
        "--json", type=Path, help="keep results beside this name, a file a model: NAME-cat.json; those are not redone"
    )
    parser.add_argument("--claims", type=Path, metavar="JPG", help="the worst claims of `before`, before and now")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    args = parser.parse_args(argv)
    each = functools.partial(_model, args=args)
    if args.processes > 1:
        with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
            found = pool.map(each, args.models, chunksize=1)
    else:
        found = [each(model) for model in args.models]
    tiles = [line for _, lines in found for line in lines]
    if tiles:
        save_picture(args.claims.with_suffix(".png"), np.concatenate(tiles), {"benchmark": "truth"})
    publish("\n".join([machine.describe().markdown(), "", *(table for table, _ in found)]), args.out)
    return 0


def _model(model: str, args: argparse.Namespace) -> tuple[str, list[np.ndarray]]:
    """The tables of a model, and pictures of claims."""
    torch.set_num_threads(args.threads)
    subject = load_subject(model, device="cpu")
    # One that others write, too, would lose what they write at the same moment.
    file = None if args.json is None else ResultFile(args.json.with_name(f"{args.json.stem}-{model}.json"))
    tables, tiles = "", []
    for protocol, cases in _protocols(model, args):
        rows = [
            Row(subject, protocol, suggested_config(model, **CONFIGURATIONS[name]), name, METHODS.get(name, DRAG))
            for name in args.configurations
        ]
        quick = [row for row in rows if row.config.solver == "gauss-newton"]
        if file is not None:
            for row in rows:
                file.load(row)
        begun = time.monotonic()
        measure(rows, min(cases, args.slow_cases), file=file, seconds=60 * args.minutes)
        measure(quick, cases, file=file, seconds=60 * args.minutes - (time.monotonic() - begun))
        tables += "".join(f"### {model}, {protocol.title}\n\n{markdown(some)}\n" for some in nested(rows))
        if args.claims is not None and protocol.name == "pulls":
            tiles += _claims(subject, rows[0])
    return tables, tiles


def _protocols(model: str, args: argparse.Namespace) -> list[tuple[Protocol, int]]:
    """What is measured, and in how many cases."""
    cases, seed = 6 if args.quick else args.cases, args.seed
    if args.protocol == "pairs":
        return [(Pairs(points=args.points, first_seed=seed), cases)]
    if args.protocol == "parts":
        return [(Parts(part=part, first_seed=seed), cases) for part in PARTS.get(model, {})]
    if args.protocol == "many":
        shares = {1: 1, 5: 3, ALL: 15}
        pairs = [(Pairs(points=points, first_seed=seed), -(-cases // part)) for points, part in shares.items()]
        return [(PullsApart(first_seed=seed), cases), *pairs]
    return [(PROTOCOLS[args.protocol](first_seed=seed), cases)]


def _claims(subject: Subject, before: Row, side: int = 160) -> list[np.ndarray]:
    """The known false claims and the worst of a row, up to four a model: start, before, now, with what each says."""
    found = [
        (seed, 0.7, np.array([handle], np.float32), np.array([target], np.float32))
        for seed, handle, target in KNOWN_CLAIMS.get(subject.name, [])
    ]
    worst = sorted(
        (i for i, c in before.cases.items() if c.figures.get("claims_true") == 0),
        key=lambda i: -float(before.cases[i].figures["landmarks"] or 0),
    )
    lines = []
    for seed, truncation, handles, targets in found:
        ws = subject.generator.sample(seed, truncation)
        lines.append(_line(subject, ws, handles, targets, seed, side))
    for i in worst[: 4 - len(found)]:
        task = before.protocol.task(subject, i)
        assert isinstance(task, Task)
        lines.append(_line(subject, task.ws, task.handles, task.targets, task.seed, side))
    return lines


def _line(
    subject: Subject, ws: torch.Tensor, handles: np.ndarray, targets: np.ndarray, seed: int, side: int
) -> np.ndarray:
    tiles = [tile(subject.picture(ws), handles, targets, side, f"{subject.name}, seed {seed}")]
    for name in ("before", "now"):
        config = suggested_config(subject.name, **CONFIGURATIONS[name])
        *_, last = Drag(subject.generator, ws, handles, targets, config=config)
        words = _SAID.get(last.outcome or "", last.outcome or "")
        words += "" if last.outcome == "arrived" else f", {max(last.way, 0):.0%}"
        tiles.append(tile(subject.picture(last.ws), last.handles, last.targets, side, f"{name}: {words}"))
    return np.concatenate(tiles, 1)
