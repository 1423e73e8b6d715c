"""CUDA graphs, emulated on processors: what is recorded, and what recording forbids."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from torch_utils import recorder
from torch_utils.ops import prepacked_convolution
from torch_utils.pytorch_internals import below_autograd
from torch_utils.recorder import Recorder

aten = torch.ops.aten

# The host waits for the device, or the shape of a result depends on values.
_WAITS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.item.default,
    aten.lift_fresh.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.nonzero_static.default,
    aten.repeat_interleave.Tensor,
    aten.unique_consecutive.default,
    aten._unique2.default,
}


class Refused(RuntimeError):
    """What CUDA refuses while it records."""


def _refuse(name: str) -> Callable[..., Any]:
    def refused(*args: Any, **kwargs: Any) -> Any:
        raise Refused(f"{name} while recording")

    return refused


@contextlib.contextmanager
def nothing_from_the_host() -> Iterator[None]:
    """Refuses what no mode sees: values to and from Python and numpy."""
    with contextlib.ExitStack() as stack:
        for name in ("numpy", "__array__", "tolist", "item", "new_tensor", "pin_memory", "cpu", "__bool__"):
            stack.enter_context(mock.patch.object(Tensor, name, _refuse(name)))
        for name in ("tensor", "as_tensor", "from_numpy", "arange"):
            stack.enter_context(mock.patch.object(torch, name, _refuse(name)))
        yield


def _tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    return [t for t in tree_flatten(tree)[0] if isinstance(t, Tensor)]


def _address(t: Tensor) -> int:
    return t.untyped_storage()._cdata


class _Recording(TorchDispatchMode):
    """Every operation with the very tensors that it read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple, dict, Any]] = []
        self.made: list[Tensor] = []
        # Tensors that were there before, and those that came into being while recording.
        self.given = WeakTensorKeyDictionary()
        self.inner = WeakTensorKeyDictionary()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        if function in _WAITS:
            raise Refused(f"{function} while recording")
        if function is aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1]):
            raise Refused("a choice by a mask while recording")
        if len({t.device for t in given}) > 1 or torch.device(kwargs.get("device") or "cpu").type != "cpu":
            raise Refused(f"{function} from device to device while recording")
        for t in given:
            if t not in self.inner:
                self.given[t] = True
        out = function(*args, **kwargs)
        for t in _tensors(out):
            if t not in self.given:
                self.inner[t] = True
        if any(a.alias_info is not None and a.alias_info.is_write for a in function._schema.arguments):
            self.calls.append((function, args, kwargs, None))
            return out
        # A view needs no replay. What may be one or a copy, as a reshaped tensor, tells by its memory.
        known = {_address(t) for t in given}
        fresh = [t for t in _tensors(out) if _address(t) not in known]
        if fresh:
            assert len(fresh) == len(_tensors(out))
            self.calls.append((function, args, kwargs, out))
            self.made += fresh
        return out


def _firm(x: Any) -> Any:
    """What a weak reference stands for, in lists too."""
    if isinstance(x, weakref.ref):
        return x()
    return [_firm(v) for v in x] if isinstance(x, list) else x


def _spoil(tensors: list[Tensor]) -> None:
    for t in tensors:
        t.fill_(float("nan") if t.is_floating_point() else 113)


class Emulated(Recorder):
    """Replays call by call into the recorded tensors.

    As with CUDA, shapes, addresses and numbers stay as they were; recording computes nothing; memory of which no result
    is held is another's after a replay; and what was not made while recording must still exist.
    """

    recorded = 0
    replayed = 0

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def record(self, work):
        work()
        work()
        mode = _Recording()
        with nothing_from_the_host(), mode:
            result = work()
        type(self).recorded += 1
        held = {_address(t) for t in _tensors(result)}
        free = [t for t in mode.made if _address(t) not in held]
        with below_autograd():
            _spoil(mode.made)
        # A graph keeps nothing alive that it was given, so neither do the calls.
        outside = {id(t): weakref.ref(t) for t in mode.given}

        def loose(x: Any) -> Any:
            return outside.get(id(x), x) if isinstance(x, Tensor) else x

        calls = [(function, *tree_map(loose, (args, kwargs)), out) for function, args, kwargs, out in mode.calls]
        mode.calls.clear()

        def replay() -> None:
            type(self).replayed += 1
            assert all(ref() is not None for ref in outside.values()), "memory that the graph reads was freed"
            # What was recorded is what the operations did, whatever is asked for now.
            with torch.autocast(self.device.type, enabled=False), below_autograd():
                for function, args, kwargs, out in calls:
                    new = function(*[_firm(x) for x in args], **{name: _firm(x) for name, x in kwargs.items()})
                    for old, now in zip(_tensors(out), _tensors(new), strict=True) if out is not None else ():
                        old.copy_(now)
                _spoil(free)

        return result, replay

    def wait_for_replays(self) -> None:
        pass


def record_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """For one test: what is recorded on a GPU is recorded here, and counted from nothing."""
    monkeypatch.setattr(recorder, "_recorders", {"cpu": Emulated})
    # Nor are zeros looked for there.
    monkeypatch.setattr(prepacked_convolution, "nonzero_extent", lambda x: (0, x.shape[2], 0, x.shape[3]))
    monkeypatch.setattr(Emulated, "recorded", 0)
    monkeypatch.setattr(Emulated, "replayed", 0)
