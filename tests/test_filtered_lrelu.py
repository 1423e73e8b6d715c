"""The filtered leaky ReLU equals its definition step by step, with its gradients, however it is cut into chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from torch_utils.errors import BuildError
from torch_utils.ops import filtered_lrelu as module
from torch_utils.ops import library, status
from torch_utils.ops.filtered_lrelu import filtered_lrelu, filtered_lrelu_gradient


def convolved(x: Tensor, f: Tensor | None) -> Tensor:
    """Convolution with the plane filter that f means, no padding."""
    if f is None:
        return x
    plane = torch.outer(f, f) if f.ndim == 1 else f
    return F.conv2d(x, plane.flip(0, 1).to(x).expand(x.shape[1], 1, -1, -1), groups=x.shape[1])


def by_definition(x, up_filter, down_filter, bias, up, down, padding, gain, slope, clamp) -> Tensor:
    """Every step of the docstring as it is written."""
    x = x + bias[:, None, None]
    zeros = x.new_zeros(*x.shape[:2], x.shape[2] * up, x.shape[3] * up)
    zeros[:, :, ::up, ::up] = x
    x = convolved(F.pad(zeros, padding), up_filter) * up**2
    x = F.leaky_relu(x, slope) * gain
    if clamp is not None:
        x = x.clamp(-clamp, clamp)
    return convolved(x, down_filter)[:, :, ::down, ::down]


def random_filter(kind: str, taps: int) -> Tensor | None:
    """Asymmetric, so that a flipped filter or axis shows."""
    if kind == "none":
        return None
    return torch.randn(taps, dtype=torch.double) if kind == "1d" else torch.randn(taps, taps - 1, dtype=torch.double)


filters = st.tuples(st.sampled_from(["none", "1d", "2d"]), st.integers(2, 9))


@pytest.fixture(scope="module", params=["plain", "compiled"], autouse=True)
def version(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every claim here holds for both, whatever another test has loaded."""
    if request.param == "compiled":
        try:
            library.load()
        except BuildError as e:
            pytest.skip(f"the compiled operators cannot be built: {e}")
        yield
    else:
        with status.reference_only():
            yield


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(6, 14), st.integers(6, 14)),
    batch=st.integers(1, 2),
    channels=st.integers(1, 19),
    up_kind=filters,
    down_kind=filters,
    up=st.integers(1, 4),
    down=st.integers(1, 3),
    padding=st.tuples(*[st.integers(-4, 12)] * 4),
    slope=st.sampled_from([0.2, 1.0]),
    clamp=st.sampled_from([None, 0.7]),
    seed=st.integers(0, 999),
)
def test_equals_its_definition(
    size, batch, channels, up_kind, down_kind, up, down, padding, slope, clamp, seed
) -> None:
    torch.manual_seed(seed)
    x = torch.randn(batch, channels, *size, dtype=torch.double, requires_grad=True)
    bias = torch.randn(channels, dtype=torch.double, requires_grad=True)
    up_filter, down_filter = random_filter(*up_kind), random_filter(*down_kind)
    rest = [
        size[axis] * up
        + sum(padding[2 - 2 * axis : 4 - 2 * axis])
        - (0 if up_filter is None else up_filter.shape[0 if up_filter.ndim == 1 else axis] - 1)
        - (0 if down_filter is None else down_filter.shape[0 if down_filter.ndim == 1 else axis] - 1)
        for axis in (0, 1)
    ]
    settings_ = {"up": up, "down": down, "padding": padding, "gain": 1.5, "slope": slope, "clamp": clamp}
    if min(rest) < 1:
        with pytest.raises(ValueError, match="too small"):
            filtered_lrelu(x, up_filter=up_filter, down_filter=down_filter, bias=bias, **settings_)
        return
    expected = by_definition(x, up_filter, down_filter, bias, **settings_)
    found = filtered_lrelu(x, up_filter=up_filter, down_filter=down_filter, bias=bias, **settings_)
    torch.testing.assert_close(found, expected)
    cotangent = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad(y, (x, bias), cotangent) for y in (found, expected))
    torch.testing.assert_close(ours, theirs)


def example(channels: int = 2) -> tuple[Tensor, Tensor, dict]:
    torch.manual_seed(0)
    x = torch.randn(1, channels, 4, 5, dtype=torch.double, requires_grad=True)
    bias = torch.randn(channels, dtype=torch.double, requires_grad=True)
    taps = torch.randn(4, dtype=torch.double)
    return x, bias, {"up_filter": taps, "down_filter": torch.randn(4, 4).double(), "up": 2, "down": 2, "clamp": 2.0}


def test_second_derivatives() -> None:
    x, bias, kwargs = example()

    def f(x: Tensor, bias: Tensor) -> Tensor:
        return filtered_lrelu(x, bias=bias, **kwargs).sin()

    assert torch.autograd.gradcheck(f, (x, bias))
    assert torch.autograd.gradgradcheck(f, (x, bias))


@pytest.mark.parametrize("kind", ["none", "1d", "square"])
def test_the_gradient_alone_is_the_gradient(kind: str) -> None:
    torch.manual_seed(0)
    fd = torch.randn(4, 4, dtype=torch.double) if kind == "square" else random_filter(kind, 4)
    x = torch.randn(2, 5, 6, 7, dtype=torch.double, requires_grad=True)
    bias = torch.randn(5, dtype=torch.double)
    settings = {"up_filter": random_filter("1d", 6), "down_filter": fd, "bias": bias, "up": 2, "down": 2}
    settings |= {"padding": (3, 2, -1, 4), "slope": 0.3, "clamp": 2.0}
    y = filtered_lrelu(x, **settings)
    cotangent = torch.randn(y.shape, dtype=torch.double)
    (expected,) = torch.autograd.grad(y, x, cotangent)
    found = filtered_lrelu_gradient(cotangent, x, **settings)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    x, bias, kwargs = example(50)
    results = []
    for size in (1, 1 << 40):
        monkeypatch.setattr(module, "_CHUNK_BYTES_CPU", size)
        y = filtered_lrelu(x, bias=bias, **kwargs)
        results.append((y, *torch.autograd.grad(y.square().sum(), (x, bias))))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_a_constant_passes_unchanged_but_for_the_gain() -> None:
    """Filters have gain 1 at frequency 0, the zeros of upsampling are made up for, borders aside."""
    taps = torch.hann_window(8, periodic=False) + 0.1
    # Interpolation keeps a constant only if every phase of the filter has the same sum.
    taps[::2] /= taps[::2].sum() * 2
    taps[1::2] /= taps[1::2].sum() * 2
    x = torch.full([1, 1, 20, 20], 3.0)
    y = filtered_lrelu(x, up_filter=taps, down_filter=taps, up=2, down=2, padding=(7, 7, 7, 7))
    torch.testing.assert_close(y[0, 0, 6:-6, 6:-6], torch.full_like(y[0, 0, 6:-6, 6:-6], 3 * math.sqrt(2)))
