"""Recipes made from one edit: the same over many pictures, or to many targets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from draggan.errors import PointError, RecipeError
from draggan.recipe import MOST_POINTS, Edit, Point, Recipe, Seed, Xy

__all__ = ["along", "each_target", "grid", "over_seeds"]

_MOST = 1_000_000  # recipes in one list


def over_seeds(recipe: Recipe, seeds: Iterable[int]) -> Iterator[Recipe]:
    """The same edits of the pictures of other seeds; drags that were stopped there go to their end.

    Raises:
        RecipeError: it does not begin with a seed, or was pulled by hand.
    """
    start = recipe.start
    if not isinstance(start, Seed):
        raise RecipeError("this recipe begins with a latent code, not with a seed; leave the seeds out")
    if any(edit.by_hand for edit in recipe.edits):
        raise RecipeError("a picture that was pulled by hand cannot be made from another seed; leave the seeds out")
    edits = tuple(replace(edit, recorded=None) for edit in recipe.edits)
    for seed in seeds:
        yield replace(recipe, start=replace(start, seed=seed), edits=edits, results=())


def each_target(recipe: Recipe, targets: Iterable[Xy]) -> Iterator[Recipe]:
    """The last edit with other targets: its first handle goes to each of these, the others to their own.

    Raises:
        PointError: it has no handle, or a target is outside the picture.
    """
    if not recipe.edits or not recipe.edits[-1].points:
        raise PointError("there is no handle whose target could change; add --point X,Y:X,Y")
    before, edit = recipe.up_to(len(recipe.edits) - 1), recipe.edits[-1]
    first, *others = edit.points
    for target in targets:
        changed: Edit = replace(edit, points=(replace(first, target=target), *others), recorded=None, by_hand=False)
        yield before.then(changed)


def grid(recipe: Recipe, columns: int, rows: int, spacing: float) -> list[Xy]:
    """Targets on a grid around the first target of the last edit, those inside the picture, row by row.

    Args:
        columns, rows: of the grid, 1 to 1000.
        spacing: between two of them, pixels.

    Raises:
        PointError: there is no such grid.
    """
    if not (1 <= columns <= 1000 and 1 <= rows <= 1000 and spacing > 0 and math.isfinite(spacing)):
        raise PointError(f"a grid of {columns} x {rows}, {spacing:g} px apart, is not possible; give 1x1 to 1000x1000")
    x, y = _first_point(recipe).target
    height, width = recipe.image_size
    places = [
        (x + spacing * (i - (columns - 1) / 2), y + spacing * (k - (rows - 1) / 2))
        for k in range(rows)
        for i in range(columns)
    ]
    return [(u, v) for u, v in places if 0 <= u <= width - 1 and 0 <= v <= height - 1]


def along(recipe: Recipe, path: Sequence[Xy], count: int) -> list[Xy]:
    """Targets along a line through these points, from the first handle on, as far from each other as possible.

    Args:
        path: corners of the line, at least one.
        count: targets; the last one is the end of the line.

    Raises:
        PointError: there is no such line.
    """
    if not path or not 1 <= count <= _MOST:
        raise PointError(f"{count} targets along {len(path)} points are not possible; give at least one of both")
    if len(path) > MOST_POINTS:
        raise PointError(f"{len(path)} points are too many for a path; give at most {MOST_POINTS}")
    corners = [_first_point(recipe).handle, *path]
    lengths = [math.dist(a, b) for a, b in itertools.pairwise(corners)]
    whole = sum(lengths)
    if not whole > 0 or not math.isfinite(whole):
        raise PointError("the path has no length; give points apart from each other")
    targets = []
    for number in range(1, count + 1):
        left = whole * number / count
        for (a, b), length in zip(itertools.pairwise(corners), lengths, strict=True):
            if left <= length and length > 0:
                share = left / length
                targets.append((a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])))
                break
            left -= length
        else:
            targets.append(corners[-1])  # by rounding, a little beyond the end
    return targets


def _first_point(recipe: Recipe) -> Point:
    if not recipe.edits or not recipe.edits[-1].points:
        raise PointError("there is no handle whose target could change; add --point X,Y:X,Y")
    return recipe.edits[-1].points[0]
