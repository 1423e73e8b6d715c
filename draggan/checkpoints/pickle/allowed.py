"""Every function and class that a model file may name, and what each does here. Anything else ends the reading."""

from __future__ import annotations

from typing import Any

from draggan.checkpoints.pickle import tensors
from draggan.checkpoints.pickle.budget import Budget, damaged, refuse
from draggan.checkpoints.pickle.machine import checked_key
from draggan.checkpoints.pickle.stand_ins import (
    AllowedClass,
    AllowedFunction,
    AllowList,
    EasyDict,
    Ignored,
    Module,
    OrderedDict,
    StandIn,
    TensorFlowNetwork,
)
from draggan.checkpoints.pickle.storages import STORAGE_KINDS, embedded_storage

__all__ = ["IN_PICKLES", "IN_TORCH_ARCHIVES"]


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


def _empty_ordered(budget: Budget) -> OrderedDict:
    return OrderedDict()


def _set(budget: Budget, items: Any = ()) -> set:
    if type(items) not in (list, tuple):
        raise refuse("a set of something unusual")
    budget.step(len(items))
    return {checked_key(item) for item in items}


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


_TYPES = ("float32", "float", "float16", "half", "bfloat16", "float64", "double", "int64", "int32", "uint8")
# What plain data and PyTorch tensors need, in any file.
_COMMON: AllowList = {
    ("collections", "OrderedDict"): AllowedFunction("collections.OrderedDict", _empty_ordered),
    ("dnnlib.util", "EasyDict"): AllowedClass("dnnlib.util.EasyDict", EasyDict),
    ("numpy", "dtype"): AllowedFunction("numpy.dtype", tensors.dtype_of),
    ("numpy", "ndarray"): tensors.NDARRAY,
    **{
        (module, name): AllowedFunction(f"{module}.{name}", function)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name, function in (("scalar", tensors.scalar), ("_reconstruct", tensors.array_shell))
    },
    **{
        (module, "_frombuffer"): AllowedFunction(f"{module}._frombuffer", tensors.array_from_buffer)
        for module in ("numpy.core.numeric", "numpy._core.numeric")
    },
    ("_codecs", "encode"): AllowedFunction("_codecs.encode", _encode),
    **{(module, "bytes"): AllowedFunction(f"{module}.bytes", _empty_bytes) for module in ("builtins", "__builtin__")},
    **{
        (module, name): AllowedFunction(f"{module}.{name}", _set)
        for module in ("builtins", "__builtin__")
        for name in ("set", "frozenset")
    },
    ("argparse", "Namespace"): AllowedClass("argparse.Namespace", Ignored),
    ("torch._utils", "_rebuild_tensor"): AllowedFunction("torch._utils._rebuild_tensor", tensors.tensor_v1),
    ("torch._utils", "_rebuild_tensor_v2"): AllowedFunction("torch._utils._rebuild_tensor_v2", tensors.tensor_v2),
    ("torch._utils", "_rebuild_parameter"): AllowedFunction("torch._utils._rebuild_parameter", tensors.parameter),
    ("torch.nn.parameter", "Parameter"): tensors.PARAMETER,
    ("torch", "Size"): AllowedFunction("torch.Size", tensors.size),
    ("torch", "device"): AllowedFunction("torch.device", _device),
    **{("torch", name): StandIn(f"torch.{name}") for name in _TYPES},
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): AllowedFunction(
        "torch_utils.persistence._reconstruct_persistent_obj", _module
    ),
}
# A pickle that stands alone: storages are blobs inside it.
IN_PICKLES: AllowList = {
    **_COMMON,
    ("torch.storage", "_load_from_bytes"): AllowedFunction("torch.storage._load_from_bytes", embedded_storage),
    ("dnnlib.tflib.network", "Network"): AllowedClass("dnnlib.tflib.network.Network", TensorFlowNetwork),
}
# The pickle inside a torch archive: storages are beside it and named by a persistent id.
IN_TORCH_ARCHIVES: AllowList = {**_COMMON, **STORAGE_KINDS}
