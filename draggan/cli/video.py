"""``draggan video``: an edit on every frame of a film."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from draggan.cli import invert
from draggan.cli.options import add_json, add_machine, file_of, path_of
from draggan.errors import LatentError, PhotoError, RecipeError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from draggan.engine.models import AnyModels
    from draggan.generators.base import Generator
    from draggan.inversion.film import Film
    from draggan.inversion.frames import Clip
    from draggan.recipe import Point, Recipe
    from draggan.reel import Reel

__all__ = ["HELP", "NAME", "add_options", "run"]

NAME = "video"
HELP = "open a film in a model and make an edit on every frame"

_MOST_BYTES = 1_500_000_000  # of all frames, of a film whose format needs them at once


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    what = parser.add_argument_group("what is opened")
    what.add_argument("film", type=file_of, metavar="IN", help="a .mp4, .mov, .webm, .gif or .webp file")
    invert.add_model(what)
    what.add_argument(
        "--frames",
        type=int,
        default=240,
        metavar="N",
        help="open at most this many, from the first on (default: %(default)s)",
    )
    invert.add_crop(what)
    what.add_argument("--still", action="store_true", help="the crop does not follow what the model draws")
    invert.add_consent(what)
    edit = parser.add_argument_group("what is done")
    edit.add_argument(
        "--edit",
        type=file_of,
        required=True,
        metavar="FILE",
        help="saved work whose drags are made on every frame: a picture, a film, a recipe (.json) or a session "
        "(.draggan)",
    )
    edit.add_argument(
        "--strength",
        type=float,
        default=1.0,
        metavar="NUMBER",
        help="how far its points go, -10 to 10; 1: as on its picture (default: %(default)s)",
    )
    edit.add_argument("--quick", action="store_true", help="a tenth of the steps, for a first look")
    written = parser.add_argument_group("what is written")
    written.add_argument("out", type=path_of, metavar="OUT", help="write the film here (.gif, .webp or .mp4)")
    add_json(written)
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    """Open the film, make the edit, put every frame back, and write it."""
    from draggan.export import Provenance, check_animation_path, save_animation
    from draggan.provenance.deployment import default
    from draggan.terminal import Watched, check_model, ensure_downloaded

    check_animation_path(args.out)
    if not abs(args.strength) <= 10:
        raise LatentError(f"--strength {args.strength:g} is not allowed; give a number from -10 to 10")
    recipe = _edit(args.edit)
    check_model(args.model)
    invert.agreed(args)
    # Only now: a mistake need not wait for PyTorch.
    from draggan.engine.models import AnyModels
    from draggan.inversion.frames import Clip

    clip = Clip(args.film, args.frames)
    _check_memory(args.out, clip)
    default().moderation.check_upload(clip)
    ensure_downloaded(args.model, yes=args.yes)
    models = AnyModels(args.device)
    frames, film = _edited(args, clip, _completed(_on_model(recipe, args.model, models), models), models)
    written = save_animation(
        args.out,
        Watched(frames, "writing the film", shown=not args.json),
        {"model": Path(args.model).name, "frames": len(frames)},
        seconds=1 / clip.rate,
        hold=False,
        sound=args.film,
        provenance=Provenance(source="compositeWithTrainedAlgorithmicMedia", door="command line"),
    )
    _report(args, written, len(frames), film)
    return 0


def _report(args: argparse.Namespace, written: Path, frames: int, film: Film) -> None:
    from draggan.export import has_sound
    from draggan.inversion import VERDICTS

    if args.json:
        print(json.dumps({"frames": frames, "verdict": film.verdict, "files": [str(written)]}))
        return
    print(VERDICTS[film.verdict])
    heard = "with its sound" if written.suffix.lower() == ".mp4" and has_sound(args.film) else "without sound"
    print(f"  wrote {written}: {frames} frames, {heard}")


def _edited(args: argparse.Namespace, clip: Clip, recipe: Recipe, models: AnyModels) -> tuple[Reel[np.ndarray], Film]:
    """The clip with the edit on every frame, and how the model draws it without.

    Args:
        recipe: of the edit, complete.
    """
    import torch

    from draggan.inversion import Photo, crop_finder, cut, paste
    from draggan.inversion.encoder import guess_latent
    from draggan.inversion.film_edit import strengths
    from draggan.reel import Reel
    from draggan.terminal import Watched

    generator, sha256 = models.load(args.model), models.sha256(args.model)
    base, last = (torch.tensor(ws, device=generator.device) for ws in (recipe.results[0], recipe.latent))
    if tuple(base.shape[1:]) != (generator.num_ws, generator.w_dim):
        raise LatentError(f"the latents of this edit do not have the shape that those of '{args.model}' have")
    points = torch.tensor([_at_first(point) for edit in recipe.edits for point in edit.points], device=generator.device)
    size, finder = generator.image_size, crop_finder(args.model, sha256, generator)
    photos = Reel(lambda pixels: Photo(pixels=pixels, name=args.film.name), clip)
    first = Photo(pixels=clip.first, name=args.film.name)
    places = [invert.crop_of(args, first, size, finder)] * len(clip)
    if finder is not None and not args.still:
        places = finder.follow(Watched(photos, "following the subject", shown=not args.json), places[0])
    crops = Reel(lambda photo, place: cut(photo, place, size), photos, places)
    start = guess_latent(args.model, sha256, generator, cut(first, places[0], size))
    film = _inverted(args, generator, crops, start, sha256)
    landmarks = None if finder is None else finder.landmarks
    strong = strengths(generator, base, last - base, points.reshape(-1, 2), film.generator, film.ws, landmarks)
    edited = film.pictures(args.strength * strong[:, None, None] * (last - base))
    # Where a mask is on the picture that was dragged says nothing about where it would be here.
    frames = Reel(
        lambda photo, place, before, after: paste(photo, place, after, before=before),
        *(photos, places, film.pictures(), edited),
    )
    return frames, film


def _check_memory(out: Path, clip: Clip) -> None:
    """Frames of an MP4 are written one after the other; another format needs all of them at once.

    Raises:
        PhotoError: they are too many for it.
    """
    if out.suffix.lower() != ".mp4" and len(clip) * clip.first.size > _MOST_BYTES:
        height, width = clip.first.shape[:2]
        raise PhotoError(
            f"{len(clip)} frames of {width} x {height} pixels are too many for a {out.suffix} file; "
            f"write an .mp4, or give --frames {_MOST_BYTES // clip.first.size}"
        )


def _inverted(
    args: argparse.Namespace, generator: Generator, crops: Reel[np.ndarray], start: Tensor | None, sha256: str
) -> Film:
    """The clip as the model draws it, with a bar on a terminal."""
    from draggan.config import InversionConfig
    from draggan.inversion.film import STEPS, invert_film
    from draggan.terminal import StageBar

    usual, share = InversionConfig(), 10 if args.quick else 1
    first = InversionConfig(coarse_steps=usual.coarse_steps // share, steps=usual.steps // share)
    bar = StageBar(shown=not args.json)
    try:
        for step in invert_film(generator, crops, first=first, start=start, steps=STEPS // share, model_sha256=sha256):
            bar(step.progress, step.said, step.seconds_left)
            film = step.film
    finally:
        bar.end()
    assert film is not None  # the last step has it
    return film


def _edit(path: Path) -> Recipe:
    """The recipe whose drags are made on every frame."""
    from draggan.export import read_recipe
    from draggan.session_file import SUFFIX, read_session_file

    recipe = read_session_file(path).session.recipe if path.suffix.lower() == SUFFIX else read_recipe(path)
    if not recipe.edits:
        raise RecipeError(f"{path.name} has no edit; drag something, and save the recipe")
    return recipe


def _on_model(recipe: Recipe, model: str, models: AnyModels) -> Recipe:
    """The edit by the name that its model has here.

    Raises:
        RecipeError: it was made on another one, where the same step of latents would be another edit, also where both
            have the same shape.
    """
    made_on = recipe.model
    if (made_on.sha256 != models.sha256(model)) if made_on.sha256 else (made_on.name != model):
        raise RecipeError(
            f"this edit was made on '{made_on.name}', so on '{model}' it would be another one; "
            f"give --model {made_on.name}, or an edit that was made on '{model}'"
        )
    return replace(recipe, model=replace(made_on, name=model))


def _completed(recipe: Recipe, models: AnyModels) -> Recipe:
    """The recipe with the latents of its first and of its last picture."""
    from draggan.engine.local import LocalEngine

    if recipe.results[0] is not None and recipe.latent is not None:
        return recipe
    engine = LocalEngine(models)
    try:
        return engine.complete(recipe)
    finally:
        engine.close()


def _at_first(point: Point) -> tuple[float, float]:
    """About where a handle was on the picture that the edits began with."""
    return point.handle if point.origin is None or point.picture else point.origin
