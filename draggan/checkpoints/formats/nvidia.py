"""Networks in NVIDIA's PyTorch files: StyleGAN2-ADA, StyleGAN3, self-distilled StyleGAN, StyleGAN-Human, and PTI's.

A file is one dictionary with any of ``G``, ``D`` and ``G_ema``. Each network is a tree of persistent objects: a class
name, the source text of its module (which we only hash) and the object's attributes, among them ``_parameters``,
``_buffers`` and ``_modules``. PTI saves one such tree, alone, in a ``.pt`` archive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from draggan.checkpoints.description import CheckpointDescription, Family, NetworkDescription, Role
from draggan.checkpoints.formats import unsupported
from draggan.checkpoints.infer_config import (
    discriminator_kwargs,
    family_of,
    plain,
    stylegan2_kwargs,
    stylegan3_kwargs,
)
from draggan.checkpoints.pickle.budget import Budget, damaged, refuse, refuse_object, show
from draggan.checkpoints.pickle.stand_ins import ForeignObject, Module, StandIn
from draggan.checkpoints.pickle.tensors import float_tensor
from draggan.errors import CheckpointError, UnsafeCheckpoint

__all__ = ["ROLES", "describe", "describe_network"]

# The one to drag first.
ROLES: tuple[Role, ...] = ("G_ema", "G", "D")
MAX_MODULES = 5000
MAX_DEPTH = 16
# What the constructors take before their keywords, for files that were made with positional arguments.
_POSITIONAL = {
    "generator": ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels"),
    "discriminator": ("c_dim", "img_resolution", "img_channels"),
}


def describe(value: Mapping[Any, Any], budget: Budget, file_format: str = "nvidia-pickle") -> CheckpointDescription:
    """The networks of a dictionary with ``G``, ``D``, ``G_ema`` or some of them.

    A discriminator that cannot be used costs the file only its discriminator: ``metadata["skipped"]`` says why.
    """
    networks: dict[Role, NetworkDescription] = {}
    sources: dict[str, list[str]] = {}
    skipped: dict[str, str] = {}
    for role in ROLES:
        root = value.get(role)
        if root is None:
            continue
        try:
            networks[role] = describe_network(_module(role, root), sources, budget)
        except CheckpointError as error:
            # The better generator is there; an odd second network must not keep it from use.
            if not networks or (isinstance(error, UnsafeCheckpoint) and not isinstance(root, ForeignObject)):
                raise
            skipped[role] = str(error)
    if not networks:
        raise CheckpointError("this file holds none of the networks G_ema, G and D")
    metadata: dict[str, Any] = {"source_sha256": sources}
    training = value.get("training_set_kwargs")
    if isinstance(training, dict):
        metadata["training_set"] = _facts(training)
    if skipped:
        metadata["skipped"] = skipped
    return CheckpointDescription(networks=networks, format=file_format, metadata=metadata)


def _module(role: Role, root: Any) -> Module:
    """A network as NVIDIA's files hold it, or the error for anything else."""
    if isinstance(root, Module):
        return root
    if isinstance(root, ForeignObject):
        family = unsupported.family_of_class(root.class_name)
        if family:
            raise CheckpointError(f"{role} of this file is {family}, which is not supported")
        if role == "D":
            raise CheckpointError(f"it is of the class '{root.class_name}', which is not one that we can read")
        raise refuse_object(root.class_name, f"Its {role}")
    if isinstance(root, StandIn):
        raise refuse(f"it asks for '{root.name}'")
    raise CheckpointError(f"{role} of this file is a {type(root).__name__} where a network is expected")


def describe_network(root: Module, sources: dict[str, list[str]], budget: Budget) -> NetworkDescription:
    """One network: its tensors by name, its family by those names, and the arguments that lead to it.

    Args:
        sources: SHA-256 of each embedded source, with the names of the classes that came with it; added to.
    """
    tensors, attributes, classes = _walk(root, budget)
    for class_name, source in classes.items():
        if class_name not in sources.setdefault(source, []):
            sources[source].append(class_name)
    other = unsupported.family_of_class(root.class_name) or unsupported.family_of(tensors)
    if other:
        raise CheckpointError(f"this file holds {other}, which is not supported")
    family = family_of(tensors)
    if not family:
        raise CheckpointError(
            f"a network of class {show(root.class_name)} is none we know: neither a StyleGAN2 or StyleGAN3 generator "
            "nor a StyleGAN2 discriminator"
        )
    kind = "discriminator" if family == "discriminator" else "generator"
    given = _arguments(root, _POSITIONAL[kind])
    if family == "stylegan3":
        kwargs = stylegan3_kwargs(given, tensors, attributes)
    elif family == "stylegan2":
        kwargs = stylegan2_kwargs(given, tensors, attributes)
    else:
        # StyleGAN3 models are trained with this same discriminator.
        family, kwargs = "stylegan2", discriminator_kwargs(given, tensors, attributes)
    return NetworkDescription(family=cast(Family, family), kwargs=kwargs, tensors=tensors)


def _arguments(root: Module, names: tuple[str, ...]) -> dict[str, Any]:
    """What the constructor was called with, by name."""
    positional, named = plain(root.state.get("_init_args", ())), plain(root.state.get("_init_kwargs", {}))
    if not isinstance(positional, list) or not isinstance(named, dict) or len(positional) > len(names):
        raise CheckpointError(f"the arguments of the network {show(root.class_name)} are unreadable")
    given = dict(zip(names, positional, strict=False))
    for name, value in named.items():
        if name in given:
            raise CheckpointError(f"the file gives {show(name)} twice")
        given[name] = value
    return given


def _walk(root: Module, budget: Budget) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]], dict[str, str]]:
    """Tensors by state-dict name, simple attributes by layer name, digests of source by class name."""
    tensors: dict[str, np.ndarray] = {}
    attributes: dict[str, dict[str, Any]] = {}
    classes: dict[str, str] = {}
    digests: dict[str, str] = {}
    todo: list[tuple[str, Module, int]] = [("", root, 0)]
    count = 0
    while todo:
        prefix, module, depth = todo.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_MODULES:
            raise refuse("layers that are nested too deeply or too many")
        digest = digests.get(module.source)
        if digest is None:
            digest = digests[module.source] = hashlib.sha256(module.source.encode()).hexdigest()
        classes.setdefault(module.class_name[:120], digest)
        budget.step(1 + len(module.state))
        left_out = _part(module, "_non_persistent_buffers_set", set)
        for part in ("_parameters", "_buffers"):
            values = _part(module, part, dict)
            budget.step(1 + len(values))
            for name, value in values.items():
                if value is None or (part == "_buffers" and name in left_out):
                    continue
                full = prefix + _name(name)
                if full in tensors:
                    raise damaged(f"tensor {show(full)} is there twice")
                tensors[full] = float_tensor(full, value, budget)
        attributes[prefix[:-1]] = {
            name: value
            for name, value in module.state.items()
            if isinstance(name, str) and (value is None or isinstance(value, (bool, int, float, str)))
        }
        children = _part(module, "_modules", dict)
        budget.step(1 + len(children))
        for name, child in children.items():
            if child is None:
                continue
            if not isinstance(child, Module):
                kind = child.class_name if isinstance(child, ForeignObject) else type(child).__name__
                raise CheckpointError(f"layer {show(prefix + _name(name))} is a {kind}")
            todo.append((f"{prefix}{_name(name)}.", child, depth + 1))
    return tensors, attributes, classes


def _part(module: Module, name: str, kind: type) -> Any:
    part = module.state.get(name)
    if part is None:
        return kind()
    if not isinstance(part, kind):
        raise damaged(f"{name} of a layer is a {type(part).__name__}")
    return part


def _name(name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= 200 or "." in name or "/" in name:
        raise damaged(f"a layer or tensor is called {show(name)}")
    return name


def _facts(given: Mapping[Any, Any]) -> dict[str, Any]:
    """The simple values among what the training data was described with; paths are nobody's business."""
    return {
        str(name)[:80]: value if not isinstance(value, str) else value[:200]
        for name, value in list(given.items())[:50]
        if name != "path" and (value is None or isinstance(value, (bool, int, float, str)))
    }
