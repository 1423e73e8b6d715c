"""Work on a device that is recorded once and replayed: CUDA graphs, and functions of tensors that go that way.

On a GPU a step of a drag is some hundred operations on a few numbers each; giving them to the device one by one takes
longer than they do. A graph is all of them in one call, with the shapes, addresses and numbers that they had when they
were recorded.

`Recorder` records on a device; who holds buffers and decides what is recorded, and when, are those above:
`draggan.generators.stylegan2.cuda_graphs` for passes through a network, and here `replayed`, for any function of
tensors. ``DRAGGAN_CUDA_GRAPHS=0`` turns all of it off.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from torch_utils.ops import status
from torch_utils.pytorch_internals import copy_all, is_transformed, version

__all__ = [
    "RECORD_AFTER",
    "Recorder",
    "Replayed",
    "can_look",
    "can_record",
    "count_graph",
    "enabled",
    "graphs_made",
    "is_recordable",
    "recorder_for",
    "recording",
    "replayed",
    "replaying",
]

_log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

RECORD_AFTER = 3
"""What is asked for so often is recorded: that takes three passes and waits for the device."""
MOST_KINDS = 32
"""Of one function: a few numbers of handles, sizes and types."""
TOLERANCE = 1e-2
"""How much of their norm replayed results may differ by from ordinary ones. Other algorithms differ by less; inputs
that are not read, or memory that is another's, make all of it differ."""


class Recorder(abc.ABC):
    """Records work on a device, to be done again at the same addresses."""

    @abc.abstractmethod
    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """Do the work a few times, then record it.

        Returns:
            What the work returned, whose tensors hold results after each replay; and what replays it.
        """

    @abc.abstractmethod
    def wait_for_replays(self) -> None:
        """What is given to the device from here on comes after all that was replayed before."""


# By device. Recorded is on one stream, so that libraries have their workspaces there beforehand. Replayed is on any:
# this is the one last used, so that another can wait for it.
_record_streams: dict[torch.device, torch.cuda.Stream] = {}
_replay_streams: dict[torch.device, torch.cuda.Stream] = {}


class _CudaRecorder(Recorder):
    """CUDA graphs that share their memory: the second leaves alone what the first one's results hold."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._pool = device, torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        with torch.cuda.device(self._device):
            if self._device not in _record_streams:
                _record_streams[self._device] = torch.cuda.Stream(self._device)
            stream = _record_streams[self._device]
            stream.wait_stream(torch.cuda.current_stream())
            # Leaves the stream again even where `torch.cuda.graph` fails to.
            with torch.cuda.stream(stream):
                # Graphs that are replayed elsewhere have libraries' workspaces in common with this.
                self.wait_for_replays()
                for _ in range(2):
                    work()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                    result = work()
            torch.cuda.current_stream().wait_stream(stream)
        return result, graph.replay

    def wait_for_replays(self) -> None:
        now = torch.cuda.current_stream(self._device)
        last = _replay_streams.get(self._device)
        if last is not None and last != now:
            now.wait_stream(last)
        _replay_streams[self._device] = now


# By kind of device.
_recorders: dict[str, Callable[[torch.device], Recorder]] = {"cuda": _CudaRecorder}
# For `graphs_made`.
_made = 0
# For the tables; for recording, of which a process does one at a time; for one replay from its inputs to its results,
# so that no two mix. Taken in the order recording, replaying, tables. What is recorded is then called in the ordinary
# way, and may have something else recorded that it calls: by the same thread.
_lock, _recording, _replaying = threading.Lock(), threading.RLock(), threading.Lock()
_thread = threading.local()


def enabled() -> bool:
    """Whether graphs may be used at all: ``DRAGGAN_CUDA_GRAPHS`` is not 0."""
    return status.switched_on("DRAGGAN_CUDA_GRAPHS")


def is_recordable(device: torch.device) -> bool:
    """Whether something records on such a device."""
    return device.type in _recorders


def recorder_for(device: torch.device) -> Recorder | None:
    """What records work on that device; None where nothing can, or graphs are turned off."""
    return _recorders[device.type](device) if is_recordable(device) and enabled() else None


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Held by who records: a process records one thing at a time."""
    with _recording:
        yield


@contextlib.contextmanager
def replaying() -> Iterator[None]:
    """Held from the inputs of a replay to its results, so that no two mix."""
    with _replaying:
        yield


def count_graph() -> None:
    """One more is being recorded, for `graphs_made`."""
    global _made
    _made += 1


def graphs_made() -> int:
    """How many kinds of passes this process has recorded, or tried to: whoever times them waits until it stays."""
    return _made


def can_record(tensors: Sequence[Tensor]) -> bool:
    """Whether work on these tensors could be a graph: on such a device, and nothing traces or transforms it."""
    device = tensors[0].device
    return (
        is_recordable(device)
        and enabled()
        and all(type(t) in (Tensor, nn.Parameter) and t.device == device for t in tensors)
        and not torch.compiler.is_compiling()
        and not is_transformed()
        and not (device.type == "cuda" and torch.cuda.is_current_stream_capturing())
    )


def can_look(t: Tensor) -> bool:
    """Whether the host may look at values: it need not wait for a device, and nothing is being recorded."""
    return t.device.type == "cpu" and not getattr(_thread, "records", False)


# ----------------------------------------------------------------------------------------------------------- functions


@dataclass(frozen=True)
class _Place:
    """Where a tensor was in the arguments: the number of the tensor."""

    number: int


def _flat(value: Any, tensors: list[Tensor]) -> Any:
    """Arguments without their tensors, which are appended: what tells kinds of calls apart.

    Raises:
        TypeError: something of which it is not known whether it stays the same.
    """
    if isinstance(value, Tensor):
        for number, known in enumerate(tensors):
            if known is value:
                return _Place(number)
        tensors.append(value)
        return _Place(len(tensors) - 1)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = tuple((f.name, _flat(getattr(value, f.name), tensors)) for f in dataclasses.fields(value))
        return type(value), parts
    if isinstance(value, tuple | list):
        return type(value), tuple(_flat(part, tensors) for part in value)
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return value
    raise TypeError(f"{type(value).__name__} cannot be an argument of a function that is replayed")


def _built(shape: Any, tensors: Sequence[Tensor]) -> Any:
    """The same with these tensors."""
    if isinstance(shape, _Place):
        return tensors[shape.number]
    if isinstance(shape, tuple):
        kind, parts = shape
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return kind(**{name: _built(part, tensors) for name, part in parts})
        built = [_built(part, tensors) for part in parts]
        return kind(*built) if hasattr(kind, "_fields") else kind(built)
    return shape


@dataclass(eq=False)
class _Kind:
    """One kind of call, recorded.

    Attributes:
        buffers: where the arguments' tensors are read.
        loaded: which tensor each of them holds, and how often that had been written to.
        results, shape: the tensors of what is returned, and the rest of it.
    """

    buffers: list[Tensor]
    loaded: list[tuple[weakref.ref[Tensor], int | None] | None]
    results: list[Tensor]
    shape: Any
    run: Callable[[], None]
    recorder: Recorder

    def call(self, tensors: Sequence[Tensor]) -> Any:
        """The results for other tensors."""
        with replaying():
            self.recorder.wait_for_replays()
            changed = [k for k, t in enumerate(tensors) if not self._holds(k, t)]
            copy_all([self.buffers[k] for k in changed], [tensors[k].detach() for k in changed])
            for k in changed:
                t = tensors[k]
                self.loaded[k] = None if t.is_inference() else (weakref.ref(t), version(t))
            self.run()
            results = [torch.empty_like(t) for t in self.results]
            copy_all(results, self.results)
        return _built(self.shape, results)

    def _holds(self, k: int, t: Tensor) -> bool:
        """What stays the same from call to call, as the picture that a drag began with, need not be copied again."""
        loaded = self.loaded[k]
        return loaded is not None and loaded[0]() is t and loaded[1] == version(t)


class Replayed(Generic[P, R]):
    """A function of tensors that is recorded, kind by kind, where it can be; everywhere else it is simply called.

    Arguments and results are tensors, numbers, words, and tuples, lists and dataclasses of those. Results depend on
    nothing else, their shapes not on the tensors' values; the function writes to none of its arguments, and where
    `can_look` says no, it looks at no value. Calls with other shapes, types or numbers are other kinds.

    A kind is recorded when it is asked for the third time, without gradients, and compared with the ordinary call
    before its first use. If it differs, or recording fails, the function is called in the ordinary way on that device
    from then on, and the log says why. It may call other such functions, but no pass through a network that is recorded
    itself.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self._function: Callable[..., R] = function
        self._requests: OrderedDict[Any, int] = OrderedDict()
        self._kinds: OrderedDict[Any, _Kind] = OrderedDict()
        self._failed_on: set[torch.device] = set()
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs or not any(isinstance(a, Tensor) and is_recordable(a.device) for a in args):
            return self._function(*args, **kwargs)
        tensors: list[Tensor] = []
        try:
            shape = _flat(args, tensors)
        except TypeError:
            return self._function(*args)
        needs_grad = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        if needs_grad or getattr(_thread, "records", False) or not can_record(tensors):
            return self._function(*args)
        found = self._found(shape, tensors)
        return self._function(*args) if found is None else found.call(tensors)

    def forget(self) -> None:
        """All that was recorded; for tests."""
        with _lock:
            self._requests.clear()
            self._kinds.clear()
            self._failed_on.clear()

    def _found(self, shape: Any, tensors: Sequence[Tensor]) -> _Kind | None:
        device = tensors[0].device
        operations = status.available(tensors[0]), torch.are_deterministic_algorithms_enabled()
        key = (shape, tuple((t.shape, t.dtype, t.stride()) for t in tensors), device, *operations)
        with _lock:
            if device in self._failed_on:
                return None
            if key in self._kinds:
                self._kinds.move_to_end(key)
                return self._kinds[key]
            self._requests[key] = count = self._requests.pop(key, 0) + 1
            if len(self._requests) > 8 * MOST_KINDS:
                self._requests.popitem(last=False)
        if count < RECORD_AFTER:
            return None
        with recording():
            with _lock:
                # While this waited, another may have.
                if device in self._failed_on:
                    return None
                if key in self._kinds:
                    return self._kinds[key]
            try:
                kind = self._record(shape, tensors)
            except RuntimeError as error:
                with _lock:
                    self._failed_on.add(device)
                name = getattr(self._function, "__qualname__", "a function")
                _log.warning("%s is computed without CUDA graphs on %s, more slowly: %s", name, device, error)
                return None
            with _lock:
                self._kinds[key] = kind
                while len(self._kinds) > MOST_KINDS:
                    self._requests.pop(self._kinds.popitem(last=False)[0], None)
        return kind

    def _record(self, shape: Any, tensors: Sequence[Tensor]) -> _Kind:
        count_graph()
        recorder = recorder_for(tensors[0].device)
        assert recorder is not None
        results: list[Tensor] = []

        with torch.inference_mode(False), torch.no_grad():
            buffers = [torch.empty_like(t, requires_grad=False).copy_(t) for t in tensors]

            def work() -> tuple[Any, list[Tensor]]:
                results: list[Tensor] = []
                outcome = self._function(*_built(shape, buffers))
                return _flat(outcome, results), results

            _thread.records = True
            try:
                with replaying():
                    (result_shape, results), run = recorder.record(work)
            finally:
                _thread.records = False
            kind = _Kind(buffers, [None] * len(buffers), results, result_shape, run, recorder)
            got, expected = list[Tensor](), list[Tensor]()
            _flat(kind.call(tensors), got)
            _flat(self._function(*_built(shape, list(tensors))), expected)
            for a, b in zip(got, expected, strict=True):
                difference, size = (float(t.double().norm()) for t in (a.double() - b.double(), b))
                # Not a number is not less.
                if not difference <= TOLERANCE * size:
                    raise RuntimeError(f"a replayed result differs by {difference:.3g} from one of norm {size:.3g}")
        return kind


def replayed(function: Callable[P, R]) -> Replayed[P, R]:
    """See `Replayed`; for a decorator."""
    return Replayed(function)
