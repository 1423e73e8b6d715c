"""Downloads: whole and unchanged, or a clear refusal. A server on this machine plays every misbehaviour."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dnnlib import disk
from dnnlib.addresses import check_url, mirrors
from dnnlib.cache import cache_dir
from dnnlib.digests import sha256_of
from dnnlib.download import download
from dnnlib.errors import DownloadError
from dnnlib.http import remote_size

DATA = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(DATA).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """``/NAME`` plays the behaviour NAME; every request is noted in ``server.requests``."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        getattr(self, "play_" + self.path.strip("/").replace("-", "_"))()

    def do_HEAD(self):
        self.wfile.write = lambda data, write=self.wfile.write: write(data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        self.do_GET()

    def log_message(self, *args):
        pass

    def answer(self, data=DATA, *, status=200, length=None, etag='"one"', **headers):
        self.send_response(status)
        headers.setdefault("Content_Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.send_header("Connection", "close")
        if etag:
            self.send_header("ETag", etag)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def play_normal(self):
        self.answer()

    def play_unbounded(self):
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(DATA)
        self.close_connection = True

    def play_slow(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        try:
            for i in range(0, len(DATA), 4096):
                self.wfile.write(DATA[i : i + 4096])
                time.sleep(0.02)
        except OSError:
            self.server.hung_up.set()

    def play_cut(self, etag='"one"', data=DATA):
        """Half of what is asked for; what follows is served in full when asked for by range."""
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        if not start:
            return self.answer(data[: len(data) // 2], length=len(data), etag=etag)
        if self.headers.get("If-Range", etag) != etag:
            return self.answer(data, etag=etag)
        return self.answer(
            data[start:], status=206, etag=etag, Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}"
        )

    def play_cut_no_etag(self):
        self.play_cut(etag="")

    def play_cut_then_changed(self):
        if "Range" in self.headers:
            return self.play_cut(etag='"two"', data=DATA[::-1])
        return self.play_cut()

    def play_cut_no_ranges(self):
        if "Range" in self.headers:
            return self.answer()
        return self.play_cut()

    def play_cut_always(self):
        if "Range" in self.headers:
            return self.answer(status=503)
        return self.play_cut()

    def play_stall(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA[:1000])
        self.server.release.wait(10)

    def play_missing(self):
        self.answer(b"no such file", status=404)

    def play_login(self):
        self.answer(b"log in", status=403)

    def play_busy(self):
        self.answer(b"later", status=503)

    def play_loop(self):
        self.answer(b"", status=302, Location="/loop")

    def play_moved(self):
        self.answer(b"", status=302, Location="/normal")

    def play_downgrade(self):
        self.answer(b"", status=302, Location="http://example.com/file")

    def play_file(self):
        self.answer(b"", status=302, Location="file:///etc/passwd")

    def play_html(self):
        self.answer(b"<!DOCTYPE html><html>Please log in</html>", Content_Type="text/html")

    def play_disguised_html(self):
        self.answer(b"\n <html><body>Virus scan warning</body></html>")

    def play_empty(self):
        self.answer(b"")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that hangs up is what some of these tests are about."""


@pytest.fixture
def server():
    server = Server(("127.0.0.1", 0), Handler)
    server.requests, server.hung_up, server.release = [], threading.Event(), threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def fetch(server, tmp_path, monkeypatch):
    """Download ``/NAME`` from the local server into ``tmp_path/model.pkl``."""
    for name in ("http_proxy", "https_proxy", "HF_ENDPOINT", "DRAGGAN_MIRROR"):
        monkeypatch.delenv(name, raising=False)

    def fetch(*names, **options):
        urls = [name if "://" in name else f"http://127.0.0.1:{server.server_port}/{name}" for name in names]
        options = {"pause": 0.0, "timeout": 5.0, "allow_local_http": True, **options}
        return download(urls, tmp_path / "model.pkl", **options)

    return fetch


def left_behind(tmp_path):
    return sorted(p.name for p in tmp_path.iterdir())


def test_a_file_arrives_whole_with_progress_from_start_to_end(fetch, tmp_path):
    seen = []
    path = fetch("normal", size=len(DATA), sha256=DIGEST, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == DATA
    assert seen[0] == (0, len(DATA))
    assert seen[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert left_behind(tmp_path) == ["model.pkl"]


def test_a_file_that_is_there_is_not_fetched_again(fetch, server, tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"here")
    assert fetch("normal").read_bytes() == b"here"
    assert not server.requests


def test_a_length_the_server_does_not_tell_is_no_obstacle(fetch):
    assert fetch("unbounded", sha256=DIGEST).read_bytes() == DATA


def test_a_slow_download_can_be_cancelled_at_once_and_goes_on_later(fetch, server, tmp_path):
    class Cancelled(Exception):
        pass

    def cancel(done, total):
        if done > 10000:
            raise Cancelled

    start = time.monotonic()
    with pytest.raises(Cancelled):
        fetch("slow", progress=cancel)
    assert time.monotonic() - start < 2
    assert server.hung_up.wait(5), "the connection stayed open"
    assert left_behind(tmp_path) == ["model.pkl.part", "model.pkl.part.json"]


def test_an_exception_of_the_callback_is_never_taken_for_a_network_failure(fetch, server):
    def fail(done, total):
        raise ConnectionResetError("mine")

    with pytest.raises(ConnectionResetError, match="mine"):
        fetch("normal", progress=fail)
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["cut", "cut-no-etag"])
def test_a_cut_off_download_goes_on_where_it_stopped(fetch, server, tmp_path, kind):
    assert fetch(kind, sha256=DIGEST).read_bytes() == DATA
    assert [headers.get("Range") for _, headers in server.requests] == [None, f"bytes={len(DATA) // 2}-"]
    assert left_behind(tmp_path) == ["model.pkl"]


def test_a_file_that_changed_between_the_halves_is_fetched_anew(fetch):
    assert fetch("cut-then-changed").read_bytes() == DATA[::-1]


def test_a_server_without_ranges_sends_the_whole(fetch):
    assert fetch("cut-no-ranges", sha256=DIGEST).read_bytes() == DATA


def test_what_came_is_kept_when_the_server_fails_for_good(fetch, tmp_path):
    with pytest.raises(DownloadError, match=r"busy or broken \(503\).* 524,288 bytes that came are kept"):
        fetch("cut-always", attempts=2)
    assert (tmp_path / "model.pkl.part").read_bytes() == DATA[: len(DATA) // 2]
    assert not (tmp_path / "model.pkl").exists()


def test_a_part_of_another_address_is_not_continued(fetch, server, tmp_path):
    (tmp_path / "model.pkl.part").write_bytes(b"x" * 1000)
    (tmp_path / "model.pkl.part.json").write_text(json.dumps({"url": "https://a/b", "validator": '"one"', "total": 9}))
    assert fetch("normal", sha256=DIGEST).read_bytes() == DATA
    assert "Range" not in server.requests[0][1]


def test_a_connection_that_falls_silent_ends(fetch):
    with pytest.raises(DownloadError, match=r"nothing came for 0\.2 s"):
        fetch("stall", timeout=0.2, attempts=1)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("normal", {"size": 1000}, "offers a file of 1,048,576 bytes where 1,000 are expected"),
        ("unbounded", {"size": 1000}, "sends more than the 1,000 bytes expected"),
        ("normal", {"sha256": "0" * 64}, f"has SHA-256 {DIGEST} where 0000"),
        ("missing", {}, r"not there \(404\)"),
        ("login", {}, r"refuses access \(403\)"),
        ("busy", {"attempts": 2}, r"busy or broken \(503\)"),
        ("loop", {}, "redirects more than 5 times"),
        ("downgrade", {}, "redirects to an address that is not fetched"),
        ("file", {}, "redirects to an address that is not fetched"),
        ("html", {}, "web page instead of the file"),
        ("disguised-html", {}, "web page instead of the file"),
        ("empty", {}, "empty file"),
    ],
)
def test_what_is_not_the_file_is_refused_and_nothing_is_left(fetch, tmp_path, name, options, told):
    with pytest.raises(DownloadError, match=told) as caught:
        fetch(name, advice="Get it by hand.", **options)
    assert str(caught.value).startswith("model.pkl was not downloaded. 127.0.0.1: ")
    assert str(caught.value).endswith("Get it by hand.")
    assert left_behind(tmp_path) == []


def test_the_size_can_be_asked_for_beforehand(server):
    base = f"http://127.0.0.1:{server.server_port}"
    options = {"timeout": 2.0, "allow_local_http": True}
    assert remote_size([f"{base}/missing", f"{base}/moved"], **options) == len(DATA)
    assert remote_size([f"{base}/html", f"{base}/loop", "http://127.0.0.1:9/x"], **options) is None


def test_redirects_are_followed(fetch, server):
    assert fetch("moved", sha256=DIGEST).read_bytes() == DATA
    assert [path for path, _ in server.requests] == ["/moved", "/normal"]


def test_the_next_address_is_tried_when_one_fails(fetch):
    assert fetch("http://example.com/plain", "missing", "html", "normal").read_bytes() == DATA


def test_a_machine_without_network_is_told_so(fetch, server):
    with pytest.raises(DownloadError, match=r"no connection .*offline\? The built-in models work without"):
        fetch("http://127.0.0.1:9/file", attempts=1)


def test_a_full_disk_is_noticed_before_anything_is_written(fetch, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(0, 0, 1000)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match=r"1,048,576 bytes are needed .* 1,000 are free"):
        fetch("normal")
    assert left_behind(tmp_path) == []


def test_a_digest_is_remembered_on_first_use_and_a_later_change_refused(fetch, tmp_path):
    pins = tmp_path / "pins" / "pins.json"
    pins.parent.mkdir()
    path = fetch("normal", pins=pins)
    assert json.loads(pins.read_text()) == {"model.pkl": {"bytes": len(DATA), "sha256": DIGEST}}
    path.unlink()
    assert fetch("normal", pins=pins) == path
    path.unlink()
    pins.write_text(pins.read_text().replace(DIGEST, "f" * 64))
    with pytest.raises(DownloadError, match=r"has changed since it was first downloaded .* remove 'model.pkl' from"):
        fetch("normal", pins=pins)
    assert left_behind(tmp_path) == ["pins"]


def test_of_two_who_want_the_same_file_one_fetches(fetch, server):
    threads = [threading.Thread(target=fetch, args=("cut",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 2  # the two halves


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a",
        "file:///etc/passwd",
        "ftp://a/b",
        "https://",
        "a/b",
        "https://[",
        "https://u:p@h/f",
        "https://h/a b",
        "https://h/a\r\nX: y",
    ],
)
def test_only_https_is_fetched(url):
    with pytest.raises(DownloadError):
        check_url(url)


def test_plain_http_to_this_machine_needs_permission():
    assert check_url("http://127.0.0.1/a", allow_local_http=True)
    with pytest.raises(DownloadError):
        check_url("http://127.0.0.1/a")


def test_mirrors_come_first(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example/")
    monkeypatch.setenv("DRAGGAN_MIRROR", "https://one.example/m/, https://two.example")
    assert mirrors("https://huggingface.co/a/b.pkl") == [
        "https://one.example/m/b.pkl",
        "https://two.example/b.pkl",
        "https://hub.example/a/b.pkl",
        "https://huggingface.co/a/b.pkl",
    ]


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    for name in ("DRAGGAN_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "draggan"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    assert cache_dir("models") == tmp_path / "hf" / "draggan" / "models"
    monkeypatch.setenv("DRAGGAN_HOME", "~/mine")
    assert cache_dir() == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "f").write_bytes(DATA)
    assert sha256_of(tmp_path / "f") == DIGEST


# --------------------------------------------------------------------------------------------- the Hugging Face hub


@pytest.fixture
def hub(server, fetch, monkeypatch):
    """The local server stands in for the hub, which redirects to the file; what it states of that can be set."""
    said = {"X_Linked_Size": str(len(DATA)), "X_Linked_ETag": f'"{DIGEST}"'}

    def play(self):
        self.answer(b"", status=302, Location="/normal", **said)

    monkeypatch.setattr(Handler, "play_a/b/resolve/main/model.pkl", play, raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    base = f"http://127.0.0.1:{server.server_port}"

    def fetch_from_hub(**options):
        return fetch(fetch_from_hub.url, **options)

    # After the other fixture has taken it away.
    monkeypatch.setenv("HF_ENDPOINT", base)
    fetch_from_hub.said, fetch_from_hub.url = said, f"{base}/a/b/resolve/main/model.pkl"
    return fetch_from_hub


def test_what_the_hub_says_of_a_file_is_checked(hub, server, tmp_path):
    assert hub().read_bytes() == DATA
    assert [path for path, _ in server.requests] == ["/a/b/resolve/main/model.pkl", "/normal"]
    assert not any("hf_secret" in str(headers) for _, headers in server.requests), "a person's token was sent"
    (tmp_path / "model.pkl").unlink()
    hub.said["X_Linked_ETag"] = f'"{"0" * 64}"'
    with pytest.raises(DownloadError, match=f"has SHA-256 {DIGEST} where 0000"):
        hub()
    assert left_behind(tmp_path) == []
    assert hub(sha256=DIGEST).read_bytes() == DATA, "what the list of models says goes first"


def test_only_the_hub_is_asked_for_a_digest(hub, monkeypatch):
    hub.said["X_Linked_ETag"] = f'"{"0" * 64}"'
    monkeypatch.delenv("HF_ENDPOINT")
    assert hub().read_bytes() == DATA


def test_a_digest_of_another_kind_is_not_compared(hub):
    hub.said["X_Linked_ETag"] = f'"{"0" * 40}"'
    assert hub().read_bytes() == DATA


def test_a_hub_that_states_nothing_is_no_obstacle(hub):
    hub.said.clear()
    assert hub().read_bytes() == DATA


def test_the_hub_tells_the_size(hub):
    hub.said["X_Linked_Size"] = "123"
    assert remote_size([hub.url], allow_local_http=True) == 123


def test_an_encoded_file_is_refused(fetch, monkeypatch):
    monkeypatch.setattr(Handler, "play_packed", lambda self: self.answer(Content_Encoding="gzip"), raising=False)
    with pytest.raises(DownloadError, match="in the encoding 'gzip'"):
        fetch("packed")


def test_libraries_come_late_write_nothing_and_ask_nobody(tmp_path):
    code = """
import sys
from dnnlib import download
assert not {"httpx", "filelock"} & set(sys.modules), "a list of models waits for them"
def refuse(event, args):
    written = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if event in ("socket.connect", "socket.bind", "os.mkdir") or (written and args[0] != "/dev/null"):
        raise SystemExit(f"{event} {args}")
sys.addaudithook(refuse)
import httpx, filelock
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        env={"HOME": str(tmp_path), "PATH": "", "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert left_behind(tmp_path) == []


def test_a_download_writes_into_our_own_folders_only(fetch, tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("HF_HOME", raising=False)
    fetch("normal")
    assert not home.exists()
    assert [path.suffix for path in cache_dir("locks").iterdir()] == [".lock"]
