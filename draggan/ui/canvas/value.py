"""What the canvas shows, as a plain value: points and mask to the page, and what a person made of them back.

What comes back is read by the recipe's readers; anybody can send it, so nothing about it is taken on trust.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool
from PIL import Image

from draggan.errors import MaskError, PointError
from draggan.images import read_mask
from draggan.recipe import Xy, read_numbers, read_point, read_points
from draggan.session import Session

__all__ = [
    "EMPTY",
    "CanvasValue",
    "Pull",
    "canvas_value",
    "is_outdated",
    "read_canvas",
    "read_frame",
    "read_mask_url",
    "read_place",
    "read_pull",
    "with_canvas",
]

CanvasValue: TypeAlias = dict[str, Any]

EMPTY: CanvasValue = {"points": [], "off": [], "pending": None, "mask": None}
_DATA_URL = "data:image/png;base64,"


def canvas_value(session: Session) -> CanvasValue:
    """A session's points and mask as the canvas takes them."""
    return {
        "points": [[*pair.handle, *pair.target] for pair in session.pairs],
        "off": sorted(session.off),
        "pending": None if session.pending is None else list(session.pending),
        "mask": None if session.mask is None else _mask_url(session.mask),
        "arrived": [[*handle, *target] for handle, target in session.arrived],
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
    pairs, off, pending, mask = read_canvas(value, session.image_size)
    return session.with_points(pairs, pending, off).set_mask(mask)


def is_outdated(session: Session, value: CanvasValue | None) -> bool:
    """Whether the page has been given points and mask since it was given those that this value began with."""
    revision = value.get("revision") if isinstance(value, dict) else None
    return isinstance(revision, int) and revision != session.revision


def read_canvas(
    value: CanvasValue | None, image_size: tuple[int, int]
) -> tuple[list[tuple[Xy, Xy]], frozenset[int], Xy | None, Bool[np.ndarray, "height width"] | None]:
    """Pairs, those that are switched off, waiting handle and mask of a canvas value."""
    value = EMPTY if value is None else value
    if not isinstance(value, dict):
        raise PointError('a canvas value looks like {"points": [[handle x, handle y, target x, target y], ...]}')
    pairs = [(point.handle, point.target) for point in read_points(value.get("points", []), image_size)]
    off = read_numbers("switched-off points", value.get("off", []), len(pairs))
    pending, mask = value.get("pending"), value.get("mask")
    waiting = None if pending is None else read_point("the waiting handle", pending, image_size)
    return pairs, off, waiting, None if mask is None else read_mask_url(mask, image_size)


def read_mask_url(url: Any, image_size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """A mask that came over the network: a PNG data URL, and nothing else, such as a path on this machine."""
    if not isinstance(url, str) or not url.startswith(_DATA_URL):
        height, width = image_size
        raise MaskError(f"the mask is not a PNG data URL of {width} x {height} pixels; paint it again")
    return read_mask(url, image_size)


@dataclass(frozen=True, kw_only=True)
class Pull:
    """How a live drag begins.

    Attributes:
        key: by which the page steers it.
        at: where the pointer took hold, image pixels.
        pair: number of the pair whose dot it took, from 0; None: it took the picture itself.
    """

    key: str
    at: Xy
    pair: int | None = None


def read_pull(value: CanvasValue | None, image_size: tuple[int, int], pairs: int) -> Pull:
    """``{"pull": {"key": ..., "at": [x, y], "pair": number or null}}``.

    Args:
        pairs: how many there are.

    Raises:
        PointError: what came is not what a canvas sends, or does not fit the picture.
    """
    pull = value.get("pull") if isinstance(value, dict) else None
    pull = pull if isinstance(pull, dict) else {}
    key, pair = pull.get("key"), pull.get("pair")
    if not isinstance(key, str) or not 16 <= len(key) <= 64:
        raise PointError('a pull looks like {"pull": {"key": "16 to 64 letters", "at": [x, y]}}')
    if pair is not None and (not isinstance(pair, int) or isinstance(pair, bool) or not 0 <= pair < pairs):
        raise PointError(
            f"the pull is at point {str(pair)[:20]} of {pairs}, counted from 0; take hold of a point that is there"
        )
    return Pull(key=key, at=read_point("the point", pull.get("at"), image_size), pair=pair)


def read_frame(value: CanvasValue | None) -> int:
    """``{"frame": number}``: which frame of the drags is to be seen, from 0.

    Raises:
        PointError: what came is not what a canvas sends.
    """
    frame = value.get("frame") if isinstance(value, dict) else None
    if not isinstance(frame, int) or isinstance(frame, bool):
        raise PointError('a frame is asked for as {"frame": number}, counted from 0')
    return frame


def read_place(value: CanvasValue | None) -> int:
    """``{"place": number}``: which picture of the history is gone to.

    Raises:
        PointError: what came is not what a canvas sends.
    """
    place = value.get("place") if isinstance(value, dict) else None
    if not isinstance(place, int) or isinstance(place, bool):
        raise PointError('a picture of the history is gone to as {"place": number}')
    return place


def _mask_url(mask: Bool[np.ndarray, "height width"]) -> str:
    """White where painted, transparent elsewhere."""
    buffer = io.BytesIO()
    alpha = mask.astype(np.uint8) * 255
    Image.fromarray(np.stack([alpha] * 4, -1)).save(buffer, "PNG", compress_level=1)
    return _DATA_URL + base64.b64encode(buffer.getvalue()).decode()
