"""How well the invisible mark is found again: after what happens to pictures, by size, and where it is not.

Pictures of the built-in models at random seeds (256 px), and the same reduced to 128 px and enlarged to 512 and 1024
by bicubic interpolation (smoother than what a network of that size draws, and so the harder case for hiding, the easier
one for finding).
Every one is marked with a number of its own, attacked, and searched for as `draggan verify` does.

The false positives are measured over pairs of unmarked pictures and keys: what is random is the key. Where PyAV is
installed, films are written as H.264 too::

    python -m benchmarks watermark --out benchmarks/watermark.md
"""

from __future__ import annotations

import argparse
import importlib
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

import draggan
from benchmarks import machine
from benchmarks.timing import publish, table
from draggan.provenance import watermark
from draggan.provenance.watermark import IDENTITY_BYTES, SpreadSpectrum

__all__ = ["ATTACKS", "main", "psnr"]

MODELS = ("cat", "car", "face")
COUNTS = {128: 200, 256: 100, 512: 60, 1024: 24}
_KEY = b"a key for measuring, and only for that"


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures, dB."""
    return float(10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2)))


def _written(form: str, **options: object) -> Callable[[np.ndarray], np.ndarray]:
    def attack(pixels: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        image = Image.fromarray(pixels)
        if form == "GIF":
            image = image.quantize(256, method=Image.Quantize.MEDIANCUT)
        image.save(buffer, form, **options)
        return np.asarray(Image.open(buffer).convert("RGB"))

    return attack


def _scaled(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def attack(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        size = (round(width * factor), round(height * factor))
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))

    return attack


def _cropped(part: float) -> Callable[[np.ndarray], np.ndarray]:
    """What is left has that part of height and width; where it lies depends on the picture."""

    def attack(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        tall, wide = round(height * part), round(width * part)
        top, left = int(pixels[:, 0].sum()) % (height - tall + 1), int(pixels[0].sum()) % (width - wide + 1)
        return pixels[top : top + tall, left : left + wide]

    return attack


def _noisy(pixels: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(int(pixels[0].sum())).normal(0, 5, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def _filtered(change: Callable[[Image.Image], Image.Image]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: np.asarray(change(Image.fromarray(pixels)))


def _chain(*attacks: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    def attack(pixels: np.ndarray) -> np.ndarray:
        for one in attacks:
            pixels = one(pixels)
        return pixels

    return attack


ATTACKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda pixels: pixels,
    "JPEG 75": _written("JPEG", quality=75),
    "JPEG 50": _written("JPEG", quality=50),
    "half size": _scaled(0.5),
    "half size, JPEG 75": _chain(_scaled(0.5), _written("JPEG", quality=75)),
    "a tenth cropped": _cropped(0.9),
    "a tenth cropped, JPEG 75": _chain(_cropped(0.9), _written("JPEG", quality=75)),
    "60 % left": _cropped(0.6),
    "WebP 90": _written("WEBP", quality=90),
    "WebP 80": _written("WEBP", quality=80),
    "GIF": _written("GIF"),
    "73 % of the size": _scaled(0.73),
    "mirrored, turned by 90°": lambda pixels: np.ascontiguousarray(np.rot90(pixels[:, ::-1])),
    "noise, sd 5": _noisy,
    "brighter by a fifth": lambda pixels: np.clip(pixels * 1.2, 0, 255).astype(np.uint8),
    "blur, radius 1": _filtered(lambda image: image.filter(ImageFilter.GaussianBlur(1))),
    "turned by 1°": _filtered(lambda image: image.rotate(1, Image.Resampling.BICUBIC)),
    "marked again": lambda pixels: SpreadSpectrum(_KEY).embed(pixels, b"other!"),
}


@dataclass
class Tally:
    """Of one attack at one size."""

    exact: int = 0
    found: int = 0
    wrong: int = 0
    seconds: list[float] = field(default_factory=list)

    def add(self, found: watermark.Found | None, identity: bytes, seconds: float) -> None:
        """Another search and what it should have given."""
        self.found += found is not None
        if found is not None and found.identity is not None:
            self.exact += found.identity == identity.hex()
            self.wrong += found.identity != identity.hex()
        self.seconds.append(seconds)

    def text(self, count: int) -> str:
        """Exact numbers of all, and, where those differ, marks seen."""
        exact = f"{self.exact}/{count}" if self.exact < count else f"{count}"
        return exact if self.found == self.exact else f"{exact} ({self.found} seen)"


def pictures(count: int) -> Iterator[np.ndarray]:
    """Of the built-in models in turn, at seeds 1000, 1001, ..."""
    generators = [draggan.load_generator(name) for name in MODELS]
    for i in range(count):
        generator = generators[i % len(generators)]
        z = draggan.z_from_seed(1000 + i, generator.z_dim)
        psi = draggan.suggested_truncation(MODELS[i % len(generators)])
        yield draggan.to_uint8(generator.synthesis(generator.mapping(z, truncation_psi=psi)))


def _tried(
    mark: SpreadSpectrum, drawn: Sequence[np.ndarray], side: int, say: Callable[[str], None]
) -> tuple[dict[str, Tally], list[float], list[float]]:
    random, tallies = np.random.default_rng(side), {name: Tally() for name in ATTACKS}
    quality: list[float] = []
    seconds: list[float] = []
    for number, picture in enumerate(drawn):
        pixels = picture if side == len(picture) else _scaled_up(picture, side)
        identity = random.bytes(IDENTITY_BYTES)
        begun = time.process_time()
        marked = mark.embed(pixels, identity)
        seconds.append(time.process_time() - begun)
        quality.append(psnr(pixels, marked))
        for name, attack in ATTACKS.items():
            attacked = attack(marked)
            # All sizes are searched where the size is an odd one; else the likely ones, as no other would be found.
            until = np.inf if name == "73 % of the size" else 0.0
            begun = time.process_time()
            found = mark.detect([attacked], until=until)
            tallies[name].add(found, identity, time.process_time() - begun)
        if number % 20 == 19:
            say(f"{side} px: {number + 1} of {len(drawn)}")
    return tallies, quality, seconds


def _scaled_up(picture: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


def _films(mark: SpreadSpectrum, drawn: Sequence[np.ndarray], side: int, crf: int) -> str:
    """Films of eight frames, a slow zoom, as H.264: how many numbers are read from all frames, and from the first."""
    try:
        av = importlib.import_module("av")
    except ImportError:
        return "not tried: PyAV is not installed"
    random, whole, first = np.random.default_rng(crf), 0, 0
    for picture in drawn:
        identity = random.bytes(IDENTITY_BYTES)
        frames = []
        for step in range(8):
            zoomed = Image.fromarray(picture).resize((side + 2 * step,) * 2, Image.Resampling.BICUBIC)
            frames.append(mark.embed(np.asarray(zoomed.crop((step, step, step + side, step + side))), identity))
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp4") as out:
            stream = out.add_stream("libx264", rate=12, options={"crf": str(crf)})
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
            for pixels in frames:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            out.mux(stream.encode(None))
        buffer.seek(0)
        with av.open(buffer) as film:
            seen = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        found, alone = mark.detect(seen, until=0.0), mark.detect(seen[:1], until=0.0)
        whole += found is not None and found.identity == identity.hex()
        first += alone is not None and alone.identity == identity.hex()
    return f"{whole}/{len(drawn)} (first frame alone: {first})"


def _unmarked(drawn: Sequence[np.ndarray], pairs: int, whole: int) -> list[str]:
    """Scores of pictures under keys that they were never marked with."""
    tiles = [watermark.evened_tile(picture) for picture in drawn]
    scores, numbers = [], 0
    for i in range(pairs):
        score, is_read = SpreadSpectrum(f"another key, number {i}".encode()).score(tiles[i % len(tiles)])
        scores.append(score)
        numbers += is_read
    found = sum(
        SpreadSpectrum(f"yet another key, number {i}".encode()).detect([drawn[i % len(drawn)]]) is not None
        for i in range(whole)
    )
    return [
        f"- {pairs} pairs at their own size, 8 orientations each: highest score {max(scores):.2f}, median "
        f"{np.median(scores):.2f}; the least score that counts as found is {watermark.least_score():.2f}. "
        f"A right check sum by chance: {numbers} (expected {pairs / 65536:.2f}), none of it above that score.",
        f"- {whole} whole searches (all sizes): {found} found. By construction at most one in "
        f"{round(1 / watermark.MOST_OFTEN)} is.",
    ]


def _fails(columns: Mapping[int, Mapping[str, Tally]], counts: Mapping[int, int]) -> str:
    """A sentence on what it does not survive."""
    lost = {
        name: [f"{side}" for side in counts if columns[side][name].exact < 0.9 * counts[side]]
        for name in ATTACKS
        if name != "marked again"
    }
    listed = "; ".join(f"{name} ({', '.join(sides)} px)" for name, sides in lost.items() if sides)
    fails = listed or "nothing"
    return f"What fails, with fewer than nine of ten numbers read: {fails}; and a second mark over the first."


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all of it; see the head of the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks watermark", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the pictures")
    parser.add_argument("--out", type=Path, help="write the tables here too")
    args = parser.parse_args(argv)
    part = 20 if args.quick else 1
    counts = {side: max(2, count // part) for side, count in COUNTS.items()}
    drawn = list(pictures(max(counts.values())))
    mark = SpreadSpectrum(_KEY)
    columns, looks = {}, []
    for side, count in counts.items():
        columns[side], quality, seconds = _tried(mark, drawn[:count], side, lambda text: print(text, flush=True))
        low, middle, high = np.percentile(quality, [0, 50, 100])
        found = np.median([s for t in columns[side].values() for s in t.seconds if t.exact])
        looks.append(
            [
                f"{side}",
                f"{count}",
                f"{middle:.1f} ({low:.1f} to {high:.1f})",
                f"{1e3 * np.median(seconds):.0f}",
                f"{1e3 * found:.0f}",
            ]
        )
    rows = [[name, *(columns[side][name].text(counts[side]) for side in counts)] for name in ATTACKS]
    wrong = sum(tally.wrong for column in columns.values() for name, tally in column.items() if name != "marked again")
    films = [
        [f"H.264, crf {crf}", *(_films(mark, drawn[: max(2, 12 // part)], side, crf) for side in (128, 256, 512))]
        for crf in (23, 28)
    ]
    lines = [
        "# The invisible mark",
        "",
        machine.describe().markdown(),
        "",
        "`python -m benchmarks watermark`. Numbers read exactly, of so many pictures; where a mark was seen more often "
        "than its number could be read, that is in brackets. A number that was read wrongly: "
        f"{wrong} in {sum(counts[s] * (len(ATTACKS) - 1) for s in counts)} searches.",
        "",
        table(["attack", *(f"{side} px" for side in counts)], rows),
        "",
        _fails(columns, counts),
        "",
        table(["film of 8 frames", "128 px", "256 px", "512 px"], films),
        "",
        table(["side, px", "pictures", "PSNR, dB: median (range)", "embed, ms", "find, ms"], looks),
        "",
        "Milliseconds are processor time, median; to find that there is no mark takes a search over all sizes.",
        "",
        "Unmarked pictures:",
        "",
        *_unmarked(drawn, 10_000 // part, 100 // part),
        "",
        "Marked twice, a picture is seen as marked; mostly neither number can be read. Below 48 px none is put in.",
    ]
    publish("\n".join(lines), args.out)
    return 0
