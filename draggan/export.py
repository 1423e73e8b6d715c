"""The one door through which pictures leave as files. Every file says that it was made by AI.

The mark is the IPTC vocabulary's ``DigitalSourceType: trainedAlgorithmicMedia`` in an XMP packet, which picture
agencies, search engines and social networks read, and, where the format has one, a plain text comment for people.
Previews are not files and do not pass here.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dnnlib.cache import replacing
from draggan.errors import ExportError, RecipeError
from draggan.images import over_white
from draggan.recipe import Recipe

__all__ = [
    "SOURCE_TYPE",
    "check_animation_path",
    "check_png_path",
    "encode_animation",
    "encode_png",
    "read_recipe",
    "save_animation",
    "save_png",
    "save_recipe",
]

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_RECIPE = "DragGAN recipe"
_MOST_BYTES = 256 << 20  # of a picture with a recipe in it
_NOTE = "AI-generated image, made with DragGAN"
ANIMATIONS = (".gif", ".webp")
# What an animation shows before and after the movement stays this long.
_FIRST_SECONDS, _LAST_SECONDS = 0.8, 1.6
# A second-order drag has few pictures, another one many: each of them is shown at least and at most this long.
_SHORTEST, _LONGEST = 0.06, 0.3


def encode_png(
    pixels: UInt8[np.ndarray, "height width channels"],
    details: dict[str, Any] | None = None,
    *,
    recipe: Recipe | None = None,
) -> bytes:
    """A marked PNG.

    Args:
        details: JSON-able facts about how it was made (model, seed, points, ...), stored as the text ``DragGAN``.
        recipe: how it was made, exactly, stored as the text ``DragGAN recipe``; `read_recipe` opens it again.
    """
    return _marked([pixels], ".png", details, recipe=recipe)


def encode_animation(
    frames: Sequence[UInt8[np.ndarray, "height width channels"]],
    suffix: str,
    details: dict[str, Any] | None = None,
    *,
    seconds: float | None = None,
) -> bytes:
    """A marked GIF or WebP that repeats for ever.

    Args:
        suffix: ".gif" (256 colours a frame) or ".webp".
        details: as for `encode_png`.
        seconds: how long each frame is shown, the first and the last one longer; None: so that all take about two.
    """
    if not len(frames):
        raise ExportError("there is no frame to write; drag something first")
    if seconds is None:
        seconds = min(max(2 / len(frames), _SHORTEST), _LONGEST)
    return _marked(frames, _animation(suffix), details, seconds)


def check_png_path(path: str | Path) -> Path:
    """The path itself, or `ExportError` if no picture can be written there: ask before work that would be lost."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ExportError(f"cannot write {path.name}: only .png is supported; choose a name that ends in .png")
    return _in_a_folder(path)


def save_png(
    path: str | Path,
    pixels: UInt8[np.ndarray, "height width channels"],
    details: dict[str, Any] | None = None,
    *,
    recipe: Recipe | None = None,
) -> Path:
    """Write a marked PNG, whole or not at all; arguments as for `encode_png`.

    Raises:
        ExportError: the name does not end in .png, or the file cannot be written.
    """
    return _write(check_png_path(path), encode_png(pixels, details, recipe=recipe))


def save_animation(
    path: str | Path,
    frames: Sequence[UInt8[np.ndarray, "height width channels"]],
    details: dict[str, Any] | None = None,
    *,
    seconds: float | None = None,
) -> Path:
    """Write a marked GIF or WebP, as the name ends, whole or not at all; arguments as for `encode_animation`.

    Raises:
        ExportError: there is no frame, the name ends otherwise, or the file cannot be written.
    """
    path = check_animation_path(path)
    return _write(path, encode_animation(frames, path.suffix, details, seconds=seconds))


def save_recipe(path: str | Path, recipe: Recipe) -> Path:
    """Write a recipe as JSON, whole or not at all.

    Raises:
        ExportError: the file cannot be written.
    """
    return _write(_in_a_folder(Path(path)), recipe.portable().to_json(indent=1).encode())


def read_recipe(path: str | Path) -> Recipe:
    """The recipe in a JSON file, or in a PNG that was saved with one.

    Raises:
        RecipeError: there is none.
        DragGANError: it cannot be used; see `Recipe.from_json`.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise RecipeError(f"{path.name} is too large for a recipe; at most {_MOST_BYTES >> 20} MB are read")
        data = path.read_bytes()
        if not data.startswith(b"\x89PNG"):
            return Recipe.from_json(data)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            text = picture.info.get(_RECIPE)
    except OSError as e:
        raise RecipeError(f"cannot read {path}: {e.strerror or e}") from e
    except (ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise RecipeError(f"{path.name} cannot be read as a picture ({e})") from e
    if not isinstance(text, str):
        raise RecipeError(f"{path.name} has no recipe in it; only pictures that DragGAN has saved have one")
    return Recipe.from_json(text)


def check_animation_path(path: str | Path) -> Path:
    """The path itself, or `ExportError` if no animation can be written there."""
    _animation(Path(path).suffix)
    return _in_a_folder(Path(path))


def _animation(suffix: str) -> str:
    if suffix.lower() not in ANIMATIONS:
        raise ExportError(f"an animation cannot be written as '{suffix}'; choose a name that ends in .gif or .webp")
    return suffix.lower()


def _in_a_folder(path: Path) -> Path:
    if not path.parent.is_dir():
        raise ExportError(f"cannot write {path}: there is no folder {path.parent}; choose one that exists")
    return path


def _write(path: Path, data: bytes) -> Path:
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    except OSError as e:
        raise ExportError(f"cannot write {path}: {e.strerror or e}; choose a folder that is writable") from e
    return path


def _marked(
    frames: Sequence[UInt8[np.ndarray, "height width channels"]],
    suffix: str,
    details: dict[str, Any] | None,
    seconds: float = 0.0,
    recipe: Recipe | None = None,
) -> bytes:
    """The bytes of a file with its mark: all that leaves as a file passes here."""
    facts = json.dumps(details, sort_keys=True) if details else ""
    images = [Image.fromarray(pixels) for pixels in frames]
    options: dict[str, Any] = {}
    if suffix == ".png":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", _xmp())
        info.add_text("Software", "DragGAN")
        info.add_itxt("Comment", _NOTE)
        if facts:
            info.add_itxt("DragGAN", facts)
        if recipe is not None:
            info.add_itxt(_RECIPE, recipe.portable().to_json())
        options = {"pnginfo": info}
    else:
        shown = [seconds] * len(images)
        shown[0], shown[-1] = max(shown[0], _FIRST_SECONDS), max(shown[-1], _LAST_SECONDS)
        durations: Any = [round(1000 * s) for s in shown]
        options = {"save_all": True, "append_images": images[1:], "duration": durations, "loop": 0}
        if suffix == ".webp":
            options |= {"xmp": _xmp(facts).encode(), "quality": 90, "method": 4}
        else:
            # Colours are chosen for each frame: a palette for all of them would show in every one.
            images = [
                Image.fromarray(over_white(pixels)).quantize(256, method=Image.Quantize.MEDIANCUT) for pixels in frames
            ]
            options |= {"append_images": images[1:], "comment": _NOTE.encode()}
    buffer = io.BytesIO()
    images[0].save(buffer, suffix[1:].upper(), **options)
    data = buffer.getvalue()
    return _with_xmp(data, _xmp(facts)) if suffix == ".gif" else data


def _with_xmp(gif: bytes, packet: str) -> bytes:
    """A GIF with an XMP packet, as XMP's specification (part 3) puts it: an application extension before the frames.

    The packet stands there as it is, without lengths of blocks. The bytes after it lead a reader that takes every byte
    for a length to the end of the extension, wherever the packet has sent it.
    """
    table = 3 << ((gif[10] & 7) + 1) if gif[10] & 0x80 else 0
    head = 13 + table
    landing = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"
    extension = b"\x21\xff\x0bXMP DataXMP" + packet.encode() + landing
    return gif[:head] + extension + gif[head:]


def _xmp(facts: str = "") -> str:
    """The XMP packet; ``facts`` is what a format keeps there that has no place of its own for it."""
    ours = f"<draggan:details>{escape(facts)}</draggan:details>" if facts else ""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:draggan="urn:draggan:1.0/">'
        f"<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
        "<xmp:CreatorTool>DragGAN</xmp:CreatorTool><photoshop:Credit>AI-generated</photoshop:Credit>"
        f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{escape(_NOTE)}</rdf:li></rdf:Alt></dc:description>'
        f'{ours}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )
