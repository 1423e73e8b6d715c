"""The families of generators: by name, the record that describes one and the class that is built from it.

A new family is a package beside `stylegan2` and `stylegan3` with a config and a generator, and one line here; its name
and what its files look like are known to `draggan.checkpoints` (docs/architecture.md, "How to add").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from draggan.generators.base import Generator
from draggan.generators.schema import NetworkConfig
from draggan.generators.stylegan2.config import StyleGAN2Config
from draggan.generators.stylegan2.generator import StyleGAN2Generator
from draggan.generators.stylegan3.config import StyleGAN3Config
from draggan.generators.stylegan3.generator import StyleGAN3Generator

__all__ = ["FAMILIES", "Family"]


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


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family(name="stylegan2", config=StyleGAN2Config, generator=StyleGAN2Generator),
        Family(name="stylegan3", config=StyleGAN3Config, generator=StyleGAN3Generator),
    )
}
