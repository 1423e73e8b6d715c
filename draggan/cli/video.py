"""``draggan video``: an edit on every frame of a film."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from draggan.cli import invert
from draggan.cli.options import add_yes, name_of, path_of
from draggan.errors import LatentError, PhotoError, RecipeError

if TYPE_CHECKING:
    import numpy as np

    from draggan.recipe import Recipe

__all__ = ["HELP", "NAME", "add_options", "run"]

NAME = "video"
HELP = "open a film in a model and make an edit on every frame"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("film", type=path_of, metavar="IN", help="a .mp4, .mov, .webm, .gif or .webp file")
    parser.add_argument("out", type=path_of, metavar="OUT", help="write the film here (.gif, .webp, or .mp4)")
    parser.add_argument("--model", type=name_of, required=True, help="a registry name, file or https address")
    parser.add_argument(
        "--edit",
        type=path_of,
        required=True,
        metavar="RECIPE",
        help="what to do: a recipe, a saved .png that has one, or a .draggan; its drags are made on every frame",
    )
    parser.add_argument("--strength", type=float, default=1.0, help="of the edit (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=240, help="at most (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, for a first look")
    invert.add_crop(parser)
    invert.add_consent(parser)
    add_yes(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Open the film, make the edit, put every frame back, and write it."""
    import torch

    from draggan.checkpoints.store import load_generator
    from draggan.config import InversionConfig
    from draggan.engine.models import AnyModels
    from draggan.export import check_animation_path, has_sound, save_animation
    from draggan.inversion import VERDICTS, Photo, cut, paste
    from draggan.inversion.encoder import guess_latent
    from draggan.inversion.film import STEPS, invert_film
    from draggan.inversion.frames import read_clip
    from draggan.provenance.deployment import default
    from draggan.terminal import StageBar, ensure_downloaded

    check_animation_path(args.out)
    if not abs(args.strength) <= 10:
        raise LatentError(f"--strength {args.strength:g} is not allowed; give a number from -10 to 10")
    recipe = _edit(args.edit)
    clip = read_clip(args.film, args.frames)
    invert.agreed(args)
    moderation = default().moderation
    moderation.check_upload(clip.frames[0])
    moderation.check_upload(clip.frames[-1])
    ensure_downloaded(args.model, yes=args.yes)
    generator = load_generator(args.model, args.device)
    offset = torch.tensor(args.strength * _offset(recipe), device=generator.device)
    if tuple(offset.shape[1:]) != (generator.num_ws, generator.w_dim):
        raise LatentError(f"the edit is of another kind of model than '{args.model}': its latents have another shape")
    photos = [Photo(pixels=frame, name=args.film.name) for frame in clip.frames]
    sha256 = AnyModels(args.device).sha256(args.model)
    crop = invert.crop_of(args, photos[0], generator, sha256)
    crops = [cut(photo, crop, generator.image_size) for photo in photos]
    bar = StageBar(shown=not args.json)
    film = None
    try:
        usual = InversionConfig()
        share = 10 if args.quick else 1
        first = InversionConfig(coarse_steps=usual.coarse_steps // share, steps=usual.steps // share)
        steps = STEPS // share
        start = guess_latent(args.model, sha256, generator, crops[0])
        for step in invert_film(generator, crops, first=first, start=start, steps=steps, model_sha256=sha256):
            bar(step.progress, step.said, step.seconds_left)
            film = step.film
    finally:
        bar.end()
    if film is None:
        raise PhotoError("the film could not be opened")
    pairs = zip(photos, film.pictures(), film.pictures(offset), strict=True)
    frames: list[np.ndarray] = [paste(photo, crop, after, before=before) for photo, before, after in pairs]
    written = save_animation(
        args.out,
        frames,
        {"model": Path(args.model).name, "frames": len(frames)},
        seconds=1 / clip.rate,
        hold=False,
        sound=args.film,
        source="compositeWithTrainedAlgorithmicMedia",
        door="command line",
    )
    if args.json:
        print(json.dumps({"frames": len(frames), "verdict": film.verdict, "files": [str(written)]}))
        return 0
    print(VERDICTS[film.verdict])
    heard = "with its sound" if written.suffix.lower() == ".mp4" and has_sound(args.film) else "without sound"
    print(f"  wrote {written}: {len(frames)} frames, {heard}")
    return 0


def _edit(path: Path) -> Recipe:
    """The recipe whose drags are made on every frame."""
    from draggan.export import read_recipe
    from draggan.session_file import SUFFIX, read_session_file

    recipe = read_session_file(path).session.recipe if path.suffix.lower() == SUFFIX else read_recipe(path)
    if not recipe.edits:
        raise RecipeError(f"{path.name} has no edit; drag something, and save the recipe")
    return recipe


def _offset(recipe: Recipe) -> np.ndarray:
    """What its drags have added to the latent, ``[1, num_ws, w_dim]``."""
    from draggan.engine.local import LocalEngine
    from draggan.engine.models import AnyModels

    if recipe.results[0] is None or recipe.latent is None:
        engine = LocalEngine(AnyModels("auto"))
        try:
            recipe = engine.complete(recipe)
        finally:
            engine.close()
    first, last = recipe.results[0], recipe.latent
    assert first is not None
    assert last is not None
    return last - first
