"""One step of the published optimiser: what it computes once, and what it never does."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import draggan.drag.problem as problem_module
from draggan import geometry
from draggan.config import DragConfig
from draggan.drag.mask import FixedRegion
from draggan.drag.problem import Pattern, Problem
from draggan.drag.regime import Freedom, Regime
from draggan.drag.solvers import jacobian as jacobian_module
from draggan.drag.solvers.adam import Adam, Moments
from draggan.drag.solvers.gauss_newton import GaussNewton
from draggan.drag.solvers.mask_constraint import mask_view
from draggan.drag.tracking import TemplateTracker
from draggan.generators.stylegan2 import analytic, cuda_graphs
from draggan.geometry import Windows, disc_offsets, square_offsets
from tests.conftest import tiny_stylegan2
from torch_utils import recorder
from torch_utils.transfer import to_host


def test_moments_are_those_of_pytorchs_adam():
    """To the last bit, over steps of very different gradients, a zero among them."""
    torch.manual_seed(0)
    theirs = torch.randn(1, 6, 16).requires_grad_()
    ours, moments = theirs.detach().clone(), Moments.zero(theirs.detach())
    optimiser = torch.optim.Adam([theirs], lr=2e-3)
    for scale in (1.0, 1e-6, 0.0, 30.0, 1e3):
        gradient = scale * torch.randn_like(ours)
        theirs.grad = gradient.clone()
        optimiser.step()
        ours, moments = moments.step(ours, gradient, 2e-3)
        assert torch.equal(ours, theirs)


def test_layouts_are_made_once_for_as_long_as_windows_and_weights_stay(monkeypatch):
    made = []

    class Counted(analytic.Layout):
        def __init__(self, *args):
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr(analytic, "Layout", Counted)
    G = tiny_stylegan2()
    ws = torch.randn(1, G.num_ws, G.w_dim)
    here, there = (Windows(((y, 5),), (6, 6)) for y in (4, 5))
    for windows in (here, here, there, here):
        G.local_features(ws, "b32", windows)
    assert len(made) == 2
    G.freeze()
    G.local_features(ws, "b32", here)
    assert len(made) == 3
    # Nothing stays of the weights before.
    assert len(analytic._layouts[G.synthesis]) == 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert G.local_features(ws, "b32", here).dtype == torch.bfloat16
    assert len(made) == 4


def test_no_more_layouts_are_kept_than_are_of_use():
    G = tiny_stylegan2()
    ws = torch.randn(1, G.num_ws, G.w_dim)
    for y in range(8):
        for x in range(analytic.MAX_LAYOUTS // 8 + 1):
            G.local_features(ws, "b8", Windows(((y, x),), (1, 1)))
    assert len(analytic._layouts[G.synthesis]) == analytic.MAX_LAYOUTS
    known = len(analytic._layouts)
    del G
    assert len(analytic._layouts) < known


class NoWaiting(TorchDispatchMode):
    """Refuses what makes the host wait for the device; what is brought to the host to be read is counted instead."""

    READS = (torch.ops.aten._local_scalar_dense.default,)

    def __init__(self) -> None:
        super().__init__()
        self.read, self.brought, self.strict = 0, 0, False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in self.READS:
            self.read += 1
            return 1.0
        to_host = torch.device(kwargs.get("device") or "meta").type == "cpu"
        if function is torch.ops.aten._to_copy.default and args[0].device.type == "meta" and to_host:
            self.brought += 1
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        devices = {t.device.type for t in args if isinstance(t, torch.Tensor)}
        there = kwargs.get("device")
        if self.strict and there is not None and devices and torch.device(there).type not in devices:
            # PyTorch copies to and from a device asynchronously only when told to.
            assert kwargs.get("non_blocking"), f"{function} waits"
        if self.strict and function is torch.ops.aten.copy_.default and len(devices) > 1:
            assert kwargs.get("non_blocking") or args[2:3] == (True,), f"{function} waits"
        return function(*args, **kwargs)


def on_a_device(G):
    """The same network where no host can look: whoever reads a value there gets an error."""
    G = copy.deepcopy(G).to("meta")
    return G.freeze()


class Recorded(recorder.Recorder):
    """Recorded work that never comes: what a step does besides is left."""

    replayed = 0

    def __init__(self, device):
        pass

    def record(self, work):
        return work(), self.replay

    def replay(self):
        type(self).replayed += 1

    def wait_for_replays(self):
        pass


def problem_of(G, count, config, mask=None):
    """A drag there."""
    patch = disc_offsets(2).to("meta")
    channels = G.synthesis.b32.conv1.weight.shape[0]
    pattern = Pattern(
        offsets=patch,
        weights=torch.ones(count, len(patch), device="meta"),
        features=torch.zeros(count, len(patch), channels, device="meta"),
        slopes=torch.zeros(count, len(patch), channels, 2, device="meta"),
        mean=torch.zeros(count, channels, device="meta"),
        clicked=torch.zeros(count, 2, device="meta"),
        image_size=G.image_size,
    )
    return Problem(
        generator=G,
        config=config,
        level="b32",
        second_level="b32",
        grid=G.grid("b32"),
        dtype=torch.float32,
        ws=torch.zeros(1, G.num_ws, G.w_dim, device="meta"),
        origin=torch.zeros(G.num_ws, G.w_dim, device="meta"),
        led_from=None,
        handles=torch.zeros(count, 2, device="meta"),
        patch=patch,
        window=square_offsets(3).to("meta"),
        reach=6.0,
        templates=torch.zeros(count, len(patch), channels, device="meta"),
        pattern=pattern,
        clicked_together=True,
        find_second_pattern=lambda: pattern,
        regime=Regime(
            handles=count, masked=mask is not None, blended=False, follows=False, second_order=False, live=False
        ),
        mask=mask,
        blend=None,
        stop_distance=1.0,
        near=1.0,
        freedom=Freedom(naturalness=1.0, row_independence=0.2),
        along_pictures=False,
    )


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_a_step_does_not_wait_for_the_device(count, graphs, monkeypatch):
    """Features, tracking, loss, gradient, update. Where the handles are and the loss come to the host in one copy."""
    G = on_a_device(tiny_stylegan2())
    if graphs:
        monkeypatch.setattr(recorder, "_recorders", {"meta": Recorded})
        monkeypatch.setattr(recorder, "RECORD_AFTER", 1)
        # That looks, once per graph.
        monkeypatch.setattr(cuda_graphs, "_compare", lambda *args: None)
        monkeypatch.setattr(recorder, "TOLERANCE", 1.0)
    monkeypatch.setattr(Recorded, "replayed", 0)
    handles = torch.rand(count, 2) * 30
    asked = []

    def cover(points, reach, grid, device=None):
        asked.append(points)
        windows, member = geometry.cover(handles + len(asked), reach, grid)
        return windows, member.to(device or points.device, non_blocking=True)

    monkeypatch.setattr(problem_module, "cover", cover)
    # That there is no autocast for such a device is not what is tested.
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *args: False)
    problem = problem_of(G, count, DragConfig())
    targets = torch.zeros(count, 2, device="meta")
    solver = Adam(problem, TemplateTracker(problem))

    def step(here):
        # Reported by the drag, and the host reads it.
        to_host(here.loss(targets))
        return solver.step(here, targets)

    mode = NoWaiting()

    def watched(make):
        """Numbers of Python's that are to become a tensor on a device wait for it, and no mode sees them."""

        def watch(*args, **kwargs):
            made = make(*args, **kwargs)
            assert not mode.strict or made.device.type == "cpu", f"{make} waits"
            return made

        return watch

    monkeypatch.setattr(torch, "tensor", watched(torch.tensor))
    monkeypatch.setattr(torch.Tensor, "new_tensor", watched(torch.Tensor.new_tensor))
    with mode:
        here = solver.initial(problem.handles)
        for _ in range(3):
            here = step(here)
            # What stays as it is is brought to the device in the first step.
            mode.strict = True
        to_host(here.loss(targets))
        shift = here.moments.step(here.shift, here.supervision.gradient(here.tracked.handles, targets), 2e-3)[0]
    # The first picture's loss, and three steps.
    assert mode.brought == 4
    assert graphs or not mode.read
    assert len(asked) == 4
    assert (Recorded.replayed >= 8) == graphs
    assert shift.device.type == "meta"


def test_a_second_order_drag_keeps_what_it_compares_on_the_device(monkeypatch):
    """PyTorch refuses to compare tensors of two devices, empty ones included: what a drag begins with must be there."""
    G = on_a_device(tiny_stylegan2())
    compared = []

    def equal(a, b):
        assert a.device == b.device
        compared.append((a, b))
        return False

    def cover(points, reach, grid, device=None):
        windows, member = geometry.cover(torch.full(points.shape, 20.0), reach, grid)
        return windows, member.to(device or points.device, non_blocking=True)

    monkeypatch.setattr(torch, "equal", equal)
    monkeypatch.setattr(problem_module, "cover", cover)
    monkeypatch.setattr(jacobian_module, "cover", cover)
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *args: False)
    config = DragConfig(solver="gauss-newton", naturalness=0)
    problem = problem_of(G, 1, config)
    kept = mask_view(G, config, "b32").compute(G, problem.ws, torch.float32)
    problem = problem_of(G, 1, config, FixedRegion(fixed=torch.zeros_like(kept[:, :1]), kept=kept))
    solver = GaussNewton(problem, TemplateTracker(problem, subpixel=True, tolerance=GaussNewton.match_tolerance))
    with NoWaiting():
        solver.step(solver.initial(problem.handles), torch.zeros(1, 2, device="meta"))
    assert compared
