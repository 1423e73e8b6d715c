"""Which part of a photo a model sees: an upright or turned rectangle, cut out and scaled without aliasing.

Points are ``(x, y)`` in the photo's pixels, integers at pixel centres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from draggan.errors import PhotoError
from draggan.photo import Photo

__all__ = ["Crop", "aligned_face", "box", "centred", "cut", "read_crop"]

Xy = tuple[float, float]

_LARGEST = 4.0  # a crop may be so many times as long as the photo: a face that fills it
_SMALLEST = 8.0  # pixels


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A rectangle on a photo.

    Attributes:
        centre: of the rectangle.
        right, down: from there to the middle of its right and of its lower edge; at right angles to each other.
    """

    centre: Xy
    right: Xy
    down: Xy

    @property
    def corners(self) -> Float[np.ndarray, "4 2"]:
        """Upper left, upper right, lower right, lower left, as seen in the crop."""
        c, r, d = (np.asarray(v, np.float64) for v in (self.centre, self.right, self.down))
        return np.array([c - r - d, c + r - d, c + r + d, c - r + d])

    def to_photo(self, points: Sequence[Sequence[float]], size: tuple[int, int]) -> Float[np.ndarray, "n 2"]:
        """Where points of the crop's picture are on the photo.

        Args:
            size: of the crop's picture, ``(height, width)`` pixels.
        """
        at = np.asarray(points, np.float64).reshape(-1, 2)
        u = (at + 0.5) / (size[1], size[0]) * 2 - 1
        return np.asarray(self.centre) + u[:, :1] * np.asarray(self.right) + u[:, 1:] * np.asarray(self.down)

    def to_crop(self, points: Sequence[Sequence[float]], size: tuple[int, int]) -> Float[np.ndarray, "n 2"]:
        """Where points of the photo are on the crop's picture; the inverse of `to_photo`."""
        at = np.asarray(points, np.float64).reshape(-1, 2) - self.centre
        axes = np.array([self.right, self.down])
        u = at @ axes.T / (axes**2).sum(1)
        return (u + 1) / 2 * (size[1], size[0]) - 0.5

    def values(self) -> list[list[float]]:
        """The JSON form; `read_crop` reads it."""
        return [list(self.centre), list(self.right), list(self.down)]


def read_crop(value: object) -> Crop:
    """A crop in its JSON form, from outside.

    Raises:
        PhotoError: anything else.
    """
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise PhotoError("a crop is given as three pairs of numbers: centre, right and down") from error
    if array.shape != (3, 2) or not np.isfinite(array).all() or np.abs(array).max() > 1e6:
        raise PhotoError("a crop is given as three pairs of numbers: centre, right and down")
    (cx, cy), (rx, ry), (dx, dy) = array.tolist()
    lengths = math.hypot(rx, ry), math.hypot(dx, dy)
    if min(lengths) < _SMALLEST / 2 or abs(rx * dx + ry * dy) > 1e-3 * lengths[0] * lengths[1]:
        raise PhotoError(f"the crop is no rectangle of at least {_SMALLEST:g} x {_SMALLEST:g} pixels; draw it anew")
    return Crop(centre=(cx, cy), right=(rx, ry), down=(dx, dy))


def centred(photo: Photo, size: tuple[int, int]) -> Crop:
    """The largest upright crop of a model's shape, in the middle: a proposal.

    Args:
        size: of the model's picture, ``(height, width)``.
    """
    height, width = photo.size
    scale = min(height / size[0], width / size[1]) / 2
    return Crop(centre=((width - 1) / 2, (height - 1) / 2), right=(size[1] * scale, 0.0), down=(0.0, size[0] * scale))


def box(photo: Photo, first: Xy, second: Xy, size: tuple[int, int]) -> Crop:
    """An upright crop from two opposite corners, in the model's shape: the shorter side is made longer.

    Args:
        size: of the model's picture, ``(height, width)``.

    Raises:
        PhotoError: it is too small, too large, or its middle is outside the photo.
    """
    (x0, y0), (x1, y1) = first, second
    scale = max(abs(x1 - x0) / size[1], abs(y1 - y0) / size[0]) / 2
    crop = Crop(centre=((x0 + x1) / 2, (y0 + y1) / 2), right=(size[1] * scale, 0.0), down=(0.0, size[0] * scale))
    return _checked(photo, crop)


def aligned_face(photo: Photo, eye: Xy, other_eye: Xy, mouth: Xy) -> Crop:
    """A turned square as FFHQ crops faces, from three clicks.

    Karras et al., "Progressive Growing of GANs" (2018), appendix C: with ``x' = e1 - e0``, ``y' = (e0 + e1) / 2 - m``
    (m: the middle of the mouth), the centre is ``(e0 + e1) / 2 - 0.1 y'``, the side ``max(4 |x'|, 3.6 |y'|)``, and the
    x axis has the direction of ``x' - rotate90(y')``.

    Args:
        eye, other_eye: the middle of each, in any order.
        mouth: the middle between its corners.

    Raises:
        PhotoError: the three points are no face, or the face is too small or outside the photo.
    """
    eyes = sorted((np.asarray(eye, np.float64), np.asarray(other_eye, np.float64)), key=lambda p: float(p[0]))
    across, middle = eyes[1] - eyes[0], (eyes[0] + eyes[1]) / 2
    up = middle - np.asarray(mouth, np.float64)
    if across[0] * up[1] - across[1] * up[0] > 0:
        # The mouth is above: a head upside down, whose left eye is right in the photo.
        across = -across
    turned = across + np.array([-up[1], up[0]])
    if not np.hypot(*across) or not np.hypot(*up) or not np.hypot(*turned):
        raise PhotoError("these three points are no face; click one eye, the other eye, then the middle of the mouth")
    side = max(4.0 * np.hypot(*across), 3.6 * np.hypot(*up))
    right = turned / np.hypot(*turned) * side / 2
    x, y = (middle - 0.1 * up).tolist()
    rx, ry = right.tolist()
    return _checked(photo, Crop(centre=(x, y), right=(rx, ry), down=(-ry, rx)))


def cut(photo: Photo, crop: Crop, size: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    """The picture in a crop, scaled to a model's size. Beyond the photo it is mirrored.

    Args:
        size: ``(height, width)`` pixels.

    Raises:
        PhotoError: as for `box`.
    """
    _checked(photo, crop)
    height, width = size
    # How many of the photo's pixels make one of the picture: most of that by averaging whole ones, the rest by samples.
    scale = max(2 * math.hypot(*crop.right) / width, 2 * math.hypot(*crop.down) / height)
    reduced = max(1, int(scale / 2))
    pixels = np.asarray(Image.fromarray(photo.pixels).reduce(reduced)) if reduced > 1 else photo.pixels
    samples = math.ceil(scale / reduced)
    fine = (height * samples, width * samples)
    # Measured from the photo's corner, as Pillow does, not from the middle of its first pixel.
    corners = (crop.corners + 0.5) / reduced
    low, high = np.floor(corners.min(0)).astype(int) - 2, np.ceil(corners.max(0)).astype(int) + 3
    image = Image.fromarray(_mirrored(pixels, low.tolist(), high.tolist()))
    origin = corners[0] - low
    x, y = (corners[1] - corners[0]) / fine[1], (corners[3] - corners[0]) / fine[0]
    affine = (x[0], y[0], origin[0], x[1], y[1], origin[1])
    sampled = image.transform((fine[1], fine[0]), Image.Transform.AFFINE, affine, resample=Image.Resampling.BICUBIC)
    return np.array(sampled.reduce(samples) if samples > 1 else sampled)


def _checked(photo: Photo, crop: Crop) -> Crop:
    crop = read_crop(crop.values())
    height, width = photo.size
    (x, y), longest = crop.centre, 2 * max(math.hypot(*crop.right), math.hypot(*crop.down))
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
        raise PhotoError("the middle of the crop is outside the photo; move it")
    if longest > _LARGEST * max(height, width):
        raise PhotoError("the crop is far larger than the photo; draw it smaller")
    return crop


def _mirrored(pixels: np.ndarray, low: list[int], high: list[int]) -> np.ndarray:
    """The rectangle from ``low`` to before ``high``, ``(x, y)``; outside the picture it is mirrored."""

    def inside(begin: int, end: int, length: int) -> np.ndarray:
        at = np.arange(begin, end) % (2 * length)
        return np.where(at < length, at, 2 * length - 1 - at)

    columns = inside(low[0], high[0], pixels.shape[1])
    rows = inside(low[1], high[1], pixels.shape[0])
    return pixels[rows[:, None], columns[None]]
