"""How many pictures a second the scenes' renderer draws: ``python -m draggan.scenes [cat ...] [--size 128 256]``.

Random scenes, with importance and landmarks, as training takes them. On a busy machine look at the processor time.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence

from draggan.device import choose_device
from draggan.errors import DragGANError
from draggan.scenes import SCENES, Scene, find_scene
from draggan.scenes.pool import scene_noise

__all__ = ["main", "measure"]

logger = logging.getLogger(__name__)

_BLOCK = 16


def measure(scene: Scene, size: int, *, seconds: float, threads: int, device: str) -> tuple[float, float]:
    """Pictures a second, and milliseconds of processor time a picture, after a first block that is not counted.

    Args:
        size: height and width in pixels.
        seconds: at least this long.
        threads, device: as for `Scene.render`.
    """
    drawn = 0
    wall = processor = 0.0
    block = 0
    while wall < seconds or drawn == 0:
        p = scene.parameters(scene_noise(scene, 0, block, _BLOCK))
        start, used = time.perf_counter(), time.process_time()
        scene.render(p, size, threads=threads, device=device)
        if block > 0:
            wall, processor = wall + time.perf_counter() - start, processor + time.process_time() - used
            drawn += _BLOCK
        block += 1
    return drawn / wall, 1e3 * processor / drawn


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m draggan.scenes", description=__doc__.split("\n")[0])
    parser.add_argument("scenes", nargs="*", metavar="scene", help=f"of {', '.join(SCENES)} (default: all)")
    parser.add_argument("--size", type=int, nargs="+", default=[128, 256], help="height and width in pixels")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each scene and size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        device = str(choose_device(options.device))
        logger.info("device %s, threads: %d", device, options.threads)
        logger.info("%-6s %6s %12s %24s", "scene", "px", "pictures/s", "processor ms a picture")
        for scene in [find_scene(name) for name in options.scenes or SCENES]:
            for size in options.size:
                rate, cost = measure(scene, size, seconds=options.seconds, threads=options.threads, device=device)
                logger.info("%-6s %6d %12.1f %24.2f", scene.name, size, rate, cost)
    except DragGANError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
