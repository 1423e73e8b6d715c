"""From the command to the first picture: ``python app.py`` in a process of its own, watched by a headless browser."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.browser import chromium, visit
from benchmarks.timing import publish

__all__ = ["main"]


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks start", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one start")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--port", type=int, default=7999)
    parser.add_argument("--browser", default=shutil.which("chromium"), help="path of Chromium (default: %(default)s)")
    args = parser.parse_args(argv)
    here = machine.describe()
    rows = []
    with chromium(args.browser) as browser:
        for _ in range(1 if args.quick else 5):
            with visit(browser, args.port) as seen:
                rows.append((seen.answered, seen.shown, seen.resident()))
    lines = [
        "# From the command to the first picture",
        "",
        "`python -m benchmarks start`: `python app.py` with the built-in models, everything installed, files in the",
        "system's cache. Seconds from starting the process; memory is the resident size of the process at that moment.",
        "",
        f"{here.markdown()}.",
        "",
        "| start | page answers s | picture is shown s | memory MB |",
        "|---|---|---|---|",
        *(f"| {i} | {page:.1f} | {picture:.1f} | {memory:.0f} |" for i, (page, picture, memory) in enumerate(rows, 1)),
    ]
    text = "\n".join(lines) + "\n"
    publish(text, args.out)
    return 0
