"""Real photographs: whether what is pasted back shows a seam; and what bad files are answered.

*Seams.* A part of a photograph is opened in a built-in model (which does not know photographs), a point is dragged, and
what has changed is pasted back. In the band where the paste fades, the mean length of the brightness' gradient is
compared: in the photograph, in the result, and where the whole crop is pasted without fading. A seam makes it larger.
*Outside*: pixels beyond the crop, and beyond the mask where there is one, that are not the photograph's own.

The photographs come with scikit-image: `astronaut` (NASA, public domain), `chelsea` (CC0, S. van der Walt) and `coffee`
(CC0, R. Michelson). *Bad files* are made up here; the sentence is what `draggan.inversion.read_photo` raises. ::

    python -m benchmarks photos --photographs skimage/data --out benchmarks/photos.md
"""

from __future__ import annotations

import argparse
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import draggan
from benchmarks import machine
from benchmarks.timing import publish, table
from draggan.checkpoints.store import locate
from draggan.config import InversionConfig
from draggan.engine.models import file_sha256
from draggan.errors import PhotoError
from draggan.generators.tuned import tuned
from draggan.inversion import Inversion, Photo, box, cut, paste, read_photo
from draggan.inversion.encoder import guess_latent
from draggan.pixels import to_uint8

__all__ = ["main"]

# Photograph, model, the box that is opened, and how far a point in its middle is dragged, of 256 px.
_CASES = (
    ("astronaut.png", "face", (140, 10, 320, 190), (14, 0)),
    ("chelsea.png", "cat", (60, 10, 350, 299), (0, 14)),
    ("coffee.png", "car", (130, 60, 470, 399), (-12, 0)),
)


def main(argv: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks photos", description=__doc__)
    parser.add_argument("--photographs", type=Path, help="the folder skimage/data; without it, bad files alone")
    parser.add_argument("--folder", type=Path, help="write the results here as pictures, to be looked at")
    parser.add_argument("--quick", action="store_true", help="a quarter of the steps")
    parser.add_argument("--out", type=Path, help="write the report here")
    machine.add_options(parser)
    args = parser.parse_args(argv)
    here = machine.prepare(args)
    text = ["# Photographs", "", here.markdown(), "", "What stands here: `benchmarks/photos.py`.", ""]
    if args.photographs:
        rows = [_seam(args, *case) for case in _CASES]
        heads = ["photograph", "model", "tuned dB", "gradient there: photograph", "pasted", "hard paste"]
        text += ["## Seams", "", table([*heads, "outside changed", "with a mask"], rows), ""]
    said = [[name, _answer(data)] for name, data in _bad_files()]
    text += ["## Bad files", "", table(["file", "what is said"], said)]
    publish("\n".join(text), args.out)
    return 0


def _seam(
    args: argparse.Namespace, name: str, model: str, corners: tuple[int, int, int, int], pull: tuple[int, int]
) -> list[Any]:
    generator = draggan.load_generator(model, device="cpu")
    photo = read_photo(args.photographs / name)
    size = generator.image_size
    crop = box(photo, corners[:2], corners[2:], size)
    shown = cut(photo, crop, size)
    usual = InversionConfig()
    share = 4 if args.quick else 1
    config = InversionConfig(
        coarse_steps=usual.coarse_steps // share, steps=usual.steps // share, tuning_steps=usual.tuning_steps // share
    )
    inversion = Inversion(
        generator, shown, config, start=guess_latent(model, file_sha256(locate(model)), generator, shown)
    )
    for _ in inversion:
        pass
    found = inversion.result
    drawing = tuned(generator, found.tuning.differences)
    middle = (size[1] / 2, size[0] / 2)
    target = (middle[0] + pull[0], middle[1] + pull[1])
    settings = draggan.suggested_config(model)
    *_, step = draggan.Drag(drawing, found.ws, handles=[middle], targets=[target], config=settings)
    with torch.no_grad():
        before, after = (to_uint8(drawing.synthesis(ws)) for ws in (found.ws, step.ws))
    pasted = paste(photo, crop, after, before=before)
    mask = np.zeros(size, bool)
    mask[64:192, 64:192] = True
    masked = paste(photo, crop, after, before=before, mask=mask)
    hard = _hard(photo, crop, after)
    inside = _inside(photo, crop)
    held = (masked != photo.pixels).any(-1) & ~_inside(photo, crop, share=0.5)
    fading = _fading(photo, pasted)
    figures = [f"{_steepness(picture, fading):.2f}" for picture in (photo.pixels, pasted)]
    edge = _inside(photo, crop, share=1.02) & ~_inside(photo, crop, share=0.97)
    figures.append(f"{_steepness(hard, edge):.2f} ({_steepness(photo.pixels, edge):.2f})")
    outside = int(((pasted != photo.pixels).any(-1) & ~inside).sum())
    if args.folder:
        Image.fromarray(np.concatenate([photo.pixels, pasted], 1)).save(args.folder / f"{Path(name).stem}.jpg")
    return [name, model, f"{found.psnr:.1f}", *figures, outside, int(held.sum())]


def _inside(photo: Photo, crop: Any, share: float = 1.0) -> np.ndarray:
    """Pixels of the photo within so much of the crop."""
    height, width = photo.size
    y, x = np.mgrid[:height, :width]
    half = share * crop.right[0] + 0.5
    return (np.abs(x - crop.centre[0]) <= half) & (np.abs(y - crop.centre[1]) <= half)


def _hard(photo: Photo, crop: Any, after: np.ndarray) -> np.ndarray:
    """The crop's picture over the photo, without fading."""
    low, side = np.round(crop.corners.min(0)).astype(int), round(2 * crop.right[0])
    whole = Image.fromarray(photo.pixels)
    whole.paste(Image.fromarray(after).resize((side, side), Image.Resampling.BICUBIC), tuple(low.tolist()))
    return np.asarray(whole)


def _fading(photo: Photo, pasted: np.ndarray) -> np.ndarray:
    """Pixels near the border of what has changed."""
    changed = torch.from_numpy((pasted != photo.pixels).any(-1))[None, None].float()
    grown = torch.nn.functional.max_pool2d(changed, 13, 1, 6)
    shrunk = 1 - torch.nn.functional.max_pool2d(1 - changed, 13, 1, 6)
    return ((grown - shrunk)[0, 0] > 0).numpy()


def _steepness(picture: np.ndarray, where: np.ndarray) -> float:
    """Mean length of the brightness' gradient, of 255 a pixel."""
    down, across = np.gradient(picture.astype(np.float64).mean(-1))
    return float(np.hypot(down, across)[where].mean())


def _answer(data: bytes) -> str:
    try:
        photo = read_photo(data, "photo")
    except PhotoError as error:
        return str(error)
    return f"opens, {photo.size[1]} x {photo.size[0]}"


def _bad_files() -> Iterator[tuple[str, bytes]]:
    """Files that are no photo, or only just."""
    rgb = Image.fromarray(np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3))

    def saved(form: str, image: Image.Image = rgb, **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        return buffer.getvalue()

    png, jpeg = saved("PNG"), saved("JPEG")
    yield "empty", b""
    yield "text", b"This is no picture, whatever it is called." * 9
    yield "a ZIP archive", b"PK\x03\x04" + bytes(200)
    yield "SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    yield "PDF", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"
    yield "HTML called .png", b"<!doctype html><img src=x onerror=alert(1)>"
    yield "PNG cut off after its header", png[:60]
    yield "PNG with a wrong checksum", png[:45] + bytes([png[45] ^ 1]) + png[46:]
    yield "PNG that says it has 60,000 x 60,000 pixels", _with_size(png, 60_000, 60_000)
    yield "PNG of 100 megapixels", _with_size(png, 12_500, 8_000)
    yield "PNG of no width", _with_size(png, 0, 40)
    yield "JPEG cut off in the middle", jpeg[: len(jpeg) // 2]
    yield "JPEG of zeros after its header", jpeg[:30] + bytes(500)
    yield "GIF of its header alone", b"GIF89a\x10\x00\x10\x00\x80\x00\x00"
    yield "WebP cut off", saved("WEBP")[:80]
    yield "TIFF that points beyond its end", b"II*\x00\xff\xff\xff\x7f" + bytes(40)
    yield "BMP with a negative width", b"BM" + bytes(12) + b"\x28\x00\x00\x00\xff\xff\xff\xff" + bytes(40)
    yield "one pixel", saved("PNG", rgb.crop((0, 0, 1, 1)))
    yield "a single line of 4000 pixels", saved("PNG", rgb.resize((4000, 1)))
    yield "64 MiB and one byte", png + bytes((64 << 20) + 1 - len(png))
    yield "an MP4", b"\x00\x00\x00\x18ftypmp42" + bytes(100)
    yield "CMYK JPEG", saved("JPEG", rgb.convert("CMYK"))
    yield "16 bit grey PNG", saved("PNG", Image.fromarray(np.full((20, 20), 40_000, np.uint16)))


def _with_size(png: bytes, width: int, height: int) -> bytes:
    """A PNG whose header says another size."""
    head = png[12:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + png[24:29]
    return png[:12] + head + zlib.crc32(head).to_bytes(4, "big") + png[33:]
