"""What a mask holds: the loss alone against pictures blended outside it, on drags of all built-in models.

A random landmark is dragged by 6, 10 or 15 % of the picture's width in a random direction, within a mask that reaches
an eighth, a fifth or a quarter of the width around its way. Every case is dragged three times, one after the other:
without a mask, with one that holds softly (the loss alone), and with one that holds exactly (the loss, and features
blended with those of the first picture).
"""

from __future__ import annotations

import dataclasses
import io
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from benchmarks.examples import joined
from benchmarks.timing import race, table
from draggan import suggested_config
from draggan.checkpoints import catalogue
from draggan.drag import Drag
from draggan.evaluation.protocols import Mask, Task, around
from draggan.evaluation.protocols.pulls import TRULY
from draggan.evaluation.report import tile
from draggan.evaluation.subject import Subject, load_subject
from draggan.generators.blending import FEATHER, Picture
from draggan.pixels import to_uint8

__all__ = ["compare"]

CASES = {"no mask": None, "soft": "soft", "exact": "exact"}
LENGTHS = (0.06, 0.10, 0.15)
MARGINS = (5, 8, 4)  # parts of the width
SEED = 700  # not those of the evaluation


def compare(count: int, sheet: Path | None, first_seed: int = SEED) -> str:
    """Tables of so many cases per model.

    Args:
        first_seed: of the first picture.
        sheet: where to write the pictures: start, loss alone, blended.
    """
    rows: list[list[object]] = []
    costs: list[list[object]] = []
    strips: list[np.ndarray] = []
    for model in (entry.name for entry in catalogue.all_models() if entry.builtin):
        subject = load_subject(model, device="cpu")
        cases = [_case(subject, model, task, strips) for task in _tasks(subject, count, first_seed)]
        for name in CASES:
            found = [case[name] for case in cases]
            rows.append(
                [
                    model,
                    name,
                    f"{sum(f['arrived'] for f in found):.0f} of {len(found)}",
                    f"{sum(f['arrived'] * f['there'] for f in found):.0f}",
                    f"{sum(f['there'] for f in found):.0f}",
                    f"{np.mean([f['left'] for f in found]):.2f}",
                    *(f"{np.mean([f[k] for f in found]):.2f}" for k in ("outside", "beyond", "inside")),
                    f"{np.max([f['worst'] for f in found]):.0f}",
                    f"{np.median([f['border'] for f in found]):.2f}",
                    f"{np.median([f['ring'] for f in found]):.2f}",
                    f"{np.mean([f['seconds'] for f in found]):.2f}",
                ]
            )
        costs += _costs(subject, model)
    if sheet is not None:
        buffer = io.BytesIO()
        comment = b"AI-generated images, made with DragGAN"
        Image.fromarray(joined(strips, columns=3)).save(buffer, "JPEG", quality=70, comment=comment)
        sheet.write_bytes(buffer.getvalue())
    columns = ["model", "mask", "arrived", "of these true", "truly there", "px left", "change outside"]
    columns += ["beyond the feather", "inside", "largest outside", "step across the border", "gradient near it"]
    columns += ["processor s a drag"]
    text = (
        "Changes are mean absolute differences from the first picture, of 255; beyond the feather: 4 px farther out "
        "than it reaches. Gradients, as a share of the first picture's at the same place, median over the cases: "
        "between pixels on either side of the border, and of all pixels up to 3 px from it. Truly there: where the "
        "landmark network finds what was pulled in the picture of the latent, within 3.5 % of the width of its target."
    )
    cost_columns = ["model", "mask", "picture without", "masked picture", "first picture, once", "kept of it"]
    return f"{text}\n\n{table(columns, rows)}\n\n{table(cost_columns, costs)}"


def _tasks(subject: Subject, count: int, first_seed: int) -> list[Task]:
    """As the evaluation's protocol makes them, of other lengths and with other masks."""
    tasks: list[Task] = []
    index = 0
    protocol = Mask(first_seed=first_seed)
    while len(tasks) < count:
        task = protocol.task(subject, index)
        index += 1
        if isinstance(task, str):
            continue
        number, width = len(tasks), max(subject.size)
        handle, target = task.handles[0], task.targets[0]
        step = (target - handle) / np.linalg.norm(target - handle) * LENGTHS[number % 3] * width
        target = np.clip(handle + step, 0, np.array(subject.size[::-1]) - 1).astype(np.float32)
        mask = around(handle.tolist(), target.tolist(), subject.size, width / MARGINS[number // 3 % 3])
        tasks.append(dataclasses.replace(task, targets=target[None], mask=mask))
    return tasks


def _case(subject: Subject, model: str, task: Task, strips: list[np.ndarray]) -> dict[str, dict[str, float]]:
    """Figures of one drag, three times."""
    generator, mask = subject.generator, task.mask
    assert mask is not None
    with torch.no_grad():
        before = generator.synthesis(task.ws)
    first = to_uint8(before)
    feather = round(FEATHER * max(subject.size) / 512)
    grown = F.max_pool2d(torch.from_numpy(mask).float()[None, None], 2 * (feather + 4) + 1, 1, feather + 4)
    beyond = grown[0, 0].numpy() == 0
    found: dict[str, dict[str, float]] = {}
    tiles = [_outlined(before, mask, task)]
    for name, hold in CASES.items():
        config = suggested_config(model, **({} if hold is None else {"mask_hold": hold}))
        clock = time.process_time()
        drag = Drag(generator, task.ws, task.handles, task.targets, None if hold is None else mask, config)
        *_, last = drag
        seconds = time.process_time() - clock
        picture = drag.picture(last)
        pixels = to_uint8(picture)
        change = np.abs(pixels.astype(float) - first).mean(2)
        found[name] = {
            "arrived": float(last.outcome == "arrived"),
            "there": float(_is_there(subject, task, last.ws)),
            "left": float(last.distances.max()),
            "outside": float(change[~mask].mean()),
            "beyond": float(change[beyond].mean()) if beyond.any() else 0.0,
            "inside": float(change[mask].mean()),
            "worst": float(change[~mask].max()),
            "border": _across(pixels, mask) / _across(first, mask),
            "ring": _near(pixels, mask) / _near(first, mask),
            "seconds": seconds,
        }
        if hold is not None:
            tiles.append(tile(picture, last.handles, last.targets, 192, f"{hold}, {last.outcome}"))
    strips.append(np.concatenate(tiles, 1))
    print(model, task.seed, found, flush=True)
    return found


def _is_there(subject: Subject, task: Task, ws: Tensor) -> bool:
    """Whether the landmark network, which knows nothing of the drag, finds at the target what was pulled."""
    before, after = (subject.find(subject.picture(latent)) for latent in (task.ws, ws))
    # Every built-in model has such a network.
    assert before is not None
    assert after is not None
    landmark = np.linalg.norm(before - task.handles[0], axis=1).argmin()
    return bool(np.linalg.norm(after[landmark] - task.targets[0]) <= TRULY * subject.size[1])


def _outlined(picture: Tensor, mask: Bool[np.ndarray, "height width"], task: Task) -> UInt8[np.ndarray, "h w 3"]:
    """The first picture, darker where nothing may change."""
    shade = torch.from_numpy(np.where(mask, 1.0, 0.45)).float()
    return tile((picture.clamp(-1, 1) + 1) * shade - 1, task.handles, task.targets, 192, f"seed {task.seed}")


def _grey(pixels: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width"]:
    return pixels.astype(float).mean(2)


def _across(pixels: UInt8[np.ndarray, "height width 3"], mask: Bool[np.ndarray, "height width"]) -> float:
    """Mean absolute difference of neighbours on either side of the border."""
    grey = _grey(pixels)
    beside, below = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    return float(np.concatenate([np.abs(np.diff(grey))[beside], np.abs(np.diff(grey, axis=0))[below]]).mean())


def _near(pixels: UInt8[np.ndarray, "height width 3"], mask: Bool[np.ndarray, "height width"]) -> float:
    """Mean absolute gradient of the pixels up to 3 px from the border."""
    m = torch.from_numpy(mask).float()[None, None]
    near = (F.max_pool2d(m, 7, 1, 3) + F.max_pool2d(1 - m, 7, 1, 3))[0, 0].numpy() > 1
    grey = _grey(pixels)
    right, down = np.diff(grey, append=grey[:, -1:]), np.diff(grey, axis=0, append=grey[-1:])
    return float((np.abs(right) + np.abs(down))[near].mean())


def _costs(subject: Subject, model: str) -> list[list[object]]:
    """Of a picture with masks of three sizes, by turns with one without."""
    generator = subject.generator
    ws, other = (subject.latent(subject.noise(seed)) for seed in (1, 2))
    height, width = subject.size
    rows: list[list[object]] = []
    for part in (16, 8, 4, 2):
        y, x = np.mgrid[:height, :width]
        mask = np.hypot(x - width / 2, y - height / 2) < width / part
        blend = generator.blend(mask, Picture(ws=ws))

        def plain() -> None:
            with torch.no_grad():
                generator.synthesis(other)

        times = race(
            {
                "plain": plain,
                "masked": partial(blend.synthesis, other),
                "first": partial(generator.blend, mask, Picture(ws=ws)),
            },
            repeats=15,
        )
        plain_time, masked, once = (times[name] for name in ("plain", "masked", "first"))
        kept = f"{blend.memory / 2**20:.1f} MiB"
        rows.append([model, f"radius {width // part} px", str(plain_time), str(masked), str(once), kept])
    return rows
