"""Passes recorded as graphs equal the ordinary ones wherever the windows are, and whatever comes in between.

There is no GPU here. `tests.emulated` records and replays by the rules of CUDA's graphs.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import torch_utils.ops.prepacked_convolution as prepacked_convolution
from draggan.config import DragConfig
from draggan.drag import Drag
from draggan.generators.stylegan2 import analytic, cuda_graphs
from draggan.generators.stylegan2.static_shapes import MovableLayout
from draggan.generators.stylegan2.windows import plan_layers
from draggan.geometry import Windows, crop, nonzero_support
from tests.conftest import tiny_stylegan2
from tests.emulated import Emulated, Refused, record_on_the_processor
from tests.test_stylegan2_windows import generator
from torch_utils import recorder


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch):
    """Plain convolutions, no weights in the processor's own order; and a recorder for this device."""
    monkeypatch.setattr(prepacked_convolution, "prepacking_works", lambda dtype: False)
    record_on_the_processor(monkeypatch)
    monkeypatch.setattr(recorder, "RECORD_AFTER", 1)


def fresh(square=True):
    """A network of which nothing is recorded."""
    return copy.deepcopy(generator("skip", square))


def rows_of(ws, free=6):
    """The first rows ask for a gradient."""
    return [w.clone().requires_grad_(k < free) for k, w in enumerate(ws.unbind(1))]


def ordinary(G, rows, level, windows, cotangent):
    """Features and gradients without graphs."""
    rows = [row.detach().clone().requires_grad_(row.requires_grad) for row in rows]
    y = analytic.analytic_features(analytic.layout_for(G.synthesis, int(level[1:]), windows), rows)
    y.backward(cotangent)
    return y.detach(), [row.grad for row in rows]


def close(got, expected):
    assert (got is None) == (expected is None)
    if got is not None:
        torch.testing.assert_close(got, expected, atol=1e-4 * expected.abs().max().item() + 1e-6, rtol=1e-4)


def same(G, rows, level, windows, y, cotangent, **how):
    """Features that were computed and their gradient, against the ordinary ones."""
    expected, gradients = ordinary(G, rows, level, windows, cotangent)
    torch.testing.assert_close(y.detach(), expected, atol=2e-5, rtol=1e-5)
    for row in rows:
        row.grad = None
    y.backward(cotangent, **how)
    for row, gradient in zip(rows, gradients, strict=True):
        close(row.grad, gradient)


# ------------------------------------------------------------------------------------------------------ movable layouts


@settings(max_examples=40, deadline=None)
@given(
    architecture=st.sampled_from(["skip", "orig"]),
    square=st.booleans(),
    level=st.sampled_from(["b4", "b8", "b32", "b64"]),
    size=st.tuples(st.integers(1, 70), st.integers(1, 14)),
    places=st.lists(
        st.lists(st.tuples(st.integers(-9, 66), st.integers(-9, 66)), min_size=3, max_size=3), min_size=1, max_size=3
    ),
    count=st.integers(1, 3),
    one_latent=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_one_movable_layout_serves_windows_everywhere(
    architecture, square, level, size, places, count, one_latent, seed
):
    """Inside, over borders and corners, and outside: the crop of the whole map, by automatic differentiation."""
    G, resolution = generator(architecture, square), int(level[1:])
    batch = 1 if one_latent else count
    some = Windows(((0, 0),) * count, size)
    plans = plan_layers(G.synthesis, resolution, some, anywhere=True)
    layout = MovableLayout(G.synthesis.b4.const, plans, some if plans[-1].whole else None, torch.float32, batch)
    torch.manual_seed(seed)
    for origins in places:
        windows = Windows(tuple(origins[:count]), size)
        # The same layers and the same sizes, wherever the windows are.
        again = plan_layers(G.synthesis, resolution, windows, anywhere=True)
        assert [(p.whole, p.inputs.size, p.windows.size) for p in again if not p.whole] == [
            (p.whole, p.inputs.size, p.windows.size) for p in plans if not p.whole
        ]
        layout.move(windows)
        layout.locate()
        ws = torch.randn(batch, G.num_ws, G.w_dim, requires_grad=True)
        y, whole = analytic.analytic_features(layout, ws.unbind(1)), crop(G.synthesis.features(ws, resolution), windows)
        torch.testing.assert_close(y, whole, atol=2e-5, rtol=1e-5)
        cotangent = torch.randn_like(whole)
        got = torch.autograd.grad(y, ws, cotangent)[0]
        if whole.requires_grad:
            close(got, torch.autograd.grad(whole, ws, cotangent)[0])
        else:
            assert not got.any()  # all windows lie outside the map


def test_a_plan_for_windows_anywhere_has_no_more_than_a_cell_to_spare():
    G = generator("skip", True)
    for size in ((1, 1), (4, 5), (9, 12)):
        movable, *plans = (
            plan_layers(G.synthesis, 64, Windows(((y, y),), size), anywhere=anywhere)
            for y, anywhere in [(0, True), *((y, False) for y in range(16))]
        )
        for k, plan in enumerate(movable):
            most = [max(p[k].windows.size[axis] for p in plans) for axis in (0, 1)]
            assert all(0 <= a - b <= 1 for a, b in zip(plan.windows.size, most, strict=True))


# --------------------------------------------------------------------------------------------------------------- replay


def walk(count, seed=0):
    """Windows for 32 steps: by single cells, so that parities change, over borders and corners, and by leaps."""
    random = np.random.default_rng(seed)
    at = np.array([(0, 0), (13, 30), (29, -4)][:count])
    for k in range(32):
        at = at + random.integers(-2, 3, at.shape) if k % 8 else random.integers(-6, 33, at.shape)
        yield Windows(tuple((int(y), int(x)) for y, x in at), (6, 7))


@pytest.mark.parametrize("count", [1, 3])
def test_replays_are_the_ordinary_passes_wherever_windows_go(count):
    G = fresh()
    torch.manual_seed(0)
    still = [row.clone() for row in torch.randn(1, G.num_ws, G.w_dim).unbind(1)]
    for windows in walk(count):
        rows = [torch.randn(1, G.w_dim, requires_grad=True) for _ in range(6)] + still[6:]
        y = G.local_features(rows, "b32", windows)
        same(G, rows, "b32", windows, y, torch.randn_like(y))
    assert Emulated.recorded == 2
    assert Emulated.replayed >= 64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision_is_as_near_to_float32_as_it_is_without(dtype):
    G = fresh()
    torch.manual_seed(0)
    errors = ([], [])
    for windows in list(walk(2))[:20]:
        rows = rows_of(torch.randn(1, G.num_ws, G.w_dim))
        with torch.autocast("cpu", dtype=dtype):
            y = G.local_features(rows, "b32", windows)
            assert y.dtype == dtype
            cotangent = torch.randn_like(y)
            plain, gradients = ordinary(G, rows, "b32", windows, cotangent)
        y.backward(cotangent)
        exact, exactly = ordinary(G, rows, "b32", windows, cotangent.float())
        if not exact.any():
            continue  # all windows lie outside the map
        for found, (a, to_rows) in zip(errors, [(y, [row.grad for row in rows]), (plain, gradients)], strict=True):
            pairs = [(a.detach(), exact), (torch.stack(to_rows[:6]), torch.stack(exactly[:6]))]
            found.append([(a - b).norm() / b.norm() for a, b in pairs])
    assert Emulated.recorded == 2
    replayed, plain = (torch.tensor(found).median(0).values for found in errors)
    assert (replayed < 1.2 * plain).all(), (replayed, plain)


def test_each_window_may_have_a_latent_of_its_own():
    G = fresh()
    for k, windows in enumerate(list(walk(3))[:8]):
        rows = rows_of(torch.randn(3, G.num_ws, G.w_dim))
        y = G.local_features(rows, ("b8", "b64")[k % 2], windows)
        same(G, rows, ("b8", "b64")[k % 2], windows, y, torch.randn_like(y))
    assert Emulated.recorded == 4


def test_whole_maps_are_replayed_too():
    G = fresh(square=False)
    for _ in range(3):
        rows = rows_of(torch.randn(1, G.num_ws, G.w_dim))
        y = G.features(rows, "b64")
        same(G, rows, "b64", None, y, torch.randn_like(y))
    assert Emulated.recorded == 2


def test_a_pass_that_came_in_between_is_noticed():
    """Another session's, or that of an attempt of the second-order solver; then the passes' own gradients again."""
    G = fresh()
    passes = []
    for windows in list(walk(1))[:5]:
        rows = rows_of(torch.randn(1, G.num_ws, G.w_dim))
        passes.append((rows, "b32", windows, G.local_features(rows, "b32", windows)))
    # Which pass, and whether it has to be repeated.
    for k, repeated in ((4, 0), (2, 1), (0, 1), (0, 0), (1, 1), (1, 0), (4, 1)):
        rows, level, windows, y = passes[k]
        before = Emulated.replayed
        same(G, rows, level, windows, y, torch.randn_like(y), retain_graph=True)
        assert Emulated.replayed == before + 1 + repeated
        last, before = Emulated.replayed - before, k
        assert last <= 2
    assert Emulated.recorded == 2


def test_several_gradients_of_one_pass_need_one_pass():
    G = fresh()
    rows, windows = rows_of(torch.randn(1, G.num_ws, G.w_dim)), Windows(((4, 5), (9, 9)), (6, 6))
    y = G.local_features(rows, "b32", windows)
    before = Emulated.replayed
    for _ in range(4):
        same(G, rows, "b32", windows, y, torch.randn_like(y), retain_graph=True)
    assert Emulated.replayed == before + 4
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.grad(y.square().sum(), rows[0], create_graph=True)[0].sum().backward()


def test_what_a_pass_gave_stays_when_others_follow():
    G = fresh()
    results = []
    for windows in list(walk(3))[:4]:
        rows = rows_of(torch.randn(1, G.num_ws, G.w_dim))
        y = G.local_features(rows, "b32", windows)
        y.sum().backward()
        kept = [y.detach(), *(row.grad for row in rows[:6])]
        results.append((kept, [t.clone() for t in kept]))
    for kept, then in results:
        assert all(torch.equal(a, b) for a, b in zip(kept, then, strict=True))


def test_rows_that_rest_may_change_nevertheless():
    """Others, or the same written to."""
    G = fresh()
    windows = Windows(((3, 4),), (5, 5))
    rows = rows_of(torch.randn(1, G.num_ws, G.w_dim))
    for change in (lambda: None, lambda: rows[7].mul_(2), lambda: rows.__setitem__(8, torch.randn(1, G.w_dim))):
        change()
        y = G.local_features(rows, "b64", windows)
        same(G, rows, "b64", windows, y, torch.randn_like(y))
    assert Emulated.recorded == 2


def test_which_rows_ask_is_another_kind_of_pass():
    G = fresh()
    windows = Windows(((3, 4),), (5, 5))
    ws = torch.randn(1, G.num_ws, G.w_dim)
    expected = crop(G.synthesis.features(ws, 64), windows)
    # None asks: there is no backward pass to record.
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            torch.testing.assert_close(G.local_features(rows_of(ws), "b64", windows), expected, atol=2e-5, rtol=1e-5)
    assert Emulated.recorded == 1
    rows = [w.clone().requires_grad_(k in (2, 5)) for k, w in enumerate(ws.unbind(1))]
    y = G.local_features(rows, "b64", windows)
    same(G, rows, "b64", windows, y, torch.randn_like(y))
    assert Emulated.recorded == 3


def test_weights_that_change_are_recorded_anew():
    G = fresh()
    windows, ws = Windows(((3, 3),), (5, 5)), torch.randn(1, G.num_ws, G.w_dim)

    def check(recorded):
        rows = rows_of(ws)
        y = G.local_features(rows, "b64", windows)
        expected = crop(G.synthesis.features(ws, 64), windows)
        torch.testing.assert_close(y, expected, atol=2e-5, rtol=1e-5)
        same(G, rows, "b64", windows, y, torch.randn_like(y))
        assert Emulated.recorded == recorded

    check(2)
    layer = G.synthesis.b64.conv0
    layer.affine.weight.data.mul_(3)
    G.freeze()
    check(4)
    # Nothing stays of the weights before.
    assert len(cuda_graphs._networks[G.synthesis].graphs) == 1
    layer.weight.data = layer.weight.data.flip(0).contiguous()
    G.freeze()
    check(6)
    # In lower precision, convolutions keep weights of their own, which go when these are written to.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = G.local_features(rows_of(ws), "b64", windows)
        with torch.no_grad():
            layer.weight.mul_(-1)
        G.local_features(rows_of(ws), "b64", windows)
        assert Emulated.recorded == 10
        assert not torch.equal(G.local_features(rows_of(ws), "b64", windows), before)


def test_a_network_that_is_gone_leaves_nothing():
    G = tiny_stylegan2()
    G.local_features(torch.randn(1, G.num_ws, G.w_dim), "b32", Windows(((3, 3),), (5, 5)))
    known = len(cuda_graphs._networks)
    del G
    assert len(cuda_graphs._networks) < known


def test_only_what_is_asked_for_often_is_recorded_and_not_too_much_is_kept(monkeypatch):
    monkeypatch.setattr(recorder, "RECORD_AFTER", 3)
    monkeypatch.setattr(cuda_graphs, "MAX_RECORDED", 2)
    G = tiny_stylegan2()
    ws = torch.randn(1, G.num_ws, G.w_dim)
    for recorded in (0, 0, 1, 1):
        G.local_features(ws, "b16", Windows(((3, 3),), (5, 5)))
        assert Emulated.recorded == recorded
    for k in (4, 6, 7):
        for _ in range(3):
            G.local_features(ws, "b16", Windows(((3, 3),), (k, 5)))
    assert Emulated.recorded == 4
    assert [key[1].size for key in cuda_graphs._networks[G.synthesis].graphs] == [(6, 5), (7, 5)]
    # Room for two of these; then none is small enough to be worth it.
    monkeypatch.setattr(cuda_graphs, "MAX_RECORDED", 16)
    graphs = cuda_graphs._networks[G.synthesis].graphs
    memory = max(g.memory for g in graphs.values())
    for room, size, recorded in ((2.5 * memory, (5, 7), 5), (1.9 * memory, (7, 6), 5)):
        monkeypatch.setattr(cuda_graphs, "MAX_BYTES", room)
        for _ in range(3):
            G.local_features(ws, "b16", Windows(((3, 3),), size))
        assert Emulated.recorded == recorded
        assert [key[1].size for key in graphs] == [(7, 5), (5, 7)]


def test_sessions_share_a_network():
    """Each in a thread of its own, windows of one size: every pass gives its own result."""
    G = tiny_stylegan2()
    latents = torch.randn(3, 1, G.num_ws, G.w_dim)
    wrong = []

    def session(ws):
        for windows in list(walk(1))[:8]:
            rows = rows_of(ws, 3)
            y = G.local_features(rows, "b32", windows)
            gradients = torch.autograd.grad(y.square().sum(), rows[:3])
            expected, wanted = ordinary(G, rows, "b32", windows, 2 * y.detach())
            results = zip([y.detach(), *gradients], [expected, *wanted[:3]], strict=True)
            if not all(torch.allclose(a, b, atol=1e-4 * b.abs().max().item() + 1e-6, rtol=1e-4) for a, b in results):
                wrong.append(windows)

    threads = [threading.Thread(target=session, args=(ws,)) for ws in latents]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert Emulated.recorded == 2


# ------------------------------------------------------------------------------------------------------- where it fails


def falls_back(G, caplog, reason):
    windows = Windows(((3, 4),), (5, 5))
    with caplog.at_level(logging.WARNING, logger=cuda_graphs.__name__):
        for _ in range(3):
            rows = rows_of(torch.randn(1, G.num_ws, G.w_dim))
            y = G.local_features(rows, "b32", windows)
            same(G, rows, "b32", windows, y, torch.randn_like(y))
    # Once, and with the reason.
    assert len(caplog.records) == 1
    assert reason in caplog.records[0].getMessage()


def test_a_device_that_cannot_record_costs_only_speed(monkeypatch, caplog):
    def record(self, work):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Emulated, "record", record)
    falls_back(tiny_stylegan2(), caplog, "not permitted")


def test_looking_at_values_while_recording_is_refused(monkeypatch, caplog):
    monkeypatch.setattr(MovableLayout, "gradient_support", lambda self, gradient: nonzero_support(gradient))
    falls_back(tiny_stylegan2(), caplog, "numpy while recording")
    assert Emulated.recorded == 1


@pytest.mark.parametrize("what", ["positions", "rows", "gradient"])
def test_a_graph_that_gives_something_else_is_not_used(what, monkeypatch, caplog):
    """Inputs that the recorded operations do not read."""
    if what == "positions":
        monkeypatch.setattr(MovableLayout, "move", lambda self, windows: None)
    else:
        work, name = ("_forward", "_rows") if what == "rows" else ("_backward", "_gradient")
        real, others = getattr(cuda_graphs.RecordedPass, work), {}

        def reading_something_else(graphs):
            if graphs not in others:
                others[graphs] = copy.copy(graphs)
                setattr(others[graphs], name, getattr(graphs, name).clone())
            return real(others[graphs])

        monkeypatch.setattr(cuda_graphs.RecordedPass, work, reading_something_else)
    falls_back(tiny_stylegan2(), caplog, "gradients differ" if what == "gradient" else "features differ")


def test_memory_that_is_not_held_is_noticed(monkeypatch, caplog):
    """That the emulation does what it is for: a result that was let go is another's after the next replay."""
    forward = analytic.forward

    def careless(layout, modulations, needs_grad, batch):
        y, saved = forward(layout, modulations, needs_grad, batch)
        return y, list(saved) if not isinstance(layout, MovableLayout) else _Forgetful(saved)

    class _Forgetful(list):
        """Not known to be held: no part of what recording is told."""

    monkeypatch.setattr(analytic, "forward", careless)
    falls_back(tiny_stylegan2(), caplog, "gradients differ by nan")


def test_emulated_recording_refuses_what_cuda_refuses():
    x = torch.linspace(-1, 1, 6)
    for work in (
        lambda: x.sum().item(),
        lambda: x[x > 0],
        lambda: x.numpy(),
        lambda: bool(x[0] > 0),
        lambda: x + torch.tensor([1.0]),
        lambda: x.nonzero(),
        lambda: x + torch.from_numpy(np.ones(6, np.float32)),
    ):
        with pytest.raises(Refused):
            Emulated(x.device).record(work)
    factor = torch.full((1,), 2.0)
    result, replay = Emulated(x.device).record(lambda: (x * factor).reshape(2, 3).T + float(7))
    assert result.isnan().all()  # recording computes nothing
    factor.fill_(3)
    replay()
    assert torch.equal(result, (3 * x).reshape(2, 3).T + 7)
    del factor
    with pytest.raises(AssertionError, match="freed"):
        replay()


def test_graphs_are_for_cuda_can_be_turned_off_and_leave_transforms_alone(monkeypatch):
    G = tiny_stylegan2()
    rows, windows = rows_of(torch.randn(1, G.num_ws, G.w_dim)), Windows(((3, 4),), (5, 5))
    assert recorder.can_record(rows)
    for value in ("0", "off"):
        monkeypatch.setenv("DRAGGAN_CUDA_GRAPHS", value)
        assert not recorder.can_record(rows)
    monkeypatch.delenv("DRAGGAN_CUDA_GRAPHS")
    seen = []
    torch.func.vmap(lambda w: (seen.append(recorder.can_record([w])), w)[1])(torch.zeros(2, 1, 3))
    with torch.autograd.forward_ad.dual_level():
        seen.append(recorder.can_record(rows))
    assert seen == [False, False]
    # Networks that are not frozen go through their layers.
    G.requires_grad_(True)
    assert G.local_features(rows, "b32", windows).requires_grad
    assert Emulated.recorded == 0
    monkeypatch.undo()
    assert list(recorder._recorders) == ["cuda"]
    assert not recorder.can_record(rows)


class _Cuda:
    """What the recorder asks of `torch.cuda`, written down."""

    def __init__(self, monkeypatch, fails=False):
        self.log, self.now = [], _Stream("default", self)
        graph = torch.cuda.graph

        @contextlib.contextmanager
        def on(stream):
            before, self.now = self.now, stream
            try:
                yield
            finally:
                self.now = before

        @contextlib.contextmanager
        def record(*args, **settings):
            bound = inspect.signature(graph.__init__).bind(None, *args, **settings).arguments
            self.log.append(("record", bound["pool"], bound["stream"].name, bound["capture_error_mode"]))
            yield
            if fails:
                raise RuntimeError("capture failed")

        class Graph:
            def replay(graph):
                self.log.append(("replay", self.now.name))

        fakes = {
            "Stream": lambda device: _Stream("side", self),
            "current_stream": lambda device=None: self.now,
            "stream": on,
            "device": contextlib.nullcontext,
            "graph": record,
            "CUDAGraph": Graph,
            "graph_pool_handle": lambda: "pool",
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        monkeypatch.setattr(recorder, "_record_streams", {})
        monkeypatch.setattr(recorder, "_replay_streams", {})


class _Stream:
    def __init__(self, name, cuda):
        self.name, self._cuda = name, cuda

    def wait_stream(self, other):
        self._cuda.log.append((self.name, "waits for", other.name))


def test_what_is_asked_of_cuda(monkeypatch):
    """Passes on the stream that is recorded on, then the recording; streams wait for each other, and the host never."""
    cuda = _Cuda(monkeypatch)
    cuda_recorder = recorder._CudaRecorder(torch.device("cuda", 0))
    result, replay = cuda_recorder.record(lambda: cuda.log.append(("work", cuda.now.name)) or 7)
    assert result == 7
    assert cuda.log == [
        ("side", "waits for", "default"),
        ("work", "side"),
        ("work", "side"),
        ("record", "pool", "side", "thread_local"),
        ("work", "side"),
        ("default", "waits for", "side"),
    ]
    cuda.log.clear()
    cuda_recorder.wait_for_replays()
    replay()
    cuda_recorder.wait_for_replays()
    replay()
    with torch.cuda.stream(_Stream("another", cuda)):
        recorder._CudaRecorder(torch.device("cuda", 0)).wait_for_replays()
        replay()
    assert cuda.log == [
        ("default", "waits for", "side"),
        ("replay", "default"),
        ("replay", "default"),
        ("another", "waits for", "default"),
        ("replay", "another"),
    ]


def test_a_recording_that_fails_leaves_its_stream(monkeypatch):
    cuda = _Cuda(monkeypatch, fails=True)
    with pytest.raises(RuntimeError, match="capture failed"):
        recorder._CudaRecorder(torch.device("cuda", 0)).record(lambda: None)
    assert cuda.now.name == "default"


# --------------------------------------------------------------------------------------------------------------- drags


def far_and_near(points):
    """Handles and targets; the single one is not reached in fifty steps."""
    handles, targets = [(10, 15), (31, 0), (20, 25)], [(31, 31), (25, 6), (16, 30)]
    return handles[:points], targets[:points]


def region(G, mask):
    if mask is None:
        return None
    inner = np.zeros(G.image_size, bool)
    inner[5:27, 5:27] = True
    return inner


@pytest.mark.parametrize(("points", "mask"), [(1, None), (3, None), (1, "estimated"), (1, "exact")])
def test_a_drag_is_the_same_step_by_step(points, mask, monkeypatch):
    G = tiny_stylegan2()
    torch.manual_seed(3)
    ws = torch.randn(1, 1, G.w_dim).repeat(1, G.num_ws, 1)
    config = DragConfig(
        max_steps=50 if mask is None else 20,
        step_size=1e-2,
        precision="float32",
        solver="adam",
        mask_windows=0 if mask == "exact" else 2,
    )

    def run():
        return list(Drag(G, ws, *far_and_near(points), mask=region(G, mask), config=config))

    recorded = run()
    assert Emulated.recorded >= 2
    assert Emulated.replayed >= 2 * config.max_steps
    before = Emulated.replayed
    monkeypatch.setenv("DRAGGAN_CUDA_GRAPHS", "0")
    plain = run()
    assert Emulated.replayed == before
    assert len(plain) == config.max_steps + 1
    for a, b in zip(recorded, plain, strict=True):
        assert a.handles.tolist() == b.handles.tolist(), a.index
        torch.testing.assert_close(a.ws, b.ws, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("mask", [None, "any"])
def test_a_second_order_drag_is_the_same_step_by_step(mask, monkeypatch):
    G = tiny_stylegan2()
    torch.manual_seed(3)
    ws = torch.randn(1, 1, G.w_dim).repeat(1, G.num_ws, 1)
    config = DragConfig(max_steps=12, precision="float32", solver="newton", naturalness=0)

    def run():
        return list(Drag(G, ws, *far_and_near(2), mask=region(G, mask), config=config))

    recorded = run()
    assert Emulated.recorded >= 2
    monkeypatch.setenv("DRAGGAN_CUDA_GRAPHS", "0")
    for a, b in zip(recorded, run(), strict=True):
        torch.testing.assert_close(a.handles, b.handles, atol=1e-2, rtol=0)
        torch.testing.assert_close(a.ws, b.ws, atol=2e-3, rtol=1e-3)
