"""The folder of a data set, as Hugging Face's ``imagefolder`` and PyTorch's ``DataLoader`` read it.

    FOLDER/README.md                what it is, for people and for the hub
    FOLDER/train/metadata.jsonl     a line for every pair; see below
    FOLDER/train/000000-before.png  and 000000-after.png
    FOLDER/truth/train/000000.npz   arrays: what there is depends on where the pair comes from

A line has ``before_file_name`` and ``after_file_name``, which ``datasets`` turns into the columns ``before`` and
``after``; ``truth``, the path of the arrays from FOLDER; ``points``, a list of ``[x, y, x after, y after]``; and facts.
Points are in image pixels, integers at pixel centres.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from dnnlib.cache import replacing
from draggan.errors import ConfigError, ExportError

__all__ = ["Pairs", "check_split", "row_of", "truth_path", "write_split", "write_truth"]

_CARD = """---
license: apache-2.0
tags: [synthetic, dragging]
configs:
- config_name: default
  data_files: [{files}]
---

# {title}

{text}

Every line of `metadata.jsonl` is a pair of pictures with the points that moved from one to the other; `truth` names a
file of arrays (`numpy.load`): {arrays}.
Points are `(x, y)` in image pixels, integers at pixel centres. All pictures are drawn by a program and say so in their
metadata. Made with `{command}`.
"""


def check_split(split: str) -> str:
    """The name of a split, if a folder can be called so.

    Raises:
        ConfigError: it cannot.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", split) or split == "truth":
        raise ConfigError(f"a split cannot be called '{split:.60}'; take train, validation or test")
    return split


def truth_path(split: str, name: str) -> str:
    """Where the arrays of a pair are, from the folder of the data set."""
    return f"truth/{split}/{name}.npz"


def write_truth(folder: Path, split: str, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays of a pair, whole or not at all.

    Raises:
        ExportError: they cannot be written.
    """
    path = folder / truth_path(split, name)
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its stub takes the names for options
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from error


def row_of(split: str, name: str, points: np.ndarray, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the metadata.

    Args:
        points: ``[n, 4]``: x, y before and after.
    """
    return {
        "before_file_name": f"{name}-before.png",
        "after_file_name": f"{name}-after.png",
        "truth": truth_path(split, name),
        "points": np.round(points.astype(float), 3).tolist(),
        **facts,
    }


def write_split(
    folder: Path, split: str, rows: Iterable[Mapping[str, Any]], *, title: str, text: str, arrays: str, command: str
) -> Path:
    """Write the metadata of a split, and the card of the data set as all its splits are now.

    Raises:
        ExportError: they cannot be written.
    """
    path = folder / split / "metadata.jsonl"
    try:
        with replacing(path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        splits = sorted(found.parent.name for found in folder.glob("*/metadata.jsonl"))
        files = ", ".join(f'{{split: {name}, path: "{name}/*"}}' for name in splits)
        card = _CARD.format(title=title, text=text, arrays=arrays, command=command, files=files)
        with replacing(folder / "README.md") as temporary:
            temporary.write_text(card, encoding="utf-8")
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from error
    return path


class Pairs(Dataset[dict[str, Tensor]]):
    """A split of a data set, for a ``DataLoader``.

    Every item has ``before`` and ``after``, float32 ``[3, height, width]`` in [-1, 1], and the arrays of its truth.
    What differs in length from pair to pair needs a ``collate_fn`` of your own, or to be left out.

    Args:
        folder: of the data set.
        split: of it.
        arrays: names of the arrays that items have; None: all.

    Raises:
        ConfigError: there is no such split, or it cannot be read.
    """

    def __init__(self, folder: str | Path, split: str = "train", arrays: Iterable[str] | None = None) -> None:
        self.folder, self.split = Path(folder), check_split(split)
        self._arrays = None if arrays is None else tuple(arrays)
        path = self.folder / split / "metadata.jsonl"
        try:
            self.rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read {path} ({error}); `draggan dataset` writes such folders") from error

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self.rows[index]
        item = {name: _picture(self.folder / self.split / row[f"{name}_file_name"]) for name in ("before", "after")}
        with np.load(self.folder / row["truth"], allow_pickle=False) as file:
            names = file.files if self._arrays is None else self._arrays
            return item | {name: torch.from_numpy(file[name]) for name in names}


def _picture(path: Path) -> Tensor:
    with Image.open(path) as picture:
        pixels: UInt8[np.ndarray, "height width 3"] = np.array(picture.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
