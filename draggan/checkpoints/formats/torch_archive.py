"""Reads what ``torch.save`` writes, without PyTorch and without running anything.

Two layouts: since PyTorch 1.6 a zip archive (a pickle ``data.pkl`` beside one uncompressed entry per storage), before
that a sequence of pickles followed by the storages. The pickles go through `pickle.machine`.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any

from draggan.checkpoints.pickle.allowed import IN_TORCH_ARCHIVES
from draggan.checkpoints.pickle.budget import Budget, damaged, refuse, show
from draggan.checkpoints.pickle.machine import PickleMachine
from draggan.checkpoints.pickle.storages import legacy_payload, read_legacy_head, storage_reference
from draggan.checkpoints.pickle.tensors import Storage, StorageReference
from draggan.errors import CheckpointError

__all__ = ["is_legacy", "is_zip", "load", "open_zip", "stored_entry"]

# The magic number's pickle, with which every legacy file begins.
LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
MAX_ENTRIES = 20_000
MAX_NAME = 1000


def is_zip(data: memoryview) -> bool:
    """Whether a file begins as zip archives do."""
    return bytes(data[:4]) == b"PK\x03\x04"


def is_legacy(data: memoryview) -> bool:
    """Whether a file begins as PyTorch's older layout does."""
    return bytes(data[: len(LEGACY_START)]) == LEGACY_START


def load(data: memoryview, budget: Budget | None = None) -> Any:
    """The value in a file written by ``torch.save``: plain values and stand-ins.

    Raises:
        UnsafeCheckpoint: it asks for something that data does not need.
        CheckpointError: it is damaged, or another kind of file.
    """
    budget = budget or Budget()
    return _load_zip(data, budget) if is_zip(data) else _load_legacy(data, budget)


class _ViewFile(io.RawIOBase):
    """A read-only file over a buffer, for `zipfile`, which wants one; nothing is copied but what it reads."""

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self._data, self._position = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._data)}[whence]
        if base + offset < 0:
            raise OSError("seek before the beginning")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        end = len(self._data) if size is None or size < 0 else self._position + size
        piece = bytes(self._data[self._position : end])
        self._position += len(piece)
        return piece


def open_zip(data: memoryview) -> dict[str, zipfile.ZipInfo]:
    """The directory of a zip archive: entries by name.

    Raises:
        CheckpointError: it is cut off or damaged, or has an unusual number of entries.
    """
    # Before the list of entries is built: their number stands in the last bytes of the file.
    end = bytes(data[-(22 + 65536) :])
    at = end.rfind(b"PK\x05\x06")
    if at < 0 or len(end) < at + 22:
        raise damaged("the archive's directory is missing")
    if len(data) and len(end) >= at + 16 and int.from_bytes(end[at + 12 : at + 16], "little") > MAX_ENTRIES * 200:
        raise refuse(f"an archive with a directory of {int.from_bytes(end[at + 12 : at + 16], 'little')} bytes")
    try:
        with zipfile.ZipFile(_ViewFile(data)) as archive:  # type: ignore[arg-type]  # any readable, seekable file will do
            entries = archive.infolist()
    # The module's own error, and what damaged numbers make of its arithmetic and of text in names.
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, OSError, LookupError) as error:
        raise damaged(f"no readable archive ({error})") from None
    if len(entries) > MAX_ENTRIES:
        raise refuse(f"an archive of {len(entries)} entries")
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        if entry.filename in found or len(entry.filename) > MAX_NAME:
            raise refuse(f"the archive entry {show(entry.filename)} twice or with an unusual name")
        found[entry.filename] = entry
    return found


def stored_entry(data: memoryview, entry: zipfile.ZipInfo) -> memoryview:
    """The bytes of an uncompressed entry, as a view, with their checksum verified.

    Raises:
        UnsafeCheckpoint: the entry is compressed (and may become larger than its file) or encrypted.
        CheckpointError: it does not lie within the file, or its checksum is wrong.
    """
    name = show(entry.filename)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
        raise refuse(f"the compressed or encrypted archive entry {name}")
    head = bytes(data[entry.header_offset : entry.header_offset + 30])
    if entry.header_offset < 0 or len(head) < 30 or head[:4] != b"PK\x03\x04":
        raise damaged(f"archive entry {name} is not where the directory says")
    start = entry.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    if start + entry.file_size > len(data):
        raise damaged(f"archive entry {name} ends {start + entry.file_size - len(data)} bytes too early")
    content = data[start : start + entry.file_size]
    if zlib.crc32(content) != entry.CRC:
        raise damaged(f"the checksum of archive entry {name} is wrong")
    return content


def _load_zip(data: memoryview, budget: Budget) -> Any:
    entries = open_zip(data)
    pickles = [name for name in entries if name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1)]
    if len(pickles) != 1:
        raise CheckpointError(
            "this archive was not written by torch.save; a model file holds one 'data.pkl', "
            f"this one begins with {show(next(iter(entries), 'nothing'))}"
        )
    folder = pickles[0][: -len("data.pkl")]
    if folder + "constants.pkl" in entries:
        raise CheckpointError("this is a TorchScript file, a program and not a table of weights; give the original")
    order = entries.get(folder + "byteorder")
    if order is not None and bytes(stored_entry(data, order)[:8]) != b"little":
        raise CheckpointError("the file was written on a big-endian machine, which cannot be read; convert it there")
    storages: dict[str, Storage] = {}

    def resolve(value: Any) -> Storage:
        wanted = storage_reference(value)
        storage = storages.get(wanted.key)
        if storage is None:
            entry = entries.get(f"{folder}data/{wanted.key}")
            if entry is None:
                raise damaged(f"storage {show(wanted.key)} is missing")
            budget.check_time()
            storage = storages[wanted.key] = Storage(wanted.kind, wanted.numel, stored_entry(data, entry))
            if storage.data is None or len(storage.data) != storage.nbytes:
                raise refuse(f"storage {show(wanted.key)} of {wanted.numel} items over {entry.file_size} bytes")
        return _same(storage, wanted)

    machine = PickleMachine(
        stored_entry(data, entries[pickles[0]]),
        allowed=IN_TORCH_ARCHIVES,
        persistent=resolve,
        foreign=True,
        budget=budget,
    )
    value = machine.load()
    if machine.position != len(machine.data):
        raise damaged("bytes are left over behind the pickle")
    return value


def _load_legacy(data: memoryview, budget: Budget) -> Any:
    storages: dict[str, Storage] = {}

    def resolve(value: Any) -> Storage:
        wanted = storage_reference(value)
        storage = storages.get(wanted.key)
        if storage is None:
            storage = storages[wanted.key] = Storage(wanted.kind, wanted.numel, None)
        return _same(storage, wanted)

    position = read_legacy_head(data, budget)
    machine = PickleMachine(
        data, allowed=IN_TORCH_ARCHIVES, persistent=resolve, foreign=True, budget=budget, position=position
    )
    value = machine.load()
    machine.allowed, machine.persistent, machine.foreign = {}, None, False
    keys = machine.load()
    if type(keys) is not list or any(type(key) is not str for key in keys) or len(set(keys)) != len(keys):
        raise damaged("the list of its storages is odd")
    position = machine.position
    for key in keys:
        if key not in storages:
            raise damaged(f"storage {show(key)} is not used")
        budget.step()
        storage = storages[key]
        storage.data, position = legacy_payload(data, storage.kind, storage.numel, position)
    missing = [key for key in storages if storages[key].data is None]
    if missing:
        raise damaged(f"storage {show(missing[0])} is missing")
    return value


def _same(storage: Storage, wanted: StorageReference) -> Storage:
    if storage.kind.dtype != wanted.kind.dtype or storage.numel != wanted.numel:
        raise refuse(f"storage {show(wanted.key)} as two different things")
    return storage
