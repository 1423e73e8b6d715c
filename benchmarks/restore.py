"""Work that comes back: a page is killed in a drag and started again, with its browser tab open; and reloaded.

    python -m benchmarks restore [--quick] [--out FILE]

``python app.py`` in a process of its own, Chromium with one tab: a drag, and a long one that is under way when the
process gets SIGKILL. Seconds from the first answer of the new process until the tab shows the picture, the points and
the steps to undo, without anybody touching it; then the same for a tab in which nothing is going on, and for a reload.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.browser import chromium
from benchmarks.timing import publish, table
from benchmarks.visitors import Visitor, serving

__all__ = ["main"]

_BACK = re.compile(r"^Your work is back: the picture(?:, 1 point)? and (\d+) steps? to undo\.$")
_PIXELS = """() => {
    const c = document.querySelector('.dg-picture');
    return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].join();
}"""
_KEPT = """() => new Promise((good) => {
    const request = indexedDB.open(`draggan ${location.pathname}`);
    request.onsuccess = () => {
        const all = request.result.transaction('works').objectStore('works').getAll();
        all.onsuccess = () => { request.result.close(); good(all.result.map((work) => work.outline).join()); };
    };
})"""


class Tab:
    """A browser tab that shows the page.

    Args:
        page: Playwright's.
    """

    def __init__(self, page: Any) -> None:
        self.page = page

    def says(self, pattern: str) -> str:
        """Wait until the status line says that."""
        line = self.page.locator(".dg-status")
        deadline = time.monotonic() + 120
        while True:
            said = line.inner_text() if line.count() else ""
            if re.search(pattern, said):
                return said
            if time.monotonic() > deadline:
                raise TimeoutError(f"the page says {said!r}, not {pattern!r}")
            time.sleep(0.02)

    def pull(self, begin: tuple[int, int], end: tuple[int, int]) -> None:
        """A handle and its target, in pixels of the picture."""
        # What was set in the panel below may have moved the picture out of sight.
        self.page.evaluate("scrollTo(0, 0)")
        box = self.page.locator(".dg-stage canvas").first.bounding_box()
        scale = box["width"] / 256
        for act, (x, y) in ((self.page.mouse.down, begin), (self.page.mouse.up, end)):
            self.page.mouse.move(box["x"] + (x + 0.5) * scale, box["y"] + (y + 0.5) * scale, steps=3)
            act()

    def kept(self) -> str:
        """What the browser has kept by now."""
        return self.page.evaluate(_KEPT)

    def drag(self) -> None:
        """A drag, to its end, and kept."""
        before = self.kept()
        self.pull((128, 128), (140, 124))
        self.says("^1 point")
        self.page.click("#dg-start")
        self.says("^(Arrived|As far|What was|Further|The point|Stopped)")
        while self.kept() == before:
            time.sleep(0.05)
        time.sleep(1)

    def begin_long(self) -> None:
        """A drag that goes on for long, and some of which is kept."""
        self.page.click(".dg-expert summary")
        # The other solver would be at the end of its way at once.
        self.page.locator('#dg-solver input[value="adam"]').check()
        # Slow enough to be killed in, and fast enough not to count as stalled.
        self.page.fill("#dg-step-size input", "0.0005")
        self.page.fill("#dg-max-steps input", "10000")
        self.page.locator("#dg-max-steps input").blur()
        self.page.click("#dg-clear-points")
        self.says("^Click a point")
        self.pull((140, 124), (220, 40))
        self.says("^1 point")
        self.page.click("#dg-start")
        self.says(r"^Step \d+")
        before = self.kept()
        deadline = time.monotonic() + 8
        while self.kept() == before and time.monotonic() < deadline:
            time.sleep(0.05)

    def waited(self, began: Callable[[], float]) -> tuple[float, int]:
        """Seconds until the work is back, and steps to undo."""
        started = began()
        said = self.says(_BACK.pattern)
        seconds = time.monotonic() - started
        found = _BACK.match(said)
        assert found is not None
        return seconds, int(found[1])


def _round(browser: Any, port: int) -> dict[str, tuple[float, int]]:
    found: dict[str, tuple[float, int]] = {}
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(120_000)
    tab = Tab(page)
    with serving(port=port) as first:
        page.goto(f"http://127.0.0.1:{port}")
        tab.says("^Click a point")
        tab.drag()
        picture = page.evaluate(_PIXELS)
        tab.begin_long()
        first.kill()
        first.wait()
    with serving(port=port) as second:
        found["killed in a drag"] = tab.waited(time.monotonic)
        page.reload()
        found["reload"] = tab.waited(time.monotonic)
        before = tab.kept()
        page.click("#dg-undo")
        # And no longer that the work is back; without points where nothing of the drag had been kept yet.
        tab.says("^(1 point|Click a point)")
        while tab.kept() == before:
            time.sleep(0.05)
        time.sleep(3)
        second.kill()
        second.wait()
    with serving(port=port):
        found["killed with an idle tab"] = tab.waited(time.monotonic)
        # The first drag's point and its end stay.
        for _ in range(found["killed with an idle tab"][1] - 2):
            page.click("#dg-undo")
            time.sleep(1)
        same = page.evaluate(_PIXELS) == picture
        if not same:
            raise AssertionError("undo does not lead back to the picture that there was before the process was killed")
        Visitor(port, "127.0.0.1").request("GET", "/config").read()
    context.close()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; the table goes to standard output, and into a file with ``--out``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks restore", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--port", type=int, default=7994)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--browser", default=shutil.which("chromium"), help="path of Chromium (default: %(default)s)")
    options = parser.parse_args(argv)
    here = machine.describe()
    with chromium(options.browser) as browser:
        rounds = [_round(browser, options.port) for _ in range(1 if options.quick else options.rounds)]
    rows: list[list[object]] = []
    for what in rounds[0]:
        seconds = [found[what][0] for found in rounds]
        steps = " ".join(str(found[what][1]) for found in rounds)
        rows.append([what, len(seconds), f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}", steps])
    lines = [
        "# Work that comes back",
        "",
        "`python -m benchmarks restore`: seconds from the first answer of the new process (or from the reload) until",
        "the tab that was open all the time shows its picture, its point and its steps to undo. Nobody touches it. The",
        "goal is 5 s. Undo then leads back to the picture of before, to the last pixel.",
        "",
        f"{here.markdown()}.",
        "",
        table(["", "times", "median s", "max s", "steps to undo"], rows),
    ]
    publish("\n".join(lines), options.out)
    return 0
