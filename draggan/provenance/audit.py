"""A record of what has left this installation: rows that are chained by their hashes, with details that can be erased.

Every row holds the hash of the one before it (Haber and Stornetta, "How to time-stamp a digital document", 1991), so
that none can be changed or taken out unnoticed. The end of a chain can be cut off unnoticed, unless its *head* (number
and hash of the last row) is remembered elsewhere: beside the record, in the content credentials of every export, or by
whoever has printed it. What may have to be erased stands beside its row with a random salt. The row holds only a
commitment to it, HMAC-SHA256 with that salt; without salt and text, nobody can find out what it was, and the chain is
valid as before.

Never recorded: pixels, addresses, names of files, EXIF, latent codes of photographs. What is recorded consists of
hashes, counts, words from closed lists and a random name of a visit; anything else is refused here.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from dnnlib.private_files import write_private
from draggan.errors import AuditError
from draggan.recipe import Recipe

__all__ = ["AuditLog", "Export", "Head", "Recorded", "Row", "Verification"]

log = logging.getLogger(__name__)

Fact: TypeAlias = "str | int | bool | None"

_VERSION = 1
_START = "0" * 64  # what the first row is chained to
_HASH = re.compile(r"[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]{0,64}")
# No dots, colons or slashes: neither an address nor the name of a file is a word.
_WORD = re.compile(r"[a-z][a-z0-9 _-]{0,39}")
_BUSY = 30.0  # seconds to wait for another process that writes
_PURGE_EVERY = 3600.0  # seconds
_PURGE_AGAIN = 60.0  # seconds, where somebody was reading
_PATIENCE = 1.0  # seconds for which whoever records something waits for those who read
_MAKING = threading.Lock()  # no two of one process make a record at once
_SCHEMA = """
CREATE TABLE IF NOT EXISTS chain (
    number INTEGER PRIMARY KEY, body TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS details (
    number INTEGER PRIMARY KEY, salt BLOB NOT NULL, body TEXT NOT NULL, expires INTEGER NOT NULL);
CREATE TRIGGER IF NOT EXISTS rows_stay BEFORE UPDATE ON chain BEGIN SELECT RAISE(ABORT, 'rows stay as they are'); END;
"""


@dataclass(frozen=True)
class Head:
    """The last row of a chain.

    Attributes:
        number: of the row, from 1.
        hash: of the row, 64 hexadecimal digits.
    """

    number: int
    hash: str

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"

    @classmethod
    def read(cls, text: str) -> Head:
        """From the form that `str` gives.

        Raises:
            AuditError: it has another form.
        """
        number, _, digest = text.strip().partition(":")
        if not number.isascii() or not number.isdecimal() or not 0 < len(number) < 16 or not _HASH.fullmatch(digest):
            raise AuditError(
                f"'{text[:80]}' is not the head of a record; give one as 'audit head' prints it, NUMBER:HASH"
            )
        return cls(int(number), digest)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row.

    Attributes:
        number: from 1.
        minute: when, in seconds since 1970 (UTC), cut off to the minute.
        event: what happened, such as "export".
        facts: what is recorded of it for good.
        details: what can be erased; None: there was nothing, or it was erased.
    """

    number: int
    minute: int
    event: str
    facts: Mapping[str, Fact]
    details: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Export:
    """A file that leaves.

    Attributes:
        sha256: of the file, 64 hexadecimal digits.
        kind: of file, such as "png".
        recipe: how it was made. Its hash and that of the model are recorded; seed, points and settings are details.
        watermark: number in the invisible mark, hexadecimal; None: it has none.
        credentials: what became of the content credentials, such as "signed".
        verdict: code of the moderation's.
        door: what asked for it: "page", "api", "command line", "batch" or "python".
        visit: its random name, hexadecimal; empty: it was none.
    """

    sha256: str
    kind: str
    recipe: Recipe | None
    watermark: str | None
    credentials: str
    verdict: str
    door: str
    visit: str = ""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What whoever has a file may be told of the row of its export: not the visit, nor any of the details.

    Attributes:
        minute: when it left, in seconds since 1970 (UTC), cut off to the minute.
        kind: of file, such as "png".
        model: name of the model that has drawn it, where that is known here; else empty.
        same_file: whether it is the very file; else only its invisible mark is the one.
    """

    minute: int
    kind: str
    model: str
    same_file: bool


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a look at the whole chain has found.

    Attributes:
        rows: how many there are.
        head: the last one; None: there is none.
        erased: rows whose details were erased.
        problems: what is wrong, one sentence each; empty: nothing.
    """

    rows: int
    head: Head | None
    erased: int
    problems: tuple[str, ...]

    @property
    def is_valid(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


class AuditLog:
    """The record in one file, for any number of threads and processes.

    Args:
        path: of an SQLite database, made with the first row, readable by its owner only.
        keep: how long details are kept, seconds.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, *, keep: float = 30 * 86400.0, clock: Callable[[], float] = time.time) -> None:
        self.path, self._keep, self._clock = path, keep, clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # which file the connection is to
        self._purged = 0.0

    # What is recorded

    def record_start(self, *, public: bool, moderator: str) -> Head:
        """A page is served from now on.

        Args:
            public: whether others than this machine's own user can reach it.
            moderator: the name of what looks at pictures, "none" without one.
        """
        return self._append("start", {"public": public, "moderator": _word(moderator)})

    def record_consent(self, *, text: str, visit: str) -> Head:
        """Somebody has agreed to something.

        Args:
            text: which text, in which version, such as "upload 1".
            visit: its random name, hexadecimal; "session" in the rows, as it was called when the first were written.
        """
        return self._append("consent", {"text": _word(text), "session": _hex(visit)})

    def record_upload(self, *, what: str, sha256: str, verdict: str, visit: str) -> Head:
        """A file was uploaded and read.

        Args:
            what: "model" or "photo".
            sha256: of the file. Only a commitment is kept: a hash would tell whoever has the file that it was here.
            verdict: code of the moderation's.
            visit: as for `record_consent`.
        """
        facts = {"what": _word(what), "verdict": _word(verdict), "session": _hex(visit)}
        return self._append("upload", facts, {"sha256": _hex(sha256)})

    def record_export(self, export: Export) -> Head:
        """A file leaves. Returns once the row is on the disk.

        Raises:
            AuditError: the row could not be written.
        """
        recipe, watermark = export.recipe, export.watermark
        from_seed = recipe is not None and recipe.seed is not None
        facts: dict[str, Fact] = {
            "sha256": _hex(export.sha256),
            "kind": _word(export.kind),
            # The plain hash of a photograph's code would tell whoever has the photograph that it was here.
            "recipe": recipe.digest if recipe is not None and from_seed else None,
            "model": None if recipe is None else _hex(recipe.model.sha256),
            "watermark": None if watermark is None else _hex(watermark),
            "credentials": _word(export.credentials),
            "verdict": _word(export.verdict),
            "door": _word(export.door),
            "session": _hex(export.visit),
        }
        return self._append("export", facts, None if recipe is None else _how_it_was_made(recipe))

    def record_verdict(self, *, stage: str, decision: str, code: str, moderator: str, item: str = "") -> Head:
        """The moderation has held something back.

        Args:
            stage: "upload" or "export".
            decision: "review" or "refuse".
            code: why.
            moderator: who says so.
            item: number of what waits for a person, hexadecimal.
        """
        facts = {"stage": _word(stage), "decision": _word(decision), "code": _word(code), "moderator": _word(moderator)}
        return self._append("verdict", {**facts, "item": _hex(item)})

    def record_decision(self, *, item: str, decision: str, why: str) -> Head:
        """A person has decided about something that waited.

        Args:
            item: its number.
            decision: "approve" or "refuse".
            why: in the person's own words; a detail.
        """
        return self._append("decision", {"item": _hex(item), "decision": _word(decision)}, {"why": why[:1000]})

    def purge(self, *, everything: bool = False, patience: float = _BUSY) -> int:
        """Erase details whose time is over, or all; returns how many rows lost theirs. The chain stays valid.

        Args:
            patience: seconds to wait for other programs that read the record; nothing is recorded meanwhile.

        Raises:
            AuditError: they could not be erased.
        """
        if not self.path.exists():
            return 0
        with self._writing() as database:
            erased = self._purge(database, everything=everything)
        if erased:
            self._keep_head()
        # Also where nothing was erased now: what was erased before may live there still.
        if not self._empty_recent_changes(patience):
            raise AuditError(
                f"details of {erased} rows are erased, but their text stays in {self.path.name}-wal for as long as "
                "somebody reads the record; erase once more when that has ended"
            )
        return erased

    # Reading it

    def head(self) -> Head | None:
        """The last row; None: there is none yet.

        Raises:
            AuditError: the file cannot be read.
        """
        if not self.path.exists():
            return None
        with self._reading() as database:
            return _last(database)

    def rows(self, *, last: int) -> list[Row]:
        """The last rows, the oldest of them first.

        Raises:
            AuditError: the file cannot be read.
        """
        if not self.path.exists():
            return []
        with self._reading() as database:
            found = database.execute(
                "SELECT chain.number, chain.body, details.body FROM chain LEFT JOIN details USING (number) "
                "ORDER BY number DESC LIMIT ?",
                (last,),
            )
            return [_row(*values) for values in reversed(found.fetchall())]

    def find_export(self, *, sha256: str, watermark: str | None = None) -> Row | None:
        """The row of a file: of that hash, else the last one with that number in its invisible mark.

        Args:
            sha256: of the file.
            watermark: hexadecimal; None: no number is known.

        Raises:
            AuditError: the file cannot be read.
        """
        if not self.path.exists():
            return None
        with self._reading() as database:
            for name, value in (("sha256", sha256), ("watermark", watermark)):
                if not value:
                    continue
                # Bodies have one form only, and what is looked for has no letter that means something to LIKE.
                found = database.execute(
                    "SELECT chain.number, chain.body, details.body FROM chain LEFT JOIN details USING (number) "
                    "WHERE chain.body LIKE ? ORDER BY number DESC LIMIT 20",
                    (f'%"{name}":"{_hex(value)}"%',),
                )
                for row in (_row(*values) for values in found):
                    if row.event == "export" and row.facts.get(name) == value:
                        return row
        return None

    def verify(self, remembered: Iterable[Head] = ()) -> Verification:
        """Look at the whole chain.

        Args:
            remembered: heads that it had at some time; that which is kept beside the file is one of them anyway.

        Raises:
            AuditError: the file is no longer a database at all.
        """
        known = [*remembered, *self._kept_head()]
        hashes: dict[int, str] = {}
        problems: list[str] = []
        erased, previous = 0, _START
        for number, body, before, digest, salt, details in self._chained():
            what, lost = _problem_of(number, len(hashes) + 1, body, before, previous, digest, salt, details)
            if what:
                problems.append(what)
                break
            erased += lost
            hashes[number] = previous = digest
        if not problems:
            for head in known:
                if head.number not in hashes:
                    problems.append(f"Row {head.number} was there and is not: the record was cut off, or begun anew.")
                elif hashes[head.number] != head.hash:
                    problems.append(f"Row {head.number} was another one: the record was written anew.")
        last = max(hashes, default=0)
        return Verification(
            rows=len(hashes),
            head=Head(last, hashes[last]) if last else None,
            erased=erased,
            problems=tuple(dict.fromkeys(problems)),
        )

    def _chained(self) -> Iterator[Any]:
        """All that is on the disk, row by row; nothing where there is no file."""
        if self.path.exists():
            with self._reading() as database:
                # One statement sees one state of the file, whoever writes meanwhile.
                yield from database.execute(
                    "SELECT chain.number, chain.body, previous, hash, salt, details.body "
                    "FROM chain LEFT JOIN details USING (number) ORDER BY number"
                )

    def close(self) -> None:
        """Let go of the file; it is opened again when it is needed."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # Writing it

    def _append(self, event: str, facts: Mapping[str, Fact], details: Mapping[str, Any] | None = None) -> Head:
        now = self._clock()
        with self._writing() as database:
            is_due = now - self._purged > _PURGE_EVERY
            if is_due:
                self._purge(database, everything=False)
                self._purged = now
            head = _chain(database, now, event, facts, details, expires=now + self._keep)
        self._keep_head(head)
        if is_due:
            try:
                done = self._empty_recent_changes(_PATIENCE)
            except AuditError as error:  # the row is on the disk all the same
                log.warning("%s", error)
                done = False
            if not done:
                self._purged = now - _PURGE_EVERY + _PURGE_AGAIN
        return head

    def _purge(self, database: sqlite3.Connection, *, everything: bool) -> int:
        now = self._clock()
        erased = database.execute("DELETE FROM details WHERE expires < ? OR ?", (now, everything)).rowcount
        if erased:
            _chain(database, now, "purge", {"erased": erased}, None, expires=now)
        return erased

    def _empty_recent_changes(self, patience: float) -> bool:
        """Empty the file of recent changes, in which what was deleted goes on living. False: somebody reads it for
        longer than so many seconds."""
        with self._lock, self._translated():
            database = self._open()
            database.execute(f"PRAGMA busy_timeout={int(1000 * patience)}")
            try:
                is_busy, *_ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                database.execute(f"PRAGMA busy_timeout={int(1000 * _BUSY)}")
        return not is_busy

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on the disk at the end, or has left nothing behind."""
        with self._lock, self._translated():
            database = self._open()
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own: nobody who records waits for somebody who reads all of it."""
        with self._translated():
            with self._lock:
                if self._connection is None:
                    self._open()  # which makes the tables
            uri = f"{self.path.absolute().as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY, isolation_level=None)) as database:
                yield database

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._opened != _which(self.path):
            # SQLite would go on writing into the file that nobody finds any more.
            self._connection.close()
            self._connection = None
            raise AuditError(
                f"the record of exports ({self.path.name}) was taken away, or another one put in its place, while it "
                "was in use; what is recorded from now on goes into the one that is there. End all programs that use "
                "it before its folder is moved or restored"
            )
        if self._connection is None:
            self._make()
            database = sqlite3.connect(self.path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
            try:
                _prepare(database)
            except BaseException:
                database.close()
                raise
            self._connection, self._opened = database, _which(self.path)
        return self._connection

    def _make(self) -> None:
        """An empty file that only its owner can read, where there is none; what SQLite makes beside it gets its rights.

        Never opens a file that is there: whoever closes it gives up all locks that this process has on it (POSIX),
        those of other connections, too. Another process would then take itself for the only one, and delete the file
        of recent changes, into which this one goes on writing.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _MAKING, contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise AuditError(
                f"the record of exports ({self.path.name}) cannot be read or written: {error}; see that its folder is "
                "there, writable, and not full, or set DRAGGAN_STATE to another one"
            ) from error

    # The head, kept beside it

    @property
    def _head_path(self) -> Path:
        return self.path.with_suffix(".head")

    def _keep_head(self, head: Head | None = None) -> None:
        """Remember the head. It may lag behind the chain, never run ahead of it."""
        try:
            head = head or self.head()
            if head is not None:
                write_private(self._head_path, f"{head}\n".encode())
        except OSError as error:
            log.warning("the head of the record of exports could not be kept: %s", error.strerror)

    def _kept_head(self) -> list[Head]:
        try:
            return [Head.read(self._head_path.read_text(encoding="ascii", errors="replace"))]
        except (OSError, AuditError):
            return []


def _which(path: Path) -> tuple[int, int] | None:
    """Which file has that path; None: none. Opens nothing, so that no lock is lost."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _prepare(database: sqlite3.Connection) -> None:
    """Make the tables, where they are not there."""
    until = time.monotonic() + _BUSY
    while True:
        try:
            # FULL: a row that was acknowledged survives a loss of power.
            database.executescript(
                f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON; {_SCHEMA}"
            )
            return
        except sqlite3.OperationalError as error:
            # Where another one changes the same new file to WAL, SQLite does not wait by itself.
            if "locked" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(0.05)


def _last(database: sqlite3.Connection) -> Head | None:
    row = database.execute("SELECT number, hash FROM chain ORDER BY number DESC LIMIT 1").fetchone()
    return None if row is None else Head(*row)


def _chain(
    database: sqlite3.Connection,
    now: float,
    event: str,
    facts: Mapping[str, Fact],
    details: Mapping[str, Any] | None,
    *,
    expires: float,
) -> Head:
    last = _last(database)
    number, previous = (1, _START) if last is None else (last.number + 1, last.hash)
    values = {"version": _VERSION, "number": number, "minute": int(now // 60) * 60, "event": event, "facts": facts}
    if details is not None:
        salt, text = secrets.token_bytes(16), _exact(details)
        values["details"] = _commitment(salt, text)
        database.execute("INSERT INTO details VALUES (?, ?, ?, ?)", (number, salt, text, int(expires)))
    body = _exact(values)
    head = Head(number, _hash(previous, body))
    database.execute("INSERT INTO chain VALUES (?, ?, ?, ?)", (number, body, previous, head.hash))
    return head


def _problem_of(
    number: int, due: int, body: Any, before: Any, previous: str, digest: Any, salt: Any, details: Any
) -> tuple[str, bool]:
    """What is wrong with a row, as a sentence; and whether its details were erased."""
    if number != due:
        return f"Row {due} is missing.", False
    if not isinstance(body, str) or before != previous or digest != _hash(previous, body):
        return f"Row {number} was changed, or one before it taken out.", False
    try:
        values = json.loads(body)
        named, commitment = values["number"], values.get("details")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"Row {number} cannot be read.", False
    if named != number:
        return f"Row {number} stands in another one's place.", False
    if details is None:
        return "", commitment is not None
    if not isinstance(salt, bytes) or not isinstance(details, str) or _commitment(salt, details) != commitment:
        return f"The details of row {number} were changed.", False
    return "", False


def _row(number: int, body: str, details: str | None) -> Row:
    try:
        values = json.loads(body)
        return Row(
            number=number,
            minute=values["minute"],
            event=values["event"],
            facts=values["facts"],
            details=None if details is None else json.loads(details),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise AuditError(f"row {number} of the record of exports cannot be read; run 'audit verify'") from error


def _exact(values: Mapping[str, Any]) -> str:
    """The one text for these values."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _hash(previous: str, body: str) -> str:
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()


def _commitment(salt: bytes, text: str) -> str:
    return hmac.new(salt, text.encode(), hashlib.sha256).hexdigest()


def _how_it_was_made(recipe: Recipe) -> dict[str, Any]:
    """Details of a recipe. No latent code: that of a photograph is as good as the photograph."""
    seed = recipe.seed
    start = None if seed is None else {"seed": seed.seed, "truncation": seed.truncation, "class": seed.label}
    edits = [
        {
            "points": [[*point.handle, *point.target] for point in edit.points],
            "masked": edit.mask is not None,
            "by hand": edit.by_hand,
            "space": edit.space,
            "settings": dict(edit.settings),
        }
        for edit in recipe.edits
    ]
    return {"recipe": recipe.digest, "start": start, "edits": edits}


def _word(text: str) -> str:
    if not _WORD.fullmatch(text):
        raise AuditError(f"'{text[:40]}' is not recorded: small letters, digits, blanks and hyphens only, at most 40")
    return text


def _hex(text: str) -> str:
    if not _HEX.fullmatch(text):
        raise AuditError(f"'{text[:40]}' is not recorded: at most 64 hexadecimal digits only")
    return text
