"""The examples of the page, before and after: every preset of a built-in model, dragged as the page drags it.

Whether an example shows what its name says is read from the two pictures by the model's landmark network: the scene's
parameters by `SceneReader`, distances between landmarks as they are. What should not change is measured beside it: the
mean colour of the backdrop's upper corners and of what is drawn, and the next largest change of shape or pose.

``--find`` looks for other examples of the same names, by trying the pulls of `WISHES` on the first seeds.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from benchmarks import machine
from benchmarks.timing import publish, table
from draggan import load_generator, suggested_config, suggested_truncation
from draggan.checkpoints import catalogue
from draggan.config import SOLVER_NAMES, DragConfig
from draggan.drag import Drag
from draggan.evaluation.attributes import SceneReader
from draggan.evaluation.report import tile
from draggan.generators.base import Generator
from draggan.landmarks import LandmarkNetwork, find_landmarks
from draggan.pixels import to_uint8
from draggan.scenes import find_scene

__all__ = ["WISHES", "Wish", "joined", "main"]

SIDE = 192
"""Pixels of a picture in the strips."""
COLUMNS = 3
"""Examples beside each other."""
READ_AT = 128
"""Pixels of the pictures that parameters are read from; larger ones are averaged down."""
COLOUR_DRIFT = 12.0
"""Most that a mean colour may change, of 255."""
ENOUGH = 3
"""Good examples of other seeds, after which no more are looked for."""
OTHER_CHANGE = 0.4
"""Most that another parameter may change, of its range."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What an example of some name has to show, and pulls that might.

    Attributes:
        reads: a parameter of the scene, in shares of its range, or how much farther down or to the right one landmark
            is than another, in percent of the width: ``"y: chin - nose"``, ``"x: nose - left_eye"``.
        least: the change that counts as shown; negative: downwards. 0.15 of a parameter's range is seen by anybody.
        starts: the reading in the first picture lies between these, or there is nothing left to show.
        pulls: landmark, and how far it is pulled in percent of the width; (0, 0) holds it where it is.
        with_it: parameters that may change as much, because the scene ties them to it.
    """

    reads: str
    least: float
    pulls: tuple[tuple[tuple[str, float, float], ...], ...]
    starts: tuple[float, float] = (-math.inf, math.inf)
    with_it: tuple[str, ...] = ()


WISHES: dict[str, dict[str, Wish]] = {
    "cat": {
        "Raise the ears": Wish(
            reads="ear_size",
            least=0.15,
            starts=(-1, 0.7),
            pulls=tuple(
                (("left_ear_tip", -x, -y), ("right_ear_tip", x, -y), *hold)
                for x, y in ((0, 5), (1, 6), (2, 7))
                for hold in ((), (("nose", 0, 0),))
            ),
            with_it=("ear_tilt", "ear_spread"),
        ),
        "Turn the head": Wish(
            reads="yaw", least=-0.2, starts=(0.4, 1.1), pulls=((("nose", -14, 0),), (("nose", -18, 0),))
        ),
        "Open the mouth": Wish(
            reads="mouth_open",
            least=0.25,
            starts=(-1, 0.4),
            pulls=tuple(
                (("lower_lip", 0, y), *hold)
                for y in (5, 7, 9)
                for hold in ((), (("nose", 0, 0),), (("upper_lip", 0, 0),))
            ),
        ),
        "Open the eyes": Wish(
            reads="eye_open",
            least=0.25,
            starts=(-1, 0.6),
            pulls=tuple(
                (("left_eye_upper", 0, -y), ("right_eye_upper", 0, -y), *hold)
                for y in (3, 4.5)
                for hold in ((), (("left_eye_lower", 0, 0), ("right_eye_lower", 0, 0)))
            ),
        ),
        "Look up": Wish(
            reads="pitch",
            least=-0.2,
            pulls=tuple(
                (("nose", 0, y), ("upper_lip", 0, y), *hold)
                for y in (-5, -7)
                for hold in ((), (("forehead", 0, y / 2),), (("head_top", 0, 0),), (("chin", 0, y / 2),))
            ),
            with_it=("shift_y",),
        ),
        "Look down": Wish(
            reads="pitch",
            least=0.2,
            pulls=tuple(
                (("nose", 0, y), ("upper_lip", 0, y), *hold)
                for y in (5, 7)
                for hold in ((), (("forehead", 0, y / 2),), (("head_top", 0, 0),), (("chin", 0, y / 2),))
            ),
            with_it=("shift_y",),
        ),
    },
    "face": {
        "Open the mouth": Wish(
            reads="mouth_open",
            least=0.25,
            starts=(-1, 0.4),
            pulls=tuple(
                (("lower_lip", 0, y), *hold)
                for y in (5, 7)
                for hold in ((), (("upper_lip", 0, 0),), (("nose_tip", 0, 0),))
            ),
        ),
        "Turn the head": Wish(
            reads="yaw", least=0.2, starts=(-0.1, 0.6), pulls=((("nose_tip", 12, 0),), (("nose_tip", 16, 0),))
        ),
        "Open the eyes": Wish(
            reads="eye_open",
            least=0.25,
            starts=(-1, 0.6),
            pulls=tuple(
                (("left_eye_upper", 0, -y), ("right_eye_upper", 0, -y), *hold)
                for y in (2.5, 4)
                for hold in ((), (("left_eye_lower", 0, 0), ("right_eye_lower", 0, 0)))
            ),
        ),
        "Close the mouth": Wish(
            reads="mouth_open",
            least=-0.25,
            starts=(0.5, 2),
            pulls=tuple(
                (("lower_lip", 0, -y), *hold)
                for y in (5, 7)
                for hold in ((), (("upper_lip", 0, 0),), (("nose_tip", 0, 0),))
            ),
        ),
        "Raise the brows": Wish(
            reads="y: left_brow_inner - left_eye_upper",
            least=-1.2,
            pulls=tuple(
                (("left_brow_inner", 0, -y), ("right_brow_inner", 0, -y), *hold)
                for y in (3, 4.5)
                for hold in ((("nose_tip", 0, 0),), (("left_eye_upper", 0, 0), ("right_eye_upper", 0, 0)))
            ),
        ),
        "Look up": Wish(
            reads="pitch",
            least=-0.2,
            pulls=tuple(
                (("nose_tip", 0, y), *hold)
                for y in (-5, -8)
                for hold in ((), (("upper_lip", 0, y),), (("head_top", 0, 0),), (("chin", 0, y / 2),))
            ),
            with_it=("shift_y",),
        ),
    },
    "car": {
        "Raise the roof": Wish(
            reads="roof_height", least=0.25, starts=(-1, 0.6), pulls=((("roof", 0, -5),), (("roof", 0, -7),))
        ),
        "Lower the roof": Wish(
            reads="roof_height", least=-0.25, starts=(0.4, 2), pulls=((("roof", 0, 5),), (("roof", 0, 7),))
        ),
        "Turn the car": Wish(
            reads="yaw",
            least=-0.1,
            pulls=((("near_front_bumper", 8, 0),), (("badge", 8, 0),), (("near_front_bumper", -8, 0),)),
            with_it=("shift_x", "length"),
        ),
        "Move the front wheel back": Wish(
            reads="x: near_front_bumper - near_front_wheel",
            least=1.5,
            pulls=tuple(
                (("near_front_wheel", side * x, 0), *hold)
                for side in (-1, 1)
                for x in (4, 6)
                for hold in (
                    (),
                    (("near_front_bumper", 0, 0),),
                    (("near_front_bumper", 0, 0), ("near_rear_wheel", 0, 0)),
                    (("near_front_bumper", 0, 0), ("near_rear_wheel", 0, 0), ("near_mirror", 0, 0)),
                )
            ),
        ),
        "Lengthen the roof": Wish(
            reads="x: near_windscreen_top - near_rear_window_top",
            least=2.5,
            pulls=tuple((("near_rear_window_top", side * x, 0),) for side in (-1, 1) for x in (5, 8)),
            with_it=("trunk",),
        ),
        "Move the rear wheel back": Wish(
            reads="x: near_rear_wheel - near_rear_bumper",
            least=-1.5,
            pulls=tuple(
                (("near_rear_wheel", side * x, 0), *hold)
                for side in (-1, 1)
                for x in (4, 6)
                for hold in (
                    (),
                    (("near_rear_bumper", 0, 0),),
                    (("near_rear_bumper", 0, 0), ("near_front_wheel", 0, 0)),
                )
            ),
        ),
    },
}
"""By model and name of the example."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is read from two pictures, before and after.

    Attributes:
        start, change: of what the example is about.
        other: the parameter of shape or pose that changed most beside it, and by how much of its range.
        backdrop, subject: how far their mean colours changed, of 255.
    """

    start: float
    change: float
    other: tuple[str, float]
    backdrop: float
    subject: float

    def shows(self, wish: Wish) -> bool:
        """Whether the example is what its name says, and nothing else."""
        there = self.change * math.copysign(1, wish.least) >= abs(wish.least)
        return there and abs(self.other[1]) <= OTHER_CHANGE and max(self.backdrop, self.subject) <= COLOUR_DRIFT


class Witness:
    """Reads pictures of a model's scene, which it knows from renderings alone."""

    def __init__(self, model: str) -> None:
        self.finder: LandmarkNetwork = find_landmarks(model)
        scene = find_scene(model)
        self.reader = SceneReader(scene, self.finder, READ_AT, count=2000, held=400)
        colours = (
            "hue",
            "saturation",
            "brightness",
            "white",
            "light",
            "stripes",
            "lightness",
            "warmth",
            "skin",
            "tone",
        )
        kept = ("ground", "glass", "colour", "shift", "scale")
        self.shapes = [n for n in self.reader.names if not any(word in n for word in (*colours, *kept))]

    def places(self, picture: Float[Tensor, "1 3 height width"]) -> dict[str, Float[np.ndarray, "2"]]:
        """Landmarks in pixels."""
        return dict(zip(self.finder.names, self.finder(picture)[0].numpy(), strict=True))

    def readings(self, picture: Float[Tensor, "1 3 height width"]) -> dict[str, float]:
        """The scene's parameters, and where landmarks are in percent of the width."""
        small = F.interpolate(picture.clamp(-1, 1), (READ_AT, READ_AT), mode="area")
        read = {name: float(value[0]) for name, value in self.reader(to_uint8(small)[None]).items()}
        width = picture.shape[-1]
        for name, place in self.places(picture).items():
            read |= {f"{axis} of {name}": 100 * float(part) / width for axis, part in zip("xy", place, strict=True)}
        return read

    def value(self, wish: Wish, readings: dict[str, float]) -> float:
        """What a wish is about."""
        if " - " not in wish.reads:
            return readings[wish.reads]
        axis, names = wish.reads.split(": ")
        first, second = names.split(" - ")
        return readings[f"{axis} of {first}"] - readings[f"{axis} of {second}"]

    def seen(self, wish: Wish, before: Tensor, after: Tensor) -> Seen:
        """Both pictures ``[1, 3, height, width]`` compared."""
        a, b = self.readings(before), self.readings(after)
        others = {n: b[n] - a[n] for n in self.shapes if n != wish.reads and n not in wish.with_it}
        name = max(others, key=lambda n: abs(others[n]))
        cell = before.shape[-1] // 10
        # Hair and ears do not reach the upper corners; of a car's picture nothing does.
        corners = [
            127.5 * (after - before)[0, :, :cell, i].mean((1, 2)).abs().max() for i in (slice(cell), slice(-cell, None))
        ]
        colours = [self._colours(picture) for picture in (before, after)]
        subject = np.abs(colours[1] - colours[0]).max()
        start = self.value(wish, a)
        return Seen(
            start=start,
            change=self.value(wish, b) - start,
            other=(name, others[name]),
            backdrop=float(max(corners)),
            subject=float(subject),
        )

    def _colours(self, picture: Float[Tensor, "1 3 height width"]) -> Float[np.ndarray, "3"]:
        """The median colour at the landmarks, of 255: what is there, whatever moved."""
        size = picture.shape[-1]
        smooth = F.avg_pool2d(picture.clamp(-1, 1), size // 32 + 1 - size // 32 % 2, 1, size // 64)[0]
        at = np.array(list(self.places(picture).values())).round().astype(int).clip(0, size - 1)
        return np.median(127.5 * smooth[:, at[:, 1], at[:, 0]].numpy(), axis=1)


def joined(
    pairs: Sequence[UInt8[np.ndarray, "height width 3"]], columns: int = COLUMNS, gap: int = 8
) -> UInt8[np.ndarray, "height width 3"]:
    """Strips of one size beside and below each other on white, row by row."""
    height, width, _ = pairs[0].shape
    lines = math.ceil(len(pairs) / columns)
    canvas = np.full((lines * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, pair in enumerate(pairs):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        canvas[y : y + height, x : x + width] = pair
    return canvas


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks examples", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one model, two examples")
    parser.add_argument("--models", nargs="+", default=[m.name for m in catalogue.all_models() if m.builtin])
    parser.add_argument("--solver", choices=SOLVER_NAMES, help="default: the model's own")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pictures", type=Path, help="write strips MODEL-examples.jpg into this folder")
    parser.add_argument("--find", type=int, metavar="SEEDS", help="look for other examples among so many seeds instead")
    parser.add_argument("--titles", nargs="+", help="only examples of these names")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)
    here = machine.describe()
    torch.set_num_threads(args.threads)
    rows: list[list[object]] = []
    for name in args.models[:1] if args.quick else args.models:
        generator = load_generator(name, "cpu")
        config = suggested_config(name, **({} if args.solver is None else {"solver": args.solver}))
        witness = Witness(name)
        presets = catalogue.find(name).presets[: 2 if args.quick else None]
        strips = []
        for preset in presets:
            if args.titles and preset.title not in args.titles:
                continue
            wish = WISHES[name][preset.title]
            if args.find is not None:
                for line in _found(name, generator, config, witness, preset.title, wish, args.find):
                    print(line, flush=True)
                continue
            row, strip = _example(name, preset, generator, config, witness, wish)
            rows.append(row)
            strips.append(strip)
            print(" | ".join(map(str, row)), flush=True)
        if args.pictures and strips:
            args.pictures.mkdir(parents=True, exist_ok=True)
            buffer = io.BytesIO()
            comment = b"AI-generated images, made with DragGAN"
            Image.fromarray(joined(strips)).save(buffer, "JPEG", quality=86, comment=comment)
            (args.pictures / f"{name}-examples.jpg").write_bytes(buffer.getvalue())
    if args.find is not None:
        return 0
    columns = ["model", "example", "solver", "ended", "steps", "px asked", "px left", "processor s"]
    columns += ["read", "before", "after", "shown", "next change", "backdrop, of 255", "subject, of 255"]
    text = f"# The page's examples\n\n`python -m benchmarks examples`; {here.markdown()}.\n\n{table(columns, rows)}"
    publish(text, args.out)
    return 0


def _example(
    name: str, preset: catalogue.Preset, generator: Generator, config: DragConfig, witness: Witness, wish: Wish
) -> tuple[list[object], UInt8[np.ndarray, "height width 3"]]:
    """Row of the table, and both pictures with the points."""
    ws = generator.sample(preset.seed, suggested_truncation(name))
    points = np.array(preset.points, np.float32)
    handles, targets = points[:, :2], points[:, 2:]
    clock = time.process_time()
    *_, last = Drag(generator, ws, handles, targets, config=config)
    seconds = time.process_time() - clock
    asked = float(np.linalg.norm(targets - handles, axis=1).max())
    row: list[object] = [name, preset.title, config.solver, last.outcome, last.index]
    row += [f"{asked:.0f}", f"{float(max(last.distances)):.1f}", f"{seconds:.2f}"]
    with torch.no_grad():
        before, after = generator.synthesis(ws), generator.synthesis(last.ws)
    seen = witness.seen(wish, before, after)
    row += [wish.reads, f"{seen.start:.2f}", f"{seen.start + seen.change:.2f}", "yes" if seen.shows(wish) else "no"]
    row += [f"{seen.other[0]} {seen.other[1]:+.2f}", f"{seen.backdrop:.0f}", f"{seen.subject:.0f}"]
    moved = np.asarray(last.handles, np.float32)
    tiles = [tile(before[0], handles, targets, SIDE, preset.title), tile(after[0], moved, targets, SIDE, "")]
    return row, np.concatenate(tiles, 1)


def _found(
    name: str, generator: Generator, config: DragConfig, witness: Witness, title: str, wish: Wish, seeds: int
) -> Iterator[str]:
    """Examples of that name, each with its figures: those that are shown, arrive, and keep the rest, best first."""
    found: list[tuple[float, str]] = []
    for seed in range(seeds):
        if len({line.split("points")[0] for worth, line in found if worth > 0}) >= ENOUGH:
            break
        ws = generator.sample(seed, suggested_truncation(name))
        with torch.no_grad():
            before = generator.synthesis(ws)
        if not wish.starts[0] <= witness.value(wish, witness.readings(before)) <= wish.starts[1]:
            continue
        places, width = witness.places(before), before.shape[-1]
        for pull in wish.pulls:
            handles = np.array([places[landmark] for landmark, *_ in pull]).round()
            targets = (handles + np.array([way for _, *way in pull]) * width / 100).round()
            if min(handles.min(), targets.min()) < 2 or max(handles.max(), targets.max()) > width - 3:
                continue
            *_, last = Drag(generator, ws, handles.astype(np.float32), targets.astype(np.float32), config=config)
            if last.outcome != "arrived":
                continue
            with torch.no_grad():
                seen = witness.seen(wish, before, generator.synthesis(last.ws))
            if not seen.shows(wish):
                continue
            points = [[int(v) for v in (*h, *t)] for h, t in zip(handles, targets, strict=True)]
            worth = abs(seen.change / wish.least) - 3 * abs(seen.other[1]) - (seen.backdrop + seen.subject) / 10
            about = f"{seen.start:.2f} {seen.change:+.2f}, {seen.other[0]} {seen.other[1]:+.2f}, "
            about += f"colours {seen.backdrop:.0f} {seen.subject:.0f}, {last.index} steps"
            found.append((worth, f'{{ title = "{title}", seed = {seed}, points = {points} }},  # {worth:.2f}: {about}'))
    yield from (line for _, line in sorted(found, reverse=True)[:6]) if found else [f"{name}: nothing shows '{title}'"]
