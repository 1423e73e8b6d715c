"""Pictures by replays, recorded by the rules of CUDA's graphs on a processor (tests/emulated.py)."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from tests.conftest import tiny_stylegan2
from tests.emulated import Emulated, record_on_the_processor
from torch_utils.ops import prepacked_convolution


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepacked_convolution, "prepacking_works", lambda dtype: False)
    record_on_the_processor(monkeypatch)


def test_pictures_and_previews_are_the_ordinary_ones() -> None:
    """Other latents, other sizes, more at a time; each kind recorded the third time it is asked for."""
    G = copy.deepcopy(tiny_stylegan2())
    torch.manual_seed(0)
    for batch, height in ((1, 32), (1, 16), (2, 32)):
        for _ in range(5):
            ws = torch.randn(batch, G.num_ws, G.w_dim)
            with torch.no_grad():
                got, expected = G.preview(ws, height), G.synthesis.ordinary(ws, None if height == 32 else height)
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
            assert not got.requires_grad
    assert Emulated.recorded == 3
    # Three of five of each, and one more to compare.
    assert Emulated.replayed == 3 * 4
    with torch.inference_mode():
        torch.testing.assert_close(G.synthesis(ws), expected, rtol=1e-5, atol=1e-6)
    assert Emulated.replayed == 13


def test_what_was_drawn_is_not_drawn_over() -> None:
    G = copy.deepcopy(tiny_stylegan2())
    latents = [torch.randn(1, G.num_ws, G.w_dim) for _ in range(6)]
    with torch.no_grad():
        pictures = [G.synthesis(ws) for ws in latents]
        for ws, picture in zip(latents, pictures, strict=True):
            torch.testing.assert_close(picture, G.synthesis.ordinary(ws, None), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("height", [32, 16])
def test_gradients_by_the_latent_are_the_ordinary_ones(height: int) -> None:
    """Of rows, too, several of one picture, and after other pictures have been drawn."""
    G = copy.deepcopy(tiny_stylegan2())
    torch.manual_seed(0)
    for k in range(5):
        ws = torch.randn(1, G.num_ws, G.w_dim).requires_grad_()
        picture = G.preview(list(ws.unbind(1)) if k % 2 else ws, height)
        with torch.no_grad():
            G.preview(torch.randn(1, G.num_ws, G.w_dim), height)
        expected = G.synthesis.ordinary(ws, None if height == 32 else height)
        torch.testing.assert_close(picture, expected, rtol=1e-5, atol=1e-6)
        for _ in range(2):
            by_picture = torch.randn_like(picture)
            (got,) = torch.autograd.grad(picture, ws, by_picture, retain_graph=True)
            (wanted,) = torch.autograd.grad(expected, ws, by_picture, retain_graph=True)
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    # The picture and its gradient.
    assert Emulated.recorded == 2


def test_weights_in_training_and_changed_weights_go_the_ordinary_way() -> None:
    G = copy.deepcopy(tiny_stylegan2())
    ws = torch.randn(1, G.num_ws, G.w_dim)
    with torch.no_grad():
        for _ in range(3):
            G.synthesis(ws)
        assert Emulated.recorded == 1
        G.synthesis.b32.conv1.weight.mul_(1.5)
        for module in G.modules():
            if hasattr(module, "freeze") and module is not G:
                module.freeze()
        torch.testing.assert_close(G.synthesis(ws), G.synthesis.ordinary(ws, None))
        assert Emulated.recorded == 2
        torch.testing.assert_close(G.synthesis(ws), G.synthesis.ordinary(ws, None))
    G.requires_grad_(True)
    assert G.synthesis(ws).requires_grad
    with torch.no_grad():
        G.synthesis(ws)
    assert Emulated.recorded == 2


@pytest.mark.parametrize("how", ["fails", "differs"])
def test_what_cannot_be_recorded_is_drawn_all_the_same(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def record(recorder: Emulated, work: object) -> tuple[torch.Tensor, object]:
        if how == "fails":
            raise RuntimeError("operation not permitted when stream is capturing")
        return torch.full((1, 3, 32, 32), 7.0), lambda: None

    monkeypatch.setattr(Emulated, "record", record)
    G = copy.deepcopy(tiny_stylegan2())
    ws = torch.randn(1, G.num_ws, G.w_dim)
    with torch.no_grad():
        for _ in range(6):
            torch.testing.assert_close(G.synthesis(ws), G.synthesis.ordinary(ws, None))
    assert caplog.text.count("pictures are drawn without CUDA graphs") == 1


def test_pictures_are_replayed_where_only_their_gradients_cannot_be(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record = Emulated.record

    def refuse_gradients(recorder: Emulated, work: Callable[[], torch.Tensor]) -> object:
        if work().ndim == 3:  # by the latent
            raise RuntimeError("operation not permitted when stream is capturing")
        return record(recorder, work)

    monkeypatch.setattr(Emulated, "record", refuse_gradients)
    G = copy.deepcopy(tiny_stylegan2())
    for _ in range(5):
        ws = torch.randn(1, G.num_ws, G.w_dim).requires_grad_()
        G.synthesis(ws).sum().backward()
        assert ws.grad is not None
    assert caplog.text.count("gradients of pictures are computed without CUDA graphs") == 1
    before = Emulated.replayed
    with torch.no_grad():
        torch.testing.assert_close(G.synthesis(ws), G.synthesis.ordinary(ws, None), rtol=1e-5, atol=1e-6)
    assert Emulated.replayed == before + 1
