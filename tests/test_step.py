"""One step of the published optimiser: what it computes once, and what it never does."""

from __future__ import annotations

import torch

from draggan.drag.adam import Moments
from draggan.generators import frozen, local
from draggan.geometry import Windows
from tests.conftest import tiny_stylegan2


def test_moments_are_those_of_pytorchs_adam():
    """To the last bit, over steps of very different gradients, a zero among them."""
    torch.manual_seed(0)
    theirs = torch.randn(1, 6, 16).requires_grad_()
    ours, moments = theirs.detach().clone(), Moments(theirs.detach())
    optimiser = torch.optim.Adam([theirs], lr=2e-3)
    for scale in (1.0, 1e-6, 0.0, 30.0, 1e3):
        gradient = scale * torch.randn_like(ours)
        theirs.grad = gradient.clone()
        optimiser.step()
        ours = moments.step(ours, gradient, 2e-3)
        assert torch.equal(ours, theirs)


def test_layouts_are_made_once_for_as_long_as_windows_and_weights_stay(monkeypatch):
    made = []

    class Counted(frozen.Layout):
        def __init__(self, *args):
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr(local, "Layout", Counted)
    G = tiny_stylegan2()
    ws = torch.randn(1, G.num_ws, G.w_dim)
    here, there = (Windows(((y, 5),), (6, 6)) for y in (4, 5))
    for windows in (here, here, there, here):
        G.local_features(ws, "b32", windows)
    assert len(made) == 2
    G.freeze()
    G.local_features(ws, "b32", here)
    assert len(made) == 3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert G.local_features(ws, "b32", here).dtype == torch.bfloat16
    assert len(made) == 4


def test_no_more_layouts_are_kept_than_are_of_use():
    G = tiny_stylegan2()
    ws = torch.randn(1, G.num_ws, G.w_dim)
    for y in range(8):
        for x in range(local._KEPT // 8 + 1):
            G.local_features(ws, "b8", Windows(((y, x),), (1, 1)))
    assert len(local._layouts[G.synthesis]) == local._KEPT
    known = len(local._layouts)
    del G
    assert len(local._layouts) < known
