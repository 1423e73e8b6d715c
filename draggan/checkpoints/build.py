"""From a description (plain values) to a network with weights, every step checked.

Nothing in a description is trusted: its arguments have to make a config (`NetworkConfig.from_mapping`), the
network is laid out without memory for its weights, and only when every name and shape in the file agrees with that
layout are the file's own arrays put in. So a file can cost no more memory than its size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from draggan.checkpoints.description import CheckpointDescription, NetworkDescription, Role
from draggan.checkpoints.infer_config import as_in_file
from draggan.device import choose_device
from draggan.errors import CheckpointError, ConfigError
from draggan.generators.base import Generator
from draggan.generators.registry import FAMILIES
from draggan.generators.schema import FieldError, NetworkConfig, UnknownFieldError
from draggan.generators.stylegan2.config import DiscriminatorConfig
from draggan.generators.stylegan2.discriminator import Discriminator

__all__ = ["build_discriminator", "build_generator", "choose_generator", "config_of"]

# By kind of network: "stylegan2", "stylegan3", ..., and "discriminator".
CONFIGS: Mapping[str, type[NetworkConfig]] = {
    **{name: family.config for name, family in FAMILIES.items()},
    "discriminator": DiscriminatorConfig,
}


def config_of(kind: str, kwargs: Mapping[str, Any]) -> NetworkConfig:
    """The config that arguments in a file stand for, checked.

    Args:
        kind: "stylegan2", "stylegan3" or "discriminator".

    Raises:
        CheckpointError: an argument is missing, unknown, of the wrong type or out of range, or all together describe no
            possible network.
    """
    try:
        return CONFIGS[kind].from_mapping(kwargs)
    except FieldError as error:
        allowed = as_in_file(error.allowed)
        verb = "hold" if allowed == "named values" else "be"
        shown = repr(error.value)[:60]
        raise CheckpointError(f"{error.name} = {shown} is not allowed; it must {verb} {allowed}") from None
    except UnknownFieldError as error:
        raise CheckpointError(f"unknown argument '{error.name}'; known are {', '.join(error.known)}") from None
    except ConfigError as error:
        raise CheckpointError(f"the arguments in the file describe no possible {kind} network: {error}") from error


def choose_generator(description: CheckpointDescription) -> Role:
    """The generator to drag: ``G_ema`` where there is one (its pictures are better), else ``G``.

    Raises:
        CheckpointError: the file has no generator.
    """
    roles: tuple[Role, ...] = ("G_ema", "G")
    for role in roles:
        if role in description.networks:
            return role
    raise CheckpointError(f"no generator in this file; it holds {', '.join(description.networks) or 'nothing'}")


def build_generator(description: CheckpointDescription, device: str | torch.device = "cpu") -> Generator:
    """The generator of a checkpoint, frozen, float32.

    Raises:
        CheckpointError: the file has none, or its arguments, names or shapes are not those of the network it claims.
    """
    role = choose_generator(description)
    network = description.networks[role]
    return _build(FAMILIES[network.family].generator, network.family, role, network, device).freeze()


def build_discriminator(description: CheckpointDescription, device: str | torch.device = "cpu") -> nn.Module:
    """The discriminator of a checkpoint, frozen, float32.

    Raises:
        CheckpointError: as for `build_generator`.
    """
    if "D" not in description.networks:
        held = ", ".join(description.networks) or "nothing"
        # Readers leave a discriminator out that they cannot use, and say why.
        skipped = description.metadata.get("skipped")
        reason = skipped.get("D") if isinstance(skipped, dict) else None
        why = f" (its discriminator cannot be used: {reason})" if reason else ""
        raise CheckpointError(f"no discriminator in this file; it holds {held}{why}")
    network = description.networks["D"]
    return _build(Discriminator, "discriminator", "D", network, device).eval().requires_grad_(False)


class _ShapesOnly(TorchFunctionMode):
    """Inside this, random initial weights are shapes without memory: one zero, expanded (all strides 0).

    Everything else, such as resampling filters, is computed as usual. PyTorch's "meta" device would serve too, but its
    first operation imports the compiler, which takes ten times as long as reading a model.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _RANDOM:
            size = args[0] if len(args) == 1 and isinstance(args[0], (list, tuple)) else args
            return torch.zeros(()).expand(size)
        # Scaling a placeholder would give it memory; its values do not matter.
        if func in _SCALE and isinstance(args[0], Tensor) and args[0].ndim > 0 and not any(args[0].stride()):
            return args[0]
        return func(*args, **(kwargs or {}))


_RANDOM = (torch.randn, torch.rand)
_SCALE = (Tensor.div, Tensor.__truediv__, Tensor.mul, Tensor.__mul__)


def _build(make: Callable[[Any], Any], kind: str, role: str, network: NetworkDescription, device: Any) -> Any:
    config = config_of(kind, network.kwargs)
    target = choose_device(device)
    try:
        with _ShapesOnly():
            module = make(config)
    except (ConfigError, TypeError, ValueError, ArithmeticError, RuntimeError, LookupError) as error:
        raise CheckpointError(f"the arguments in the file describe no possible {kind} network: {error}") from error
    _check_layout(role, module.state_dict(), network.tensors)
    state = {name: _to_torch(f"{role}/{name}", array) for name, array in network.tensors.items()}
    module.load_state_dict(state, strict=True, assign=True)
    return module.to(target)


def _check_layout(role: str, expected: Mapping[str, Tensor], given: Mapping[str, np.ndarray]) -> None:
    """Refuse unless both have the same names with the same shapes; the message lists what differs."""
    problems = []
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    shapes = [
        f"{name} {list(given[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in given and tuple(given[name].shape) != tuple(tensor.shape)
    ]
    for title, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)):
        if names:
            shown = ", ".join(name[:120] for name in names[:8])
            rest = f" and {len(names) - 8} more" if len(names) > 8 else ""
            problems.append(f"{title}: {shown}{rest}")
    if problems:
        listed = "; ".join(problems)
        raise CheckpointError(f"the tensors of {role} do not fit the network that the file describes: {listed}")


def _to_torch(name: str, array: np.ndarray) -> Tensor:
    """float32, writable (PyTorch warns otherwise), and free of NaN and infinity."""
    if array.dtype not in (np.float16, np.float32):
        raise CheckpointError(f"{name} is {array.dtype}; weights must be float32 or float16")
    array = np.ascontiguousarray(array).reshape(array.shape)
    if not array.flags.writeable:
        array = array.copy()
    tensor = torch.from_numpy(array).float()
    # One NaN or infinity makes the sum one; cheaper than testing every value.
    if not torch.isfinite(tensor.sum()):
        raise CheckpointError(f"{name} holds values that are not finite numbers; the file is damaged")
    return tensor
