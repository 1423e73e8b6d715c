"""SHA-256 of files, and those that a file had when it first came."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from dnnlib.cache import replacing
from dnnlib.disk import exclusive, writing
from dnnlib.errors import DownloadError

__all__ = ["first_digest", "sha256_of"]


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def first_digest(pins: Path, name: str, digest: str, size: int) -> str:
    """The digest that ``pins``, a JSON file, remembers for a file of this name: this one, if there was none.

    Raises:
        DownloadError: the JSON file is damaged or cannot be written.
    """
    with exclusive(pins, lambda: None), writing(pins):
        try:
            pinned = json.loads(pins.read_text("utf-8")) if pins.exists() else {}
            known = pinned.get(name, {"sha256": None})["sha256"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DownloadError(f"{pins} is damaged ({error}); remove it and try again") from error
        if known is None:
            pinned[name] = {"sha256": digest, "bytes": size}
            with replacing(pins) as temporary:
                temporary.write_text(json.dumps(pinned, indent=1, sort_keys=True), "utf-8")
        return str(known or digest)
