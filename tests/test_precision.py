"""Which type a setting means, and what of a drag stays float32."""

from __future__ import annotations

import pytest
import torch

import draggan.drag.precision as precision
from draggan.config import DragConfig
from draggan.drag import Drag
from tests.conftest import tiny_stylegan2
from tests.toys import BumpGenerator


@pytest.mark.parametrize("supported", [True, False])
def test_automatic_means_bfloat16_only_where_it_was_measured(monkeypatch, supported):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: supported)
    expected = torch.bfloat16 if supported else torch.float32
    assert precision.feature_dtype("auto", tiny_stylegan2()) == expected
    assert precision.feature_dtype("auto", BumpGenerator([(20.0, 20.0)])) == torch.float32


def test_a_named_type_is_taken_everywhere():
    toy = BumpGenerator([(20.0, 20.0)])
    for name in ("float32", "bfloat16", "float16"):
        assert precision.feature_dtype(name, toy) == getattr(torch, name)


def test_a_processor_without_bfloat16_is_recognised(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert not precision.multiplies_bfloat16()


def test_a_build_without_the_library_for_it_is_recognised(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not precision.multiplies_bfloat16()


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
