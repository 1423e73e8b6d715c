"""What the optional classifier says of pictures that nobody could mind: how often it is wrong, and how long it takes.

Everything here is harmless, so whatever is not allowed is a false alarm. What it does with pornography is not measured:
there are no such pictures that may be used here. The pictures are those of the built-in models and of their scenes, the
skin of the drawn faces close up, and photographs that come with scikit-image and scikit-learn (public domain, CC0 or
CC BY), where those are installed. Needs the extra ``moderation``::

    python -m benchmarks moderation --out benchmarks/moderation.md
"""

from __future__ import annotations

import argparse
import importlib
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
from jaxtyping import UInt8
from PIL import Image

import draggan
from benchmarks import machine
from benchmarks.timing import publish, table
from draggan.errors import ModerationError
from draggan.moderation import open_nsfw
from draggan.moderation.check import Moderation
from draggan.moderation.open_nsfw import SURELY_FINE, SURELY_NOT, OpenNsfw
from draggan.moderation.verdict import Subject
from draggan.scenes import find_scene

__all__ = ["main"]

_MODELS = ("cat", "car", "face")
_SIDE = 256  # px, of renderings
# Photographs without a person who could be named but for the astronaut, whose portrait is NASA's.
_PHOTOGRAPHS = {
    "skimage": (
        *("data/astronaut.png", "data/brick.png", "data/camera.png", "data/chelsea.png", "data/coffee.png"),
        *("data/coins.png", "data/grass.png", "data/gravel.png", "data/hubble_deep_field.jpg", "data/moon.png"),
        "data/rocket.jpg",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
Picture = UInt8[np.ndarray, "height width 3"]


def _drawn(name: str, count: int, truncation: float) -> Iterator[Picture]:
    generator = draggan.load_generator(name)
    for seed in range(count):
        z = draggan.z_from_seed(seed, generator.z_dim)
        yield draggan.to_uint8(generator.synthesis(generator.mapping(z, truncation_psi=truncation)))


def _rendered(name: str, count: int, **values: float) -> Iterator[Picture]:
    """Renderings of random parameters, some of them set."""
    scene = find_scene(name)
    parameters = scene.parameters(np.random.default_rng(0).standard_normal((count, scene.z_dim)))
    for key, value in values.items():
        parameters[:, scene.position(key)] = value
    for first in range(0, count, 16):
        yield from scene.render(parameters[first : first + 16], _SIDE).pictures.transpose(0, 2, 3, 1)


def _skin(count: int, shade: float) -> Iterator[Picture]:
    """The middle of faces of one skin, bald and with the eyes open, as large as the picture: little but skin."""
    for picture in _rendered("face", count, skin=shade, yaw=0.0, hair_volume=0.0, glasses=0.0, cheeks=1.0):
        yield picture[110:200, 83:173]


def _photographs() -> Iterator[Picture]:
    """Each as it is, and its four quarters."""
    for package, names in _PHOTOGRAPHS.items():
        try:
            module = importlib.import_module(package)
        except ImportError:
            continue
        for name in names:
            path = Path(str(module.__file__)).parent / name
            if path.is_file():
                pixels = np.asarray(Image.open(path).convert("RGB"))
                y, x = pixels.shape[0] // 2, pixels.shape[1] // 2
                yield from (pixels, pixels[:y, :x], pixels[:y, x:], pixels[y:, :x], pixels[y:, x:])


def _scores(pictures: Iterator[Picture]) -> list[float]:
    classifier = OpenNsfw()
    said = [classifier.check(Subject(stage="export", pictures=[np.ascontiguousarray(p)])) for p in pictures]
    return [float(verdict.score or 0.0) for verdict in said]


def _line(name: str, scores: Sequence[float]) -> list[object]:
    values = np.array(scores)
    review, refuse = ((values >= SURELY_FINE) & (values < SURELY_NOT)).sum(), (values >= SURELY_NOT).sum()
    median, high = np.median(values), values.max()
    return [name, len(values), f"{median:.3f}", f"{high:.3f}", len(values) - review - refuse, review, refuse]


def _milliseconds(frames: int, repeats: int) -> str:
    """Of one check, as an export waits for it: through the entry point, a thread of its own and all."""
    moderation = Moderation([OpenNsfw()])
    pictures = list(_rendered("car", frames))
    wall, used = [], []
    for _ in range(repeats):
        begun, cpu = time.perf_counter(), time.process_time()
        moderation.check_export(pictures)
        wall.append(time.perf_counter() - begun)
        used.append(time.process_time() - cpu)
    return f"{1e3 * np.median(wall):.0f} ms, {1e3 * np.median(used):.0f} ms of processor time"


def _closed(module: types.ModuleType, name: str, broken: object) -> str:
    """What becomes of a picture while something of the classifier's is broken, of that name in its module."""
    # One that was loaded before works on, and one that is loaded now must not be kept.
    open_nsfw._loaded.cache_clear()
    try:
        with mock.patch.object(module, name, broken):
            Moderation([OpenNsfw()]).check_export(np.zeros((64, 64, 3), np.uint8))
    except ModerationError as error:
        return f"refused: {error}"
    finally:
        open_nsfw._loaded.cache_clear()
    return "PASSED"


def _broken() -> Iterator[list[object]]:
    """Whether it fails closed with the real classifier, in the ways in which one breaks."""
    module = importlib.import_module(open_nsfw.MODULE)
    inside = importlib.import_module(f"{open_nsfw.MODULE}.classifier")
    nowhere = Path(inside.MODEL_PATH).with_name("no weights.onnx")

    def confused(**options: object) -> types.SimpleNamespace:
        return types.SimpleNamespace(score_images=lambda images: [float("nan")])

    yield ["its weights are gone", _closed(inside, "MODEL_PATH", nowhere)]
    yield ["it gives no number", _closed(module, "Classifier", confused)]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all of it; see the head of the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks moderation", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the pictures")
    parser.add_argument("--out", type=Path, help="write the tables here too")
    args = parser.parse_args(argv)
    count = 8 if args.quick else 80
    rows = []
    for name in _MODELS:
        psi = draggan.suggested_truncation(name)
        rows.append(_line(f"model {name}, truncation {psi:g}", _scores(_drawn(name, count, psi))))
        rows.append(_line(f"model {name}, truncation 1", _scores(_drawn(name, count, 1.0))))
        rows.append(_line(f"scene {name}, rendered at {_SIDE} px", _scores(_rendered(name, count))))
    for fifth in range(5):
        low = f"skin {fifth / 5:.1f} to {(fifth + 1) / 5:.1f}"
        faces = _scores(_rendered("face", count, skin=(fifth + 0.5) / 5))
        rows.append(_line(f"scene face, {low}", faces))
        rows.append(_line(f"close to the face, {low}", _scores(_skin(count, (fifth + 0.5) / 5))))
    greys = (np.full((_SIDE, _SIDE, 3), shade, np.uint8) for shade in range(0, 256, 17))
    rows.append(_line("nothing but one shade of grey", _scores(greys)))
    photographs = _scores(_photographs())
    if photographs:
        rows.append(_line("photographs and quarters of them", photographs))
    columns = ["pictures", "how many", "score, median", "highest", "allowed", "for a person", "refused"]
    lines = [
        "# The classifier of the extra `moderation`",
        "",
        machine.describe().markdown(),
        "",
        f"`python -m benchmarks moderation`. Yahoo's Open NSFW ({open_nsfw.MODULE}); below {SURELY_FINE} a picture is "
        f"allowed, from {SURELY_NOT} on refused, between them a person has to look. All of these pictures are "
        "harmless, so everything in the last two columns is a false alarm. How much of what it should find it finds "
        "is not measured: there are no such pictures that may be used here. Skin: 0 very light, 1 very dark.",
        "",
        table(columns, rows),
        "",
        table(
            ["one check, as an export waits for it", "median of 15"],
            [["a picture", _milliseconds(1, 15)], ["an animation, eight frames of it", _milliseconds(8, 15)]],
        ),
        "",
        table(["when the classifier is broken", "a picture on its way out is"], list(_broken())),
    ]
    publish("\n".join(lines), args.out)
    return 0
