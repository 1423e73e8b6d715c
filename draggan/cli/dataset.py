"""``draggan dataset``: pictures before and after, with what is true of them, for other models."""

from __future__ import annotations

import argparse

from draggan.cli.options import add_command, file_of, path_of
from draggan.program import own_command

__all__ = ["HELP", "NAME", "add_options", "run"]

NAME = "dataset"
HELP = "write a data set: pictures before and after, points, flow, landmarks, segments"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    kinds = parser.add_subparsers(required=True, title="kinds", metavar="KIND", dest="kind")
    scenes = add_command(kinds, "scenes", "renderings of a scene that moves: the flow of every pixel is known")
    scenes.add_argument("--scene", default="cat", metavar="SCENE", help="cat, face or car (default: %(default)s)")
    scenes.add_argument("--count", type=int, default=1000, metavar="N", help="how many pairs (default: %(default)s)")
    scenes.add_argument(
        "--size", type=int, default=128, metavar="PX", help="height and width in pixels (default: %(default)s)"
    )
    scenes.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="the same pairs for the same one; take another for every split (default: %(default)s)",
    )
    scenes.add_argument(
        "--motion",
        type=float,
        default=0.15,
        metavar="NUMBER",
        help="how far parameters move, as a part of their range (default: %(default)s)",
    )
    scenes.add_argument(
        "--points", type=int, default=32, metavar="N", help="points of every pair, at most (default: %(default)s)"
    )
    drags = add_command(kinds, "drags", f"drags that `{own_command()} batch --before` has done")
    drags.add_argument("batch", type=file_of, metavar="BATCH", help="the folder that the batch wrote to")
    for options in (scenes, drags):
        options.add_argument(
            "--split", default="train", metavar="NAME", help="train, validation or test (default: %(default)s)"
        )
        options.add_argument("--out", type=path_of, required=True, metavar="FOLDER", help="write the data set here")


def run(args: argparse.Namespace) -> int:
    """Write it; the same command goes on where it stopped."""
    from draggan.datasets.batch_pairs import write_batch_pairs
    from draggan.datasets.scene_pairs import ScenePairs, write_scene_pairs
    from draggan.terminal import CountBar

    bar = CountBar()

    def progress(done: int, total: int) -> None:
        bar(done, 0, total)

    try:
        if args.kind == "drags":
            path = write_batch_pairs(args.batch, args.out, args.split, progress)
        else:
            names = ("scene", "count", "size", "split", "seed", "motion", "points")
            wanted = ScenePairs(**{name: getattr(args, name) for name in names})
            path = write_scene_pairs(args.out, wanted, progress)
    finally:
        bar.end()
    print(f"  wrote {path}")
    return 0
