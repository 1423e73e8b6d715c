"""PyTorch's older way of storing numbers: a few small pickles, then each storage as its length and its bytes.

It occurs as a file of its own (before PyTorch 1.6) and, once per storage, embedded in NVIDIA's pickles.
"""

from __future__ import annotations

from typing import Any

from draggan.checkpoints.pickle.budget import Budget, damaged, refuse
from draggan.checkpoints.pickle.machine import PickleMachine
from draggan.checkpoints.pickle.stand_ins import AllowList, StorageKind
from draggan.checkpoints.pickle.tensors import Storage, StorageReference, checked_sizes, itemsize
from draggan.errors import CheckpointError

__all__ = ["STORAGE_KINDS", "embedded_storage", "legacy_payload", "read_legacy_head", "storage_reference"]

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_STORAGES = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
STORAGE_KINDS: AllowList = {
    (module, name): StorageKind(name, dtype) for module in ("torch", "torch.cuda") for name, dtype in _STORAGES.items()
}


def storage_reference(value: Any) -> StorageReference:
    """The five (or, in older files, six) parts of a persistent id, checked."""
    if type(value) is not tuple or len(value) not in (5, 6) or value[0] != "storage" or type(value[0]) is not str:
        raise refuse("a value that is not in the file")
    kind, key, device, numel = value[1:5]
    if type(kind) is not StorageKind or type(key) is not str or type(device) is not str:
        raise refuse("a storage of an unusual kind")
    if len(value) == 6 and value[5] is not None:
        raise refuse("a storage that is part of another")
    checked_sizes((numel,), "number of items")
    return StorageReference(kind, key, device, numel)


def read_legacy_head(data: memoryview, budget: Budget) -> int:
    """Check the three pickles that a legacy file begins with; the position behind them."""
    head = PickleMachine(data, budget=budget)
    if not _is_number(head.load(), MAGIC) or not _is_number(head.load(), PROTOCOL):
        raise damaged("it does not begin as PyTorch's files do")
    info = head.load()
    if type(info) is not dict or info.get("little_endian") is not True:
        raise CheckpointError("the file was written on a big-endian machine, which cannot be read; convert it there")
    return head.position


def legacy_payload(data: memoryview, kind: StorageKind, numel: int, position: int) -> tuple[memoryview, int]:
    """The bytes of one storage, which begin with their number, and the position behind them."""
    start = position + 8
    end = start + numel * itemsize(kind.dtype)
    if end > len(data):
        raise damaged(f"a storage of {numel} items ends {end - len(data)} bytes too early")
    count = int.from_bytes(data[position:start], "little", signed=True)
    if count != numel:
        raise refuse(f"a storage of {numel} items that says it has {count}")
    return data[start:end], end


def embedded_storage(budget: Budget, blob: Any = None) -> Storage:
    """One storage as PyTorch embeds it in other pickles: itself a file of five small pickles and the numbers.

    PyTorch's own function would run these nested pickles without any check.
    """
    if not isinstance(blob, memoryview):
        raise refuse("a storage that is not made of bytes")
    position = read_legacy_head(blob, budget)
    machine = PickleMachine(blob, allowed=STORAGE_KINDS, persistent=storage_reference, budget=budget, position=position)
    storage = machine.load()
    if not isinstance(storage, StorageReference):
        raise refuse("a storage that is something else")
    machine.allowed, machine.persistent = {}, None
    keys = machine.load()
    if type(keys) is not list or len(keys) != 1 or type(keys[0]) is not str or keys[0] != storage.key:
        raise refuse("a storage under another name than its own")
    data, end = legacy_payload(blob, storage.kind, storage.numel, machine.position)
    if end != len(blob):
        raise refuse(f"{len(blob) - end} bytes behind a storage")
    return Storage(storage.kind, storage.numel, data)


def _is_number(value: Any, expected: int) -> bool:
    return type(value) is int and value == expected
