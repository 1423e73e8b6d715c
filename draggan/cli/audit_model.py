"""``draggan audit-model``: whom a model draws, and how well it draws and drags each group."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from draggan.cli.options import add_class, add_machine, file_of, name_of, path_of, which_model
from draggan.config import check_truncation
from draggan.errors import ConfigError, ExportError

if TYPE_CHECKING:
    from draggan.evaluation.attributes import AttributeReader

__all__ = ["HELP", "NAME", "add_options", "run"]

NAME = "audit-model"
HELP = "count whom a model draws, and how well it draws and drags each group: a bias sheet"
_MOST = 100_000
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.description = (
        "Attributes are read from many pictures and compared with a reference. For the built-in models they are the "
        "parameters of the scene, and the reference is what the scene would draw; for any other model, give a function "
        "that reads them."
    )
    which = parser.add_argument_group("which pictures")
    which.add_argument("model", type=name_of, metavar="MODEL", help=which_model())
    which.add_argument(
        "--truncation",
        type=float,
        action="append",
        metavar="PSI",
        help="0: the average picture, 1: the seed's own; may be given more than once (default: the page's, and 1)",
    )
    which.add_argument("--seed", type=int, default=0, metavar="N", help="of the first one (default: %(default)s)")
    add_class(which)
    counted = parser.add_argument_group("what is counted")
    counted.add_argument(
        "--samples", type=int, default=1000, metavar="N", help="pictures to count (default: %(default)s)"
    )
    counted.add_argument("--drags", type=int, default=120, metavar="N", help="drags to judge (default: %(default)s)")
    counted.add_argument(
        "--renderings",
        type=int,
        default=2500,
        metavar="N",
        help="from which the reading of a scene's parameters is learnt (default: %(default)s)",
    )
    counted.add_argument(
        "--attributes",
        metavar="MODULE:FUNCTION",
        help="your own function, or FILE.py:FUNCTION; it takes pictures, uint8 [picture, height, width, 3], and "
        "returns a dictionary: by name a number or a word of each picture",
    )
    counted.add_argument(
        "--reference",
        type=file_of,
        metavar="FOLDER|FILE.json",
        help="pictures to compare with, or the shares that are expected: "
        '{"NAME": {"GROUP": 0.5, ...}} (default: the scene, or equal shares)',
    )
    written = parser.add_argument_group("what is written")
    written.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="NAME",
        help="show every group of this attribute; may be given more than once",
    )
    written.add_argument("--out", type=path_of, metavar="FILE", help="also write the tables here (Markdown)")
    written.add_argument("--json", type=path_of, metavar="FILE", help="write all figures here (JSON)")
    written.add_argument(
        "--sheet",
        type=path_of,
        metavar="FILE",
        help="write the first pictures here, side by side (.png, .jpg or .webp)",
    )
    add_machine(parser)


def run(args: argparse.Namespace) -> int:
    """Do it, and print the tables."""
    for name, least in (("samples", 10), ("drags", 0), ("renderings", 50)):
        if not least <= getattr(args, name) <= _MOST:
            raise ConfigError(f"--{name} {getattr(args, name)} is not allowed; give a number from {least} to {_MOST}")
    if not 0 <= args.seed <= 2**31:
        raise ConfigError(f"--seed {args.seed} is not allowed; give a whole number from 0 to {2**31}")
    for truncation in args.truncation or ():
        check_truncation(truncation, "--truncation")
    from draggan.export import Provenance, check_picture_path, save_picture
    from draggan.suggestions import suggested_config, suggested_truncation
    from draggan.terminal import Line, check_model, ensure_downloaded

    if args.sheet is not None:
        check_picture_path(args.sheet)
    check_model(args.model)
    # Only now: a mistake need not wait for PyTorch.
    from draggan.evaluation.attributes import load_reader
    from draggan.evaluation.bias import audit, contact_sheet
    from draggan.evaluation.subject import load_subject

    reader = None if args.attributes is None else load_reader(args.attributes)
    ensure_downloaded(args.model, yes=args.yes)
    subject = load_subject(args.model, device=args.device, label=args.label)
    line = Line()
    try:
        sheet, shown = audit(
            subject,
            suggested_config(args.model),
            reader,
            truncations=args.truncation or (suggested_truncation(args.model), 1.0),
            samples=args.samples,
            drags=args.drags,
            renderings=args.renderings,
            first_seed=args.seed,
            reference=None if args.reference is None else _reference(args.reference, reader, subject.size),
            progress=lambda what, done, count: line(f"{what}: {done} of {count}"),
        )
    finally:
        line.end()
    text = sheet.markdown(args.group)
    print(text, end="")
    if args.sheet is not None:
        details = {
            "model": subject.name,
            "truncation": sheet.truncations[0],
            "seeds": [args.seed, args.seed + len(shown)],
        }
        provenance = Provenance(door="command line")
        print(f"wrote {save_picture(args.sheet, contact_sheet(shown), details, provenance=provenance)}")
    for path, content in ((args.out, text), (args.json, json.dumps(sheet.to_dict(), indent=1) + "\n")):
        if path is not None:
            _write(path, content)
            print(f"wrote {path}")
    return 0


def _reference(path: Path, reader: AttributeReader | None, size: tuple[int, int]) -> Any:
    """Shares that are expected, or attributes of the pictures in a folder.

    Raises:
        ConfigError: neither is there.
    """
    import numpy as np
    from PIL import Image

    if path.is_dir():
        if reader is None:
            raise ConfigError(
                "pictures to compare with need --attributes, too: a scene's parameters are read from renderings"
            )
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _PICTURES)
        if not files:
            raise ConfigError(f"there are no pictures ({', '.join(_PICTURES)}) in {path}")
        pictures = []
        for file in files:
            try:
                with Image.open(file, formats=["PNG", "JPEG", "WEBP"]) as picture:
                    pictures.append(np.asarray(picture.convert("RGB").resize((size[1], size[0]))))
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise ConfigError(f"{file} cannot be read as a picture ({error})") from error
        return reader(np.stack(pictures))
    try:
        shares = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): {str(g): float(s) for g, s in groups.items()} for name, groups in shares.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f'{path} is neither a folder of pictures nor JSON like {{"NAME": {{"GROUP": 0.5}}}} ({error})'
        ) from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExportError(
            f"cannot write {path}: {error.strerror or error}; choose a folder that is writable"
        ) from error
