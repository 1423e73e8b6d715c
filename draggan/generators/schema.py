"""Sizes and options of a network as one typed record: what each field may hold is stated once, in the field.

A config class (`StyleGAN2Config`, `StyleGAN3Config`, `DiscriminatorConfig`) is a frozen dataclass whose fields are
made by `whole_number`, `real_number` and so on. Making one checks it, so that a network is never begun that is not
possible or absurdly large; `NetworkConfig.from_mapping` does the same for plain values from a file. The networks'
constructors, the readers of checkpoints and the builder all work from these classes. Nothing here imports PyTorch:
files are read without it.
"""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar

from draggan.errors import ConfigError

__all__ = [
    "ACTIVATION_NAMES",
    "MAX_PARAMETERS",
    "FieldError",
    "MappingConfig",
    "NetworkConfig",
    "UnknownFieldError",
    "check_budget",
    "flag",
    "four_taps",
    "one_of",
    "power_of_two",
    "real_number",
    "record",
    "size",
    "whole_number",
    "widths",
]

# Ten times the largest published StyleGAN2 and StyleGAN3 networks; 1 GiB in float32.
MAX_PARAMETERS = 2**28
# The keys of torch_utils.ops.bias_act.ACTIVATIONS, which cannot be imported without PyTorch.
ACTIVATION_NAMES = ("linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish")

C = TypeVar("C", bound="NetworkConfig")


class FieldError(ConfigError):
    """A field was given what it may not hold.

    Attributes:
        name, value: of the field.
        allowed: what it may hold, in words.
    """

    def __init__(self, name: str, value: Any, allowed: str) -> None:
        super().__init__(f"{name} = {_shown(value)} is not allowed; give {allowed}")
        self.name, self.value, self.allowed = name, value, allowed


class UnknownFieldError(ConfigError):
    """A value was given for a field that there is not.

    Attributes:
        name: what it was given for.
        known: the fields there are.
    """

    def __init__(self, name: str, known: Sequence[str]) -> None:
        name = name if len(name) <= 60 else f"{name[:57]}..."
        super().__init__(f"unknown argument {name}; known are {', '.join(known)}")
        self.name, self.known = name, tuple(known)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# ------------------------------------------------------------------------------------------- what a field may hold


class Allowed(abc.ABC):
    """What a field may hold."""

    @property
    @abc.abstractmethod
    def words(self) -> str:
        """It in words, behind "give"."""

    @abc.abstractmethod
    def accepts(self, value: Any) -> bool:
        """Whether the field may hold this value."""

    def kept(self, value: Any) -> Any:
        """An accepted value as the record keeps it."""
        return value


@dataclass(frozen=True)
class WholeNumber(Allowed):
    """A whole number from low to high; never a flag, nor a number with a point."""

    low: int
    high: int

    @property
    def words(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def accepts(self, value: Any) -> bool:
        return type(value) is int and self.low <= value <= self.high


@dataclass(frozen=True)
class PowerOfTwo(Allowed):
    """A power of two from low to high."""

    low: int
    high: int

    @property
    def words(self) -> str:
        return f"a power of two from {self.low} to {self.high}"

    def accepts(self, value: Any) -> bool:
        return type(value) is int and self.low <= value <= self.high and not value & (value - 1)


@dataclass(frozen=True)
class RealNumber(Allowed):
    """A number from low to high, with or without a point."""

    low: float
    high: float

    @property
    def words(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    def accepts(self, value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value) and self.low <= value <= self.high


@dataclass(frozen=True)
class Flag(Allowed):
    """True or False."""

    @property
    def words(self) -> str:
        return "True or False"

    def accepts(self, value: Any) -> bool:
        return type(value) is bool


@dataclass(frozen=True)
class OneOf(Allowed):
    """One of a few values of one type."""

    values: tuple[Any, ...]

    @property
    def words(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"

    def accepts(self, value: Any) -> bool:
        return type(value) is type(self.values[0]) and value in self.values


@dataclass(frozen=True)
class FourTaps(Allowed):
    """A filter of four taps: the padding of the published resampling steps belongs to that length."""

    @property
    def words(self) -> str:
        return "four numbers whose sum is not 0"

    def accepts(self, value: Any) -> bool:
        tap = RealNumber(-1e3, 1e3)
        sequence = isinstance(value, (list, tuple)) and len(value) == 4
        return sequence and all(tap.accepts(v) for v in value) and sum(value) != 0

    def kept(self, value: Any) -> Any:
        return tuple(value)


@dataclass(frozen=True)
class Widths(Allowed):
    """A whole number for every block."""

    each: WholeNumber
    most: int

    @property
    def words(self) -> str:
        return f"{self.each.words} for each block"

    def accepts(self, value: Any) -> bool:
        sequence = isinstance(value, (list, tuple)) and 1 <= len(value) <= self.most
        return sequence and all(self.each.accepts(v) for v in value)

    def kept(self, value: Any) -> Any:
        return tuple(value)


@dataclass(frozen=True)
class Size(Allowed):
    """Height and width."""

    each: WholeNumber

    @property
    def words(self) -> str:
        return f"height and width, each {self.each.words}"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, (list, tuple)) and len(value) == 2 and all(self.each.accepts(v) for v in value)

    def kept(self, value: Any) -> Any:
        return tuple(value)


@dataclass(frozen=True)
class Record(Allowed):
    """Named values: a config of a part."""

    config: type[NetworkConfig]

    @property
    def words(self) -> str:
        return "named values"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, (Mapping, self.config))


def _field(allowed: Allowed, default: Any, *, optional: bool = False, **more: Any) -> Any:
    return field(default=default, metadata={"allowed": allowed, "optional": optional}, **more)


def whole_number(low: int, high: int, default: Any = MISSING, *, optional: bool = False) -> Any:
    """A field for a `WholeNumber`; ``optional``: or None."""
    return _field(WholeNumber(low, high), default, optional=optional)


def power_of_two(low: int, high: int, default: Any = MISSING) -> Any:
    """A field for a `PowerOfTwo`."""
    return _field(PowerOfTwo(low, high), default)


def real_number(low: float, high: float, default: Any = MISSING, *, optional: bool = False) -> Any:
    """A field for a `RealNumber`; ``optional``: or None."""
    return _field(RealNumber(low, high), default, optional=optional)


def flag(default: Any = MISSING) -> Any:
    """A field for True or False."""
    return _field(Flag(), default)


def one_of(values: Sequence[Any], default: Any = MISSING) -> Any:
    """A field for one of a few values."""
    return _field(OneOf(tuple(values)), default)


def four_taps(default: Any = MISSING) -> Any:
    """A field for a resampling filter."""
    return _field(FourTaps(), default)


def widths(low: int, high: int, most: int) -> Any:
    """A field for one whole number per block, or None."""
    return _field(Widths(WholeNumber(low, high), most), None, optional=True)


def size(low: int, high: int) -> Any:
    """A field for a height and a width, or None."""
    return _field(Size(WholeNumber(low, high)), None, optional=True)


def record(config: type[NetworkConfig], default: NetworkConfig) -> Any:
    """A field for the config of a part."""
    return _field(Record(config), default)


# -------------------------------------------------------------------------------------------------------- records


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The base of all configs; making one checks every field, then what the fields mean together.

    Raises:
        FieldError: a field may not hold what it was given.
        ConfigError: all together describe no possible or an absurdly large network.
    """

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, _checked(f, getattr(self, f.name), f.name))
        self.check_together()

    def check_together(self) -> None:
        """`ConfigError` if the fields do not go together."""

    @classmethod
    def check_field(cls, name: str, value: Any) -> Any:
        """One value as the record would keep it, or `FieldError`."""
        return _checked({f.name: f for f in fields(cls)}[name], value, name)

    @classmethod
    def is_whole(cls, name: str) -> bool:
        """Whether a field holds whole numbers."""
        allowed = {f.name: f for f in fields(cls)}[name].metadata["allowed"]
        return isinstance(allowed, (WholeNumber, PowerOfTwo))

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """All fields, in order."""
        return tuple(f.name for f in fields(cls))

    @classmethod
    def from_mapping(cls: type[C], given: Mapping[str, Any], within: str = "") -> C:
        """The record of plain values by name; the one check of what comes from a file.

        Args:
            within: name of the record that this is a part of, for messages.

        Raises:
            FieldError, ConfigError: as above, or a name is unknown or missing.
        """
        known = {f.name: f for f in fields(cls)}
        prefix = f"{within}." if within else ""
        for name in given:
            if name not in known:
                raise UnknownFieldError(f"{prefix}{name}", list(known))
        missing = [f.name for f in known.values() if f.default is MISSING and f.name not in given]
        if missing:
            raise ConfigError(f"the description does not say {', '.join(prefix + name for name in missing)}")
        return cls(**{name: _checked(known[name], value, prefix + name) for name, value in given.items()})

    def to_mapping(self) -> dict[str, Any]:
        """All fields as plain values, as JSON has them; `from_mapping` gives the same record again."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _checked(f: Field, value: Any, name: str) -> Any:
    allowed: Allowed = f.metadata["allowed"]
    optional = f.metadata["optional"]
    if value is None and optional:
        return None
    if not allowed.accepts(value):
        raise FieldError(name, value, allowed.words + (" or none" if optional else ""))
    if isinstance(allowed, Record):
        return value if isinstance(value, allowed.config) else allowed.config.from_mapping(value, name)
    return allowed.kept(value)


def _plain(value: Any) -> Any:
    if isinstance(value, NetworkConfig):
        return value.to_mapping()
    return list(value) if isinstance(value, tuple) else value


def check_budget(parameters: int) -> None:
    """`ConfigError` for a network that no published architecture comes near."""
    if parameters > MAX_PARAMETERS:
        raise ConfigError(
            f"these arguments describe a network of {parameters / 1e6:.0f} million weights; up to "
            f"{MAX_PARAMETERS / 1e6:.0f} million are allowed. Check channel_base, channel_max and the mapping's widths"
        )


@dataclass(frozen=True, kw_only=True)
class MappingConfig(NetworkConfig):
    """Options of a mapping network, StyleGAN3's; StyleGAN2 has more (`stylegan2.config.MappingConfig`).

    Attributes:
        num_layers: fully connected layers.
        lr_multiplier: of their learning rate, which their weights are divided by.
        activation: between them.
        w_avg_beta: how slowly the average latent follows in training; None for a network without one.
    """

    num_layers: int = whole_number(1, 64, 2)
    lr_multiplier: float = real_number(1e-6, 1e3, 0.01)
    activation: str = one_of(ACTIVATION_NAMES, "lrelu")
    w_avg_beta: float | None = real_number(0, 1, 0.998, optional=True)

    def hidden(self, w_dim: int) -> int:
        """Width of the hidden layers."""
        return w_dim

    def embedded(self, w_dim: int) -> int:
        """Width of the label's embedding."""
        return w_dim

    def parameters(self, z_dim: int, c_dim: int, w_dim: int) -> int:
        """How many weights the network has, about (biases left out)."""
        embed = self.embedded(w_dim) if c_dim else 0
        sizes = [z_dim + embed, *[self.hidden(w_dim)] * (self.num_layers - 1), w_dim]
        return c_dim * embed + sum(math.prod(pair) for pair in itertools.pairwise(sizes))
