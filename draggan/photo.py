"""Reading a photo from outside: upright, three channels of bytes, whatever it was; or a sentence that says why not.

Needs no PyTorch: that a photo cannot be read is told at once.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from draggan.errors import PhotoError
from draggan.images import over_white

__all__ = ["FORMATS", "LEAST_SIDE", "MOST_BYTES", "MOST_PIXELS", "Photo", "read_photo"]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Of files that are read, AVIF where Pillow can. Of an animation the first frame."""
MOST_BYTES = 64 << 20
MOST_PIXELS = 64_000_000
"""A camera of 61 megapixels writes less; what is larger takes gigabytes on the way."""
LEAST_SIDE = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo:
    """A photo as it is seen.

    Attributes:
        pixels: upright, without transparency (what was transparent is white), read-only.
        name: what messages call it: the file's name without its folder.
        kind: of the file: a key of `draggan.provenance.credentials.TYPES`, or another format's name in small letters.
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    name: str = "photo"
    kind: str = "png"

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @cached_property
    def sha256(self) -> str:
        """Of its pixels and their size: whether two files show the same photo, whatever else is in them."""
        found = hashlib.sha256(repr(self.size).encode())
        found.update(np.ascontiguousarray(self.pixels).tobytes())
        return found.hexdigest()


def read_photo(source: str | Path | bytes, name: str = "") -> Photo:
    """Read a photo. Nothing but its pixels is kept: not where and when it was taken, nor by whom.

    Turned upright as its EXIF says; a palette, grey, 16 bits, CMYK and transparency (over white) become three channels
    of bytes.

    Args:
        source: a file, or its content.
        name: what messages call it; empty: the file's name.

    Raises:
        PhotoError: not a picture that can be read, too small, or too large.
    """
    name = name or (Path(source).name if isinstance(source, (str, Path)) else "the photo")
    data = source if isinstance(source, bytes) else _content(Path(source), name)
    if len(data) > MOST_BYTES:
        raise PhotoError(_too_many_bytes(name))
    Image.init()
    try:
        with warnings.catch_warnings():
            # What it warns of is looked at below, in our own words; other parts of a file than its pixels are not read.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=[form for form in FORMATS if form in Image.OPEN]) as picture:
                _check_size(picture, name)
                kind = (picture.format or "").lower()  # of some cameras "mpo": a JPEG with more behind it
                pixels = _upright(picture)
    except UnidentifiedImageError as error:
        raise PhotoError(f"{name} is not a picture that can be read; give a {_list()} file") from error
    except Image.DecompressionBombError as error:
        raise PhotoError(_too_large(name)) from error
    except PhotoError:
        raise
    # Decoders of seven formats, which fail in ways of their own.
    except Exception as error:
        why = " ".join(str(error).split())[:120]
        raise PhotoError(
            f"{name} is damaged and cannot be read ({why}); save it anew, or give another photo"
        ) from error
    pixels.setflags(write=False)
    return Photo(pixels=pixels, name=name, kind="jpeg" if kind == "mpo" else kind)


def _too_many_bytes(name: str) -> str:
    return f"{name} is larger than {MOST_BYTES / 1e6:.0f} MB, the most that is read; save it smaller"


def _content(path: Path, name: str) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise PhotoError(_too_many_bytes(name))
        return path.read_bytes()
    except OSError as error:
        raise PhotoError(f"cannot read {path}: {error.strerror or error}") from error


def _check_size(picture: Image.Image, name: str) -> None:
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise PhotoError(_too_large(name, f" is {width} x {height} pixels, which"))
    if min(width, height) < LEAST_SIDE:
        raise PhotoError(f"{name} is {width} x {height} pixels; give a photo of at least {LEAST_SIDE} x {LEAST_SIDE}")


def _too_large(name: str, what: str = "") -> str:
    return f"{name}{what} is too large; photos of at most {MOST_PIXELS // 10**6} megapixels are read, so scale it down"


def _list() -> str:
    *others, last = (form for form in FORMATS if form != "AVIF")
    return f"{', '.join(others)} or {last}"


def _upright(picture: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    """Its pixels as they are meant to be seen."""
    # Turned by what it says before anything else is done, which would forget it.
    ImageOps.exif_transpose(picture, in_place=True)
    mode = picture.mode
    if mode.startswith("I;16") or mode in ("I", "F"):
        return np.repeat(_bytes_of(np.asarray(picture), mode)[..., None], 3, axis=2)
    if "A" in picture.getbands() or "transparency" in picture.info or mode in ("PA", "La", "RGBa"):
        return over_white(np.asarray(picture if mode == "RGBA" else picture.convert("RGBA")))
    return np.array(picture if mode == "RGB" else picture.convert("RGB"))


def _bytes_of(values: np.ndarray, mode: str) -> UInt8[np.ndarray, "height width"]:
    """Grey of more than 8 bits, which Pillow would cut off at 255 instead of scaling it."""
    if mode == "F":
        values = np.nan_to_num(values, posinf=0, neginf=0)
    largest = values.max()
    white = 1.0 if mode == "F" and largest <= 1 else 255.0 if mode != "I;16" and largest <= 255 else 65535.0
    # Row by row: all of it at once would be eight times as large.
    return np.stack([(row.astype(np.float64) / white * 255 + 0.5).clip(0, 255).astype(np.uint8) for row in values])
