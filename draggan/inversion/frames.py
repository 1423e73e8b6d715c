"""Reading films, by imageio and its ffmpeg, or Pillow: frames as they are seen, and how fast."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageSequence

from draggan.errors import PhotoError
from draggan.inversion.photo import LEAST_SIDE, MOST_PIXELS

__all__ = ["MOST_FRAMES", "Clip", "read_clip"]

MOST_FRAMES = 600
_MOST_NUMBERS = 1_500_000_000  # bytes of all frames together
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """A film.

    Attributes:
        frames: upright, all of the same size.
        rate: frames a second.
    """

    frames: tuple[UInt8[np.ndarray, "height width 3"], ...]
    rate: float


def read_clip(path: Path, most: int = MOST_FRAMES) -> Clip:
    """Read a film's frames, without its sound.

    Args:
        most: frames that are read; what comes after them is left out.

    Raises:
        PhotoError: not a film that can be read, too large, or the packages are missing.
    """
    if not path.is_file():
        raise PhotoError(f"cannot read {path}: there is no such file")
    most = min(max(1, most), MOST_FRAMES)
    frames, rate = _animated(path, most) if path.suffix.lower() in _ANIMATED else _filmed(path, most)
    if not frames:
        raise PhotoError(f"{path.name} has no frame that can be read; give another film")
    if min(frames[0].shape[:2]) < LEAST_SIDE:
        raise PhotoError(f"{path.name} is smaller than {LEAST_SIDE} x {LEAST_SIDE} pixels; give a larger film")
    return Clip(frames=tuple(frames), rate=rate if 1 <= rate <= 240 else 25.0)


def _animated(path: Path, most: int) -> tuple[list[np.ndarray], float]:
    try:
        with Image.open(path, formats=["GIF", "WEBP", "PNG"]) as picture:
            _check(path, picture.size)
            frames, seconds = [], 0.0
            for frame in ImageSequence.Iterator(picture):
                frames.append(np.array(frame.convert("RGB")))
                seconds += frame.info.get("duration", 40) / 1000
                if len(frames) >= most or frames[0].size * (len(frames) + 1) > _MOST_NUMBERS:
                    break
    except PhotoError:
        raise
    # Decoders fail in ways of their own.
    except Exception as error:
        why = " ".join(str(error).split())[:120]
        raise PhotoError(f"{path.name} cannot be read as an animation ({why}); give another film") from error
    return frames, len(frames) / max(seconds, 1e-3)


def _filmed(path: Path, most: int) -> tuple[list[np.ndarray], float]:
    try:
        v3: Any = importlib.import_module("imageio.v3")
        importlib.import_module("imageio_ffmpeg")
    except ImportError as error:
        raise PhotoError(_NEEDED) from error
    if not _is_film(path):
        known = "an MP4, MOV, WebM, MKV, AVI, GIF or WebP file"
        raise PhotoError(f"{path.name} is not a film that can be read; give {known}")
    frames: list[np.ndarray] = []
    try:
        facts = v3.immeta(path, plugin="FFMPEG")
        _check(path, facts.get("size", (0, 0)))
        for frame in v3.imiter(path, plugin="FFMPEG"):
            frames.append(np.array(frame[..., :3], np.uint8))
            if len(frames) >= most or frames[0].size * (len(frames) + 1) > _MOST_NUMBERS:
                break
    except PhotoError:
        raise
    except Exception as error:  # ffmpeg's troubles come as anything
        # Its words are its whole log.
        raise PhotoError(f"{path.name} is damaged and cannot be read as a film; give another one") from error
    return frames, float(facts.get("fps", 25.0))


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
