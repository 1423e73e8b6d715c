"""From a description (plain values) to a network with weights, every step checked.

Nothing in a description is trusted: constructor arguments are looked up in a table of names, types and ranges, the
network is laid out without memory for its weights, and only when every name and shape in the file agrees with that
layout are the file's own arrays put in. So a file can cost no more memory than its size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from draggan.checkpoints.description import CheckpointDescription, NetworkDescription, Role
from draggan.device import choose_device
from draggan.errors import CheckpointError, ConfigError
from draggan.generators.base import Generator
from torch_utils.ops.bias_act import ACTIVATIONS

__all__ = ["build_discriminator", "build_generator", "check_kwargs", "choose_generator"]

# A rule returns None if it accepts a value, else what is allowed.
Rule = Callable[[Any], str | None]


def _whole(low: int, high: int, *, optional: bool = False) -> Rule:
    def rule(value: Any) -> str | None:
        if (value is None and optional) or (type(value) is int and low <= value <= high):
            return None
        return f"a whole number from {low} to {high}" + (" or none" if optional else "")

    return rule


def _real(low: float, high: float, *, optional: bool = False) -> Rule:
    def rule(value: Any) -> str | None:
        number = type(value) in (int, float) and math.isfinite(value)
        if (value is None and optional) or (number and low <= value <= high):
            return None
        return f"a number from {low:g} to {high:g}" + (" or none" if optional else "")

    return rule


def _flag(value: Any) -> str | None:
    return None if type(value) is bool else "true or false"


def _one_of(*names: str) -> Rule:
    def rule(value: Any) -> str | None:
        return None if isinstance(value, str) and value in names else f"one of {', '.join(names)}"

    return rule


def _four_taps(value: Any) -> str | None:
    # The padding of the published resampling steps belongs to four taps.
    tap = _real(-1e3, 1e3)
    good = isinstance(value, (list, tuple)) and len(value) == 4 and all(tap(v) is None for v in value)
    return None if good and sum(value) != 0 else "four numbers whose sum is not 0"


def _widths(value: Any) -> str | None:
    width = _whole(1, 4096)
    good = isinstance(value, (list, tuple)) and 1 <= len(value) <= 11 and all(width(v) is None for v in value)
    return None if good else "one whole number from 1 to 4096 for each block"


# Rules by name; a nested one for a nested dictionary. (Not written as a recursive type: Python 3.10 cannot resolve it.)
Rules = Mapping[str, Any]

_ARCHITECTURE = _one_of("skip", "resnet", "orig")
_ACTIVATION = _one_of(*ACTIVATIONS)

_MAPPING: Rules = {
    "num_layers": _whole(1, 32),
    "lr_multiplier": _real(1e-6, 1e3),
    "embed_features": _whole(1, 4096, optional=True),
    "layer_features": _whole(1, 4096, optional=True),
    "activation": _ACTIVATION,
    "w_avg_beta": _real(0, 1, optional=True),
}
_COMMON: Rules = {
    "c_dim": _whole(0, 100_000),
    "img_resolution": _whole(4, 4096),
    "img_channels": _whole(3, 3),
    "channel_base": _whole(1, 1 << 20),
    "channel_max": _whole(1, 4096),
    "conv_clamp": _real(1e-3, 1e9, optional=True),
    "mapping_kwargs": _MAPPING,
}
STYLEGAN2: Rules = {
    **_COMMON,
    "z_dim": _whole(1, 4096),
    "w_dim": _whole(1, 4096),
    "channels": _widths,
    "square": _flag,
    "architecture": _ARCHITECTURE,
    "resample_filter": _four_taps,
    "use_noise": _flag,
    "activation": _ACTIVATION,
}
STYLEGAN3: Rules = {
    **_COMMON,
    "z_dim": _whole(1, 4096),
    "w_dim": _whole(1, 4096),
    # Between them these bound the number of filter taps: design time and memory grow with its square.
    "num_layers": _whole(4, 64),
    "num_critical": _whole(0, 62),
    "first_cutoff": _real(0.5, 64),
    "first_stopband": _real(0.5, 64),
    "last_stopband_rel": _real(1, 4),
    "margin_size": _whole(0, 128),
    "output_scale": _real(-1e6, 1e6),
    "conv_kernel": _whole(1, 9),
    "filter_size": _whole(1, 16),
    "lrelu_upsampling": _whole(1, 4),
    "use_radial_filters": _flag,
}
DISCRIMINATOR: Rules = {
    **_COMMON,
    "square": _flag,
    "architecture": _ARCHITECTURE,
    "resample_filter": _four_taps,
    "activation": _ACTIVATION,
    "cmap_dim": _whole(0, 4096, optional=True),
    "mbstd_group_size": _whole(1, 1024, optional=True),
    "mbstd_num_channels": _whole(0, 64),
}
_REQUIRED = {
    "stylegan2": ("z_dim", "c_dim", "w_dim", "img_resolution"),
    "stylegan3": ("z_dim", "c_dim", "w_dim", "img_resolution"),
    "discriminator": ("c_dim", "img_resolution"),
}
RULES: dict[str, Rules] = {"stylegan2": STYLEGAN2, "stylegan3": STYLEGAN3, "discriminator": DISCRIMINATOR}


def check_kwargs(kind: str, kwargs: Mapping[str, Any]) -> None:
    """Check constructor arguments against the table.

    Args:
        kind: "stylegan2", "stylegan3" or "discriminator".

    Raises:
        CheckpointError: an argument is missing, unknown, of the wrong type or out of range.
    """
    missing = [name for name in _REQUIRED[kind] if name not in kwargs]
    if missing:
        raise CheckpointError(f"the file does not say {', '.join(missing)} of its {kind} network")
    _check_against(RULES[kind], kwargs, "")
    layers, critical = kwargs.get("num_layers", 14), kwargs.get("num_critical", 2)
    if kind == "stylegan3" and layers - critical < 2:
        raise CheckpointError(f"num_layers = {layers} must exceed num_critical = {critical} by 2 at least")


def _check_against(rules: Rules, kwargs: Mapping[str, Any], prefix: str) -> None:
    for name, value in kwargs.items():
        rule = rules.get(name)
        if rule is None:
            raise CheckpointError(f"unknown argument '{prefix}{str(name)[:60]}'; known are {', '.join(rules)}")
        if callable(rule):
            allowed = rule(value)
            if allowed is not None:
                raise CheckpointError(f"{prefix}{name} = {repr(value)[:60]} is not allowed; it must be {allowed}")
        elif isinstance(value, Mapping):
            _check_against(rule, value, f"{prefix}{name}.")
        else:
            raise CheckpointError(f"{prefix}{name} = {repr(value)[:60]} is not allowed; it must hold named values")


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
    if network.family == "stylegan3":
        from draggan.generators.stylegan3 import StyleGAN3Generator

        return _build(StyleGAN3Generator, "stylegan3", role, network, device).freeze()
    from draggan.generators.stylegan2 import StyleGAN2Generator

    return _build(StyleGAN2Generator, "stylegan2", role, network, device).freeze()


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
    from draggan.generators.stylegan2.discriminator import Discriminator

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


def _build(cls: Callable[..., Any], kind: str, role: str, network: NetworkDescription, device: Any) -> Any:
    check_kwargs(kind, network.kwargs)
    target = choose_device(device)
    try:
        with _ShapesOnly():
            module = cls(**network.kwargs)
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
