"""Writes checkpoints in the published formats, so that tests and benchmarks need no published file.

Python's pickle writes an object as a call of whatever its ``__reduce__`` names. Here that is a function of the right
name in a module of the right name, which exist only while a file is written; so the byte code is that of real files.
The embedded source raises if anybody runs it.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

SOURCE = "raise RuntimeError('source code embedded in the pickle was executed')\n"
BUFFERS = (
    *("noise_const", "resample_filter", "w_avg", "freqs", "phases", "transform", "magnitude_ema"),
    *("up_filter", "down_filter"),
)
# The stand-in modules: name -> attribute -> object. Filled below.
MODULES: dict[str, dict[str, Any]] = {"torch_utils.persistence": {}, "dnnlib.util": {}, "dnnlib.tflib.network": {}}
MODULES |= {"pg_modules": {}, "pg_modules.discriminator": {}, "pg_modules.networks_fastgan": {}, "model": {}}


def published(module: str) -> Any:
    """Register a class or function under a published name."""

    def register(item: Any) -> Any:
        item.__module__, item.__qualname__ = module, item.__name__
        MODULES[module][item.__name__] = item
        return item

    return register


@contextlib.contextmanager
def published_names() -> Iterator[None]:
    """The published modules exist while this lasts, so that pickle finds the names it writes."""
    before = {name: sys.modules.get(name) for name in MODULES}
    for name, attributes in MODULES.items():
        module = types.ModuleType(name)
        vars(module).update(attributes)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name, real in before.items():
            if real is None:
                del sys.modules[name]
            else:
                sys.modules[name] = real


@published("torch_utils.persistence")
def _reconstruct_persistent_obj(meta: dict) -> Persistent:
    return Persistent(meta["class_name"], meta["state"])


@published("dnnlib.util")
class EasyDict(dict):
    """A dictionary of a published name."""


@published("dnnlib.tflib.network")
class Network:
    """A TensorFlow network of a published name."""

    def __init__(self, state: dict) -> None:
        self.state = state

    def __getstate__(self) -> dict:
        return self.state


@published("pg_modules.discriminator")
class SingleDisc(nn.Module):
    """A discriminator of a class of its own, pickled whole."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)


def foreign_network(module: str, **layers: nn.Module) -> nn.Module:
    """A whole network of the class ``Generator`` of another program's module."""
    kind = published(module)(type("Generator", (nn.Module,), {}))
    made = kind()
    for name, layer in layers.items():
        made.add_module(name, layer)
    return made


class Persistent:
    """A network or layer as NVIDIA's files hold it."""

    def __init__(self, class_name: str, state: dict, **meta: Any) -> None:
        self.class_name, self.state, self.meta = class_name, state, meta

    def __reduce__(self) -> tuple:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": SOURCE,
            "class_name": self.class_name,
            "state": self.state,
            **self.meta,
        }
        return _reconstruct_persistent_obj, (meta,)


def layer(class_name: str, kwargs: Mapping[str, Any] | None = None, **attributes: Any) -> Persistent:
    """An empty layer with the attributes that every published one has."""
    state: dict[str, Any] = {
        "training": False,
        "_parameters": {},
        "_buffers": {},
        "_non_persistent_buffers_set": set(),
        "_forward_hooks": OrderedDict(),
        "_modules": {},
        **attributes,
        "_init_args": (),
        "_init_kwargs": EasyDict(kwargs or {}),
    }
    return Persistent(class_name, state)


def network(
    tensors: Mapping[str, torch.Tensor],
    class_name: str = "Generator",
    kwargs: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Persistent:
    """A network from its state dict, the arguments of its constructor, and attributes by layer name."""
    root = layer(class_name, kwargs)
    for name, tensor in tensors.items():
        *path, leaf = name.split(".")
        node = root
        for part in path:
            node = node.state["_modules"].setdefault(part, layer(part))
        if leaf in BUFFERS:
            node.state["_buffers"][leaf] = tensor
        else:
            # Copies would be of one storage each; views stay views.
            node.state["_parameters"][leaf] = nn.Parameter(tensor, requires_grad=False)
    for name, values in (attributes or {}).items():
        node = root
        for part in name.split("."):
            node = node.state["_modules"][part]
        node.state.update(values)
    return root


def dumps(value: Any, protocol: int = 4) -> bytes:
    """A stand-alone pickle, as NVIDIA writes it."""
    with published_names():
        return pickle.dumps(value, protocol=protocol)


def dumps_torch(value: Any, **options: Any) -> bytes:
    """A ``.pt`` archive, as ``torch.save`` writes it."""
    stream = io.BytesIO()
    with published_names():
        torch.save(value, stream, **options)
    return stream.getvalue()


def generator_file(kwargs: dict[str, Any], *, seed: int = 0, roles: tuple[str, ...] = ("G_ema",)) -> dict[str, Any]:
    """The content of a file with a StyleGAN2 generator of random weights under each of these roles."""
    from draggan.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator

    content: dict[str, Any] = dict.fromkeys(("G", "D", "G_ema"))
    for i, role in enumerate(roles):
        torch.manual_seed(seed + i)
        generator = StyleGAN2Generator(StyleGAN2Config.from_mapping(kwargs))
        state = {name: tensor.detach() for name, tensor in generator.state_dict().items()}
        content[role] = network(state, "Generator", kwargs)
    return {**content, "training_set_kwargs": EasyDict(path="x", resolution=16), "augment_pipe": None}


SMALL: dict[str, Any] = {"z_dim": 8, "c_dim": 0, "w_dim": 8, "img_resolution": 8, "img_channels": 3}
SMALL |= {"channel_base": 64, "channel_max": 8, "mapping_kwargs": {"num_layers": 2}}


def tensorflow_network(variables: list[tuple[str, np.ndarray]], static: dict, **components: Network) -> Network:
    """A TensorFlow network of format version 4."""
    return Network(
        {
            "version": 4,
            "name": "network",
            "static_kwargs": static,
            "components": components,
            "build_module_src": SOURCE,
            "build_func_name": "build",
            "variables": variables,
        }
    )
