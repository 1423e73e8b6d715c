"""The one way out for pictures: every file that leaves is looked at, marked, signed and recorded, in this order.

1. *Moderation* may refuse it (`draggan.moderation`).
2. An *invisible mark* with a random number goes into the pixels (`draggan.provenance.watermark`).
3. A *caption* that people see, if it is wanted.
4. The file is *encoded*, with a packet that says "made by AI" in IPTC's words (`draggan.provenance.metadata`).
5. *Content credentials* sign it, if the extra ``provenance`` is installed (`draggan.provenance.credentials`).
6. The *record of exports* gets its row (`draggan.provenance.audit`).

Nothing is encoded again after that. Previews are not files and do not pass here. `tests/test_export.py` lists every way
out and looks for other ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import io
import json
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from dnnlib.cache import replacing
from draggan.errors import ExportError, NoRecipeError, RecipeError
from draggan.images import over_white, with_caption
from draggan.provenance.audit import Export
from draggan.provenance.credentials import Ingredient, seal
from draggan.provenance.deployment import Deployment, default
from draggan.provenance.marks import can_carry, own_watermark
from draggan.provenance.metadata import (
    RECIPE,
    SourceType,
    gif_with_xmp,
    mp4_with_xmp,
    note_of,
    read_metadata,
    recipe_for_xmp,
    xmp_packet,
)
from draggan.provenance.watermark import IDENTITY_BYTES
from draggan.recipe import Recipe
from draggan.reel import Frames, Reel

__all__ = [
    "ANIMATIONS",
    "PICTURES",
    "Provenance",
    "can_write_mp4",
    "check_animation_path",
    "check_picture_path",
    "details_of",
    "encode_animation",
    "encode_picture",
    "has_sound",
    "in_a_folder",
    "read_recipe",
    "recipe_in",
    "save_animation",
    "save_picture",
    "save_recipe",
]

_MOST_BYTES = 256 << 20  # of a picture with a recipe in it
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
ANIMATIONS = (".gif", ".webp", ".mp4")
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".gif": "GIF", ".mp4": "MP4"}
NO_MP4 = "an MP4 needs two more packages: pip install imageio imageio-ffmpeg; or choose a GIF or a WebP"
CAPTION = "AI-generated"
# What an animation shows before and after the movement stays this long.
_FIRST_SECONDS, _LAST_SECONDS = 0.8, 1.6
# A second-order drag has few pictures, another one many: each of them is shown at least and at most this long.
_SHORTEST, _LONGEST = 0.06, 0.3
# Pictures a second of a film whose own are shown longer: players expect about as many.
_LEAST_RATE, _MOST_RATE = 25.0, 60.0
# Of H.264; the invisible mark is read at up to 23 (benchmarks/watermark.md).
_FILM_QUALITY = 18
_FILM_OPTIONS = ("-crf", str(_FILM_QUALITY), "-preset", "medium", "-movflags", "+faststart")

# Of the work on an animation, what its frames and their invisible marks are; the rest is the encoding.
_DRAWN = 0.6

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a file comes from, and who asks for it.

    Attributes:
        source: how its pixels came about, in IPTC's words. "algorithmicMedia", what no network has drawn, gets no
            invisible mark and no caption.
        photo: the photograph that it was made from, as it came in.
        caption: whether "AI-generated" is written into a corner; None: as ``DRAGGAN_CAPTION`` says, else not.
        deployment: whose keys, record and rules; None: this process's own.
        door: what asks for it: "page", "api", "command line", "batch" or "python".
        visit: random name of the visit to a page, hexadecimal, for the record; empty: it was none.
    """

    source: SourceType = "trainedAlgorithmicMedia"
    photo: Ingredient | None = None
    caption: bool | None = None
    deployment: Deployment | None = None
    door: str = "python"
    visit: str = ""

    @property
    def of_photo(self) -> bool:
        """Whether a photograph is in it: it was made from one, or is one in which a part has been drawn."""
        return self.photo is not None or self.source == "compositeWithTrainedAlgorithmicMedia"

    def is_captioned(self) -> bool:
        """Whether a caption is asked for, here or by the environment."""
        if self.caption is None:
            return os.environ.get("DRAGGAN_CAPTION", "").strip().lower() in ("1", "on", "true", "yes")
        return self.caption


def encode_picture(
    pixels: UInt8[np.ndarray, "height width channels"],
    suffix: str = ".png",
    details: dict[str, Any] | None = None,
    *,
    recipe: Recipe | None = None,
    provenance: Provenance | None = None,
) -> bytes:
    """The bytes of a picture's file.

    Args:
        suffix: ".png" (lossless; the only one that keeps transparency), ".jpg", ".jpeg" or ".webp".
        details: JSON-able facts for people, beside those that follow from the recipe (`details_of`).
        recipe: how it was made, exactly; `read_recipe` opens it again. A JPEG or WebP has it without the latents that
            can be computed again, and not at all if it is very long (a start from a latent, many masks). Of a photo
            no file has it: with it goes a session's file (`draggan.session_file`).
        provenance: where it comes from; None: drawn by a network, for a program of this machine.

    Raises:
        ExportError: another suffix, or the export cannot be recorded on a public server.
        ModerationError: the picture may not leave, or not yet.
    """
    suffix = _suffix(suffix, PICTURES, "a picture")
    return _out([pixels], suffix, details, recipe, provenance or Provenance())


def encode_animation(
    frames: Frames[UInt8[np.ndarray, "height width channels"]],
    suffix: str,
    details: dict[str, Any] | None = None,
    *,
    seconds: float | None = None,
    hold: bool = True,
    sound: Path | None = None,
    progress: Callable[[float], None] | None = None,
    recipe: Recipe | None = None,
    provenance: Provenance | None = None,
) -> bytes:
    """The bytes of an animation, which repeats for ever where its format can. Its frames carry the same invisible mark.

    Args:
        frames: all of one size. For an MP4 they are made and written one after the other, so that a `Reel` of any
            length takes no more memory; the other formats need all of them at once.
        suffix: ".gif" (256 colours a frame), ".webp", or ".mp4" (H.264, which does not repeat by itself).
        seconds: how long each frame is shown, the first and the last one longer; None: so that all take about two.
        hold: whether the first and the last frame are shown longer.
        sound: a film whose sound an MP4 gets, if it has any; other formats have none.
        progress: called with how much is done, 0 to 1; what it raises ends the work.
        recipe: of the last frame.
        details, provenance: as for `encode_picture`.

    Raises:
        ExportError, ModerationError: as for `encode_picture`; or there is no frame, or nothing that writes an MP4.
    """
    if not len(frames):
        raise ExportError("there is no frame to write; drag something first")
    if seconds is None:
        seconds = min(max(2 / len(frames), _SHORTEST), _LONGEST)
    suffix = _suffix(suffix, ANIMATIONS, "an animation")
    return _out(frames, suffix, details, recipe, provenance or Provenance(), _Show(seconds, hold, sound, progress))


def check_picture_path(path: str | Path) -> Path:
    """The path itself, or `ExportError` if no picture can be written there: ask before work that would be lost."""
    _suffix(Path(path).suffix, PICTURES, "a picture")
    return in_a_folder(Path(path))


def check_animation_path(path: str | Path) -> Path:
    """The path itself, or `ExportError` if no animation can be written there."""
    if _suffix(Path(path).suffix, ANIMATIONS, "an animation") == ".mp4" and not can_write_mp4():
        raise ExportError(NO_MP4)
    return in_a_folder(Path(path))


def can_write_mp4() -> bool:
    """Whether imageio is here, with a program that writes MP4: its own package's, or an ffmpeg of this machine."""
    if importlib.util.find_spec("imageio") is None or importlib.util.find_spec("imageio_ffmpeg") is None:
        return False
    try:
        importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except (ImportError, RuntimeError, OSError):
        return False
    return True


def has_sound(path: Path) -> bool:
    """Whether a film has sound that can be read here."""
    try:
        facts = importlib.import_module("imageio.v3").immeta(path, plugin="FFMPEG")
    except (ImportError, OSError, RuntimeError, ValueError, KeyError, IndexError):
        return False
    return bool(facts.get("audio_codec"))


def details_of(recipe: Recipe) -> dict[str, Any]:
    """How the picture of a recipe came about, for people: its start, and the last edit as it was asked for."""
    seed, edit = recipe.seed, recipe.edits[-1] if recipe.edits else None
    points = () if edit is None else edit.points
    return {
        "model": recipe.portable().model.name,
        "seed": seed and seed.seed,
        "truncation": seed and seed.truncation,
        "class": seed and seed.label,
        "settings": edit and {"space": edit.space, **edit.settings},
        "mask": edit is not None and edit.mask is not None,
        "handles": [list(point.handle) for point in points],
        "targets": [list(point.target) for point in points],
    }


def save_picture(
    path: str | Path,
    pixels: UInt8[np.ndarray, "height width channels"],
    details: dict[str, Any] | None = None,
    *,
    recipe: Recipe | None = None,
    provenance: Provenance | None = None,
) -> Path:
    """Write a picture as its name ends, whole or not at all; arguments and errors as for `encode_picture`.

    Raises:
        ExportError: also where the file cannot be written.
    """
    path = check_picture_path(path)
    return _write(path, encode_picture(pixels, path.suffix, details, recipe=recipe, provenance=provenance))


def save_animation(
    path: str | Path,
    frames: Frames[UInt8[np.ndarray, "height width channels"]],
    details: dict[str, Any] | None = None,
    *,
    seconds: float | None = None,
    hold: bool = True,
    sound: Path | None = None,
    progress: Callable[[float], None] | None = None,
    recipe: Recipe | None = None,
    provenance: Provenance | None = None,
) -> Path:
    """Write an animation as its name ends, whole or not at all; arguments and errors as for `encode_animation`.

    Raises:
        ExportError: also where the file cannot be written.
    """
    path = check_animation_path(path)
    how: dict[str, Any] = {"seconds": seconds, "hold": hold, "sound": sound, "progress": progress}
    return _write(path, encode_animation(frames, path.suffix, details, recipe=recipe, provenance=provenance, **how))


def save_recipe(path: str | Path, recipe: Recipe) -> Path:
    """Write a recipe as JSON, whole or not at all.

    Raises:
        ExportError: the file cannot be written.
    """
    return _write(in_a_folder(Path(path)), recipe.portable().to_json(indent=1).encode())


def read_recipe(path: str | Path) -> Recipe:
    """The recipe in a JSON file, or in a picture or animation that was saved with one.

    Raises:
        RecipeError: there is none.
        DragGANError: it cannot be used; see `Recipe.from_json`.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise RecipeError(f"{path.name} is too large for a recipe; at most {_MOST_BYTES >> 20} MB are read")
        data = path.read_bytes()
    except OSError as e:
        raise RecipeError(f"cannot read {path}: {e.strerror or e}") from e
    return recipe_in(data, path.name)


def recipe_in(data: bytes, name: str) -> Recipe:
    """The same of a file's content; ``name``: what messages call it."""
    if data[4:8] == b"ftyp":
        return _recipe_of(read_metadata(data).recipe, name)
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return Recipe.from_json(data)
    if not data.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")):
        if data[8:9] == b"{":
            raise RecipeError(f"{name} is a session's file or a model; draggan drag --recipe opens a .draggan file")
        raise RecipeError(f"{name} cannot be read; open a file that was saved here")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "GIF", "WEBP"]) as picture:
            text = read_metadata(data, picture).recipe
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        # Pillow's own words for one that it cannot identify name an object of ours.
        why = "" if isinstance(e, UnidentifiedImageError) else f" ({e})"
        raise RecipeError(f"{name} cannot be read as a picture{why}; open one that was saved here") from e
    return _recipe_of(text, name)


def _recipe_of(text: str | None, name: str) -> Recipe:
    if text is None:
        raise NoRecipeError(f"{name} has no recipe in it; only pictures and films that DragGAN has saved have one")
    return Recipe.from_json(text)


@dataclass(frozen=True)
class _Show:
    """How an animation is shown.

    Attributes:
        seconds: of each frame.
        hold: whether the first and the last are shown longer.
        sound: a film whose sound goes with it.
        progress: hears how much is done, 0 to 1.
    """

    seconds: float = 1.0
    hold: bool = True
    sound: Path | None = None
    progress: Callable[[float], None] | None = None

    def durations(self, count: int) -> list[float]:
        """How long each frame is shown, seconds."""
        shown = [self.seconds] * count
        if self.hold:
            shown[0], shown[-1] = max(shown[0], _FIRST_SECONDS), max(shown[-1], _LAST_SECONDS)
        return shown


def _counted(frames: Frames[T], show: _Show | None, begin: float, end: float) -> Iterator[T]:
    """The frames one by one; meanwhile it is told that from ``begin`` to ``end`` of the work is done."""
    for number, frame in enumerate(frames):
        if show is not None and show.progress is not None:
            show.progress(begin + (end - begin) * number / len(frames))
        yield frame


def _out(
    frames: Frames[UInt8[np.ndarray, "height width channels"]],
    suffix: str,
    details: dict[str, Any] | None,
    recipe: Recipe | None,
    provenance: Provenance,
    show: _Show | None = None,
) -> bytes:
    """Everything that leaves as a file passes here."""
    source, deployment = provenance.source, provenance.deployment or default()
    model = "" if recipe is None else recipe.model.sha256
    of_photo = provenance.of_photo or (recipe is not None and recipe.is_of_photo)
    verdict = deployment.moderation.check_export(frames, model_sha256=model, photo=of_photo)
    by_ai = source != "algorithmicMedia"
    identity = secrets.token_bytes(IDENTITY_BYTES) if by_ai and can_carry(next(iter(frames)).shape[:2]) else None
    if identity is not None:
        frames = Reel(partial(own_watermark(deployment.folder).embed, identity=identity), frames)
    if by_ai and provenance.is_captioned():
        frames = Reel(partial(with_caption, text=CAPTION), frames)
    details = ({} if recipe is None else details_of(recipe)) | (details or {})
    # The latent code of a photograph draws its person again: it is not for everybody who gets the file.
    data = _encoded(frames, suffix, details, None if of_photo else recipe, show, source)
    kind = _FORMATS[suffix].lower()
    sealed = seal(
        data,
        kind,
        folder=deployment.folder,
        source=source,
        recipe=recipe,
        watermarked=identity is not None,
        head=deployment.chain_head(),
        photo=provenance.photo,
    )
    deployment.record_export(
        Export(
            sha256=hashlib.sha256(sealed.data).hexdigest(),
            kind=kind,
            recipe=recipe,
            watermark=None if identity is None else identity.hex(),
            credentials=sealed.state,
            verdict=verdict.code,
            door=provenance.door,
            visit=provenance.visit,
        )
    )
    return sealed.data


def _suffix(suffix: str, allowed: tuple[str, ...], what: str) -> str:
    if suffix.lower() not in allowed:
        *others, last = allowed
        raise ExportError(
            f"{what} cannot be written as '{suffix}'; choose a name that ends in {', '.join(others)} or {last}"
        )
    return suffix.lower()


def in_a_folder(path: Path) -> Path:
    """The path itself, or `ExportError` if its folder is not there: a folder that was misspelt is not made."""
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


def _encoded(
    frames: Frames[UInt8[np.ndarray, "height width channels"]],
    suffix: str,
    details: dict[str, Any],
    recipe: Recipe | None,
    show: _Show | None,
    source: SourceType,
) -> bytes:
    """The bytes of a file that says how it was made."""
    facts = json.dumps(details, sort_keys=True) if details else ""
    form = _FORMATS[suffix]
    options: dict[str, Any] = {}
    if form == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp_packet(source))
        info.add_text("Software", "DragGAN")
        info.add_itxt("Comment", note_of(source))
        if facts:
            info.add_itxt("DragGAN", facts)
        if recipe is not None:
            info.add_itxt(RECIPE, recipe.portable().to_json())
        options = {"pnginfo": info}
    packet = xmp_packet(source, details=facts, recipe=recipe_for_xmp(recipe))
    if form == "WEBP":
        options = {"xmp": packet.encode(), "quality": 90, "method": 4}
    elif form == "JPEG":
        options = {"xmp": packet.encode(), "quality": 92, "subsampling": 0, "comment": note_of(source).encode()}
    elif form == "GIF":
        options = {"comment": note_of(source).encode()}
    if form in ("JPEG", "GIF", "MP4"):
        frames = Reel(over_white, frames)
    if form == "MP4":
        return mp4_with_xmp(_filmed(frames, show or _Show()), packet)
    images = [Image.fromarray(pixels) for pixels in _counted(frames, show, 0.0, _DRAWN)]
    if form == "GIF":
        images = [_with_256_colours(image) for image in _counted(images, show, _DRAWN, 1.0)]
    if show is not None:
        durations = [round(1000 * s) for s in show.durations(len(images))]
        options |= {"save_all": True, "append_images": images[1:], "duration": durations, "loop": 0}
    buffer = io.BytesIO()
    images[0].save(buffer, form, **options)
    data = buffer.getvalue()
    return gif_with_xmp(data, packet) if form == "GIF" else data


def _with_256_colours(image: Image.Image) -> Image.Image:
    """With colours of its own, as one palette for all frames would show in every one; also those of its small parts.

    They are chosen from few of the pixels, which is as good and does not take longer for a large picture.
    """
    few = image.copy()
    few.thumbnail((128, 128), Image.Resampling.NEAREST)
    palette = few.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=1)
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


def _filmed(frames: Frames[UInt8[np.ndarray, "height width 3"]], show: _Show) -> bytes:
    """An MP4 of H.264 that every player shows: 4:2:0, which wants even sides, and what is told first at the front.

    It has one rate: a frame that is shown longer is there several times, which costs next to nothing.
    """
    if not can_write_mp4():
        raise ExportError(NO_MP4)
    durations = show.durations(len(frames))
    rate = min(max(1 / min(durations), _LEAST_RATE if show.hold else 1.0), _MOST_RATE)
    heard = {} if show.sound is None or not has_sound(show.sound) else {"audio_path": str(show.sound)}
    if heard:
        heard["audio_codec"] = "aac"
    imageio = importlib.import_module("imageio.v2")
    with TemporaryDirectory(prefix="draggan-film-") as folder:
        path = Path(folder) / "film.mp4"
        try:
            writer = imageio.get_writer(
                path,
                format="FFMPEG",
                mode="I",
                fps=rate,
                codec="libx264",
                pixelformat="yuv420p",
                macro_block_size=1,
                quality=None,
                ffmpeg_log_level="error",
                output_params=[*_FILM_OPTIONS, *(["-shortest"] if heard else [])],
                **heard,
            )
            with contextlib.closing(writer):
                for pixels, seconds in zip(_counted(frames, show, 0.0, 1.0), durations, strict=True):
                    height, width = pixels.shape[:2]
                    even = ((0, height % 2), (0, width % 2), (0, 0))
                    for _ in range(max(round(seconds * rate), 1)):
                        writer.append_data(np.pad(pixels, even, mode="edge"))
            return path.read_bytes()
        except (OSError, RuntimeError, ValueError) as error:
            # What ffmpeg itself has said is for whoever runs it.
            log.warning("an MP4 could not be written: %s", error)
            raise ExportError("the MP4 could not be written (the log has why); choose a GIF or a WebP") from error
