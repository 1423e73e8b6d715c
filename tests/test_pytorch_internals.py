"""PyTorch's private interfaces still mean what this project takes them to mean: one test each.

A failure here after an upgrade says which function of `torch_utils.pytorch_internals` to change, and what suffers until
then.
"""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F

from torch_utils import pytorch_internals


def test_below_autograd_records_nothing_and_asks_nobody():
    """Else hand-written passes would be recorded too (memory), or small windows would take several times as long."""
    assert hasattr(torch._C, "_AutoDispatchBelowAutograd"), "gone: windows are several times slower, results the same"
    asked = []
    with torch.library._scoped_library("test_below_autograd", "DEF") as library:
        library.define("double(Tensor x) -> Tensor")
        library.impl("double", lambda x: x * 2, "CompositeExplicitAutograd")
        library.impl("double", lambda x: asked.append(x) or x * 2, "Autograd")
        double, x = torch.ops.test_below_autograd.double, torch.ones(3, requires_grad=True)
        with torch.no_grad():
            double(x)
        assert len(asked) == 1, "gradients that are off have become as cheap: the guard may go"
        with pytorch_internals.below_autograd():
            assert not double(x).requires_grad
        assert len(asked) == 1
        assert double(x).requires_grad, "it did not end with the block"


def test_without_the_guard_below_autograd_is_no_grad(monkeypatch):
    monkeypatch.setattr(pytorch_internals, "_BELOW_AUTOGRAD", None)
    x = torch.ones(3, requires_grad=True)
    with pytorch_internals.below_autograd():
        assert not (x * 2).requires_grad


def test_version_counts_what_is_written_through_a_tensor_and_its_views():
    """Else prepared weights and kept modulations would go on being used after a weight has changed: wrong pictures."""
    x = torch.zeros(4)
    seen = [pytorch_internals.version(x)]
    for write in (lambda: x.add_(1), lambda: x[:2].mul_(2), lambda: x.copy_(torch.ones(4)), lambda: x.view(2, 2)[0]):
        write()
        seen.append(pytorch_internals.version(x))
    assert len(set(seen[:4])) == 4
    assert seen[4] == seen[3], "a view that is only read counts as a write"


def test_inference_tensors_have_no_version():
    """PyTorch raises if it is asked; callers compare None with None."""
    with torch.inference_mode():
        x = torch.zeros(4)
    assert pytorch_internals.version(x) is None


def test_a_view_is_told_from_a_tensor_of_its_own():
    """Else a result could keep a map alive that is hundreds of times larger, or be copied for nothing."""
    x = torch.zeros(4, 4)
    assert pytorch_internals.is_view(x[:2])
    assert pytorch_internals.is_view(x.permute(1, 0))
    assert not pytorch_internals.is_view(x)
    assert not pytorch_internals.is_view(x[:2].clone())


def test_transforms_of_functions_are_noticed():
    """Else a recorded graph would be replayed on wrapped tensors, and their derivative would be lost without a word."""
    seen = []

    def f(x):
        seen.append(pytorch_internals.is_transformed())
        return x.sin()

    x = torch.ones(3)
    f(x)
    torch.func.vmap(f)(x)
    torch.func.grad(lambda x: f(x).sum())(x)
    torch.func.jvp(f, (x,), (x,))
    with torch.autograd.forward_ad.dual_level():
        f(x)
    f(x)
    assert seen == [False, True, True, True, True, False]


def test_transforms_in_another_thread_do_not_count():
    seen = []
    inside = threading.Event()
    looked = threading.Event()

    def f(x):
        inside.set()
        looked.wait(10)
        return x

    thread = threading.Thread(target=lambda: torch.func.vmap(f)(torch.ones(3)))
    thread.start()
    inside.wait(10)
    seen.append(pytorch_internals.is_transformed())
    looked.set()
    thread.join()
    assert seen == [False]


@pytest.mark.parametrize("known", [True, False])
def test_copy_all_copies_every_tensor(known, monkeypatch):
    """Else the arguments of a recorded function would not reach it."""
    assert hasattr(torch, "_foreach_copy_"), "gone: arguments are copied one by one, more slowly"
    if not known:
        monkeypatch.delattr(torch, "_foreach_copy_")
    a, b = [torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64)], [torch.ones(3), torch.full((2, 2), 3)]
    pytorch_internals.copy_all(a, b)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    pytorch_internals.copy_all([], [])


def test_lerp_all_moves_every_tensor():
    """Else the average of weights that training keeps would not follow them."""
    a, b = [torch.zeros(3), torch.ones(2, 2)], [torch.ones(3), torch.full((2, 2), 3.0)]
    pytorch_internals.lerp_all(a, b, 0.25)
    torch.testing.assert_close(a, [torch.full((3,), 0.25), torch.full((2, 2), 1.5)])


def test_gradients_from_results_are_those_of_autograd():
    """Else hand-written backward passes would be wrong: a drag would go elsewhere."""
    torch.manual_seed(0)
    x, g = torch.randn(50, requires_grad=True), torch.randn(50)
    y = F.leaky_relu(x, 0.2)
    (expected,) = torch.autograd.grad(y, x, g)
    assert torch.equal(pytorch_internals.leaky_relu_gradient(g, y.detach(), 0.2), expected)
    y = F.hardtanh(x, -0.5, 0.5)
    (expected,) = torch.autograd.grad(y, x, g)
    assert torch.equal(pytorch_internals.hardtanh_gradient(g, y.detach(), -0.5, 0.5), expected)


@pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or "AVX512" not in torch.backends.cpu.get_cpu_capability(),
    reason="weights are prepared only where one order serves maps of all sizes",
)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [5, 9, 23])
def test_prepacked_weights_convolve_as_plain_ones(stride, size):
    """Else convolutions bring the same weight into order every time, as on processors without AVX-512: slower."""
    torch.manual_seed(0)
    weight = torch.randn(16, 32, 3, 3)
    narrow, wide = (torch.randn(2, c, size, size).contiguous(memory_format=torch.channels_last) for c in (32, 16))
    prepacked = pytorch_internals.prepack_convolution_weight(weight, stride, False)
    got = pytorch_internals.convolve_prepacked(narrow, prepacked, stride, 1)
    torch.testing.assert_close(got, F.conv2d(narrow, weight, stride=stride, padding=1), atol=1e-4, rtol=1e-5)
    prepacked = pytorch_internals.prepack_convolution_weight(weight, stride, True)
    got = pytorch_internals.convolve_prepacked_transposed(wide, prepacked, stride, 0)
    torch.testing.assert_close(got, F.conv_transpose2d(wide, weight, stride=stride), atol=1e-4, rtol=1e-5)
