"""Sixteen visitors at once, two of them up to no good: does anybody else notice?

    python -m benchmarks visitors [--quick] [--seconds N] [--out FILE]

``python app.py --listen`` in a process of its own, with the limits of a public server. Every visitor has an address of
its own of this machine (127.0.0.x), as limits count by address. Six drag through the API and look at pictures, six work
in the page (another seed, a drag, save), two begin long drags in the page and stop them. Of the two attackers, one
begins endless drags and never listens; the other asks for the heaviest drags there are, by what is refused and by what
is still allowed, uploads rubbish, and sends photos of a few kilobytes that have 64 megapixels. Every picture is
compared with what its visitor asked for: the nearest of all pictures asked for must be its own.
"""

from __future__ import annotations

import argparse
import base64
import functools
import http.client
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import machine
from benchmarks.timing import publish, table

__all__ = ["CutOff", "Refused", "Visitor", "bytes_of", "main", "page_settings", "pixels_of", "same_picture", "serving"]

_ROOT = Path(__file__).resolve().parent.parent
_API = "/gradio_api"
_HANDLE, _TARGET = (128, 128), (140, 124)
_SHORT = {"max_steps": 3, "solver": "gauss-newton"}
_ENDLESS = {"max_steps": 1000, "solver": "adam", "stall_steps": 1000, "stop_distance": 0.1, "step_size": 1e-6}
_SEEN = ("pictures right", "PICTURES OF SOMEBODY ELSE")
_PAGES = 6  # of the visitors; as many use the API, and two stop long drags


CutOff = http.client.HTTPException
"""An answer that ended before its end."""


class Refused(Exception):
    """The server said no, and why.

    Attributes:
        status: of the answer; 200 where a handler said it.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Visitor:
    """One browser tab or program, at an address of its own.

    Args:
        port: of the server.
        address: its own; any of 127.0.0.x.
    """

    def __init__(self, port: int, address: str) -> None:
        self.port, self.address = port, address
        self.session = os.urandom(6).hex()
        self._numbers: dict[str, tuple[int, int]] = {}
        self._kept: list[str] = []
        self._changes = 0

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """An answer, whose body is still to be read.

        Raises:
            Refused: it was no.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120, source_address=(self.address, 0))
        if body is not None and not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        if answer.status != 200:
            text = answer.read().decode("utf-8", "replace")
            connection.close()
            try:
                said = json.loads(text).get("detail", text)
            except (ValueError, AttributeError):
                said = text
            raise Refused(answer.status, str(said)[:300])
        return answer

    def post(self, name: str, *values: Any) -> str:
        """Call an endpoint for programs; the name of the event to listen to."""
        return json.loads(self.request("POST", f"{_API}/call/{name}", {"data": list(values)}).read())["event_id"]

    def call(self, name: str, *values: Any) -> Any:
        """The same, with the last answer."""
        answer = self.request("GET", f"{_API}/call/{name}/{self.post(name, *values)}")
        kind, last = "", None
        for line in answer:
            if line.startswith(b"event: "):
                kind = line[7:].strip().decode()
            elif line.startswith(b"data: ") and kind != "heartbeat":
                last = json.loads(line[6:])
                if kind == "error":
                    raise Refused(200, str(last))
        return last[0] if isinstance(last, list) else last

    def open(self) -> None:
        """Read the page as a browser does."""
        self.request("GET", "/").read()
        config = json.loads(self.request("GET", "/config").read())
        for function in config["dependencies"]:
            if function.get("api_name"):
                inputs = len(function["inputs"])
                self._numbers[function["api_name"]] = (function["id"], inputs)
        self._defaults = {c["id"]: c.get("props", {}).get("value") for c in config["components"]}
        self._inputs = {f["api_name"]: f["inputs"] for f in config["dependencies"] if f.get("api_name")}

    def join(self, name: str, *values: Any) -> None:
        """Ask a handler of the page."""
        given = list(values)
        for part in self._inputs[name][len(given) :]:
            given.append(self._defaults.get(part))
        body = {"data": given, "fn_index": self._numbers[name][0], "session_hash": self.session}
        self.request("POST", f"{_API}/queue/join", body).read()

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the page is told until all that was asked for has ended."""
        for line in self.request("GET", f"{_API}/queue/data?session_hash={self.session}"):
            if line.startswith(b"data: "):
                message = json.loads(line[6:])
                if message["msg"] == "process_completed" and not message["success"]:
                    raise Refused(200, str(message["output"])[:300])
                yield message

    def page(self, name: str, *values: Any) -> list[dict[str, Any]]:
        """Ask a handler of the page, and read all that it answers."""
        self.join(name, *values)
        return list(self.messages())

    def keep(self) -> None:
        """Ask for what a browser keeps of the work, as the page does after every step."""
        self._changes += 1
        asked = {"count": self._changes, "there": self._kept}
        for message in self.page("keep", None, None, asked):
            if message["msg"] == "process_completed":
                (update,) = message["output"]["data"]
                self._kept = update.get("props", update)["answer"]["names"]

    def stop(self) -> None:
        """Press Stop."""
        number = self._numbers["stop"][0]
        body = {"data": [], "fn_index": number, "session_hash": self.session}
        self.request("POST", f"{_API}/run/predict", body).read()

    def saved(self, value: dict[str, Any], form: str = "PNG") -> bytes:
        """Save the picture, or in another format the film, and fetch the file."""
        text = json.dumps(self.page("save" if form == "PNG" else "save_film", None, value, form))
        at = text.index("/file=")
        path = text[at : text.index('"', at)]
        return self.request("GET", _API + path).read()

    def upload(self, content: bytes) -> str:
        """Send a file; where it lies."""
        body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.pkl"\r\n\r\n' + content
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        return json.loads(self.request("POST", f"{_API}/upload", body + b"\r\n--x--\r\n", headers).read())[0]


def bytes_of(url: str) -> bytes:
    """The file in a data URL."""
    return base64.b64decode(url.split(",", 1)[1])


def pixels_of(png: bytes | str) -> np.ndarray:
    """Pixels of a PNG, or of one in a data URL."""
    content = bytes_of(png) if isinstance(png, str) else png
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), np.float32)


def same_picture(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two are the same but for their marks: of three grey levels on the average; other seeds differ by tens."""
    return one.shape == other.shape and float(np.abs(one - other).mean()) < 6


@dataclass
class Findings:
    """What has happened, by kind."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def took(self, what: str, seconds: float) -> None:
        """Something good took so long."""
        with self.lock:
            self.seconds.setdefault(what, []).append(seconds)

    def count(self, what: str) -> None:
        """Something happened."""
        with self.lock:
            self.counts[what] += 1


class serving:  # used as a context
    """A page in a process of its own; gives that and its port.

    Args:
        options: of ``app.py``.
        environment: what is different in it for the server.
    """

    def __init__(self, *options: str, port: int, environment: Mapping[str, str] | None = None) -> None:
        self.options, self.port, self.environment = options, port, environment or {}

    def __enter__(self) -> subprocess.Popen[bytes]:
        self._home = tempfile.TemporaryDirectory(prefix="draggan-visitors-")
        environment = {**os.environ, "GRADIO_TEMP_DIR": self._home.name, **self.environment}
        command = [sys.executable, "app.py", "--port", str(self.port), *self.options]
        self.process = subprocess.Popen(
            command, cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(1200):
            try:
                Visitor(self.port, "127.0.0.1").request("GET", "/config").read()
                return self.process
            except OSError:
                if self.process.poll() is not None:
                    raise
                time.sleep(0.1)
        raise TimeoutError("the page did not start")

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.left = [str(path) for path in Path(self._home.name).rglob("*")]
        self._home.cleanup()


class Crowd:
    """The visitors.

    Args:
        port: of the server.
        until: when to end, of `time.monotonic`.
    """

    def __init__(self, port: int, until: float) -> None:
        self.port, self.until = port, until
        self.found = Findings()
        self.pictures: dict[int, np.ndarray] = {}

    def prepare(self, seeds: Sequence[int]) -> None:
        """The pictures of all seeds, while nobody else is there."""
        visitor = Visitor(self.port, "127.0.0.1")
        for seed in seeds:
            self.pictures[seed] = pixels_of(visitor.call("picture", "cat", seed, None, 0))
            time.sleep(0.3)

    def check(self, seed: int, pixels: np.ndarray) -> None:
        """Whether a picture is nearer to that of its seed than to any other."""
        nearest = min(self.pictures, key=lambda other: float(np.abs(self.pictures[other] - pixels).mean()))
        self.found.count(_SEEN[nearest != seed])

    def program(self, visitor: Visitor, seeds: Iterator[int]) -> None:
        """Looks at a picture, drags a little."""
        seed = next(seeds)
        self.check(seed, pixels_of(visitor.call("picture", "cat", seed, None, 0)))
        began = time.monotonic()
        facts = visitor.call("drag", "cat", seed, [[*_HANDLE, *_TARGET]], None, 0, "", _SHORT)
        self.found.took("short drag through the API, to its end", time.monotonic() - began)
        self.check(seed, pixels_of(facts["picture"]))

    def person(self, visitor: Visitor, seeds: Iterator[int]) -> None:
        """Chooses a seed, drags, saves."""
        seed = next(seeds)
        began = time.monotonic()
        visitor.page("seed", None, seed)
        self.found.took("another seed in the page", time.monotonic() - began)
        value = _drawn(_TARGET)
        began = time.monotonic()
        self._drag(visitor, value, 3, began)
        self.found.took("short drag in the page, to its end", time.monotonic() - began)
        # Of the picture; points and revision are the page's, and came with the answers.
        self.check(seed, pixels_of(visitor.saved(_drawn(_TARGET))))

    def stopper(self, visitor: Visitor, seeds: Iterator[int]) -> None:
        """Begins a long drag, and stops it."""
        seed = next(seeds)
        visitor.page("seed", None, seed)
        visitor.join("start", None, _drawn((120, 10)), page_settings(visitor, 900, adam=True))
        stopped, sent = 0.0, threading.Timer(3.0, lambda: None)
        for message in visitor.messages():
            if message["msg"] == "process_generating" and not stopped and sent.ident is None:
                sent.start()
            if sent.ident is not None and not sent.is_alive() and not stopped:
                stopped = time.monotonic()
                visitor.stop()
        if stopped:
            self.found.took("Stop, to the picture at rest", time.monotonic() - stopped)
        else:
            self.found.count("long drags that ended before Stop")

    def _drag(self, visitor: Visitor, value: dict[str, Any], steps: int, began: float) -> None:
        visitor.join("start", None, value, page_settings(visitor, steps))
        first = True
        for message in visitor.messages():
            if first and message["msg"] == "process_starts":
                first = False
                self.found.took("short drag in the page, to its first answer", time.monotonic() - began)

    def squatter(self, visitor: Visitor, _: Iterator[int]) -> None:
        """Begins endless drags, and listens to none."""
        points = [[40 + k, 40, 100, 100] for k in range(20)]
        self._attack("endless drags", lambda: visitor.post("drag", "cat", 0, points, None, 0, "", _ENDLESS))
        time.sleep(0.2)

    def glutton(self, visitor: Visitor, _: Iterator[int]) -> None:
        """The heaviest drags, and rubbish to store."""
        many = [[10 + k % 100, 10 + k // 5, 64, 64] for k in range(500)]
        heavy = {"r1": 64, "r2": 128, "max_steps": 2}
        self._attack("the heaviest drag", lambda: visitor.call("drag", "cat", 0, many, None, 0, "", heavy))
        allowed = {"r1": 8, "r2": 24, "max_steps": 2}
        self._attack(
            "the heaviest that is allowed", lambda: visitor.call("drag", "cat", 0, many[:40], None, 0, "", allowed)
        )
        # What an attacker agrees to binds nobody.
        self._attack("consent", lambda: visitor.call("consent", "model", True))
        self._attack("uploads", lambda: visitor.upload(os.urandom(5_000_000)))
        self._attack("photos of 64 megapixels", lambda: self._photo(visitor))
        time.sleep(0.5)

    def _photo(self, visitor: Visitor) -> None:
        visitor.page("agree_photo", {"agreed": True})
        said = json.dumps(visitor.page("photo_sent", None, {"count": 1, "name": "a.png", "content": _huge_photo()}))
        if "error" in said.split('"title"')[0]:
            raise Refused(200, said[:300])

    def _attack(self, what: str, act: Callable[[], Any]) -> None:
        try:
            act()
        except Refused as refused:
            with self.found.lock:
                self.found.refused[f"{what}: {str(refused)[:110]}"] += 1
        except OSError:
            self.found.count(f"{what}: connection closed")
        else:
            self.found.count(f"{what}: taken")

    def run(self, memory: Callable[[], float]) -> list[float]:
        """All of them until the time is over; the server's memory every second, MB."""
        roles = [self.program] * _PAGES + [self.person] * _PAGES + [self.stopper] * 2 + [self.squatter, self.glutton]
        threads = [threading.Thread(target=self._visit, args=(i, act), daemon=True) for i, act in enumerate(roles)]
        for thread in threads:
            thread.start()
        resident = []
        while time.monotonic() < self.until:
            resident.append(memory())
            time.sleep(1)
        for thread in threads:
            thread.join(150)
        return resident

    def _visit(self, number: int, act: Callable[[Visitor, Iterator[int]], None]) -> None:
        visitor = Visitor(self.port, f"127.0.0.{10 + number}")
        attacks = act in (self.squatter, self.glutton)
        seeds = itertools.cycle(
            [*self.pictures][number % len(self.pictures) :] + [*self.pictures][: number % len(self.pictures)]
        )
        try:
            visitor.open()
            if act in (self.person, self.stopper):
                visitor.page("open", "cat", 0, 0.7)
        except (Refused, OSError) as error:
            self.found.errors.append(f"{act.__name__} at the start: {error!r}")
            return
        while time.monotonic() < self.until:
            try:
                act(visitor, seeds)
            except (Refused, OSError, ValueError, KeyError) as error:
                if not attacks:
                    self.found.errors.append(f"{act.__name__}: {error!r}")
                time.sleep(0.2)
            if not attacks:
                self.found.count("things done")
                time.sleep(0.5)


@functools.cache
def _huge_photo() -> str:
    """A PNG of 8 kB and as many pixels as are read, in base64."""
    file = io.BytesIO()
    Image.new("P", (8000, 8000)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _drawn(target: tuple[int, int]) -> dict[str, Any]:
    return {"points": [[*_HANDLE, *target]], "pending": None, "mask": None}


def page_settings(visitor: Visitor, steps: int, *, adam: bool = False) -> dict[str, Any]:
    """The settings of the page, with these changed."""
    values = dict(visitor._defaults[visitor._inputs["start"][2]])
    values |= {"solver": "adam" if adam else "gauss-newton", "max_steps": steps}
    return values | ({"step_size": 1e-6} if adam else {})


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; the table goes to standard output, and into a file with ``--out``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks visitors", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="twenty seconds")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default: %(default)g)")
    parser.add_argument("--port", type=int, default=7990)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args(argv)
    seconds = 20.0 if options.quick else options.seconds
    here = machine.describe()
    server = serving("--listen", port=options.port)
    with server as process:
        # What the server warms up and builds at its start is over then.
        crowd = Crowd(options.port, 0.0)
        crowd.prepare(range(20, 36))
        crowd.until = time.monotonic() + seconds
        resident = crowd.run(lambda: _resident(process.pid))
        began = time.monotonic()
        Visitor(options.port, "127.0.0.200").call("picture", "cat", 1, None, 0)
        healthy = time.monotonic() - began
        rest = _resident(process.pid)
    found = crowd.found
    rows: list[list[object]] = [
        [what, len(times), *(f"{np.percentile(times, p):.2f}" for p in (50, 95)), f"{max(times):.2f}"]
        for what, times in sorted(found.seconds.items())
    ]
    minutes = _minutes(resident, min(60.0, seconds / 6))
    # Every visitor has been there in the first of them; what is prepared once is prepared.
    early, late = minutes[1][1], minutes[-1][1]
    lines = [
        "# Sixteen visitors, two of them attackers",
        "",
        "`python -m benchmarks visitors`; see benchmarks/visitors.py for who does what.",
        "",
        f"{here.markdown()}. {seconds:.0f} s.",
        "",
        table(["", "times", "p50 s", "p95 s", "max s"], rows),
        "",
        f"Errors of the fourteen: {len(found.errors)}. Pictures of somebody else: "
        f"{found.counts['PICTURES OF SOMEBODY ELSE']} of {sum(found.counts[name] for name in _SEEN)}.",
        *(f"- {error}" for error in found.errors[:10]),
        "",
        *(f"- {what}: {count}" for what, count in sorted(found.counts.items())),
        "",
        f"Attacks refused: {sum(found.refused.values())}.",
        *(f"- {count} x {what}" for what, count in found.refused.most_common()),
        "",
        "Memory, mean of a minute (of a sixth of the time where that is shorter):",
        "",
        table(
            ["until s", *(f"{until:.0f}" for until, _ in minutes)], [["MB", *(f"{mean:.0f}" for _, mean in minutes)]]
        ),
        "",
        f"{early:.0f} MB in the second of them, {late:.0f} MB in the last ({100 * (late / early - 1):+.1f} %), at most "
        f"{max(resident):.0f} in any second, {rest:.0f} at rest afterwards. "
        f"The next picture after it took {healthy:.2f} s. Files left on the disk after its end: {len(server.left)}.",
    ]
    publish("\n".join(lines), options.out)
    return 0


def _minutes(resident: Sequence[float], seconds: float) -> list[tuple[float, float]]:
    """Means of so many seconds each, with their ends; memory was asked for every second."""
    size = max(round(seconds), 1)
    parts = [resident[i : i + size] for i in range(0, len(resident), size)]
    parts = [part for part in parts if len(part) > size / 2] or parts
    if len(parts) == 1:
        parts *= 2
    return [(sum(map(len, parts[: i + 1])), float(np.mean(part))) for i, part in enumerate(parts)]


def _resident(pid: int) -> float:
    """Megabytes of a process, where the system tells (Linux)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmRSS")), float("nan"))


if __name__ == "__main__":
    sys.exit(main())
