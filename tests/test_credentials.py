"""Content credentials: signed, read back by the library's own reader, broken by any change, trusted only with cause."""

from __future__ import annotations

import datetime
import http.server
import io
import json
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draggan.errors import ConfigError
from draggan.export import Provenance, encode_picture
from draggan.provenance import credentials
from draggan.provenance.credentials import Ingredient, Sealed, read_credentials, seal, trust_anchors
from draggan.provenance.deployment import Deployment
from draggan.recipe import Edit, ModelReference, Point, Recipe, Seed

c2pa = pytest.importorskip("c2pa", reason="the extra `provenance` is not installed")

RECIPE = Recipe(
    model=ModelReference(name="/home/somebody/cat.pkl", sha256="ab" * 32),
    image_size=(64, 64),
    start=Seed(seed=7, truncation=0.7),
    edits=(Edit(points=(Point(handle=(20.5, 30.0), target=(40.0, 30.0)),)),),
)
KINDS = ("png", "jpeg", "webp", "gif", "mp4")


# Eight frames of 64 px, H.264, as imageio-ffmpeg writes them.
FILM = Path(__file__).parent / "golden" / "film.mp4"


def file_of(kind: str, seed: int = 0) -> bytes:
    """A small file."""
    if kind == "mp4":
        return FILM.read_bytes()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind.upper())
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("state")


def signed(kind: str, folder: Path, **more: object) -> bytes:
    sealed = seal(file_of(kind), kind, folder=folder, **more)
    assert sealed.state == "signed"
    return sealed.data


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_signed_is_read_back_by_the_library_itself(folder, kind):
    data = signed(kind, folder, recipe=RECIPE, watermarked=True, head="12:abc")
    with c2pa.Reader(credentials.TYPES[kind], io.BytesIO(data)) as reader:
        told = json.loads(reader.json())
    assert told["validation_state"] == "Valid"
    manifest = told["manifests"][told["active_manifest"]]
    actions = next(a["data"]["actions"] for a in manifest["assertions"] if a["label"].startswith("c2pa.actions"))
    assert [a["action"] for a in actions] == ["c2pa.created", "c2pa.edited", "c2pa.watermarked.unbound"]
    assert actions[0]["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    found = read_credentials(data, kind, trust_anchors(folder))
    assert (found.state, found.head, found.codes) == ("trusted", "12:abc", ())
    assert found.recipe is not None
    assert Recipe.from_json(found.recipe) == RECIPE
    # Where its owner keeps the model is nobody's business.
    assert b"/home/somebody" not in data
    assert found.source_types == ("trainedAlgorithmicMedia",)
    # No picture in it beside the picture.
    assert "thumbnail" not in json.dumps(told)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_shows(folder, kind):
    whole = signed(kind, folder)
    place = whole.index(b"mdat") + 200 if kind == "mp4" else len(whole) - 30
    broken = bytearray(whole)
    broken[place] ^= 1
    found = read_credentials(bytes(broken), kind, trust_anchors(folder))
    assert found.state == "changed"
    assert found.codes
    # In the credentials themselves, too.
    for words in (b"c2pa.created", b"DragGAN signer"):
        broken = bytearray(whole)
        broken[whole.index(words) + 2] ^= 1
        assert read_credentials(bytes(broken), kind, trust_anchors(folder)).state in ("changed", "unreadable")


def test_a_stranger_of_the_same_name_is_not_trusted(folder, tmp_path, monkeypatch):
    ours, theirs = signed("png", folder), signed("png", tmp_path)
    mine = read_credentials(ours, "png", trust_anchors(folder))
    stranger = read_credentials(theirs, "png", trust_anchors(folder))
    assert (mine.state, stranger.state) == ("trusted", "unknown signer")
    assert mine.signer == stranger.signer
    assert read_credentials(ours, "png", "").state == "unknown signer"
    assert read_credentials(theirs, "png", trust_anchors(tmp_path)).state == "trusted"
    named = tmp_path / "anchors.pem"
    named.write_text(trust_anchors(tmp_path).rstrip(), encoding="ascii")
    monkeypatch.setenv("C2PA_TRUST_ANCHORS", str(named))
    assert [read_credentials(one, "png", trust_anchors(folder)).state for one in (ours, theirs)] == ["trusted"] * 2


def test_a_photos_own_credentials_are_kept_and_its_person_is_not_in_the_recipe(folder, tmp_path):
    photo = signed("jpeg", tmp_path)
    own = Deployment.of(folder=folder, environment={"DRAGGAN_MODERATORS": "none"})
    ingredient = Ingredient(kind="jpeg", data=photo)
    source = "compositeWithTrainedAlgorithmicMedia"
    pixels = np.full((64, 64, 3), 90, np.uint8)
    data = encode_picture(
        pixels, ".png", recipe=RECIPE, provenance=Provenance(source=source, photo=ingredient, deployment=own)
    )
    found = read_credentials(data, "png", trust_anchors(folder))
    assert found.state == "trusted"
    assert found.ingredients == (1, 1)
    assert found.source_types == (source,)
    assert found.recipe is None
    told = json.loads(c2pa.Reader("image/png", io.BytesIO(data)).json())
    assert len(told["manifests"]) == 2
    assert told["manifests"][told["active_manifest"]]["ingredients"][0]["relationship"] == "inputTo"
    # And none of its pixels.
    assert len(data) < 40_000
    unsigned = Provenance(source=source, photo=Ingredient(kind="png", data=file_of("png")), deployment=own)
    plain = encode_picture(pixels, ".png", provenance=unsigned)
    assert read_credentials(plain, "png", trust_anchors(folder)).ingredients == (1, 0)


def test_without_the_extra_files_leave_unsigned_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    own = Deployment.of(folder=tmp_path, environment={"DRAGGAN_MODERATORS": "none"})
    data = encode_picture(np.full((64, 64, 3), 90, np.uint8), provenance=Provenance(deployment=own))
    assert Image.open(io.BytesIO(data)).size == (64, 64)
    assert own.audit is not None
    assert own.audit.rows(last=1)[0].facts["credentials"] == "not installed"
    assert read_credentials(data, "png").state == "not installed"
    assert "pip install c2pa-python cryptography" in credentials.MISSING
    assert seal(file_of("png"), "png", folder=tmp_path) == Sealed(data=file_of("png"), state="not installed")


class Authority(http.server.BaseHTTPRequestHandler):
    """A time-stamping authority (RFC 3161) by OpenSSL."""

    folder: Path

    def do_POST(self) -> None:
        (self.folder / "query").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        command = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-out", "reply"]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)
        self.send_response(200)
        self.send_header("Content-Type", "application/timestamp-reply")
        self.end_headers()
        self.wfile.write((self.folder / "reply").read_bytes())

    def log_message(self, *args: object) -> None:
        pass


TSA = """
[tsa]
default_tsa = ours
[ours]
serial = serial
signer_cert = leaf.pem
certs = root.pem
signer_key = tsa.key
signer_digest = sha256
digests = sha256, sha384, sha512
default_policy = 1.2.3.4.1
accuracy = secs:1
ess_cert_id_alg = sha256
[req]
distinguished_name = name
x509_extensions = root
prompt = no
[name]
O = A clock
CN = Root of a clock
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[purpose]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
"""
KEY = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
MAKE = (
    f"req -x509 {KEY} -config tsa.cnf -days 2 -keyout root.key -out root.pem",
    f"req {KEY} -config tsa.cnf -subj /O=A_clock/CN=Clock -keyout tsa.key -out tsa.csr",
    "x509 -req -in tsa.csr -CA root.pem -CAkey root.key -CAcreateserial -days 1 -extfile tsa.cnf -extensions purpose "
    "-out leaf.pem",
)


@pytest.fixture
def authority(tmp_path) -> Iterator[str]:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here")
    (tmp_path / "tsa.cnf").write_text(TSA)
    (tmp_path / "serial").write_text("01")
    for step in MAKE:
        subprocess.run(["openssl", *step.split()], cwd=tmp_path, check=True, capture_output=True)
    server = http.server.HTTPServer(("127.0.0.1", 0), type("Ours", (Authority,), {"folder": tmp_path}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_authority_confirms_the_time_of_signing(folder, authority, monkeypatch):
    monkeypatch.setenv("C2PA_TSA_URL", authority)
    sealed = seal(file_of("png"), "png", folder=folder)
    assert sealed.state == "signed"
    found = read_credentials(sealed.data, "png", trust_anchors(folder))
    assert found.state == "trusted"
    assert found.time is not None
    assert found.time.startswith(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-}")


def test_an_authority_that_does_not_answer_costs_the_time_only(tmp_path, monkeypatch):
    monkeypatch.setenv("C2PA_TSA_URL", "http://127.0.0.1:9/")
    sealed = seal(file_of("png"), "png", folder=tmp_path)
    assert sealed.state == "signed without time"
    found = read_credentials(sealed.data, "png", trust_anchors(tmp_path))
    assert (found.state, found.time) == ("trusted", None)


def test_nothing_is_fetched_because_a_file_says_so(folder):
    builder = c2pa.Builder({"claim_generator_info": [{"name": "x", "version": "1"}], "assertions": []})
    builder.set_no_embed()
    builder.set_remote_url("http://127.0.0.1:9/manifest.c2pa")
    builder.set_intent(c2pa.C2paBuilderIntent.EDIT) if hasattr(c2pa, "C2paBuilderIntent") else None
    chain, key = credentials._identity(folder)
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, chain, key, None))
    out = io.BytesIO()
    builder.sign(signer, "image/png", io.BytesIO(file_of("png")), out)
    assert b"127.0.0.1:9" in out.getvalue()
    assert read_credentials(out.getvalue(), "png").state == "elsewhere"


def test_the_key_is_its_owners_and_an_operator_brings_another(folder, tmp_path, monkeypatch):
    signed("png", folder)
    file = folder / "credentials.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "PRIVATE KEY" in file.read_text()
    assert "PRIVATE KEY" not in trust_anchors(folder)
    # The same certificate the next time.
    credentials._own_identity.cache_clear()
    before = file.read_bytes()
    assert read_credentials(signed("png", folder), "png", trust_anchors(folder)).state == "trusted"
    assert file.read_bytes() == before
    key, chain = before.split(b"-----BEGIN CERTIFICATE-----", 1)
    (tmp_path / "chain.pem").write_bytes(b"-----BEGIN CERTIFICATE-----" + chain)
    (tmp_path / "key.pem").write_bytes(key)
    monkeypatch.setenv("C2PA_CERT_CHAIN", str(tmp_path / "chain.pem"))
    with pytest.raises(ConfigError, match="C2PA_KEY is not set"):
        seal(file_of("png"), "png", folder=tmp_path)
    monkeypatch.setenv("C2PA_KEY", str(tmp_path / "key.pem"))
    data = signed("png", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert read_credentials(data, "png", trust_anchors(folder)).state == "trusted"
    monkeypatch.setenv("C2PA_KEY", str(tmp_path / "nowhere.pem"))
    with pytest.raises(ConfigError, match=r"nowhere\.pem"):
        seal(file_of("png"), "png", folder=tmp_path)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff" + bytes(50), bytes(1000)])
def test_what_is_no_file_has_none(data):
    assert read_credentials(data, "png").state in ("none", "unreadable")


def test_a_cut_off_file_ends_in_a_state(folder):
    whole = signed("png", folder)
    for part in (0.2, 0.6, 0.95):
        assert read_credentials(whole[: int(part * len(whole))], "png").state in ("changed", "unreadable", "none")
