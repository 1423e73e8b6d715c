"""Crops proposed by the built-in models' own networks: how often they are right, and how often something is proposed
where there is nothing.

Renderings of the models' scenes, of parameters that no training saw, are pasted at random places and sizes (30 to 90 %
of the shorter side) into photographs; where each is, the random numbers know, not the networks. *Right*: the proposal
and the pasted square have at least 60 % of their area in common (intersection over union). *Where it is not*: the same
photographs without the rendering, or with one of another model's scene in its place.

The photographs are some that come with scikit-image (NASA's are in the public domain, the others CC0); without it,
noise. ::

    python -m benchmarks crops --cases 40 --photographs skimage/data --out benchmarks/crops.md
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import draggan
from benchmarks import machine
from benchmarks.timing import publish, table
from draggan.checkpoints.store import locate
from draggan.engine.models import file_sha256
from draggan.inversion import Photo
from draggan.inversion.find_crop import crop_finder
from draggan.scenes import find_scene
from draggan.scenes.pool import scene_noise

__all__ = ["main"]

_MODELS = ("face", "cat", "car")
_SEED, _BLOCK = 999, 23  # of no training
_PHOTOGRAPHS = ("coffee.png", "rocket.jpg", "brick.png", "grass.png", "gravel.png", "chelsea.png", "astronaut.png")
_SIZES = ((768, 512), (600, 800), (900, 900), (1024, 640))
_RIGHT = 0.6


def main(argv: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks crops", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(_MODELS))
    parser.add_argument("--cases", type=int, default=40, help="of each model, with as many without (default: 40)")
    parser.add_argument("--photographs", type=Path, help="the folder skimage/data")
    parser.add_argument("--minutes", type=float, help="then stop; cases that are in --json are not made again")
    parser.add_argument("--quick", action="store_true", help="two cases of each")
    parser.add_argument("--json", type=Path, help="add rows to this file, and report on all that are in it")
    parser.add_argument("--out", type=Path, help="write the report here")
    machine.add_options(parser)
    args = parser.parse_args(argv)
    here = machine.prepare(args)
    rows: list[dict[str, Any]] = json.loads(args.json.read_text()) if args.json and args.json.exists() else []
    there, begun = {(row["model"], row["index"]) for row in rows}, time.monotonic()
    finders: dict[str, Any] = {}
    for index in range(2 if args.quick else args.cases):
        for name in args.models:
            if (name, index) in there or (args.minutes and time.monotonic() - begun > 60 * args.minutes):
                continue
            if name not in finders:
                generator = draggan.load_generator(name, device="cpu")
                finders[name] = crop_finder(name, file_sha256(locate(name)), generator)
            rows.append(_case(name, finders[name], index, args.photographs))
            print(json.dumps(rows[-1]), flush=True)
            if args.json:
                args.json.write_text(json.dumps(rows))
    publish(_report(rows, here), args.out)
    return 0


def _case(name: str, finder: Any, index: int, photographs: Path | None) -> dict[str, Any]:
    random = np.random.default_rng([_MODELS.index(name), index])
    width, height = _SIZES[random.integers(len(_SIZES))]
    behind = _photograph(random, (width, height), photographs)
    side = int(min(width, height) * random.uniform(0.3, 0.9))
    x, y = int(random.integers(0, width - side + 1)), int(random.integers(0, height - side + 1))
    row: dict[str, Any] = {"model": name, "index": index}
    others = [other for other in _MODELS if other != name]
    for what in ("with", "without"):
        pixels = behind.copy()
        # Without: every other time nothing at all.
        drawn = name if what == "with" else others[index // 2 % 2] if index % 2 else ""
        if drawn:
            square = Image.fromarray(_rendering(drawn, index)).resize((side, side), Image.Resampling.BICUBIC)
            pixels[y : y + side, x : x + side] = np.asarray(square)
        begun = time.perf_counter()
        found = finder.find(Photo(pixels=pixels, name=""))
        seconds = time.perf_counter() - begun
        (left, top), far = found.crop.corners.min(0) + 0.5, 2 * found.crop.right[0]
        row[what] = {
            "sure": found.is_sure,
            "spread": found.spread,
            "psnr": found.psnr,
            "common": _common((left, top, far), (x, y, side)) if what == "with" else 0.0,
            "seconds": seconds,
        }
    return row


def _rendering(name: str, index: int) -> np.ndarray:
    scene = find_scene(name)
    drawn = scene.render(scene.parameters(scene_noise(scene, _SEED, _BLOCK)[index : index + 1]), 256)
    return drawn.pictures[0].transpose(1, 2, 0).copy()


def _photograph(random: np.random.Generator, size: tuple[int, int], folder: Path | None) -> np.ndarray:
    name = _PHOTOGRAPHS[random.integers(len(_PHOTOGRAPHS))]
    if folder is None:
        return random.integers(0, 256, (size[1], size[0], 3), np.uint8)
    with Image.open(folder / name) as image:
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC)).copy()


def _common(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """Of two squares, intersection over union."""
    across, down = (max(0.0, min(a[k] + a[2], b[k] + b[2]) - max(a[k], b[k])) for k in (0, 1))
    return across * down / (a[2] ** 2 + b[2] ** 2 - across * down)


def _report(rows: list[dict[str, Any]], here: machine.Machine) -> str:
    lines = []
    for name in _MODELS:
        some = [row for row in rows if row["model"] == name]
        if not some:
            continue
        found = [row["with"] for row in some]
        right = [one["common"] >= _RIGHT for one in found]
        sure = [one["sure"] for one in found]
        proposed = [row["without"]["sure"] for row in some]
        lines.append(
            [
                *(name, len(some), sum(sure), sum(s and r for s, r in zip(sure, right, strict=True))),
                f"{np.mean([one['common'] for one in found]):.2f}",
                sum(right),
                sum(proposed),
                f"{np.median([one['seconds'] for one in found]):.1f}",
            ]
        )
    heads = ["model", "cases", "proposed", "of those right", "in common, mean", "right if always proposed"]
    heads += ["proposed where it is not", "s"]
    what = " ".join((__doc__ or "").split("\n\n")[1].split())
    return "\n".join(["# Crops", "", here.markdown(), "", f"`benchmarks/crops.py`. {what}", "", table(heads, lines)])
