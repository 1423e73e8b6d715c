"""The families of generators: by name, the record that describes one and the class that is built from it.

A new family is a package beside `stylegan2` and `stylegan3` with a config and a generator, one line here, and what its
files look like in `draggan.checkpoints.infer_config`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from draggan.generators.base import Generator
from draggan.generators.schema import NetworkConfig
from draggan.generators.stylegan2.config import StyleGAN2Config
from draggan.generators.stylegan2.generator import StyleGAN2Generator
from draggan.generators.stylegan3.config import StyleGAN3Config
from draggan.generators.stylegan3.generator import StyleGAN3Generator

__all__ = ["FAMILIES", "Family", "register_family"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of generators.

    Attributes:
        name: as descriptions of files and the list of models have it.
        config: the record of its sizes and options.
        generator: makes one from such a record, with random weights.
    """

    name: str
    config: type[NetworkConfig]
    generator: Callable[[Any], Generator]


FAMILIES: dict[str, Family] = {}


def register_family(name: str, config: type[NetworkConfig], generator: Callable[[Any], Generator]) -> None:
    """Make a family known, so that files of it can be opened."""
    FAMILIES[name] = Family(name=name, config=config, generator=generator)


register_family("stylegan2", StyleGAN2Config, StyleGAN2Generator)
register_family("stylegan3", StyleGAN3Config, StyleGAN3Generator)
