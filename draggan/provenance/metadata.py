"""What a file says of itself, for programs: an XMP packet with IPTC's ``DigitalSourceType``, and a recipe.

Picture agencies, search engines and social networks read it, and every program that saves a file anew may drop it.
Sources: IPTC Photo Metadata Standard 2025.1 and the vocabulary https://cv.iptc.org/newscodes/digitalsourcetype/; XMP
Specification part 3 (ISO 16684-3) for where a packet stands in which format.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape, unescape

from PIL import Image

from draggan.recipe import Recipe

__all__ = [
    "RECIPE",
    "VOCABULARY",
    "Metadata",
    "SourceType",
    "gif_with_xmp",
    "mp4_with_xmp",
    "note_of",
    "read_metadata",
    "recipe_for_xmp",
    "xmp_packet",
]

SourceType = Literal["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia"]
VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_NOTES: dict[SourceType, str] = {
    "trainedAlgorithmicMedia": "AI-generated image, made with DragGAN",
    "compositeWithTrainedAlgorithmicMedia": "Photograph with AI-generated parts, made with DragGAN",
    "algorithmicMedia": "Drawn by DragGAN's renderer, a program; not AI-generated",
}
RECIPE = "DragGAN recipe"  # name of the text in a PNG
_MOST_RECIPE = 30_000  # characters: a JPEG has 64 KB for the whole packet
_MOST_PACKET = 4 << 20  # bytes
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # what kind of box, in an MP4
_MOST_NOTES, _MOST_LETTERS = 12, 400

_SOURCE = re.compile(r"DigitalSourceType\b[^<>]{0,200}?[>\"'][^<>\"']{0,200}?digitalsourcetype/([A-Za-z]{1,60})")
_RESOURCE = re.compile(
    r"DigitalSourceType\b[^<>]{0,100}resource=[\"'][^<>\"']{0,200}digitalsourcetype/([A-Za-z]{1,60})"
)
# Where programs leave their name, what they were asked for, or a label of their own.
_KEYS = {
    "Software": "software",
    "Comment": "comment",
    "parameters": "settings of a generator",
    "prompt": "settings of a generator",
    "workflow": "settings of a generator",
    "invokeai_metadata": "settings of a generator",
    "sd-metadata": "settings of a generator",
    "Dream": "settings of a generator",
    "AIGC": "label of generated content (GB 45438)",
}
_SOFTWARE, _DESCRIPTION = 0x0131, 0x010E  # tags of EXIF


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a file says of itself.

    Attributes:
        source_type: last word of IPTC's ``DigitalSourceType``, such as "trainedAlgorithmicMedia"; None: it says none.
        notes: what else it says of how it was made, by kind of note; texts of the file, cut off.
        recipe: the text of the recipe in it; None: there is none.
    """

    source_type: str | None
    notes: Mapping[str, str]
    recipe: str | None


def note_of(source: SourceType) -> str:
    """What a file says to people."""
    return _NOTES[source]


def xmp_packet(source: SourceType, *, details: str = "", recipe: str = "") -> str:
    """An XMP packet that says how a file was made.

    Args:
        details: what a format keeps here that has no place of its own for it.
        recipe: likewise.
    """
    ours = f"<draggan:details>{escape(details)}</draggan:details>" if details else ""
    ours += f"<draggan:recipe>{escape(recipe)}</draggan:recipe>" if recipe else ""
    note = escape(note_of(source))
    credit = "" if source == "algorithmicMedia" else "<photoshop:Credit>AI-generated</photoshop:Credit>"
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:draggan="urn:draggan:1.0/">'
        f"<Iptc4xmpExt:DigitalSourceType>{VOCABULARY}{source}</Iptc4xmpExt:DigitalSourceType>"
        f"<xmp:CreatorTool>DragGAN</xmp:CreatorTool>{credit}"
        f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{note}</rdf:li></rdf:Alt></dc:description>'
        f'{ours}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def recipe_for_xmp(recipe: Recipe | None) -> str:
    """The recipe as text for a packet, without what can be computed again; empty where it would be too long."""
    text = "" if recipe is None else recipe.portable().to_json(results=False)
    return text if len(text) <= _MOST_RECIPE else ""


def gif_with_xmp(gif: bytes, packet: str) -> bytes:
    """A GIF with an XMP packet, as XMP's specification (part 3) puts it: an application extension before the frames.

    The packet stands there as it is, without lengths of blocks. The bytes after it lead a reader that takes every byte
    for a length to the end of the extension, wherever the packet has sent it.
    """
    table = 3 << ((gif[10] & 7) + 1) if gif[10] & 0x80 else 0
    head = 13 + table
    landing = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"
    extension = b"\x21\xff\x0bXMP DataXMP" + packet.encode() + landing
    return gif[:head] + extension + gif[head:]


def mp4_with_xmp(mp4: bytes, packet: str) -> bytes:
    """An MP4 with an XMP packet, as XMP's specification (part 3) puts it: a box of its own, at the end, where it moves
    nothing that others point to.
    """
    content = _XMP_BOX + packet.encode()
    return mp4 + struct.pack(">I", 8 + len(content)) + b"uuid" + content


def read_metadata(data: bytes, picture: Image.Image | None = None) -> Metadata:
    """What a file of any kind says of itself. Packets are searched with patterns, not parsed as XML, which could be a
    bomb.

    Args:
        picture: the same, opened, where Pillow can open it: it finds texts that are compressed.
    """
    info = {} if picture is None else picture.info
    packets = [packet.decode("utf-8", "replace") for packet in _packets(data)]
    for name in ("xmp", "XML:com.adobe.xmp"):
        packet = info.get(name)
        if isinstance(packet, (bytes, str)) and 0 < len(packet) <= _MOST_PACKET:
            packets.append(packet if isinstance(packet, str) else packet.decode("utf-8", "replace"))
    text = "\n".join(packets)
    source = _RESOURCE.search(text) or _SOURCE.search(text)
    recipe = info.get(RECIPE)
    if not isinstance(recipe, str):
        found = re.search(r"<draggan:recipe>([^<]{1,60000})</draggan:recipe>", text)
        recipe = None if found is None else unescape(found.group(1))
    notes: dict[str, str] = {}
    for key, kind in _KEYS.items():
        if isinstance(value := info.get(key, info.get(key.lower())), (str, bytes)):
            text_of_key = _short(value)
            # Our own comment says in words what the packet says to programs.
            if text_of_key not in _NOTES.values():
                notes.setdefault(kind, text_of_key)
    for kind, pattern in (
        ("software", r"CreatorTool\b[^<>]{0,20}[>=][\"']?([^<>\"']{1,400})"),
        ("AI system", r"AISystemUsed\b[^<>]{0,20}[>=][\"']?([^<>\"']{1,400})"),
        ("label of generated content (GB 45438)", r"TC260:AIGC\b[^<>]{0,20}[>=][\"']?([^<>]{1,400})"),
    ):
        if (found := re.search(pattern, text)) is not None:
            notes.setdefault(kind, _short(unescape(found.group(1))))
    notes |= {kind: value for kind, value in _exif(picture).items() if kind not in notes}
    return Metadata(
        source_type=None if source is None else source.group(1),
        notes=dict(list(notes.items())[:_MOST_NOTES]),
        recipe=recipe,
    )


def _packets(data: bytes) -> list[bytes]:
    """As they stand in the file, in any format that does not compress them."""
    found: list[bytes] = []
    at = data.find(b"<x:xmpmeta")
    # The first few: a file may hold others for its parts.
    while at >= 0 and len(found) < 4:
        end = data.find(b"</x:xmpmeta>", at, at + _MOST_PACKET)
        if end < 0:
            break
        found.append(data[at:end])
        at = data.find(b"<x:xmpmeta", end)
    return found


def _exif(picture: Image.Image | None) -> dict[str, str]:
    """Program and description. Nothing else: EXIF says where and when a photo was taken."""
    if picture is None:
        return {}
    try:
        tags = picture.getexif()
    except (OSError, SyntaxError, ValueError, KeyError, TypeError):
        return {}
    values = {"software": tags.get(_SOFTWARE), "description": tags.get(_DESCRIPTION)}
    return {kind: _short(value) for kind, value in values.items() if isinstance(value, (str, bytes)) and value}


def _short(value: str | bytes) -> str:
    text = value if isinstance(value, str) else value.decode("utf-8", "replace")
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 4 * _MOST_LETTERS]).split())
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]} …"
