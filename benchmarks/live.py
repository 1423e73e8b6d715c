"""Pulling the picture by hand: pictures a second, and how far the picture lags behind the pointer.

``python app.py`` in a process of its own; a headless Chromium takes hold of the handles of the fixed drags of
`benchmarks.drags` on the built-in cat with the tool Live and moves at an even speed to the target. For every picture
that the browser has drawn: how long ago the pointer was where the content is now. The processor time of the application
for each picture (steps, rendering, encoding, sending) hardly depends on what else is running.

Every pull is done with each tracker, by turns in one process (`benchmarks.live_app`), so that both share whatever else
the machine does. A picture that rests where the model can go no farther is behind for ever: figures of the lag are of
pictures that followed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.browser import Visit, chromium, visit
from benchmarks.drags import SIZE, drags
from benchmarks.live_recording import record
from benchmarks.timing import publish, table
from draggan.config import DragConfig, choices

__all__ = ["behind", "main"]

# Notes where the pointer is, and where the content is in every picture as it is drawn; ms, image pixels.
_WATCH = """() => {
    window.pointer = []; window.pictures = [];
    const picture = document.querySelector('.dg-picture'), stage = document.querySelector('.dg-stage');
    document.querySelector('.dg-ink').addEventListener('pointermove', (e) => {
        const r = picture.getBoundingClientRect();
        window.pointer.push([performance.now(), (e.clientX - r.left) * picture.width / r.width - 0.5,
            (e.clientY - r.top) * picture.height / r.height - 0.5]);
    });
    window.watching?.disconnect();
    window.watching = new MutationObserver(() => {
        const at = JSON.parse(stage.dataset.handles || 'null');
        if (at) window.pictures.push([performance.now(), ...at[0]]);
    });
    window.watching.observe(stage, {attributes: true, attributeFilter: ['data-frames']});
}"""


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks live", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--port", type=int, default=7997)
    parser.add_argument("--seconds", type=float, default=2.0, help="that a pull takes (default: %(default)s)")
    parser.add_argument("--browser", default=shutil.which("chromium"), help="path of Chromium (default: %(default)s)")
    parser.add_argument(
        "--trackers",
        nargs="+",
        choices=choices(DragConfig)["tracker"],
        default=["template", "continuity"],
        help="by turns",
    )
    parser.add_argument("--pulls", nargs="+", choices=("mouth", "ear", "nose"), default=["mouth", "ear", "nose"])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--film", type=Path, help="record a pull beyond what the model can do there, and nothing else")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds before the first pull; operators are built")
    args = parser.parse_args(argv)
    here = machine.describe()
    rows: list[list[Any]] = []
    with chromium(args.browser) as browser, visit(browser, args.port, ("-m", "benchmarks.live_app")) as seen:
        time.sleep(args.settle)
        if args.film is not None:
            print(f"{args.film}: {record(seen, args.film) / 1e6:.2f} MB")
            return 0
        seen.page.click("[data-tool=pull]")
        # The first pull of a process prepares what all others use.
        for tracker in args.trackers:
            _choose(seen, tracker)
            _pull(seen, 99, *drags(0)["nose"], args.seconds)
        for seed in range(1 if args.quick else args.seeds):
            for name in args.pulls:
                # The one that comes second finds what the first has prepared: in turns.
                for tracker in args.trackers[:: -1 if len(rows) // len(args.trackers) % 2 else 1]:
                    _choose(seen, tracker)
                    rows.append([tracker, seed, name, *_pull(seen, seed, *drags(seed)[name], args.seconds)])
                    print(rows[-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
    rows.sort(key=lambda row: args.trackers.index(row[0]))
    medians: list[list[Any]] = []
    for tracker in args.trackers:
        mine = [[float(v) for v in row[3:]] for row in rows if row[0] == tracker]
        medians.append([tracker, "", "median", *(f"{v:.0f}" for v in np.nanmedian(mine, 0))])
    columns = [
        *("tracker", "seed", "pull", "pictures a second", "behind, median ms", "behind, 9 in 10 ms"),
        *("first picture after ms", "left at the end px", "processor ms a picture"),
    ]
    text = f"{here.markdown()}\n\n{table(columns, [*medians, *rows])}"
    publish(text, args.out)
    return 0


def _choose(seen: Visit, tracker: str) -> None:
    """For the pulls that follow."""
    assert seen.process.stdin is not None
    seen.process.stdin.write(f"{tracker}\n".encode())
    seen.process.stdin.flush()
    time.sleep(0.2)


def behind(pointer: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """How long ago, for every picture, the pointer was nearest to where its content is.

    Args:
        pointer, pictures: ``[n, 3]`` and ``[m, 3]``: when and where, times rising; the way of the pointer does not
            cross itself.
    """
    when = np.linspace(pointer[0, 0], pointer[-1, 0], 2000)
    way = np.stack([np.interp(when, pointer[:, 0], pointer[:, k]) for k in (1, 2)], 1)
    late = []
    for t, *at in pictures:
        distance = np.linalg.norm(way - np.array(at), axis=1)
        distance[when > t] = np.inf
        # Where several moments are as near, the latest: the pointer may have rested.
        late.append(t - when[len(when) - 1 - int(distance[::-1].argmin())])
    return np.array(late)


def _pull(seen: Visit, seed: int, handle: Sequence[float], target: Sequence[float], seconds: float) -> list[object]:
    """Pictures a second, median and 90th percentile of the delay, delay of the first picture, distance left, work."""
    page = seen.page
    field = page.locator("#dg-seed input")
    field.fill(str(seed))
    field.press("Enter")
    time.sleep(1.5)
    box = page.locator(".dg-picture").bounding_box()

    def move(share: float) -> None:
        x, y = ((1 - share) * a + share * b for a, b in zip(handle, target, strict=True))
        page.mouse.move(box["x"] + (x + 0.5) * box["width"] / SIZE, box["y"] + (y + 0.5) * box["height"] / SIZE)

    move(0)
    page.evaluate(_WATCH)
    move(0.001)
    before = seen.worked()
    page.mouse.down()
    begun = time.perf_counter()
    while (now := (time.perf_counter() - begun) / seconds) < 1:
        move(now)
        time.sleep(0.015)
    move(1)
    moved = page.evaluate("() => [window.pointer, window.pictures]")
    worked = seen.worked() - before
    page.mouse.up()
    status = page.locator("#dg-status")
    for _ in range(600):
        said = status.inner_text()
        if re.search(r"Arrived|% of the way|Click a point|Stopped", said):
            break
        time.sleep(0.05)
    left = re.search(r"([0-9.]+) px away", said)
    pointer, pictures = (np.array(values, float).reshape(-1, 3) for values in moved)
    if len(pictures) < 2:
        return ["0", *["nan"] * 3, left[1] if left else "0", "nan"]
    late = behind(pointer, pictures)
    # The first ones show the start, where the pointer was too.
    moving = late[np.linalg.norm(pictures[:, 1:] - np.array(handle), axis=1) > 1.5]
    duration = (pointer[-1, 0] - pointer[0, 0]) / 1000
    return [
        f"{len(pictures) / duration:.1f}",
        f"{np.median(moving):.0f}" if len(moving) else "nan",
        f"{np.quantile(moving, 0.9):.0f}" if len(moving) else "nan",
        f"{pictures[0, 0] - pointer[0, 0]:.0f}",
        left[1] if left else "0",
        f"{1e3 * worked / len(pictures):.0f}",
    ]
