"""What marks a file carries, and what each of them is worth: of files from here, and of anybody's.

Nothing is fetched, whatever a file names. What a file says is told as its words, never as a fact: metadata can be
written by anybody, credentials are worth as much as one trusts their signer, and the invisible mark is a label, not a
proof.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import io
import math
import struct
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from draggan.errors import AuditError, DragGANError, VerifyError
from draggan.program import own_command
from draggan.provenance.audit import Recorded
from draggan.provenance.credentials import MISSING, TYPES, Credentials, read_credentials, trust_anchors
from draggan.provenance.marks import own_watermark
from draggan.provenance.metadata import Metadata, read_metadata
from draggan.provenance.watermark import Found
from draggan.recipe import Recipe

__all__ = ["Finding", "Lookup", "Report", "verify_bytes", "verify_file"]

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jxl")
_MOST_BYTES = 512 << 20
_MOST_PIXELS = 64_000_000  # of all frames that are looked at together
_MOST_FRAMES = 12
_SECONDS = 20.0
_MOST_RECIPE = 8_000_000  # characters
# Kinds that Pillow may open here, each by a decoder that it keeps.
_PICTURES = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "gif": "GIF", "avif": "AVIF", "tiff": "TIFF", "bmp": "BMP"}
_TITLES = {
    "png": "PNG picture",
    "jpeg": "JPEG picture",
    "webp": "WebP picture",
    "gif": "GIF picture",
    "avif": "AVIF picture",
    "heif": "HEIF picture",
    "tiff": "TIFF picture",
    "bmp": "BMP picture",
    "jxl": "JPEG XL picture",
    "mp4": "MP4 film",
}
# Powers of ten, up to where nobody asks further.
_COUNTS = (
    *("one", "ten", "a hundred", "a thousand", "ten thousand", "a hundred thousand"),
    *("a million", "ten million", "a hundred million", "a billion"),
)
# IPTC's words and what they mean.
_SOURCES = {
    "trainedAlgorithmicMedia": "made by AI",
    "compositeWithTrainedAlgorithmicMedia": "partly made by AI",
    "algorithmicMedia": "drawn by a program, not by AI",
    "compositeSynthetic": "a composite with synthetic parts",
    "composite": "a composite",
    "compositeCapture": "a composite of photographs",
    "algorithmicallyEnhanced": "a photograph that a program has changed",
    "humanEdits": "a photograph that somebody has edited",
    "minorHumanEdits": "a photograph that somebody has edited a little",
    "digitalCapture": "a photograph",
    "computationalCapture": "a photograph, computed by a camera",
    "negativeFilm": "a scanned negative",
    "positiveFilm": "a scanned slide",
    "print": "a scanned print",
    "digitalArt": "drawn by somebody",
    "digitalCreation": "drawn by somebody",
    "dataDrivenMedia": "drawn from data",
    "virtualRecording": "a recording of a virtual event",
    "screenCapture": "a picture of a screen",
    "softwareImage": "drawn by a program",
}
# Steps of content credentials that need other words.
_STEPS = {"c2pa.watermarked.unbound": "marked invisibly", "c2pa.watermarked.bound": "marked invisibly"}
_BY_AI = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "compositeSynthetic")
Mood = Literal["good", "note", "bad", ""]
Lookup: TypeAlias = Callable[[str, "str | None"], "Recorded | None"]
"""From a file's SHA-256 and the number in its invisible mark, if that is known, to what is recorded of it."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A sentence of a report.

    Attributes:
        layer: which mark it is about, such as "Content credentials".
        text: what was found; may have words of the file in it, in quotes.
        mood: "good": can be relied on, as far as the sentence goes. "note": a claim. "bad": something is wrong.
            "": nothing is there.
    """

    layer: str
    text: str
    mood: Mood = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What marks a file carries.

    Attributes:
        kind: of file, such as "png".
        sha256: of the file.
        size: ``(height, width)``; None: not known.
        frames: how many there are.
        credentials: what content credentials say.
        metadata: what the file says of itself.
        watermark: the invisible mark of this installation; None: not found.
        searched: whether it was looked for: "whole", "partly" (time has run out), or why not.
        recipe: how the picture was made, if that can be read; None: not.
        recipes_agree: whether the signed recipe is the one beside it; None: there are not two.
        recorded: what the record of exports says of the file; None: nothing.
        record: whether it was looked for there: "whole", or why not; empty: there was no cause.
    """

    kind: str
    sha256: str
    size: tuple[int, int] | None
    frames: int
    credentials: Credentials
    metadata: Metadata
    watermark: Found | None
    searched: str
    recipe: Recipe | None
    recipes_agree: bool | None
    recorded: Recorded | None = None
    record: str = ""

    @property
    def outcome(self) -> Literal["from here", "says so", "changed", "nothing"]:
        """In a word. "from here": a mark of this installation that could be checked, or its record has this very file.
        "says so": it says that it is made by AI, which could not. "changed": signed, and changed since. "nothing": it
        says nothing of AI.
        """
        if self.credentials.state == "changed":
            return "changed"
        trusted = self.credentials.state == "trusted"
        if self.watermark is not None or (self.says_ai and (trusted or self.is_recorded)):
            return "from here"
        return "says so" if trusted or self.says_ai else "nothing"

    @property
    def is_recorded(self) -> bool:
        """Whether the record of exports has this very file."""
        return self.recorded is not None and self.recorded.same_file

    @property
    def says_ai(self) -> bool:
        """Whether any of its words say that it is made by AI, wholly or in part."""
        return bool(self._words & set(_BY_AI)) or any("generat" in kind for kind in self.metadata.notes)

    @property
    def _words(self) -> set[str | None]:
        """IPTC's, of the file and of its credentials."""
        return {self.metadata.source_type, *self.credentials.source_types}

    def findings(self) -> Iterator[Finding]:
        """All of it as sentences, what matters most first."""
        yield self._conclusion()
        yield from self._about_credentials()
        yield self._about_watermark()
        yield from self._about_record()
        yield from self._about_metadata()
        yield from self._about_recipe()

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it; the recipe by its hash."""
        return {
            "outcome": self.outcome,
            "kind": self.kind,
            "sha256": self.sha256,
            "size": None if self.size is None else list(self.size),
            "frames": self.frames,
            "credentials": {k: v for k, v in dataclasses.asdict(self.credentials).items() if k != "recipe"},
            "digital_source_type": self.metadata.source_type,
            "notes": dict(self.metadata.notes),
            "watermark": None if self.watermark is None else dataclasses.asdict(self.watermark),
            "watermark_searched": self.searched,
            "recipe": None if self.recipe is None else self.recipe.digest,
            "recipes_agree": self.recipes_agree,
            "recorded": None if self.recorded is None else dataclasses.asdict(self.recorded),
            "findings": [dataclasses.asdict(finding) for finding in self.findings()],
        }

    def _conclusion(self) -> Finding:
        what = _TITLES.get(self.kind, "File")
        if self.outcome == "changed":
            text = "This file was changed after it was signed. Its credentials no longer count."
            return Finding(layer=what, text=text, mood="bad")
        if self.outcome == "from here":
            # A photograph of which a part was drawn, unless anything says more.
            made = "Made by AI" + " in part" * (self._words & set(_BY_AI) == {"compositeWithTrainedAlgorithmicMedia"})
            if self.credentials.state == "trusted":
                text = f"{made} and signed by someone trusted here."
            elif self.is_recorded:
                text = f"{made} and saved here: this very file is on record."
            else:
                text = f"{made} and very likely saved here. Its invisible mark is a label, not proof."
            return Finding(layer=what, text=text, mood="good")
        if self.outcome == "says so":
            if not self.says_ai:
                return Finding(layer=what, text="Signed by someone trusted here. Nothing in it says AI.", mood="good")
            text = "It says it was made by AI, at least in part. That can be neither proved nor disproved here."
            return Finding(layer=what, text=text, mood="note")
        text = "No mark says it was made by AI. It may have been all the same: many files lose their marks."
        return Finding(layer=what, text=text)

    def _about_credentials(self) -> Iterator[Finding]:
        layer, found = "Content credentials", self.credentials
        who = f'"{found.signer}"' if found.signer else "someone without a name"
        why = f" ({', '.join(found.codes)})" if found.codes else ""
        state: Mapping[str, tuple[str, Mood]] = {
            "trusted": (f"Signed by {who}, who is trusted here. Unchanged since.", "good"),
            "unknown signer": (
                f"Signed by {who}, who is not known here. Unchanged since, but anyone can sign under any name.",
                "note",
            ),
            "changed": (f"Broken: the file was changed after signing, or the signature is not valid{why}.", "bad"),
            "elsewhere": (
                "The file says that they are at a web address. Addresses in files are never opened here.",
                "note",
            ),
            "unreadable": ("There are some, but they cannot be read.", "bad"),
            "none": ("None. Many programs and sites remove them when they save a picture.", ""),
            "not installed": (f"Not checked: {MISSING}.", ""),
        }
        text, mood = state[found.state]
        yield Finding(layer=layer, text=text, mood=mood)
        said = []
        if found.tool:
            said.append(f'made with "{found.tool}"')
        said += [f"{_SOURCES.get(source, source)}" for source in found.source_types]
        if found.actions:
            steps = [_STEPS.get(action, action.removeprefix("c2pa.")) for action in found.actions[:8]]
            said.append(f"steps: {', '.join(steps)}")
        made_from, with_own = found.ingredients
        if made_from:
            if made_from == 1:
                said.append(f"made from one other file, {'signed' if with_own else 'not signed'}")
            else:
                signed = "signed" if with_own == made_from else f"{with_own or 'none'} of them signed"
                said.append(f"made from {made_from} other files, {signed}")
        confirmed = f"signed at {found.time}, confirmed by a time authority"
        said.append(confirmed if found.time else "the time of signing is not confirmed")
        if found.signer or found.tool:
            yield Finding(layer=layer, text=f"They say: {'; '.join(said)}.", mood="note" if mood != "bad" else "bad")

    def _about_watermark(self) -> Finding:
        layer, found = "Invisible mark", self.watermark
        if found is None:
            if self.searched not in ("whole", "partly"):
                return Finding(layer=layer, text=f"Not looked for: {self.searched}.")
            text = "Not found. Only marks made by this installation can be found here."
            if self.searched == "partly":
                text += " Time ran out before all sizes were tried."
            return Finding(layer=layer, text=text)
        number = "its number cannot be read" if found.identity is None else f"number {found.identity}"
        seldom = "How often this turns up by chance is not known."
        if found.chance is not None and found.chance <= 0.1:
            power = min(len(_COUNTS) - 1, math.floor(-math.log10(max(found.chance, 1e-300))))
            seldom = f"By chance this turns up less than once in {_COUNTS[power]} searches."
        since = []
        if abs(found.scale - 1) > 0.01:
            since.append(f"resized to {100 / found.scale:.0f} %")
        if found.mirrored:
            since.append("mirrored")
        if found.turned:
            since.append(f"turned by {found.turned}°")
        changed = f" It has been {' and '.join(since)} since." if since else ""
        text = f"Found, {number}. {seldom}{changed} Anyone with many marked files could forge it: a label, not proof."
        return Finding(layer=layer, text=text, mood="good")

    def _about_record(self) -> Iterator[Finding]:
        layer, found = "Record of exports", self.recorded
        if found is None:
            if self.record == "whole":
                text = "No file with that number: it is older than the record, or made elsewhere with the same key."
                yield Finding(layer=layer, text=text, mood="note")
            elif self.record:
                yield Finding(layer=layer, text=f"Not checked: {self.record}.")
            return
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(found.minute))
        model = f' with "{found.model}"' if found.model else ""
        made = f"Made here on {when} UTC{model} and saved as {found.kind.upper()}."
        if found.same_file:
            yield Finding(layer=layer, text=f"{made} This is that very file.", mood="good")
        else:
            text = f"{made} This is another file: it was saved again or changed since, or the mark was copied."
            yield Finding(layer=layer, text=text, mood="note")

    def _about_metadata(self) -> Iterator[Finding]:
        layer, source = "What it says of itself", self.metadata.source_type
        if source is None:
            yield Finding(layer=layer, text="No digital source type (IPTC).")
        else:
            words = _SOURCES.get(source, "a word that is not known here")
            text = f'Digital source type (IPTC) "{source}": {words}. Anyone can add or remove this.'
            yield Finding(layer=layer, text=text, mood="note")
        for kind, value in self.metadata.notes.items():
            yield Finding(layer=layer, text=f'{kind.capitalize()}: "{value}"', mood="note")

    def _about_recipe(self) -> Iterator[Finding]:
        layer, recipe = "Recipe", self.recipe
        if recipe is None:
            if self.metadata.recipe or self.credentials.recipe:
                yield Finding(layer=layer, text="There is one, but it cannot be read.", mood="bad")
            return
        seed = "a latent code" if recipe.seed is None else f"seed {recipe.seed.seed}"
        edits = len(recipe.edits)
        text = (
            f'Model "{recipe.portable().model.name}", {seed}, {edits} edit{"s" * (edits != 1)}. '
            f"To draw it again: {own_command()} drag --recipe FILE"
        )
        yield Finding(layer=layer, text=text, mood="note")
        if self.recipes_agree is False:
            text = "The signed recipe is not the one beside it: one of them was added later."
            yield Finding(layer=layer, text=text, mood="bad")


def verify_file(path: Path, *, folder: Path, record: Lookup | None = None) -> Report:
    """What marks a file carries.

    Args:
        folder: where this installation keeps its keys.
        record: looks the file up in the record of exports, such as `Deployment.recorded`; None: it is not.

    Raises:
        VerifyError: it cannot be read, or is too large.
    """
    try:
        if not path.is_file():
            raise VerifyError(f"there is no file {path}; check the name")
        if path.stat().st_size > _MOST_BYTES:
            raise VerifyError(f"{path.name} is too large to be checked; at most {_MOST_BYTES >> 20} MB are read")
        data = path.read_bytes()
    except OSError as error:
        raise VerifyError(f"cannot read {path}: {error.strerror or error}") from error
    return verify_bytes(data, folder=folder, record=record, name=path.name)


def verify_bytes(
    data: bytes, *, folder: Path, record: Lookup | None = None, seconds: float = _SECONDS, name: str = ""
) -> Report:
    """The same for a file's content.

    Args:
        folder, record: as for `verify_file`.
        seconds: after so long the invisible mark is looked for no further.
        name: of the file, for messages.

    Raises:
        VerifyError: not a picture or film of a kind that is known.
    """
    kind = _kind_of(data)
    if kind is None and name.lower().endswith(_ENDINGS):
        raise VerifyError(f"{name} is damaged, or is not what its name says; choose the original file")
    if kind is None:
        raise VerifyError("files of this kind cannot be checked; choose a PNG, JPEG, WebP, GIF or MP4")
    credentials = read_credentials(data, kind, trust_anchors(folder)) if kind in TYPES else Credentials(state="none")
    with _opened(data, kind) as picture:
        metadata = read_metadata(data, picture)
        size = None if picture is None else (picture.height, picture.width)
        count = 1 if picture is None else int(getattr(picture, "n_frames", 1))
        frames, why_not = _frames_of(data, kind, picture)
    found, searched = None, why_not
    if frames:
        until = time.monotonic() + seconds
        found = own_watermark(folder).detect(frames, until=until)
        searched = "whole" if found is not None or time.monotonic() < until else "partly"
        size = size or (frames[0].shape[0], frames[0].shape[1])
    digest = hashlib.sha256(data).hexdigest()
    recorded, looked = _looked_up(record, digest, found)
    beside, signed = _recipe_in(metadata.recipe), _recipe_in(credentials.recipe)
    return Report(
        kind=kind,
        sha256=digest,
        size=size,
        frames=count,
        credentials=credentials,
        metadata=metadata,
        watermark=found,
        searched=searched,
        recipe=signed or beside,
        recipes_agree=None if signed is None or beside is None else signed == beside,
        recorded=recorded,
        record=looked,
    )


def _looked_up(record: Lookup | None, sha256: str, found: Found | None) -> tuple[Recorded | None, str]:
    """What the record says of a file; and whether that was a question: a stranger's file is in no record."""
    if record is None:
        return None, ""
    number = None if found is None else found.identity
    try:
        recorded = record(sha256, number)
    except AuditError:
        return None, "the record of exports cannot be read"
    return recorded, "whole" if recorded is not None or number is not None else ""


# ---- reading -------------------------------------------------------------------------------------------------------


def _kind_of(data: bytes) -> str | None:
    """By the first bytes, never by a name."""
    for begin, kind in (
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff", "jpeg"),
        (b"GIF87a", "gif"),
        (b"GIF89a", "gif"),
        (b"BM", "bmp"),
        (b"II*\0", "tiff"),
        (b"MM\0*", "tiff"),
        (b"\0\0\0\x0cJXL ", "jxl"),
        (b"\xff\x0a", "jxl"),
    ):
        if data.startswith(begin):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        return "avif" if brand in (b"avif", b"avis") else "heif" if brand[:3] in (b"hei", b"mif") else "mp4"
    return None


class _opened:  # reads like a function
    """The picture, opened but not decoded; None: Pillow cannot open this kind, or not this file."""

    def __init__(self, data: bytes, kind: str) -> None:
        self._picture: Image.Image | None = None
        form = _PICTURES.get(kind)
        if form is not None and form in Image.registered_extensions().values():
            self._picture = _quietly(lambda: Image.open(io.BytesIO(data), formats=[form]))

    def __enter__(self) -> Image.Image | None:
        return self._picture

    def __exit__(self, *error: object) -> None:
        if self._picture is not None:
            self._picture.close()


def _quietly(work: Callable[[], Any]) -> Any:
    """What the work returns; None where Pillow finds a damaged or hostile file, which it says in many ways."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return work()
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError):
        return None
    except (struct.error, MemoryError, ZeroDivisionError, AttributeError, NotImplementedError):
        return None
    except Image.DecompressionBombError:
        return None


def _frames_of(
    data: bytes, kind: str, picture: Image.Image | None
) -> tuple[list[UInt8[np.ndarray, "height width 3"]], str]:
    """The first few frames, and why there are none."""
    if kind == "mp4":
        return _film(data)
    if picture is None:
        return [], "the pixels of such files cannot be read here" if kind not in _PICTURES else (
            "its pixels cannot be read"
        )
    pixels = picture.width * picture.height
    if pixels > _MOST_PIXELS:
        return [], f"it has more than {_MOST_PIXELS // 10**6} million pixels"
    most = min(_MOST_FRAMES, int(getattr(picture, "n_frames", 1)), max(1, _MOST_PIXELS // pixels))

    def decoded() -> list[np.ndarray]:
        frames = []
        for number in range(most):
            picture.seek(number)
            frames.append(np.asarray(picture.convert("RGB")))
        return frames

    frames = _quietly(decoded)
    return (frames, "") if frames else ([], "its pixels cannot be read")


def _film(data: bytes) -> tuple[list[UInt8[np.ndarray, "height width 3"]], str]:
    """Frames of a film, if `av` (PyAV) is installed."""
    try:
        av = importlib.import_module("av")
    except (ImportError, OSError):
        return [], 'films need another package: pip install "av"'
    frames: list[np.ndarray] = []
    try:
        with av.open(io.BytesIO(data)) as film:
            for frame in film.decode(video=0):
                if frame.width * frame.height * (len(frames) + 1) > _MOST_PIXELS or len(frames) == _MOST_FRAMES:
                    break
                frames.append(frame.to_ndarray(format="rgb24"))
    except (av.FFmpegError, OSError, ValueError, IndexError):
        pass
    return (frames, "") if frames else ([], "its frames cannot be read")


def _recipe_in(text: str | None) -> Recipe | None:
    if text is None or len(text) > _MOST_RECIPE:
        return None
    try:
        return Recipe.from_json(text)
    except DragGANError:
        return None
