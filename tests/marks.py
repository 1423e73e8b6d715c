"""Which marks a file carries, for tests of the ways out."""

from __future__ import annotations

import hashlib
import io

import numpy as np
from PIL import Image

from draggan.provenance.credentials import read_credentials, trust_anchors
from draggan.provenance.deployment import Deployment, default
from draggan.provenance.marks import can_carry, own_watermark
from draggan.provenance.metadata import read_metadata

__all__ = ["brightest_place", "marks_of"]


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
    with Image.open(io.BytesIO(data)) as picture:
        source = read_metadata(data, picture).source_type
        words = {"trainedAlgorithmicMedia": {"words"}, "algorithmicMedia": {"not AI"}}
        words["compositeWithTrainedAlgorithmicMedia"] = {"words"}
        found |= words.get(source or "", set())
        frames = []
        for i in range(getattr(picture, "n_frames", 1)):
            picture.seek(i)
            frames.append(np.asarray(picture.convert("RGB")))
    kind = {b"\x89PNG": "png", b"\xff\xd8\xff\xe0": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}[data[:4]]
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
