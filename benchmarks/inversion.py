"""Photos that a model has never drawn: how near it comes, how soon, whether it says so, and whether drags still work.

Renderings of the built-in models' scenes stand for photos, because their truth is known: where every landmark is. Three
kinds: *known* (parameters that no training saw, drawn as those of training were), *beyond* (every parameter 1.3 times
as far from the middle of its range) and *foreign* (renderings of the other models' scenes, noise, stripes). Who judges:
true landmarks against what the landmark network finds, and PSNR; of drags, the landmark network.

Pulls: the same landmarks, of those that can be seen, are pulled the same way on the model's own picture of the scene's
noise and on the inverted one; a pull is truly there within 3.5 % of the width. What changed outside: by how many of 255
steps the pixels farther than a fifth of the width from the straight way of the pull have changed.

With ``--json`` cases are added to those that are in the file and not made again, so that it can be made in parts; more
files are read, too. ::

    python -m benchmarks inversion --known 10 --pulls 6 --minutes 4 --json rows.json --out benchmarks/inversion.md
"""

from __future__ import annotations

import argparse
import json
import resource
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

import draggan
from benchmarks import machine
from benchmarks.timing import publish, table
from draggan.checkpoints.store import locate
from draggan.config import InversionConfig
from draggan.engine.models import file_sha256
from draggan.evaluation.protocols.mask import around
from draggan.evaluation.similarity import gradient_distance
from draggan.generators.base import Generator
from draggan.generators.stylegan2 import StyleGAN2Generator
from draggan.generators.stylegan2.config import StyleGAN2Config
from draggan.generators.tuned import tuned
from draggan.inversion import Inversion, InversionResult, expected
from draggan.inversion.distance import missing_detail
from draggan.inversion.encoder import guess_latent
from draggan.landmarks import LandmarkNetwork, find_landmarks
from draggan.pixels import to_uint8
from draggan.scenes import find_scene
from draggan.scenes.pool import scene_noise

__all__ = ["main"]

_MODELS = ("cat", "face", "car")
_KINDS = ("known", "beyond", "foreign", "pattern")
_SEED, _BLOCK = 999, 17  # of no training
_BEYOND = 1.3
_TRULY = 0.035
_LENGTHS = (0.05, 0.08, 0.12)  # of pulls, of the width
_OUTSIDE = 0.2  # of the width, from the way of a pull
Picture = UInt8[np.ndarray, "height width 3"]


def main(argv: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks inversion", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(_MODELS))
    for kind, count in (("known", 20), ("beyond", 10), ("foreign", 10), ("pattern", 2)):
        parser.add_argument(f"--{kind}", type=int, default=count, help="cases of each model (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--pulls", type=int, default=0, help="drags of each known picture (default: %(default)s)")
    parser.add_argument("--also-untuned", action="store_true", help="drag also with the latent alone")
    parser.add_argument("--no-rows", action="store_true", help="leave out W+")
    parser.add_argument("--latent-only", action="store_true", help="do not tune: for the verdict alone")
    parser.add_argument(
        "--large", type=int, nargs="*", default=[], help="only: networks of the published layout, of these sizes"
    )
    parser.add_argument("--quick", action="store_true", help="one case of each kind")
    parser.add_argument("--no-times", action="store_true", help="leave out seconds, as of a machine that was busy")
    parser.add_argument("--minutes", type=float, help="then stop")
    parser.add_argument("--json", type=Path, nargs="+", help="add cases to the first file, and report on those of all")
    parser.add_argument("--out", type=Path, help="write the report here")
    machine.add_options(parser)
    args = parser.parse_args(argv)
    here = machine.prepare(args)
    if args.large:
        publish(_large(args.large, here), args.out)
        return 0
    counts = {kind: 1 if args.quick else getattr(args, kind) for kind in _KINDS}
    files: list[Path] = args.json or []
    mine, *others = [json.loads(file.read_text()) if file.exists() else [] for file in files] or [[]]
    cases: dict[tuple[Any, ...], dict[str, Any]] = {_key(row): row for some in (*others, mine) for row in some}
    own = {_key(row) for row in mine}
    # Of every kind and model alike at any time, so that what there is can be reported.
    wanted = [
        (k / count, name, kind, args.first + k)
        for kind, count in counts.items()
        for k in range(count)
        for name in args.models
    ]
    begun = time.monotonic()
    loaded: dict[str, tuple[Generator, LandmarkNetwork]] = {}
    for _, name, kind, index in sorted(wanted):
        row = cases.get((name, kind, index))
        pulled = row is not None and (kind != "known" or len(row["pulls"].get("own", [])) >= args.pulls)
        if row is not None and pulled and (row["tuned"] or args.latent_only):
            continue
        if args.minutes and time.monotonic() - begun > 60 * args.minutes:
            break
        if name not in loaded:
            loaded[name] = draggan.load_generator(name, device="cpu"), find_landmarks(name)
        row = _case(name, *loaded[name], kind, index, args)
        cases[_key(row)] = row
        own.add(_key(row))
        if files:
            files[0].write_text(json.dumps([case for key, case in cases.items() if key in own]))
    rows = sorted(cases.values(), key=lambda row: row["index"])
    publish(_report(rows, here, times=not args.no_times), args.out)
    return 0


def _large(sizes: Sequence[int], here: machine.Machine) -> str:
    """Seconds and memory of an inversion in networks of published layout (config F) with random weights.

    A step of each kind is timed, the third one, and multiplied by how many there are. Said before: what
    `draggan.inversion.expected` makes of two steps of the latent, as the page does before a photo is opened. Stopped:
    from "good enough", said in the middle of a step of the weights at full size, until it ends.
    """
    lines = []
    for size in sizes:
        generator = StyleGAN2Generator(
            StyleGAN2Config(z_dim=512, c_dim=0, w_dim=512, img_resolution=size, channel_base=32768, channel_max=512)
        ).freeze()
        photo = to_uint8(generator.synthesis(generator.sample(0)))
        usual = InversionConfig()
        few = InversionConfig(coarse_steps=3, steps=3, tuning_steps=3, full_size_steps=9)
        begun = time.perf_counter()
        seconds = [time.perf_counter() - begun]
        inversion = Inversion(generator, photo, few)
        prepared = time.perf_counter() - begun
        asked: list[float] = []

        def stop(inversion: Inversion = inversion, asked: list[float] = asked) -> None:
            asked.append(time.perf_counter())
            inversion.stop()

        for step in inversion:
            seconds.append(time.perf_counter() - begun)
            if step.index == 12:
                # In the middle of the next step.
                threading.Timer(0.4 * (seconds[12] - seconds[11]), stop).start()
        ended = time.perf_counter() - asked[0]
        each = [seconds[k] - seconds[k - 1] for k in (3, 6, 9, 12)]
        counts = (usual.coarse_steps, usual.steps, usual.tuning_steps, usual.full_size_steps)
        latent = prepared + each[0] * counts[0] + each[1] * counts[1]
        total = latent + each[2] * counts[2] + each[3] * counts[3]
        said = expected(generator)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        lines.append(
            [
                f"{size} px",
                f"{prepared:.1f}",
                *(f"{s:.2f}" for s in each),
                f"{latent:.0f}",
                f"{total:.0f}",
                f"{said.latent:.0f}, {said.done:.0f}",
                f"{ended:.2f}",
                f"{peak:.1f}",
            ]
        )
    heads = ["network", "to prepare s", "64 px step", "256 px step", "weights, 256 px", "weights, full size"]
    heads += ["latent after s", "done after s", "said before", "stopped after s", "peak GB"]
    return "\n".join(
        [
            "## Large networks",
            "",
            here.markdown(),
            "",
            " ".join((_large.__doc__ or "").split()),
            "",
            table(heads, lines),
        ]
    )


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["model"], row["kind"], row["index"]


def _case(
    name: str, generator: Generator, landmarks: LandmarkNetwork, kind: str, index: int, args: argparse.Namespace
) -> dict[str, Any]:
    size = generator.image_size[0]
    picture, points, visible, noise = _photo(name, kind, index, size)
    config = InversionConfig(tuning_steps=0) if args.latent_only else InversionConfig()
    begun = time.perf_counter()
    start = guess_latent(name, file_sha256(locate(name)), generator, picture)
    inversion = Inversion(generator, picture, config, start=start)
    usable, latent = 0.0, None
    first = 0.0
    for step in inversion:
        first = first or time.perf_counter() - begun
        if step.stage == "latent":
            usable, latent = time.perf_counter() - begun, step.picture
    result = inversion.result
    done = time.perf_counter() - begun
    assert latent is not None
    target = (torch.tensor(picture).permute(2, 0, 1)[None].float() - 127.5) / 127.5
    row: dict[str, Any] = {
        "model": name,
        "kind": kind,
        "index": index,
        "tuned": not args.latent_only,
        "verdict": result.verdict,
        "unusual": result.unusual,
        "first": first,
        "usable": usable,
        "done": done,
        "psnr": {"W": result.latent_psnr, "tuned": result.psnr},
        "outlines": {"W": gradient_distance(latent, target), "tuned": gradient_distance(result.picture, target)},
        "perceptual": {
            "W": landmarks.distance(latent, target),
            "tuned": landmarks.distance(result.picture, target),
        },
        "missing": {"W": missing_detail(latent, target), "tuned": missing_detail(result.picture, target)},
        "landmarks": {},
        "pulls": {},
    }
    drawn = {"W": generator.synthesis(result.ws), "tuned": result.picture, "the network itself": target}
    if not (args.latent_only or args.no_rows):
        free = Inversion(
            generator, picture, InversionConfig(coarse_steps=0, steps=0, row_steps=40, tuning_steps=0), start=result.ws
        )
        *_, last = free
        drawn["W+"], row["psnr"]["W+"], row["unusual W+"] = last.picture, last.psnr, free.result.unusual
        row["outlines"]["W+"] = gradient_distance(last.picture, target)
        row["perceptual"]["W+"] = landmarks.distance(last.picture, target)
    if points is not None and visible is not None:
        for what, shown in drawn.items():
            found = landmarks(shown)[0].numpy()
            off = np.linalg.norm(found - points, axis=1)[visible]
            row["landmarks"][what] = float(100 * off.mean() / size)
        if args.pulls and noise is not None:
            begun = time.perf_counter()
            row["pulls"] = _pulls(name, generator, landmarks, result, noise, np.flatnonzero(visible), index, args)
            row["pulling"] = time.perf_counter() - begun
    print(json.dumps({k: v for k, v in row.items() if k != "pulls"}), flush=True)
    return row


def _photo(
    name: str, kind: str, index: int, size: int
) -> tuple[Picture, Float[np.ndarray, "n 2"] | None, np.ndarray | None, Float[Tensor, "1 z_dim"] | None]:
    """A picture, where its landmarks are and which can be seen, and the noise of a known one."""
    if kind == "pattern":
        return _pattern(index, size), None, None, None
    if kind == "foreign":
        others = [other for other in _MODELS if other != name]
        scene = find_scene(others[index % 2])
        noise = scene_noise(scene, _SEED, _BLOCK)[index : index + 1]
        return scene.render(scene.parameters(noise), size).pictures[0].transpose(1, 2, 0).copy(), None, None, None
    scene = find_scene(name)
    noise = scene_noise(scene, _SEED, _BLOCK)[index : index + 1]
    parameters = scene.parameters(noise)
    if kind == "beyond":
        middle = scene.middle()
        parameters = (middle + _BEYOND * (parameters - middle)).astype(np.float32)
    drawn = scene.render(parameters, size)
    known = torch.from_numpy(noise) if kind == "known" else None
    return drawn.pictures[0].transpose(1, 2, 0).copy(), drawn.points[0], drawn.visible[0], known


def _pattern(index: int, size: int) -> Picture:
    """Noise or stripes."""
    if index % 2:
        return np.random.default_rng(index).integers(0, 256, (size, size, 3), np.uint8)
    y, x = np.mgrid[:size, :size]
    return np.stack([128 + 100 * np.sin(x / 9 + y / 17), 255 * x / size, 255 * y / size], -1).astype(np.uint8)


def _pulls(
    name: str,
    generator: Generator,
    landmarks: LandmarkNetwork,
    result: InversionResult,
    noise: Float[Tensor, "1 z_dim"],
    visible: Int[np.ndarray, " n"],
    index: int,
    args: argparse.Namespace,
) -> dict[str, list[dict[str, Any]]]:
    """The same landmarks pulled the same way, by what the pictures start from."""
    starts = {"own": (generator, generator.mapping(noise))}
    starts["tuned"] = tuned(generator, result.tuning.differences), result.ws
    if args.also_untuned:
        starts["W"] = generator, result.ws
    size, random = generator.image_size[0], np.random.default_rng((_SEED, index))
    shown = {what: drawing.synthesis(ws) for what, (drawing, ws) in starts.items()}
    before = {what: landmarks(picture)[0].numpy() for what, picture in shown.items()}
    pulls: dict[str, list[dict[str, Any]]] = {what: [] for what in starts}
    config = draggan.suggested_config(name)
    while len(pulls["own"]) < args.pulls:
        which = int(random.choice(visible))
        length, angle = float(random.choice(_LENGTHS)) * size, random.uniform(0, 2 * np.pi)
        step = length * np.array([np.cos(angle), np.sin(angle)])
        ends = np.array([at for places in before.values() for at in (places[which], places[which] + step)])
        if ends.min() < 8 or ends.max() > size - 9:
            continue
        for what, (drawing, ws) in starts.items():
            handle = before[what][which]
            target = handle + step
            *_, last = draggan.Drag(drawing, ws, handles=[handle], targets=[target], config=config)
            after = drawing.synthesis(last.ws)
            moved = landmarks(after)[0].numpy()
            others = np.delete(np.linalg.norm(moved - before[what], axis=1), which)
            pulls[what].append(
                {
                    "length": length / size,
                    "left": float(np.linalg.norm(moved[which] - target) / size),
                    "claimed": last.outcome == "arrived",
                    "others": float(np.median(others) / size),
                    "outside": _outside(shown[what], after, handle, target),
                }
            )
    return pulls


def _outside(
    before: Float[Tensor, "1 3 size size"],
    after: Float[Tensor, "1 3 size size"],
    handle: Float[np.ndarray, "2"],
    target: Float[np.ndarray, "2"],
) -> float:
    """Mean change, of 255, of the pixels that are farther than `_OUTSIDE` of the width from the way of a pull."""
    size = before.shape[-1]
    far = ~around(handle.tolist(), target.tolist(), (size, size), _OUTSIDE * size)
    change = (after.clamp(-1, 1) - before.clamp(-1, 1)).abs().mean(1)[0].numpy()
    return float(127.5 * change[far].mean())


def _report(rows: list[dict[str, Any]], here: machine.Machine, *, times: bool = True) -> str:
    text = [
        "# Photos",
        "",
        here.markdown(),
        "",
        "What stands here, and how it is measured: `benchmarks/inversion.py`. Cases of each kind: the column *cases*.",
        "Perceptual: distance in the maps of the landmark network (`LandmarkNetwork.distance`), which nothing here",
        "optimises. Landmarks: mean distance of what the network finds from the truth, % of the width; of the",
        "rendering itself: what the network is off by. Unusual: whitened distance of the latent from the mean, about 1",
        "for the model's own.",
        "",
    ]
    cells = []
    for name in _MODELS:
        for kind in _KINDS:
            some = [row for row in rows if row["model"] == name and row["kind"] == kind and row["tuned"]]
            if some:
                cells.append(_line(name, kind, some))
    heads = ["model", "photos", "cases", "W dB", "W+", "tuned", "perceptual W", "W+", "tuned"]
    heads += ["landmarks W", "W+", "tuned", "rendering", "unusual W", "W+"]
    heads += ["first picture after s", "latent after s", "done after s"]
    if not times:
        heads, cells = heads[:-3], [cell[:-3] for cell in cells]
    text += [table(heads, cells), "", "## What it says of them", ""]
    said = []
    for name in _MODELS:
        for kind in _KINDS:
            some = [row for row in rows if row["model"] == name and row["kind"] == kind]
            if some:
                spread = [row["psnr"]["W"] for row in some]
                verdicts = [
                    sum(row["verdict"] == word for row in some) for word in ("very close", "recognisable", "foreign")
                ]
                said.append([name, kind, len(some), f"{min(spread):.1f} to {max(spread):.1f}", *verdicts])
    text += [table(["model", "photos", "cases", "W dB", "very close", "recognisable", "foreign"], said), ""]
    judged = [row for row in rows if "perceptual" in row and row["tuned"]]
    if judged:
        text += ["## Other judges", "", " ".join((_judges.__doc__ or "").split()), ""]
        heads = ["verdict", "cases", "perceptual, untuned", "tuned", "landmarks off by more, untuned", "tuned"]
        text += [table(heads, _judges(judged)), "", " ".join((_halves.__doc__ or "").split()), ""]
        heads = ["by", "threshold", "foreign of the other half", "not called so", "others", "called foreign"]
        # What is asked of the untuned picture is known of cases that were not tuned, too.
        each = {(row["model"], row["kind"], row["index"]): row for row in rows if "perceptual" in row}
        text += [table(heads, _halves(list(each.values()))), ""]
    pulled = [row for row in rows if row["pulls"]]
    if pulled:
        text += [
            "## Drags",
            "",
            " ".join((_pull_lines.__doc__ or "").split()),
            "",
            table(
                [
                    *("model", "started from", "pictures", "pulls", "truly there", "claimed", "left %, mean", "median"),
                    *("times own, mean", "others moved %", "changed outside"),
                ],
                _pull_lines(pulled),
            ),
            "",
        ]
    return "\n".join(text)


def _judges(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """What nothing here optimises, by verdict: the perceptual distance in the maps of the landmark network
    (`LandmarkNetwork.distance`), and by how much farther landmarks are from the truth than in the rendering itself,
    % of the width.
    """
    lines = []
    for verdict in ("very close", "recognisable", "foreign"):
        some = [row for row in rows if row["verdict"] == verdict]
        if some:
            known = [row["landmarks"] for row in some if row["landmarks"]]
            more = [
                f"{np.mean([m[what] - m['the network itself'] for m in known]):.2f}" if known else ""
                for what in ("W", "tuned")
            ]
            means = [f"{np.mean([row['perceptual'][what] for row in some]):.3f}" for what in ("W", "tuned")]
            lines.append([verdict, len(some), *means, *more])
    return lines


def _halves(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """Thresholds for "foreign" that make the fewest mistakes in cases of even numbers, of all models together, and what
    they say of those of odd numbers. Of the untuned picture: PSNR (dB, what the verdict goes by, at 21), the share of
    detail that is missing, and the perceptual distance.
    """
    lines = []
    for what, key, sign in (("PSNR", "psnr", 1), ("missing detail", "missing", -1), ("perceptual", "perceptual", -1)):
        value = {id(row): sign * row[key]["W"] for row in rows}
        foreign = {id(row): row["kind"] in ("foreign", "pattern") for row in rows}
        chosen_on = [row for row in rows if row["index"] % 2 == 0]
        told = [row for row in rows if row["index"] % 2 == 1]
        values = sorted(value[id(row)] for row in chosen_on)
        places = [(a + b) / 2 for a, b in pairwise(values)]
        if not places or not told:
            continue

        def mistakes(place: float, some: list[dict[str, Any]], value: Any = value, foreign: Any = foreign) -> int:
            return sum((value[id(row)] < place) != foreign[id(row)] for row in some)

        fewest = min(mistakes(place, chosen_on) for place in places)
        # In the middle of those that are as good.
        place = float(np.median([one for one in places if mistakes(one, chosen_on) == fewest]))
        strange, usual = ([row for row in told if foreign[id(row)] == is_one] for is_one in (True, False))
        wrong = mistakes(place, strange), mistakes(place, usual)
        lines.append([what, f"{sign * place:.2f}", len(strange), wrong[0], len(usual), wrong[1]])
    return lines


def _line(name: str, kind: str, rows: list[dict[str, Any]]) -> list[Any]:
    def mean(group: str, key: str, digits: int = 1) -> str:
        values = [row[group][key] for row in rows if key in row[group]]
        return f"{np.mean(values):.{digits}f}" if values else ""

    def spread(key: str) -> str:
        values = [row[key] for row in rows if key in row]
        return f"{np.mean(values):.1f}" if values else ""

    return [
        *(name, kind, len(rows)),
        *(mean("psnr", key) for key in ("W", "W+", "tuned")),
        *(mean("perceptual", key, 2) for key in ("W", "W+", "tuned")),
        *(mean("landmarks", key) for key in ("W", "W+", "tuned", "the network itself")),
        *(spread(key) for key in ("unusual", "unusual W+", "first", "usable", "done")),
    ]


def _pull_lines(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """Times own: mean distance left, as a multiple of that on the model's own pictures, and where nine of ten samples
    of the pictures, drawn with replacement, have it. Others moved: median way of all other landmarks.
    """
    lines = []
    groups = [(name, [row for row in rows if row["model"] == name]) for name in _MODELS]
    for name, some in (*groups, ("all", rows)):
        for what in ("own", "W", "tuned"):
            pictures = [row["pulls"] for row in some if what in row["pulls"]]
            if not pictures:
                continue
            made = [pull for pulls in pictures for pull in pulls[what]]
            left = [100 * pull["left"] for pull in made]
            lines.append(
                [
                    *(name, what, len(pictures), len(made)),
                    sum(pull["left"] <= _TRULY for pull in made),
                    sum(pull["claimed"] for pull in made),
                    f"{np.mean(left):.2f}",
                    f"{np.median(left):.2f}",
                    _times_own(pictures, what) if what != "own" else "",
                    f"{np.mean([100 * pull['others'] for pull in made]):.2f}",
                    f"{np.mean([pull['outside'] for pull in made]):.1f}",
                ]
            )
    return lines


def _times_own(pictures: list[dict[str, Any]], what: str) -> str:
    sums = np.array([[sum(pull["left"] for pull in pulls[one]) for one in (what, "own")] for pulls in pictures])
    samples = np.random.default_rng(0).integers(len(sums), size=(2000, len(sums)))
    drawn = sums[samples].sum(1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.05, 0.95))
    return f"{sums[:, 0].sum() / sums[:, 1].sum():.2f} ({low:.2f} to {high:.2f})"
