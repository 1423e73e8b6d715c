"""A widened network is the narrow one: the same features, the same pictures, in every precision it is dragged in."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import target
from benchmarks.__main__ import main
from benchmarks.widen import copies, shares, widen
from draggan.errors import ConfigError
from draggan.generators.stylegan2 import StyleGAN2Generator
from draggan.generators.stylegan2.config import MappingConfig, StyleGAN2Config
from torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d


def narrow_network(*, c_dim: int = 0, clamp: float | None = None, noise: float = 0.3) -> StyleGAN2Generator:
    """16 px; 6, 5 and 3 channels in its blocks, so that copies do not come out even; nothing in it is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = StyleGAN2Generator(
            StyleGAN2Config(
                z_dim=5,
                c_dim=c_dim,
                w_dim=6,
                img_resolution=16,
                channels=(6, 5, 3),
                conv_clamp=clamp,
                mapping_kwargs=MappingConfig(num_layers=2, lr_multiplier=0.5),
            )
        )
        with torch.no_grad():
            for name, parameter in generator.named_parameters():
                if name.endswith("noise_strength"):
                    parameter.fill_(noise)
                elif name.endswith("bias"):
                    parameter.add_(torch.randn_like(parameter))
            generator.mapping.w_avg.normal_()
    return generator.freeze()


def latents(narrow: StyleGAN2Generator, wide: StyleGAN2Generator) -> tuple[Tensor, Tensor]:
    """Two latents with rows of their own, for either network."""
    ws = torch.randn(2, narrow.num_ws, narrow.w_dim, generator=torch.Generator().manual_seed(1))
    rows = torch.arange(wide.num_ws).clamp(max=narrow.num_ws - 1)
    return ws, ws[:, rows][:, :, copies(narrow.w_dim, wide.w_dim)]


def double(x: Tensor) -> Tensor:
    return upfirdn2d(x, setup_filter([1, 3, 3, 1]), up=2, padding=(2, 1, 2, 1), gain=4)


LAYOUT = {"img_resolution": 32, "channel_base": 512, "channel_max": 40, "w_dim": 15}


@pytest.mark.parametrize("energy", [1.0, 2.0])
def test_shares_sum_to_one_and_their_squares_to_the_energy(energy):
    source = torch.tensor([0, 1, 2, 0, 1, 0, 0])
    found = shares(source, 3, energy, (4, 2), torch.Generator().manual_seed(0))
    for i, m in enumerate((4, 2, 1)):
        some = found[source == i]
        assert some.shape == (m, 4, 2)
        torch.testing.assert_close(some.sum(0), torch.ones(4, 2, dtype=torch.float64))
        expected = energy if m > 1 else 1.0
        torch.testing.assert_close(some.square().sum(0), torch.full((4, 2), expected, dtype=torch.float64))


@pytest.mark.parametrize("clamp", [None, 1.5])
def test_every_channel_is_a_copy_and_the_picture_is_the_narrow_one_upsampled(clamp):
    narrow = narrow_network(clamp=clamp)
    wide = widen(narrow, **LAYOUT)
    assert (*wide.image_size, wide.w_dim) == (32, 32, 15)
    ws, wider = latents(narrow, wide)
    for level, width in zip(narrow.levels, (40, 40, 32), strict=True):
        own = narrow.features(ws, level)
        torch.testing.assert_close(
            wide.features(wider, level), own[:, copies(own.shape[1], width)], atol=2e-5, rtol=2e-5
        )
    torch.testing.assert_close(wide.synthesis(wider), double(narrow.synthesis(ws)), atol=5e-5, rtol=5e-5)


def test_further_levels_hold_the_last_map_upsampled():
    narrow = narrow_network()
    wide = widen(narrow, **LAYOUT)
    ws, wider = latents(narrow, wide)
    last = narrow.features(ws, "b16")
    # conv0 upsamples, conv1 passes on; each applies its leaky ReLU without a gain.
    expected = F.leaky_relu(F.leaky_relu(double(last), 0.2), 0.2)[:, copies(3, 16)]
    torch.testing.assert_close(wide.features(wider, "b32"), expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(("channels", "gain"), [(40, 1.0), (8, 2**0.5)])
def test_a_level_is_carried_along_and_changes_nothing(channels, gain):
    """With room for one copy only, the second layer has a gain of sqrt 2."""
    narrow = narrow_network(noise=0.0)
    layout = LAYOUT | {"img_resolution": 16, "channel_base": 16 * channels}
    wide = widen(narrow, **layout, carry="b8")
    ws, wider = latents(narrow, wide)
    features = wide.features(wider, "b16")
    count = 10 if channels == 40 else 5
    own = narrow.features(ws, "b16")[:, copies(3, channels - count)]
    torch.testing.assert_close(features[:, :-count], own, atol=2e-5, rtol=2e-5)
    carried = gain * F.leaky_relu(F.leaky_relu(double(narrow.features(ws, "b8")), 0.2), 0.2)
    torch.testing.assert_close(features[:, -count:], carried[:, copies(5, count)], atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(wide.synthesis(wider), narrow.synthesis(ws), atol=5e-5, rtol=5e-5)


@pytest.mark.parametrize("c_dim", [0, 3])
def test_the_same_noise_gives_the_same_picture_with_and_without_truncation(c_dim):
    narrow = narrow_network(c_dim=c_dim)
    wide = widen(narrow, **LAYOUT, carry="b4")
    z = torch.randn(2, 5, generator=torch.Generator().manual_seed(2))
    c = F.one_hot(torch.tensor([2, 0]), 3).float() if c_dim else None
    for psi in (1.0, 0.6):
        pictures = [g.synthesis(g.mapping(z, c, truncation_psi=psi)) for g in (wide, narrow)]
        torch.testing.assert_close(pictures[0], double(pictures[1]), atol=5e-5, rtol=5e-5)


def test_a_gradient_to_the_wide_latent_is_that_of_the_narrow_one_in_equal_parts():
    narrow = narrow_network()
    wide = widen(narrow, **LAYOUT)
    ws, wider = (w.requires_grad_(True) for w in latents(narrow, wide))
    (expected,) = torch.autograd.grad(narrow.features(ws, "b16").square().mean(), ws)
    features = wide.features(wider, "b16")
    (got,) = torch.autograd.grad(features[:, :30].square().mean(), wider)  # ten copies of each of three channels
    source = copies(6, 15)
    parts = expected[:, :, source] / torch.bincount(source)[source]
    torch.testing.assert_close(got[:, : narrow.num_ws], parts, atol=1e-5, rtol=1e-3)


def test_it_is_a_function_of_its_arguments_alone():
    narrow = narrow_network()
    state = torch.random.get_rng_state()
    first, second, other = (widen(narrow, **LAYOUT, seed=s).state_dict() for s in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["synthesis.b8.conv0.weight"], other["synthesis.b8.conv0.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"img_resolution": 8, "channel_base": 512}, "cannot be widened to 8 px"),
        ({"w_dim": 5}, "and 5"),
        ({"channel_max": 4}, "b4 has 4 channels; 6 are needed"),
        ({"channel_max": 9, "carry": "b8"}, "b8 has 9 channels; 10 are needed"),
        ({"carry": "b64"}, "no feature level"),
    ],
)
def test_layouts_that_do_not_hold_it_are_refused(changes, message):
    with pytest.raises(Exception, match=message) as caught:
        widen(narrow_network(), **(LAYOUT | changes))
    assert "draggan.errors" in type(caught.value).__module__


def test_other_architectures_are_refused():
    other = StyleGAN2Generator(
        StyleGAN2Config(
            z_dim=4, c_dim=0, w_dim=4, img_resolution=8, channel_base=32, channel_max=4, architecture="resnet"
        )
    )
    with pytest.raises(ConfigError, match="skip"):
        widen(other, **LAYOUT)


def test_the_benchmark_drags_a_widened_cat_to_its_target(tmp_path, capsys, monkeypatch):
    out = tmp_path / "target.md"
    # A short drag. Its landmarks are written down here, because the renderer that tells them would be compiled first.
    monkeypatch.setattr(target, "drags", {9: {"ear": ((69.0, 57.0), (64.0, 51.0))}}.__getitem__)
    arguments = ["target", "--quick", "--no-native", "--names", "ear", "--seeds", "9"]
    assert main([*arguments, "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    for procedure in ("adam, float32", "adam, bfloat16", "gauss-newton, float32", "gauss-newton, bfloat16"):
        assert f"| {procedure} | 1 of 1 |" in text
        assert f"| ear, seed 9 | {procedure} | yes |" in text
    assert "| ear, seed 9 | published | no | 2 |" in text
    assert "ear, seed 9: adam float32" in capsys.readouterr().out
