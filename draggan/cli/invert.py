"""``draggan invert``: a photo becomes a picture that can be dragged."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from draggan.cli.options import add_json, add_machine, add_setting, file_of, name_of, path_of, which_model
from draggan.config import InversionConfig
from draggan.errors import ConfigError, ConsentError, PhotoError
from draggan.program import own_command

if TYPE_CHECKING:
    from draggan.cli.options import Options
    from draggan.engine.base import InversionUpdate, RunningInversion
    from draggan.inversion import Crop, CropFinder, Photo

__all__ = ["HELP", "NAME", "add_consent", "add_crop", "add_options", "agreed", "crop_of", "run"]

NAME = "invert"
HELP = "open a photo in a model, to drag it"

# Settings of an inversion that are options here; range, unit and default come from the dataclass.
_OPTIONS = (
    "coarse_steps",
    "steps",
    "row_steps",
    "tuning_steps",
    "full_size_steps",
    "tuning_rate",
    "locality_weight",
    "lpips_weight",
)


def add_model(options: Options) -> None:
    """The option that says with which model a photo or a film is opened."""
    options.add_argument(
        "--model",
        type=name_of,
        required=True,
        metavar="MODEL",
        help=f"the model that knows such pictures: {which_model()}",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    what = parser.add_argument_group("what is opened")
    what.add_argument("photo", type=file_of, metavar="PHOTO", help="a .png, .jpg, .webp, .tif, .bmp or .gif file")
    add_model(what)
    add_crop(what)
    add_consent(what)
    how = parser.add_argument_group("how it is opened")
    for name in _OPTIONS:
        add_setting(how, InversionConfig, name)
    how.add_argument(
        "--lpips",
        type=file_of,
        nargs="+",
        metavar="FILE",
        help="weights of LPIPS (AlexNet or VGG-16) on this disk, to make pictures alike by it, too (docs/photos.md)",
    )
    written = parser.add_argument_group("what is written")
    written.add_argument("--out", type=path_of, required=True, metavar="FILE", help="write the session here (.draggan)")
    written.add_argument(
        "--picture", type=path_of, metavar="FILE", help="also write what the model draws here (.png, .jpg or .webp)"
    )
    add_json(written)
    add_machine(parser)


def add_crop(options: Options) -> None:
    """Options that say which part of a photo is meant."""
    which = options.add_mutually_exclusive_group()
    which.add_argument(
        "--box",
        type=_points(2),
        metavar="X,Y:X,Y",
        help="two corners of the part to open, in pixels (default: the middle)",
    )
    which.add_argument(
        "--find", action="store_true", help="look for what the model draws; for the built-in models of this project"
    )
    which.add_argument(
        "--face",
        type=_points(3),
        metavar="X,Y:X,Y:X,Y",
        help="one eye, the other, the mouth, in pixels: cut as FFHQ cuts faces",
    )


def add_consent(options: Options) -> None:
    """The option by which somebody agrees to what has to be agreed to."""
    options.add_argument(
        "--consent", action="store_true", help="I agree to what is asked before a photo is opened; do not ask"
    )


def agreed(args: argparse.Namespace) -> None:
    """See that whoever is there agrees to what has to be agreed to.

    Raises:
        ConsentError: nobody does.
    """
    from draggan.provenance.consent import PHOTO

    if args.consent:
        return
    print(f"“{PHOTO.words}”", file=sys.stderr)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConsentError("agree to this sentence by --consent, and the photo is opened")
    print("Do you agree? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConsentError("the photo was not opened")


def crop_of(args: argparse.Namespace, photo: Photo, size: tuple[int, int], finder: CropFinder | None) -> Crop:
    """The part of the photo that the options say.

    Args:
        size: of the model's pictures.
        finder: the model's; only looked at where the options ask for it.

    Raises:
        PhotoError: they say nothing that can be cut out, or what was looked for was not found.
    """
    from draggan.inversion import aligned_face, box, centred

    if args.find:
        if finder is None:
            raise PhotoError(f"'{args.model}' has no networks to find its subject; say where it is by --box or --face")
        found = finder.find(photo)
        if not found.is_sure:
            raise PhotoError("the model is not sure where its subject is; say it by --box or --face")
        return found.crop
    if args.face is not None:
        eye, other_eye, mouth = args.face
        return aligned_face(photo, eye, other_eye, mouth)
    if args.box is None:
        return centred(photo, size)
    first, second = args.box
    return box(photo, first, second, size)


def run(args: argparse.Namespace) -> int:
    """Open it, write the session, and say how well the model knows such pictures."""
    from draggan.export import Provenance, check_picture_path, save_picture
    from draggan.photo import read_photo
    from draggan.provenance.deployment import default
    from draggan.session import Session
    from draggan.session_file import SUFFIX, PhotoPlace, SessionFile
    from draggan.terminal import check_model, ensure_downloaded

    if args.out.suffix.lower() != SUFFIX or not args.out.parent.is_dir():
        raise ConfigError(
            f"--out {args.out} cannot be written; give a name that ends in {SUFFIX}, in a folder that exists"
        )
    if args.picture is not None:
        check_picture_path(args.picture)
    given = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    config = InversionConfig(**given)
    check_model(args.model)
    photo = read_photo(args.photo)
    agreed(args)
    # Only now: a mistake need not wait for PyTorch.
    from draggan.engine.local import LocalEngine
    from draggan.engine.models import AnyModels
    from draggan.inversion import VERDICTS, crop_finder, cut, expected
    from draggan.inversion.encoder import find_encoder
    from draggan.inversion.lpips import read_lpips

    lpips = read_lpips(*args.lpips) if args.lpips else None
    default().moderation.check_upload(photo.pixels)
    ensure_downloaded(args.model, yes=args.yes)
    engine = LocalEngine(AnyModels(args.device), lpips=lpips)
    try:
        generator = engine.models.load(args.model)
        sha256, size = engine.models.sha256(args.model), generator.image_size
        crop = crop_of(args, photo, size, crop_finder(args.model, sha256, generator) if args.find else None)
        if not args.json:
            guessed = find_encoder(args.model, sha256) is not None
            time = expected(generator, config, guessed=guessed, lpips=lpips)
            print(
                f"this takes about {time.done:.0f} s here, {time.latent:.0f} s of them to the first that can be dragged"
            )
        running = engine.invert(args.model, cut(photo, crop, size), config)
        last = _watched(running, quiet=args.json)
        recipe = running.reached()
        assert last is not None
        assert last.verdict is not None
        place = PhotoPlace(
            crop=tuple((float(x), float(y)) for x, y in crop.values()),
            photo_sha256=photo.sha256,
            photo_size=photo.size,
        )
        digest = recipe.model.tuning
        work = SessionFile(session=Session.of(recipe), tunings={digest: engine.tuning(recipe)}, places={digest: place})
        written = [work.save(args.out)]
        if args.picture is not None:
            facts, provenance = {"model": recipe.model.name.rsplit("/", 1)[-1]}, Provenance(door="command line")
            pixels = engine.picture(recipe)
            written.append(save_picture(args.picture, pixels, facts, recipe=recipe, provenance=provenance))
    finally:
        engine.close()
    result = {
        "verdict": last.verdict,
        "psnr": round(last.psnr, 2),
        "steps": last.index,
        "seconds": round(last.seconds, 2),
        "crop": crop.values(),
        "tuning": recipe.model.tuning,
        "files": [str(path) for path in written],
        "config": dataclasses.asdict(config),
    }
    if args.json:
        print(json.dumps(result))
        return 0
    print(VERDICTS[last.verdict])
    print(f"  {last.psnr:.1f} dB after {last.index} steps, {last.seconds:.0f} s")
    for path in written:
        print(f"  wrote {path}")
    command = f"{own_command()} drag --recipe {args.out}"
    print(f"  drag it: {command} --point X,Y:X,Y --out result.png --photo {args.photo}")
    return 0


def _watched(running: RunningInversion, *, quiet: bool) -> InversionUpdate | None:
    """Follow it to its end, with a bar on a terminal; Ctrl+C: good enough, what there is is kept."""
    from draggan.terminal import StageBar, follow

    bar = StageBar(shown=not quiet)
    words = {"latent": "looking for the picture", "weights": "tuning the model"}

    def show(update: InversionUpdate) -> None:
        bar(update.progress, f"{words[update.stage]}, {update.psnr:.1f} dB", update.seconds_left)

    try:
        return follow(running, show)
    finally:
        bar.end()


def _points(count: int) -> Callable[[str], tuple[tuple[float, float], ...]]:
    """Reads so many points."""

    def read(text: str) -> tuple[tuple[float, float], ...]:
        try:
            pairs = [tuple(float(n) for n in pair.split(",")) for pair in text.split(":")]
            if len(pairs) != count or any(len(pair) != 2 for pair in pairs):
                raise ValueError
        except ValueError:
            form = ":".join(["X,Y"] * count)
            raise argparse.ArgumentTypeError(f"'{text}' is not {count} points; write them like {form}") from None
        return tuple((x, y) for x, y in pairs)

    return read
