"""What a batch has done so far, a line for every job, so that it goes on where it was broken off.

A line is written once the job's files are there under their own names, and has their hashes: whatever ends the program,
and whatever else was written under those names since, a job has a line and the files that it has made, or it is done
again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from dnnlib.digests import sha256_of
from draggan.batch.jobs import Job
from draggan.errors import ExportError

__all__ = ["Journal", "files_of"]

_VERSION = 2


class Journal:
    """The journal of an output folder; a context manager.

    Args:
        folder: where the files of the batch are.

    Raises:
        ExportError: it cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / "journal.jsonl"
        try:
            before = path.read_bytes() if path.exists() else b""
            self._file = path.open("ab", buffering=0)
            if before and not before.endswith(b"\n"):
                # The line that was being written when the program ended.
                os.ftruncate(self._file.fileno(), before.rfind(b"\n") + 1)
        except OSError as error:
            raise ExportError(f"cannot write {path}: {error.strerror or error}") from error
        self._entries: dict[tuple[str, str], dict[str, Any]] = {}
        for line in before.splitlines():
            self._remember(line)

    def done(self, job: Job) -> dict[str, Any] | None:
        """The row of a job that is done and whose files are there as it left them; None if it still has to run."""
        entry = self._entries.get((job.name, job.key))
        if entry is None:
            return None
        # One that was gone before its line was written has no hash.
        there = all(sha256 and self._hash_of(name) == sha256 for name, sha256 in entry["files"].items())
        return entry["row"] if there else None

    def add(self, job: Job, row: dict[str, Any]) -> None:
        """Note that a job is done."""
        files = {name: self._hash_of(name) for name in files_of(row)}
        entry = {"journal": _VERSION, "name": job.name, "key": job.key, "row": row, "files": files}
        try:
            self._file.write(json.dumps(entry).encode() + b"\n")
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ExportError(f"cannot write the journal of {self._folder}: {error.strerror or error}") from error
        self._entries[job.name, job.key] = entry

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _remember(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            if entry["journal"] == _VERSION and isinstance(entry["row"], dict) and isinstance(entry["files"], dict):
                self._entries[entry["name"], entry["key"]] = entry
        except (ValueError, KeyError, TypeError):
            return  # of another version, or cut off: that job is done again

    def _hash_of(self, name: str) -> str:
        """SHA-256 of a file of the folder; empty: it is not there."""
        try:
            return sha256_of(self._folder / name)
        except OSError:
            return ""


def files_of(row: dict[str, Any]) -> Sequence[str]:
    """Names of the files that a row is about."""
    return [row[kind] for kind in ("picture", "before", "film") if row.get(kind)]
