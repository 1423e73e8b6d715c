"""A session as one file: what was done, and for photos the tuned weights that their pictures need.

A safetensors file: tensors and plain text, nothing that could be executed. In it

* ``session``: the text of `draggan.kept_session` (bytes), with the whole history;
* ``HASH/NAME``: the difference of the weight NAME in the tuning HASH, float16 (`draggan.tuning.Tuning`);
* as metadata ``draggan_session`` "1", ``tunings``, JSON ``{HASH: {"model": sha256 of the model's file}}``, and
  ``crops``, JSON ``{HASH: {"crop": [[x, y], [x, y], [x, y]], "photo": sha256 of the photo's pixels, "size": [height,
  width]}}``: where in the photo the picture goes back to (`draggan.inversion`).

The photo itself is not in it. A tuning with its latent draws the photo's crop again: a file is as private as the photo.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from dnnlib.cache import replacing
from draggan.errors import ExportError, RecipeError
from draggan.kept_session import pieces_of, read_session
from draggan.recipe import ModelReference, Recipe, parse_json, read_object
from draggan.session import Session
from draggan.tuning import MOST_NUMBERS, Tuning

__all__ = [
    "MOST_BYTES",
    "SUFFIX",
    "PhotoPlace",
    "SessionFile",
    "is_session_file",
    "photos_of",
    "read_session_file",
]

SUFFIX = ".draggan"
MOST_BYTES = 2 * MOST_NUMBERS + (32 << 20)
_VERSION = "1"
_MOST_HEADER = 4 << 20
_MOST_TUNINGS = 64
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class PhotoPlace:
    """Where on a photo a picture belongs.

    Attributes:
        crop: centre, right and down, as `draggan.inversion.Crop.values` gives them.
        photo_sha256: of the photo's pixels (`draggan.inversion.Photo.sha256`).
        photo_size: ``(height, width)`` pixels.
    """

    crop: tuple[tuple[float, float], ...]
    photo_sha256: str
    photo_size: tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class SessionFile:
    """What is in a session's file.

    Attributes:
        session: with its history.
        tunings: those that its recipes name, by their hash.
        places: of photos, by the hash of their tuning.
    """

    session: Session
    tunings: Mapping[str, Tuning] = field(default_factory=dict)
    places: Mapping[str, PhotoPlace] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The file's content. Of the history as much as a browser keeps.

        Raises:
            ExportError: a tuning that the session needs is not there, or they are more than can be read again.
        """
        needed = photos_of(self.session)
        if missing := [digest for digest in needed if digest not in self.tunings]:
            raise ExportError(f"the tuned weights {missing[0][:12]}... of this session are not there; it is not saved")
        if len(needed) > _MOST_TUNINGS:
            raise ExportError(f"a session with {len(needed)} photos cannot be saved; at most {_MOST_TUNINGS} can")
        text = pieces_of(self.session).text().encode("ascii")
        tensors: dict[str, np.ndarray] = {"session": np.frombuffer(text, np.uint8)}
        models, places = {}, {}
        for digest in needed:
            tuning, place = self.tunings[digest], self.places.get(digest)
            models[digest] = {"model": tuning.model_sha256}
            tensors |= {f"{digest}/{name}": np.ascontiguousarray(a) for name, a in tuning.differences.items()}
            if place is not None:
                places[digest] = {
                    "crop": [list(xy) for xy in place.crop],
                    "photo": place.photo_sha256,
                    "size": list(place.photo_size),
                }
        metadata = {"draggan_session": _VERSION, "tunings": json.dumps(models), "crops": json.dumps(places)}
        data = save(tensors, metadata)
        if len(data) > MOST_BYTES or _header_length(data) > _MOST_HEADER:
            raise ExportError(
                f"a session with {len(needed)} tuned photos is too large to be saved: it would have {len(data) >> 20} "
                f"MB, and at most {MOST_BYTES >> 20} MB can be read again; save one with fewer photos"
            )
        return data

    def save(self, path: str | Path) -> Path:
        """Write the file, whole or not at all.

        Raises:
            ExportError: as for `to_bytes`, or it cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() != SUFFIX:
            raise ExportError(f"a session cannot be written as '{path.name}'; choose a name that ends in {SUFFIX}")
        data = self.to_bytes()
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            raise ExportError(
                f"cannot write {path}: {error.strerror or error}; choose a folder that is writable"
            ) from (error)
        return path


def photos_of(session: Session) -> dict[str, Recipe]:
    """For every tuning that a session's pictures need, also those on branches, a recipe of one of them: the one on the
    screen if it does."""
    recipes: dict[str, Recipe] = {}
    for moment in session.moments:
        if moment.recipe.is_of_photo:
            recipes.setdefault(moment.recipe.model.tuning, moment.recipe)
    return recipes


def is_session_file(data: bytes) -> bool:
    """Whether a file's content begins as that of a session's file, whatever its name."""
    return len(data) > 9 and data[8:9] == b"{" and b'"draggan_session"' in data[8 : _MOST_HEADER + 8]


def read_session_file(
    source: str | Path | bytes, *, found: Callable[[ModelReference], ModelReference] = lambda model: model
) -> SessionFile:
    """Read a session's file. Nothing in it is executed, and nothing is believed: hashes are computed anew.

    Args:
        source: a file, or its content.
        found: what a model is called now.

    Raises:
        RecipeError: no such file, damaged, too large, or of another version.
        PointError, MaskError, LatentError, ConfigError: a part of it cannot be used.
    """
    data = source if isinstance(source, bytes) else _content(Path(source))
    if len(data) > MOST_BYTES:
        raise RecipeError(f"a session of {len(data) >> 20} MB is too large; at most {MOST_BYTES >> 20} MB are read")
    metadata = _metadata(data)
    if metadata.get("draggan_session") != _VERSION:
        raise RecipeError(
            f"a session of version {str(metadata.get('draggan_session'))[:20]!r} cannot be read; this program knows "
            f"version {_VERSION}"
        )
    try:
        tensors = deserialize(data)
    except SafetensorError as error:
        raise RecipeError(f"the session's file is damaged: {error}") from error
    models, crops = (_named(metadata, name) for name in ("tunings", "crops"))
    text = b""
    arrays: dict[str, dict[str, np.ndarray]] = {digest: {} for digest in models}
    for key, tensor in tensors:
        digest, _, name = key.partition("/")
        if key == "session" and tensor["dtype"] == "U8":
            text = bytes(tensor["data"])
        elif digest in arrays and name and tensor["dtype"] == "F16":
            arrays[digest][name] = np.frombuffer(tensor["data"], "<f2").reshape(tensor["shape"]).astype(np.float16)
        else:
            raise RecipeError(f"the session's file holds '{key[:80]}', which no session has")
    tunings = {}
    for digest, differences in arrays.items():
        value = read_object("a tuning", models[digest], needed=("model",), known=())
        sha256 = value["model"]
        if sha256 != "" and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
            raise RecipeError("a tuning in the session's file names no model by its SHA-256")
        tuning = Tuning(model_sha256=sha256, differences=differences)
        if tuning.digest != digest:
            raise RecipeError("the tuned weights in the session's file are not those that it names; it was changed")
        tunings[digest] = tuning
    session = read_session(text.decode("ascii", "replace"), found=found)
    if missing := [digest for digest in photos_of(session) if digest not in tunings]:
        raise RecipeError(f"the tuned weights {missing[0][:12]}... are missing in the session's file")
    places = {digest: _place(value) for digest, value in crops.items() if digest in tunings}
    return SessionFile(session=session, tunings=tunings, places=places)


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise RecipeError(f"{path.name} is too large for a session; at most {MOST_BYTES >> 20} MB are read")
        return path.read_bytes()
    except OSError as error:
        raise RecipeError(f"cannot read {path}: {error.strerror or error}") from error


def _header_length(data: bytes) -> int:
    return int(struct.unpack("<Q", data[:8])[0]) if len(data) >= 8 else 0


def _metadata(data: bytes) -> Mapping[str, Any]:
    """The texts in the header of a safetensors file."""
    length = _header_length(data)
    if not 2 <= length <= min(_MOST_HEADER, len(data) - 8):
        raise RecipeError("this is no session's file, or it is damaged")
    header = parse_json(data[8 : 8 + length], _MOST_HEADER)
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or "draggan_session" not in metadata:
        raise RecipeError("this is no session's file: it is a safetensors file of another kind")
    return metadata


def _named(metadata: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object in the metadata, whose names are hashes."""
    text = metadata.get(name)
    value = parse_json(text, _MOST_HEADER) if isinstance(text, str) else None
    if not isinstance(value, dict) or len(value) > _MOST_TUNINGS or not all(map(_SHA256.fullmatch, value)):
        raise RecipeError(f"the session's file says in no way that can be read which {name} it has")
    return value


def _place(value: Any) -> PhotoPlace:
    value = read_object("the place of a photo", value, needed=("crop", "photo", "size"), known=())
    crop, size = value["crop"], value["size"]
    pairs = isinstance(crop, list) and len(crop) == 3 and all(_numbers(xy) for xy in crop)
    if not pairs or not _numbers(size) or not isinstance(value["photo"], str) or not _SHA256.fullmatch(value["photo"]):
        raise RecipeError("the place of a photo in the session's file cannot be read")
    return PhotoPlace(
        crop=tuple((float(x), float(y)) for x, y in crop),
        photo_sha256=value["photo"],
        photo_size=(int(size[0]), int(size[1])),
    )


def _numbers(value: Any) -> bool:
    """Whether it is a pair of numbers of a picture."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(n, (int, float)) and not isinstance(n, bool) and abs(n) < 1e7 for n in value)
    )
