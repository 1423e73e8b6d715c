"""A range is stated once: the class, the reader of files and the builder accept and refuse the same values."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from draggan.checkpoints import description
from draggan.checkpoints.build import CONFIGS, config_of
from draggan.checkpoints.infer_config import discriminator_kwargs, stylegan2_kwargs, stylegan3_kwargs
from draggan.errors import CheckpointError, ConfigError
from draggan.generators import schema
from draggan.generators.base import Generator
from draggan.generators.registry import FAMILIES
from draggan.generators.stylegan2 import StyleGAN2Generator
from draggan.generators.stylegan2.config import DiscriminatorConfig
from draggan.generators.stylegan2.discriminator import Discriminator
from draggan.generators.stylegan3 import StyleGAN3Generator
from torch_utils.ops.bias_act import ACTIVATIONS

SIZES = {"z_dim": 4, "c_dim": 0, "w_dim": 4, "img_resolution": 16, "channel_base": 64, "channel_max": 4}
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "stylegan2": (StyleGAN2Generator, stylegan2_kwargs, SIZES),
    "stylegan3": (StyleGAN3Generator, stylegan3_kwargs, {**SIZES, "num_layers": 6}),
    "discriminator": (Discriminator, discriminator_kwargs, {k: v for k, v in SIZES.items() if k[0] not in "zw"}),
}
# What has no tensor of its own in a file, so that the reader has nothing but the argument.
LOOSE = {
    "stylegan2": ("conv_clamp", "activation", "resample_filter"),
    "stylegan3": (
        "conv_clamp",
        "num_critical",
        "first_cutoff",
        "first_stopband",
        "last_stopband_rel",
        "margin_size",
        "output_scale",
        "filter_size",
        "lrelu_upsampling",
        "use_radial_filters",
        "channel_base",
        "channel_max",
    ),
    "discriminator": ("conv_clamp", "activation", "resample_filter", "mbstd_group_size"),
}
VALUES = [
    *(-1, 0, 1, 2, 3, 4, 5, 8, 9, 16, 32, 33, 64, 65, 128, 129, 1024, 8192, 8193, 100_000, 100_001, 2**24, 2**24 + 1),
    *(0.25, 0.5, 1.5, 16.5, 1e-6, 1e-3, 1e6, 1e9, 1e10, float("nan"), float("inf"), True, False, None),
    *("lrelu", "skip", "resnet", "x", [1, 3, 3, 1], [1, 3, 3], [1, -1, 1, -1], [1, 3, 3, "1"], {}, {"num_layers": 3}),
]


def accepted(make: Any, refusal: type[Exception]) -> bool:
    try:
        make()
    except refusal:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_the_class_and_the_builder_accept_the_same_values_of_every_field(kind: str) -> None:
    config, sizes = CONFIGS[kind], KINDS[kind][2]
    differ = []
    for field in dataclasses.fields(config):
        for value in VALUES:
            kwargs = {**sizes, field.name: value}
            by_class = accepted(lambda: config.from_mapping(kwargs), ConfigError)  # noqa: B023
            if accepted(lambda: config_of(kind, kwargs), CheckpointError) != by_class:  # noqa: B023
                differ.append((field.name, value))
    assert differ == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_reader_accepts_the_same_values_of_what_only_an_argument_says(kind: str) -> None:
    cls, read, sizes = KINDS[kind]
    config = CONFIGS[kind]
    tensors = {name: t.numpy() for name, t in cls(config.from_mapping(sizes)).state_dict().items()}
    differ, refused = [], 0
    for name in LOOSE[kind]:
        for value in VALUES:
            kwargs = {**sizes, name: value}
            by_class = accepted(lambda: config.from_mapping(kwargs), ConfigError)  # noqa: B023
            refused += not by_class
            if accepted(lambda: read(kwargs, tensors), CheckpointError) != by_class:  # noqa: B023
                differ.append((name, value))
    assert differ == []
    assert refused > len(LOOSE[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_config_accepts_at_its_ends_can_be_built(kind: str) -> None:
    """One field at a time at each end of its range and the others small, where that is no absurdly large network."""
    cls, _, sizes = KINDS[kind]
    config = CONFIGS[kind]
    tried = 0
    for field in dataclasses.fields(config):
        allowed = field.metadata["allowed"]
        ends = [getattr(allowed, end) for end in ("low", "high") if hasattr(allowed, end)]
        for value in [*ends, *getattr(allowed, "values", ())]:
            # A map of 4096 cells takes minutes here.
            kwargs = {**sizes, field.name: min(value, 256) if field.name == "img_resolution" else value}
            kwargs["channel_base"] = max(kwargs["channel_base"], kwargs["img_resolution"])
            if not accepted(lambda: config.from_mapping(kwargs), ConfigError):  # noqa: B023
                continue
            tried += 1
            network = cls(config.from_mapping(kwargs))
            if isinstance(network, Generator) and kwargs["img_resolution"] <= 16:
                with torch.no_grad():
                    ws = network.mapping(torch.randn(1, network.z_dim))
                    assert network.synthesis(ws).shape[1:] == (network.config.img_channels, *network.image_size)
    assert tried > 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_survives_json(kind: str) -> None:
    config = CONFIGS[kind].from_mapping({**KINDS[kind][2], "mapping_kwargs": {"num_layers": 3}})
    assert CONFIGS[kind].from_mapping(json.loads(json.dumps(config.to_mapping()))) == config


def test_every_field_says_what_it_may_hold() -> None:
    for config in (*CONFIGS.values(), schema.MappingConfig):
        for field in dataclasses.fields(config):
            assert isinstance(field.metadata["allowed"], schema.Allowed), (config, field.name)
            if field.default is not dataclasses.MISSING:
                assert field.default == config.check_field(field.name, field.default)


def test_activations_are_those_of_the_operator() -> None:
    assert tuple(ACTIVATIONS) == schema.ACTIVATION_NAMES


def test_configs_do_not_load_pytorch() -> None:
    modules = "draggan.generators.stylegan2.config, draggan.generators.stylegan3.config, draggan.generators.schema"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_family_that_a_file_may_name_can_be_built() -> None:
    assert tuple(FAMILIES) == description.FAMILIES
    assert {name: CONFIGS[name] for name in FAMILIES} == {name: family.config for name, family in FAMILIES.items()}
    assert CONFIGS["discriminator"] is DiscriminatorConfig
