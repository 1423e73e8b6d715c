"""Convolutions with prepared weights equal PyTorch's own, in value and in first and second gradients."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import torch_utils.ops.prepacked_convolution as prepacked_convolution
from torch_utils import pytorch_internals
from torch_utils.ops.prepacked_convolution import PrepackedConvolution


def plain(x: torch.Tensor, weight: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
    if stride == 2:
        return F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    return F.conv2d(x, weight, padding=padding)


@pytest.fixture(params=[True, False], ids=["prepared", "plain"])
def preparing(request, monkeypatch) -> bool:
    if not request.param:
        monkeypatch.setattr(prepacked_convolution, "prepacking_works", lambda dtype: False)
    elif not prepacked_convolution.prepacking_works(torch.float32):
        pytest.skip("this build of PyTorch cannot prepare weights")
    return request.param


SHAPES = [(1, (5, 3), (7, 9)), (3, (16, 32), (4, 4)), (2, (32, 8), (12, 5))]


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 0)])
@pytest.mark.parametrize(("batch", "channels", "size"), SHAPES)
def test_value_and_gradients_are_those_of_pytorch(preparing, stride, padding, batch, channels, size):
    torch.manual_seed(0)
    weight = torch.randn(channels[0], channels[1], 3, 3)
    x = torch.randn(batch, channels[1], *size, requires_grad=True)
    convolution = PrepackedConvolution(stride)
    expected, got = plain(x, weight, stride, padding), convolution(x, weight, padding)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-5)
    cotangent = torch.randn_like(expected).requires_grad_(True)
    gradients = []
    for y in (expected, got):
        (first,) = torch.autograd.grad(y, x, cotangent, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), cotangent)
        gradients.append((first, second))
    # The second gradient is of the order of 9 * 32 channels squared.
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(b, a, atol=1e-5 * a.abs().max().item() + 1e-4, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    stride=st.sampled_from([1, 2]),
    padding=st.sampled_from([0, 1]),
    size=st.tuples(st.integers(3, 12), st.integers(3, 12)),
    corner=st.tuples(st.integers(0, 24), st.integers(0, 24)),
    extent=st.tuples(st.integers(0, 8), st.integers(0, 8)),
)
def test_a_gradient_that_is_mostly_zero_is_the_same(stride, padding, size, corner, extent):
    torch.manual_seed(1)
    padding = 0 if stride == 2 else padding
    weight = torch.randn(4, 6, 3, 3)
    x = torch.randn(2, 6, *size, requires_grad=True)
    expected, got = plain(x, weight, stride, padding), PrepackedConvolution(stride)(x, weight, padding)
    cotangent = torch.zeros_like(expected)
    cotangent[:, :, corner[0] : corner[0] + extent[0], corner[1] : corner[1] + extent[1]] = 1.5
    a, b = (torch.autograd.grad(y, x, cotangent)[0] for y in (expected, got))
    torch.testing.assert_close(b, a, atol=1e-4, rtol=1e-5)


def test_a_weight_that_changed_is_prepared_anew():
    weight, x = torch.randn(4, 3, 3, 3), torch.randn(1, 3, 5, 5)
    convolution = PrepackedConvolution()
    before = convolution(x, weight)
    weight.mul_(2)
    torch.testing.assert_close(convolution(x, weight), 2 * before)
    other = torch.randn(4, 3, 3, 3)
    torch.testing.assert_close(convolution(x, other), F.conv2d(x, other), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_a_copy_works_on_its_own(again):
    weight, x = torch.randn(4, 3, 3, 3), torch.randn(1, 3, 5, 5)
    convolution = PrepackedConvolution(2)
    expected = convolution(x, weight)
    torch.testing.assert_close(again(convolution)(x, weight), expected)


def test_lower_precision_rounds_like_pytorchs():
    """Eight bits of mantissa: 2^-8 of the size of a sum over 9 * 32 products of unit normals, about 17."""
    torch.manual_seed(2)
    weight, x = torch.randn(16, 32, 3, 3), torch.randn(1, 32, 8, 8)
    for stride in (1, 2):
        got = PrepackedConvolution(stride)(x.bfloat16(), weight)
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.float(), plain(x, weight, stride, 0), atol=0.5, rtol=0.02)


def test_a_build_that_answers_wrongly_is_not_used(monkeypatch):
    monkeypatch.setattr(prepacked_convolution, "_works", {})
    monkeypatch.setattr(pytorch_internals, "convolve_prepacked", lambda x, packed, stride, padding: x)
    assert not prepacked_convolution.prepacking_works(torch.float32)
    weight, x = torch.randn(4, 3, 3, 3), torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(PrepackedConvolution()(x, weight), F.conv2d(x, weight))


def test_asking_inside_autocast_gives_the_same_answer(monkeypatch):
    outside = prepacked_convolution.prepacking_works(torch.bfloat16)
    monkeypatch.setattr(prepacked_convolution, "_works", {})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert prepacked_convolution.prepacking_works(torch.bfloat16) == outside


def test_a_type_without_preparation_is_converted_once():
    weight, x = torch.randn(4, 3, 3, 3), torch.randn(1, 3, 5, 5, dtype=torch.float64)
    got = PrepackedConvolution()(x, weight)
    torch.testing.assert_close(got, F.conv2d(x, weight.double()))


def test_no_cells_give_no_cells():
    weight = torch.randn(4, 3, 3, 3)
    assert PrepackedConvolution()(torch.zeros(0, 3, 5, 5), weight).shape == (0, 4, 3, 3)
