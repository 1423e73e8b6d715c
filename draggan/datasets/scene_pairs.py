"""Pairs of renderings of one scene that moves, with everything that is true of them.

The pictures are drawn by the scenes' renderer, not by a network: where every point of the surface went is known
exactly, also where it went out of sight.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from draggan.config import SEEDS
from draggan.datasets.folder import check_split, row_of, truth_path, write_split, write_truth
from draggan.errors import ConfigError
from draggan.export import Provenance, save_picture
from draggan.scenes import find_scene
from draggan.scenes.scene import Scene

__all__ = ["APPEARANCE", "ScenePairs", "write_scene_pairs"]

APPEARANCE = frozenset(
    (
        *("fur_hue", "fur_saturation", "fur_brightness", "stripes", "white", "eye_hue"),
        *("iris", "lip_colour", "hair_lightness", "hair_warmth", "skin", "undertone", "glasses"),
        *("cloth_hue", "cloth_brightness", "paint_hue", "paint_saturation", "paint_brightness", "roof_white"),
        *("glass", "spokes", "ground", "back_hue", "back_saturation", "back_brightness", "light_x"),
    )
)
"""Parameters that do not move: colours, light, and what is there or not. They are the same in both pictures."""

ARRAYS = (
    "`flow` [height, width, 2], how far the content of every pixel of the first picture moved, x and y in pixels; "
    "`flow_known` [height, width], whether it shows in both; `landmarks_before` and `landmarks_after` [landmark, 2], "
    "`visible_before` and `visible_after`; `segments_before` and `segments_after` [height, width], numbers of parts; "
    "`parameters_before` and `parameters_after` of the scene; `points` [n, 4], as in the metadata"
)
_BLOCK = 16


# No network draws them, so they are not marked as if one had.
_PROVENANCE = Provenance(source="algorithmicMedia", door="command line")


@dataclass(frozen=True, kw_only=True)
class ScenePairs:
    """What pairs of a scene are made.

    Attributes:
        scene: its name.
        count: pairs.
        size: height and width, pixels.
        split: which split they are.
        seed: the same pairs for the same seed; another one for every split.
        motion: how far parameters move, as a part of their range: standard deviation.
        points: of every pair, on the surface and in sight in both pictures, at most.

    Raises:
        ConfigError: a value outside its range.
    """

    scene: str
    count: int
    size: int = 128
    split: str = "train"
    seed: int = 0
    motion: float = 0.15
    points: int = 32

    def __post_init__(self) -> None:
        find_scene(self.scene)
        check_split(self.split)
        for name, low, high in (
            ("count", 1, 10_000_000),
            ("size", 8, 2048),
            ("seed", 0, SEEDS - 1),
            ("motion", 0.001, 1),
            ("points", 1, 10_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} = {value} is not allowed; give {low} to {high}")


def write_scene_pairs(folder: Path, wanted: ScenePairs, progress: Callable[[int, int], None]) -> Path:
    """Write a split of pairs; those that are there whole are left as they are.

    Args:
        progress: called with the pairs that are done and all of them.

    Returns:
        The path of the metadata.

    Raises:
        ConfigError: the scene has no flow.
        OpBuildError: the renderer could not be compiled.
        ExportError: a file cannot be written.
    """
    scene = find_scene(wanted.scene)
    (folder / wanted.split).mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    # Encoding a picture takes longer than drawing it.
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for first in range(0, wanted.count, _BLOCK):
            pairs = _block(scene, wanted, first, min(_BLOCK, wanted.count - first))
            rows += threads.map(lambda pair: pair.written(folder, scene, wanted), pairs)
            progress(len(rows), wanted.count)
    return write_split(
        folder,
        wanted.split,
        rows,
        title=f"Pairs of the scene '{scene.name}'",
        text="Renderings of one procedural scene that moves: the same colours and light, other pose and shape.",
        arrays=ARRAYS,
        command=f"draggan dataset scenes --scene {scene.name}",
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pair:
    number: int
    pictures: tuple[np.ndarray, np.ndarray]
    arrays: dict[str, np.ndarray]

    def written(self, folder: Path, scene: Scene, wanted: ScenePairs) -> dict[str, Any]:
        """Write it, if it is not there; its line."""
        name = f"{self.number:06d}"
        if not (folder / truth_path(wanted.split, name)).is_file():
            details = {"scene": scene.name, "seed": wanted.seed, "pair": self.number}
            for end, pixels in zip(("before", "after"), self.pictures, strict=True):
                path = folder / wanted.split / f"{name}-{end}.png"
                save_picture(path, pixels, details, provenance=_PROVENANCE)
            # Last: where the arrays are, the pictures are.
            write_truth(folder, wanted.split, name, self.arrays)
        facts = {
            "scene": scene.name,
            "seed": wanted.seed,
            "landmarks": list(scene.landmarks),
            "landmarks_before": _marked(self.arrays, "before"),
            "landmarks_after": _marked(self.arrays, "after"),
            "parts": list(scene.parts),
        }
        return row_of(wanted.split, name, self.arrays["points"], facts)


def _marked(arrays: dict[str, np.ndarray], end: str) -> list[list[float]]:
    """Landmarks as lists of x, y, and 1 where they show."""
    marks = np.column_stack([arrays[f"landmarks_{end}"], arrays[f"visible_{end}"]])
    return np.round(marks.astype(float), 3).tolist()


def _block(scene: Scene, wanted: ScenePairs, first: int, count: int) -> list[_Pair]:
    """Some pairs, drawn and measured together."""
    size = wanted.size
    a, b = np.empty((count, scene.z_dim), np.float32), np.empty((count, scene.z_dim), np.float32)
    for i in range(count):
        a[i], b[i] = _moved(scene, np.random.default_rng((wanted.seed, first + i)), wanted.motion)
    before, after = (scene.render(p, size, segments=True) for p in (a, b))
    x, y = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32))
    there, known = scene.flow(a, b, np.stack([x, y], -1).reshape(-1, 2), size)
    flow = there.reshape(count, size, size, 2) - np.stack([x, y], -1)
    # The backdrop has no content of its own: it stays where it is, and is not known to move.
    known = known.reshape(count, size, size)
    return [
        _Pair(
            number=first + i,
            pictures=(before.pictures[i].transpose(1, 2, 0), after.pictures[i].transpose(1, 2, 0)),
            arrays={
                "flow": flow[i],
                "flow_known": known[i],
                "landmarks_before": before.points[i],
                "landmarks_after": after.points[i],
                "visible_before": before.visible[i],
                "visible_after": after.visible[i],
                "segments_before": before.segments[i],  # type: ignore[index]  # asked for
                "segments_after": after.segments[i],  # type: ignore[index]
                "parameters_before": a[i],
                "parameters_after": b[i],
                "points": _points(flow[i], known[i], wanted.points, np.random.default_rng((wanted.seed, first + i, 1))),
            },
        )
        for i in range(count)
    ]


def _moved(
    scene: Scene, random: np.random.Generator, motion: float
) -> tuple[Float32[np.ndarray, "z_dim"], Float32[np.ndarray, "z_dim"]]:
    """Parameters of a random scene, and of the same after some of what can move has moved."""
    start = scene.parameters(random.standard_normal((1, scene.z_dim)))[0]
    able = np.array([p.name not in APPEARANCE for p in scene.parameters_table])
    # From one thing that moves to everything: pairs of both kinds are wanted.
    able &= random.random(scene.z_dim) < random.uniform(1 / able.sum(), 1)
    low, high = (np.array([getattr(p, end) for p in scene.parameters_table]) for end in ("low", "high"))
    step = motion * (high - low) * random.standard_normal(scene.z_dim)
    return start, np.where(able, np.clip(start + step, low, high), start).astype(np.float32)


def _points(
    flow: Float32[np.ndarray, "size size 2"], known: np.ndarray, count: int, random: np.random.Generator
) -> Float[np.ndarray, "n 4"]:
    """Random pixels of the surface, and where they went, inside the picture."""
    y, x = np.nonzero(known)
    chosen = random.permutation(len(x))
    at = np.stack([x, y], -1)[chosen].astype(np.float32)
    to = at + flow[y[chosen], x[chosen]]
    inside = ((to >= 0) & (to <= len(flow) - 1)).all(1)
    return np.concatenate([at, to], 1)[inside][:count]
