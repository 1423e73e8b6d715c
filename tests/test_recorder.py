"""Functions of tensors that are recorded and replayed, and drags whose arithmetic goes that way.

There is no GPU here. `tests.emulated` records and replays by the rules of CUDA's graphs.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from draggan.config import DragConfig
from draggan.drag import Drag, continuity, line, motion_supervision, problem, tracking
from draggan.drag.solvers import gauss_newton, jacobian, mask_constraint
from draggan.geometry import coordinates
from tests.conftest import tiny_stylegan2
from tests.emulated import Emulated, _tensors, record_on_the_processor
from torch_utils import recorder, transfer
from torch_utils.ops import prepacked_convolution
from torch_utils.recorder import Replayed, can_look, replayed

RECORDED = (
    *(
        continuity._go_on,
        continuity._arrive,
        line._next_on_line,
        line._followed_on_line,
        tracking.slopes,
        tracking.track,
        tracking.refine,
    ),
    *(motion_supervision.pull, motion_supervision.pull_and_gradient, motion_supervision.mask_loss_and_gradient),
    *(jacobian._gradient_to_cells, jacobian.residual, problem._departures),
    *(gauss_newton._step_towards, gauss_newton._predicted_handles, gauss_newton._restoring, gauss_newton._restored),
    *(mask_constraint._begin, mask_constraint._move, mask_constraint._turn),
)
"""What of a drag is recorded beside passes through the network."""


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepacked_convolution, "prepacking_works", lambda dtype: False)
    record_on_the_processor(monkeypatch)
    for function in RECORDED:
        function.forget()


@dataclass(frozen=True, eq=False)
class Line:
    """An argument of several parts."""

    slope: Tensor
    offset: float


class Both(NamedTuple):
    """A result of two."""

    low: Tensor
    high: Tensor


def through(x: Tensor, line: Line, count: int) -> Both:
    y = x
    for _ in range(count):
        y = y * line.slope + line.offset
    return Both(y, y + 1)


def test_a_function_is_recorded_the_third_time_and_gives_the_same() -> None:
    function = replayed(through)
    slope = torch.tensor([2.0, 3.0])
    held = []
    for k in range(6):
        x = torch.full((2,), float(k))
        got = function(x, Line(slope, 0.5), 2)
        assert isinstance(got, Both)
        held.append((got, through(x, Line(slope, 0.5), 2)))
    assert Emulated.recorded == 1
    assert Emulated.replayed == 5  # four of six, and one to compare
    for got, expected in held:  # what was returned is not written over
        torch.testing.assert_close(tuple(got), tuple(expected))
    # What was changed in place is read again.
    slope.mul_(2)
    torch.testing.assert_close(function(x, Line(slope, 0.5), 2), through(x, Line(slope, 0.5), 2))
    assert Emulated.recorded == 1


def test_other_shapes_and_numbers_are_other_kinds_and_gradients_go_the_ordinary_way() -> None:
    function = replayed(through)
    for _ in range(3):
        for x, offset, count in ((torch.ones(2), 0.5, 2), (torch.ones(3, 2), 0.5, 2), (torch.ones(2), 0.25, 1)):
            slope = torch.tensor([2.0, 3.0])
            function(x, Line(slope, offset), count)
    assert Emulated.recorded == 3
    x = torch.ones(2, requires_grad=True)
    for _ in range(4):
        assert function(x, Line(slope, 0.5), 3).low.requires_grad
    assert Emulated.recorded == 3
    with torch.no_grad():
        assert not function(x, Line(slope, 0.5), 2).low.requires_grad
    assert Emulated.recorded == 3
    # Nobody knows whether that stays the same.
    for _ in range(4):
        replayed(lambda x, f: f(x))(torch.ones(2), torch.sin)
    assert Emulated.recorded == 3


@pytest.mark.parametrize("what", ["looks", "differs", "breaks"])
def test_what_cannot_be_recorded_is_computed_all_the_same(
    what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = [torch.ones(2)]

    def function(x: Tensor) -> Tensor:
        if what == "looks" and float(x.sum()) > 100:
            return x
        if what == "differs":
            return other[0] * 2 if not can_look(x) else x * 2
        return x * 2

    def refuse(recorder: Emulated, work: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    if what == "breaks":
        monkeypatch.setattr(Emulated, "record", refuse)
    doubled = replayed(function)
    for k in range(6):
        assert torch.equal(doubled(torch.full((2,), k + 3.0)), torch.full((2,), 2 * k + 6.0))
    assert caplog.text.count("without CUDA graphs") == 1
    words = {"looks": "while recording", "differs": "differs", "breaks": "not permitted"}
    assert words[what] in caplog.text


def test_what_is_asked_for_seldom_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MOST_KINDS", 2)
    function: Replayed[..., Tensor] = replayed(lambda x, k: x * k)
    for k in range(4):
        for _ in range(3):
            function(torch.ones(2), k)
    assert len(function._kinds) == 2
    assert Emulated.recorded == 4


def test_what_is_recorded_may_call_what_has_to_be_recorded_anew() -> None:
    inner = replayed(lambda x: x * 2)
    outer = replayed(lambda x: inner(inner(inner(x))))
    for k in range(2):
        outer(torch.full((2,), float(k)))
    assert Emulated.recorded == 1
    inner.forget()  # as if other kinds had taken its place
    got: list[Tensor] = []
    caller = threading.Thread(target=lambda: got.append(outer(torch.full((2,), 3.0))), daemon=True)
    caller.start()
    caller.join(30)
    assert got, "it waits for itself"
    assert torch.equal(got[0], torch.full((2,), 24.0))
    assert Emulated.recorded == 3


def test_who_has_waited_for_a_recording_that_failed_does_not_try_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(recorder: Emulated, work: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Emulated, "record", refuse)
    doubled = replayed(lambda x: x * 2)
    calls = [threading.Thread(target=doubled, args=(torch.ones(n),), daemon=True) for n in (2, 3)]
    for n in (2, 3):
        for _ in range(2):
            doubled(torch.ones(n))
    with recorder.recording():
        for call in calls:
            call.start()
        until = time.monotonic() + 30
        while [*doubled._requests.values()] != [3, 3] and time.monotonic() < until:
            time.sleep(0.01)
    for call in calls:
        call.join(30)
        assert not call.is_alive()
    assert caplog.text.count("without CUDA graphs") == 1


class Watched(TorchDispatchMode):
    """What the host gives to the device, a replay being one thing, and how often it waits for it.

    There is only one memory here; so it is kept in mind which tensors would be on the host: those that were brought
    there, or made of numbers, and what is computed of such alone.
    """

    # Nothing to be done on the device; memory is the host's business.
    FREE = frozenset(
        [
            *("view", "expand", "detach", "alias", "slice", "select", "unsqueeze", "squeeze", "transpose", "permute"),
            *("t", "unbind", "split", "split_with_sizes", "as_strided", "_unsafe_view", "chunk", "_reshape_alias"),
            *("diagonal", "lift_fresh", "empty", "empty_like", "new_empty", "new_empty_strided"),
        ]
    )
    LOOKS = frozenset(["_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select"])
    replaying = False

    def __init__(self) -> None:
        super().__init__()
        self.given, self.waits, self.strict = 0, 0, False
        self.host, self.either = WeakTensorKeyDictionary(), WeakTensorKeyDictionary()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        out = function(*args, **kwargs)
        if Watched.replaying:
            return out
        name, tensors = function.overloadpacket.__name__, _tensors((args, kwargs))
        # A number among the operands is on neither side, nor are constants that each has.
        sided = [t for t in tensors if t not in self.either and (t.dim() or t in self.host)]
        made = not (tensors or kwargs.get("device"))
        if all(t in self.host for t in sided) and (sided or made or any(t in self.either for t in tensors)):
            for t in _tensors(out):
                self.host[t] = True
        else:
            # A device takes no operands from the host, and copies say so (`watching`).
            strange = [t for t in sided if t in self.host and t.dim()]
            assert not (strange and self.strict), (
                f"{function} of tensors of both, of the host {[tuple(t.shape) for t in strange]}"
            )
            chosen = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
            self.given += name not in self.FREE
            self.waits += name in self.LOOKS or chosen
        return out

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Within, what no mode sees is seen, too: copies between the two, and numbers that become tensors."""

        def brought(t: Tensor) -> Tensor:
            if t in self.host:
                return t
            self.waits += not Watched.replaying
            with _python_dispatch._disable_current_modes():
                there = t.detach().clone()
            self.host[there] = True
            return there

        def sent(t: Tensor, device: torch.device | None = None) -> Tensor:
            with _python_dispatch._disable_current_modes():
                return t.detach().clone()

        def of_numbers(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
            def made(*args: Any, **kwargs: Any) -> Tensor:
                t = make(*args, **kwargs)
                self.host[t] = True
                return t

            return made

        def looked(look: Callable[..., Any]) -> Callable[..., Any]:
            return lambda t, *args, **kwargs: look(brought(t), *args, **kwargs)

        to, constant = Tensor.to, coordinates._constant

        def of_both(*args: Any) -> Tensor:
            t = constant(*args)
            self.either[t] = True
            return t

        def moved(t: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            goes = t in self.host and (any(isinstance(a, torch.device | Tensor) for a in args) or "device" in kwargs)
            return to(sent(t) if goes else t, *args, **kwargs)

        with contextlib.ExitStack() as stack:
            for name in ("tensor", "from_numpy"):
                stack.enter_context(mock.patch.object(torch, name, of_numbers(getattr(torch, name))))
            for name in ("numpy", "tolist"):
                stack.enter_context(mock.patch.object(Tensor, name, looked(getattr(Tensor, name))))
            stack.enter_context(mock.patch.object(Tensor, "cpu", brought))
            stack.enter_context(mock.patch.object(Tensor, "to", moved))
            stack.enter_context(mock.patch.object(coordinates, "_constant", of_both))
            stack.enter_context(mock.patch.object(transfer, "_is_on_host", lambda t: t in self.host))
            stack.enter_context(mock.patch.object(transfer, "_page_locked", sent))
            stack.enter_context(self)
            yield


class Quiet(Emulated):
    """Of whose replays one does not see what is in them."""

    def record(self, work):  # type: ignore[no-untyped-def]
        result, replay = super().record(work)

        def quiet() -> None:
            Watched.replaying = True
            replay()
            Watched.replaying = False

        return result, quiet


@pytest.mark.parametrize(
    ("solver", "count", "tracker", "mask", "given", "waits"),
    [
        # Where the handles are, with the loss.
        ("adam", 1, "template", False, 30, 1),
        ("adam", 1, "template", True, 35, 1),
        # Where to look; whether the step is taken, with the loss.
        # Of this one a step takes two attempts, and what is under the handle is made as it was.
        ("gauss-newton", 1, "continuity", False, 100, 4),
        ("gauss-newton", 1, "continuity", True, 200, 2),
        # In whole pictures one after the other, and the loss apart; rows repeated, see `LatentMetric`.
        ("gauss-newton", 3, "continuity", False, 65, 3),
    ],
)
def test_a_recorded_drag_is_the_drag_itself(
    solver: str,
    count: int,
    tracker: str,
    mask: bool,
    given: int,
    waits: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Step for step; and how much the host gives to the device in a step, and how often it waits, is counted."""
    monkeypatch.setattr(recorder, "_recorders", {"cpu": Quiet})
    monkeypatch.setattr(recorder, "RECORD_AFTER", 1)
    monkeypatch.setattr(mask_constraint, "can_look", lambda t: False)
    monkeypatch.setattr(jacobian, "_copies", lambda device: 3)  # as on a device
    monkeypatch.setattr(gauss_newton, "RULES", replace(gauss_newton.RULES, restored_from=0.0))
    G = copy.deepcopy(tiny_stylegan2())
    ws = torch.randn(1, G.num_ws, G.w_dim, generator=torch.Generator().manual_seed(1))
    handles = np.array([(12.0, 14.0), (20.0, 11.0), (9.0, 22.0)])[:count]
    targets = handles + np.array((5.0, 2.0))
    changes = None
    # Once another test has loaded compiled operators, "auto" is bfloat16, in which the two round differently.
    settings = {"solver": solver, "tracker": tracker, "precision": "float32"}
    if mask:
        settings["mask_hold"] = "soft"
        changes = np.zeros((32, 32), bool)
        changes[4:28, 4:28] = True
    config = DragConfig(**settings, max_steps=4, max_departure=100.0)  # type: ignore[arg-type]

    def drag() -> Drag:
        return Drag(G, ws, handles, targets, changes, config=config)

    found, counts = [], []
    for recorded in (False, True):
        monkeypatch.setenv("DRAGGAN_CUDA_GRAPHS", str(int(recorded)))
        if recorded:  # what there is to record is recorded in a drag like this one
            list(drag())
        watched, steps = Watched(), []
        with watched.watching():
            going = drag()
            since = []
            for step in going:
                steps.append(step)
                since.append((watched.given, watched.waits))
                watched.strict = True
        found.append(steps)
        # Of steps in the middle: the first and the last bring what is needed once a drag.
        counts.append([(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(since)][1:-1])
    plain, other = found
    assert [step.outcome for step in plain] == [step.outcome for step in other]
    for a, b in zip(plain, other, strict=True):
        np.testing.assert_allclose(b.handles, a.handles, atol=1e-3)
        torch.testing.assert_close(b.ws, a.ws, atol=1e-4, rtol=1e-4)
        assert b.loss == pytest.approx(a.loss, rel=1e-3, abs=1e-5)
    (much, _), (little, waiting) = (np.max(c, 0) for c in counts)
    assert little <= min(given, much / 2)
    assert waiting <= waits
