"""Converted copies of files that hold pickles: each is read once, in a child process, and from then on as safetensors.

A second start neither unpickles nor waits. Layout of the folder: ``<sha256 of the source>-<version>.safetensors``, and
``index/<sha256 of the path>.json`` with the size, times and digest of the source as it was then, so that an unchanged
file need not be read again to be recognised. Copies that were not used for longest go when there are too many, or where
another one needs their room; what was in them costs a conversion when it is wanted again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from dnnlib.cache import replacing
from draggan.checkpoints.description import CheckpointDescription, Role
from draggan.checkpoints.detect import MAX_FILE, converted_name
from draggan.checkpoints.formats import safetensors
from draggan.checkpoints.sandbox import NO_ROOM, is_full, run_child
from draggan.errors import CheckpointError, UnsafeCheckpoint

__all__ = ["NoRoom", "can_hold", "known_digest", "read_converted"]

log = logging.getLogger(__name__)

# A conversion that did not end must not fill the disk.
STALE_SECONDS = 3600.0
_MOST_BYTES = 16 << 30  # of all copies together
_RESERVE = 200 << 20  # bytes of the disk that copies make room for: others write there, too
# What a conversion takes beside the tensors: names and arguments.
_ROOM_BESIDE_TENSORS = 8 << 20


class NoRoom(CheckpointError):
    """The disk is too full for a conversion. Nothing is wrong with the file, and another folder may do."""


def can_hold(folder: Path) -> bool:
    """Whether conversions can be kept there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def read_converted(path: Path, cache: Path, roles: Collection[Role] | None) -> CheckpointDescription:
    """Read a file by way of its converted copy, made first if there is none of the file as it is now.

    Args:
        cache: a folder that can be written to.
        roles: as for `read_checkpoint`.

    Raises:
        UnsafeCheckpoint, CheckpointError: as `read_checkpoint`.
    """
    source = path.resolve(strict=True)
    index = cache / "index" / f"{hashlib.sha256(os.fsencode(source)).hexdigest()}.json"
    state = _state(source)
    digest = known_digest(index, state)
    found = None if digest is None else _usable_copy(digest, cache, roles)
    if found is None:
        digest = _convert(source, cache)
        if _state(source) == state:
            _write_index(index, {**state, "sha256": digest})
        found = _usable_copy(digest, cache, roles)
    if found is None:
        # The same content was converted before, under another path, and that copy was damaged.
        found = _read_copy(cache / converted_name(_convert(source, cache)), roles)
    return found


def _usable_copy(digest: str, cache: Path, roles: Collection[Role] | None) -> CheckpointDescription | None:
    """The copy of that source file; None: there is none, or it was damaged and is gone now."""
    converted = cache / converted_name(digest)
    if not converted.is_file():
        return None
    try:
        return _read_copy(converted, roles)
    except CheckpointError as error:
        log.warning("converted copy %s cannot be used (%s); converting again", converted, error)
        converted.unlink(missing_ok=True)
        return None


def _read_copy(converted: Path, roles: Collection[Role] | None) -> CheckpointDescription:
    description = safetensors.read(converted, roles)
    with contextlib.suppress(OSError):
        os.utime(converted)  # used now
    return _restored(description)


def _restored(description: CheckpointDescription) -> CheckpointDescription:
    """With the format of the original file."""
    metadata = dict(description.metadata)
    source_format = metadata.pop("source_format", description.format)
    return CheckpointDescription(networks=description.networks, format=source_format, metadata=metadata)


def _state(path: Path) -> dict[str, Any]:
    """What changes when a file is changed or replaced."""
    s = path.stat()
    return {"path": str(path), "size": s.st_size, "mtime": s.st_mtime_ns, "ctime": s.st_ctime_ns, "inode": s.st_ino}


def known_digest(index: Path, state: dict[str, Any]) -> str | None:
    """The digest of a source file that is as it was when it was last converted."""
    try:
        entry = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    digest = entry.get("sha256") if isinstance(entry, dict) else None
    if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        return None
    return digest if {**state, "sha256": digest} == entry else None


def _write_index(index: Path, entry: dict[str, Any]) -> None:
    """Remember a digest. Failing costs only time later, so it does not stop anyone."""
    try:
        with replacing(index) as temporary:
            temporary.write_text(json.dumps(entry), encoding="utf-8")
    except OSError as error:
        log.warning("cannot write %s: %s", index, error)


def _convert(source: Path, cache: Path) -> str:
    """Read a source file in a child process and put its conversion into the cache; the source's SHA-256."""
    size = source.stat().st_size
    if size > MAX_FILE:
        raise CheckpointError(f"{source} has {size / 1e9:.1f} GB; up to {MAX_FILE / 1e9:.1f} GB can be read")
    _remove_stale(cache)
    _make_room(cache, size)
    if shutil.disk_usage(cache).free < size + _ROOM_BESIDE_TENSORS:
        raise _no_room(source, cache, size)
    try:
        work = Path(tempfile.mkdtemp(prefix=".converting-", dir=cache))
    except OSError as error:
        if is_full(error):
            raise _no_room(source, cache, size) from error
        raise
    try:
        result = run_child(source, work, cache, size)
        said = result.get("error")
        if said == NO_ROOM:
            raise _no_room(source, cache, size)
        if said is not None:
            kind = UnsafeCheckpoint if said == "UnsafeCheckpoint" else CheckpointError
            raise kind(f"{source}: {str(result.get('message'))[:2000]}")
        digest = result.get("sha256")
        if not isinstance(digest, str) or len(digest) != 64:
            raise CheckpointError(f"{source}: reading it gave no result; the file may be damaged")
        if not result.get("already"):
            with open(work / "converted.safetensors", "r+b") as file:
                # Else its name could outlive a power cut, and its content not.
                os.fsync(file.fileno())
            try:
                os.replace(work / "converted.safetensors", cache / converted_name(digest))
            except PermissionError:
                # Windows does not replace a file that somebody reads: then it is there already.
                if not (cache / converted_name(digest)).is_file():
                    raise
        return digest
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _no_room(source: Path, cache: Path, size: int) -> NoRoom:
    needed = (size + _ROOM_BESIDE_TENSORS) / 1e6
    return NoRoom(
        f"{source}: reading it takes {needed:.0f} MB of disk, and {cache} has too little left; make room there"
    )


def _make_room(cache: Path, size: int) -> None:
    """Take away the copies that were not used for longest, so that another one of about that size has room; and
    what is remembered of files that are gone, or whose copy is."""
    copies = []
    for path in cache.glob("*.safetensors"):
        with contextlib.suppress(OSError):
            status = path.stat()
            copies.append((status.st_mtime, status.st_size, path))
    kept = sum(bytes_ for _, bytes_, _ in copies)
    free = shutil.disk_usage(cache).free
    # Where the disk is full of other things, that nothing is kept would help nobody.
    lacking = size + _ROOM_BESIDE_TENSORS + _RESERVE - free
    excess = max(kept + size - _MOST_BYTES, lacking if lacking <= kept else 0)
    for _, bytes_, path in sorted(copies):
        if excess <= 0:
            break
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            excess -= bytes_
    for index in (cache / "index").glob("*.json"):
        with contextlib.suppress(OSError):
            if not _is_of_use(index, cache):
                index.unlink(missing_ok=True)


def _is_of_use(index: Path, cache: Path) -> bool:
    try:
        entry = json.loads(index.read_text(encoding="utf-8"))
        return os.path.exists(entry["path"]) and (cache / converted_name(str(entry["sha256"]))).is_file()
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _remove_stale(cache: Path) -> None:
    """Take away what conversions left that were killed, with their parent, long ago."""
    for old in cache.glob(".converting-*"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
