"""Which type a setting means, and what of a drag stays float32."""

from __future__ import annotations

import pytest
import torch

import draggan.drag.precision as precision
from draggan.config import DragConfig
from draggan.drag import Drag
from tests.conftest import tiny_stylegan2


def test_automatic_is_the_same_on_every_machine():
    assert precision.feature_dtype("auto") == torch.float32


def test_a_named_type_is_taken_everywhere():
    for name in ("float32", "bfloat16", "float16"):
        assert precision.feature_dtype(name) == getattr(torch, name)


@pytest.mark.parametrize("mask_windows", [0, 1])
@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_latent_and_losses_stay_float32(name, mask_windows):
    G = tiny_stylegan2()
    ws = torch.randn(1, G.num_ws, G.w_dim)
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[8:24, 8:24] = True
    config = DragConfig(precision=name, mask_windows=mask_windows, max_steps=3)
    steps = list(Drag(G, ws, [(12, 12)], [(20, 16)], mask.numpy(), config))
    for step in steps:
        assert step.ws.dtype == torch.float32
    # Steps of Adam are far smaller than what bfloat16 can tell apart at 1.
    assert 0 < (steps[1].ws - ws).abs().max() < 2**-8
