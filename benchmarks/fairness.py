"""Who waits for whom: a short drag, started while eight others run, one of them with 20 points and 10,000 steps; and
one that starts while photos are opened and searched."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Generator as Turns
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.models import points
from benchmarks.timing import publish, table
from draggan.config import DragConfig, InversionConfig
from draggan.engine.local import LocalEngine
from draggan.engine.models import AnyModels
from draggan.engine.running_drag import TurnsDrag
from draggan.inversion import CropFinder, Photo, crop_finder
from draggan.recipe import Edit, Recipe, read_points

__all__ = ["main"]

MODEL, SEED = "cat", 7
SHORT = (156, 156, 128, 156)
# A drag that neither arrives nor stalls: the cost of its steps does not depend on their length.
ENDLESS = {"solver": "adam", "step_size": 1e-6, "max_steps": 10000, "stall_steps": 10000}
SOLVERS = ("gauss-newton", "adam")


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks fairness", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--drags", type=int, default=8, help="drags under way (default: %(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="threads (default: 1 and 2)")
    parser.add_argument("--photos", action="store_true", help="only beside photos")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)
    machine.load_operators()
    here = machine.describe()
    if args.photos:
        publish(_photos(1 if args.quick else args.rounds, here), args.out)
        return 0
    rows = [_row(workers, args.drags, 1 if args.quick else args.rounds) for workers in args.workers]
    lines = [
        "# A short drag beside long ones",
        "",
        f"`python -m benchmarks fairness`: {args.drags} drags of as many visitors are under way on the built-in cat,",
        f"one of them with 20 points and {ENDLESS['max_steps']} steps; then a short one starts",
        f"({SHORT[:2]} to {SHORT[2:]}). Seconds until it has arrived, and how long the same takes alone; then every",
        "long drag is stopped, one after the other while the rest goes on: seconds from Stop to its end. Medians; in",
        "brackets the 95th percentile.",
        "",
        f"{here.markdown()}.",
        "",
        "| threads | " + " | ".join(f"short, {s} | alone" for s in SOLVERS) + " | Stop |",
        "|---|" + "---|---|" * len(SOLVERS) + "---|",
        *rows,
    ]
    publish("\n".join(lines) + "\n", args.out)
    return 0


def _row(workers: int, count: int, rounds: int) -> str:
    """One line of the table."""
    engine = LocalEngine(AnyModels(), workers=workers)
    recipe = engine.begin(MODEL, seed=SEED)
    for solver in SOLVERS:
        _short(engine, recipe, solver)  # what the first drag of a process prepares is ready from here on
    alone: dict[str, list[float]] = {solver: [] for solver in SOLVERS}
    beside: dict[str, list[float]] = {solver: [] for solver in SOLVERS}
    stops: list[float] = []
    for _ in range(rounds):
        for solver in SOLVERS:
            alone[solver].append(_short(engine, recipe, solver))
        long = [_long(engine, recipe, k) for k in range(count)]
        for drag in long:
            # Every one has begun, the heaviest included.
            while (update := drag.update) is None or update.index < 2:
                drag.ended(0.05)
        for solver in SOLVERS:
            beside[solver].append(_short(engine, recipe, solver))
        for drag in reversed(long):
            started = time.perf_counter()
            drag.stop()
            drag.result()
            stops.append(time.perf_counter() - started)
    engine.close()
    cells = [f"{_figures(beside[solver])} | {np.median(alone[solver]):.2f}" for solver in SOLVERS]
    return f"| {workers} | " + " | ".join(cells) + f" | {_figures(stops)} |"


def _photos(rounds: int, here: machine.Machine) -> str:
    """Three other visitors have photos: one is looked for in the model, for one its weights are tuned, on one the
    subject is searched, and none of it comes to an end. Then a short drag starts. After that the first photo is stopped
    (good enough), the second cancelled, the search no longer wanted: seconds until each has ended, what was reached
    included.
    """
    engine = LocalEngine(AnyModels(), workers=2)
    recipe = engine.begin(MODEL, seed=SEED)
    generator = engine.models.load(MODEL)
    finder = crop_finder(MODEL, engine.models.sha256(MODEL), generator)
    assert finder is not None
    y, x = np.mgrid[:1200, :1800]
    pixels = np.stack([128 + 100 * np.sin(x / 90), 255 * y / 1200, 255 * x / 1800], -1).astype(np.uint8)
    photo, crop = Photo(pixels=pixels, name=""), engine.picture(engine.begin(MODEL, seed=SEED + 1))
    latent = InversionConfig(coarse_steps=0, steps=5000)
    weights = InversionConfig(coarse_steps=0, steps=0, tuning_steps=5000)
    _short(engine, recipe, "gauss-newton")
    seconds: dict[str, list[float]] = {key: [] for key in ("alone", "beside", "stop", "cancel", "search")}
    for _ in range(rounds):
        seconds["alone"].append(_short(engine, recipe, "gauss-newton"))
        unwanted = threading.Event()
        search = threading.Thread(
            target=engine.in_turns,
            args=(_endless(finder, photo),),
            kwargs={"visitor": "search", "wanted": lambda over=unwanted: not over.is_set()},
        )
        search.start()
        first, second = (engine.invert(MODEL, crop, how, visitor=str(how)) for how in (latent, weights))
        for opening in (first, second):
            while (update := opening.update) is None or update.index < 3:
                opening.ended(0.05)
        seconds["beside"].append(_short(engine, recipe, "gauss-newton"))
        ways = {
            "stop": (first.stop, lambda opening=first: opening.ended(60)),
            "cancel": (second.cancel, lambda opening=second: opening.ended(60)),
            "search": (unwanted.set, search.join),
        }
        for key, (end, over) in ways.items():
            started = time.perf_counter()
            end()
            over()
            seconds[key].append(time.perf_counter() - started)
        while engine.under_way:
            time.sleep(0.05)
    engine.close()
    time.sleep(1.0)  # what was given up ends with its step
    heads = ["short drag beside them", "alone", "stopped after", "cancelled after", "search ended after"]
    cells = [_figures(seconds[key]) for key in ("beside", "alone", "stop", "cancel", "search")]
    said = "`python -m benchmarks fairness --photos`: " + " ".join((_photos.__doc__ or "").split())
    return "\n".join(["## Beside photos", "", said, "", here.markdown() + ".", "", table(heads, [cells])]) + "\n"


def _endless(finder: CropFinder, photo: Photo) -> Turns[None, None, None]:
    while True:
        yield from finder.search(photo)


def _long(engine: LocalEngine, recipe: Recipe, k: int) -> TurnsDrag:
    """An endless drag; the first one with 20 points, the others with one."""
    handles, targets = points(20 if k == 0 else 1, recipe.image_size[0], seed=k)
    pairs = np.concatenate([handles, targets], 1).tolist()
    return engine.drag(
        recipe, Edit(points=read_points(pairs, recipe.image_size), settings=ENDLESS), visitor=f"long {k}"
    )


def _short(engine: LocalEngine, recipe: Recipe, solver: str) -> float:
    """Seconds until a short drag has arrived."""
    settings = {"solver": solver, "max_steps": DragConfig.max_steps}
    edit = Edit(points=read_points([SHORT], recipe.image_size), settings=settings)
    started = time.perf_counter()
    # Another visitor every time: nobody has credit left from the one before.
    last = engine.drag(recipe, edit, visitor=f"short {started}").result()
    if last is None or last.outcome != "arrived":
        raise RuntimeError(f"the short drag has not arrived: {last}")
    return time.perf_counter() - started


def _figures(seconds: Sequence[float]) -> str:
    return f"{np.median(seconds):.2f} s ({np.percentile(seconds, 95):.2f})"
