"""Eight clients save whatever there is to save for three minutes: what is left behind, and is every file on record?

    python -m benchmarks soak [--quick] [--seconds N] [--out FILE]

``python app.py --listen`` in a process of its own, with the limits of a public server and an empty state folder. Every
client has an address of its own. Three work in the page: another seed, a drag, and by turns a PNG, a GIF and a WebP.
Two drag through the API of the page, two through ``/v1``. One agrees, uploads a model file that is none, and checks a
file. A file that has arrived at a client is an acknowledged row: its hash has to be on record. Then the server is ended
by SIGTERM, and in a second, shorter round by SIGKILL in the middle of the work.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.timing import publish, table
from benchmarks.visitors import CutOff, Refused, Visitor, bytes_of, page_settings, serving
from draggan.provenance.audit import AuditLog

__all__ = ["main"]

_HANDLE, _TARGET = (128, 128), (140, 124)
_SHORT = {"max_steps": 3, "solver": "gauss-newton"}
# What one installation keeps; anything else in its state folder is left over.
_KEPT = {
    *("audit.sqlite", "audit.sqlite-shm", "audit.sqlite-wal", "audit.head"),
    *("watermark.key", "credentials.pem", "consent.key"),
}


class Clients:
    """Those who save.

    Args:
        port: of the server.
        until: when to end, of `time.monotonic`.
    """

    def __init__(self, port: int, until: float) -> None:
        self.port, self.until = port, until
        self.files: dict[str, str] = {}
        """SHA-256 of every file that has arrived, and how it was asked for."""
        self.errors: list[str] = []
        self.done: Counter[str] = Counter()
        self._lock = threading.Lock()

    def run(self, *, killed: Callable[[], bool] = lambda: False) -> None:
        """All of them until the time is over.

        Args:
            killed: whether the server was ended on purpose; then nothing is an error.
        """
        roles = [self._person] * 3 + [self._program] * 2 + [self._service] * 2 + [self._uploader]
        threads = [threading.Thread(target=self._work, args=(i, act, killed)) for i, act in enumerate(roles)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, number: int, act: Callable[[Visitor, Iterator[int]], None], killed: Callable[[], bool]) -> None:
        visitor, turns = Visitor(self.port, f"127.0.0.{20 + number}"), itertools.count(100 * number)
        try:
            visitor.open()
            if act == self._person:
                visitor.page("open", "cat", 0, 0.7)
            while time.monotonic() < self.until and not killed():
                act(visitor, turns)
                time.sleep(0.2)
        except (Refused, OSError, ValueError, KeyError, TypeError, CutOff) as error:
            if not killed():
                self.errors.append(f"{act.__name__.strip('_')}: {error!r}"[:300])

    def _got(self, how: str, data: bytes) -> None:
        with self._lock:
            self.files[hashlib.sha256(data).hexdigest()] = how
            self.done[how] += 1

    def _did(self, what: str) -> None:
        with self._lock:
            self.done[what] += 1

    def _person(self, visitor: Visitor, turns: Iterator[int]) -> None:
        turn = next(turns)
        visitor.page("seed", None, turn)
        value = {"points": [[*_HANDLE, *_TARGET]], "pending": None, "mask": None}
        visitor.page("start", None, value, page_settings(visitor, 3))
        form = ("PNG", "GIF", "WebP")[turn % 3]
        self._got(f"page, {form}", visitor.saved(value, form))

    def _program(self, visitor: Visitor, turns: Iterator[int]) -> None:
        seed = next(turns)
        self._got("endpoint /picture", bytes_of(visitor.call("picture", "cat", seed, None, 0)))
        facts = visitor.call("drag", "cat", seed, [[*_HANDLE, *_TARGET]], None, 0, "", _SHORT)
        self._got("endpoint /drag", bytes_of(facts["picture"]))

    def _service(self, visitor: Visitor, turns: Iterator[int]) -> None:
        seed = next(turns)
        self._got("/v1/picture", visitor.request("POST", "/v1/picture", {"model": "cat", "seed": seed}).read())
        asked = {"model": "cat", "seed": seed, "points": [[*_HANDLE, *_TARGET]], "settings": _SHORT}
        answer = visitor.request("POST", "/v1/drag", asked).read()
        last = [json.loads(line.removeprefix(b"data: ")) for line in answer.splitlines() if b"{" in line][-1]
        if "picture" not in last:
            raise ValueError(str(last))
        self._got("/v1/drag", bytes_of(last["picture"]))

    def _uploader(self, visitor: Visitor, turns: Iterator[int]) -> None:
        next(turns)
        visitor.call("consent", "model", True)
        try:
            visitor.upload(os.urandom(200_000))
            self._did("upload")
        except Refused as refused:
            # So many of one visitor are kept.
            if "as many as are allowed" not in str(refused):
                raise
            self._did("upload beyond the limit, refused")
        content = base64.b64encode(os.urandom(3000)).decode()
        visitor.page("check", {"count": 1, "name": "a.png", "content": content})
        self._did("file checked")
        time.sleep(2)


def _round(port: int, seconds: float, *, kill: bool) -> tuple[Clients, list[str], list[str], AuditLog, float]:
    """Clients at work until the time is over, or until the server is killed at half of it.

    Returns:
        The clients; what is left of temporary files, and in the state folder; the record; its size, MB.
    """
    state, scratch = (Path(tempfile.mkdtemp(prefix=f"draggan-soak-{what}-")) for what in ("state", "temporary"))
    server = serving("--listen", port=port, environment={"DRAGGAN_STATE": str(state), "TMPDIR": str(scratch)})
    ended = threading.Event()
    with server as process:
        Visitor(port, "127.0.0.1").call("picture", "cat", 1, None, 0)
        clients = Clients(port, time.monotonic() + seconds)

        def end() -> None:
            ended.set()
            process.kill()

        if kill:
            timer = threading.Timer(seconds / 2, end)
            timer.start()
        clients.run(killed=ended.is_set)
    files = [path for path in state.rglob("*") if path.is_file()]
    odd = [path.name for path in files if path.name not in _KEPT]
    record = AuditLog(state / "audit.sqlite")
    left = [*server.left, *(str(path) for path in scratch.rglob("*"))]
    shutil.rmtree(scratch)
    return clients, left, odd, record, sum(path.stat().st_size for path in files) / 1e6


def main(argv: Sequence[str] | None = None) -> int:
    """Run both rounds; the tables go to standard output, and into a file with ``--out``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="twenty seconds")
    parser.add_argument("--seconds", type=float, default=180.0, help="how long (default: %(default)g)")
    parser.add_argument("--port", type=int, default=7985)
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args(argv)
    seconds = 20.0 if options.quick else options.seconds
    here = machine.describe()
    columns, counts = [], Counter[str]()
    failures: list[str] = []
    for title, kill, length in (("ended by SIGTERM", False, seconds), ("killed at work", True, min(seconds, 40.0))):
        clients, left, odd, record, megabytes = _round(options.port, length, kill=kill)
        counts += clients.done
        said = record.verify()
        recorded = {row.facts.get("sha256") for row in record.rows(last=1_000_000) if row.event == "export"}
        lost = [how for digest, how in clients.files.items() if digest not in recorded]
        record.purge(everything=True)
        again = record.verify()
        columns.append(
            {
                "server": f"{title}, after {length / (2 if kill else 1):.0f} s",
                "files that have arrived": str(len(clients.files)),
                "of them not on record": str(len(lost)),
                "rows of the record": str(said.rows),
                "the chain": "whole" if said.is_valid else "; ".join(said.problems),
                "the chain, all details erased": "whole" if again.is_valid else "; ".join(again.problems),
                "temporary files left": "not counted: it was killed" if kill else str(len(left)),
                "other files left in the state folder": str(len(odd)) + (f" ({', '.join(odd[:5])})" if odd else ""),
                "record and keys on the disk": f"{megabytes:.2f} MB",
                "errors of the clients": str(len(clients.errors)),
            }
        )
        failures += clients.errors[:5] + lost[:5]
        record.close()
    rows = [[name, *(column[name] for column in columns)] for name in columns[0] if name != "server"]
    lines = [
        "# Eight clients who save",
        "",
        "`python -m benchmarks soak`; see benchmarks/soak.py for who does what.",
        "",
        f"{here.markdown()}.",
        "",
        table(["", *(column["server"] for column in columns)], rows),
        *(f"- {failure}" for failure in failures),
        "",
        "What they did, in both rounds: " + ", ".join(f"{what} {n}" for what, n in sorted(counts.items())) + ".",
    ]
    publish("\n".join(lines), options.out)
    return 0
