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

from PIL import Image

from benchmarks.browser import Visit
from draggan.provenance.metadata import xmp_packet

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
    page = seen.page
    field = page.locator("#dg-seed input")
    field.fill(str(SEED))
    field.press("Enter")
    time.sleep(3)
    page.click("[data-tool=pull]")
    frames: list[Image.Image] = []
    durations: list[int] = []

    def move(xy: Sequence[float]) -> None:
        box = page.locator(".dg-picture").bounding_box()
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


def _rest(page: object) -> None:
    """Wait until the canvas has shown nothing new for a moment."""
    ended = time.monotonic() + _LONGEST
    last, since = None, time.monotonic()
    while time.monotonic() < ended and time.monotonic() - since < _QUIET:
        now = page.evaluate("document.querySelector('.dg-stage').dataset.frames")  # type: ignore[attr-defined]
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.05)


def _clips(page: object) -> list[dict[str, float]]:
    """The picture with a narrow margin, and the first two lines of what is said below it."""
    picture, said = (page.locator(name).bounding_box() for name in (".dg-picture", "#dg-status .dg-status"))  # type: ignore[attr-defined]
    around = 10
    across = {"x": picture["x"] - around, "width": picture["width"] + 2 * around}
    return [
        across | {"y": picture["y"] - around, "height": picture["height"] + 2 * around},
        across | {"y": said["y"], "height": min(said["height"], 52)},
    ]
