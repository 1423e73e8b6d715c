"""Which marks a file carries, for tests of the ways out."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image

from draggan.provenance.credentials import read_credentials, trust_anchors
from draggan.provenance.deployment import Deployment, default
from draggan.provenance.marks import can_carry, own_watermark
from draggan.provenance.metadata import read_metadata

__all__ = ["brightest_place", "frames_of_film", "marks_of"]

_KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff\xe0": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


def frames_of_film(data: bytes) -> list[np.ndarray]:
    """All pictures of an MP4, as a player shows them."""
    imageio = pytest.importorskip("imageio.v2", reason="imageio is not installed")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        path.write_bytes(data)
        with imageio.get_reader(path, format="FFMPEG") as film:
            return [np.asarray(frame) for frame in film]


def brightest_place(picture: Image.Image) -> tuple[float, float]:
    """x and y of the middle of the brightest part, in pixels.

    Single pixels say nothing: the invisible mark, another one every time, and the format make them brighter or darker.
    """
    grey = np.asarray(picture.convert("L"), np.float64)
    weight = np.clip(grey - np.quantile(grey, 0.98), 0, None)
    y, x = np.indices(grey.shape)
    return float((weight * x).sum() / weight.sum()), float((weight * y).sum() / weight.sum())


def marks_of(data: bytes, deployment: Deployment | None = None) -> set[str]:
    """Of the layers "words" (or "not AI"), "pixels", "signature", "record" those that this installation finds."""
    deployment = deployment or default()
    found = set()
    if data[4:8] == b"ftyp":
        kind, frames = "mp4", frames_of_film(data)
        source = read_metadata(data).source_type
    else:
        kind = _KINDS[data[:4]]
        with Image.open(io.BytesIO(data)) as picture:
            source = read_metadata(data, picture).source_type
            frames = []
            for i in range(getattr(picture, "n_frames", 1)):
                picture.seek(i)
                frames.append(np.asarray(picture.convert("RGB")))
    words = {"trainedAlgorithmicMedia": {"words"}, "algorithmicMedia": {"not AI"}}
    words["compositeWithTrainedAlgorithmicMedia"] = {"words"}
    found |= words.get(source or "", set())
    if read_credentials(data, kind, trust_anchors(deployment.folder)).state == "trusted":
        found.add("signature")
    assert deployment.audit is not None
    digest = hashlib.sha256(data).hexdigest()
    rows = [row for row in deployment.audit.rows(last=200) if row.facts.get("sha256") == digest]
    if rows:
        found.add("record")
    # What is too small for a mark has none: a search would take seconds.
    if can_carry(frames[0].shape[:2]) and "not AI" not in found:
        mark = own_watermark(deployment.folder).detect(frames)
        if mark is not None and mark.identity is not None and mark.identity in [row.facts["watermark"] for row in rows]:
            found.add("pixels")
    return found
