"""How well solvers drag: the protocols of `draggan.evaluation` on the built-in models, row by row, in a given time.

Rows are measured by turns, case by case, so that all of them have the same cases and share whatever else the machine
does. Results are kept in a file (``--json``); the same command with more time continues from there.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import math
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from benchmarks import machine
from benchmarks.examples import joined
from benchmarks.line_search import LINE_SEARCH
from benchmarks.timing import publish
from draggan.checkpoints import catalogue
from draggan.config import DragConfig
from draggan.errors import DragGANError
from draggan.evaluation import report
from draggan.evaluation.command import config_from
from draggan.evaluation.protocols import (
    ALL,
    DRAG,
    Column,
    Landmarks,
    Mask,
    Method,
    Protocol,
    Quality,
    Reconstruction,
    Roundtrip,
)
from draggan.evaluation.results import ResultFile, Row, changed, measure
from draggan.evaluation.subject import Subject, load_subject

__all__ = ["PROTOCOLS", "ROWS", "Choice", "main", "rows_of"]


@dataclasses.dataclass(frozen=True)
class Choice:
    """A row of every table.

    Attributes:
        settings: NAME=VALUE, on top of what suits the model.
        method: what drags.
    """

    settings: list[str]
    method: Method = DRAG


# The published procedure ends at 300 steps (100 in a reconstruction) and knows no stall; everything is float32. Its
# step is that of its cats, cars and faces.
PUBLISHED = ["step_size=0.002", "stall_steps=10000", "precision=float32"]
ROWS = {
    "adam, as published": Choice(["solver=adam", *PUBLISHED]),
    "adam, the model's step": Choice(["solver=adam"]),
    "gauss-newton": Choice(["solver=gauss-newton"]),
    # Steps, limits and precision as in the row of Adam with the model's step: what suits Adam suits it too.
    "line search": Choice(["solver=adam"], LINE_SEARCH),
}

# Protocol and how many cases it has for every 20 of the first.
PROTOCOLS: dict[str, tuple[Protocol, int]] = {
    "landmarks-1": (Landmarks(points=1), 20),
    "landmarks-5": (Landmarks(points=5), 20),
    "landmarks-all": (Landmarks(points=ALL), 5),
    "reconstruction": (Reconstruction(), 10),
    "roundtrip": (Roundtrip(points=1), 10),
    "mask": (Mask(), 10),
    "quality": (Quality(), 64),
}


def rows_of(subject: Subject, protocol: Protocol, rows: dict[str, Choice]) -> list[Row]:
    """The rows of one table; of quality, in which nothing is dragged, there is one."""
    if protocol.name == "quality":
        return [Row(subject, protocol, DragConfig())]
    return [Row(subject, protocol, config_from(subject.name, c.settings), n, c.method) for n, c in rows.items()]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks evaluation", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two cases of landmarks-1 and no file")
    parser.add_argument("--models", nargs="+", default=None, help="default: all built-in ones")
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS), metavar="NAME")
    parser.add_argument("--rows", nargs="+", default=None, metavar="NAME", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--row", action="append", default=[], metavar="NAME:SETTING,...", help="another row")
    parser.add_argument("--pairs", type=int, default=40, help="cases of landmarks-1; the others in proportion")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no new case after this time")
    parser.add_argument("--json", type=Path, default=None, help="keep results in this file and continue from them")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    parser.add_argument("--picture", type=Path, default=None, help="and a .jpg of best, median and worst cases here")
    machine.add_options(parser)
    args = parser.parse_args(argv)
    here = machine.prepare(args)
    try:
        chosen = {name: ROWS[name] for name in (args.rows or ROWS)}
        for text in args.row:
            name, _, settings = text.partition(":")
            chosen[name.strip()] = Choice([s.strip() for s in settings.split(",") if s.strip()])
        models = args.models or [m.name for m in catalogue.all_models() if m.builtin and m.on_disk]
        names = ["landmarks-1"] if args.quick else args.protocols
        file = None if args.json is None else ResultFile(args.json)
        tables = list(_tables(models, names, chosen))
        if file is not None:
            for _, _, rows in tables:
                for row in rows:
                    file.load(row)
        ended = _measure(tables, 2 if args.quick else args.pairs, 60 * args.minutes, file)
        text = document(tables, here, args.picture, notes_in(args.out))
    except (DragGANError, KeyError) as e:
        print(f"evaluation: {e}", file=sys.stderr)
        return 1
    publish(text, args.out)
    if args.picture:
        pictures(tables, args.picture)
    return 130 if ended == "interrupted" else 0


def _tables(
    models: Sequence[str], names: Sequence[str], chosen: dict[str, Choice]
) -> Iterator[tuple[str, str, list[Row]]]:
    """Model, protocol and rows of every table that can be made."""
    for model in models:
        subject = load_subject(model, device="cpu")
        for name in names:
            protocol, _ = PROTOCOLS[name]
            why = protocol.missing(subject)
            if why:
                print(f"{model}: without {name}, {why}")
            else:
                yield model, name, rows_of(subject, protocol, chosen)


def _measure(tables: list[tuple[str, str, list[Row]]], pairs: int, seconds: float, file: ResultFile | None) -> str:
    """All tables together, in tenths, so that each has something when the time runs out."""
    begun = time.monotonic()
    ended = "complete"
    for tenth in range(1, 11):
        for model, name, rows in tables:
            count = math.ceil(pairs * PROTOCOLS[name][1] / 20 * tenth / 10)
            if all(len(row.cases) >= count for row in rows):
                continue
            left = seconds - (time.monotonic() - begun)
            ended = measure(rows, count, file=file, seconds=left)
            if ended != "complete":
                return ended
            print(f"{time.monotonic() - begun:6.0f} s  {model} {name}: {len(rows[0].cases)} cases", file=sys.stderr)
    return ended


NOTES = ("<!-- written by hand, kept -->", "<!-- end of what is kept -->")
"""What stands between these in the file of tables stays there when it is written again."""


def notes_in(path: Path | None) -> str:
    """What a person wrote about the tables."""
    old = path.read_text(encoding="utf-8") if path is not None and path.exists() else ""
    _, _, rest = old.partition(NOTES[0])
    return rest.partition(NOTES[1])[0].strip() if rest else ""


def document(
    tables: list[tuple[str, str, list[Row]]], here: machine.Machine, picture: Path | None, notes: str = ""
) -> str:
    """All tables as Markdown."""
    lines = [
        "# Evaluation",
        "",
        "`python -m benchmarks evaluation --json FILE --minutes N` measures, and with the same file goes on measuring;",
        "`python -m draggan evaluate` does one protocol. What each protocol does: `draggan/evaluation/protocols/`.",
        "",
        f"{here.markdown()}. Other work shared the machine: compare times within a table only.",
        "",
        "Means, with 95 % intervals (bootstrap over cases), and the difference to the first row on the same cases.",
        "Pixels are those of the model's picture, not of 512 px. Perceptual distance: 1 - multi-scale SSIM of gradient",
        "magnitudes (no LPIPS: its network is not ours). Latent distances: root mean square of whitened W, over all",
        "rows; a random latent has about 1. Frechet distances are in the features of our landmark network and grow as",
        "cases get fewer.",
        "",
    ]
    for name, settings in _settings(tables).items():
        lines.append(f"- {name}: {settings}")
    lines += ["", NOTES[0], *([notes] if notes else []), NOTES[1]]
    if picture is not None and _shown(tables):
        lines += ["", f"![best, median and worst cases]({picture.name})", "", *_caption(tables)]
    for name in dict.fromkeys(name for _, name, _ in tables):
        measured = [rows for _, other, rows in tables if other == name and nested(rows)]
        if measured:
            made = _quality(measured) if name == "quality" else _drags(measured)
            lines += ["", f"## {measured[0][0].protocol.title}", "", *made]
    return "\n".join(lines) + "\n"


def nested(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows with the most cases, then these and those with fewer, and so on; those without any are left out.

    A table has the cases that all its rows have, so a row with few would cost the others theirs.
    """
    counts = sorted({row.measured for row in rows if row.measured}, reverse=True)
    return [[row for row in rows if row.measured >= count] for count in counts]


BESIDE = ("arrived", "steps", "cpu", "latent_moved")
"""What stands beside the main figure: keys of columns."""


def _drags(measured: list[list[Row]]) -> list[str]:
    """A protocol that drags: a line for each model and row, over the cases shared with the model's first row."""
    main, columns = measured[0][0].main, {c.key: c for c in measured[0][0].protocol.columns}
    unedited = [columns[key] for key in (f"{main.key}_before", f"{main.key}_free", "asked") if key in columns][:1]
    beside = [columns[key] for key in BESIDE]
    titles = [*map(_title, [*unedited, main]), "beside the first row", *map(_title, beside)]
    lines = [f"| model | row | cases | {' | '.join(titles)} | ended |", "|---" * (4 + len(titles)) + "|"]
    for rows in measured:
        first = nested(rows)[0][0]
        for whole in (row for row in rows if row.measured):
            row = whole.over(set(whole.cases) & set(first.cases))
            cells = [row.subject.name, row.name, str(row.measured)]
            cells += [report.number(row.interval(column), column) for column in (*unedited, main)]
            cells.append("" if whole is first else report.difference(first, row, main))
            cells += [report.number(row.interval(column), column).split(" ")[0] for column in beside]
            lines.append("| " + " | ".join([*cells, _endings(row)]) + " |")
    return lines


def _title(column: Column) -> str:
    return f"{column.title}, {column.unit}".removesuffix(", ")


def _quality(measured: list[list[Row]]) -> list[str]:
    """Pictures as models draw them, nothing dragged: a line for each."""
    columns, (title, to) = measured[0][0].protocol.columns, report.frechet_titles(measured[0][0])[0]
    titles = [*map(_title, columns), title]
    lines = [f"| model | cases | {' | '.join(titles)} |", "|---" * (2 + len(titles)) + "|"]
    for (row,) in measured:
        cells = [row.subject.name, str(row.measured), *(report.number(row.interval(c), c) for c in columns)]
        cells.append("–" if (distance := row.frechet("before", to)) is None else f"{distance:.3g}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _settings(tables: list[tuple[str, str, list[Row]]]) -> dict[str, str]:
    """What differs from the defaults, by the name of the row."""
    found: dict[str, str] = {}
    for _, name, rows in tables:
        for row in rows:
            if row.name and name.startswith("landmarks"):
                settings = [f"`{k}={v}`" for k, v in changed(row.config).items()] or ["all defaults"]
                found.setdefault(row.name, ", ".join([row.method.key] * bool(row.method.key) + settings))
    return found


def _endings(row: Row) -> str:
    """Why its drags ended."""
    counts = Counter(case.outcome for case in row.cases.values() if case.outcome)
    return ", ".join(f"{what} {count}" for what, count in counts.most_common())


def _shown(tables: list[tuple[str, str, list[Row]]]) -> list[list[Row]]:
    """Rows in the picture, model by model: of five landmarks or else of the first protocol, those with most cases."""
    names = [name for _, name, _ in tables]
    shown = "landmarks-5" if "landmarks-5" in names else names[0]
    return [nested(rows)[0] for _, name, rows in tables if name == shown and any(r.measured > 2 for r in rows)]


def _caption(tables: list[tuple[str, str, list[Row]]]) -> list[str]:
    shown = _shown(tables)
    models, rows = ", ".join(rows[0].subject.name for rows in shown), ", ".join(row.name for row in shown[0])
    text = f"From top to bottom: {models}; from left to right: {rows} ({shown[0][0].protocol.title}). Each: start with "
    text += "handles (red) and targets (blue), result with the targets, and the picture that gave the targets, of "
    text += "which nothing else is asked; best, median, worst case."
    return textwrap.wrap(text, 118)


def pictures(tables: list[tuple[str, str, list[Row]]], path: Path) -> None:
    """A .jpg of best, median and worst cases: a model's rows beside, models below each other."""
    lines = []
    for rows in _shown(tables):
        shared = set.intersection(*(set(row.cases) for row in rows))
        strips = [report.strip(row.over(shared), side=128) for row in rows]
        lines.append(joined([strip for strip in strips if strip is not None], columns=len(rows), gap=12))
    if not lines:
        return
    width = min(line.shape[1] for line in lines)
    buffer = io.BytesIO()
    sheet = Image.fromarray(joined([line[:, :width] for line in lines], columns=1, gap=12))
    sheet.save(buffer, "JPEG", quality=82, comment=b"AI-generated images, made with DragGAN")
    path.write_bytes(buffer.getvalue())
