"""The one door through which pictures leave as files. Every file says that it was made by AI.

The mark is the IPTC vocabulary's ``DigitalSourceType: trainedAlgorithmicMedia`` in an XMP packet, which picture
agencies, search engines and social networks read, and a plain text comment for people. Previews are not files and
do not pass here.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dnnlib.cache import replacing
from draggan.errors import ExportError

__all__ = ["SOURCE_TYPE", "check_png_path", "encode_png", "save_png"]

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_NOTE = "AI-generated image, made with DragGAN"


def encode_png(pixels: UInt8[np.ndarray, "height width 3"], details: dict[str, Any] | None = None) -> bytes:
    """A marked PNG.

    Args:
        details: JSON-able facts about how it was made (model, seed, points, ...), stored as the text ``DragGAN``.
    """
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", _xmp())
    info.add_text("Software", "DragGAN")
    info.add_itxt("Comment", _NOTE)
    if details:
        info.add_itxt("DragGAN", json.dumps(details, sort_keys=True))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def check_png_path(path: str | Path) -> Path:
    """The path itself, or `ExportError` if no picture can be written there: ask before work that would be lost."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ExportError(f"cannot write {path.name}: only .png is supported; choose a name that ends in .png")
    if not path.parent.is_dir():
        raise ExportError(f"cannot write {path}: there is no folder {path.parent}; choose one that exists")
    return path


def save_png(
    path: str | Path, pixels: UInt8[np.ndarray, "height width 3"], details: dict[str, Any] | None = None
) -> Path:
    """Write a marked PNG, whole or not at all.

    Raises:
        ExportError: the name does not end in .png, or the file cannot be written.
    """
    path = check_png_path(path)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(encode_png(pixels, details))
    except OSError as e:
        raise ExportError(f"cannot write {path}: {e.strerror or e}; choose a folder that is writable") from e
    return path


def _xmp() -> str:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
        "<xmp:CreatorTool>DragGAN</xmp:CreatorTool><photoshop:Credit>AI-generated</photoshop:Credit>"
        f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{escape(_NOTE)}</rdf:li></rdf:Alt></dc:description>'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )
