"""State dicts: tensors by name without the network they belong to, as programs save weights alone.

The names are NVIDIA's or rosinality's. They may be bare or wrapped in any of the ways that people's files are: under
``g_ema``, ``state_dict`` and the like, with ``module.``, ``decoder.``, ``generator.`` before every name (pSp, e4e,
ReStyle, DualStyleGAN), beside an encoder, with the average latent beside the network. What is found tells the sizes;
what has no shape is the published default, and the notes say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from draggan.checkpoints.description import CheckpointDescription, Family, NetworkDescription, Role
from draggan.checkpoints.formats import rosinality, unsupported
from draggan.checkpoints.formats.average_latent import SAMPLES, average_latent
from draggan.checkpoints.formats.renaming import NO_NOISE, resample_filter
from draggan.checkpoints.infer_config import discriminator_kwargs, plain, stylegan2_kwargs, stylegan3_kwargs
from draggan.checkpoints.pickle.budget import Budget, refuse, refuse_object, show
from draggan.checkpoints.pickle.stand_ins import ForeignObject, OrderedDict
from draggan.checkpoints.pickle.tensors import NumpyArray, Tensor, float_tensor
from draggan.errors import CheckpointError

__all__ = ["OWN_KEY", "describe"]

MAX_TENSORS = 5000
MAX_TABLES = 200
MAX_DEPTH = 4
# Where our own conversions keep family and arguments, in a place that PyTorch passes by.
OWN_KEY = "draggan"
# The trainer of the files with these names always sets it.
_USUAL_CLAMP = 256
# By which names a network is known: all of them have to be there, behind the same prefix.
_MARKS: dict[str, tuple[str, ...]] = {
    "stylegan3": ("synthesis.input.freqs", "mapping.fc0.weight"),
    "stylegan2": ("synthesis.b4.const", "mapping.fc0.weight"),
    "rosinality": ("input.input", "conv1.conv.weight"),
    "discriminator": ("b4.fc.weight", "b4.out.weight"),
}
_OWN_NAMES = {
    "stylegan3": ("synthesis.", "mapping."),
    "stylegan2": ("synthesis.", "mapping."),
    "discriminator": ("b", "mapping."),
}
_ARRAYS = (Tensor, NumpyArray, np.ndarray)
_AVERAGES = ("latent_avg", "w_avg", "mean_latent")


@dataclass(frozen=True, kw_only=True)
class _Table:
    """One dictionary of tensors in a file.

    Attributes:
        path: the keys that lead to it.
        tensors: by name, not yet read.
        own: what one of our own conversions says of the networks, by role.
        average: the average latent beside it or around it; None if there is none.
    """

    path: tuple[str, ...]
    tensors: dict[str, Any]
    own: Mapping[str, Any] = field(default_factory=dict)
    average: Any = None


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A network in a table: its kind (a key of ``_MARKS``) and what stands before each of its names."""

    table: _Table
    kind: str
    prefix: str

    @property
    def where(self) -> str:
        return ".".join((*self.table.path, self.prefix.rstrip("./"))).strip(".") or "the file"

    @property
    def is_average(self) -> bool:
        """Whether it is called as the moving average of the weights is."""
        return any("ema" in word.lower() for word in (*self.table.path, self.prefix))

    def own_tensors(self) -> dict[str, Any]:
        """Its tensors by the names behind the prefix."""
        own = _OWN_NAMES.get(self.kind, ("",))
        length = len(self.prefix)
        return {
            name[length:]: value
            for name, value in self.table.tensors.items()
            if name.startswith(self.prefix) and name[length:].startswith(own) and name[length:] not in _AVERAGES
        }


def describe(
    value: Mapping[Any, Any], budget: Budget, *, own: Mapping[str, Any] | None = None, file_format: str = "state-dict"
) -> CheckpointDescription:
    """The networks among the state dicts in ``value``.

    Args:
        own: what our own conversion says of its networks by role (family and arguments), where it was kept beside.
        file_format: of NVIDIA's names; rosinality's are "rosinality".

    Raises:
        UnsafeCheckpoint: what is there is a whole object of a program instead of weights.
        CheckpointError: there is no generator or discriminator that we know.
    """
    tables = list(_tables(value, budget, own or {}))
    found = [network for table in tables for network in _networks(table, budget)]
    roles = _roles(found)
    if not roles:
        raise _nothing_found(value, tables)
    networks: dict[Role, NetworkDescription] = {}
    notes: list[str] = []
    skipped: dict[str, str] = {}
    for role, network in roles.items():
        try:
            networks[role], said = _read(role, network, budget)
        except CheckpointError as error:
            if role == "G_ema" or not networks:
                raise
            skipped[role] = str(error)
        else:
            notes += [note for note in said if note not in notes]
    metadata: dict[str, Any] = {}
    if notes:
        metadata["notes"] = notes
    if skipped:
        metadata["skipped"] = skipped
    kinds = {network.kind for network in roles.values()}
    return CheckpointDescription(
        networks=networks, format="rosinality" if "rosinality" in kinds else file_format, metadata=metadata
    )


def _tables(value: Mapping[Any, Any], budget: Budget, own: Mapping[str, Any]) -> Iterator[_Table]:
    """Every dictionary of tensors in a file, the outer ones first."""
    todo: list[tuple[tuple[str, ...], Mapping[Any, Any], Any]] = [((), value, None)]
    count = 0
    while todo:
        path, current, average = todo.pop(0)
        count += 1
        if count > MAX_TABLES:
            raise refuse(f"more than {MAX_TABLES} tables of tensors")
        budget.step(1 + len(current))
        tensors = {
            name: item
            for name, item in current.items()
            # Names of weights have dots; what is beside them may be anything.
            if isinstance(name, str) and (isinstance(item, _ARRAYS) or ("." in name and not isinstance(item, dict)))
        }
        average = next((tensors[name] for name in _AVERAGES if name in tensors), average)
        kept = current.attributes.get("_metadata") if isinstance(current, OrderedDict) else None
        said = kept.get(OWN_KEY) if isinstance(kept, dict) else None
        if tensors:
            yield _Table(path=path, tensors=tensors, own=said if isinstance(said, dict) else own, average=average)
        if len(path) < MAX_DEPTH:
            todo.extend(
                ((*path, name), item, average)
                for name, item in current.items()
                if isinstance(name, str) and isinstance(item, dict)
            )


def _networks(table: _Table, budget: Budget) -> Iterator[_Found]:
    """The networks in a table, by the names that mark them."""
    budget.step(1 + len(table.tensors))
    for kind, (first, *others) in _MARKS.items():
        for name in table.tensors:
            prefix = name.removesuffix(first)
            if prefix == name or (prefix and prefix[-1] not in "./"):
                continue
            if all(prefix + other in table.tensors for other in others):
                yield _Found(table=table, kind=kind, prefix=prefix)


def _roles(found: list[_Found]) -> dict[Role, _Found]:
    """Which network is which; the one to drag first."""
    generators = [network for network in found if network.kind != "discriminator"]
    # Sorting is stable: of equals the first in the file.
    generators.sort(key=lambda network: not network.is_average)
    roles: dict[Role, _Found] = {}
    if generators:
        # One that is called plain "G" stays that.
        only = len(generators) == 1 and not generators[0].is_average and generators[0].where in ("g", "G")
        roles["G" if only else "G_ema"] = generators[0]
    others = [network for network in generators[1:] if not network.is_average]
    if others and generators[0].is_average:
        roles["G"] = others[0]
    discriminator = next((network for network in found if network.kind == "discriminator"), None)
    if discriminator is not None:
        roles["D"] = discriminator
    return roles


def _read(role: Role, found: _Found, budget: Budget) -> tuple[NetworkDescription, list[str]]:
    """A network under our names, and what the file did not say."""
    values = found.own_tensors()
    if len(values) > MAX_TENSORS:
        raise CheckpointError(f"{found.where} has {len(values)} tensors; a network has {MAX_TENSORS} at most")
    # Some have all that marks a network we know, and more.
    other = unsupported.family_of(values)
    if other:
        raise CheckpointError(f"{found.where} holds {other}, which is not supported")
    tensors = {name: float_tensor(name, value, budget) for name, value in values.items()}
    if found.kind == "rosinality":
        tensors, notes = rosinality.rename(tensors)
    else:
        notes = []
    if found.kind == "discriminator":
        kwargs = _own_kwargs(role, found) or discriminator_kwargs({}, tensors)
        return NetworkDescription(family="stylegan2", kwargs=kwargs, tensors=tensors), notes
    family: Family = "stylegan3" if found.kind == "stylegan3" else "stylegan2"
    if family == "stylegan2":
        notes += _complete(tensors)
    if "mapping.w_avg" not in tensors:
        notes += _take_average(tensors, found, budget)
    own = _own_kwargs(role, found)
    if own is not None:
        kwargs = own
    elif family == "stylegan3":
        kwargs = stylegan3_kwargs(_stylegan3_arguments(tensors), tensors)
    elif found.kind == "rosinality":
        kwargs = stylegan2_kwargs({}, tensors)
    else:
        notes.append(f"the file does not say where activations are clamped; {_USUAL_CLAMP}, as is usual, is taken")
        kwargs = stylegan2_kwargs({"conv_clamp": _USUAL_CLAMP}, tensors)
    return NetworkDescription(family=family, kwargs=kwargs, tensors=tensors), notes


def _own_kwargs(role: Role, found: _Found) -> dict[str, Any] | None:
    """The arguments that our own conversion kept; `build` checks them."""
    said = found.table.own.get(role) or found.table.own.get("G_ema" if role != "D" else "D")
    kwargs = said.get("kwargs") if isinstance(said, dict) else None
    return plain(kwargs) if isinstance(kwargs, dict) else None


def _complete(tensors: dict[str, np.ndarray]) -> list[str]:
    """Add the constants that some programs leave out because they are not trained; what that changes."""
    notes: list[str] = []
    low_pass = resample_filter([1, 3, 3, 1])
    const = tensors["synthesis.b4.const"]
    if const.ndim != 3:
        raise CheckpointError(f"tensor 'synthesis.b4.const' has shape {list(const.shape)}; 3 sizes are expected")
    height, width = const.shape[1:]
    for name in [name for name in tensors if re.fullmatch(r"synthesis\.b[0-9]{1,5}\.(conv[01]|skip)\.weight", name)]:
        layer = name.rpartition(".")[0]
        tensors.setdefault(f"{layer}.resample_filter", low_pass)
        tensors.setdefault(f"{layer.rpartition('.')[0]}.resample_filter", low_pass)
        if f"{layer}.noise_strength" in tensors and f"{layer}.noise_const" not in tensors:
            size = int(layer.split(".")[1][1:]) // 4
            tensors[f"{layer}.noise_const"] = np.zeros((height * size, width * size), np.float32)
            notes = [NO_NOISE]
    return notes


def _take_average(tensors: dict[str, np.ndarray], found: _Found, budget: Budget) -> list[str]:
    """Put in the average latent: the one beside the network, else one that is computed."""
    width = _width(tensors)
    average = found.table.average
    if average is not None:
        array = float_tensor("latent_avg", average, budget)
        if array.size and array.size % width == 0 and array.shape[-1] == width:
            rows = array.reshape(-1, width)
            same = bool((rows == rows[0]).all())
            tensors["mapping.w_avg"] = rows[0].copy() if same else rows.mean(0, dtype=np.float64).astype(np.float32)
            return []
        raise CheckpointError(f"the average latent has shape {list(array.shape)}; {width} numbers are expected")
    tensors["mapping.w_avg"] = average_latent(tensors)
    return [f"the file has no average latent; the average of {SAMPLES} random ones is used for truncation"]


def _width(tensors: Mapping[str, np.ndarray]) -> int:
    """w_dim: what the last layer of the mapping network gives."""
    layers = [int(m.group(1)) for name in tensors if (m := re.fullmatch(r"mapping\.fc([0-9]{1,3})\.weight", name))]
    weight = tensors.get(f"mapping.fc{max(layers, default=0)}.weight")
    if weight is None or weight.ndim != 2 or 0 in weight.shape:
        raise CheckpointError("the file has no mapping network; it is incomplete or another kind of network")
    return weight.shape[0]


def _stylegan3_arguments(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What the published configurations T and R differ in: filters, and channels by frequency."""
    layers = {
        int(m.group(1)): (int(m.group(2)), array.shape[0])
        for name, array in tensors.items()
        if (m := re.fullmatch(r"synthesis\.L([0-9]{1,3})_([0-9]{1,5})_[0-9]{1,5}\.weight", name)) and array.ndim == 4
    }
    filters = [array for name, array in tensors.items() if name.endswith(".down_filter")]
    # A radial filter is a square, any other a line.
    given: dict[str, Any] = {"use_radial_filters": any(array.ndim == 2 for array in filters)}
    if len(layers) > 1:
        resolution, _ = layers[max(layers)]
        _, last = layers[sorted(layers)[-2]]
        widest = max(channels for number, (_, channels) in layers.items() if number != max(layers))
        # channels = channel_base / 2 / cutoff, up to channel_max; the last cutoff is resolution / 2.
        given |= {"channel_max": widest, "channel_base": last * resolution}
    return given


def _nothing_found(value: Mapping[Any, Any], tables: list[_Table]) -> CheckpointError:
    """What to say of a file without a network that we know."""
    for name, item in value.items():
        if isinstance(item, ForeignObject):
            return refuse_object(item.class_name, f"Its {show(name)}")
    names = [name for table in tables for name in table.tensors]
    family = unsupported.family_of(names)
    if family:
        return CheckpointError(f"this file holds {family}, which is not supported")
    return CheckpointError(
        "this file holds no generator: neither 'g_ema' nor 'g' nor anything else in it has the tensors of a StyleGAN2 "
        f"or StyleGAN3 network (it has {len(names)} tensors{_some(names)})"
    )


def _some(names: list[str]) -> str:
    return ", such as " + ", ".join(show(name) for name in names[:4]) if names else ""
