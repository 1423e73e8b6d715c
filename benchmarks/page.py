"""What a person sees of a drag: steps and pictures a second in the page, and how soon something moves after Start.

``python app.py`` in a process of its own; a headless Chromium clicks handle and target of the fixed drags of
`benchmarks.drags` on the built-in cat and presses Start. A picture counts when the browser has drawn it; it has moved
when its step is the first or later. Once with the published optimiser, which takes many steps, and once with
Gauss-Newton, which takes a few.
"""

from __future__ import annotations

import argparse
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.browser import chromium, visit
from benchmarks.drags import SIZE, drags
from benchmarks.timing import publish, table
from draggan.ui.messages import CHOICES

__all__ = ["main"]

# Notes when Start is pressed, and when which step is drawn.
_WATCH = """() => {
    window.seen = [];
    document.querySelector('#dg-start').onpointerdown = () => { window.pressed = performance.now(); };
    const stage = document.querySelector('#dg-canvas [data-frames]');
    window.watch?.disconnect();
    window.watch = new MutationObserver(() => {
        const at = performance.now() - window.pressed;
        // The words come with the picture, perhaps a moment later.
        setTimeout(() => {
            const step = /(?:Step|after|limit of) (\\d+)/.exec(document.querySelector('#dg-status').innerText);
            window.seen.push([at, step ? +step[1] : -1]);
        }, 20);
    });
    window.watch.observe(stage, {attributes: true, attributeFilter: ['data-frames']});
}"""
_TITLES = CHOICES["solver"]
_ENDED = re.compile(r"[Aa]rrived|the limit|of the way|Stopped|fell apart")


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks page", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--port", type=int, default=7998)
    parser.add_argument("--browser", default=shutil.which("chromium"), help="path of Chromium (default: %(default)s)")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds before the first drag; operators are built")
    parser.add_argument("--solver", choices=[*_TITLES], default="adam")
    args = parser.parse_args(argv)
    here = machine.describe()
    rows: list[list[object]] = []
    with chromium(args.browser) as browser, visit(browser, args.port) as seen:
        time.sleep(args.settle)
        seen.page.click(".dg-expert summary")
        seen.page.get_by_role("radio", name=_TITLES[args.solver]).check()
        seen.page.evaluate("window.scrollTo(0, 0)")
        for seed in range(1 if args.quick else 4):
            # The page shows pictures with truncation; where things are differs by a little, which does not matter here.
            for name, (handle, target) in drags(seed).items():
                rows.append([seed, name, *_drag(seen.page, seed, handle, target)])
                print(rows[-1], flush=True)
    medians = [f"{np.median([float(str(row[k])) for row in rows]):.2f}" for k in range(3, 7)]
    columns = ["seed", "drag", "steps", "seconds", "steps a second", "pictures a second", "first moved picture after s"]
    text = f"{here.markdown()}; {_TITLES[args.solver]}\n\n{table(columns, [*rows, ['median', '', '', *medians]])}"
    publish(text, args.out)
    return 0


def _drag(page: Any, seed: int, handle: Sequence[float], target: Sequence[float]) -> list[object]:
    """Steps, seconds, steps a second, pictures a second, and seconds to the first picture that has moved."""
    field = page.locator("#dg-seed input")
    field.fill(str(seed))
    field.press("Enter")
    time.sleep(1.5)
    box = page.locator(".dg-picture").bounding_box()
    for x, y in (handle, target):
        page.mouse.click(box["x"] + (x + 0.5) * box["width"] / SIZE, box["y"] + (y + 0.5) * box["height"] / SIZE)
        time.sleep(0.7)
    page.evaluate(_WATCH)
    page.click("#dg-start")
    status = page.locator("#dg-status")
    for _ in range(1200):
        # Until the first picture has come, the words are still those of the drag before.
        if page.evaluate("window.seen.some(([, step]) => step > 0)") and _ENDED.search(status.inner_text()):
            break
        time.sleep(0.05)
    time.sleep(0.2)
    found = page.evaluate("window.seen")
    moved = [(at, step) for at, step in found if step > 0]
    first, (end, step) = moved[0][0], moved[-1]
    page.locator("#dg-clear-points").click()
    time.sleep(0.3)
    return [step, f"{end / 1e3:.1f}", f"{1e3 * step / end:.1f}", f"{1e3 * len(found) / end:.1f}", f"{first / 1e3:.2f}"]
