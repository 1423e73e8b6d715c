"""An edit on every frame of a film: how steady it is, whether the edit is there in every frame, seconds a frame.

The films are rendered, so that their truth is known: a head (or a car) that turns, and talks. The edit is a drag on
another picture of the model. Two ways: *ours* (every frame from the one before, smoothed, one tuning), and *alone*
(every frame as a photo of its own, without tuning, which would take minutes). Who judges: the true flow of the scene
and the landmark network.

*Flicker*: mean change from frame to frame beyond the true flow, of 255: each frame is compared with the next one
where the flow says that its pixels have gone. The rendered film itself has some, which shading and what comes into
sight make. *Edit*: how far the edited landmark is, in each frame, from where it is without the edit, in shares of how
far the drag has moved it; mean, standard deviation, and frames in which it is from 0.75 to 1.33. For the strength of
the edit the landmark network, which judges it here, only says where the handle is on a frame; how far it goes is
measured by features. *As it is*: the same step in latent space on every frame, as it was made. ::

    python -m benchmarks video --frames 48 --out benchmarks/video.md
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image

import draggan
from benchmarks import machine
from benchmarks.timing import publish, table
from draggan.checkpoints.store import locate
from draggan.config import InversionConfig
from draggan.engine.models import file_sha256
from draggan.export import save_animation
from draggan.inversion import Crop, Inversion, Photo, crop_finder
from draggan.inversion.encoder import guess_latent
from draggan.inversion.film import invert_film, smoothed
from draggan.inversion.film_edit import strengths
from draggan.landmarks import find_landmarks
from draggan.pixels import to_uint8
from draggan.scenes import find_scene
from draggan.scenes.pool import scene_noise

__all__ = ["main"]

# What is dragged: a landmark, and by how much of the width.
_EDITS = {"face": ("nose_tip", (0.06, 0.0)), "cat": ("nose", (0.06, 0.0)), "car": ("front_wheel", (0.03, 0.0))}
_TALK = {"face": "mouth_open", "cat": "mouth_open"}
_SEED, _BLOCK = 999, 11


def main(argv: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks video", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["cat", "face", "car"])
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--alone", type=int, default=12, help="first frames that are also opened each on its own")
    parser.add_argument("--no-follow", action="store_true", help="without crops that follow")
    parser.add_argument("--strengths", action="store_true", help="only: what the strength of an edit makes of flicker")
    parser.add_argument("--memory", action="store_true", help="only: memory of `draggan video` by the film's length")
    parser.add_argument("--quick", action="store_true", help="six frames of one model")
    parser.add_argument("--film", type=Path, help="write the first clip, its inversion and its edit here (.webp)")
    parser.add_argument("--out", type=Path, help="write the report here")
    machine.add_options(parser)
    args = parser.parse_args(argv)
    here = machine.prepare(args)
    if args.quick:
        args.models, args.frames, args.alone = args.models[:1], 6, 3
    if args.memory:
        rows = _memory(args.models[0], (20, 120))
        publish(_section("## Memory", here, _memory, ["frames", "largest memory MB"], rows), args.out)
        return 0
    edited = ["edited", "edit, share", "its spread", "near 1"]
    if args.strengths:
        heads = ["model", "strength", "from", "to", "flicker, unedited", *edited]
        rows = [row for name in args.models for row in _by_strength(name, args.frames)]
        publish(_section("## Strength and flicker", here, _by_strength, heads, rows), args.out)
        return 0
    heads = ["model", "way", "frames", "PSNR dB", "flicker, rendered", "inverted", *edited, "s a frame"]
    rows = [row for name in args.models for row in _clip(name, args)]
    text = _section("# Films", here, _clip, heads, rows)
    if not args.no_follow:
        heads = ["model", "frames", "off, median %", "off, most %", "size off, median %", "s a frame"]
        rows = [_followed(name, args.frames) for name in args.models]
        text += "\n\n" + _section("## Crops that follow", here, _followed, heads, rows)
    publish(text, args.out)
    return 0


def _section(
    title: str, here: machine.Machine, measured: Callable[..., Any], heads: list[str], rows: list[list[Any]]
) -> str:
    """What a function has measured, under its own words."""
    return "\n".join(
        [title, "", here.markdown(), "", " ".join((measured.__doc__ or "").split()), "", table(heads, rows)]
    )


def _clip(name: str, args: argparse.Namespace) -> list[list[Any]]:
    """What stands here: `benchmarks/video.py`. Clips at the models' size."""
    generator, landmarks, scene = draggan.load_generator(name, device="cpu"), find_landmarks(name), find_scene(name)
    size = generator.image_size[0]
    parameters = _motion(name, scene, args.frames)
    drawn = scene.render(parameters, size)
    crops = [picture.transpose(1, 2, 0).copy() for picture in drawn.pictures]
    start, offset, handle, which, moved = _edit(name, generator, landmarks, size)

    begun = time.perf_counter()
    guess = guess_latent(name, file_sha256(locate(name)), generator, crops[0])
    *_, last = invert_film(generator, crops, start=guess)
    film = last.film
    assert film is not None
    strong = strengths(generator, start, offset, handle[None], film.generator, film.ws, landmarks)
    inverted, edited = list(film.pictures()), list(film.pictures(strong[:, None, None] * offset))
    seconds = (time.perf_counter() - begun) / len(crops)
    if args.film and not args.film.exists():
        _save(args.film, crops, inverted, edited)

    def line(way: str, clean: list[Any], changed: list[Any], each: float) -> list[Any]:
        count = len(clean)
        errors = [np.mean((a.astype(float) - b) ** 2) for a, b in zip(clean, crops, strict=False)]
        there = [
            landmarks(_tensor(b))[0, which] - landmarks(_tensor(a))[0, which]
            for a, b in zip(clean, changed, strict=True)
        ]
        along = [float(step @ moved / moved.square().sum()) for step in there]
        flickers = [_flicker(scene, parameters[:count], pictures, size) for pictures in (crops[:count], clean, changed)]
        psnr = 10 * np.log10(255**2 / np.mean(errors))
        figures = [
            f"{psnr:.1f}",
            *(f"{value:.2f}" for value in flickers),
            f"{np.mean(along):.2f}",
            f"{np.std(along):.2f}",
            f"{sum(0.75 <= share <= 1 / 0.75 for share in along)}",
        ]
        return [name, way, count, *figures, f"{each:.2f}"]

    rows = [line("ours", inverted, edited, seconds)]
    rows.append(line("ours, edit as it is", inverted, list(film.pictures(offset)), seconds))
    alone, alone_edited = [], []
    begun = time.perf_counter()
    for crop in crops[: args.alone]:
        inversion = Inversion(generator, crop, InversionConfig(tuning_steps=0))
        for _ in inversion:
            pass
        with torch.no_grad():
            alone.append(to_uint8(generator.synthesis(inversion.ws)))
            alone_edited.append(to_uint8(generator.synthesis(inversion.ws + offset)))
    if alone:
        rows.append(line("alone", alone, alone_edited, (time.perf_counter() - begun) / len(alone)))
        rows.append(line(f"ours, first {len(alone)}", inverted[: len(alone)], edited[: len(alone)], seconds))
    return rows


@torch.no_grad()
def _by_strength(name: str, count: int) -> list[list[Any]]:
    """The same clips by what the encoder alone makes of their frames, smoothed over time, the weights as they are. The
    edit on them as it was made, as often on every frame as `strengths` says in the mean, as often as it says for each,
    and without its smoothing.
    """
    generator, landmarks, scene = draggan.load_generator(name, device="cpu"), find_landmarks(name), find_scene(name)
    size = generator.image_size[0]
    parameters = _motion(name, scene, count)
    crops = [picture.transpose(1, 2, 0).copy() for picture in scene.render(parameters, size).pictures]
    with torch.enable_grad():
        start, offset, handle, which, moved = _edit(name, generator, landmarks, size)
    guesses = [guess_latent(name, file_sha256(locate(name)), generator, crop) for crop in crops]
    ws = smoothed(torch.cat([guess for guess in guesses if guess is not None]), 1.5)
    each = strengths(generator, start, offset, handle[None], generator, ws, landmarks)
    rough = strengths(generator, start, offset, handle[None], generator, ws, landmarks, smoothing=0.0)
    one = torch.ones(count)
    rows = []
    drawn = [to_uint8(generator.synthesis(frame)) for frame in ws.split(1)]
    still = _flicker(scene, parameters, drawn, size)
    for way, strong in (("as it is", one), ("mean", each.mean() * one), ("each", each), ("each, not smoothed", rough)):
        edited = [to_uint8(generator.synthesis(frame)) for frame in (ws + strong[:, None, None] * offset).split(1)]
        there = [(landmarks(_tensor(b)) - landmarks(_tensor(a)))[0, which] for a, b in zip(drawn, edited, strict=True)]
        along = [float(step @ moved / moved.square().sum()) for step in there]
        flicker = _flicker(scene, parameters, edited, size)
        figures = (float(strong.min()), float(strong.max()), still, flicker, np.mean(along), np.std(along))
        near = sum(0.75 <= share <= 1 / 0.75 for share in along)
        rows.append([name, way, *(f"{value:.2f}" for value in figures), near])
    return rows


def _memory(name: str, counts: Sequence[int]) -> list[list[Any]]:
    """`draggan video --quick` on films of 1280 x 720 pixels, each in a process of its own: the most that it had in
    memory at a time.
    """
    scene = find_scene(name)
    rows: list[list[Any]] = []
    drawn = scene.render(_motion(name, scene, max(counts)), 256).pictures
    frames = [np.full((720, 1280, 3), 90, np.uint8) for _ in drawn]
    for frame, picture in zip(frames, drawn, strict=True):
        frame[232:488, 512:768] = picture.transpose(1, 2, 0)
    with TemporaryDirectory() as folder:
        film, out, recipe = (str(Path(folder) / part) for part in ("in.mp4", "out.mp4", "edit.json"))
        command = [sys.executable, "-m", "draggan"]
        drag = ["drag", "--model", name, "--point", "128,128:140,128", "--recipe-out", recipe, "--out", recipe + ".png"]
        subprocess.run([*command, *drag], check=True, capture_output=True)
        edit = ["video", film, out, "--model", name, "--edit", recipe, "--box", "512,232:768,488", "--quick"]
        for count in sorted(counts):
            save_animation(film, frames[:count], seconds=1 / 24, hold=False)
            subprocess.run([*command, *edit, "--consent", "--json"], check=True, capture_output=True)
            # The largest of all processes so far: that of the longest film.
            rows.append([count, f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3:.0f}"])
    return rows


def _followed(name: str, count: int) -> list[Any]:
    """A rendering that turns and talks moves over a picture and grows by a third; the crop begins on its square. How
    far the middle of the crop is from the square's, of its side, and how much the side is too large or too small.
    """
    generator, scene = draggan.load_generator(name, device="cpu"), find_scene(name)
    finder = crop_finder(name, file_sha256(locate(name)), generator)
    assert finder is not None
    drawn = scene.render(_motion(name, scene, count), 256)
    photos, places = [], []
    for k, picture in enumerate(drawn.pictures):
        share = k / max(1, count - 1)
        side, left, top = round(180 + 60 * share), round(20 + 300 * share), round(60 + 40 * np.sin(4 * share))
        whole = np.full((400, 640, 3), 128, np.uint8)
        whole[:, :, 0] = np.arange(640) * 255 // 640
        square = Image.fromarray(picture.transpose(1, 2, 0).copy()).resize((side, side), Image.Resampling.BICUBIC)
        whole[top : top + side, left : left + side] = np.asarray(square)
        photos.append(Photo(pixels=whole, name=""))
        places.append((left + side / 2 - 0.5, top + side / 2 - 0.5, side))
    x, y, side = places[0]
    begun = time.perf_counter()
    crops = finder.follow(photos, Crop(centre=(x, y), right=(side / 2, 0.0), down=(0.0, side / 2)))
    seconds = (time.perf_counter() - begun) / count
    off = [100 * np.hypot(c.centre[0] - x, c.centre[1] - y) / s for c, (x, y, s) in zip(crops, places, strict=True)]
    sizes = [100 * abs(2 * c.right[0] / s - 1) for c, (_, _, s) in zip(crops, places, strict=True)]
    figures = [f"{np.median(off):.1f}", f"{max(off):.1f}", f"{np.median(sizes):.1f}", f"{seconds:.2f}"]
    return [name, count, *figures]


def _motion(name: str, scene: Any, count: int) -> np.ndarray:
    """Parameters of a subject that turns and, if it can, talks."""
    parameters = scene.parameters(scene_noise(scene, _SEED, _BLOCK)[:1]).repeat(count, 0)
    at = np.arange(count) / 48
    yaw = scene.position("yaw")
    parameters[:, yaw] = parameters[0, yaw] * 0.2 + 0.22 * np.sin(2 * np.pi * at)
    if name in _TALK:
        parameters[:, scene.position(_TALK[name])] = 0.4 + 0.35 * np.sin(2 * np.pi * 3 * at)
    return parameters


def _edit(
    name: str, generator: Any, landmarks: Any, size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int, torch.Tensor]:
    """A drag of one picture: its latent, what is added to it, where it takes hold, which landmark it moves, and how
    far."""
    wanted, (dx, dy) = _EDITS[name]
    names = list(landmarks.names)
    which = next((i for i, found in enumerate(names) if wanted in found), 0)
    ws = generator.sample(3, 0.7)
    before = landmarks(generator.synthesis(ws))[0, which]
    target = before + torch.tensor([dx, dy]) * size
    config = draggan.suggested_config(name)
    *_, step = draggan.Drag(generator, ws, handles=[before.tolist()], targets=[target.tolist()], config=config)
    after = landmarks(generator.synthesis(step.ws))[0, which]
    return ws, step.ws - ws, before, which, after - before


def _flicker(
    scene: Any, parameters: np.ndarray, pictures: Sequence[UInt8[np.ndarray, "height width 3"]], size: int
) -> float:
    """Mean difference of each frame from the next one at where the true flow says that its pixels went."""
    y, x = np.mgrid[2:size:4, 2:size:4]
    points = np.stack([x, y], -1).reshape(-1, 2).astype(np.float32)
    there, seen = scene.flow(parameters[:-1], parameters[1:], points, size)
    changes = []
    for k in range(len(pictures) - 1):
        at = torch.from_numpy(2 * (there[k] + 0.5) / size - 1).float()[None, None]
        now = pictures[k][points[:, 1].astype(int), points[:, 0].astype(int)].astype(float)
        later = F.grid_sample(torch.from_numpy(pictures[k + 1]).permute(2, 0, 1)[None].float(), at, align_corners=False)
        difference = np.abs(later[0, :, 0].T.numpy() - now).mean(1)
        changes.append(float(difference[seen[k]].mean()))
    return float(np.mean(changes))


def _tensor(picture: UInt8[np.ndarray, "height width 3"]) -> torch.Tensor:
    return (torch.tensor(picture).permute(2, 0, 1)[None].float() - 127.5) / 127.5


def _save(path: Path, *rows: list[Any]) -> None:
    """The clip, as it is inverted, and as it is edited, side by side."""
    frames = [np.concatenate(together, 1) for together in zip(*rows, strict=True)]
    save_animation(path, frames, seconds=1 / 24, hold=False)
