"""Reads pickles without being able to run anything.

A pickle is a program for a small stack machine, and Python's own reader will import any module and call any function
that it names. This module is another reader for the same byte code, made for weights alone:

* it does not use the ``pickle`` module. There is no import and no call of anything the file chooses: a global is
  looked up by its exact ``(module, name)`` in a table of our own stand-ins, anything else ends the reading
  (`UnsafeCheckpoint`);
* a stand-in says what may be done with it: `Reducer` may be called, `Creator` may be instantiated, `Shell` may be
  given a state. All are ``__slots__`` objects of ours, so a state never becomes attributes of a function or class;
* strings of bytes are views into the file, and every length is compared with what is left of the file before anything
  is allocated. So memory stays in proportion to the file;
* steps, nesting, string lengths and time are limited (`Budget`);
* dictionary keys are text or whole numbers: hashing nested tuples can take exponential time.

PyTorch's tensors are resolved here too (`Storage`, `Tensor`), each checked against the bytes that are really there.
Nested pickles, which PyTorch makes of every storage, are read by the same machine with a smaller table.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from draggan.errors import CheckpointError, UnsafeCheckpoint

__all__ = [
    "NVIDIA_GLOBALS",
    "STORAGE_KINDS",
    "TORCH_GLOBALS",
    "Budget",
    "Creator",
    "Easy",
    "Machine",
    "Module",
    "Network",
    "NumpyArray",
    "Persistent",
    "Reducer",
    "Shell",
    "Storage",
    "StorageKind",
    "Tensor",
    "as_array",
    "damaged",
    "legacy_payload",
    "persistent_storage",
    "read_legacy_head",
    "refuse",
    "show",
]

# Fifteen times what the largest published checkpoint takes (1024 px, G, D and G_ema: 60 thousand).
MAX_STEPS = 1_000_000
# Names, numbers as text, embedded source (50 kB per module in published files).
MAX_TEXT = 4 << 20
MAX_ALL_TEXT = 64 << 20
MAX_MARKS = 500
MAX_RANK = 8
SECONDS = 8.0


def damaged(what: str) -> CheckpointError:
    """The error for a file that breaks its own format."""
    return CheckpointError(f"the file is damaged: {what}; get it again from its source")


def refuse(what: str) -> UnsafeCheckpoint:
    """The error for a file that wants more than to be read."""
    return UnsafeCheckpoint(f"refused: {what}. Weights do not need this; nothing in the file was run")


def show(value: object) -> str:
    """A name from a file, short enough and safe to print."""
    return ascii(value)[:120] if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__


@dataclass
class Budget:
    """What one file may use up, nested pickles included."""

    steps: int = MAX_STEPS
    text: int = MAX_ALL_TEXT
    # Bytes of all tensors. Only repeated ones can be much more than the file.
    numbers: int = 16 << 20
    deadline: float = field(default_factory=lambda: time.monotonic() + SECONDS)

    def step(self, count: int = 1) -> None:
        self.steps -= count
        if self.steps < 0:
            raise refuse(f"more than {MAX_STEPS} steps to read one file")
        if count != 1 or not self.steps & 4095:
            self.check_time()

    def check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise CheckpointError(f"reading took longer than {SECONDS:g} s; the file is damaged or made to be slow")

    def take_numbers(self, count: int) -> None:
        self.numbers -= count
        if self.numbers < 0:
            raise refuse("tensors that together are much larger than their file")
        self.check_time()

    def take_text(self, length: int) -> None:
        self.text -= length
        if length > MAX_TEXT or self.text < 0:
            raise refuse(f"{length} bytes of text, more than names and settings take")


# ------------------------------------------------------------------------------------------------- stand-ins


class StandIn:
    """Something that a file may name. On its own it is good for nothing."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Reducer(StandIn):
    """May be called: with a function of ours that checks every argument. Its first argument is the `Budget`."""

    __slots__ = ("function",)

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        super().__init__(name)
        self.function = function


class Creator(StandIn):
    """May be instantiated without arguments."""

    __slots__ = ("make",)

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        super().__init__(name)
        self.make = make


class StorageKind(StandIn):
    """The element type of a storage ("FloatStorage", ...)."""

    __slots__ = ("dtype",)

    def __init__(self, name: str, dtype: str) -> None:
        super().__init__(name)
        self.dtype = dtype


class Shell:
    """An object under construction. What state it takes, if any, is its own business."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        raise refuse(f"a state for a {type(self).__name__}")


class Ordered(dict):
    """Stands for OrderedDict."""

    __slots__ = ()


class Easy(dict):
    """Stands for dnnlib's EasyDict."""

    __slots__ = ()


class Module(Shell):
    """A network or layer from an NVIDIA file: its class name, its state, and the source that nobody runs."""

    __slots__ = ("class_name", "source", "state")

    def __init__(self, class_name: str, source: str, state: dict) -> None:
        self.class_name, self.source, self.state = class_name, source, state


class Network(Shell):
    """A network from a TensorFlow file."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: dict | None = None

    def build(self, state: Any) -> None:
        if type(state) is not dict or self.state is not None:
            raise refuse("an unusual state for a TensorFlow network")
        self.state = state


class Ignored(Shell):
    """An object that is of no use here: an argparse namespace, a device, a data type."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        if type(state) is not dict:
            raise refuse("an unusual state for a namespace")


class DType(Shell):
    """A numpy data type: a number of 1 to 8 bytes."""

    __slots__ = ("code", "order")
    ALLOWED: ClassVar = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", "?"}

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "<"

    def build(self, state: Any) -> None:
        # (version, byte order, sub-array, field names, fields, item size, alignment, flags)
        good = type(state) is tuple and len(state) >= 8 and state[1] in ("<", ">", "|", "=")
        if not good or any(part is not None for part in state[2:5]):
            raise refuse("a numpy data type with fields or an odd byte order")
        self.order = ">" if state[1] == ">" else "<"

    def numpy(self) -> np.dtype:
        return np.dtype(self.order + self.code) if self.code != "?" else np.dtype(bool)


class NumpyArray(Shell):
    """A numpy array; its bytes stay in the file."""

    __slots__ = ("value",)

    def __init__(self, value: np.ndarray | None = None) -> None:
        self.value = value

    def build(self, state: Any) -> None:
        # (version, shape, dtype, Fortran order, bytes)
        if type(state) is not tuple or len(state) != 5 or self.value is not None:
            raise refuse("an unusual state for a numpy array")
        self.value = _array(state[4], state[2], state[1], state[3])


class Persistent(Shell):
    """A storage named by its key, whose bytes are elsewhere in the file."""

    __slots__ = ("device", "key", "kind", "numel")

    def __init__(self, kind: StorageKind, key: str, device: str, numel: int) -> None:
        self.kind, self.key, self.device, self.numel = kind, key, device, numel


class Storage(Shell):
    """A flat run of numbers. ``data`` are its bytes, exactly ``numel`` items; None while they are still to come."""

    __slots__ = ("data", "kind", "numel")

    def __init__(self, kind: StorageKind, numel: int, data: memoryview | None) -> None:
        self.kind, self.numel, self.data = kind, numel, data

    @property
    def nbytes(self) -> int:
        return self.numel * _itemsize(self.kind.dtype)

    def array(self) -> np.ndarray:
        """All items, 1-D, without a copy; bfloat16 as its bits (uint16)."""
        if self.data is None or len(self.data) != self.nbytes:
            raise damaged("a tensor's numbers are missing")
        dtype = "<u2" if self.kind.dtype == "bfloat16" else self.kind.dtype
        return np.frombuffer(self.data, dtype=dtype)


class Tensor(Shell):
    """A view of a storage: shape and strides in items, all within the storage."""

    __slots__ = ("offset", "shape", "storage", "strides")

    def __init__(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> np.ndarray:
        """The numbers, C-contiguous; a copy only where the file has them in another order."""
        flat = self.storage.array()
        count = int(np.prod(self.shape, dtype=np.int64)) if self.shape else 1
        if count == 0:
            view = np.zeros(self.shape, flat.dtype)
        elif self.strides == _c_strides(self.shape):
            view = flat[self.offset : self.offset + count].reshape(self.shape)
        else:
            steps = [step * flat.itemsize for step in self.strides]
            view = np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, steps, writeable=False)
            view = np.ascontiguousarray(view)
        if self.storage.kind.dtype == "bfloat16":
            view = (view.astype(np.uint32) << 16).view(np.float32)
        return view


def as_array(value: Any, budget: Budget) -> np.ndarray | None:
    """The numbers of a tensor, numpy array or number; None if it is none of them."""
    if isinstance(value, Tensor):
        # At least 4 bytes each: shorter types may become float32.
        budget.take_numbers(_product(value.shape) * max(_itemsize(value.storage.kind.dtype), 4))
        return value.array()
    if isinstance(value, NumpyArray):
        if value.value is None:
            raise damaged("a numpy array without its numbers")
        budget.take_numbers(max(value.value.nbytes, 4 * value.value.size))
        return value.value
    return np.asarray(value, np.float32) if isinstance(value, float) else None


# -------------------------------------------------------------------------------- what the stand-ins accept


def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _sizes(values: Any, what: str) -> tuple[int, ...]:
    """A short tuple of whole numbers from 0 on, none of which overflows."""
    if type(values) is not tuple or len(values) > MAX_RANK:
        raise refuse(f"an unusual {what} of a tensor")
    for value in values:
        if type(value) is not int or not 0 <= value < 1 << 48:
            raise refuse(f"a tensor with the {what} {show(value)}")
    return values


def _product(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def _array(raw: Any, dtype: Any, shape: Any, fortran: Any) -> np.ndarray:
    if not isinstance(raw, memoryview) or not isinstance(dtype, DType):
        raise refuse("a numpy array that does not hold plain numbers")
    shape = _sizes(shape, "shape")
    kind = dtype.numpy()
    if _product(shape) * kind.itemsize != len(raw):
        raise refuse(f"a numpy array of shape {list(shape)} over {len(raw)} bytes")
    return np.frombuffer(raw, kind).reshape(shape, order="F" if fortran else "C")


def _dtype(budget: Budget, code: Any = None, align: Any = False, copy: Any = False) -> DType:
    if not isinstance(code, str) or code not in DType.ALLOWED:
        raise refuse(f"the numpy data type {show(code)}")
    return DType(code)


def _array_shell(budget: Budget, kind: Any = None, shape: Any = None, code: Any = None) -> NumpyArray:
    if kind is not NDARRAY:
        raise refuse("a numpy array of an unusual kind")
    return NumpyArray()


def _array_from_buffer(
    budget: Budget, raw: Any = None, dtype: Any = None, shape: Any = None, order: Any = "C"
) -> NumpyArray:
    if order not in ("C", "F"):
        raise refuse("a numpy array in an unusual order")
    return NumpyArray(_array(raw, dtype, shape, order == "F"))


def _scalar(budget: Budget, dtype: Any = None, raw: Any = None) -> int | float | bool:
    return _array(raw, dtype, (), False).item()


def _encode(budget: Budget, text: Any = None, encoding: Any = None) -> memoryview:
    # Protocol 2 has no bytes: Python writes them as text to be encoded.
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise refuse("text in an unusual encoding")
    budget.take_text(len(text))
    try:
        return memoryview(text.encode("latin-1"))
    except UnicodeEncodeError:
        raise damaged("bytes that are no bytes") from None


def _empty_bytes(budget: Budget) -> memoryview:
    return memoryview(b"")


def _empty_ordered(budget: Budget) -> Ordered:
    return Ordered()


def _set(budget: Budget, items: Any = ()) -> set:
    if type(items) not in (list, tuple):
        raise refuse("a set of something unusual")
    budget.step(len(items))
    return {_key(item) for item in items}


def _key(value: Any) -> str | int:
    if type(value) not in (str, int):
        raise refuse(f"a {type(value).__name__} as the key of a dictionary")
    return value


def _storage(budget: Budget, blob: Any = None) -> Storage:
    """One storage as PyTorch embeds it in other pickles: itself a file of five small pickles and the numbers.

    PyTorch's own function would run these nested pickles without any check.
    """
    if not isinstance(blob, memoryview):
        raise refuse("a storage that is not made of bytes")
    position = read_legacy_head(blob, budget)
    machine = Machine(blob, allowed=STORAGE_KINDS, persistent=persistent_storage, budget=budget, position=position)
    storage = machine.load()
    if not isinstance(storage, Persistent):
        raise refuse("a storage that is something else")
    machine.allowed, machine.persistent = {}, None
    keys = machine.load()
    if type(keys) is not list or len(keys) != 1 or type(keys[0]) is not str or keys[0] != storage.key:
        raise refuse("a storage under another name than its own")
    data, end = legacy_payload(blob, storage.kind, storage.numel, machine.position)
    if end != len(blob):
        raise refuse(f"{len(blob) - end} bytes behind a storage")
    return Storage(storage.kind, storage.numel, data)


def _tensor_v1(
    budget: Budget, storage: Any = None, offset: Any = None, shape: Any = None, strides: Any = None
) -> Tensor:
    """A tensor over a storage, once it is certain that it stays within it."""
    if not isinstance(storage, Storage):
        raise refuse("a tensor that is not over a storage")
    shape, strides = _sizes(shape, "size"), _sizes(strides, "stride")
    (offset,) = _sizes((offset,), "offset")
    if len(shape) != len(strides):
        raise refuse(f"a tensor with {len(shape)} sizes and {len(strides)} strides")
    count = _product(shape)
    last = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True)) if count else 0
    # More items than the storage has would mean that they are repeated: a small file that wants much memory.
    if count > max(storage.numel, 1) or offset > storage.numel or (count and last >= storage.numel):
        raise refuse(
            f"a tensor of size {list(shape)}, strides {list(strides)} and offset {offset} over a storage of "
            f"{storage.numel} items"
        )
    return Tensor(storage, offset, shape, strides)


def _tensor(
    budget: Budget,
    storage: Any = None,
    offset: Any = None,
    shape: Any = None,
    strides: Any = None,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> Tensor:
    return _tensor_v1(budget, storage, offset, shape, strides)


def _parameter(budget: Budget, data: Any = None, requires_grad: Any = False, hooks: Any = None) -> Tensor:
    if not isinstance(data, Tensor):
        raise refuse("a parameter that is not a tensor")
    return data


def _size(budget: Budget, values: Any = ()) -> tuple[int, ...]:
    return _sizes(tuple(values[: MAX_RANK + 1]) if type(values) is list else values, "size")


def _device(budget: Budget, *arguments: Any) -> Ignored:
    return Ignored()


_MODULE_FIELDS = {"type", "version", "module_src", "class_name", "state"}


def _module(budget: Budget, meta: Any = None) -> Module:
    """A persistent object of NVIDIA's."""
    if type(meta) is not dict or not meta.keys() >= _MODULE_FIELDS:
        raise refuse("a network that does not say what it is")
    class_name, source, state = meta["class_name"], meta["module_src"], meta["state"]
    if meta["type"] != "class" or not isinstance(class_name, str) or not isinstance(source, str):
        raise refuse("a network that does not say what it is")
    if type(state) is not dict:
        raise refuse("a network without its weights")
    return Module(class_name, source, state)


NDARRAY = StandIn("numpy.ndarray")
PARAMETER = StandIn("torch.nn.parameter.Parameter")
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
Table = Mapping[tuple[str, str], StandIn]
STORAGE_KINDS: Table = {
    (module, name): StorageKind(name, dtype) for module in ("torch", "torch.cuda") for name, dtype in _STORAGES.items()
}
_TYPES = ("float32", "float", "float16", "half", "bfloat16", "float64", "double", "int64", "int32", "uint8")
# What plain data and PyTorch tensors need, in any file.
_COMMON: Table = {
    ("collections", "OrderedDict"): Reducer("collections.OrderedDict", _empty_ordered),
    ("dnnlib.util", "EasyDict"): Creator("dnnlib.util.EasyDict", Easy),
    ("numpy", "dtype"): Reducer("numpy.dtype", _dtype),
    ("numpy", "ndarray"): NDARRAY,
    **{
        (module, name): Reducer(f"{module}.{name}", function)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name, function in (("scalar", _scalar), ("_reconstruct", _array_shell))
    },
    **{
        (module, "_frombuffer"): Reducer(f"{module}._frombuffer", _array_from_buffer)
        for module in ("numpy.core.numeric", "numpy._core.numeric")
    },
    ("_codecs", "encode"): Reducer("_codecs.encode", _encode),
    **{(module, "bytes"): Reducer(f"{module}.bytes", _empty_bytes) for module in ("builtins", "__builtin__")},
    **{
        (module, name): Reducer(f"{module}.{name}", _set)
        for module in ("builtins", "__builtin__")
        for name in ("set", "frozenset")
    },
    ("argparse", "Namespace"): Creator("argparse.Namespace", Ignored),
    ("torch._utils", "_rebuild_tensor"): Reducer("torch._utils._rebuild_tensor", _tensor_v1),
    ("torch._utils", "_rebuild_tensor_v2"): Reducer("torch._utils._rebuild_tensor_v2", _tensor),
    ("torch._utils", "_rebuild_parameter"): Reducer("torch._utils._rebuild_parameter", _parameter),
    ("torch.nn.parameter", "Parameter"): PARAMETER,
    ("torch", "Size"): Reducer("torch.Size", _size),
    ("torch", "device"): Reducer("torch.device", _device),
    **{("torch", name): StandIn(f"torch.{name}") for name in _TYPES},
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): Reducer(
        "torch_utils.persistence._reconstruct_persistent_obj", _module
    ),
}
# A pickle that stands alone: storages are blobs inside it.
NVIDIA_GLOBALS: Table = {
    **_COMMON,
    ("torch.storage", "_load_from_bytes"): Reducer("torch.storage._load_from_bytes", _storage),
    ("dnnlib.tflib.network", "Network"): Creator("dnnlib.tflib.network.Network", Network),
}
# The pickle inside a torch archive: storages are beside it and named by a persistent id.
TORCH_GLOBALS: Table = {**_COMMON, **STORAGE_KINDS}


# ------------------------------------------------------------------------------------------------- the machine


_EMPTY: Table = {}


class Machine:
    """Executes one pickle after another from a buffer, with nothing but the opcodes that data needs.

    Args:
        data: the bytes; everything read stays a view into them.
        allowed: the globals that may be named.
        persistent: turns a persistent id into a value; None refuses them.
        budget: limits, shared with nested pickles.
        position: where the first pickle begins.
    """

    def __init__(
        self,
        data: memoryview,
        *,
        allowed: Table = _EMPTY,
        persistent: Callable[[Any], Any] | None = None,
        budget: Budget,
        position: int = 0,
    ) -> None:
        self.data = data
        self.position = position
        self.allowed = allowed
        self.persistent = persistent
        self.budget = budget
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The value of the next pickle; `position` is then behind it.

        Raises:
            UnsafeCheckpoint: it asks for something that data does not need.
            CheckpointError: it is no pickle, or cut off.
        """
        self.stack, self.marks, self.memo = [], [], {}
        budget, data = self.budget, self.data
        while True:
            # Budget.step and byte, written out: this is the one loop that counts.
            budget.steps -= 1
            if budget.steps < 0 or not budget.steps & 4095:
                budget.step(0)
            if self.position >= len(data):
                raise damaged("it ends too early")
            code = data[self.position]
            self.position += 1
            if code == 0x2E:  # STOP
                value = self.pop()
                if self.stack or self.marks:
                    raise damaged("values are left over at its end")
                return value
            operation = _OPERATIONS[code]
            if operation is None:
                raise _unknown(code)
            operation(self)

    # Reading

    def take(self, count: int) -> memoryview:
        """The next bytes, without a copy."""
        start = self.position
        if count > len(self.data) - start:
            raise damaged(f"it ends {start + count - len(self.data)} bytes too early")
        self.position = start + count
        return self.data[start : self.position]

    def byte(self) -> int:
        if self.position >= len(self.data):
            raise damaged("it ends too early")
        value = self.data[self.position]
        self.position += 1
        return value

    def number(self, layout: struct.Struct) -> Any:
        return layout.unpack(self.take(layout.size))[0]

    def text(self, length: int) -> str:
        self.budget.take_text(length)
        try:
            return str(self.take(length), "utf-8")
        except UnicodeDecodeError:
            raise damaged("text that is not UTF-8") from None

    def line(self) -> str:
        """Text up to the end of a line, at most 200 bytes."""
        start = self.position
        window = bytes(self.data[start : start + 200])
        end = window.find(b"\n")
        if end < 0:
            raise damaged("a name without an end")
        self.position = start + end + 1
        try:
            return window[:end].decode("utf-8")
        except UnicodeDecodeError:
            raise damaged("a name that is not UTF-8") from None

    # The stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise damaged("a value is missing")
        return self.stack.pop()

    def peek(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise damaged("a value is missing")
        return self.stack[-1]

    def mark(self) -> None:
        if len(self.marks) >= MAX_MARKS:
            raise refuse(f"values nested more than {MAX_MARKS} deep")
        self.marks.append(len(self.stack))

    def pop_items(self) -> list[Any]:
        """Everything above the last mark."""
        if not self.marks:
            raise damaged("a run of values without a beginning")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    # What an opcode does

    def remember(self, index: int) -> None:
        self.memo[index] = self.peek()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise damaged("it refers to a value that is not there")
        self.push(self.memo[index])

    def find(self, module: Any, name: Any) -> None:
        """The stand-in of a global, by its exact name."""
        found = self.allowed.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
        if found is None:
            raise refuse(f"it asks for '{_dotted(module, name)}'")
        self.push(found)

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.find(module, name)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(function) is not Reducer or type(arguments) is not tuple:
            raise refuse(f"a call of {_named(function)}")
        try:
            value = function.function(self.budget, *arguments)
        except TypeError:
            # Only the number of arguments can do this: our functions check types before they use a value.
            raise refuse(f"a call of {function.name} with {len(arguments)} arguments") from None
        self.push(value)

    def new_object(self) -> None:
        arguments, kind = self.pop(), self.pop()
        if type(kind) is not Creator or type(arguments) is not tuple or arguments:
            raise refuse(f"an object of {_named(kind)}")
        self.push(kind.make())

    def build(self) -> None:
        state, target = self.pop(), self.peek()
        if type(target) is Ordered and type(state) is dict:
            return  # PyTorch puts version numbers of its own on state dicts.
        if type(target) is Easy and (state is None or state == {}):
            return
        if not isinstance(target, Shell):
            raise refuse(f"a state for {_named(target)}")
        target.build(state)

    def append(self, items: list[Any]) -> None:
        target = self.peek()
        if type(target) is not list:
            raise refuse(f"items added to {_named(target)}")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.peek()
        if type(target) not in (dict, Ordered, Easy):
            raise refuse(f"items set in {_named(target)}")
        target.update(_pairs(items))

    def add_items(self) -> None:
        items = self.pop_items()
        target = self.peek()
        if type(target) is not set:
            raise refuse(f"items added to {_named(target)}")
        target.update(_key(item) for item in items)

    def tuple_of(self, count: int) -> None:
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise damaged("a value is missing")
        items = tuple(self.stack[start:])
        self.stack[start:] = [items]

    def integer(self, length: int) -> None:
        # The longest in a real file is PyTorch's magic number, of 10 bytes.
        if length > 16:
            raise refuse(f"a whole number of {length} bytes")
        self.push(int.from_bytes(self.take(length), "little", signed=True))

    def persistent_id(self) -> None:
        if self.persistent is None:
            raise refuse("a value that is not in the file")
        self.push(self.persistent(self.pop()))


def _pairs(items: list[Any]) -> dict[str | int, Any]:
    if len(items) % 2:
        raise damaged("a key without a value")
    return {_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def _named(value: Any) -> str:
    return value.name if isinstance(value, StandIn) else f"a {type(value).__name__}"


def _dotted(module: Any, name: Any) -> str:
    parts = [ascii(part)[1:-1][:60] if isinstance(part, str) else type(part).__name__ for part in (module, name)]
    return ".".join(parts)


def _unknown(code: int) -> CheckpointError:
    program = {
        0x92: "an object with named arguments",  # NEWOBJ_EX
        0x69: "an object of any class",  # INST
        0x6F: "an object of any class",  # OBJ
        0x82: "a registered extension",  # EXT1
        0x83: "a registered extension",  # EXT2
        0x84: "a registered extension",  # EXT4
        0x50: "a value that is not in the file",  # PERSID
    }
    if code in program:
        return refuse(program[code])
    return damaged(f"{code:#04x} means nothing in a pickle of weights")


_U8, _U16, _U32, _U64 = (struct.Struct(f"<{c}") for c in "BHIQ")
_I32, _F64 = struct.Struct("<i"), struct.Struct(">d")


def _proto(m: Machine) -> None:
    version = m.byte()
    if not 2 <= version <= 5:
        raise damaged(f"pickle protocol {version}; known are 2 to 5")


def _frame(m: Machine) -> None:
    if m.number(_U64) > len(m.data) - m.position:
        raise damaged("it ends too early")


def _frozen_set(m: Machine) -> None:
    m.push({_key(item) for item in m.pop_items()})


def _pop(m: Machine) -> None:
    m.pop()


def _pop_mark(m: Machine) -> None:
    m.pop_items()


def _global(m: Machine) -> None:
    module = m.line()
    m.find(module, m.line())


def _set_item(m: Machine) -> None:
    value, key = m.pop(), m.pop()
    m.set_items([key, value])


def _text_string(m: Machine, layout: struct.Struct) -> None:
    m.push(m.text(m.number(layout)))


_OPERATIONS: list[Callable[[Machine], None] | None] = [None] * 256
for _code, _operation in {
    0x80: _proto,
    0x95: _frame,
    0x28: Machine.mark,
    0x30: _pop,
    0x31: _pop_mark,
    0x4E: lambda m: m.stack.append(None),
    0x88: lambda m: m.stack.append(True),
    0x89: lambda m: m.stack.append(False),
    0x4A: lambda m: m.stack.append(m.number(_I32)),
    0x4B: lambda m: m.stack.append(m.byte()),
    0x4D: lambda m: m.stack.append(m.number(_U16)),
    0x8A: lambda m: m.integer(m.byte()),
    0x8B: lambda m: m.integer(m.number(_U32)),
    0x47: lambda m: m.stack.append(m.number(_F64)),
    0x58: lambda m: _text_string(m, _U32),
    0x8C: lambda m: _text_string(m, _U8),
    0x8D: lambda m: _text_string(m, _U64),
    0x42: lambda m: m.stack.append(m.take(m.number(_U32))),
    0x43: lambda m: m.stack.append(m.take(m.byte())),
    0x8E: lambda m: m.stack.append(m.take(m.number(_U64))),
    0x96: lambda m: m.stack.append(m.take(m.number(_U64))),
    0x29: lambda m: m.stack.append(()),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    0x74: lambda m: m.stack.append(tuple(m.pop_items())),
    0x5D: lambda m: m.stack.append([]),
    0x61: lambda m: m.append([m.pop()]),
    0x65: lambda m: m.append(m.pop_items()),
    0x6C: lambda m: m.stack.append(m.pop_items()),
    0x7D: lambda m: m.stack.append({}),
    0x73: _set_item,
    0x75: lambda m: m.set_items(m.pop_items()),
    0x64: lambda m: m.stack.append(_pairs(m.pop_items())),
    0x8F: lambda m: m.stack.append(set()),
    0x90: Machine.add_items,
    0x91: _frozen_set,
    0x71: lambda m: m.remember(m.byte()),
    0x72: lambda m: m.remember(m.number(_U32)),
    0x68: lambda m: m.recall(m.byte()),
    0x6A: lambda m: m.recall(m.number(_U32)),
    0x94: lambda m: m.remember(len(m.memo)),
    0x63: _global,
    0x93: Machine.stack_global,
    0x52: Machine.reduce,
    0x81: Machine.new_object,
    0x62: Machine.build,
    0x51: Machine.persistent_id,
}.items():
    _OPERATIONS[_code] = _operation


# --------------------------------------------------------------------------------- PyTorch's legacy storage


MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


def persistent_storage(value: Any) -> Persistent:
    """The five (or, in older files, six) parts of a persistent id, checked."""
    if type(value) is not tuple or len(value) not in (5, 6) or value[0] != "storage" or type(value[0]) is not str:
        raise refuse("a value that is not in the file")
    kind, key, device, numel = value[1:5]
    if type(kind) is not StorageKind or type(key) is not str or type(device) is not str:
        raise refuse("a storage of an unusual kind")
    if len(value) == 6 and value[5] is not None:
        raise refuse("a storage that is part of another")
    _sizes((numel,), "number of items")
    return Persistent(kind, key, device, numel)


def read_legacy_head(data: memoryview, budget: Budget) -> int:
    """Check the three pickles that a legacy file begins with; the position behind them."""
    head = Machine(data, budget=budget)
    if not _is_number(head.load(), MAGIC) or not _is_number(head.load(), PROTOCOL):
        raise damaged("it does not begin as PyTorch's files do")
    info = head.load()
    if type(info) is not dict or info.get("little_endian") is not True:
        raise CheckpointError("the file was written on a big-endian machine, which cannot be read; convert it there")
    return head.position


def legacy_payload(data: memoryview, kind: StorageKind, numel: int, position: int) -> tuple[memoryview, int]:
    """The bytes of one storage, which begin with their number, and the position behind them."""
    start = position + 8
    end = start + numel * _itemsize(kind.dtype)
    if end > len(data):
        raise damaged(f"a storage of {numel} items ends {end - len(data)} bytes too early")
    count = int.from_bytes(data[position:start], "little", signed=True)
    if count != numel:
        raise refuse(f"a storage of {numel} items that says it has {count}")
    return data[start:end], end


def _is_number(value: Any, expected: int) -> bool:
    return type(value) is int and value == expected
