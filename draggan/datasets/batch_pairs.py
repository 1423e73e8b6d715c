"""Pairs out of the folder of a batch: pictures before and after a drag of a network's, as they were saved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dnnlib.cache import replacing
from draggan.batch.jobs import REPORT
from draggan.datasets.folder import check_split, row_of, truth_path, write_split, write_truth
from draggan.errors import ConfigError, ExportError, ModelNotFound
from draggan.export import read_recipe
from draggan.landmarks import LandmarkNetwork, find_landmarks

__all__ = ["write_batch_pairs"]

ARRAYS = (
    "`points` [n, 4], handles before and where their content was followed to; `targets` [n, 2], where it was to go; "
    "`mask` [height, width], what was allowed to change; `landmarks_before` and `landmarks_after` [landmark, 2], as a "
    "network sees them, for the built-in models; `latent_before` and `latent_after` [1, num_ws, w_dim]"
)


def write_batch_pairs(batch: Path, folder: Path, split: str, progress: Callable[[int, int], None]) -> Path:
    """Write a split of the drags that a batch has done with ``--before``.

    The pictures are copied as they are, with all that they say of themselves. Drags that did not move anything are left
    out.

    Args:
        batch: the folder that `draggan batch` wrote to.
        progress: called with the pairs that are done and all of them.

    Returns:
        The path of the metadata.

    Raises:
        ConfigError: there is no such batch, or nothing in it that makes a pair.
        ExportError: a file cannot be written.
    """
    check_split(split)
    try:
        report = json.loads((batch / REPORT).read_text(encoding="utf-8"))
        found = [row for row in report["rows"] if row.get("before") and row.get("picture") and row.get("reached")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{batch} is not the folder of a batch ({error}); give what `draggan batch` wrote") from error
    if not found:
        raise ConfigError(f"there are no drags with a picture before in {batch}; run the batch with --before")
    finders: dict[str, LandmarkNetwork | None] = {}
    rows: list[dict[str, Any]] = []
    (folder / split).mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(found):
        rows.append(_pair(batch, folder, split, f"{number:06d}", row, finders))
        progress(len(rows), len(found))
    return write_split(
        folder,
        split,
        rows,
        title="Drags",
        text="Pictures that a generative network draws, before and after points of them were dragged.",
        arrays=ARRAYS,
        command="draggan dataset drags",
    )


def _pair(
    batch: Path, folder: Path, split: str, name: str, row: dict[str, Any], finders: dict[str, LandmarkNetwork | None]
) -> dict[str, Any]:
    """Copy one pair, and write what is known of it."""
    before, after = batch / str(row["before"]), batch / str(row["picture"])
    recipe = read_recipe(after)
    edit = recipe.edits[-1]
    handles = np.array([point.handle for point in edit.points], np.float32).reshape(-1, 2)
    arrays = {
        "points": np.concatenate([handles, np.array(row["reached"], np.float32).reshape(-1, 2)], 1),
        "targets": np.array([point.target for point in edit.points], np.float32).reshape(-1, 2),
        "mask": np.ones(recipe.image_size, bool) if edit.mask is None else edit.mask.allowed,
    }
    for end, latent in zip(("before", "after"), recipe.results[-2:], strict=True):
        if latent is not None:
            arrays[f"latent_{end}"] = latent
    finder = _finder(recipe.model.name, finders)
    if finder is not None:
        for end, path in (("before", before), ("after", after)):
            arrays[f"landmarks_{end}"] = _landmarks(finder, path)
    for end, path in (("before", before), ("after", after)):
        _copy(path, folder / split / f"{name}-{end}.png")
    if not (folder / truth_path(split, name)).is_file():
        write_truth(folder, split, name, arrays)
    facts = {
        "model": recipe.model.name,
        "seed": None if recipe.seed is None else recipe.seed.seed,
        "outcome": row.get("outcome"),
        "landmarks": [] if finder is None else list(finder.names),
    }
    return row_of(split, name, arrays["points"], facts)


def _finder(model: str, known: dict[str, LandmarkNetwork | None]) -> LandmarkNetwork | None:
    if model not in known:
        try:
            known[model] = find_landmarks(model)
        except ModelNotFound:
            known[model] = None
    return known[model]


@torch.no_grad()
def _landmarks(finder: LandmarkNetwork, path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        pixels = np.array(picture.convert("RGB"))
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    return finder(images)[0].numpy()


def _copy(source: Path, destination: Path) -> None:
    try:
        with replacing(destination) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        raise ExportError(f"cannot copy {source.name} to {destination}: {error.strerror or error}") from error
