"""Photos, films and sessions made to harm: nothing in them is run, fetched or believed, and each ends in one sentence.

`benchmarks/hostile.py` sends the same photos and sessions to a page.
"""

from __future__ import annotations

import io
import json
import socket
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from draggan.errors import DragGANError
from draggan.inversion import read_photo
from draggan.inversion.frames import Clip
from draggan.kept_session import pieces_of
from draggan.session import Session
from draggan.session_file import SessionFile, read_session_file
from draggan.tuning import Tuning
from tests.sessions import recipe_of

SIZE = (24, 32)
SECONDS = 10.0

# ---------------------------------------------------------------------------------------------------------- photos


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, data: bytes = b"", colour: int = 2) -> bytes:
    """A PNG whose parts say what they like."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def picture(form: str, mode: str = "RGB", size: tuple[int, int] = (40, 40), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, form, **options)
    return buffer.getvalue()


def tiff_in_a_ring() -> bytes:
    """Its only directory is followed by itself, and has tags that lie far outside."""
    tag = struct.pack("<HHII", 273, 4, 2**31, 2**32 - 8)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + tag * 2 + struct.pack("<I", 8)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd" width="9" height="9"/></svg>'
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n(/etc/passwd) (r) file 1000 string readstring pop =\n"
BOMB = zlib.compress(bytes(200_000_000))
PHOTOS: dict[str, Callable[[], bytes]] = {
    "SVG with a file in it": lambda: SVG,
    "PostScript that reads a file": lambda: EPS,
    "PDF": lambda: b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/Launch/F(sh)>>>>endobj",
    "a page": lambda: b"<html><script>alert(1)</script></html>",
    "a pickle": lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "PNG of four thousand million pixels": lambda: png(65_536, 65_536),
    "PNG of 2^31 pixels a row": lambda: png(2**31 - 1, 1),
    "PNG without pixels": lambda: png(0, 0),
    "PNG of one pixel": lambda: picture("PNG", size=(1, 1)),
    "PNG cut off": lambda: picture("PNG")[:60],
    "PNG whose pixels unpack without end": lambda: png(40, 40, data=bytes(100_000_000)),
    "PNG with a text that unpacks to 200 MB": lambda: png(40, 40, chunk(b"zTXt", b"a\0\0" + BOMB), data=bytes(4840)),
    "PNG with a profile that unpacks to 200 MB": lambda: png(40, 40, chunk(b"iCCP", b"a\0\0" + BOMB), data=bytes(4840)),
    "JPEG cut off": lambda: picture("JPEG", size=(400, 400))[:300],
    "JPEG of 65535 x 65535": lambda: picture("JPEG").replace(b"\0\x28\0\x28", b"\xff\xff\xff\xff", 1),
    "GIF of 65535 x 65535": lambda: b"GIF89a" + b"\xff" * 4 + picture("GIF")[10:],
    "TIFF that follows itself": tiff_in_a_ring,
    "WebP whose size is a lie": lambda: picture("WEBP").replace(b"VP8 ", b"VP8L", 1),
    "a film": lambda: b"\0\0\0\x18ftypmp42" + bytes(500),
}
"""Photos that cannot be opened, or are read without what is hostile in them."""

# --------------------------------------------------------------------------------------------------------- sessions

TUNING = Tuning(model_sha256="ab" * 32, differences={"synthesis.b4.conv1.bias": np.ones(4, np.float16)})


def session() -> Session:
    ws = np.random.default_rng(0).standard_normal((1, 3, 8)).astype(np.float32)
    return Session.of(recipe_of("cat", SIZE, ws, 7, 0.7)).with_points([((5.0, 5.0), (9.0, 9.0))])


def work(tensors: dict[str, np.ndarray] | None = None, *, text: str | bytes | None = None, **metadata: str) -> bytes:
    """A session's file; every part can be made wrong."""
    text = pieces_of(session()).text() if text is None else text
    body = np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)
    there = {"draggan_session": "1", "tunings": "{}", "crops": "{}"}
    return save({"session": body, **(tensors or {})}, there | metadata)


def tuned(tuning: Tuning = TUNING, digest: str = "", **metadata: str) -> bytes:
    digest = digest or tuning.digest
    tensors = {f"{digest}/{name}": value for name, value in tuning.differences.items()}
    models = {digest: {"model": tuning.model_sha256}}
    return work(tensors, **{"tunings": json.dumps(models), **metadata})


def header(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def outlined(**wrong: Any) -> bytes:
    values = json.loads(pieces_of(session()).text())
    values["outline"] |= wrong
    return work(text=json.dumps(values))


def named(model: str) -> bytes:
    return work(text=pieces_of(session()).text().replace('"cat"', json.dumps(model)))


def placed(**wrong: Any) -> bytes:
    place = {"crop": [[5, 5], [3, 0], [0, 3]], "photo": "cd" * 32, "size": [9, 9]} | wrong
    return tuned(crops=json.dumps({TUNING.digest: place}))


RING = '{"__metadata__":{"draggan_session":"1","tunings":"{}","crops":"{}"},"session":%s}'
SESSIONS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "a pickle": lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "a pickle after a header": lambda: header('{"draggan_session"') + b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "a zip": lambda: b"PK\3\4" + bytes(500),
    "a header of 2^63 bytes": lambda: b"\xff" * 7 + b"\x7f" + work()[8:],
    "a header nested 100000 deep": lambda: header('{"draggan_session":' + "[" * 100_000),
    "a header with a number of a million digits": lambda: header('{"draggan_session":' + "9" * 1_000_000 + "}"),
    "a header that is no text": lambda: header("{").replace(b"{", b"\xff") + work()[9:],
    "tensors that overlap": lambda: (
        header(
            RING
            % '{"dtype":"U8","shape":[9],"data_offsets":[0,9]},"x":{"dtype":"U8","shape":[9],"data_offsets":[4,13]}'
        )
        + bytes(13)
    ),
    "a tensor outside the file": lambda: header(RING % '{"dtype":"U8","shape":[99],"data_offsets":[0,99]}') + bytes(9),
    "a tensor of negative size": lambda: header(RING % '{"dtype":"U8","shape":[-9],"data_offsets":[9,0]}') + bytes(9),
    "a tensor of 2^64 numbers": lambda: (
        header(RING % f'{{"dtype":"U8","shape":[{2**40},{2**40}],"data_offsets":[0,9]}}') + bytes(9)
    ),
    "a session that is a tensor of numbers": lambda: work({"session": np.zeros(9, np.float32)}),
    "a tensor named as a path": lambda: work({"../../etc/passwd": np.zeros(3, np.float16)}),
    "a text that is no JSON": lambda: work(text="{"),
    "a text nested 100000 deep": lambda: work(text="[" * 100_000),
    "a text of 20 MB": lambda: work(text=b" " * 20_000_000),
    "a history of a million steps": lambda: outlined(past=["a"] * 1_000_000),
    "a history that names itself": lambda: outlined(past=["session"], now="now"),
    "a setting that is a program": lambda: outlined(settings={"step_size": "__import__('os').system('true')"}),
    "a template for a space": lambda: outlined(space="${6*7}"),
    "an infinite revision": lambda: outlined(revision=float("inf")),
    "a latent of 10^12 numbers": lambda: work(
        text=pieces_of(session()).text().replace("[1,3,8]", "[1,1000000,1000000]")
    ),
    "other weights than it names": lambda: tuned(digest="00" * 32),
    "weights that are not finite": lambda: work(
        {"%s/x" % ("0" * 64): np.full(3, np.nan, np.float16)}, tunings=json.dumps({"0" * 64: {"model": ""}})
    ),
    "weights of a path": lambda: tuned(tunings=json.dumps({"../../x": {"model": ""}})),
    "a thousand tunings": lambda: work(tunings=json.dumps({f"{i:064x}": {"model": ""} for i in range(1000)})),
    "a place that is no place": lambda: placed(crop=[[1e308, 0], [0, 0], [0, 0]]),
    "a place of text": lambda: placed(photo="../../etc/passwd"),
    "a photo of infinite size": lambda: placed(size=[float("inf"), 3]),
    "a tuning that is named and missing": lambda: work(
        text=pieces_of(session()).text().replace('"cat"', '"cat","tuning":"%s"' % ("0" * 64))
    ),
    "a path for a model": lambda: named("../../etc/passwd"),
    "an address for a model": lambda: named("http://127.0.0.1:22/x.pkl"),
    "a page for a model": lambda: named("<img src=x onerror=alert(1)>"),
}
"""Sessions that cannot be opened; the last three can be read, and name a model that is not there."""

# ------------------------------------------------------------------------------------------------------------ films


def films(port: int, film: Path) -> dict[str, str]:
    """Texts that ffmpeg would follow: to an address, and to another file."""
    address = f"http://127.0.0.1:{port}/a.ts"
    play = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n%s\n#EXT-X-ENDLIST\n"
    stream = (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video %d RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    )
    return {
        "list.mp4": play % address,
        "list-of-files.mp4": play % film.as_uri(),
        "joined.mp4": f"ffconcat version 1.0\nfile {address}\n",
        "joined-files.mp4": f"ffconcat version 1.0\nfile {film.name}\n",
        "stream.mp4": stream % port,
        "parts.mp4": f"<?xml version='1.0'?><MPD><Period><BaseURL>{address}</BaseURL></Period></MPD>",
        "drawing.mp4": SVG.decode(),
        "letters.avi": "\x1b[2J" * 100,
        "empty.webm": "",
    }


# ------------------------------------------------------------------------------------------------------------ tests


def refused(act: Callable[[], object]) -> str:
    began = time.monotonic()
    with pytest.raises(DragGANError) as caught:
        act()
    assert time.monotonic() - began < SECONDS
    said = str(caught.value)
    assert 10 < len(said) < 500
    assert "Traceback" not in said
    assert "\n" not in said
    return said


# Pixels that nobody has asked for are not unpacked.
READ_ALL_THE_SAME = {"PNG whose pixels unpack without end"}


@pytest.mark.parametrize("case", PHOTOS)
def test_a_hostile_photo_ends_in_a_sentence(case: str) -> None:
    content = PHOTOS[case]()
    if case in READ_ALL_THE_SAME:
        assert read_photo(content).size == (40, 40)
    else:
        refused(lambda: read_photo(content, "<b>${6*7}</b>.png"))


@pytest.mark.parametrize("case", SESSIONS)
def test_a_hostile_session_ends_in_a_sentence(case: str) -> None:
    content = SESSIONS[case]()
    if case.endswith("for a model"):
        # Where it is opened, models are looked for by the names that are known, and no other way.
        assert read_session_file(content).session.recipe.model.name
    else:
        refused(lambda: read_session_file(content))


def test_an_honest_session_is_read() -> None:
    content = SessionFile(session=session()).to_bytes()
    assert read_session_file(content).session.recipe == session().recipe
    assert read_session_file(work()).session.recipe == session().recipe
    assert len(read_session_file(placed()).places) == 1


def test_a_list_of_films_is_no_film(tmp_path: Path) -> None:
    v3 = pytest.importorskip("imageio.v3")
    pytest.importorskip("imageio_ffmpeg")
    film = tmp_path / "film.mp4"
    v3.imwrite(film, np.zeros((3, 32, 32, 3), np.uint8), fps=10, plugin="FFMPEG")
    assert len(Clip(film)) >= 3
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        for name, text in films(listening.getsockname()[1], film).items():
            (tmp_path / name).write_text(text)
            assert "is not a film" in refused(lambda name=name: Clip(tmp_path / name))  # type: ignore[misc]
        with pytest.raises(TimeoutError):
            listening.accept()
    (tmp_path / "cut.mp4").write_bytes(film.read_bytes()[:200])
    assert "is damaged" in refused(lambda: Clip(tmp_path / "cut.mp4"))
