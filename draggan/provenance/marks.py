"""Which invisible mark this installation puts into pictures, and its key."""

from __future__ import annotations

import functools
import logging
import os
import secrets
from pathlib import Path

from dnnlib.private_files import private_file
from draggan.errors import ConfigError
from draggan.provenance.trustmark import TrustMark
from draggan.provenance.watermark import SpreadSpectrum, Watermark

__all__ = ["can_carry", "own_watermark"]

log = logging.getLogger(__name__)

_SMALLEST_SIDE = 48  # pixels
_SHORTEST_KEY = 16


def can_carry(size: tuple[int, int]) -> bool:
    """Whether a picture of that size, ``(height, width)``, is large enough for a mark to be found in it."""
    return min(size) >= _SMALLEST_SIDE


def own_watermark(folder: Path) -> Watermark:
    """The mark of this installation.

    ``DRAGGAN_WATERMARK`` is "own" (the default) or "trustmark". Of our own, ``DRAGGAN_WATERMARK_KEY`` is the secret
    where it is set; else what is in ``watermark.key``, which is made at first.

    Args:
        folder: where the installation keeps its secrets.

    Raises:
        ConfigError: another name, a key that is too short, or a package that is missing.
    """
    name = os.environ.get("DRAGGAN_WATERMARK", "").strip().lower() or "own"
    if name == "trustmark":
        return _trustmark()
    if name != "own":
        raise ConfigError(f"DRAGGAN_WATERMARK={name!r:.40} is not allowed; give own or trustmark")
    given = os.environ.get("DRAGGAN_WATERMARK_KEY", "")
    if given and len(given) < _SHORTEST_KEY:
        raise ConfigError(
            f"DRAGGAN_WATERMARK_KEY has {len(given)} characters, which can be guessed; give at least {_SHORTEST_KEY} "
            "random ones"
        )
    return SpreadSpectrum(given.encode() or _key_in(folder / "watermark.key"))


@functools.cache
def _trustmark() -> TrustMark:
    return TrustMark()


@functools.cache
def _key_in(path: Path) -> bytes:
    try:
        return private_file(path, lambda: secrets.token_bytes(32))
    except OSError as error:
        log.warning("no key can be kept in %s (%s): marks of this run are not found by the next", path.parent, error)
        return secrets.token_bytes(32)
