"""Sixty fixed drags on the built-in cat, through the command line: do they arrive, how soon, and did the content move?

Twenty seeds, three drags each, from exact landmarks: the lower lip down (16 px), an ear tip up and out (20 px), the
nose sideways (32 px, away from the side that it faces). Seeds are drawn without truncation, so that the scene of a
seed, and with it every landmark, is known exactly.

Distances are measured twice: by the tracker of the drag, and without any features: the patch of the picture around the
handle before the drag is looked for in the picture after it by normalised cross-correlation, both at half their size.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from benchmarks import machine
from benchmarks.timing import publish
from draggan.cli import main as draggan
from draggan.generators.base import z_from_seed
from draggan.scenes import find_scene

__all__ = ["main", "match"]

SIZE = 256
"""Pixels of the cat's pictures."""


def match(
    before: UInt8[np.ndarray, "height width 3"],
    after: UInt8[np.ndarray, "height width 3"],
    point: tuple[float, float],
    *,
    radius: int = 7,
    search: int = 24,
) -> tuple[Float[np.ndarray, "2"], float]:
    """Where the patch around a point went, by normalised cross-correlation over whole pixels.

    Returns:
        The position ``(x, y)`` in the second picture, and the correlation there (1: the same up to brightness and
        contrast).
    """
    pad = radius + search + 1
    margins = [(pad, pad), (pad, pad), (0, 0)]
    first, second = (np.pad(picture.astype(np.float64), margins, mode="edge") for picture in (before, after))
    x, y = (round(v) + pad for v in point)

    def patch(picture: np.ndarray, cx: int, cy: int) -> np.ndarray:
        cut = picture[cy - radius : cy + radius + 1, cx - radius : cx + radius + 1]
        cut = cut - cut.mean((0, 1))
        return cut / (np.linalg.norm(cut) + 1e-9)

    wanted = patch(first, x, y)
    offsets = [(dx, dy) for dy in range(-search, search + 1) for dx in range(-search, search + 1)]
    scores = [float((wanted * patch(second, x + dx, y + dy)).sum()) for dx, dy in offsets]
    best = int(np.argmax(scores))
    return np.array([x - pad + offsets[best][0], y - pad + offsets[best][1]], float), scores[best]


def drags(seed: int) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
    """Handle and target of the three drags for a seed."""
    scene = find_scene("cat")
    rendering = scene.render(scene.parameters(z_from_seed(seed, scene.z_dim).numpy()), SIZE)
    points = dict(zip(scene.landmarks, rendering.points[0].round().astype(float).tolist(), strict=True))

    def pair(name: str, dx: float, dy: float) -> tuple[tuple[float, float], tuple[float, float]]:
        x, y = (min(max(v, 2.0), SIZE - 3.0) for v in points[name])
        return (x, y), (min(max(x + dx, 2.0), SIZE - 3.0), min(max(y + dy, 2.0), SIZE - 3.0))

    side = -1 if points["nose"][0] > points["head_top"][0] else 1
    return {
        "mouth": pair("lower_lip", 0, 16),
        "ear": pair("left_ear_tip", -12, -16),
        "nose": pair("nose", 32 * side, 0),
    }


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks drags", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two seeds")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("options", nargs="*", help="further options of `draggan drag`, after --")
    args = parser.parse_args(argv)
    machine.load_operators()  # as the first drag would
    here = machine.describe()
    rows: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory() as folder:
        before, after = str(Path(folder) / "before.png"), str(Path(folder) / "after.png")
        for seed in range(2 if args.quick else 20):
            for name, (handle, target) in drags(seed).items():
                point = f"{handle[0]:g},{handle[1]:g}:{target[0]:g},{target[1]:g}"
                command = ["drag", "--model", "cat", "--seed", str(seed), "--truncation", "1", "--point", point]
                command += ["--before", before, "--out", after, "--json", *args.options]
                output = io.StringIO()
                with contextlib.redirect_stdout(output):
                    status = draggan(command)
                if status != 0:
                    return status
                result = json.loads(output.getvalue())
                halves = [
                    np.asarray(Image.open(p).resize((SIZE // 2,) * 2, Image.Resampling.BOX)) for p in (before, after)
                ]
                found, score = match(halves[0], halves[1], ((handle[0] - 0.5) / 2, (handle[1] - 0.5) / 2))
                result["matched"] = float(np.linalg.norm(2 * found + 0.5 - np.array(target)))
                result["correlation"] = score
                rows.setdefault(name, []).append(result)
    text = report(rows, here)
    publish(text, args.out)
    return 0


def report(rows: dict[str, list[dict]], here: machine.Machine) -> str:
    """The table as Markdown."""
    everything = {**rows, "all": [r for drag in rows.values() for r in drag]}
    lines = [
        "# Sixty fixed drags on the built-in cat",
        "",
        "`python -m benchmarks drags`; see benchmarks/drags.py for what is dragged and how it is measured.",
        "",
        f"{here.markdown()}.",
        "",
        "| drag | number | asked px | arrived | steps, median (worst) | ms a step, median "
        "| left by the tracker px, mean | left by cross-correlation px, median |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, results in everything.items():
        asked = np.mean([np.linalg.norm(np.subtract(r["targets"][0], r["handles"][0])) for r in results])
        arrived = sum(r["outcome"] == "arrived" for r in results)
        steps = [r["steps"] for r in results]
        lines.append(
            f"| {name} | {len(results)} | {asked:.1f} | {arrived} | {np.median(steps):.0f} ({max(steps)}) "
            f"| {1e3 * np.median([r['seconds_per_step'] for r in results]):.0f} "
            f"| {np.mean([r['distances'][0] for r in results]):.2f} "
            f"| {np.median([r['matched'] for r in results]):.1f} |"
        )
    others = Counter(r["outcome"] for r in everything["all"] if r["outcome"] != "arrived")
    if others:
        lines += ["", f"The others ended: {', '.join(f'{what} {count}' for what, count in others.most_common())}."]
    return "\n".join(lines) + "\n"
