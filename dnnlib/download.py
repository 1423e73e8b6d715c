"""Fetch a file over https: resumed where it stopped, verified, and under its name only once it is whole.

A download goes into ``NAME.part`` (``NAME.part.json`` says what it is a part of); length and SHA-256 are checked; then
it is renamed. A digest that nobody published is remembered on first use (`pins`), so that a later change is noticed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dnnlib.digests import first_digest, sha256_of
from dnnlib.disk import check_space, exclusive, writing
from dnnlib.errors import ConnectionLostError, DownloadError, RefusedError
from dnnlib.http import content_length, is_web_page, opened, pieces, stated_by_hub

if TYPE_CHECKING:
    import httpx

__all__ = ["Progress", "download"]

# Bytes done and bytes in all (None: unknown). What it raises cancels the download and reaches the caller.
Progress = Callable[[int, "int | None"], None]

MAX_BYTES = 8 << 30  # the largest published model takes 0.4 GB
CHUNK = 1 << 18
_WEB_PAGE = "it sends a web page instead of the file (a login, consent or error page)"


def download(
    urls: Sequence[str],
    destination: str | os.PathLike[str],
    *,
    size: int | None = None,
    sha256: str | None = None,
    pins: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    advice: str = "",
    timeout: float = 30.0,
    attempts: int = 4,
    pause: float = 1.0,
    allow_local_http: bool = False,
) -> Path:
    """Fetch a file from the first address that has it. Of several who ask for the same one, the others wait.

    Args:
        urls: addresses of the same file.
        destination: where the whole file appears.
        size, sha256: what is known of it; None where nothing is.
        pins: JSON file that remembers digests by file name; used where no ``sha256`` is given.
        progress: called with bytes done and in all, at the start and after every piece.
        advice: ends the message of a failure, such as where to get the file by hand.
        timeout: seconds without a byte after which a connection counts as lost.
        attempts: how often in a row a connection may fail without bringing anything before we give up.
        pause: seconds before the second attempt; doubled before each further one.
        allow_local_http: allow plain http to this machine (tests).

    Raises:
        DownloadError: no address gave the whole file unchanged. ``destination`` is untouched then; what a cut-off
            connection brought stays in ``NAME.part`` and the next call goes on from there.
    """
    destination = Path(destination)
    options = {"timeout": timeout, "allow_local_http": allow_local_http}
    part = _Part(destination, size, progress or (lambda done, total: None), options)
    failures: list[tuple[str, DownloadError]] = []
    with writing(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(destination, part.report_waiting):
        if destination.exists():
            return destination
        for url in urls:
            try:
                part.fetch(url, attempts, pause)
                digest, expected = sha256_of(part.path), (sha256 or part.published or "").lower()
                if expected and digest != expected:
                    raise part.refuse(f"the file has SHA-256 {digest} where {expected} is expected; it was thrown away")
                if sha256 is None and pins is not None:
                    first = first_digest(Path(pins), destination.name, digest, part.have())
                    if first != digest:
                        raise part.refuse(
                            f"the file has changed since it was first downloaded (SHA-256 {digest}, then {first}) and "
                            f"was thrown away; if the change is meant, remove '{destination.name}' from {pins}"
                        )
            except (RefusedError, ConnectionLostError) as error:
                failures.append((url, error))
                continue
            with writing(destination):
                os.replace(part.path, destination)
                part.note.unlink(missing_ok=True)
            return destination
    raise DownloadError(f"{_told(destination.name, failures, part.have())} {advice}".strip())


def _told(name: str, failures: Sequence[tuple[str, DownloadError]], have: int) -> str:
    """That a file was not downloaded, and why.

    Args:
        failures: addresses, and what each has failed with.
        have: bytes that came and are kept.
    """
    told = "; ".join(f"{urlsplit(url).hostname or url}: {error}" for url, error in failures)
    message = f"{name} was not downloaded. {told or 'It has no address'}."
    if failures and all(str(error).startswith("no connection") for _, error in failures):
        message += " Is this machine offline? The built-in models work without a network."
    if have:
        message += f" The {have:,} bytes that came are kept; trying again goes on from there."
    return message


class _Part:
    """What has come of a file, on disk, and how to add to it."""

    def __init__(self, whole: Path, size: int | None, progress: Progress, options: dict[str, Any]) -> None:
        self.path = whole.with_name(whole.name + ".part")
        # What the part is a part of: address, validator (ETag or date) and full length.
        self.note = whole.with_name(whole.name + ".part.json")
        self.published: str | None = None  # SHA-256, as the server states it
        self._size, self._progress, self._options = size, progress, options

    def report_waiting(self) -> None:
        self._progress(self.have(), self._size)

    def have(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def refuse(self, reason: str) -> RefusedError:
        """The error to raise; what came is thrown away."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        return RefusedError(reason)

    def fetch(self, url: str, attempts: int, pause: float) -> None:
        """Bring the part to its full length, going on after lost connections."""
        failed = 0
        while True:
            before = self.have()
            try:
                return self._connect(url)
            except ConnectionLostError:
                # A server that cuts every connection short still gets us there, as long as each brings something.
                failed = 0 if self.have() - before >= CHUNK else failed + 1
                if failed >= attempts:
                    raise
            end = time.monotonic() + min(pause * 2 ** max(failed - 1, 0), 30)
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(left, 0.2))
                self.report_waiting()

    def _connect(self, url: str) -> None:
        """One connection; a second one, for the whole, where the rest alone cannot be had."""
        have, validator, total = self.have(), "", None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self.note.read_text("utf-8"))
            if note["url"] == url:
                validator, total = note["validator"], note["total"]
        # Without validator and length nothing would tell a changed file from the old one.
        if have and (validator or total):
            ranged = {"Range": f"bytes={have}-"} | ({"If-Range": validator} if validator else {})
            # Whatever a server has against the rest (416: the part is no shorter than the file), it may give the whole.
            with contextlib.suppress(RefusedError), opened(url, ranged, **self._options) as response:
                if response.status_code != 206:
                    return self._receive(url, response, 0)
                told = response.headers.get("Content-Range", "")
                if told.startswith(f"bytes {have}-") and (validator or told.endswith(f"/{total}")):
                    return self._receive(url, response, have)
        with opened(url, {}, **self._options) as response:
            return self._receive(url, response, 0)

    def _receive(self, url: str, response: httpx.Response, done: int) -> None:
        """Write what comes behind the bytes that are there; refuse what cannot be the file, beforehand if possible."""
        self.published = stated_by_hub(url, response)[1]
        total = None if (length := content_length(response)) is None else done + length
        if is_web_page(response):
            raise RefusedError(_WEB_PAGE)
        if total is not None and self._size not in (None, total):
            raise self.refuse(f"it offers a file of {total:,} bytes where {self._size:,} are expected")
        limit = self._size or MAX_BYTES
        if total is not None and total > limit:
            raise RefusedError(f"it offers {total:,} bytes; more than {limit:,} are not fetched")
        check_space(self.path.parent, (total or done) - done)
        with writing(self.path):
            if not done:
                etag = response.headers.get("ETag", "")
                # A weak ETag may stand for different bytes.
                validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
                self.note.write_text(json.dumps({"url": url, "validator": validator, "total": total}), "utf-8")
            file = open(self.path, "ab" if done else "wb", buffering=0)  # noqa: SIM115 - closed below
        expected = total or self._size
        with file:
            self._progress(done, expected)
            for piece in pieces(response, timeout=self._options["timeout"], largest=CHUNK):
                if not done and is_web_page(response, piece):
                    raise self.refuse(_WEB_PAGE)
                if (done := done + len(piece)) > limit:
                    raise self.refuse(f"it sends more than the {limit:,} bytes expected")
                with writing(self.path):
                    file.write(piece)
                self._progress(done, expected)
            with writing(self.path):
                os.fsync(file.fileno())
        if expected is not None and done < expected:
            raise ConnectionLostError(f"the connection ended after {done:,} of {expected:,} bytes")
        if not done:
            raise self.refuse("it sends an empty file")
