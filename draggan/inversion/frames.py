"""Reading films, by imageio and its ffmpeg, or Pillow: frames as they are seen, one after the other, and how fast."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageSequence

from draggan.errors import PhotoError
from draggan.photo import LEAST_SIDE, MOST_PIXELS

__all__ = ["MOST_FRAMES", "Clip"]

Picture = UInt8[np.ndarray, "height width 3"]

MOST_FRAMES = 3600
_ANIMATED = (".gif", ".webp", ".png")
# What the kinds of films begin with, and where. ffmpeg goes by the content and knows texts that name other files and
# addresses; such a text is no film, whatever it is called.
_BEGINNINGS = (
    *((4, box) for box in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),  # MP4, QuickTime
    (0, b"\x1aE\xdf\xa3"),  # WebM, Matroska
    (8, b"AVI "),
    (0, b"\x30\x26\xb2\x75"),  # Windows Media
    *((0, start) for start in (b"\0\0\1\xba", b"\0\0\1\xb3", b"\0\0\0\1", b"\0\0\1g")),  # MPEG, H.264
)
_NEEDED = "films are read by two more packages: pip install imageio imageio-ffmpeg; or give a GIF or a WebP"


class Clip:
    """A film. Its frames are decoded anew each time that it is gone through, and none is kept but two: `draggan video`
    takes no more memory for a long film than for a short one.

    Args:
        path: its file.
        most: frames that are read; what comes after them is left out.

    Attributes:
        first: frame, upright, of the size of all of them.
        rate: frames a second.

    Raises:
        PhotoError: not a film that can be read, too large, or the packages are missing; while it is gone through, too,
            if the file is not the same any more.
    """

    def __init__(self, path: Path, most: int = MOST_FRAMES) -> None:
        if not path.is_file():
            raise PhotoError(f"cannot read {path}: there is no such file")
        self._path, self._most = path, min(max(1, most), MOST_FRAMES)
        self._read = _animated if path.suffix.lower() in _ANIMATED else _filmed
        self._count, seconds, frame = 0, 0.0, None
        for shown, frame in self._frames():
            if not self._count:
                self.first = frame
            self._count, seconds = self._count + 1, seconds + shown
        if frame is None:
            raise PhotoError(f"{path.name} has no frame that can be read; give another film")
        if min(frame.shape[:2]) < LEAST_SIDE:
            raise PhotoError(f"{path.name} is smaller than {LEAST_SIDE} x {LEAST_SIDE} pixels; give a larger film")
        rate = self._count / max(seconds, 1e-3)
        self.rate = rate if 1 <= rate <= 240 else 25.0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Picture]:
        changed = f"{self._path.name} has changed while it was read; leave it as it is until all is done"
        count = 0
        for _, frame in self._frames():
            if count == self._count or frame.shape != self.first.shape:
                raise PhotoError(changed)
            count += 1
            yield frame
        if count != self._count:
            raise PhotoError(changed)

    def _frames(self) -> Iterator[tuple[float, Picture]]:
        yield from islice(self._read(self._path), self._most)


def _animated(path: Path) -> Iterator[tuple[float, Picture]]:
    """How long each frame is shown, seconds, and the frame."""
    try:
        with Image.open(path, formats=["GIF", "WEBP", "PNG"]) as picture:
            _check(path, picture.size)
            for frame in ImageSequence.Iterator(picture):
                pixels = np.array(frame.convert("RGB"))
                yield frame.info.get("duration", 40) / 1000, pixels
    except PhotoError:
        raise
    # Decoders fail in ways of their own.
    except Exception as error:
        why = " ".join(str(error).split())[:120]
        raise PhotoError(f"{path.name} cannot be read as an animation ({why}); give another film") from error


def _filmed(path: Path) -> Iterator[tuple[float, Picture]]:
    """Likewise."""
    try:
        v3: Any = importlib.import_module("imageio.v3")
        importlib.import_module("imageio_ffmpeg")
    except ImportError as error:
        raise PhotoError(_NEEDED) from error
    if not _is_film(path):
        known = "an MP4, MOV, WebM, MKV, AVI, GIF or WebP file"
        raise PhotoError(f"{path.name} is not a film that can be read; give {known}")
    try:
        facts = v3.immeta(path, plugin="FFMPEG")
        _check(path, facts.get("size", (0, 0)))
        seconds = 1 / max(float(facts.get("fps", 25.0)), 1e-3)
        for frame in v3.imiter(path, plugin="FFMPEG"):
            yield seconds, np.array(frame[..., :3], np.uint8)
    except PhotoError:
        raise
    except Exception as error:  # ffmpeg's troubles come as anything
        # Its words are its whole log.
        raise PhotoError(f"{path.name} is damaged and cannot be read as a film; give another one") from error


def _is_film(path: Path) -> bool:
    """Whether a file begins as films do."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise PhotoError(f"cannot read {path}: {error.strerror or error}") from error
    return any(head.startswith(start, at) for at, start in _BEGINNINGS)


def _check(path: Path, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MOST_PIXELS:
        raise PhotoError(f"{path.name} is {size[0]} x {size[1]} pixels, which is too large; scale it down")
