"""Records the page while a hand pulls a picture farther than the model can follow: the film of README
and of the page's help.

Every frame is a screenshot of the real page: the pointer goes to a place, the picture follows until it rests, then the
next one. So it shows what happens, not how fast: `python -m benchmarks live` measures that.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from benchmarks.browser import Visit
from draggan.provenance.metadata import xmp_packet

if TYPE_CHECKING:
    from playwright.sync_api import FloatRect, Page

__all__ = ["record"]

SIZE = 256
"""Pixels of the cat's pictures."""
WIDTH = 380
"""Of the film, pixels."""
FRAME, REST = 360, 2200
"""Milliseconds that a frame is shown, and the last of a stretch."""

# A seed of the built-in cat, the nose, and where it is pulled: there, far beyond, back, and let go.
SEED, HANDLE = 39, (154.0, 158.0)
WAY = ((100.0, 162.0), (12.0, 184.0), (154.0, 158.0))

# Nothing has changed on the canvas for so long: the picture rests.
_QUIET, _LONGEST = 0.5, 4.0


def record(seen: Visit, path: Path) -> int:
    """Pull, and write the film, an animated WebP; returns its size in bytes."""
    page: Page = seen.page
    field = page.locator("#dg-seed input")
    field.fill(str(SEED))
    field.press("Enter")
    time.sleep(3)
    page.click("[data-tool=pull]")
    frames: list[Image.Image] = []
    durations: list[int] = []

    def move(xy: Sequence[float]) -> None:
        box = _box(page, ".dg-picture")
        page.mouse.move(box["x"] + (xy[0] + 0.5) * box["width"] / SIZE, box["y"] + (xy[1] + 0.5) * box["height"] / SIZE)
        _rest(page)

    clips = _clips(page)

    def shoot(duration: int = FRAME) -> None:
        parts = [Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB") for clip in clips]
        shot = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), "white")
        for part, top in zip(parts, (0, parts[0].height), strict=True):
            shot.paste(part, (0, top))
        frames.append(shot.resize((WIDTH, round(shot.height * WIDTH / shot.width)), Image.Resampling.LANCZOS))
        durations.append(duration)

    move(HANDLE)
    shoot(REST)
    page.mouse.down()
    time.sleep(1)
    _rest(page)
    begin = HANDLE
    for end in WAY:
        for place in _between(begin, end):
            move(place)
            shoot()
        durations[-1] = REST
        begin = end
    page.mouse.up()
    page.wait_for_function("!document.querySelector('.dg-stage').classList.contains('dg-busy')", timeout=60_000)
    time.sleep(0.5)
    shoot(REST)
    # A GIF of it is four times as large.
    marks = xmp_packet("trainedAlgorithmicMedia").encode()
    frames[0].save(
        path,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=0,
        quality=75,
        method=6,
        xmp=marks,
    )
    return path.stat().st_size


def _between(a: Sequence[float], b: Sequence[float], step: float = 12.0) -> Iterator[tuple[float, float]]:
    count = max(round(sum((q - p) ** 2 for p, q in zip(a, b, strict=True)) ** 0.5 / step), 1)
    for k in range(1, count + 1):
        yield a[0] + (b[0] - a[0]) * k / count, a[1] + (b[1] - a[1]) * k / count


def _rest(page: Page) -> None:
    """Wait until the canvas has shown nothing new for a moment."""
    ended = time.monotonic() + _LONGEST
    last, since = None, time.monotonic()
    while time.monotonic() < ended and time.monotonic() - since < _QUIET:
        now = page.evaluate("document.querySelector('.dg-stage').dataset.frames")
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.05)


def _box(page: Page, name: str) -> FloatRect:
    """Where something stands that the page shows."""
    box = page.locator(name).bounding_box()
    assert box is not None
    return box


def _clips(page: Page) -> list[FloatRect]:
    """The picture with a narrow margin, and the first two lines of what is said below it."""
    picture, said = _box(page, ".dg-picture"), _box(page, "#dg-status .dg-status")
    around = 10
    left, width = picture["x"] - around, picture["width"] + 2 * around
    return [
        {"x": left, "y": picture["y"] - around, "width": width, "height": picture["height"] + 2 * around},
        {"x": left, "y": said["y"], "width": width, "height": min(said["height"], 52)},
    ]
