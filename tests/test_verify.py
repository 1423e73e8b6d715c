"""Checking a file: what is found is told for what it is worth, and nothing that a file contains does any harm."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import random
import re
import socket
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dnnlib.digests import sha256_of
from draggan.checkpoints.catalogue import listed_entry
from draggan.cli import main
from draggan.errors import VerifyError
from draggan.export import Provenance, encode_animation, encode_picture
from draggan.program import own_command
from draggan.provenance import verify, watermark
from draggan.provenance.audit import AuditLog, Recorded
from draggan.provenance.credentials import Credentials, seal
from draggan.provenance.deployment import Deployment
from draggan.provenance.marks import own_watermark
from draggan.provenance.metadata import Metadata
from draggan.provenance.verify import Report, verify_bytes, verify_file
from draggan.provenance.watermark import Found
from draggan.recipe import ModelReference, Recipe, Seed
from tests.test_watermark import drawing

RECIPE = Recipe(
    model=ModelReference(name="cat", sha256="ab" * 32), image_size=(128, 128), start=Seed(seed=7, truncation=0.7)
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Few sizes: what is not there is looked for everywhere, which takes seconds."""
    monkeypatch.setattr(watermark, "_SCALES", np.geomspace(0.5, 2, 5))


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Deployment:
    return Deployment.of(folder=tmp_path_factory.mktemp("state"), environment={"DRAGGAN_MODERATORS": "none"})


@pytest.fixture(scope="module")
def saved(own) -> bytes:
    return encode_picture(drawing(128), ".png", recipe=RECIPE, provenance=Provenance(deployment=own))


def written(form: str, pixels: np.ndarray | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(drawing(128) if pixels is None else pixels).save(buffer, form, **options)
    return buffer.getvalue()


def told(report: Report) -> str:
    return "\n".join(f"{finding.layer}: {finding.text}" for finding in report.findings())


def test_a_file_from_here_is_told_layer_by_layer(own, saved):
    report = verify_bytes(saved, folder=own.folder)
    assert report.outcome == "from here"
    assert report.credentials.state == "trusted"
    assert report.metadata.source_type == "trainedAlgorithmicMedia"
    assert report.watermark is not None
    assert report.recipe == RECIPE
    assert report.recipes_agree is True
    text = told(report)
    assert "who is trusted here. Unchanged since" in text
    assert "a label, not proof" in text
    assert f'Model "cat", seed 7, 0 edits. To draw it again: {own_command()} drag --recipe FILE' in text
    assert json.loads(json.dumps(report.to_dict()))["outcome"] == "from here"


def test_the_record_knows_the_very_file_and_what_was_made_of_it(own, saved, tmp_path):
    report = verify_bytes(saved, folder=own.folder, record=own.recorded)
    assert report.recorded is not None
    assert report.recorded.same_file
    # A film whose pixels cannot be looked at here, say.
    alone = dataclasses.replace(report, watermark=None, credentials=Credentials(state="none"))
    assert alone.outcome == "from here"
    assert "this very file is on record" in told(alone)
    assert dataclasses.replace(alone, recorded=None).outcome == "says so"
    assert f"Made here on {time.strftime('%Y-%m-%d', time.gmtime())}" in told(report)
    assert "saved as PNG. This is that very file." in told(report)
    with Image.open(io.BytesIO(saved)) as picture:
        anew = written("JPEG", np.asarray(picture), quality=95)
    assert "This is another file" in told(verify_bytes(anew, folder=own.folder, record=own.recorded))
    # Neither the visit nor any detail, such as the seed, and nothing at all of a stranger's file.
    said = json.dumps(report.to_dict()["recorded"])
    assert set(json.loads(said)) == {"minute", "kind", "model", "same_file"}
    stranger = verify_bytes(written("PNG"), folder=own.folder, record=own.recorded)
    assert (stranger.recorded, stranger.record) == (None, "")
    assert "Record of exports" not in told(stranger)
    # Another record, of an installation with the same key, and none at all.
    empty = AuditLog(tmp_path / "audit.sqlite")
    assert empty.find_export(sha256=report.sha256, watermark=None) is None
    other = Deployment.of(folder=tmp_path, environment={"DRAGGAN_MODERATORS": "none"})
    assert "No file with that number" in told(verify_bytes(saved, folder=own.folder, record=other.recorded))
    (tmp_path / "audit.sqlite").write_bytes(b"no database" * 100)
    assert "cannot be read" in told(verify_bytes(saved, folder=own.folder, record=other.recorded))


def reports() -> Iterator[Report]:
    """Of every kind of finding, one."""
    nothing = Report(
        kind="png",
        sha256="ab" * 32,
        size=(8, 8),
        frames=1,
        credentials=Credentials(state="none"),
        metadata=Metadata(source_type=None, notes={}, recipe=None),
        watermark=None,
        searched="partly",
        recipe=None,
        recipes_agree=None,
    )
    for state in get_args(get_type_hints(Credentials)["state"]):
        for signer in ("Somebody", None):
            signed = Credentials(state=state, signer=signer, tool="A program", ingredients=(3, 2), codes=("a.b",))
            yield dataclasses.replace(nothing, credentials=signed)
    for source in (*verify._SOURCES, "anything"):
        yield dataclasses.replace(nothing, metadata=Metadata(source_type=source, notes={}, recipe=None))
    for chance in (None, 0.5, 1e-9):
        found = Found(identity="ab" * 6, score=None, chance=chance, scale=2.0, turned=90, mirrored=True)
        yield dataclasses.replace(nothing, watermark=found, record="whole")
    for same in (True, False):
        recorded = Recorded(minute=0, kind="png", model="cat", same_file=same)
        yield dataclasses.replace(nothing, recorded=recorded, recipe=RECIPE, recipes_agree=False)
    broken = Metadata(source_type=None, notes={}, recipe="{")
    yield dataclasses.replace(nothing, metadata=broken, searched="its pixels cannot be read", record="it is damaged")


def test_no_sentence_has_more_than_twenty_words():
    """They are read by people who want to know one thing."""
    found = {
        sentence for report in reports() for f in report.findings() for sentence in re.split(r"(?<=[.;]) ", f.text)
    }
    assert len(found) > 60
    assert {sentence for sentence in found if len(sentence.split()) > 20} == set()


def test_of_a_listed_model_the_record_tells_the_name(own):
    sha256 = sha256_of(listed_entry("cat").local)
    recipe = Recipe(
        model=ModelReference(name="cat", sha256=sha256), image_size=(64, 64), start=Seed(seed=7, truncation=0.7)
    )
    data = encode_picture(drawing(64), ".webp", recipe=recipe, provenance=Provenance(deployment=own))
    assert 'UTC with "cat" and saved as WEBP' in told(verify_bytes(data, folder=own.folder, record=own.recorded))


def test_what_is_saved_anew_keeps_its_invisible_mark_only(own, saved):
    with Image.open(io.BytesIO(saved)) as picture:
        smaller = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((64, 64))
    report = verify_bytes(written("JPEG", np.asarray(smaller), quality=95), folder=own.folder)
    assert (report.outcome, report.credentials.state, report.metadata.source_type) == ("from here", "none", None)
    assert "resized to 50 % and mirrored since" in told(report)
    assert "very likely saved here" in told(report)


def test_somebody_else_sees_a_claim_and_no_proof(saved, tmp_path):
    report = verify_bytes(saved, folder=tmp_path)
    assert report.outcome == "says so"
    assert report.credentials.state == "unknown signer"
    assert report.watermark is None
    text = told(report)
    assert "who is not known here. Unchanged since" in text
    assert "anyone can sign under any name" in text
    # Nothing is called good that nobody here can vouch for.
    assert not [finding for finding in report.findings() if finding.mood == "good"]


def test_a_changed_file_is_called_so_first(own, saved):
    broken = bytearray(saved)
    broken[-30] ^= 1
    report = verify_bytes(bytes(broken), folder=own.folder)
    assert report.outcome == "changed"
    first = next(report.findings())
    assert first.mood == "bad"
    assert "changed after it was signed" in first.text


def test_a_recipe_put_in_later_is_noticed(own, saved):
    with Image.open(io.BytesIO(saved)) as picture:
        info = PngInfo()
        other = Recipe(model=RECIPE.model, image_size=(128, 128), start=Seed(seed=8, truncation=0.7))
        info.add_itxt("DragGAN recipe", other.to_json())
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", pnginfo=info)
    # The credentials of the first file beside the recipe of another one.
    begin = saved.index(b"caBX") - 4
    length = struct.unpack(">I", saved[begin : begin + 4])[0] + 12
    forged = buffer.getvalue()[:33] + saved[begin : begin + length] + buffer.getvalue()[33:]
    report = verify_bytes(forged, folder=own.folder)
    assert report.outcome == "changed"
    assert report.recipes_agree is False
    assert "one of them was added later" in told(report)


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b"<rdf:Description %s/></rdf:RDF></x:xmpmeta>"
)


@pytest.mark.parametrize(
    ("data", "source", "says"),
    [
        (
            written(
                "JPEG",
                xmp=XMP % b'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/'
                b'compositeWithTrainedAlgorithmicMedia"',
            ),
            "compositeWithTrainedAlgorithmicMedia",
            "partly made by AI",
        ),
        (
            written(
                "WEBP",
                xmp=XMP % b"><Iptc4xmpExt:DigitalSourceType rdf:resource="
                b'"http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"/><x ',
            ),
            "digitalCapture",
            "a photograph",
        ),
        (written("PNG"), None, "No digital source type"),
    ],
)
def test_words_of_other_programs_are_read(tmp_path, data, source, says):
    report = verify_bytes(data, folder=tmp_path)
    assert report.metadata.source_type == source
    assert says in told(report)
    assert report.outcome == ("says so" if source and "Trained" in source else "nothing")


def test_notes_of_other_generators_are_told_as_their_words(tmp_path):
    info = PngInfo()
    info.add_text("parameters", "a cat, <b>bold</b>\nSteps: 20, Sampler: x" + "y" * 9000)
    report = verify_bytes(written("PNG", pnginfo=info), folder=tmp_path)
    assert report.outcome == "says so"
    note = report.metadata.notes["settings of a generator"]
    assert note.startswith("a cat, <b>bold</b> Steps: 20")
    assert len(note) < 450


def test_nothing_found_is_not_called_made_by_hand(tmp_path):
    report = verify_bytes(written("JPEG"), folder=tmp_path)
    assert report.outcome == "nothing"
    assert "It may have been all the same" in told(report)


def test_frames_of_an_animation_are_looked_at_together(own):
    film = encode_animation([drawing(128, seed) for seed in range(3)], ".webp", provenance=Provenance(deployment=own))
    report = verify_bytes(film, folder=own.folder)
    assert (report.kind, report.frames, report.outcome) == ("webp", 3, "from here")
    assert report.watermark is not None


def test_a_film_has_its_mark_and_its_credentials(own):
    """H.264, crf 23: the mark is found in its frames together, if a package can decode them."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    buffer, identity = io.BytesIO(), b"number"
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=12, options={"crf": "23"})
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for seed in range(6):
            pixels = own_watermark(own.folder).embed(drawing(128, seed), identity)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode(None))
    film = seal(buffer.getvalue(), "mp4", folder=own.folder, recipe=RECIPE, watermarked=True).data
    report = verify_bytes(film, folder=own.folder)
    assert (report.kind, report.outcome, report.credentials.state) == ("mp4", "from here", "trusted")
    assert report.watermark is not None
    assert report.watermark.identity == identity.hex()
    assert report.recipe == RECIPE


def test_of_a_film_that_cannot_be_decoded_the_rest_is_told(own, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    film = Path(__file__).parent / "golden" / "film.mp4"
    report = verify_file(film, folder=own.folder)
    assert (report.kind, report.outcome) == ("mp4", "nothing")
    assert 'films need another package: pip install "av"' in told(report)


# ---- files that want to do harm ------------------------------------------------------------------------------------


def png_of(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    parts = [(b"IHDR", head), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    "data",
    [
        png_of(100_000, 100_000),
        png_of(60_000, 1),
        png_of(64, 64, (b"iTXt", b"DragGAN recipe\0\1\0\0\0" + zlib.compress(bytes(200 << 20), 9))),
        png_of(64, 64, (b"iTXt", b"DragGAN recipe\0\0\0\0\0" + b"[" * 100_000)),
        png_of(64, 64, (b"caBX", bytes(100))),
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe1\xff\xff" + bytes(70_000),
        b"GIF89a" + b"\xff" * 500,
        b"RIFF\xff\xff\xff\x7fWEBPVP8X" + bytes(500),
        struct.pack(">I", 24) + b"ftypisom" + bytes(12) + struct.pack(">I", 0) + b"moov" + bytes(5000),
        struct.pack(">I", 28) + b"ftypavif" + bytes(900),
        b"II*\0" + bytes(900),
        b"BM" + b"\xff" * 900,
        b"<x:xmpmeta" * 50_000,
        written("JPEG", xmp=b"<x:xmpmeta>" + b"DigitalSourceType " * 3000 + b"</x:xmpmeta>"),
    ],
    ids=range(15),
)
def test_hostile_files_end_in_a_report_or_a_sentence(tmp_path, data):
    with contextlib.suppress(VerifyError):
        report = verify_bytes(data, folder=tmp_path, seconds=2.0)
        assert report.outcome in ("nothing", "changed")
        assert told(report)


def test_damaged_files_end_in_a_report_or_a_sentence(own, saved, monkeypatch):
    monkeypatch.setattr(watermark, "_SCALES", np.array([1.0]))
    chance = random.Random(1)
    film = encode_animation([drawing(64)] * 2, ".gif", provenance=Provenance(deployment=own))
    for data in (saved, film):
        for _ in range(12):
            broken = bytearray(data)
            for _ in range(20):
                broken[chance.randrange(12, len(broken))] = chance.randrange(256)
            assert told(verify_bytes(bytes(broken[: chance.randrange(200, len(broken))]), folder=own.folder))


def test_nothing_is_fetched(own, saved, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert verify_bytes(saved, folder=own.folder).outcome == "from here"


# ---- the command ---------------------------------------------------------------------------------------------------


def test_the_command_says_it_and_its_status_too(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DRAGGAN_STATE", str(tmp_path / "state"))
    own = Deployment.of(environment={"DRAGGAN_MODERATORS": "none"}, folder=tmp_path / "state")
    ours, plain, broken, none = (tmp_path / name for name in ("ours.png", "plain.jpg", "broken.png", "none.txt"))
    ours.write_bytes(encode_picture(drawing(128), recipe=RECIPE, provenance=Provenance(deployment=own)))
    plain.write_bytes(written("JPEG"))
    broken.write_bytes(ours.read_bytes()[:-30] + b"\0" + ours.read_bytes()[-29:])
    none.write_text("words")
    assert main(["verify", str(ours)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ours.png\n  + PNG picture: Made by AI")
    assert "  ? Recipe: " in out
    assert "  + Record of exports: Made here on " in out
    assert main(["verify", str(plain)]) == 3
    assert main(["verify", str(broken), str(ours)]) == 4
    assert main(["verify", str(none), str(ours)]) == 1
    assert "none.txt: files of this kind cannot be checked" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "nowhere.png"), "--json"]) == 1
    assert "there is no file" in json.loads(capsys.readouterr().out)["error"]
    assert main(["verify", str(ours), str(plain), "--json"]) == 3
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["outcome"], second["outcome"]) == ("from here", "nothing")
    assert first["watermark"]["identity"]


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("draggan.provenance.verify._MOST_BYTES", 10)
    path = Path(tmp_path / "a.png")
    path.write_bytes(bytes(11))
    with pytest.raises(VerifyError, match="too large"):
        verify_file(path, folder=tmp_path)
