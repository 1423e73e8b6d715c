"""``draggan edits``: recipes for a batch."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from draggan.cli import edit_options
from draggan.cli.options import add_machine, path_of
from draggan.errors import ConfigError, ExportError, PointError, RecipeError
from draggan.program import own_command

if TYPE_CHECKING:
    from draggan.recipe import Recipe

__all__ = ["HELP", "NAME", "add_options", "run"]

NAME = "edits"
HELP = "write recipes for a batch: one edit over many seeds, or to many targets"

_MOST_SEEDS = 1_000_000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.usage = (
        "%(prog)s --point X,Y:X,Y [--seeds A-B,C] [--out FILE] [OPTION ...]\n"
        "       %(prog)s --recipe FILE [--seeds A-B,C] [--out FILE] [OPTION ...]"
    )
    edit_options.add(parser)
    recipes = parser.add_argument_group("which recipes")
    recipes.add_argument("--seeds", type=_seeds, metavar="A-B,C", help="the same edit of all these pictures")
    recipes.add_argument("--grid", type=_grid, metavar="5x5", help="the first handle to a grid around its target")
    recipes.add_argument(
        "--spacing",
        type=float,
        metavar="PX",
        help="between the targets of the grid, in image pixels (default: a 32nd of the width)",
    )
    recipes.add_argument(
        "--path", type=_corners, metavar="X,Y:X,Y", help="the first handle to places along a line through these points"
    )
    recipes.add_argument("--count", type=int, default=10, metavar="N", help="places along it (default: %(default)s)")
    recipes.add_argument(
        "--out", type=path_of, metavar="FILE", help="write them here, one on every line (default: print them)"
    )
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    """Write a recipe on every line."""
    from draggan.export import in_a_folder
    from draggan.terminal import ensure_downloaded

    edit_options.check(args)
    if args.out is not None:
        in_a_folder(args.out)
    if not args.point and args.recipe is None:
        raise PointError("no points were given; add --point X,Y:X,Y, a handle and its target in image pixels")
    if args.grid is not None and args.path is not None:
        raise ConfigError("--grid does not go with --path; give one of them")
    if args.seeds is not None and args.seed is not None:
        raise ConfigError("--seed does not go with --seeds; give one of them")
    given = edit_options.given_recipe(args)
    if given is not None and given.is_of_photo:
        raise RecipeError(
            f"this recipe is of a photo, whose tuned weights no batch has; drag it with `{own_command()} drag`"
        )
    model = args.model or "cat"
    edit_options.check_places(args, model, given)
    if given is None:
        from draggan.engine.local import LocalEngine
        from draggan.engine.models import AnyModels

        ensure_downloaded(model, yes=args.yes)
        engine = LocalEngine(AnyModels(args.device))
        given = edit_options.begun(engine, args, model)
    recipe = given.then(edit_options.edit_of(args, given)) if args.point else given
    if not recipe.edits:
        raise PointError("this recipe has no edit; add --point X,Y:X,Y, a handle and its target in image pixels")
    lines = (json.dumps({"name": name, "recipe": json.loads(r.to_json())}) for name, r in _variants(args, recipe))
    if args.out is None:
        for line in lines:
            print(line)
        return 0
    count = _write(args.out, lines)
    print(f"  wrote {args.out}: {count} recipes", file=sys.stderr)
    return 0


def _variants(args: argparse.Namespace, recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    """Recipes with their names."""
    from draggan.batch.edits import along, each_target, grid, over_seeds

    targets = None
    if args.grid is not None:
        spacing = args.spacing if args.spacing is not None else recipe.image_size[1] / 32
        columns, rows = args.grid
        targets = grid(recipe, columns, rows, spacing)
    if args.path is not None:
        targets = along(recipe, args.path, args.count)
    name = re.sub(r"[^A-Za-z0-9_-]", "-", Path(recipe.model.name).stem).strip("-")[:60] or "picture"
    pictures = [recipe] if args.seeds is None else over_seeds(recipe, args.seeds)
    for picture in pictures:
        if len(picture.edits) < 2:
            # Cheap to compute again, and long to write down.
            picture = picture.with_results([])
        named = name if picture.seed is None else f"{name}-seed{picture.seed.seed}"
        if targets is None:
            yield named, picture.up_to(len(picture.edits) - 1).then(picture.edits[-1])
            continue
        for number, variant in enumerate(each_target(picture, targets), 1):
            yield f"{named}-{number:0{len(str(len(targets)))}}", variant


def _write(path: Path, lines: Iterator[str]) -> int:
    from dnnlib.cache import replacing

    count = 0
    try:
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(line + "\n")
                count += 1
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from error
    return count


def _seeds(text: str) -> list[int]:
    """``0-4,9`` as [0, 1, 2, 3, 4, 9]."""
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", part)
        if found is None:
            raise argparse.ArgumentTypeError(f"'{text}' is not a list of seeds; write them like 0-99,200")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last - first + len(seeds) >= _MOST_SEEDS:
            raise argparse.ArgumentTypeError(f"'{part}' is not possible; give rising numbers, {_MOST_SEEDS} at most")
        seeds.extend(range(first, last + 1))
    return list(dict.fromkeys(seeds))


def _grid(text: str) -> tuple[int, int]:
    """``5x3`` as (5, 3)."""
    found = re.fullmatch(r"\s*(\d{1,4})\s*x\s*(\d{1,4})\s*", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a grid; write columns and rows like 5x5")
    return int(found[1]), int(found[2])


def _corners(text: str) -> list[tuple[float, float]]:
    """``60,70:80,64`` as [(60, 70), (80, 64)]."""
    try:
        return [(float(x), float(y)) for x, y in (point.split(",") for point in text.split(":"))]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a path; write points in pixels like 60,70:80,64") from None
