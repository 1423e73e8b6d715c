"""Pictures as arrays of bytes, and masks. Needs no PyTorch: what leaves as a file, and what is checked, does not."""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from draggan.errors import MaskError

__all__ = ["draw_points", "enlarged", "over_white", "read_mask", "with_caption"]

_DATA_URL = "data:image/png;base64,"
_AT_ONCE = 1 << 20  # pixels that are computed with at a time
HANDLE_COLOUR, TARGET_COLOUR = (229, 57, 53), (30, 136, 229)


def over_white(pixels: UInt8[np.ndarray, "height width channels"]) -> UInt8[np.ndarray, "height width 3"]:
    """A picture without transparency, for formats that have none: what is transparent shows white."""
    if pixels.shape[2] == 3:
        return pixels
    over = np.empty((*pixels.shape[:2], 3), np.uint8)
    # A few rows at a time: in between, a picture takes many times its size.
    rows = max(1, _AT_ONCE // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        part = pixels[top : top + rows]
        opacity = part[..., 3:].astype(np.uint16)
        # Rounded to the nearest: (a * x + (255 - a) * 255) / 255.
        over[top : top + rows] = (part[..., :3] * opacity + (255 - opacity) * 255 + 127) // 255
    return over


def read_mask(source: str | Path, size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """A mask from a picture file, or from a PNG data URL as a canvas sends it.

    White (brighter than half) may change; in a picture of zeros and ones, as programs write them, one is white. In a
    picture with transparency, what is opaque may change.

    Args:
        size: of the model's picture, ``(height, width)``.

    Raises:
        MaskError: not a picture, or of another size.
    """
    height, width = size
    name = f"the mask {source}"
    content: str | Path | io.BytesIO = source
    if isinstance(source, str) and source.startswith("data:"):
        name, content = "the mask", _decoded(source, size)
    try:
        with Image.open(content, formats=None if content is source else ["PNG"]) as picture:
            if picture.size != (width, height):
                raise MaskError(
                    f"{name} is {picture.size[0]} x {picture.size[1]} pixels; it must be {width} x {height} "
                    "like the picture"
                )
            opaque = np.asarray(picture.convert("RGBA").getchannel("A"))
            if opaque.min() < 255:
                return _is_white(opaque, 255)
            if picture.mode.startswith("I;16"):
                # Pillow would cut 16 bits off at 255 instead of scaling them.
                return _is_white(np.asarray(picture), 65535)
            return _is_white(np.asarray(picture.convert("L")), 255)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        # Pillow's own words for one that it cannot identify name an object of ours.
        why = "" if isinstance(e, UnidentifiedImageError) else f" ({e})"
        raise MaskError(f"{name} cannot be read as a picture{why}; give a PNG of the model's size") from e


def _is_white(values: np.ndarray, white: int) -> Bool[np.ndarray, "height width"]:
    return values > (white // 2 if values.max() > 1 else 0)


def _decoded(url: str, size: tuple[int, int]) -> io.BytesIO:
    """The bytes in a PNG data URL."""
    height, width = size
    # A PNG of noise is no larger than its pixels and a little; anything longer is not one of this size.
    if not url.startswith(_DATA_URL) or len(url) > 6 * height * width + 4096:
        raise MaskError(f"the mask is not a PNG data URL of {width} x {height} pixels; paint it again")
    try:
        return io.BytesIO(base64.b64decode(url.removeprefix(_DATA_URL), validate=True))
    except (binascii.Error, ValueError) as e:
        raise MaskError(f"the mask cannot be read as a picture ({e}); paint it again") from e


def enlarged(
    pixels: UInt8[np.ndarray, "height width channels"], times: int
) -> UInt8[np.ndarray, "height2 width2 channels"]:
    """A picture so many times as high and as wide, by plain resampling: no detail that was not there."""
    if times == 1:
        return pixels
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((times * width, times * height), Image.Resampling.LANCZOS))


def draw_points(
    pixels: UInt8[np.ndarray, "height width channels"],
    handles: Float[np.ndarray, "n 2"],
    targets: Float[np.ndarray, "n 2"],
    *,
    enlarge: int = 1,
) -> UInt8[np.ndarray, "height2 width2 channels"]:
    """A copy of a picture with handles (red), targets (blue) and arrows between them, for people to look at."""
    height, width = pixels.shape[:2]
    picture = Image.fromarray(pixels).resize((width * enlarge, height * enlarge), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    radius = max(2, max(picture.size) // 100)
    for handle, target in zip(handles, targets, strict=True):
        a, b = ([(float(v) + 0.5) * enlarge for v in point] for point in (handle, target))
        draw.line([*a, *b], fill=(255, 255, 255), width=max(1, radius // 2))
        for (x, y), colour in ((a, HANDLE_COLOUR), (b, TARGET_COLOUR)):
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour, outline=(255, 255, 255))
    return np.asarray(picture)


def with_caption(
    pixels: UInt8[np.ndarray, "height width channels"], text: str
) -> UInt8[np.ndarray, "height width channels"]:
    """A copy of a picture with a line of text in its lower right corner, white on a dark veil."""
    picture = Image.fromarray(pixels)
    font = ImageFont.load_default(max(9, min(picture.size) // 24))
    left, top, right, bottom = ImageDraw.Draw(picture).textbbox((0, 0), text, font=font)
    margin = max(2, round((bottom - top) / 3))
    width, height = (round(right - left) + 2 * margin, round(bottom - top) + 2 * margin)
    corner = (max(0, picture.width - width), max(0, picture.height - height))
    veil = picture.crop((*corner, picture.width, picture.height)).convert("RGB")
    veil = Image.blend(veil, Image.new("RGB", veil.size, (0, 0, 0)), 0.55)
    ImageDraw.Draw(veil).text((margin - left, margin - top), text, font=font, fill=(255, 255, 255))
    picture.paste(veil, corner)
    return np.asarray(picture)
