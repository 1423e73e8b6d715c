"""What a person waits for: a picture, a preview, a whole drag with its picture, and Live, of the built-in models.

The first examples of every model, by turns with other weights of the same names (``--against FOLDER``: their examples'
points are scaled to the size of their pictures, and they are dragged on a quarter of it). *Live* is a pointer that goes
to the target in twenty places, with the steps and previews that each of them takes. Everything runs until nothing is
recorded any more before it is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks import machine
from benchmarks.timing import Sample, publish, race, steady, table
from draggan import load_generator, suggested_config, suggested_truncation, to_uint8
from draggan.checkpoints import catalogue
from draggan.config import DragConfig
from draggan.drag import Drag
from draggan.generators.base import Generator

__all__ = ["main"]

PLACES = 20
"""Of the pointer, in Live."""
_MOST_STEPS = 6
"""That Live takes for one place; the pointer does not wait."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A model, an example, and how it is dragged."""

    generator: Generator
    ws: Tensor
    handles: Float[np.ndarray, "n 2"]
    targets: Float[np.ndarray, "n 2"]
    config: DragConfig

    @classmethod
    def of(cls, name: str, file: Path | None, device: str, **settings: object) -> Subject:
        """The first example of a model; of another file of it, on the points in the same place."""
        generator = load_generator(name if file is None else str(file), device)
        entry = catalogue.find(name)
        preset = entry.presets[0]
        assert entry.size is not None
        scale = generator.image_size[0] / entry.size[0]
        points = np.array(preset.points, np.float64) * scale
        config = suggested_config(name, **({"level": None} if file is not None else {}), **settings)
        ws = generator.sample(preset.seed, suggested_truncation(name))
        return cls(generator=generator, ws=ws, handles=points[:, :2], targets=points[:, 2:], config=config)

    @torch.no_grad()
    def picture(self) -> np.ndarray:
        """As a person gets it."""
        return to_uint8(self.generator.synthesis(self.ws))

    @torch.no_grad()
    def preview(self) -> np.ndarray:
        """The smallest one from 128 px on."""
        heights = self.generator.preview_heights
        return to_uint8(self.generator.preview(self.ws, min((h for h in heights if h >= 128), default=heights[-1])))

    def drag(self) -> np.ndarray:
        """A whole drag, and its picture."""
        *_, last = Drag(self.generator, self.ws, self.handles, self.targets, config=self.config)
        with torch.no_grad():
            return to_uint8(self.generator.synthesis(last.ws))

    def live(self) -> np.ndarray:
        """A pointer on its way, a preview for each of its places."""
        drag = Drag(self.generator, self.ws, self.handles, self.handles, config=self.config, live=True)
        heights = self.generator.preview_heights
        height = min((h for h in heights if h >= 128), default=heights[-1])
        shown = None
        for share in np.arange(1, PLACES + 1) / PLACES:
            drag.retarget(self.handles + share * (self.targets - self.handles))
            for _ in range(_MOST_STEPS):
                if drag.would_sleep():
                    break
                step = next(drag)
                with torch.no_grad():
                    shown = to_uint8(self.generator.preview(step.ws, height))
        drag.stop()
        assert shown is not None
        return shown


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks on_device", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one model, few rounds")
    parser.add_argument("--models", nargs="+", default=[m.name for m in catalogue.all_models() if m.builtin])
    parser.add_argument("--against", type=Path, help="a folder with other files of the same names")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    machine.add_options(parser)
    args = parser.parse_args(argv)
    here = machine.prepare(args)
    rows: list[list[object]] = []
    for name in args.models[:1] if args.quick else args.models:
        files: dict[str, Path | None] = {"shipped": None}
        if args.against is not None:
            files["against"] = args.against / f"{name}.safetensors"
        runs: dict[tuple[str, str], Callable[[], object]] = {}
        for which, file in files.items():
            usual = Subject.of(name, file, args.device)
            adam = Subject.of(name, file, args.device, solver="adam")
            runs[which, "picture"] = usual.picture
            runs[which, "preview"] = usual.preview
            runs[which, f"drag, {usual.config.solver}"] = usual.drag
            runs[which, "drag, adam"] = adam.drag
            runs[which, f"Live, {PLACES} places"] = usual.live
        for work in runs.values():
            steady(work)
        samples = race(runs, warmup=0 if args.quick else 1, repeats=2 if args.quick else args.repeats, limit=60)
        for what in dict.fromkeys(what for _, what in runs):
            shipped, other = samples["shipped", what], samples.get(("against", what))
            rows.append([name, what, shipped, *_compared(shipped, other)])
            print(" | ".join(map(str, rows[-1])), flush=True)
    columns = ["model", "", "shipped (median, quartiles)", "against", "times as long", "the same, processor time"]
    publish(f"`python -m benchmarks on_device`; {here.markdown()}\n\n{table(columns, rows)}", args.out)
    return 0


def _compared(shipped: Sample, other: Sample | None) -> list[object]:
    if other is None:
        return ["-", "-", "-"]
    processor = float(np.median(shipped.cpu)) / max(float(np.median(other.cpu)), 1e-9)
    return [other, f"{shipped.median / other.median:.2f}", f"{processor:.2f}"]
