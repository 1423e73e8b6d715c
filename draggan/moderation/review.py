"""Pictures that wait until a person has looked at them.

They lie in one folder, readable by its owner only, and leave it with the decision, or after a week without one: with
the next look at the queue, or the next `ReviewQueue.sweep`, which a page runs every hour. What is kept of a decision,
for 180 days, is a keyed hash of the pixels (HMAC-SHA256; the key lies beside), by which the same picture is recognised
when it comes again, and nothing else could be found out.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dnnlib.private_files import private_file, write_private
from draggan.errors import ModerationError
from draggan.moderation.verdict import Decision, Stage, Subject, Verdict

__all__ = ["ReviewQueue", "Waiting"]

log = logging.getLogger(__name__)

_ID = re.compile(r"[0-9a-f]{12}")
_KEY, _DECISIONS = "key", "decisions"
_MOST_WAITING = 200
_WAIT = 7 * 86400.0  # seconds
_REMEMBER = 180 * 86400.0  # seconds, decisions
_LARGEST = 512  # px, the longer side of what is kept for the person to look at


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What waits for a person.

    Attributes:
        item: its number, hexadecimal.
        since: seconds since 1970.
        stage: whether it is on its way in or out.
        code, moderator, score: of the verdict that has sent it here.
        picture: the file to look at: the pictures beside each other.
    """

    item: str
    since: float
    stage: Stage
    code: str
    moderator: str
    score: float | None
    picture: Path


class ReviewQueue:
    """The folder of what waits, and what was decided.

    Args:
        folder: made when the first picture comes, readable by its owner only.
        decided: hears of every decision: number, "approve" or "refuse", and why.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        decided: Callable[[str, str, str], None] = lambda item, decision, why: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self._decided, self._clock = folder, decided, clock
        self._lock = threading.Lock()

    def waiting(self) -> list[Waiting]:
        """What waits, the longest first. What has waited for too long is removed."""
        self.sweep()
        found = []
        for path in self.folder.glob("*.json"):
            if not _ID.fullmatch(path.stem):
                continue
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                facts = json.loads(path.read_text(encoding="utf-8"))
                del facts["key"]
                found.append(Waiting(item=path.stem, picture=path.with_suffix(".png"), **facts))
        return sorted(found, key=lambda waiting: waiting.since)

    def sweep(self) -> None:
        """Remove what has waited for a week, what is left of pictures that were not written to the end, and decisions
        that are too old to count."""
        # All ages first: those of pictures stand in the files beside them.
        ages = {path: self._clock() - self._since(path) for path in _files_of(self.folder) if path.name != _KEY}
        over = [path for path, age in ages.items() if age > _WAIT]
        over += [path for path in _files_of(self.folder / _DECISIONS) if self._clock() - _changed(path) > _REMEMBER]
        for path in over:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                # The others still go.
                log.warning("%s is kept longer than it may be: %s", path, error)

    def add(self, subject: Subject, verdict: Verdict) -> str:
        """Let pictures wait; returns their number, that of before if they wait already.

        Raises:
            ModerationError: too many wait.
            OSError: they could not be written.
        """
        key = self._key_of(subject)
        with self._lock:
            waiting = self.waiting()
            for known in waiting:
                if self._facts(known.item)["key"] == key:
                    return known.item
            if len(waiting) >= _MOST_WAITING:
                raise ModerationError(f"{len(waiting)} pictures wait for a person, and no more can; decide about some")
            item = secrets.token_hex(6)
            facts: dict[str, Any] = {"since": self._clock(), "stage": subject.stage, "code": verdict.code}
            facts |= {"moderator": verdict.moderator, "score": verdict.score, "key": key}
            write_private(self.folder / f"{item}.png", _beside_each_other(subject))
            write_private(self.folder / f"{item}.json", json.dumps(facts).encode())
            return item

    def decide(self, item: str, *, allow: bool, why: str) -> None:
        """A person has looked at it. Its pictures leave the disk.

        Args:
            why: in their own words; empty: they did not say.

        Raises:
            ModerationError: nothing of that number waits.
        """
        with self._lock:
            self.sweep()
            try:
                facts = self._facts(item)
            except (OSError, ValueError) as error:
                raise ModerationError(
                    f"nothing waits under the number '{item[:40]}'; 'review list' shows what does"
                ) from error
            write_private(self._decision_path(facts["key"]), b"allow" if allow else b"refuse")
            self._remove(item)
        self._decided(item, "approve" if allow else "refuse", why)

    def _since(self, path: Path) -> float:
        """When what a file belongs to began to wait, seconds since 1970; else when the file was written."""
        try:
            return float(self._facts(path.stem)["since"])
        except (OSError, ValueError, KeyError, TypeError):
            return _changed(path)

    def _facts(self, item: str) -> dict[str, Any]:
        if not _ID.fullmatch(item):
            raise ValueError(item)
        return json.loads((self.folder / f"{item}.json").read_text(encoding="utf-8"))

    def _remove(self, item: str) -> None:
        # Without its facts a picture does not wait any more, whatever ends the program in between.
        for suffix in (".json", ".png"):
            (self.folder / f"{item}{suffix}").unlink(missing_ok=True)

    # Decisions

    def decision_of(self, subject: Subject) -> Decision | None:
        """What a person has decided about these very pictures; None: nothing yet."""
        try:
            path = self._decision_path(self._key_of(subject))
            if self._clock() - path.stat().st_mtime > _REMEMBER:
                path.unlink(missing_ok=True)
                return None
            return "allow" if path.read_bytes() == b"allow" else "refuse"
        except FileNotFoundError:
            return None

    def _decision_path(self, key: str) -> Path:
        return self.folder / _DECISIONS / key

    def _key_of(self, subject: Subject) -> str:
        """By which the same pictures are recognised; without the key beside it, by nobody."""
        key = private_file(self.folder / _KEY, lambda: secrets.token_bytes(32))
        digest = hmac.new(key, subject.stage.encode(), hashlib.sha256)
        for picture in subject.pictures:
            digest.update(f"{picture.shape}".encode())
            digest.update(np.ascontiguousarray(picture).tobytes())
        return digest.hexdigest()


def _files_of(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_file()]
    except OSError:
        return []  # nothing has come yet


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")  # gone


def _beside_each_other(subject: Subject) -> bytes:
    """A PNG of all pictures, small enough to look at."""
    tiles = []
    for picture in subject.pictures:
        tile = Image.fromarray(picture)
        tile.thumbnail((_LARGEST, _LARGEST))
        tiles.append(tile)
    sheet = Image.new("RGB", (sum(tile.width for tile in tiles), max(tile.height for tile in tiles)))
    left = 0
    for tile in tiles:
        sheet.paste(tile, (left, 0))
        left += tile.width
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
