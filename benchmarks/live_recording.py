"""Records the page while a hand pulls a picture farther than the model can follow: the GIF of README.

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

__all__ = ["record"]

SIZE = 256
"""Pixels of the cat's pictures."""
WIDTH = 380
"""Of the GIF, pixels."""
FRAME, REST = 260, 1600
"""Milliseconds that a frame is shown, and the last of a stretch."""
COMMENT = b"AI-generated images, made with DragGAN"

# A seed of the built-in cat, the nose, and where it is pulled: there, far beyond, back, and let go.
SEED, HANDLE = 39, (154.0, 158.0)
WAY = ((100.0, 162.0), (12.0, 184.0), (154.0, 158.0))

# Nothing has changed on the canvas for so long: the picture rests.
_QUIET, _LONGEST = 0.5, 4.0


def record(seen: Visit, path: Path) -> int:
    """Pull, and write the GIF; returns its size in bytes."""
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

    clip = _clip(page)

    def shoot(duration: int = FRAME) -> None:
        shot = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
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
    # Colours of their own for each: dots and line are few pixels, which a palette for all would lose.
    plain = [frame.quantize(200, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE) for frame in frames]
    plain[0].save(
        path, save_all=True, append_images=plain[1:], duration=durations, loop=0, optimize=True, comment=COMMENT
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


def _clip(page: object) -> dict[str, float]:
    """The picture with its margin, and below it the status line, which has two lines of text at first."""
    boxes = [page.locator(name).bounding_box() for name in (".dg-ink", "#dg-status")]  # type: ignore[attr-defined]
    left, top = boxes[0]["x"], boxes[0]["y"]
    return {"x": left, "y": top, "width": boxes[0]["width"], "height": max(b["y"] + b["height"] for b in boxes) - top}
