"""``draggan batch``: many recipes to pictures."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from draggan.cli.options import add_device, add_yes, file_of, name_of, path_of
from draggan.errors import ConfigError, DragGANError

if TYPE_CHECKING:
    from draggan.batch.jobs import Job

__all__ = ["HELP", "NAME", "add_options", "run"]

NAME = "batch"
HELP = "run many recipes: pictures, animations, figures"
_REASONS, _PLACES, _LETTERS = 10, 4, 300  # that are shown: reasons, places of each, letters of a line


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument(
        "source", type=file_of, metavar="RECIPES", help="a file with a recipe on every line, or a folder of saved work"
    )
    parser.add_argument("--out", type=path_of, required=True, metavar="FOLDER", help="write everything here")
    parser.add_argument(
        "--film", choices=("gif", "webp", "mp4"), help="also write the last drag of every recipe as a film"
    )
    parser.add_argument("--before", action="store_true", help="also write the pictures before the last edit")
    parser.add_argument("--measures", action="store_true", help="also measure how much every picture has changed")
    parser.add_argument(
        "--model", type=name_of, metavar="MODEL", help="draw with this file: it must be the recipes' own model"
    )
    add_device(parser)
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="have the machines of this Ray cluster do it; without an address, one is started on this machine",
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes (default: one for each core, or one for a GPU)"
    )
    add_yes(parser)


def run(args: argparse.Namespace) -> int:
    """Run them; returns 1 if some failed, 130 if interrupted. The same command goes on where it stopped."""
    from draggan.export import check_animation_path
    from draggan.terminal import CountBar, check_model

    if args.jobs is not None and args.jobs < 1:
        raise ConfigError(f"--jobs {args.jobs} is not allowed; give a whole number from 1 on")
    if args.film:
        check_animation_path(Path(f"film.{args.film}"))
    if args.model is not None:
        check_model(args.model)
    # Only now: a mistake need not wait for PyTorch.
    from draggan.batch.jobs import read_jobs
    from draggan.batch.pool import usable_cores
    from draggan.batch.run import run_batch
    from draggan.batch.worker import Options
    from draggan.device import choose_device

    on_processor = choose_device(args.device).type == "cpu"
    processes = args.jobs or (usable_cores() if on_processor else 1)
    options = Options(
        folder=str(args.out),
        film=f".{args.film}" if args.film else "",
        before=args.before,
        measures=args.measures,
        model=args.model or "",
        device=args.device,
        threads=max(usable_cores() // processes, 1),
    )
    jobs = _with_models(read_jobs(args.source, options.key), args.model, yes=args.yes)
    bar = CountBar()
    try:
        summary = run_batch(jobs, options, processes=processes, cluster=args.ray, progress=bar)
    finally:
        bar.end()
    made = summary.done - summary.known
    before = f", {summary.known} were there already" if summary.known else ""
    print(f"{made} done in {summary.seconds:.1f} s{before}")
    if summary.failures:
        print(f"{len(summary.failures)} could not be run:", file=sys.stderr)
        for line in _reasons(summary.failures):
            print(f"  {line}", file=sys.stderr)
    if summary.left:
        print(f"{summary.left} are left; the same command goes on with them", file=sys.stderr)
    for path in summary.files:
        print(f"  wrote {path}")
    return 130 if summary.left else 1 if summary.failures else 0


def _reasons(failures: Sequence[tuple[str, str]]) -> Iterator[str]:
    """A line for each reason, with where it counts; the report has all of them.

    Args:
        failures: where, and why.
    """
    places: dict[str, list[str]] = {}
    for place, why in failures:
        places.setdefault(why, []).append(place)
    for why, where in list(places.items())[:_REASONS]:
        more = f" and {len(where) - _PLACES} more" if len(where) > _PLACES else ""
        shown = "".join(
            letter if letter.isprintable() else "?" for letter in f"{', '.join(where[:_PLACES])}{more}: {why}"
        )
        yield shown if len(shown) <= _LETTERS else f"{shown[:_LETTERS]} …"
    if len(places) > _REASONS:
        left = sum(len(where) for where in list(places.values())[_REASONS:])
        yield f"and {left} for other reasons, which the report says"


def _with_models(jobs: Sequence[Job], model: str | None, *, yes: bool) -> list[Job]:
    """The jobs, once their models are here, with keys that say which weights those have now.

    Those whose model cannot be had say so.

    Raises:
        DragGANError: the model that draws for all of them cannot be had.
    """
    from draggan.engine.models import AnyModels
    from draggan.terminal import ensure_downloaded

    models = AnyModels(downloads=False)

    def weights(name: str) -> str:
        ensure_downloaded(name, yes=yes)
        return models.sha256(name)

    if model is not None:
        known = weights(model)
        return [dataclasses.replace(job, key=f"{job.key}-{known}") for job in jobs]
    found, missing = {"": ""}, {"": ""}
    for name in {job.model: None for job in jobs if not job.error and job.model}:
        try:
            found[name] = weights(name)
        except (DragGANError, OSError) as error:
            missing[name] = str(error)
    return [
        dataclasses.replace(
            job, key=f"{job.key}-{found.get(job.model, '')}", error=job.error or missing.get(job.model, "")
        )
        for job in jobs
    ]
