"""What a batch has done so far, a line for every job, so that it goes on where it was broken off.

A line is written once the job's files are there under their own names: whatever ends the program, a job has all its
files and a line, or it is done again under the same names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from draggan.batch.jobs import Job
from draggan.errors import ExportError

__all__ = ["Journal", "files_of"]

_VERSION = 1


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
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        for line in before.splitlines():
            self._remember(line)

    def done(self, job: Job) -> dict[str, Any] | None:
        """The row of a job that is done and whose files are there; None if it still has to run."""
        row = self._rows.get((job.name, job.key))
        if row is None or not all((self._folder / name).is_file() for name in files_of(row)):
            return None
        return row

    def add(self, job: Job, row: dict[str, Any]) -> None:
        """Note that a job is done."""
        line = json.dumps({"journal": _VERSION, "name": job.name, "key": job.key, "row": row}).encode() + b"\n"
        try:
            self._file.write(line)
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ExportError(f"cannot write the journal of {self._folder}: {error.strerror or error}") from error
        self._rows[job.name, job.key] = row

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _remember(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            if entry["journal"] == _VERSION and isinstance(entry["row"], dict):
                self._rows[entry["name"], entry["key"]] = entry["row"]
        except (ValueError, KeyError, TypeError):
            return  # of another version, or cut off: that job is done again


def files_of(row: dict[str, Any]) -> Sequence[str]:
    """Names of the files that a row is about."""
    return [row[kind] for kind in ("picture", "before", "film") if row.get(kind)]
