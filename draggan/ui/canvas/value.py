"""What the canvas shows, as a plain value: points and mask to the page, and what a person made of them back."""

from __future__ import annotations

import base64
import binascii
import io
import math
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool
from PIL import Image, UnidentifiedImageError

from draggan.errors import MaskError, PointError
from draggan.recipe import Xy
from draggan.session import Session

__all__ = ["EMPTY", "CanvasValue", "canvas_value", "is_outdated", "read_canvas", "read_pull", "with_canvas"]

CanvasValue: TypeAlias = dict[str, Any]

EMPTY: CanvasValue = {"points": [], "pending": None, "mask": None}
_MASK_PREFIX = "data:image/png;base64,"
_MOST_POINTS = 500


def canvas_value(session: Session) -> CanvasValue:
    """A session's points and mask as the canvas takes them."""
    return {
        "points": [[*pair.handle, *pair.target] for pair in session.pairs],
        "pending": None if session.pending is None else list(session.pending),
        "mask": None if session.mask is None else _mask_url(session.mask),
        "revision": session.revision,
    }


def with_canvas(session: Session, value: CanvasValue | None) -> Session:
    """The session with the points and the mask that the canvas shows.

    Two clicks on Undo may come before the page has heard of the first: what was drawn on an older revision is gone
    already, or will be when the page has heard, and changes nothing. A value that names no revision counts as of now.

    Raises:
        PointError, MaskError: what came is not what a canvas sends, or does not fit the picture.
    """
    if is_outdated(session, value):
        return session
    pairs, pending, mask = read_canvas(value, session.image_size)
    return session.with_points(pairs, pending).set_mask(mask)


def is_outdated(session: Session, value: CanvasValue | None) -> bool:
    """Whether the page has been given points and mask since it was given those that this value began with."""
    revision = value.get("revision") if isinstance(value, dict) else None
    return isinstance(revision, int) and revision != session.revision


def read_canvas(
    value: CanvasValue | None, image_size: tuple[int, int]
) -> tuple[list[tuple[Xy, Xy]], Xy | None, Bool[np.ndarray, "height width"] | None]:
    """Pairs, waiting handle and mask of a canvas value. Anyone can send one, so nothing about it is taken on trust."""
    value = EMPTY if value is None else value
    if not isinstance(value, dict) or not isinstance(value.get("points", []), list):
        raise PointError('a canvas value looks like {"points": [[handle x, handle y, target x, target y], ...]}')
    points = value.get("points", [])
    if len(points) > _MOST_POINTS:
        raise PointError(f"{len(points)} points are too many; give at most {_MOST_POINTS}")
    pairs: list[tuple[Xy, Xy]] = []
    for point in points:
        hx, hy, tx, ty = _numbers(point, 4)
        pairs.append(((hx, hy), (tx, ty)))
    pending: Xy | None = None
    if value.get("pending") is not None:
        x, y = _numbers(value["pending"], 2)
        pending = (x, y)
    mask = value.get("mask")
    return pairs, pending, None if mask is None else _read_mask(mask, image_size)


def read_pull(value: CanvasValue | None) -> tuple[str, Xy]:
    """The key of a pull, and where it took hold of the picture: ``{"pull": {"key": ..., "at": [x, y]}}``."""
    pull = value.get("pull") if isinstance(value, dict) else None
    pull = pull if isinstance(pull, dict) else {}
    key = pull.get("key")
    if not isinstance(key, str) or not 16 <= len(key) <= 64:
        raise PointError('a pull looks like {"pull": {"key": "16 to 64 letters", "at": [x, y]}}')
    x, y = _numbers(pull.get("at"), 2)
    return key, (x, y)


def _numbers(values: Any, count: int) -> list[float]:
    good = isinstance(values, (list, tuple)) and len(values) == count
    if not good or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
        raise PointError(f"{values!r:.80} is not {count} numbers; points are given in image pixels")
    return [float(v) for v in values]


def _mask_url(mask: Bool[np.ndarray, "height width"]) -> str:
    """White where painted, transparent elsewhere."""
    buffer = io.BytesIO()
    alpha = mask.astype(np.uint8) * 255
    Image.fromarray(np.stack([alpha] * 4, -1)).save(buffer, "PNG", compress_level=1)
    return _MASK_PREFIX + base64.b64encode(buffer.getvalue()).decode()


def _read_mask(url: Any, image_size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    height, width = image_size
    # A PNG of noise is no larger than its pixels and a little; anything longer is not one of this size.
    if not isinstance(url, str) or not url.startswith(_MASK_PREFIX) or len(url) > 6 * height * width + 4096:
        raise MaskError(f"the mask is not a PNG data URL of {width} x {height} pixels; paint it again")
    try:
        raw = base64.b64decode(url[len(_MASK_PREFIX) :], validate=True)
        with Image.open(io.BytesIO(raw), formats=["PNG"]) as picture:
            if picture.size != (width, height):
                raise MaskError(
                    f"the mask is {picture.size[0]} x {picture.size[1]} pixels; it must be {width} x {height} "
                    "like the picture"
                )
            alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    except (binascii.Error, OSError, UnidentifiedImageError, SyntaxError, ValueError) as e:
        raise MaskError(f"the mask cannot be read as a picture ({e}); paint it again") from e
    return alpha > 127
