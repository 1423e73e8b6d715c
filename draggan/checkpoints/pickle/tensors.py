"""Tensors and arrays as pickles hold them, each checked against the bytes that are really in the file.

Nothing is allocated for a tensor: it is a view into the file until somebody asks for its numbers.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from draggan.checkpoints.pickle.budget import Budget, damaged, refuse, show
from draggan.checkpoints.pickle.stand_ins import InertObject, StandIn, StorageKind
from draggan.errors import CheckpointError

__all__ = [
    "NDARRAY",
    "PARAMETER",
    "DType",
    "NumpyArray",
    "Storage",
    "StorageReference",
    "Tensor",
    "array_from_buffer",
    "array_shell",
    "as_array",
    "checked_sizes",
    "dtype_of",
    "float_tensor",
    "itemsize",
    "parameter",
    "scalar",
    "size",
    "tensor_v1",
    "tensor_v2",
]

MAX_RANK = 8
NDARRAY = StandIn("numpy.ndarray")
PARAMETER = StandIn("torch.nn.parameter.Parameter")


class DType(InertObject):
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


class NumpyArray(InertObject):
    """A numpy array; its bytes stay in the file."""

    __slots__ = ("value",)

    def __init__(self, value: np.ndarray | None = None) -> None:
        self.value = value

    def build(self, state: Any) -> None:
        # (version, shape, dtype, Fortran order, bytes)
        if type(state) is not tuple or len(state) != 5 or self.value is not None:
            raise refuse("an unusual state for a numpy array")
        self.value = _array(state[4], state[2], state[1], state[3])


class StorageReference(InertObject):
    """A storage named by its key, whose bytes are elsewhere in the file."""

    __slots__ = ("device", "key", "kind", "numel")

    def __init__(self, kind: StorageKind, key: str, device: str, numel: int) -> None:
        self.kind, self.key, self.device, self.numel = kind, key, device, numel


class Storage(InertObject):
    """A flat run of numbers. ``data`` are its bytes, exactly ``numel`` items; None while they are still to come."""

    __slots__ = ("data", "kind", "numel")

    def __init__(self, kind: StorageKind, numel: int, data: memoryview | None) -> None:
        self.kind, self.numel, self.data = kind, numel, data

    @property
    def nbytes(self) -> int:
        return self.numel * itemsize(self.kind.dtype)

    def array(self) -> np.ndarray:
        """All items, 1-D, without a copy; bfloat16 as its bits (uint16)."""
        if self.data is None or len(self.data) != self.nbytes:
            raise damaged("a tensor's numbers are missing")
        dtype = "<u2" if self.kind.dtype == "bfloat16" else self.kind.dtype
        return np.frombuffer(self.data, dtype=dtype)


class Tensor(InertObject):
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
        budget.take_numbers(_product(value.shape) * max(itemsize(value.storage.kind.dtype), 4))
        return value.array()
    if isinstance(value, NumpyArray):
        if value.value is None:
            raise damaged("a numpy array without its numbers")
        budget.take_numbers(max(value.value.nbytes, 4 * value.value.size))
        return value.value
    if isinstance(value, np.ndarray):
        budget.take_numbers(max(value.nbytes, 4 * value.size))
        return value
    return np.asarray(value, np.float32) if isinstance(value, float) else None


def float_tensor(name: str, value: Any, budget: Budget) -> np.ndarray:
    """The numbers of a weight: float32 or float16 as stored, other float types as float32.

    Raises:
        CheckpointError: it is no tensor, not of floating-point numbers, or holds NaN or infinity.
    """
    array = as_array(value, budget)
    if array is None:
        raise CheckpointError(f"'{name[:120]}' is a {type(value).__name__} where a tensor is expected")
    if array.dtype.kind != "f":
        raise CheckpointError(f"tensor '{name[:120]}' holds {array.dtype} numbers; weights are floating-point numbers")
    if array.dtype.str not in ("<f4", "<f2"):
        array = array.astype(np.float32)
    if not array.flags.c_contiguous:
        array = array.copy()
    if not np.isfinite(array).all():
        raise CheckpointError(f"tensor '{name[:120]}' holds values that are not finite numbers; the file is damaged")
    return array


def itemsize(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def checked_sizes(values: Any, what: str) -> tuple[int, ...]:
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
    shape = checked_sizes(shape, "shape")
    kind = dtype.numpy()
    if _product(shape) * kind.itemsize != len(raw):
        raise refuse(f"a numpy array of shape {list(shape)} over {len(raw)} bytes")
    return np.frombuffer(raw, kind).reshape(shape, order="F" if fortran else "C")


# What the allowed functions do. The first argument of each is the budget; the others come from the file.


def dtype_of(budget: Budget, code: Any = None, align: Any = False, copy: Any = False) -> DType:
    if not isinstance(code, str) or code not in DType.ALLOWED:
        raise refuse(f"the numpy data type {show(code)}")
    return DType(code)


def array_shell(budget: Budget, kind: Any = None, shape: Any = None, code: Any = None) -> NumpyArray:
    if kind is not NDARRAY:
        raise refuse("a numpy array of an unusual kind")
    return NumpyArray()


def array_from_buffer(
    budget: Budget, raw: Any = None, dtype: Any = None, shape: Any = None, order: Any = "C"
) -> NumpyArray:
    if order not in ("C", "F"):
        raise refuse("a numpy array in an unusual order")
    return NumpyArray(_array(raw, dtype, shape, order == "F"))


def scalar(budget: Budget, dtype: Any = None, raw: Any = None) -> int | float | bool:
    return _array(raw, dtype, (), False).item()


def tensor_v1(
    budget: Budget, storage: Any = None, offset: Any = None, shape: Any = None, strides: Any = None
) -> Tensor:
    """A tensor over a storage, once it is certain that it stays within it."""
    if not isinstance(storage, Storage):
        raise refuse("a tensor that is not over a storage")
    shape, strides = checked_sizes(shape, "size"), checked_sizes(strides, "stride")
    (offset,) = checked_sizes((offset,), "offset")
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


def tensor_v2(
    budget: Budget,
    storage: Any = None,
    offset: Any = None,
    shape: Any = None,
    strides: Any = None,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> Tensor:
    return tensor_v1(budget, storage, offset, shape, strides)


def parameter(budget: Budget, data: Any = None, requires_grad: Any = False, hooks: Any = None) -> Tensor:
    if not isinstance(data, Tensor):
        raise refuse("a parameter that is not a tensor")
    return data


def size(budget: Budget, values: Any = ()) -> tuple[int, ...]:
    return checked_sizes(tuple(values[: MAX_RANK + 1]) if type(values) is list else values, "size")
