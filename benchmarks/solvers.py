"""Both solvers on the built-in models: landmarks of scenes pulled by 16 px in a random direction, one at a time.

Every seed's picture is drawn without truncation, so its scene, and with it where the landmark is, is known exactly.
Distances are those of the drag's own tracker, which follows content for one solver and looks for the most similar place
for the other; `evaluation` and `truth` measure independently of both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks import machine
from benchmarks.timing import publish, table
from draggan import load_generator, suggested_config
from draggan.config import DragConfig
from draggan.drag import Drag
from draggan.drag.latent_statistics import latent_statistics
from draggan.generators.base import Generator, z_from_seed
from draggan.scenes import find_scene

__all__ = ["drags", "main"]

LANDMARKS = {
    "cat": ("lower_lip", "left_ear_tip", "nose"),
    "face": ("lower_lip", "left_eye_upper", "nose_tip"),
    "car": ("roof", "near_front_wheel", "near_rear_window_top"),
}


def drags(model: str, generator: Generator, seed: int, length: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Handle and target of every landmark that is visible in a seed's picture."""
    scene, size = find_scene(model), max(generator.image_size)
    z = z_from_seed(seed, generator.z_dim).numpy()
    rendering = scene.render(scene.parameters(z), size)
    random = np.random.default_rng(seed)
    pairs = []
    for name in LANDMARKS[model]:
        angle, k = random.uniform(0, 2 * np.pi), scene.landmarks.index(name)
        if rendering.visible[0, k]:
            handle = rendering.points[0, k]
            target = handle + length * np.array([np.cos(angle), np.sin(angle)])
            pairs.append((handle.clip(3, size - 4), target.clip(3, size - 4)))
    return pairs


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks solvers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--models", nargs="+", default=[*LANDMARKS], choices=[*LANDMARKS])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--length", type=float, default=16.0, help="px")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    here = machine.describe()
    rows: list[list[object]] = []
    for model in args.models:
        generator = load_generator(model, "cpu")
        known = latent_statistics(generator)
        found: dict[str, list[tuple[float, ...]]] = {"adam": [], "gauss-newton": []}
        for seed in range(1 if args.quick else args.seeds):
            ws = generator.sample(seed)
            for handle, target in drags(model, generator, seed, args.length):
                for solver in found:
                    config: DragConfig = suggested_config(model, solver=solver)
                    clock = time.process_time()
                    *_, last = Drag(generator, ws, [handle], [target], config=config)
                    seconds = time.process_time() - clock
                    moved = (last.ws - ws)[0]
                    whitened = 0.0
                    if known is not None:
                        whitened = float((moved.double() @ known.power(-0.5, floor=1e-6)).norm())
                    found[solver].append((last.outcome == "arrived", last.index, last.distances[0], seconds, whitened))
        for solver, values in found.items():
            arrived, steps, left, seconds_, whitened_ = np.array(values).T
            row: list[object] = [model, solver, f"{arrived.sum():.0f} of {len(arrived)}", f"{steps.mean():.1f}"]
            row += [f"{left.mean():.2f}", f"{seconds_.mean():.2f}", f"{whitened_.mean():.1f}"]
            rows.append(row)
            print(" | ".join(map(str, row)), flush=True)
    columns = ["model", "solver", "arrived", "steps, mean", "px left, mean", "processor s a drag"]
    columns += ["latent moved, whitened"]
    lines = [
        "# Both solvers on the built-in models",
        "",
        f"`python -m benchmarks solvers`: landmarks pulled by {args.length:g} px in random directions, one at a",
        "time, as far as they are visible in 10 seeds; each solver with the settings that the model's entry suggests.",
        "",
        f"{here.markdown()}.",
        "",
        table(columns, rows),
    ]
    text = "\n".join(lines)
    publish(text, args.out)
    return 0
