"""Results as text, as Markdown and as pictures of the best, median and worst cases."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from draggan.evaluation.protocols import Column, Task
from draggan.evaluation.results import Row
from draggan.evaluation.statistics import Interval, paired_difference
from draggan.images import draw_points
from draggan.pixels import to_uint8

__all__ = ["difference", "frechet_titles", "markdown", "number", "strip", "text", "tile"]


def number(interval: Interval, column: Column, *, unit: bool = False) -> str:
    """``2.31 [2.02, 2.64]``; no brackets where nothing is known of the spread, a dash where nothing was measured."""
    if not interval.count:
        return "–"

    def show(value: float) -> str:
        return f"{value * column.factor:.{column.digits}f}"

    out = show(interval.mean) + (f" {column.unit}" if unit and column.unit else "")
    return out if math.isnan(interval.low) else f"{out} [{show(interval.low)}, {show(interval.high)}]"


def text(row: Row) -> str:
    """One row for a terminal: a line per figure, mean and 95 % bootstrap interval."""
    subject, skipped = row.subject, len(row.cases) - row.measured
    head = f"{subject.name}, {row.protocol.title}" + (f", {row.name}" if row.name else "")
    head += f": {row.measured} case{'s' if row.measured != 1 else ''}"
    head += f", {skipped} without a task" if skipped else ""
    lines = [(c.title, number(row.interval(c), c, unit=True)) for c in row.protocol.columns]
    lines += [(t, f"{d:.3g}") for t, b in frechet_titles(row) if (d := row.frechet("before", b)) is not None]
    lines = [(title, value) for title, value in lines if value != "–"]
    width = max((len(title) for title, _ in lines), default=0)
    return "\n".join([head, *(f"  {title:{width}}  {value}" for title, value in lines)])


def markdown(rows: Sequence[Row]) -> str:
    """Rows of one protocol as a table: figures down, configurations across, with differences to the first row.

    Everything is over the cases that all rows have. Differences are paired, of the main figure.
    """
    rows = [row.over(set.intersection(*(set(r.cases) for r in rows))) for row in rows]
    first = rows[0]
    lines = [
        "| | " + " | ".join(row.name or "as it is" for row in rows) + " |",
        "|---|" + "---|" * len(rows),
        "| cases | " + " | ".join(str(row.measured) for row in rows) + " |",
    ]
    for column in first.protocol.columns:
        intervals = [row.interval(column) for row in rows]
        if not any(i.count for i in intervals):
            continue
        unit = f", {column.unit}" if column.unit else ""
        cells = []
        for row, interval in zip(rows, intervals, strict=True):
            cell = number(interval, column)
            if row is not first and column == row.main and (apart := difference(first, row, column)):
                cell += f"; {apart}"
            cells.append(cell)
        lines.append(f"| {column.title}{unit} | " + " | ".join(cells) + " |")
    for title, b in frechet_titles(first):
        distances = [row.frechet("before", b) for row in rows]
        if any(d is not None for d in distances):
            cells = ["–" if d is None else f"{d:.3g}" for d in distances]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def frechet_titles(row: Row) -> list[tuple[str, str]]:
    """What the Frechet distances from "before" are of, and to what."""
    what = "generated against rendered" if row.protocol.name == "quality" else "edited against unedited"
    return [(f"Frechet distance, {what}", "after"), ("Frechet distance of as many unrelated pictures", "other")]


def difference(first: Row, row: Row, column: Column) -> str:
    """``-0.4 [-0.6, -0.1]`` to the first row on the same cases; empty where fewer than two are shared."""
    a, b = first.values(column.key), row.values(column.key)
    both = sorted(a.keys() & b.keys())
    if len(both) < 2:
        return ""
    d = paired_difference([a[i] for i in both], [b[i] for i in both])
    digits, f = column.digits, column.factor
    return f"{d.mean * f:+.{digits}f} [{d.low * f:+.{digits}f}, {d.high * f:+.{digits}f}]"


def tile(
    picture: Tensor, handles: np.ndarray, targets: np.ndarray, side: int, note: str
) -> UInt8[np.ndarray, "height width 3"]:
    """A picture ``side`` pixels high with its points, and a note above."""
    pixels = to_uint8(picture)
    enlarge = max(1, math.ceil(side / pixels.shape[0]))
    drawn = draw_points(pixels, handles, targets, enlarge=enlarge) if len(handles) else pixels
    width = max(round(side * pixels.shape[1] / pixels.shape[0]), 1)
    canvas = Image.new("RGB", (width, side + 16), "white")
    canvas.paste(Image.fromarray(drawn).resize((width, side), Image.Resampling.LANCZOS), (0, 16))
    ImageDraw.Draw(canvas).text((3, 2), note, fill="black")
    return np.asarray(canvas)


def strip(row: Row, side: int = 192) -> UInt8[np.ndarray, "height width 3"] | None:
    """The best, median and worst case one below the other: start with its points, result, and the truth if known.

    Results are drawn anew from the stored latents.

    Returns:
        None if there are no cases.
    """
    lines = []
    for name, index in row.extreme().items():
        case, task = row.cases[index], row.protocol.task(row.subject, index)
        assert isinstance(task, Task)
        value = case.figures[row.main.key]
        note = f"{name}: seed {case.seed}"
        none = np.zeros((0, 2), np.float32)
        tiles = [tile(row.subject.picture(task.ws), task.handles, task.targets, side, note)]
        if case.shift is not None:
            ws = task.ws.clone()
            ws[0, : len(case.shift)] += torch.from_numpy(np.array(case.shift)).to(ws)
            shown = f"{row.main.key} {value:.3g}, {case.outcome}"
            ends = task.handles if row.protocol.returns else task.targets
            tiles.append(tile(row.subject.picture(ws), ends, ends, side, shown))
        if task.truth is not None:
            tiles.append(tile(task.truth, none, none, side, "truth" if case.shift is not None else "rendered"))
        lines.append(np.concatenate(tiles, 1))
    return np.concatenate(lines) if lines else None
