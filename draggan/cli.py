"""The command line: ``draggan drag | models | convert | evaluate | doctor``. What a page can do, without a page."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from draggan.config import DragConfig, describe
from draggan.errors import ConfigError, DragGANError, PointError
from draggan.evaluation import command as evaluation
from draggan.terminal import own_command, provide

__all__ = ["main"]

# Settings of a drag that are options here; range, unit and default come from the dataclass.
_DRAG_OPTIONS = (
    "solver",
    "space",
    "free_rows",
    "step_size",
    "naturalness",
    "trust_radius",
    "r1",
    "r2",
    "mask_weight",
    "stop_distance",
    "level",
)

_OUTCOMES = {
    "arrived": "arrived",
    "max_steps": "step limit reached; the best picture so far was kept",
    "stalled": "no more progress; the best picture so far was kept",
    "stopped": "stopped",
    "diverged": "the optimisation ran out of bounds; the best picture so far was kept (try a smaller --step-size)",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 a message explains, 2 wrong usage, 130 interrupted."""
    # Before PyTorch is imported: threads that wait sleep, which is much faster on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    args = _parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.WARNING, format="%(levelname)s %(message)s")
    try:
        return args.run(args)
    except DragGANError as e:
        print(f"draggan: {e}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output has seen enough (`draggan models | head`); leave nothing for the exit to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("draggan: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=own_command(),
        description="Drag points of a generated picture, without a page. (The page: python app.py)",
        epilog="Each command has a --help of its own.",
    )
    parser.add_argument("--verbose", action="store_true", help="say what is going on")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    drag = commands.add_parser("drag", help="drag points of a picture and save the result")
    drag.add_argument("--model", default="cat", help="a registry name, file or https address (default: %(default)s)")
    drag.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    drag.add_argument("--seed", type=int, default=0, help="which picture (default: %(default)s)")
    drag.add_argument("--truncation", type=float, metavar="PSI", help="0: average, 1: as it is (default: the model's)")
    drag.add_argument("--class", type=int, default=None, dest="label", metavar="N", help="for models with classes")
    drag.add_argument(
        "--point",
        type=_point_pair,
        action="append",
        default=[],
        metavar="X,Y:X,Y",
        help="a handle and its target in image pixels; may be given more than once",
    )
    drag.add_argument("--mask", type=Path, metavar="PNG", help="white may change, black stays")
    drag.add_argument("--steps", type=int, default=DragConfig.max_steps, help="at most (default: %(default)s)")
    for name in _DRAG_OPTIONS:
        facts = describe(DragConfig, name)
        unit = f" [{facts['unit']}]" if facts["unit"] else ""
        drag.add_argument(
            "--" + name.replace("_", "-"),
            type=str if facts["default"] is None else type(facts["default"]),
            help=f"{facts['help']}{unit} (default: {_default_of(name, facts['default'])})",
        )
    drag.add_argument("--out", type=Path, metavar="PNG", help="write the result here")
    drag.add_argument("--before", type=Path, metavar="PNG", help="write the picture before the drag here")
    drag.add_argument("--animation", type=Path, metavar="GIF", help="write the drag as a .gif or .webp here")
    drag.add_argument("--points-out", type=Path, metavar="PNG", help="write an enlarged result with its points here")
    _add_yes(drag)
    drag.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    drag.set_defaults(run=_drag)

    models = commands.add_parser("models", help="list the models, where they are and their terms")
    models.add_argument("--json", action="store_true", help="print JSON")
    models.set_defaults(run=_models)

    convert = commands.add_parser("convert", help="turn a model file into safetensors, or that into a plain state dict")
    convert.add_argument("source", help="any model file that can be read")
    convert.add_argument("destination", type=Path, help="ends in .safetensors, .pt or .npz")
    _add_yes(convert)
    convert.set_defaults(run=_convert)

    evaluate = commands.add_parser("evaluate", help="measure how well dragging works, or how well a model draws")
    evaluation.add_options(evaluate)
    evaluate.set_defaults(run=lambda args: evaluation.run(args, print))

    doctor = commands.add_parser("doctor", help="what runs here, what is slow, and what to do about it")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_yes(parser: argparse.ArgumentParser) -> None:
    """The option of every command that may have to download a model first: `provide` takes it."""
    parser.add_argument("--yes", action="store_true", help="download the model without asking if it is not here")


def _default_of(name: str, value: Any) -> str:
    return "the model's" if name in ("step_size", "solver", "level") else str(value)


def _joined(argv: Sequence[str]) -> list[str]:
    """``--point VALUE`` as one word: argparse would take a value that begins with a minus sign for an option."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] == "--point":
            words[-1] = f"--point={word}"
        else:
            words.append(word)
    return words


def _point_pair(text: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """``60,70:80,64`` as ((60, 70), (80, 64))."""
    try:
        handle, target = text.split(":")
        (x, y), (u, v) = (tuple(float(n) for n in point.split(",")) for point in (handle, target))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a pair of points; write handle and target in pixels like 60,70:80,64"
        ) from None
    return (x, y), (u, v)


def _drag(args: argparse.Namespace) -> int:
    # Imported here: `draggan --help` and a wrong option need not wait for torch.
    import torch

    from draggan.checkpoints.store import load_generator
    from draggan.drag import Drag
    from draggan.engine.frames import EvenFrames
    from draggan.export import check_animation_path, check_png_path, save_animation, save_png
    from draggan.images import draw_points, read_mask, to_uint8
    from draggan.suggestions import suggested_config, suggested_truncation

    if not args.point:
        raise PointError("no points were given; add --point X,Y:X,Y, a handle and its target in image pixels")
    given = {name: getattr(args, name) for name in _DRAG_OPTIONS if getattr(args, name) is not None}
    config = suggested_config(args.model, max_steps=args.steps, **given)
    truncation = suggested_truncation(args.model) if args.truncation is None else args.truncation
    if not 0 <= truncation <= 1.5:
        raise ConfigError(f"--truncation {truncation:g} is not allowed; give a number from 0 to 1.5")
    for path in (args.out, args.before, args.points_out):
        if path is not None:
            check_png_path(path)
    if args.animation is not None:
        check_animation_path(args.animation)
    provide(args.model, yes=args.yes)
    started = time.perf_counter()
    generator = load_generator(args.model, device=args.device)
    loaded = time.perf_counter()
    ws = generator.sample(args.seed, truncation, args.label)
    handles, targets = zip(*args.point, strict=True)
    mask = None if args.mask is None else read_mask(args.mask, generator.image_size)
    drag = Drag(generator, ws, handles, targets, mask, config)

    begun = time.perf_counter()
    first = step = next(drag)
    film: EvenFrames[torch.Tensor] = EvenFrames()
    while not step.done:
        film.add(step.ws)
        try:
            step = next(drag)
            if not args.json and sys.stderr.isatty():
                print(f"\rstep {step.index}: {step.distances.mean():.1f} px to go ", end="", file=sys.stderr)
        except KeyboardInterrupt:
            # What was reached is kept and written.
            drag.stop()
    seconds = time.perf_counter() - begun
    if not args.json and sys.stderr.isatty():
        print(file=sys.stderr)

    details = {
        "model": Path(args.model).name,
        "seed": args.seed,
        "truncation": truncation,
        "class": args.label,
        "settings": dataclasses.asdict(config),
        "mask": args.mask is not None,
        "handles": first.handles.tolist(),
        "targets": step.targets.tolist(),
        "steps": step.index,
    }
    with torch.no_grad():
        after = to_uint8(generator.synthesis(step.ws))
        written = []
        if args.out:
            written.append(save_png(args.out, after, details))
        if args.animation:
            frames = [to_uint8(generator.synthesis(ws)) for ws in (*film.frames, step.ws)]
            written.append(save_animation(args.animation, frames, details))
        if args.before:
            written.append(save_png(args.before, to_uint8(generator.synthesis(first.ws)), details))
        if args.points_out:
            enlarge = math.ceil(512 / max(generator.image_size))
            picture = draw_points(after, step.handles, step.targets, enlarge=enlarge)
            written.append(save_png(args.points_out, picture, details))

    result = details | {
        "outcome": step.outcome,
        "tracked": step.handles.tolist(),
        "distances": [round(float(d), 3) for d in step.distances],
        "seconds": round(seconds, 3),
        "seconds_per_step": round(seconds / max(step.index, 1), 4),
        "load_seconds": round(loaded - started, 3),
        "files": [str(path) for path in written],
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(f"{_OUTCOMES[step.outcome or 'stopped']} after {step.index} steps, {seconds:.1f} s")
        for i, (h, t, d) in enumerate(zip(step.handles, step.targets, step.distances, strict=True), 1):
            print(f"  point {i}: at ({h[0]:g}, {h[1]:g}), target ({t[0]:g}, {t[1]:g}), {d:.1f} px to go")
        for path in written:
            print(f"  wrote {path}")
        if not written:
            print("  nothing was written; add --out result.png to keep the picture")
    return 0


def _models(args: argparse.Namespace) -> int:
    from draggan.checkpoints import catalogue

    models = catalogue.all_models()
    if args.json:
        print(json.dumps([_model_facts(model) for model in models]))
        return 0
    width = max(len(model.name) for model in models)
    for model in models:
        size = "" if model.size is None else f"{model.size[0]}x{model.size[1]}"
        weight = _megabytes(model.bytes_on_disk() or model.bytes)
        print(f"{model.name:{width}}  {size:9}  {model.state:16}  {weight:>8}  {model.title}; licence: {model.licence}")
    print(f"\nOwn models: drop files into {catalogue.models_dir()}")
    return 0


def _model_facts(model: Any) -> dict[str, Any]:
    facts = dataclasses.asdict(model)
    return facts | {"state": model.state, "local": str(model.local), "bytes_on_disk": model.bytes_on_disk()}


def _megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.1f} MB"


def _convert(args: argparse.Namespace) -> int:
    from draggan.checkpoints.convert import convert

    provide(args.source, yes=args.yes)
    path = convert(args.source, args.destination)
    print(f"wrote {path} ({_megabytes(path.stat().st_size)})")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from draggan import doctor

    items = doctor.report()
    if args.json:
        print(json.dumps([dataclasses.asdict(item) for item in items]))
    else:
        for item in items:
            print(f"[{item.status:6}] {item.name}: {item.value}")
            if item.advice:
                print(f"         {item.advice}")
    return 1 if any(item.status == "broken" for item in items) else 0
