"""The compiled operators give what their PyTorch twins give, and never stand in anybody's way."""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from draggan import doctor
from torch_utils.errors import BuildError
from torch_utils.ops import build, library, status
from torch_utils.ops.bias_act import (
    ACTIVATIONS,
    bias_act,
    modulated_act,
    scaled_gradient,
    scaled_lrelu,
    scaled_lrelu_gradient,
)
from torch_utils.ops.filtered_lrelu import filtered_lrelu
from torch_utils.ops.prepacked_convolution import PrepackedConvolution
from torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d

TOOLS = build.toolchain()
needs_compiler = pytest.mark.skipif(TOOLS.compiler is None or TOOLS.ninja is None, reason="needs a compiler and ninja")
CSRC = Path(library.__file__).parent / "csrc"
ROOT = Path(library.__file__).parents[2]
# Of the largest absolute value: a few roundings.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 4e-6, torch.bfloat16: 2**-7}
DTYPES = list(TOLERANCE)


def kept(request: pytest.FixtureRequest, name: str) -> str:
    """A folder in pytest's own cache; without one (``-p no:cacheprovider``) a temporary one."""
    cache = getattr(request.config, "cache", None)
    folders = request.getfixturevalue("tmp_path_factory")
    return str(folders.mktemp(name) if cache is None else cache.mkdir(name))


@pytest.fixture(scope="module")
def loaded(request: pytest.FixtureRequest) -> Iterator[None]:
    """The compiled operators, loaded for this file only; built once and kept in pytest's own cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRAGGAN_HOME", kept(request, "ops"))
        try:
            library.load()
        except BuildError as error:
            pytest.fail(str(error))
    yield
    status._loaded.clear()


@pytest.fixture
def compiled(loaded: None) -> None:
    """Compiled operators, as far as there is a compiler."""


def agree(function: Callable[..., Tensor], tensors: list[Tensor | None], grads: bool = True) -> None:
    """Value and gradients: compiled in the given types, against the twin in float64."""
    dtype = next(t for t in tensors if t is not None).dtype

    def run(precise: bool) -> list[Tensor]:
        own: list[Tensor | None] = []
        for t in tensors:
            if t is not None:
                t = t.detach().double() if precise else t.detach()
                t = t.requires_grad_(grads)
            own.append(t)
        y = function(*own)
        wanted = [t for t in own if t is not None]
        torch.manual_seed(5)
        cotangent = torch.randn(y.shape, dtype=torch.float64).to(dtype).to(y.dtype)
        return [y, *(torch.autograd.grad(y, wanted, cotangent) if grads and y.numel() else [])]

    found = run(False)
    with status.reference_only():
        expected = run(True)
    assert found[0].dtype == dtype
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        if b.numel():
            assert (a - b).abs().max() <= TOLERANCE[dtype] * b.abs().max().clamp(min=1e-3)


def layouts(x: Tensor) -> dict[str, Tensor]:
    """The same numbers in several orders of memory."""
    n, c, h, w = x.shape
    room = x.new_full((n, h + 3, w + 5, c), math.nan).permute(0, 3, 1, 2)
    room[:, :, 1 : h + 1, 2 : w + 2] = x
    plain_room = x.new_full((n, c + 1, h + 3, w + 5), math.nan)
    plain_room[:, 1:, 1 : h + 1, 2 : w + 2] = x
    wide = x.new_empty(n, c, h, 2 * w)
    wide[..., ::2] = x
    return {
        "plain": x,
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "part, channels last": room[:, :, 1 : h + 1, 2 : w + 2],
        "part": plain_room[:, 1:, 1 : h + 1, 2 : w + 2],
        "turned": x.transpose(2, 3).contiguous().transpose(2, 3),
        "every second": wide[..., ::2],
    }


# ---------------------------------------------------------------------------------------------------- against the twin


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 5, 9, 11), (1, 70, 3, 35), (2, 3, 1, 1), (0, 3, 4, 4), (3, 40), (2, 7, 5)])
def test_modulated_act_is_its_twin(compiled: None, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape).to(dtype)
    scales = [None, torch.rand(shape[0], shape[1]) + 0.5, torch.rand(1, shape[1], *[1] * (len(shape) - 2)) + 0.5]
    noises = [None] if len(shape) == 2 else [None, torch.randn(shape[2:]), torch.randn(shape[0], 1, *shape[2:])]
    noises = [None if z is None else z.to(dtype) for z in noises]
    settings = [("lrelu", None), ("lrelu", 0.9), ("linear", 0.7)]
    for scale, noise, bias, (activation, clamp) in itertools.product(
        scales, noises, [None, torch.randn(shape[1])], settings
    ):
        for v in layouts(x).values() if x.ndim == 4 and x.numel() else [x]:
            agree(
                lambda x, scale, bias, z=noise, a=activation, c=clamp: modulated_act(
                    x, scale, None if z is None else z.to(x.dtype), bias, activation=a, gain=1.3, clamp=c
                ),
                [v, scale, bias],
                grads=scale is None or shape[0] > 0,
            )


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("up", "down", "padding"),
    [
        (1, 1, (1, 1, 1, 1)),
        (1, 1, (0, 0, 0, 0)),
        (2, 1, (2, 1, 2, 1)),
        (1, 2, (1, 1, 1, 1)),
        (2, 2, (1, 2, 3, 1)),
        (3, 1, (2, 2, 2, 2)),
        (1, 3, (2, 0, 1, 1)),
        (1, 1, (-1, -2, 0, 3)),
        (2, 1, (-1, 2, -3, 1)),
        (4, 2, (30, 3, 3, 40)),
    ],
)
def test_upfirdn2d_is_its_twin(
    compiled: None, dtype: torch.dtype, up: int, down: int, padding: tuple[int, int, int, int]
) -> None:
    torch.manual_seed(0)
    # Rows of the length from which on the compiled version is used.
    x = torch.randn(2, 5, 7, 33).to(dtype)
    for f in (setup_filter((1, 3, 3, 1)), torch.randn(3, 5), torch.rand(6), torch.ones(1, 1), torch.zeros(2, 2)):
        for v in layouts(x).values():
            agree(lambda x, f=f: upfirdn2d(x, f, up=up, down=down, padding=padding, gain=1.7), [v])


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("up", "down", "taps", "padding"),
    [
        (2, 2, (12, 12), (9, 10, 9, 10)),
        (4, 2, (24, 12), (20, 21, 20, 21)),
        (2, 4, (12, 24), (30, 31, 29, 31)),
        (1, 1, (1, 1), (0, 0, 0, 0)),
        (1, 2, (1, 12), (5, 5, 5, 5)),
        (2, 1, (12, 1), (-3, -2, 4, 9)),
        (3, 1, (7, 5), (3, 3, 3, 3)),
    ],
)
def test_filtered_lrelu_is_its_twin(
    compiled: None, dtype: torch.dtype, up: int, down: int, taps: tuple[int, int], padding: tuple[int, int, int, int]
) -> None:
    torch.manual_seed(0)
    # More channels than a vector has lanes, and not a multiple.
    x, bias = torch.randn(2, 19, 10, 13).to(dtype), torch.randn(19).to(dtype)
    fu, flat = torch.rand(taps[0]) / taps[0], torch.rand(taps[1]) / taps[1]
    for fd, clamp in ((flat, None), (flat, 0.8), (torch.rand(taps[1], taps[1]) / taps[1], 0.8)):
        for v in layouts(x).values():
            agree(
                lambda x, b, fd=fd, c=clamp: filtered_lrelu(
                    x, up_filter=fu, down_filter=fd, bias=b, up=up, down=down, padding=padding, clamp=c
                ),
                [v, bias],
                # With a radial filter the gradient is the twin's own, whose bfloat16 decides signs near 0 otherwise.
                grads=fd.ndim == 1 or dtype != torch.bfloat16,
            )


@needs_compiler
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 70)),
    size=st.tuples(st.integers(3, 19), st.integers(3, 19)),
    padding=st.integers(0, 2),
    order=st.sampled_from(["plain", "channels last", "part, channels last", "every second"]),
)
def test_fewer_multiplications_are_the_same_convolution(compiled, batch, channels, size, padding, order) -> None:
    """Against float64. An error of 3e-5 of the deviation of the sums: ten times that of 40 channels."""
    torch.manual_seed(0)
    weight = torch.randn(channels[1], channels[0], 3, 3)
    x = layouts(torch.randn(batch, channels[0], *size))[order]
    prepared = torch.ops.draggan.winograd_weight(weight)
    got = torch.ops.draggan.winograd_convolve(x, prepared, channels[1], padding)
    expected = F.conv2d(x.double(), weight.double(), padding=padding)
    assert got.shape == expected.shape
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert (got - expected).abs().max() < 3e-5 * math.sqrt(9 * channels[0])


def by_threads(count: int, call: Callable[[], Tensor]) -> Tensor:
    """The result with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return call()
    finally:
        torch.set_num_threads(before)


@needs_compiler
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 70)),
    size=st.tuples(st.integers(3, 17), st.integers(3, 17)),
    kernel=st.sampled_from([1, 3]),
    way=st.sampled_from([(1, 0), (1, 1), (1, 2), (2, 0), "transposed"]),
    order=st.sampled_from(["plain", "channels last", "part, channels last", "every second"]),
)
def test_the_direct_convolution_is_one(compiled, batch, channels, size, kernel, way, order) -> None:
    """Against float64."""
    torch.manual_seed(0)
    weight = torch.randn(channels[1], channels[0], kernel, kernel)
    x = layouts(torch.randn(batch, channels[0], *size))[order]
    transposed = way == "transposed"
    stride, padding = (2, 0) if transposed else way
    got = torch.ops.draggan.direct_convolve(
        x, torch.ops.draggan.direct_weight(weight), channels[1], kernel, stride, padding, transposed
    )
    if transposed:
        expected = F.conv_transpose2d(x.double(), weight.double().transpose(0, 1), stride=2)
    else:
        expected = F.conv2d(x.double(), weight.double(), stride=stride, padding=padding)
    assert got.shape == expected.shape
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert (got - expected).abs().max() < 1e-5 * math.sqrt(kernel**2 * channels[0])


@needs_compiler
@pytest.mark.parametrize(("stride", "transposed"), [(1, False), (2, False), (2, True)])
def test_maps_whose_cells_share_the_cache_and_threads_do_not_change_the_direct_one(compiled, stride, transposed):
    torch.manual_seed(0)
    weight, x = torch.randn(20, 512, 3, 3), torch.randn(1, 512, 35, 33)
    settings = (torch.ops.draggan.direct_weight(weight), 20, 3, stride, 0, transposed)
    found = [by_threads(n, lambda: torch.ops.draggan.direct_convolve(x, *settings)) for n in (1, 3)]
    assert torch.equal(*found)
    if transposed:
        expected = F.conv_transpose2d(x.double(), weight.double().transpose(0, 1), stride=2)
    else:
        expected = F.conv2d(x.double(), weight.double(), stride=stride)
    assert (found[0] - expected).abs().max() < 3e-5 * expected.std()


@needs_compiler
@pytest.mark.parametrize(("channels", "size"), [(384, (40, 40)), (96, (65, 33))])
def test_chunks_of_tiles_and_threads_do_not_change_fewer_multiplications(compiled, channels, size) -> None:
    """More tiles than are treated at once, by all threads together (many weights) and each for itself (few)."""
    torch.manual_seed(0)
    weight, x = torch.randn(320, channels, 3, 3), torch.randn(2, channels, *size)
    prepared = torch.ops.draggan.winograd_weight(weight)
    found = [by_threads(n, lambda: torch.ops.draggan.winograd_convolve(x, prepared, 320, 1)) for n in (1, 3)]
    assert torch.equal(*found)
    expected = F.conv2d(x.double(), weight.double(), padding=1)
    assert (found[0] - expected).abs().max() < 4e-5 * expected.std()


@needs_compiler
def test_convolutions_have_no_gradient_of_their_own(compiled) -> None:
    """Whoever asks is told, rather than given none."""
    ops, weight, x = torch.ops.draggan, torch.randn(2, 3, 3, 3), torch.randn(1, 3, 6, 6, requires_grad=True)
    for y in (
        ops.winograd_convolve(x, ops.winograd_weight(weight), 2, 1),
        ops.direct_convolve(x, ops.direct_weight(weight), 2, 3, 1, 1, False),
    ):
        with pytest.raises(RuntimeError, match="not implemented"):
            y.sum().backward()


@needs_compiler
@pytest.mark.parametrize(("stride", "kernel", "padding"), [(1, 3, 0), (1, 3, 1), (1, 1, 0), (2, 3, 0)])
def test_prepacked_convolutions_by_compiled_operators(compiled, stride, kernel, padding) -> None:
    """Values, first and second gradients, a part of the gradient zero."""
    torch.manual_seed(0)
    weight, x = torch.randn(24, 16, kernel, kernel), torch.randn(2, 16, 7, 6, requires_grad=True)
    y = PrepackedConvolution(stride)(x, weight, padding)
    if stride == 2:
        expected = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    else:
        expected = F.conv2d(x, weight, padding=padding)
    cotangent = torch.zeros_like(expected)
    cotangent[:, :, 2:4, 1:] = torch.randn_like(cotangent[:, :, 2:4, 1:])
    cotangent.requires_grad_()
    for a, b in zip(*(twice(v, x, cotangent) for v in (y, expected)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5 * b.abs().max().item(), rtol=0)


@needs_compiler
@pytest.mark.parametrize("padding", [0, 1])
def test_prepacked_convolutions_multiply_less_where_it_pays(compiled, padding, monkeypatch) -> None:
    """And give the same values, first and second gradients, whatever part of the gradient is zero."""
    torch.manual_seed(0)
    weight, x = torch.randn(48, 32, 3, 3), torch.randn(2, 32, 31, 28, requires_grad=True)
    calls = []
    convolve = torch.ops.draggan.winograd_convolve
    monkeypatch.setattr(torch.ops.draggan, "winograd_convolve", lambda *a: calls.append(a[3]) or convolve(*a))
    y = PrepackedConvolution()(x, weight, padding)
    expected = F.conv2d(x, weight, padding=padding)
    cotangent = torch.zeros_like(expected)
    cotangent[:, :, 2:-1] = torch.randn_like(cotangent[:, :, 2:-1])
    cotangent.requires_grad_()
    for a, b in zip(*(twice(v, x, cotangent) for v in (y, expected)), strict=True):
        torch.testing.assert_close(a, b, atol=3e-5 * b.abs().max().item(), rtol=0)
    assert calls == [padding, 2 - padding, padding]
    calls.clear()
    PrepackedConvolution()(x[:, :, :4, :4], weight, padding)  # a single tile: reading four times the weights costs more
    with status.reference_only():
        PrepackedConvolution()(x, weight, padding)
    PrepackedConvolution()(x.bfloat16(), weight, padding)
    assert not calls


@needs_compiler
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="names processors of that kind")
def test_narrower_registers_compute_the_same(request: pytest.FixtureRequest) -> None:
    """Most processors have no vectors of 64 bytes. Built for one with 32 (AVX2), in a process of its own."""
    has = torch.backends.cpu.get_cpu_capability()
    if "AVX" not in has:
        pytest.skip(f"this processor has no AVX2 ({has})")
    code = """
import torch, torch.nn.functional as F
from torch_utils.ops import library, status
from torch_utils.ops.bias_act import modulated_act
from torch_utils.ops.filtered_lrelu import filtered_lrelu
from torch_utils.ops.upfirdn2d import upfirdn2d
library.load()
torch.manual_seed(0)
f, weight = torch.rand(4), torch.randn(37, 19, 3, 3)
for order in (torch.contiguous_format, torch.channels_last):
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(2, 19, 13, 23).to(dtype).contiguous(memory_format=order)
        calls = [
            lambda: modulated_act(x, torch.rand(2, 19, generator=torch.Generator().manual_seed(1)), None, None),
            lambda: upfirdn2d(x, f, up=2, padding=(2, 1, 2, 1)),
            lambda: filtered_lrelu(x, up_filter=f, down_filter=f, up=2, down=2, padding=(3, 3, 3, 3)),
        ]
        for call in calls:
            got = call()
            with status.reference_only():
                torch.testing.assert_close(got, call(), atol=0.02 if dtype == torch.bfloat16 else 1e-5, rtol=0.01)
    got = torch.ops.draggan.winograd_convolve(x.float(), torch.ops.draggan.winograd_weight(weight), 37, 1)
    torch.testing.assert_close(got, F.conv2d(x.float(), weight, padding=1), atol=1e-3, rtol=1e-4)
    got = torch.ops.draggan.direct_convolve(x.float(), torch.ops.draggan.direct_weight(weight), 37, 3, 2, 0, True)
    torch.testing.assert_close(
        got, F.conv_transpose2d(x.float(), weight.transpose(0, 1), stride=2), atol=1e-4, rtol=1e-4
    )
"""
    home = kept(request, "ops-narrow")
    environment = {**os.environ, "DRAGGAN_MARCH": "haswell", "DRAGGAN_HOME": home}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def twice(y: Tensor, x: Tensor, cotangent: Tensor) -> tuple[Tensor, ...]:
    """A result, and its gradients of both orders."""
    (first,) = torch.autograd.grad(y, x, cotangent, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), cotangent)
    return y, first, second


@needs_compiler
def test_what_is_not_a_number_stays_so(compiled: None) -> None:
    x = torch.tensor([math.nan, math.inf, -math.inf, 1e30]).reshape(1, 1, 2, 2).repeat(1, 17, 1, 1)
    for v in (x, x.contiguous(memory_format=torch.channels_last)):
        y = bias_act(v, activation="lrelu", clamp=256.0)
        assert y[0, 0].isnan().tolist() == [[True, False], [False, False]]
        assert y[0, :, 0, 1].unique().item() == y[0, :, 1, 1].unique().item() == 256
        assert filtered_lrelu(v, clamp=256.0)[0, 16].isnan().tolist() == [[True, False], [False, False]]
    assert bias_act(x.bfloat16(), activation="lrelu").isnan().sum() == 17


@needs_compiler
def test_autocast_does_not_change_types(compiled: None) -> None:
    x = torch.randn(1, 4, 40, 40)
    with torch.autocast("cpu", torch.bfloat16):
        assert upfirdn2d(x, setup_filter((1, 3, 3, 1))).dtype == torch.float32
        assert bias_act(x, torch.zeros(4), activation="lrelu").dtype == torch.float32


@needs_compiler
def test_threads_do_not_change_numbers(compiled: None) -> None:
    torch.manual_seed(0)
    x, f = torch.randn(1, 40, 64, 64), torch.rand(4, 4)
    kwargs = {"up_filter": torch.rand(12), "down_filter": torch.rand(12), "up": 2, "down": 2, "padding": (9, 10, 9, 10)}
    for v in (x, x.contiguous(memory_format=torch.channels_last)):
        calls = (
            lambda v=v: bias_act(v, activation="lrelu"),
            lambda v=v: filtered_lrelu(v, **kwargs),
            lambda v=v: upfirdn2d(v, f),
        )
        results = [[by_threads(n, call) for call in calls] for n in (1, 3)]
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_compiler
@pytest.mark.parametrize("compiled_too", [False, True])
def test_overwrite_uses_the_memory_of_x_unless_gradients_are_wanted(compiled: None, compiled_too: bool) -> None:
    x, scale, noise, bias = torch.randn(2, 3, 8, 8), torch.rand(2, 3, 1, 1), torch.randn(8, 8), torch.randn(3)
    if not compiled_too:
        status._loaded.clear()
    try:
        settings: dict[str, Any] = {"activation": "lrelu", "clamp": 1.0}
        expected = modulated_act(x, scale, noise, bias, **settings)
        kept = modulated_act(x.clone().requires_grad_() * 1, scale, noise, bias, **settings, overwrite=True)
        assert kept.requires_grad
        assert torch.allclose(kept, expected)
        own = x.clone()
        assert torch.allclose(modulated_act(own, scale, noise, bias, **settings, overwrite=True), expected)
        assert not torch.equal(own, x)
        if compiled_too:
            part = x.clone().permute(0, 1, 3, 2)[:, :, ::2]
            same = modulated_act(part.clone(), scale, None, bias, activation="lrelu")
            assert torch.allclose(modulated_act(part, scale, None, bias, activation="lrelu", overwrite=True), same)
            assert torch.allclose(part, same)
    finally:
        status._loaded.add("cpu")


@needs_compiler
@pytest.mark.parametrize("compiled_too", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_undifferentiated_activation_is_the_other_with_its_gradient(
    compiled: None, compiled_too: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    if not compiled_too:
        status._loaded.clear()
    try:
        for noise, clamp, last in itertools.product((None, torch.randn(6, 7)), (None, 0.8), (False, True)):
            order = torch.channels_last if last else torch.contiguous_format
            x, grad = (torch.randn(2, 5, 6, 7).to(dtype).contiguous(memory_format=order) for _ in range(2))
            scale, bias = torch.rand(2, 5) + 0.5, torch.randn(5)
            own = [t.double().clone().requires_grad_() for t in (x, scale)]
            gain = 1 / ACTIVATIONS["lrelu"].gain
            expected = modulated_act(
                own[0],
                own[1],
                None if noise is None else noise.double(),
                bias.double(),
                activation="lrelu",
                gain=gain,
                clamp=None if clamp is None else clamp / gain,
            )
            # Rounding may take what lies at a kink to its other side.
            away = own[0] * own[1][:, :, None, None] + (0 if noise is None else noise) + bias[:, None, None]
            away = torch.where(away > 0, away, 0.2 * away).abs()
            grad[(away < 0.02) | ((away - (clamp or 0)).abs() < 0.02)] = 0
            gradients = torch.autograd.grad(expected, own, grad.double())
            rest: dict[str, Any] = {"slope": 0.2, "clamp": clamp}
            y = scaled_lrelu(x, scale, noise, bias, **rest)
            gx, to_scale = scaled_lrelu_gradient(grad, y, x, scale, noise, bias, **rest)
            assert to_scale is not None
            without, nothing = scaled_lrelu_gradient(grad, y, None, scale, noise, bias, **rest)
            assert nothing is None
            for got, wanted in zip((y, gx, to_scale, without), (expected, *gradients, gradients[0]), strict=True):
                assert (got - wanted).abs().max() <= 4 * TOLERANCE[dtype] * wanted.abs().max()
            assert torch.equal(scaled_lrelu(x, scale, noise, bias, **rest, overwrite=True), y)
            assert torch.equal(x, y)
    finally:
        status._loaded.add("cpu")


# ------------------------------------------------------------------------------------------------------------ gradients


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_of_a_scale_is_its_twin(compiled: None, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for count in (1, 2):
        grad, x = (torch.randn(2, 20, 5, 7).to(dtype, memory_format=torch.channels_last) for _ in range(2))
        scale = torch.randn(count, 20).to(dtype)
        part = (slice(None), slice(None), slice(1, 4), slice(2, 6))
        found = scaled_gradient(grad[part], x[part], scale)
        with status.reference_only():
            expected = scaled_gradient(grad[part].double(), x[part].double(), scale.double())
        for a, b in zip(found, expected, strict=True):
            assert (a - b).abs().max() <= TOLERANCE[dtype] * b.abs().max()


@needs_compiler
def test_gradients_of_both_orders(compiled: None) -> None:
    torch.manual_seed(0)

    def both(function: Callable[..., Tensor], *tensors: Tensor) -> None:
        inputs = [t.double().requires_grad_() for t in tensors]
        assert torch.autograd.gradcheck(function, inputs)
        # What is linear in pieces has a second derivative only through something curved behind it.
        assert torch.autograd.gradgradcheck(lambda *t: function(*t).sin(), inputs)

    x, noise = torch.randn(2, 3, 4, 3), torch.randn(4, 3).double()
    both(
        lambda x, s, b: modulated_act(x, s, noise, b, activation="lrelu", gain=1.2, clamp=1.5),
        x,
        torch.rand(2, 3) + 0.5,
        torch.randn(3),
    )
    both(lambda x, b: bias_act(x, b, activation="lrelu"), torch.randn(2, 3), torch.randn(3))
    x = x.contiguous(memory_format=torch.channels_last)
    both(lambda x, s: modulated_act(x, s, None), x, torch.rand(1, 3) + 0.5)
    f, fu, fd = torch.rand(4, 3), torch.rand(4), torch.rand(4)
    for up, down in ((1, 1), (2, 1), (1, 2)):
        both(lambda x, u=up, d=down: upfirdn2d(x, f, up=u, down=d, padding=(2, 1, 1, 2)), x)
    both(
        lambda x, b: filtered_lrelu(
            x, bias=b, up_filter=fu, down_filter=fd, up=2, down=2, padding=(3, 3, 3, 3), clamp=3.0
        ),
        x[:1],
        torch.randn(3),
    )


@needs_compiler
# PyTorch 2.14's own check warns of what it does itself.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_operators_are_what_pytorch_expects(compiled: None, order: torch.memory_format) -> None:
    def check(operator: Any, *arguments: Any) -> None:
        assert set(torch.library.opcheck(operator, arguments).values()) == {"SUCCESS"}

    x = torch.randn(2, 3, 6, 5).contiguous(memory_format=order)
    wanting = x.clone().requires_grad_()
    scale, noise, bias = torch.rand(2, 3), torch.randn(6, 5), torch.randn(3)
    fu, fd, ops = torch.rand(4), torch.rand(4), torch.ops.draggan
    check(ops.modulated_act.default, wanting, scale.clone().requires_grad_(), noise, bias, 0.2, 1.4, 256.0)
    check(ops.modulated_act.default, wanting, None, None, None, 1.0, 1.0, None)
    check(ops.modulated_act_.default, x.clone(), scale, noise, bias, 0.2, 1.4, None)
    check(ops.modulated_act_backward.default, x, x, scale, noise, bias, 0.2, 1.4, None)
    check(ops.upfirdn2d.default, wanting, torch.rand(4, 4), 2, 1, [2, 1, 2, 1], 4.0)
    settings = (2, 2, [3, 3, 3, 3], 1.4, 0.2, 256.0)
    check(ops.filtered_lrelu.default, wanting, fu, fd, bias, *settings)
    y = ops.filtered_lrelu(x, fu, fd, bias, *settings)
    check(ops.filtered_lrelu_backward.default, y, x, fu, fd, bias, *settings)
    weight = torch.randn(7, 3, 3, 3)
    check(ops.winograd_weight.default, weight)
    check(ops.winograd_convolve.default, x, ops.winograd_weight(weight), 7, 1)
    check(ops.direct_weight.default, weight)
    for stride, padding, transposed in ((1, 1, False), (2, 0, False), (2, 0, True)):
        check(ops.direct_convolve.default, x, ops.direct_weight(weight), 7, 3, stride, padding, transposed)


def directly(operators: Any, size: tuple[int, ...], *settings: Any) -> Tensor:
    """A map by weights of 3x3 for 3 channels to 4."""
    return operators.direct_convolve(torch.zeros(size), operators.direct_weight(torch.zeros(4, 3, 3, 3)), *settings)


@needs_compiler
@pytest.mark.parametrize(
    "call",
    [
        lambda o: o.upfirdn2d(torch.zeros(1, 1, 2, 2), torch.ones(5, 5), 1, 1, [0, 0, 0, 0], 1.0),
        lambda o: o.upfirdn2d(torch.zeros(2, 2), torch.ones(1, 1), 1, 1, [0, 0, 0, 0], 1.0),
        lambda o: o.upfirdn2d(torch.zeros(1, 1, 2, 2, dtype=torch.int32), torch.ones(1, 1), 1, 1, [0, 0, 0, 0], 1.0),
        lambda o: o.modulated_act(torch.zeros(2, 3), torch.zeros(2, 4), None, None, 1.0, 1.0, None),
        lambda o: o.modulated_act(torch.zeros(2, 3, 4, 4), None, torch.zeros(5), None, 1.0, 1.0, None),
        lambda o: o.modulated_act(torch.zeros(2, 3), None, None, torch.zeros(4), 1.0, 1.0, None),
        lambda o: o.filtered_lrelu(
            torch.zeros(1, 1, 2, 2), torch.ones(9), torch.ones(1), None, 1, 1, [0, 0, 0, 0], 1.0, 1.0, None
        ),
        lambda o: o.direct_weight(torch.zeros(4, 3, 3, 5)),
        lambda o: o.direct_weight(torch.zeros(4, 3, 3, 3, dtype=torch.float64)),
        lambda o: directly(o, (1, 9, 5, 5), 4, 3, 1, 0, False),
        lambda o: directly(o, (1, 3, 2, 5), 4, 3, 1, 0, False),
        lambda o: directly(o, (1, 3, 5, 5), 4, 3, 2, 1, True),
        lambda o: directly(o, (1, 3, 5, 5), 4, 3, 0, 0, False),
        lambda o: directly(o, (1, 3, 5, 5), 4, 1, 1, 0, False),
        lambda o: o.winograd_weight(torch.zeros(4, 3, 5, 5)),
        lambda o: o.winograd_weight(torch.zeros(4, 3, 3, 3, dtype=torch.float64)),
        lambda o: o.winograd_convolve(torch.zeros(1, 3, 5, 5), o.winograd_weight(torch.zeros(4, 3, 3, 3)), 99, 1),
        lambda o: o.winograd_convolve(torch.zeros(1, 2, 5, 5), o.winograd_weight(torch.zeros(4, 3, 3, 3)), 4, 1),
        lambda o: o.winograd_convolve(torch.zeros(1, 3, 2, 5), o.winograd_weight(torch.zeros(4, 3, 3, 3)), 4, 0),
        lambda o: o.winograd_convolve(torch.zeros(1, 3, 5, 5), o.winograd_weight(torch.zeros(4, 3, 3, 3)), 4, -1),
    ],
)
def test_shapes_that_do_not_fit_are_errors(compiled: None, call: Callable[[Any], Tensor]) -> None:
    with pytest.raises(RuntimeError):
        call(torch.ops.draggan)


@needs_compiler
def test_golden_numbers_with_compiled_operators(compiled: None) -> None:
    from tests.test_golden import CASES, TOLERANCE, deviation

    assert max(deviation(*case) for case in CASES) < TOLERANCE


# ------------------------------------------------------------------------------------------ never in anybody's way


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As in a new process with an empty cache."""
    monkeypatch.setenv("DRAGGAN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DRAGGAN_NATIVE_OPS", raising=False)
    for table in ("_loaded", "_failed", "_builds"):
        monkeypatch.setattr(build, table, {})
    monkeypatch.setattr(status, "_loaded", set())
    monkeypatch.setattr(library, "_thread", None)
    return tmp_path


def compiler(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))


def test_the_switch_turns_them_off(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGGAN_NATIVE_OPS", "0")
    assert library.build_in_background() is None
    assert build.builds() == []


@pytest.mark.skipif(sys.platform == "win32", reason="a compiler that is a shell script")
@pytest.mark.skipif(TOOLS.ninja is None, reason="needs ninja")
def test_nobody_waits_for_a_build_and_status_tells(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler(fresh, monkeypatch, "sleep 60")
    thread = library.build_in_background()
    assert thread is not None
    assert library.build_in_background() is thread
    deadline = time.monotonic() + 20
    while not build._children and time.monotonic() < deadline:
        time.sleep(0.01)
    start = time.monotonic()
    assert [s.state for s in build.builds()] == ["building"]
    assert [i.value for i in doctor._ops() if "draggan_cpu" in i.name] == ["building"]
    assert not status.available(torch.zeros(1))
    assert bias_act(torch.ones(1, 1, 2, 2)).sum() == 4
    assert time.monotonic() - start < 1
    # What happens when the process ends.
    build.stop_children()
    thread.join(20)
    assert not thread.is_alive()
    assert [s.state for s in build.builds()] == ["failed"]
    assert list((fresh / "home" / "ops").iterdir()) == []


_WHAT_IS_THERE = """
from draggan.engine.local import LocalEngine
from draggan.engine.models import AnyModels
from torch_utils.ops import build, status
LocalEngine(AnyModels("cpu"))
print(status.loaded("cpu"), [b.state for b in build.builds()])
"""


@needs_compiler
def test_what_is_built_is_used_from_the_first_number_on(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """In processes of their own: one process cannot load the operators twice."""

    def run(home: str, code: str) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "DRAGGAN_NATIVE_OPS"} | {"DRAGGAN_HOME": home}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert run(str(tmp_path), _WHAT_IS_THERE) == "False []"
    built = kept(request, "ops")
    run(built, "from torch_utils.ops import library; library.load()")
    assert run(built, _WHAT_IS_THERE) == "True ['cached']"


@pytest.mark.skipif(sys.platform == "win32", reason="a compiler that is a shell script")
def test_whoever_takes_what_is_built_waits_for_no_build(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler(fresh, monkeypatch, "sleep 60")
    thread = library.build_in_background()
    assert thread is not None
    while not build._children and thread.is_alive():
        time.sleep(0.01)
    assert not library.load_built()
    assert thread.is_alive()
    build.stop_children()
    thread.join(20)


@pytest.mark.skipif(sys.platform == "win32", reason="a compiler that is a shell script")
def test_a_failed_build_costs_only_speed(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler(fresh, monkeypatch, "echo 'fatal error: out of paper' >&2; exit 1")
    thread = library.build_in_background()
    assert thread is not None
    thread.join(60)
    assert not status.available(torch.zeros(1))
    assert upfirdn2d(torch.ones(1, 1, 4, 4), setup_filter((1, 3, 3, 1))).shape == (1, 1, 1, 1)
    (item,) = [i for i in doctor._ops() if "draggan_cpu" in i.name]
    assert item.status == "slow"


def test_what_killed_builds_left_behind_is_removed(tmp_path: Path) -> None:
    old, young, whole = tmp_path / ".op-abc", tmp_path / ".op-def", tmp_path / "op-123"
    for folder in (old, young, whole):
        folder.mkdir()
    long_ago = time.time() - 3 * build.BUILD_TIMEOUT
    for folder in (old, whole):
        os.utime(folder, (long_ago, long_ago))
    build._sweep(tmp_path)
    assert not old.exists()
    assert young.exists()
    assert whole.exists()


# ---------------------------------------------------------------------------------------------------------------- CUDA


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The bodies of the CUDA kernels as a plain C library; shared memory begins as NaN."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRAGGAN_HOME", str(tmp_path_factory.mktemp("emulator")))
        return build.load_library("draggan_emulated", [CSRC / "cuda" / "emulate.cpp"], cflags=["-O1"])


def address(t: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if t is None else t.data_ptr())


def ints(*values: int, kind: Any = ctypes.c_int) -> Any:
    return (kind * len(values))(*values)


def floats(*values: float) -> Any:
    return (ctypes.c_float * len(values))(*values)


def close(found: Tensor, expected: Tensor) -> None:
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@needs_compiler
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("pack", "slices", "clamp"), [(1, 1, None), (4, 3, 1.0)])
def test_body_of_modulated_act(emulator: ctypes.CDLL, last: bool, pack: int, slices: int, clamp: float | None) -> None:
    torch.manual_seed(0)
    order = torch.channels_last if last else torch.contiguous_format
    x, g = (torch.randn(2, 36, 6, 8).contiguous(memory_format=order) for _ in range(2))
    scale, noise, bias = torch.rand(2, 36) + 0.5, torch.randn(2, 1, 6, 8), torch.randn(36)
    own = [t.clone().requires_grad_() for t in (x, scale, bias)]
    y = modulated_act(own[0], own[1], noise, own[2], activation="lrelu", clamp=clamp)
    expected = torch.autograd.grad(y, own, g)
    shape = ints(2, 36, 48, int(last), 36, 48, kind=ctypes.c_int64)
    small = address(scale), address(noise), address(bias), floats(0.2, math.sqrt(2), -1 if clamp is None else clamp)
    out = torch.empty_like(x)
    emulator.act(shape, *small, pack, address(x), address(out))
    close(out, y.detach())
    sums = torch.full((2, slices, 2, 36), math.nan)
    with_x, alone = sums
    emulator.act_gradient(shape, *small, address(g), address(x), address(out), address(with_x), address(alone), slices)
    close(out, expected[0])
    close(sums[0].sum(0), expected[1])
    close(sums[1].sum((0, 1)), expected[2])


@needs_compiler
@pytest.mark.parametrize("tiles", [0, 1])
@pytest.mark.parametrize(
    ("up", "down", "padding"),
    [(1, 1, (1, 1, 1, 1)), (2, 1, (2, 1, 2, 1)), (1, 2, (1, 1, 1, 1)), (2, 3, (-1, 2, 3, -2)), (4, 2, (9, 3, 2, 8))],
)
def test_body_of_upfirdn2d(
    emulator: ctypes.CDLL, tiles: int, up: int, down: int, padding: tuple[int, int, int, int]
) -> None:
    torch.manual_seed(0)
    x, f = torch.randn(2, 3, 11, 13), torch.randn(3, 5)
    expected = upfirdn2d(x, f, up=up, down=down, padding=padding)
    for v in (x, x.contiguous(memory_format=torch.channels_last)):
        out = torch.empty_like(expected, memory_format=torch.preserve_format)
        out = out.contiguous(memory_format=torch.channels_last) if v is not x else out
        sizes = (*x.shape, *expected.shape[2:], up, down, 3, 5, 2 - padding[2], 4 - padding[0], 4, 7)
        strides = ints(*v.stride(), *out.stride(), kind=ctypes.c_int64)
        emulator.upfirdn(ints(*sizes), strides, address(f), tiles, address(v), address(out))
        close(out, expected)


@needs_compiler
@pytest.mark.parametrize("tile", [4, 32])
@pytest.mark.parametrize(
    ("up", "down", "taps", "padding"),
    [
        (2, 2, (12, 12), (9, 10, 9, 10)),
        (4, 2, (24, 12), (20, 21, 20, 21)),
        (2, 4, (12, 24), (30, 31, 29, 31)),
        (1, 1, (1, 1), (0, 0, 0, 0)),
        (2, 1, (7, 4), (-3, 2, 4, -1)),
    ],
)
def test_body_of_filtered_lrelu(
    emulator: ctypes.CDLL, tile: int, up: int, down: int, taps: tuple[int, int], padding: tuple[int, int, int, int]
) -> None:
    torch.manual_seed(0)
    x, bias = torch.randn(2, 3, 10, 13), torch.randn(3)
    fu, flat, clamp, gain = torch.rand(taps[0]) / taps[0], torch.rand(taps[1]) / taps[1], 0.8, 1.4
    for fd in (flat, torch.rand(taps[1], taps[1]) / taps[1]):
        own = x.clone().requires_grad_()
        kwargs = {"up": up, "down": down, "padding": padding, "clamp": clamp, "gain": gain}
        y = filtered_lrelu(own, up_filter=fu, down_filter=fd, bias=bias, **kwargs)
        g = torch.randn_like(y)
        high = [s * up + a + b - taps[0] + 1 for s, (a, b) in zip((10, 13), (padding[2:], padding[:2]), strict=True)]
        offset = taps[0] - 1 - padding[2], taps[0] - 1 - padding[0]
        sizes = ints(3, 6, 10, 13, *high, *y.shape[2:], up, down, *taps, *offset, int(fd.ndim == 1), tile)
        up_filter, down_filter = fu * up * math.sqrt(gain), fd.flip(tuple(range(fd.ndim)))
        numbers = address(up_filter), address(down_filter), address(bias), ctypes.c_float(0.2), ctypes.c_float(clamp)
        out, gx = torch.full(y.shape, math.nan), torch.full(x.shape, math.nan)
        emulator.lrelu(sizes, *numbers, address(x), address(out))
        close(out, y.detach())
        if fd.ndim == 1:
            emulator.lrelu_gradient(sizes, *numbers, address(g), address(x), address(gx))
            close(gx, torch.autograd.grad(y, own, g)[0])


INSTANCES = """
#include "act_kernel.h"
#include "filtered_lrelu_kernel.h"
#include "upfirdn2d_kernel.h"
template <typename Body> __global__ void kernel(Body body) {
  extern __shared__ float shared[];
  for (int k = 0; k < Body::kPhases; ++k) {
    __syncthreads();
    body.phase(k, blockIdx.x, threadIdx.x, blockDim.x, shared);
  }
}
template __global__ void kernel(draggan::Upfirdn<float>);
template __global__ void kernel(draggan::FilteredLrelu<float>);
template __global__ void kernel(draggan::FilteredLreluGradient<float>);
__global__ void act(draggan::ActShape s, const float* x, float* out) {
  draggan::act_pack<float, 4>(s, x, out, threadIdx.x);
}
__global__ void gradient(draggan::ActGradient<float> body) {
  __shared__ float shared[512];
  for (int k = 0; k < body.kPhases; ++k) body.phase(k, blockIdx.x, threadIdx.x, shared);
}
"""


@pytest.mark.skipif(TOOLS.cuda is None, reason="needs nvcc")
def test_cuda_compiles(tmp_path: Path) -> None:
    """Everything for sm_90, host code checked but not translated; the kernels for the oldest and the newest too.

    About 25 s of processor time.
    """
    assert TOOLS.cuda is not None
    include = Path(torch.__file__).parent / "include"
    # A configured header that only PyTorch's builds for CUDA have.
    shim = tmp_path / "c10" / "cuda" / "impl" / "cuda_cmake_macros.h"
    shim.parent.mkdir(parents=True)
    shim.write_text("#pragma once\n#define C10_CUDA_BUILD_SHARED_LIBS\n")
    (tmp_path / "kernels.cu").write_text(INSTANCES)
    folders = [include, include / "torch" / "csrc" / "api" / "include", tmp_path, CSRC / "cuda"]
    operators = [(source, (90,)) for source in sorted((CSRC / "cuda").glob("*.cu"))]
    assert len(operators) == 3
    for source, architectures in ((tmp_path / "kernels.cu", (80, 120)), *operators):
        out = tmp_path / f"{source.stem}.fatbin"
        command = [TOOLS.cuda, "-std=c++20", "-fatbin", "-O3", "--expt-relaxed-constexpr", str(source), "-o", str(out)]
        command += [f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures]
        command += [f"-I{folder}" for folder in folders]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        assert out.stat().st_size > 10_000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_cuda_gives_what_the_twin_gives(loaded: None, dtype: torch.dtype) -> None:
    library.load("cuda")
    torch.manual_seed(0)
    tolerance = {torch.float32: 4e-6, torch.float16: 2**-9, torch.bfloat16: 2**-7}[dtype]

    def compare(function: Callable[[Tensor], Tensor], x: Tensor) -> None:
        results = []
        for v in (x.cuda().requires_grad_(), x.double().requires_grad_()):
            y = function(v)
            results.append((y, *torch.autograd.grad(y.double().square().sum(), v)))
        for a, b in zip(*results, strict=True):
            assert (a.cpu().double() - b).abs().max() <= tolerance * b.abs().max() * 4

    x = torch.randn(2, 40, 33, 35).to(dtype)
    scale, noise, bias, f = torch.rand(2, 40) + 0.5, torch.randn(33, 35), torch.randn(40), torch.rand(12) / 12
    square = torch.ones(4, 4)

    def on(t: Tensor, x: Tensor) -> Tensor:
        return t.to(x.device)

    for v in (x, x.contiguous(memory_format=torch.channels_last)):
        compare(lambda x: modulated_act(x, on(scale, x), on(noise, x), on(bias, x), activation="lrelu", clamp=2.0), v)
        for up, down in ((1, 1), (2, 1), (1, 2)):
            compare(lambda x, u=up, d=down: upfirdn2d(x, on(square, x), up=u, down=d, padding=(1, 2, 2, 1)), v)
        compare(
            lambda x: filtered_lrelu(
                x, up_filter=on(f, x), down_filter=on(f, x), bias=on(bias, x), up=2, down=2, padding=(9, 10, 9, 10)
            ),
            v,
        )
