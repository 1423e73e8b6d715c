"""``draggan evaluate``: its options and what they do. The command line prints what `run` says.

Quick to import: what needs PyTorch is imported when the command runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from draggan.config import DragConfig, check_device, check_space, choices, parse_setting
from draggan.errors import ConfigError
from draggan.program import own_command

if TYPE_CHECKING:
    from draggan.evaluation.instructions import Instruction
    from draggan.evaluation.protocols import Protocol
    from draggan.evaluation.results import Row

__all__ = ["PROTOCOLS", "add_options", "config_from", "run"]

PROTOCOLS = {
    "landmarks": "landmarks of one picture to where another has them",
    "pulls": "random landmarks in random directions: whether what is said to have arrived has arrived",
    "pairs": "the landmarks of 'landmarks', likewise",
    "apart": "two random landmarks away from each other, likewise",
    "reconstruction": "a nearby picture, by 32 points of the flow to it",
    "roundtrip": "there and back",
    "cycle": "pulls of any model, judged without a truth: by the way back and by other trackers",
    "mask": "change outside and inside, with and without a mask",
    "quality": "generated pictures against renderings; nothing is dragged",
    "instructions": "the drags of a file",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    which = parser.add_argument_group("which pictures")
    which.add_argument(
        "--model",
        default="cat",
        metavar="MODEL",
        help=f"a name that `{own_command()} models` lists, a file or an https address (default: %(default)s)",
    )
    which.add_argument("--seed", type=int, default=0, metavar="N", help="of the first one (default: %(default)s)")
    which.add_argument(
        "--truncation",
        type=float,
        metavar="PSI",
        help="0: the average picture, 1: the seed's own (default: 1 where a scene knows the truth, else the model's)",
    )
    which.add_argument(
        "--class", type=int, default=None, dest="label", metavar="N", help="which class, of models that have classes"
    )
    measured = parser.add_argument_group("what is measured")
    measured.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="landmarks",
        metavar="NAME",
        help="; ".join(f"{name}: {what}" for name, what in PROTOCOLS.items()) + " (default: %(default)s)",
    )
    measured.add_argument(
        "--points",
        default="1",
        metavar="1|5|all",
        help="landmarks, pairs and roundtrip: how many (default: %(default)s)",
    )
    measured.add_argument("--instructions", type=Path, metavar="FILE", help="lines of JSON with seed and points")
    measured.add_argument("--pairs", type=int, metavar="N", help="how many cases (default: 20, or all instructions)")
    measured.add_argument(
        "--minutes", type=float, metavar="NUMBER", help="start no new case after this time (default: no limit)"
    )
    how = parser.add_argument_group("how it is dragged")
    for name in _own_options():
        words = f"{{{','.join(choices(DragConfig)[name])}}}"
        how.add_argument(f"--{name}", metavar=words, help=f"as --set {name}=... (default: the model's)")
    how.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="a drag ends after this many (default: as published: 300, or 100 for a reconstruction)",
    )
    how.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any setting of a drag, such as step_size=0.002; may be given more than once (default: the model's)",
    )
    written = parser.add_argument_group("what is written")
    written.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="keep results in this file; cases that are there are not measured again",
    )
    written.add_argument(
        "--strips",
        type=Path,
        metavar="FILE",
        help="write the best, median and worst case here (.png, .jpg or .webp)",
    )
    machine = parser.add_argument_group("this machine")
    machine.add_argument(
        "--device",
        type=check_device,
        default="auto",
        help="where to compute: auto, cpu, cuda, cuda:N or mps (default: %(default)s)",
    )
    machine.add_argument("--yes", action="store_true", help="download the model without asking if it is not here")


def _own_options() -> list[str]:
    """Settings that have an option of the same name."""
    return [f.name for f in dataclasses.fields(DragConfig) if f.name == "solver"]


def config_from(model: str, settings: list[str], **more: Any) -> DragConfig:
    """What suits the model, changed by ``NAME=VALUE`` texts and then by keywords that are not None.

    Raises:
        ConfigError: no such setting, or a value that it cannot have.
    """
    from draggan.suggestions import suggested_config

    values: dict[str, Any] = {}
    for text in settings:
        name, sign, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not sign:
            raise ConfigError(f"'{text}' is not a setting; write NAME=VALUE")
        values[name] = check_space(value) if name == "space" else parse_setting(name, value)
    return suggested_config(model, **(values | {name: v for name, v in more.items() if v is not None}))


def run(args: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Measure, report; returns the exit status: 130 if interrupted (what was measured is reported and kept).

    Args:
        say: called with the lines to print.
    """
    _check(args)
    config = config_from(
        args.model, args.set, max_steps=args.steps, **{name: getattr(args, name) for name in _own_options()}
    )
    from draggan.evaluation.instructions import read_instructions
    from draggan.export import Provenance, check_picture_path, save_picture
    from draggan.terminal import Line, check_model, ensure_downloaded

    if args.strips is not None:
        check_picture_path(args.strips)
    instructions = () if args.instructions is None else read_instructions(args.instructions)
    check_model(args.model)
    # Only now: a mistake need not wait for PyTorch.
    from draggan.evaluation.report import strip, text
    from draggan.evaluation.results import ResultFile, Row, measure
    from draggan.evaluation.subject import load_subject

    file = None if args.json is None else ResultFile(args.json)
    protocol = _protocol(args, instructions)
    ensure_downloaded(args.model, yes=args.yes)
    subject = load_subject(args.model, device=args.device, truncation=args.truncation, label=args.label)
    row = Row(subject, protocol, config)
    if file is not None and (known := file.load(row)):
        say(f"{known} cases are in {args.json.name} already")
    count = args.pairs or protocol.count() or 20
    seconds = math.inf if args.minutes is None else 60 * args.minutes
    line, so_far = Line(), _SoFar(row, count)

    def show(row: Row, done: int) -> None:
        # The interval of many cases is worth no time where nobody sees it.
        if line.shown:
            line(so_far.after(row, done))

    try:
        # The case that Ctrl-C interrupted is not kept; the others are.
        ended = measure([row], count, file=file, seconds=seconds, progress=show)
    finally:
        line.end()
    say(text(row))
    if args.strips is not None and (picture := strip(row)) is not None:
        facts, provenance = {"evaluation": row.identity}, Provenance(door="command line")
        say(f"wrote {save_picture(args.strips, picture, facts, provenance=provenance)}")
    if args.json is not None:
        say(f"wrote {args.json}")
    return 130 if ended == "interrupted" else 0


def _check(args: argparse.Namespace) -> None:
    """Refuse values that nothing could be measured with."""
    if args.pairs is not None and args.pairs < 1:
        raise ConfigError(f"--pairs {args.pairs} is not allowed; give a whole number from 1 on")
    if args.minutes is not None and not args.minutes > 0:
        raise ConfigError(f"--minutes {args.minutes:g} is not allowed; give a number above 0")
    if not 0 <= args.seed <= 2**31:
        raise ConfigError(f"--seed {args.seed} is not allowed; give a whole number from 0 to {2**31}")
    if args.points != "all" and not (args.points.isdecimal() and 1 <= int(args.points) <= 1000):
        raise ConfigError(f"--points {args.points} is not allowed; give a whole number from 1 on, or all")
    if (args.protocol == "instructions") != (args.instructions is not None):
        raise ConfigError("--protocol instructions and --instructions FILE belong together; give both or neither")


def _protocol(args: argparse.Namespace, instructions: tuple[Instruction, ...] = ()) -> Protocol:
    """The protocol that the options name.

    Args:
        instructions: those of the file, if the options name one.
    """
    from draggan.evaluation import protocols

    points = protocols.ALL if args.points == "all" else int(args.points)
    if args.protocol == "instructions":
        return protocols.Instructions(instructions=instructions)
    several = {"landmarks": protocols.Landmarks, "pairs": protocols.Pairs, "roundtrip": protocols.Roundtrip}
    if args.protocol in several:
        return several[args.protocol](points=points, first_seed=args.seed)
    kinds: dict[str, Callable[..., Protocol]] = {
        "pulls": protocols.Pulls,
        "apart": protocols.PullsApart,
        "cycle": protocols.Cycle,
        "reconstruction": protocols.Reconstruction,
        "mask": protocols.Mask,
        "quality": protocols.Quality,
    }
    return kinds[args.protocol](first_seed=args.seed)


class _SoFar:
    """What is said of a row while it is measured.

    Args:
        count: cases that it will have.
    """

    def __init__(self, row: Row, count: int) -> None:
        self._count, self._begun, self._first = count, time.monotonic(), len(row.cases)

    def after(self, row: Row, done: int) -> str:
        """The result of the cases that are done, and how long the others will take."""
        main = row.main
        mean = row.interval(main).mean * main.factor
        spent = time.monotonic() - self._begun
        left = spent / max(done - self._first, 1) * (self._count - done)
        result = f"{main.title} {mean:.{main.digits}f} {main.unit}"
        return f"{row.protocol.title}: {done} of {self._count}, {result}, {left:.0f} s left"
