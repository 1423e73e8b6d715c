"""Our networks with the published weights give the published numbers: latents, pictures, features, gradients, logits.

``python -m tests.test_golden`` prints the table of deviations.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from draggan.checkpoints.build import build_discriminator, build_generator
from draggan.checkpoints.detect import describe_bytes, open_bytes
from draggan.generators.base import Generator
from draggan.generators.registry import FAMILIES
from draggan.generators.stylegan2.config import DiscriminatorConfig
from draggan.generators.stylegan2.discriminator import Discriminator
from draggan.generators.stylegan3 import StyleGAN3Generator
from draggan.generators.stylegan3.config import StyleGAN3Config

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(path.stem for path in GOLDEN.glob("*.npz"))
# Largest deviation over largest absolute value of the reference.
TOLERANCE = 1e-4


@cache
def reference(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def tensor(name: str, key: str) -> Tensor:
    return torch.from_numpy(reference(name)[key])


def weights(name: str, role: str) -> dict[str, Tensor]:
    prefix = f"{role}/"
    return {key.removeprefix(prefix): tensor(name, key) for key in reference(name) if key.startswith(prefix)}


def arguments(name: str) -> dict[str, Any]:
    """Constructor arguments of the generator as the reference tells them."""
    meta = json.loads(str(reference(name)["meta"]))
    if "G" in meta:
        kwargs = dict(meta["G"])
        kwargs.update(kwargs.pop("synthesis_kwargs", {}))
        kwargs.pop("num_fp16_res", None)  # of no effect in float32
        return {**kwargs, "square": False} if "rectangular" in meta else kwargs
    # Weights converted from TensorFlow: the shapes say everything.
    state = weights(name, "G_ema")
    resolutions = [4 << i for i in range(9) if f"synthesis.b{4 << i}.conv1.weight" in state]
    return {
        "z_dim": state["mapping.fc0.weight"].shape[1],
        "c_dim": 0,
        "w_dim": state["mapping.w_avg"].shape[0],
        "img_resolution": resolutions[-1],
        "channels": [state[f"synthesis.b{r}.conv1.weight"].shape[0] for r in resolutions],
        "mapping_kwargs": {"num_layers": sum("mapping.fc" in key and "weight" in key for key in state)},
    }


@cache
def generator(name: str) -> Generator:
    if not weights(name, "G_ema"):
        # rosinality: the reference holds no weights, they come from the file.
        return build_generator(describe_bytes(open_bytes(GOLDEN / f"{name}.pt")))
    family = FAMILIES["stylegan3" if name.startswith("stylegan3") else "stylegan2"]
    network = family.generator(family.config.from_mapping(arguments(name)))
    network.load_state_dict(weights(name, "G_ema"), strict=True)
    return network.freeze()


@cache
def discriminator(name: str) -> torch.nn.Module:
    if not weights(name, "D"):
        return build_discriminator(describe_bytes(open_bytes(GOLDEN / f"{name}.pkl")))
    meta = json.loads(str(reference(name)["meta"]))
    sizes = {key: meta["G"][key] for key in ("c_dim", "img_resolution", "img_channels")}
    network = Discriminator(DiscriminatorConfig(**sizes, **meta["D"]))
    network.load_state_dict(weights(name, "D"), strict=True)
    return network.eval().requires_grad_(False)


def feature(name: str, block: str, ws: Tensor) -> Tensor:
    network = generator(name)
    if isinstance(network, StyleGAN3Generator):
        # ToRGB is a layer, but not a level to drag on.
        return network.synthesis.features(ws, block)
    return network.features(ws, block)


def compute(name: str, quantity: str) -> Tensor:
    """Our answer for one quantity of a reference file."""
    kind, _, what = quantity.partition("/")
    if quantity == "out/d_logits":
        label = tensor(name, "in/d_c") if "in/d_c" in reference(name) else None
        return discriminator(name)(tensor(name, "in/d_img"), label)
    if quantity == "grad/ws":
        ws = tensor(name, "out/ws").clone().requires_grad_()
        features = feature(name, str(reference(name)["grad/feature_name"]), ws)
        return torch.autograd.grad(features, ws, tensor(name, "grad/cotangent"))[0]
    assert kind == "out"
    if what.startswith("ws"):
        label = tensor(name, "in/c") if "in/c" in reference(name) else None
        psi = 0.7 if "psi0.7" in what else 1.0
        return generator(name).mapping(tensor(name, "in/z"), label, psi, 4 if "cutoff4" in what else None)
    if what.startswith("img"):
        return generator(name).synthesis(tensor(name, "out/ws" + what.removeprefix("img")))
    return feature(name, what.removeprefix("feature/"), tensor(name, "out/ws"))


def deviation(name: str, quantity: str) -> float:
    expected = tensor(name, quantity)
    found = compute(name, quantity)
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


CASES = [(name, key) for name in FILES for key in reference(name) if key.startswith("out/") or key == "grad/ws"]


@pytest.mark.parametrize(("name", "quantity"), CASES)
def test_golden_numbers(name: str, quantity: str) -> None:
    found = deviation(name, quantity)
    sys.stdout.write(f"\n{name:26} {quantity:26} {found:.1e} ")
    assert found < TOLERANCE


def test_every_golden_file_is_tested() -> None:
    assert len(FILES) == 10
    held = [path.stem for path in GOLDEN.iterdir() if path.suffix in (".pkl", ".pt")]
    assert {name for name, _ in CASES} == set(FILES) == set(held)


@pytest.mark.parametrize("name", ["stylegan3-t-32", "stylegan3-r-32"])
def test_our_filter_design_is_the_published_one(name: str) -> None:
    """A new network has the filters that published files carry."""
    ours, published = (
        StyleGAN3Generator(StyleGAN3Config.from_mapping(arguments(name))).state_dict(),
        weights(name, "G_ema"),
    )
    filters = [key for key in published if key.endswith("_filter")]
    assert len(filters) == 12
    for key in filters:
        torch.testing.assert_close(ours[key], published[key], rtol=0, atol=1e-7)


if __name__ == "__main__":
    for name, quantity in CASES:
        sys.stdout.write(f"{name:26} {quantity:26} {deviation(name, quantity):.1e}\n")
