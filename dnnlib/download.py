"""Fetch a file over https: resumed where it stopped, verified, and under its name only once it is whole.

The standard library is all it needs. A download goes into ``NAME.part`` (with ``NAME.part.json`` beside it, which says
what it is a part of); length and SHA-256 are checked; then it is renamed. A digest that nobody published is remembered
on first use (`pins`), so that a file which changes later is noticed and refused.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from dnnlib.cache import replacing
from draggan.errors import DownloadError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Progress", "check_url", "download", "mirrors", "remote_size", "sha256_of"]

# Bytes done and bytes in all (None: unknown). What it raises cancels the download and reaches the caller.
Progress = Callable[[int, "int | None"], None]

MAX_REDIRECTS = 5
# The largest published model takes 0.4 GB.
MAX_BYTES = 8 << 30
CHUNK = 1 << 18
# Left free on the disk beyond the file itself.
SPARE_BYTES = 64 << 20
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
_REDIRECTS = (301, 302, 303, 307, 308)


class _Refused(Exception):
    """This address will not give the file; another one may."""


class _Interrupted(Exception):
    """The connection failed; trying again may go on from here."""


class _Unreachable(_Interrupted):
    """No connection at all."""


def check_url(url: str, *, allow_local_http: bool = False) -> str:
    """The URL itself, if it may be fetched.

    Raises:
        DownloadError: it is not https (plain http can be changed on its way; what it sends is a model to be loaded).
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise DownloadError(f"{url!r} is no URL: {error}") from error
    if not url.isascii() or any(c <= " " for c in url):
        raise DownloadError(f"{url!r} is no URL: spaces and letters beyond ASCII are written as %20 and so on")
    local = allow_local_http and parts.scheme == "http" and host in _LOCAL_HOSTS
    if not host or not (parts.scheme == "https" or local):
        raise DownloadError(f"{url} is not fetched: only https addresses are. Download it yourself and open the file")
    if parts.username or parts.password:
        raise DownloadError(f"the address of {host} holds a password; such addresses are not fetched")
    return url


def mirrors(url: str) -> list[str]:
    """Where to look for a file, in order: the mirrors a person has set, then the address itself.

    ``DRAGGAN_MIRROR``: folders (comma-separated https addresses) that hold files under their published names.
    ``HF_ENDPOINT``: stands in for https://huggingface.co, as it does for Hugging Face's own tools.
    """
    name = urlsplit(url).path.rsplit("/", 1)[-1]
    folders = [folder.strip() for folder in os.environ.get("DRAGGAN_MIRROR", "").split(",") if folder.strip()]
    found = [f"{folder.rstrip('/')}/{name}" for folder in folders]
    hub, endpoint = "https://huggingface.co", os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if endpoint and url.startswith(hub + "/"):
        found.append(endpoint + url[len(hub) :])
    return list(dict.fromkeys([*found, url]))


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def remote_size(urls: Sequence[str], *, timeout: float = 5.0, allow_local_http: bool = False) -> int | None:
    """Bytes of the file at the first address that tells, without fetching it; None if none does."""
    for url in urls:
        try:
            check_url(url, allow_local_http=allow_local_http)
            with _open(url, {}, timeout=timeout, allow_local_http=allow_local_http, method="HEAD") as response:
                length = response.headers.get("Content-Length", "")
                if response.headers.get_content_type() != "text/html" and length.isdecimal() and len(length) < 16:
                    return int(length)
        except (_Refused, _Interrupted, DownloadError):
            continue
    return None


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
    """Fetch a file from the first address that has it.

    Several processes may ask for the same file: one fetches, the others wait for it.

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
    name = destination.name
    fetcher = _Fetcher(destination, size, timeout, allow_local_http, progress)
    with _on_disk(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
    failures: list[tuple[str, Exception]] = []
    with _exclusive(destination, fetcher.report_waiting):
        if destination.exists():
            return destination
        for url in urls:
            try:
                check_url(url, allow_local_http=allow_local_http)
            except DownloadError as error:
                failures.append((url, error))
                continue
            try:
                digest = _persist(fetcher, url, attempts, pause)
                _verify(name, fetcher, digest, sha256, Path(pins) if pins else None)
            except (_Refused, _Interrupted) as error:
                failures.append((url, error))
                continue
            with _on_disk(destination):
                os.replace(fetcher.part, destination)
                fetcher.note.unlink(missing_ok=True)
            return destination
    raise DownloadError(_explain(name, failures, fetcher, advice))


def _explain(name: str, failures: list[tuple[str, Exception]], fetcher: _Fetcher, advice: str) -> str:
    """What to tell a person, one sentence per address."""
    if not failures:
        return f"{name} has no address to download it from. {advice}".strip()
    told = "; ".join(f"{urlsplit(url).hostname or url}: {error}" for url, error in failures)
    message = f"{name} was not downloaded. {told}."
    if all(isinstance(error, _Unreachable) for _, error in failures):
        message += " Is this machine offline? The built-in models work without a network."
    if fetcher.have():
        message += f" The {fetcher.have():,} bytes that came are kept; trying again goes on from there."
    return f"{message} {advice}".strip()


def _verify(name: str, fetcher: _Fetcher, digest: str, sha256: str | None, pins: Path | None) -> None:
    """Compare the digest with the published or remembered one; remember it if there is neither."""
    if sha256 is not None:
        if digest != sha256.lower():
            fetcher.discard()
            raise _Refused(f"the file has SHA-256 {digest} where {sha256.lower()} is expected; it was thrown away")
        return
    if pins is None:
        return
    with _exclusive(pins, lambda: None), _on_disk(pins):
        pinned = _read_json(pins)
        known = pinned.get(name)
        if known is None:
            pinned[name] = {"sha256": digest, "bytes": fetcher.have()}
            with replacing(pins) as temporary:
                temporary.write_text(json.dumps(pinned, indent=1, sort_keys=True), "utf-8")
            return
    expected = known.get("sha256") if isinstance(known, dict) else None
    if digest != expected:
        fetcher.discard()
        raise _Refused(
            f"the file has changed since it was first downloaded (SHA-256 {digest}, then {expected}) and was thrown "
            f"away; if the change is meant, remove '{name}' from {pins}"
        )


def _persist(fetcher: _Fetcher, url: str, attempts: int, pause: float) -> str:
    """Fetch from one address, going on after lost connections; returns the SHA-256."""
    failed = 0
    while True:
        before = fetcher.have()
        try:
            return fetcher.fetch(url)
        except _Interrupted:
            # A server that cuts every connection short still gets us there, as long as each brings something.
            failed = 0 if fetcher.have() - before >= CHUNK else failed + 1
            if failed >= attempts:
                raise
        end = time.monotonic() + min(pause * 2 ** max(failed - 1, 0), 30)
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            fetcher.report(fetcher.have(), None)


class _Fetcher:
    """The state of one download: its part on disk and how to add to it."""

    def __init__(
        self, destination: Path, size: int | None, timeout: float, allow_local_http: bool, progress: Progress | None
    ) -> None:
        self.part = destination.with_name(destination.name + ".part")
        # What the part is a part of: address, validator (ETag or date) and full length.
        self.note = destination.with_name(destination.name + ".part.json")
        self.size, self.timeout, self.allow_local_http = size, timeout, allow_local_http
        self._progress = progress

    def have(self) -> int:
        """Bytes on disk."""
        return self.part.stat().st_size if self.part.exists() else 0

    def report(self, done: int, total: int | None) -> None:
        if self._progress is not None:
            self._progress(done, total if total is not None else self.size)

    def report_waiting(self) -> None:
        self.report(self.have(), None)

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def fetch(self, url: str) -> str:
        """One connection: add what is missing to the part and return the SHA-256 of the whole."""
        note = self._read_note(url)
        have = self.have() if note else 0
        response = self._resume(url, have, note) if have else None
        if response is None:
            response = self._open(url, {})
        if response.status != 206:
            have = 0
        with response:
            length = response.headers.get("Content-Length", "")
            total = have + int(length) if length.isdecimal() and len(length) < 16 and not response.chunked else None
            self._check_offer(response, total, have)
            digest = hashlib.sha256()
            with _on_disk(self.part):
                if not have:
                    self._write_note(url, response, total)
                file = open(self.part, "r+b" if have else "wb", buffering=0)  # noqa: SIM115 - closed below
            with file:
                if have:
                    _feed(digest, file)
                self._copy(response, file, digest, have, total)
                with _on_disk(self.part):
                    os.fsync(file.fileno())
        return digest.hexdigest()

    def _copy(
        self, response: http.client.HTTPResponse, file: IO[bytes], digest: Any, done: int, total: int | None
    ) -> None:
        expected = total if total is not None else self.size
        self.report(done, expected)
        while chunk := self._read(response):
            if not done and _is_html(chunk):
                self.discard()
                raise _Refused(_HTML_MESSAGE)
            done += len(chunk)
            if done > (self.size or MAX_BYTES):
                self.discard()
                raise _Refused(f"it sends more than the {self.size or MAX_BYTES:,} bytes expected")
            with _on_disk(self.part):
                file.write(chunk)
            digest.update(chunk)
            self.report(done, expected)
        if done < (expected or 0):
            raise _Interrupted(f"the connection ended after {done:,} of {expected or 0:,} bytes")
        if not done:
            self.discard()
            raise _Refused("it sends an empty file")

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        # read1 returns what is there, so that a slow server can be cancelled between two packets.
        with _translated(self.timeout):
            return response.read1(CHUNK)

    def _resume(self, url: str, have: int, note: dict[str, Any]) -> http.client.HTTPResponse | None:
        """A response that goes on from ``have`` (status 206) or brings the whole; None if neither came of asking."""
        headers = {"Range": f"bytes={have}-"}
        if note["validator"]:
            headers["If-Range"] = note["validator"]
        try:
            response = self._open(url, headers)
        except _Refused:
            # Whatever it has against the rest (416: the part is no shorter than the file), it may give the whole.
            return None
        if response.status != 206:
            return response
        range_ = response.headers.get("Content-Range", "")
        # Without a validator, an unchanged length is all there is to go by; the digest decides in the end.
        same = note["validator"] or range_.rpartition("/")[2] == str(note["total"])
        if same and range_.startswith(f"bytes {have}-"):
            return response
        response.close()
        return None

    def _open(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        return _open(url, headers, timeout=self.timeout, allow_local_http=self.allow_local_http)

    def _check_offer(self, response: http.client.HTTPResponse, total: int | None, have: int) -> None:
        """Refuse what cannot be the file before anything is written."""
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise _Refused(_HTML_MESSAGE)
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise _Refused(f"it sends the file in the encoding '{encoding[:20]}', which was not asked for")
        if total is None:
            return
        if self.size is not None and total != self.size:
            self.discard()
            raise _Refused(f"it offers a file of {total:,} bytes where {self.size:,} are expected; it is another file")
        if total > MAX_BYTES:
            raise _Refused(f"it offers {total:,} bytes; more than {MAX_BYTES:,} are not fetched")
        free = shutil.disk_usage(self.part.parent).free
        if total - have + SPARE_BYTES > free:
            raise DownloadError(
                f"{total - have:,} bytes are needed in {self.part.parent} and {free:,} are free; "
                "free some space, or set DRAGGAN_HOME to a folder on another disk"
            )

    def _read_note(self, url: str) -> dict[str, Any]:
        """What the part on disk belongs to; empty if it is of no use for this address."""
        try:
            note = json.loads(self.note.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        good = isinstance(note, dict) and note.get("url") == url and {"validator", "total"} <= set(note)
        # Without validator and length nothing would tell a changed file from the old one.
        return note if good and (note["validator"] or note["total"]) else {}

    def _write_note(self, url: str, response: http.client.HTTPResponse, total: int | None) -> None:
        etag = response.headers.get("ETag", "")
        # A weak ETag may stand for different bytes.
        validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
        self.note.write_text(json.dumps({"url": url, "validator": validator, "total": total}), "utf-8")


def _open(
    url: str, headers: dict[str, str], *, timeout: float, allow_local_http: bool, method: str = "GET"
) -> http.client.HTTPResponse:
    """A successful response, redirects followed and checked."""
    headers = {"User-Agent": "draggan", "Accept-Encoding": "identity", **headers}
    for _ in range(MAX_REDIRECTS + 1):
        local = urlsplit(url).hostname in _LOCAL_HOSTS
        request = urllib.request.Request(url, headers=headers, method=method)
        with _translated(timeout):
            try:
                return _opener(local).open(request, timeout=timeout)
            except urllib.error.HTTPError as error:
                with error:
                    target = error.headers.get("Location")
                    if error.code not in _REDIRECTS or not target:
                        raise _status_error(error.code) from error
        try:
            url = check_url(urljoin(url, target), allow_local_http=allow_local_http)
        except (DownloadError, ValueError) as error:
            raise _Refused(f"it redirects to an address that is not fetched ({error})") from error
    raise _Refused(f"it redirects more than {MAX_REDIRECTS} times")


_HTML_MESSAGE = "it sends a web page instead of the file (a login, consent or error page)"


def _is_html(start: bytes) -> bool:
    head = start[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return head.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))


def _status_error(code: int) -> Exception:
    meaning = {
        401: "it asks for a login (401)",
        403: "it refuses access (403); the file may need a licence accepted in a browser",
        404: "the file is not there (404)",
        410: "the file is gone (410)",
        416: "it does not have that part of the file (416)",
    }
    if code in (408, 429) or code >= 500:
        return _Interrupted(f"the server is busy or broken ({code})")
    return _Refused(meaning.get(code, f"it answers with status {code}"))


def _opener(local: bool) -> urllib.request.OpenerDirector:
    """http and https only (urllib's own would open file: and ftp: too), redirects left to us, proxies respected."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler({} if local else None),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


@contextlib.contextmanager
def _translated(timeout: float) -> Iterator[None]:
    """The network's errors as ours."""
    try:
        yield
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise _Refused(
                f"its certificate cannot be verified ({reason.verify_message}); check the clock of this machine, "
                "or set SSL_CERT_FILE to your organisation's certificates"
            ) from error
        if isinstance(reason, socket.gaierror):
            raise _Unreachable("its address cannot be looked up") from error
        if isinstance(reason, TimeoutError):
            raise _Unreachable(f"it did not answer within {timeout:g} s") from error
        raise _Unreachable(f"no connection ({reason})") from error
    except TimeoutError as error:
        raise _Interrupted(f"nothing came for {timeout:g} s") from error
    except (http.client.HTTPException, OSError) as error:
        raise _Interrupted(f"the connection broke ({error or type(error).__name__})") from error


@contextlib.contextmanager
def _on_disk(path: Path) -> Iterator[None]:
    """The disk's errors as ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            message = f"the disk that holds {path.parent} is full; free some space and try again"
        else:
            message = f"cannot write {path}: {error.strerror or error}; set DRAGGAN_HOME to a folder you can write to"
        raise DownloadError(message) from error


@contextlib.contextmanager
def _exclusive(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the right to write ``path``, among threads and processes; ``waiting`` is called while another one has it."""
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with _on_disk(lock):
            file = open(lock, "ab")  # noqa: SIM115 - closed below
        with file:
            while not _try_lock(file):
                waiting()
                time.sleep(0.1)
            # The one who had it removed the file: somebody else may hold a new one of that name.
            if not _same_file(file, lock):
                continue
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    lock.unlink()
            return


def _same_file(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            # A file system without locks (some network shares): better unlocked than not at all.
            return True
        return True


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty if there is none."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DownloadError(f"{path} is damaged ({error}); remove it and try again") from error
    return value if isinstance(value, dict) else {}


def _feed(digest: Any, file: IO[bytes]) -> None:
    while chunk := file.read(1 << 20):
        digest.update(chunk)
