"""Drags and pictures on a GPU, replayed and not: what `tests.emulated` stands for elsewhere, on the device itself."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from draggan.config import DragConfig
from draggan.drag import Drag
from tests.conftest import tiny_stylegan2
from torch_utils import recorder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize(
    ("solver", "count", "tracker", "mask"),
    [
        ("gauss-newton", 1, "continuity", None),
        ("gauss-newton", 1, "continuity", "soft"),
        ("gauss-newton", 1, "continuity", "exact"),
        ("gauss-newton", 3, "continuity", None),
        ("adam", 1, "template", None),
        ("adam", 1, "template", "soft"),
    ],
)
def test_a_replayed_drag_is_the_drag_itself(
    solver: str,
    count: int,
    tracker: str,
    mask: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    G = copy.deepcopy(tiny_stylegan2()).to("cuda").freeze()
    ws = torch.randn(1, G.num_ws, G.w_dim, generator=torch.Generator().manual_seed(1))
    handles = np.array([(12.0, 14.0), (20.0, 11.0), (9.0, 22.0)])[:count]
    settings = {"solver": solver, "tracker": tracker, "mask_hold": mask or "exact"}
    config = DragConfig(**settings, max_steps=3, max_departure=100.0)  # type: ignore[arg-type]
    changes = None if mask is None else np.pad(np.ones((24, 24), bool), 4)
    found = []
    for recorded in (False, True):
        monkeypatch.setenv("DRAGGAN_CUDA_GRAPHS", str(int(recorded)))
        made = recorder.graphs_made()
        for _ in range(4 if recorded else 1):
            steps = list(Drag(G, ws, handles, handles + np.array((5.0, 2.0)), changes, config=config))
        assert (recorder.graphs_made() > made) == recorded
        found.append(steps)
    # Nothing that could not be recorded, or was another thing when it was replayed.
    assert "without CUDA graphs" not in caplog.text
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(b.handles, a.handles, atol=5e-2)
        torch.testing.assert_close(b.ws, a.ws, atol=5e-3, rtol=5e-3)


def test_replayed_pictures_are_the_pictures(caplog: pytest.LogCaptureFixture) -> None:
    G = copy.deepcopy(tiny_stylegan2()).to("cuda").freeze()
    for _ in range(5):
        ws = torch.randn(1, G.num_ws, G.w_dim, device="cuda")
        with torch.no_grad():
            torch.testing.assert_close(G.synthesis(ws), G.synthesis.ordinary(ws, None), rtol=1e-2, atol=1e-2)
    for _ in range(5):
        ws = torch.randn(1, G.num_ws, G.w_dim, device="cuda", requires_grad=True)
        (got,) = torch.autograd.grad(G.synthesis(ws).square().sum(), ws)
        (expected,) = torch.autograd.grad(G.synthesis.ordinary(ws, None).square().sum(), ws)
        torch.testing.assert_close(got, expected, rtol=2e-2, atol=2e-2 * expected.abs().max().item())
    assert "without CUDA graphs" not in caplog.text
