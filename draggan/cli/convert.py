"""``draggan convert``: a model file in another form."""

from __future__ import annotations

import argparse

from draggan.cli.options import add_yes, name_of, path_of, which_model

__all__ = ["HELP", "NAME", "add_options", "run"]

NAME = "convert"
HELP = "turn a model file into safetensors, or that into a plain state dict"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("source", type=name_of, metavar="SOURCE", help=which_model())
    parser.add_argument(
        "destination", type=path_of, metavar="DESTINATION", help="write it here (.safetensors, .pt or .npz)"
    )
    add_yes(parser)


def run(args: argparse.Namespace) -> int:
    """Write it."""
    from draggan.downloads import megabytes
    from draggan.export import in_a_folder
    from draggan.terminal import ensure_downloaded

    in_a_folder(args.destination)
    ensure_downloaded(args.source, yes=args.yes)
    # Only now: a mistake need not wait for PyTorch.
    from draggan.checkpoints.convert import convert

    path = convert(args.source, args.destination)
    print(f"wrote {path} ({megabytes(path.stat().st_size)})")
    return 0
