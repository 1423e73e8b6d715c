"""From the command to the first picture, and what opening the page weighs.

``python app.py`` in a process of its own, watched by a headless browser; then the page once more, in a browser without
anything in its cache. With --before, another tree of the project by turns.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.browser import READY, ROOT, chromium, visit
from benchmarks.timing import publish, table

__all__ = ["main"]


@dataclass(frozen=True, kw_only=True)
class _Opening:
    """Of a page that a running program shows for the first time to a browser: seconds until its picture is there,
    requests and kilobytes until then, and requests to other machines."""

    shown: float
    requests: int
    kilobytes: float
    outside: int


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks start", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one start")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--port", type=int, default=7999)
    parser.add_argument("--browser", default=shutil.which("chromium"), help="path of Chromium (default: %(default)s)")
    parser.add_argument("--before", type=Path, help="another tree of the project")
    args = parser.parse_args(argv)
    here = machine.describe()
    trees = {"now": ROOT} if args.before is None else {"before": args.before.resolve(), "now": ROOT}
    rows: dict[str, list[list[float]]] = {name: [] for name in trees}
    with chromium(args.browser) as browser:
        for _ in range(1 if args.quick else 5):
            for name, tree in trees.items():
                with visit(browser, args.port, tree=tree) as seen:
                    time.sleep(3)  # the first drag is prepared
                    opened = _open(browser, args.port)
                    rows[name].append(
                        [seen.answered, seen.shown, opened.shown, opened.requests, opened.kilobytes, opened.outside]
                    )
                print(name, rows[name][-1], flush=True)
    columns = ["", "page answers s", "picture is shown s", "opened again s", "requests", "kB", "to others"]
    medians = [[name, *(f"{value:.4g}" for value in np.median(found, axis=0))] for name, found in rows.items()]
    lines = [
        "# From the command to the first picture",
        "",
        "`python -m benchmarks start`: `python app.py` with the built-in models, everything installed, files in the",
        "system's cache. Seconds from starting the process; then the page once more in a browser with nothing in its",
        "cache: seconds from its address to the picture, requests, kilobytes as they come, requests to other machines.",
        "Medians of so many starts, where there are two trees by turns: " + str(len(next(iter(rows.values())))) + ".",
        "",
        f"{here.markdown()}.",
        "",
        table(columns, medians),
    ]
    publish("\n".join(lines) + "\n", args.out)
    return 0


def _open(browser: Any, port: int) -> _Opening:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    sizes: list[float] = []
    network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    begun = time.perf_counter()
    page.goto(f"http://127.0.0.1:{port}", wait_until="commit")
    page.get_by_text(READY).first.wait_for(timeout=120_000)
    shown = time.perf_counter() - begun
    there = [url for url in asked if not url.startswith(("data:", "blob:"))]
    outside = sum(not url.startswith(f"http://127.0.0.1:{port}") for url in there)
    context.close()
    return _Opening(shown=shown, requests=len(there), kilobytes=sum(sizes) / 1e3, outside=outside)
