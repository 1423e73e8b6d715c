"""Everything that we know of to harm a page or its reader of files: is it refused in our words, and does all go on?

    python -m benchmarks hostile [--quick] [--out FILE]

Files are those of ``tests/test_hostile.py``: read as the reader's child reads them, then uploaded to ``python app.py
--listen`` and opened there; and the photos and sessions of ``tests/test_hostile_work.py``, sent to that page. The rest
are requests: foreign names and origins, paths and addresses where a model or a file belongs, wrong values, the heaviest
drags, damaged uploads. After each of them the page must draw a picture that is known. "Executed": a payload has left
its trace on the disk, or an answer shows what only running or reading something else could. Names that look like
programs are tried in a browser, by ``tests/browser/test_text_is_data.py``.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.timing import publish, table
from benchmarks.visitors import Refused, Visitor, pixels_of, same_picture, serving
from tests import test_hostile as files
from tests import test_hostile_work as work

__all__ = ["main"]

_NEVER = ("Traceback", "object at 0x", "site-packages", "Something unexpected", "null}", str(Path.home()))
_META = {"_type": "gradio.FileData"}
_ELSEWHERE = (
    *("/etc/passwd", "../../etc/passwd", "file:///etc/passwd", "/proc/self/environ", "C:\\Windows\\win.ini", "~/x.pkl"),
    *("http://127.0.0.1:22/x.pkl", "https://example.com/x.pkl", "//example.com/x.pkl", "http://169.254.169.254/latest"),
    *("\\\\example.com\\share\\x.pkl", "ftp://example.com/x", "data:,x", "hf://a/b", "s3://a/b"),
)
_SECRETS = ("root:x:0", "PATH=", "[fonts]")  # what stands in those that exist
_LARGE = 10**400


@dataclass
class Kind:
    """What came of attacks of one kind; harmless: files of which what is hostile is left aside, as it should be."""

    tried: int = 0
    refused: int = 0
    harmless: int = 0
    executed: int = 0
    healthy: int = 0
    slowest: float = 0.0
    odd: list[str] = field(default_factory=list)


class Attacks:
    """Tries them, one after the other, against one page.

    Args:
        port: of it.
    """

    def __init__(self, port: int) -> None:
        self._port, self._count = port, 0
        self._friend = Visitor(port, "127.0.0.1")
        self._known = pixels_of(self._friend.call("picture", "cat", 7, None, 0))
        self.kinds: dict[str, Kind] = {}

    def stranger(self) -> Visitor:
        """Somebody at an address that has used up nothing."""
        self._count += 1
        return Visitor(self._port, f"127.0.{1 + self._count // 250}.{1 + self._count % 250}")

    def attempt(self, kind: str, what: str, act: Callable[[Visitor], Any], *, harmless: bool = False) -> None:
        """One attack, and whether a picture is drawn after it. No refusal is needed where nothing came of it."""
        found = self.kinds.setdefault(kind, Kind())
        found.tried += 1
        began = time.monotonic()
        try:
            said = json.dumps(act(self.stranger()), default=str)
        except Refused as refused:
            said = str(refused)
            in_words = len(said) > 10 and refused.status < 500 and not any(never in said for never in _NEVER)
            found.refused += in_words
            if not in_words:
                found.odd.append(f"{what}: {refused.status} {said[:120]}")
        except OSError as error:
            said = ""
            found.odd.append(f"{what}: {error!r}")
        else:
            found.harmless += harmless
            if not harmless:
                found.odd.append(f"{what}: taken: {said[:120]}")
        found.slowest = max(found.slowest, time.monotonic() - began)
        if any(secret in said for secret in _SECRETS) or Path(files.CANARY % "shell").exists():
            found.executed += 1
        found.healthy += self._is_healthy()

    def _is_healthy(self) -> bool:
        try:
            return same_picture(self._known, pixels_of(self._friend.call("picture", "cat", 7, None, 0)))
        except (Refused, OSError):
            return False
        finally:
            time.sleep(0.26)  # 240 calls a minute are a visitor's


def _opened(content: bytes) -> Callable[[Visitor], Any]:
    """Upload a file, and open it as the page does; the handler's refusal counts as one."""

    def act(visitor: Visitor) -> Any:
        visitor.open()
        visitor.page("agree", {"agreed": True})
        path = visitor.upload(content)
        return visitor.page("upload", None, {"path": path, "orig_name": "a.pkl", "meta": _META})

    return act


def _sent(handler: str, content: bytes, name: str) -> Callable[[Visitor], Any]:
    """Send a file as a value of the page, and hear what the page says of it."""

    def act(visitor: Visitor) -> Any:
        visitor.open()
        visitor.page("agree_photo", {"agreed": True})
        value = {"count": 1, "name": name, "content": base64.b64encode(content).decode()}
        *_, last = (m for m in visitor.page(handler, None, value) if m["msg"] == "process_completed")
        for update in last["output"]["data"]:
            props = update.get("props", {}) if isinstance(update, dict) else {}
            shown = props.get("shown") or {}
            if shown.get("error") or props.get("kind") == "bad":
                raise Refused(200, shown.get("error") or props["text"])
        return last["output"]["data"]

    return act


def _asked(method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> Callable[[Visitor], Any]:
    return lambda visitor: visitor.request(method, path, body, headers).read(2000)


def _called(name: str, *values: Any) -> Callable[[Visitor], Any]:
    return lambda visitor: visitor.call(name, *values)


def requests() -> Iterator[tuple[str, str, Callable[[Visitor], Any]]]:
    """Attacks by requests alone: kind, what it is, how it is done."""
    kind = "asked for under a foreign name (Host)"
    for host in ("evil.com", "127.0.0.1.evil.com", "localhost.evil.com", "evil.com:80", "127.0.0.1@evil.com", "["):
        for path in ("/", "/config", "/gradio_api/info"):
            yield kind, f"{host}{path}", _asked("GET", path, {"Host": host})
    kind = "sent by another page (Origin)"
    for origin in (
        "http://evil.com",
        "null",
        "http://localhost:1",
        "http://127.0.0.1.evil.com",
        "https://evil.com:7860",
    ):
        sent = {"Origin": origin, "Content-Type": "application/json"}
        yield kind, f"call from {origin}", _asked("POST", "/gradio_api/call/models", sent, b'{"data": []}')
        form = {"Origin": origin, "Content-Type": "multipart/form-data; boundary=x"}
        yield kind, f"upload from {origin}", _asked("POST", "/gradio_api/upload", form, b"--x--\r\n")
    kind = "a path or an address in place of a model or a file"
    for place in _ELSEWHERE:
        yield kind, f"model {place}", _called("picture", place, 0, None, 0)
        yield kind, f"file {place}", _called("picture", {"path": place, "meta": _META}, 0, None, 0)
        mask = _called("drag", "cat", 0, [[60, 60, 64, 60]], None, 0, place, {"max_steps": 1})
        yield kind, f"mask {place}", mask
    yield kind, "the path box", _called("path", "/etc/passwd")
    for path in (
        "file=/etc/passwd",
        "file=../../../etc/passwd",
        "file=%2e%2e/%2e%2e/etc/passwd",
        "proxy=http://127.0.0.1:22",
    ):
        yield kind, path, _asked("GET", f"/gradio_api/{path}", {})
    yield from _wrong_values()
    kind = "photos made to harm, sent to the page"
    for case, photo in work.PHOTOS.items():
        if case not in work.READ_ALL_THE_SAME:
            yield kind, case, _sent("photo_sent", photo(), "${6*7}<b>.png")
    kind = "sessions made to harm, sent to the page"
    for case, session in work.SESSIONS.items():
        if session():
            yield kind, case, _sent("open_work", session(), "${6*7}<b>.draggan")
    yield kind, "as a photo", _sent("photo_sent", work.work(), "a.png")
    kind = "the heaviest drags"
    many = [[10 + k % 100, 10 + k // 5, 64, 64] for k in range(500)]
    for points, settings in (
        (500, {"r1": 64, "r2": 128, "max_steps": 2}),
        (51, {"max_steps": 2}),
        (50, {"r1": 64, "r2": 128, "max_steps": 2}),
        (1, {"max_steps": 10_000}),
        (1, {"max_steps": _LARGE}),
        (501, {}),
    ):
        points_now = (many * 2)[:points]
        yield kind, f"{points} points {settings}", _called("drag", "cat", 0, points_now, None, 0, "", settings)
    kind = "uploads that are none"
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    yield kind, "no boundary", _asked("POST", "/gradio_api/upload", {"Content-Type": "multipart/form-data"}, b"x")
    yield kind, "no form", _asked("POST", "/gradio_api/upload", {"Content-Type": "text/plain"}, b"x" * 1000)
    yield kind, "larger than allowed", _asked("POST", "/gradio_api/upload", form | {"Content-Length": "600000000"}, b"")
    for name, content in (("empty", b""), ("zeros", bytes(1 << 20)), ("noise", np.random.bytes(1 << 20))):
        yield kind, name, _opened(content)


def _wrong_values() -> Iterator[tuple[str, str, Callable[[Visitor], Any]]]:
    kind = "wrong values"
    models: Sequence[object] = (None, 5, [], {}, "", "x" * 1_000_000, "cat\0", "${6*7}", "{{7*7}}", "<script>")
    for model in models:
        yield kind, f"model {model!r:.40}", _called("picture", model, 0, None, 0)
    seeds: Sequence[object] = (-1, 2**32, _LARGE, 1.5, "7", None, [], float("nan"))
    for seed in seeds:
        yield kind, f"seed {seed!r:.40}", _called("picture", "cat", seed, None, 0)
    truncations: Sequence[object] = (-1, 99, _LARGE, "x", [], float("inf"))
    for truncation in truncations:
        yield kind, f"truncation {truncation!r:.40}", _called("picture", "cat", 0, truncation, 0)
    good = [[60, 60, 64, 60]]
    lists: Sequence[object] = (
        *(None, 5, "x", {}, [[1]], [[1, 2, 3, "4"]]),
        *([[_LARGE, 1, 2, 3]], [[-5, 1, 2, 3]], [[1e9, 1, 2, 3]], []),
    )
    for points in lists:
        yield kind, f"points {points!r:.40}", _called("drag", "cat", 0, points, None, 0, "", {"max_steps": 1})
    choices: Sequence[object] = (
        *(5, "max_steps", [], {"no such": 1}),
        *({"r1": _LARGE}, {"r1": -1}, {"level": "y" * 10**6}, {"solver": []}),
    )
    for settings in choices:
        yield kind, f"settings {settings!r:.40}", _called("drag", "cat", 0, good, None, 0, "", settings)
    png = base64.b64encode(
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x06\0\0\0"
    ).decode()
    for mask in (5, "x", "data:image/png;base64,AAAA", "data:text/html,<script>", f"data:image/png;base64,{png}"):
        yield kind, f"mask {mask!r:.40}", _called("drag", "cat", 0, good, None, 0, mask, {"max_steps": 1})
    sent = {"Content-Type": "application/json"}
    for body in (
        b"{",
        b"[" * 100_000,
        b"[]",
        b"5",
        b"\xff\xfe",
        b'{"data": ' + b"[" * 70 + b"]" * 70 + b"}",
        b"x" * 9_000_000,
    ):
        yield kind, f"body {body[:20]!r}", _asked("POST", "/gradio_api/call/picture", sent, body)


def _read_files(quick: bool) -> tuple[Kind, dict[str, bytes]]:
    """The hostile files, read as the reader's child reads them."""
    made = {case: make() for case, (make, _, _) in files.CASES.items()}
    if quick:
        made = dict(list(made.items())[:8])
    kind = Kind(tried=len(made))
    with tempfile.TemporaryDirectory(prefix="draggan-hostile-") as work:
        for case, (error, message, seconds, _) in files.read_all(made, Path(work)).items():
            kind.slowest = max(kind.slowest, seconds)
            if error in (files.SAFE, files.CHECK):
                kind.refused += 1
            elif not error and not files.CASES[case][1]:
                kind.harmless += 1
            else:
                kind.odd.append(f"{case}: {error} {message[:120]}")
    kind.executed = int(Path(files.CANARY % "shell").exists())
    kind.healthy = kind.tried  # one process has read them all
    return kind, made


def main(argv: Sequence[str] | None = None) -> int:
    """Try all; the table goes to standard output, and into a file with ``--out``. 1 if anything was not refused."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks hostile", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few of each kind")
    parser.add_argument("--port", type=int, default=7993)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args(argv)
    here = machine.describe()
    read, made = _read_files(options.quick)
    with serving("--listen", port=options.port):
        attacks = Attacks(options.port)
        attacks.kinds["files made to harm, read"] = read
        for case, content in made.items():
            # Some are read all the same: what is hostile in them is looked at by nobody.
            attacks.attempt(
                "the same files, uploaded and opened in the page",
                case,
                _opened(content),
                harmless=not files.CASES[case][1],
            )
        for number, (kind, what, act) in enumerate(requests()):
            if not options.quick or number % 8 == 0:
                attacks.attempt(kind, what, act)
    kinds = attacks.kinds
    every = Kind(
        tried=sum(kind.tried for kind in kinds.values()),
        refused=sum(kind.refused for kind in kinds.values()),
        harmless=sum(kind.harmless for kind in kinds.values()),
        executed=sum(kind.executed for kind in kinds.values()),
        healthy=sum(kind.healthy for kind in kinds.values()),
        slowest=max(kind.slowest for kind in kinds.values()),
        odd=[f"{name}: {what}" for name, kind in kinds.items() for what in kind.odd],
    )
    rows: list[list[object]] = [
        [name, kind.tried, kind.refused, kind.harmless, kind.executed, kind.healthy, f"{kind.slowest:.1f}"]
        for name, kind in [*kinds.items(), ("all", every)]
    ]
    lines = [
        "# What was done to it",
        "",
        "`python -m benchmarks hostile`; see benchmarks/hostile.py for what is tried.",
        "",
        f"{here.markdown()}.",
        "",
        table(
            ["", "tried", "refused in our words", "opened without it", "executed", "a picture after it", "slowest s"],
            rows,
        ),
        "",
        f"Not refused, or not in our words: {len(every.odd)}.",
        *(f"- {what}" for what in every.odd[:40]),
    ]
    publish("\n".join(lines), options.out)
    return int(every.executed > 0 or bool(every.odd) or every.healthy < every.tried)


if __name__ == "__main__":
    sys.exit(main())
