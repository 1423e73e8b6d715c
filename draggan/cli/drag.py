"""``draggan drag``: drag points of a picture and save the result."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from draggan.cli.options import add_yes, name_of, path_of
from draggan.config import DragConfig, describe
from draggan.errors import ConfigError, ModelNotFound, PointError

if TYPE_CHECKING:
    from draggan.engine.base import RunningDrag, Update
    from draggan.engine.local import LocalEngine
    from draggan.recipe import Edit, Recipe

__all__ = ["HELP", "NAME", "add_options", "joined", "run"]

NAME = "drag"
HELP = "drag points of a picture and save the result"

# Settings of a drag that are options here; range, unit and default come from the dataclass.
_DRAG_OPTIONS = (
    "solver",
    "space",
    "free_rows",
    "step_size",
    "naturalness",
    "row_independence",
    "max_departure",
    "tracker",
    "trust_radius",
    "r1",
    "r2",
    "mask_weight",
    "mask_hold",
    "stop_distance",
    "level",
)

_OUTCOMES = {
    "done": "nothing left to drag: the recipe has its result already",
    "arrived": "arrived",
    "max_steps": "step limit reached; the best picture so far was kept",
    "stalled": "as far as it goes: this model makes no picture nearer to that; the nearest one was kept",
    "unlikely": "stopped before the picture would be unlike any that this model makes (--max-departure 100 goes on)",
    "lost": "the content of a handle would be out of sight further on; the last picture with it was kept",
    "stopped": "stopped",
    "diverged": "the optimisation ran out of bounds; the best picture so far was kept (try a smaller --step-size)",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument(
        "--model", type=name_of, help="a registry name, file or https address (default: cat, or the recipe's)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="which picture (default: 0)")
    parser.add_argument("--latent", type=path_of, metavar="FILE", help="begin with a latent code (.npy, .npz, .pt)")
    parser.add_argument(
        "--recipe", type=path_of, metavar="FILE", help="begin with a recipe, or a saved .png that has one"
    )
    parser.add_argument(
        "--truncation", type=float, metavar="PSI", help="0: average, 1: unchanged (default: the model's)"
    )
    parser.add_argument("--class", type=int, default=None, dest="label", metavar="N", help="for models with classes")
    parser.add_argument(
        "--point",
        type=_point_pair,
        action="append",
        default=[],
        metavar="X,Y:X,Y",
        help="a handle and its target in image pixels; may be given more than once",
    )
    parser.add_argument("--mask", type=path_of, metavar="PNG", help="white may change, black stays")
    parser.add_argument("--steps", type=int, help=f"at most (default: {DragConfig.max_steps})")
    for name in _DRAG_OPTIONS:
        facts = describe(DragConfig, name)
        unit = f" [{facts['unit']}]" if facts["unit"] else ""
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=str if facts["default"] is None else type(facts["default"]),
            help=f"{facts['help']}{unit} (default: {_default_of(name, facts['default'])})",
        )
    parser.add_argument("--out", type=path_of, metavar="PNG", help="write the result here")
    parser.add_argument("--recipe-out", type=path_of, metavar="JSON", help="write the recipe of the result here")
    parser.add_argument("--before", type=path_of, metavar="PNG", help="write the picture before the drag here")
    parser.add_argument("--animation", type=path_of, metavar="GIF", help="write the drag as a .gif or .webp here")
    parser.add_argument(
        "--points-out", type=path_of, metavar="PNG", help="write the result, enlarged, with points here"
    )
    add_yes(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def _default_of(name: str, value: Any) -> str:
    return "the model's" if name in ("step_size", "solver", "level") else str(value)


def joined(argv: Sequence[str]) -> list[str]:
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


def run(args: argparse.Namespace) -> int:
    """Drag, write what was asked for, and say what happened."""
    # Imported here: `draggan --help` and a wrong option need not wait for torch.
    from draggan.engine.local import LocalEngine
    from draggan.engine.models import AnyModels
    from draggan.terminal import ensure_downloaded

    _check(args)
    given = _given_recipe(args)
    model = given.model.name if given is not None else args.model or "cat"
    try:
        ensure_downloaded(model, yes=args.yes)
    except ModelNotFound as e:
        if given is None or args.model is not None:
            raise
        raise ModelNotFound(f"{e}; if the recipe was made with a file of yours, say where it is with --model") from e
    started = time.perf_counter()
    engine = LocalEngine(AnyModels(args.device))
    try:
        recipe = _begun(engine, args, model) if given is None else given
        engine.models.load(model)
        loaded = time.perf_counter()
        before, edit = _to_do(engine, args, recipe)
        if edit is None:
            # The recipe has its result, or no edit at all.
            complete = recipe.with_results([*before.results, recipe.latent]) if recipe.edits else before
            return _report(engine, args, before, complete, None, None, loaded - started)
        running = engine.drag(before, edit)
        last = _watched(running, quiet=args.json)
        return _report(engine, args, before, running.reached(), running, last, loaded - started)
    finally:
        engine.close()


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be written, or makes no sense, before any work that would be lost."""
    from draggan.export import check_animation_path, check_png_path

    if not args.point and args.recipe is None:
        raise PointError("no points were given; add --point X,Y:X,Y, a handle and its target in image pixels")
    begins = {"--recipe": args.recipe, "--latent": args.latent, "--seed": args.seed}
    begins |= {"--truncation": args.truncation, "--class": args.label}
    used = [name for name, value in begins.items() if value is not None]
    if "--recipe" in used and len(used) > 1:
        raise ConfigError(f"{used[1]} does not go with --recipe, which says by itself what to begin with; leave it out")
    for name in ("--seed", "--truncation", "--class"):
        if {"--latent", name} <= set(used):
            raise ConfigError(f"{name} does not go with --latent; give one of them")
    if not args.point:
        how = {name: getattr(args, name) for name in ("mask", "steps", *_DRAG_OPTIONS)}
        for name in (name.replace("_", "-") for name, value in how.items() if value is not None):
            raise ConfigError(f"--{name} says how points are dragged; add --point, or leave it out to run the recipe")
    if args.truncation is not None and not 0 <= args.truncation <= 1.5:
        raise ConfigError(f"--truncation {args.truncation:g} is not allowed; give a number from 0 to 1.5")
    for path in (args.out, args.before, args.points_out):
        if path is not None:
            check_png_path(path)
    if args.animation is not None:
        check_animation_path(args.animation)


def _given_recipe(args: argparse.Namespace) -> Recipe | None:
    from draggan.export import read_recipe

    if args.recipe is None:
        return None
    recipe = read_recipe(args.recipe)
    if args.model is None:
        return recipe
    # The same weights elsewhere: the engine compares their hash with the recipe's.
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, name=args.model))


def _begun(engine: LocalEngine, args: argparse.Namespace, model: str) -> Recipe:
    """The picture to begin with: a seed's, or that of a latent code in a file."""
    from draggan.checkpoints.latents import fit_latent, read_latent
    from draggan.recipe import ModelReference, Recipe

    if args.latent is None:
        return engine.begin(model, seed=args.seed or 0, truncation=args.truncation, label=args.label)
    generator = engine.models.load(model)
    ws = fit_latent(read_latent(args.latent), generator.num_ws, generator.w_dim)
    reference = ModelReference(name=model, sha256=engine.models.sha256(model))
    return Recipe(model=reference, image_size=generator.image_size, start=ws)


def _to_do(engine: LocalEngine, args: argparse.Namespace, recipe: Recipe) -> tuple[Recipe, Edit | None]:
    """What is there before the drag, complete, and the drag: the points' or else the recipe's last, if it is to do."""
    from draggan.images import read_mask
    from draggan.recipe import Edit, Mask, read_points

    if not args.point:
        before = engine.complete(recipe.up_to(max(len(recipe.edits) - 1, 0)))
        return before, None if recipe.latent is not None or not recipe.edits else recipe.edits[-1]
    settings = {name: getattr(args, name) for name in _DRAG_OPTIONS if getattr(args, name) is not None}
    space = settings.pop("space", DragConfig.space)
    edit = Edit(
        points=read_points(args.point, recipe.image_size),
        mask=None if args.mask is None else Mask(allowed=read_mask(args.mask, recipe.image_size)),
        space=space,
        settings={"max_steps": DragConfig.max_steps if args.steps is None else args.steps, **settings},
    )
    return engine.complete(recipe), edit


def _watched(running: RunningDrag, *, quiet: bool) -> Update | None:
    """Follow a drag to its end; Ctrl+C stops it, and what was reached is kept and written."""
    shown = not quiet and sys.stderr.isatty()
    update: Update | None = None
    while update is None or not update.done:
        try:
            newer = running.newer(update, 1.0)
            if newer is update and running.ended(0):
                break
            update = newer
            if shown and update is not None:
                print(f"\rstep {update.index}: {update.distances.mean():.1f} px to go ", end="", file=sys.stderr)
        except KeyboardInterrupt:
            running.stop()
    if shown:
        print(file=sys.stderr)
    return update


def _report(
    engine: LocalEngine,
    args: argparse.Namespace,
    before: Recipe,
    recipe: Recipe,
    running: RunningDrag | None,
    last: Update | None,
    load_seconds: float,
) -> int:
    from draggan.export import save_animation, save_png, save_recipe
    from draggan.images import draw_points

    # The last edit says what was dragged, also where nothing had to be done any more.
    edit = running.edit if running is not None else recipe.edits[-1] if recipe.edits else None
    points = () if edit is None else edit.points
    steps = 0 if last is None else last.index
    details = {
        "model": Path(recipe.model.name).name,
        "seed": None if recipe.seed is None else recipe.seed.seed,
        "truncation": None if recipe.seed is None else recipe.seed.truncation,
        "class": None if recipe.seed is None else recipe.seed.label,
        "settings": None if edit is None else dataclasses.asdict(edit.config()),
        "mask": edit is not None and edit.mask is not None,
        "handles": [list(point.handle) for point in points],
        "targets": [list(point.target) for point in points],
        "steps": steps,
    }
    after = engine.picture(recipe)
    written = []
    if args.out:
        written.append(save_png(args.out, after, details, recipe=recipe))
    if args.animation:
        latents = [before.latent, recipe.latent] if running is None else [*running.frames, recipe.latent]
        frames = [engine.render(recipe, ws) for ws in latents if ws is not None]
        written.append(save_animation(args.animation, frames, details))
    if args.before:
        written.append(save_png(args.before, engine.picture(before), details, recipe=before))
    if args.points_out and last is not None:
        enlarge = math.ceil(512 / max(recipe.image_size))
        picture = draw_points(after, last.handles, last.targets, enlarge=enlarge)
        written.append(save_png(args.points_out, picture, details))
    if args.recipe_out:
        written.append(save_recipe(args.recipe_out, recipe))

    seconds = 0.0 if last is None else last.seconds
    outcome = "done" if running is None else "stopped" if last is None else last.outcome
    result = details | {
        "outcome": outcome,
        "tracked": [] if last is None else last.handles.tolist(),
        "distances": [] if last is None else [round(float(d), 3) for d in last.distances],
        "way": 1.0 if last is None else round(last.way, 4),
        "seconds": round(seconds, 3),
        "seconds_per_step": round(seconds / max(steps, 1), 4),
        "load_seconds": round(load_seconds, 3),
        "files": [str(path) for path in written],
    }
    if args.json:
        print(json.dumps(result))
        return 0
    done = "" if running is None else f" after {steps} steps, {seconds:.1f} s"
    if last is not None and outcome != "arrived":
        done += f", {100 * min(max(last.way, 0), 1):.0f} % of the way"
    print(_OUTCOMES[outcome or "stopped"] + done)
    if last is not None:
        for i, (h, t, d) in enumerate(zip(last.handles, last.targets, last.distances, strict=True), 1):
            print(f"  point {i}: at ({h[0]:g}, {h[1]:g}), target ({t[0]:g}, {t[1]:g}), {d:.1f} px to go")
    for path in written:
        print(f"  wrote {path}")
    if not written:
        print("  nothing was written; add --out result.png to keep the picture")
    return 0
