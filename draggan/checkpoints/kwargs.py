"""From what a file says about a network to the constructor arguments of our classes.

Tensors are the truth about everything that has a shape: resolution, channels, numbers of layers, architecture. What has
none (activation, clamp, learning-rate multiplier) is read from the attributes that the published layers keep, else
from the arguments of the constructor, else it is the default. Both are checked: an unknown argument, one of another
type, and one that contradicts the tensors is an error that names it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from draggan.checkpoints.pickle.budget import refuse, show
from draggan.checkpoints.pickle.tensors import NumpyArray
from draggan.errors import CheckpointError

__all__ = [
    "ACTIVATIONS",
    "Attributes",
    "discriminator_kwargs",
    "family_of",
    "plain",
    "stylegan2_kwargs",
    "stylegan3_kwargs",
    "widths_to_base",
]

Tensors = Mapping[str, np.ndarray]
# Attributes of the published layers by the layer's dotted name.
Attributes = Mapping[str, Mapping[str, Any]]
ACTIVATIONS = ("linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish")
ARCHITECTURES = ("skip", "resnet", "orig")
MAX_VALUES = 20_000


def plain(value: Any) -> Any:
    """A setting as JSON-able values: numbers, text, flags, None, lists and dictionaries of them.

    Raises:
        UnsafeCheckpoint: it is nested too deeply, too long, or something else.
    """
    left = [MAX_VALUES]

    def convert(item: Any, depth: int) -> Any:
        left[0] -= 1
        if left[0] < 0 or depth > 12:
            raise refuse("settings that are nested too deeply or too long")
        if item is None or type(item) in (bool, int, float, str):
            return item
        if type(item) in (list, tuple):
            return [convert(part, depth + 1) for part in item]
        if isinstance(item, dict):
            return {str(key): convert(part, depth + 1) for key, part in item.items()}
        if isinstance(item, NumpyArray) and item.value is not None and item.value.size <= 64:
            return item.value.tolist()
        raise refuse(f"a setting that is a {type(item).__name__}")

    return convert(value, 0)


# ---------------------------------------------------------------------------------- checks of single arguments

Check = Callable[[str, Any], Any]


def _bad(name: str, value: Any, allowed: str) -> CheckpointError:
    return CheckpointError(f"the file's argument {name} = {show(value)} is not allowed; it must be {allowed}")


def _whole(low: int, high: int, *, optional: bool = False) -> Check:
    def check(name: str, value: Any) -> int | None:
        if value is None and optional:
            return None
        # 16384.0 occurs where a width was computed.
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise _bad(name, value, f"a whole number from {low} to {high}")
        return value

    return check


def _real(low: float, high: float, *, optional: bool = False) -> Check:
    def check(name: str, value: Any) -> float | None:
        if value is None and optional:
            return None
        if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
            raise _bad(name, value, f"a number from {low:g} to {high:g}" + (" or none" if optional else ""))
        return value

    return check


def _flag(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise _bad(name, value, "true or false")
    return value


def _one_of(*names: str) -> Check:
    def check(name: str, value: Any) -> str:
        if type(value) is not str or value not in names:
            raise _bad(name, value, f"one of {', '.join(names)}")
        return value

    return check


def _taps(name: str, value: Any) -> list[float]:
    good = type(value) is list and len(value) == 4
    if not good or any(type(v) not in (int, float) or not math.isfinite(v) or abs(v) > 1e3 for v in value):
        raise _bad(name, value, "four numbers")
    if sum(value) == 0:
        raise _bad(name, value, "four numbers whose sum is not 0")
    return value


_CLAMP = _real(1e-3, 1e9, optional=True)
_ACTIVATION = _one_of(*ACTIVATIONS)
_WIDTH = _whole(1, 8192)
_SIZES: dict[str, Check] = {
    "z_dim": _WIDTH,
    "c_dim": _whole(0, 100_000),
    "w_dim": _WIDTH,
    "img_resolution": _whole(4, 4096),
    "img_channels": _whole(1, 64),
    "channel_base": _whole(1, 1 << 24),
    "channel_max": _whole(1, 1 << 16),
    "conv_clamp": _CLAMP,
}
_MAPPING: dict[str, Check] = {
    "num_layers": _whole(1, 64),
    "embed_features": _whole(1, 8192, optional=True),
    "layer_features": _whole(1, 8192, optional=True),
    "activation": _ACTIVATION,
    "lr_multiplier": _real(1e-6, 1e3),
}
# What only says how fast, in which precision or for training; nothing of a picture depends on it in float32.
_WITHOUT_EFFECT = (
    "num_fp16_res",
    "use_fp16",
    "use_fp16_before_res",
    "fp16_channels_last",
    "channels_last",
    "fused_modconv_default",
    "freeze_layers",
    "magnitude_ema_beta",
    "w_avg_beta",
    # StyleGAN-Human: whether its viewer pads pictures to a square.
    "padding",
)
_STYLEGAN2: dict[str, Check] = {
    **_SIZES,
    "square": _flag,
    "architecture": _one_of(*ARCHITECTURES),
    "resample_filter": _taps,
    "use_noise": _flag,
    "activation": _ACTIVATION,
}
_STYLEGAN3: dict[str, Check] = {
    **_SIZES,
    "num_layers": _whole(2, 64),
    "num_critical": _whole(0, 64),
    "first_cutoff": _real(0.25, 1024),
    "first_stopband": _real(0.25, 1024),
    "last_stopband_rel": _real(0.5, 16),
    "margin_size": _whole(0, 128),
    "output_scale": _real(1e-6, 1e6),
    "conv_kernel": _whole(1, 9),
    "filter_size": _whole(1, 32),
    "lrelu_upsampling": _whole(1, 8),
    "use_radial_filters": _flag,
}
_DISCRIMINATOR: dict[str, Check] = {
    **_SIZES,
    "square": _flag,
    "architecture": _one_of(*ARCHITECTURES),
    "resample_filter": _taps,
    "activation": _ACTIVATION,
    "cmap_dim": _whole(0, 8192, optional=True),
    "mbstd_group_size": _whole(1, 1024, optional=True),
    "mbstd_num_channels": _whole(0, 64),
}
# Arguments that hold arguments of inner layers.
_NESTED = ("synthesis_kwargs", "block_kwargs", "layer_kwargs", "epilogue_kwargs")


def _checked(given: Mapping[str, Any], checks: Mapping[str, Check], what: str) -> dict[str, Any]:
    """All given arguments, nested ones flattened, each checked; ``mapping_kwargs`` stay nested."""
    flat: dict[str, Any] = {}
    queue = list(given.items())
    while queue:
        name, value = queue.pop(0)
        if name == "mapping_kwargs":
            flat[name] = _mapping_arguments(value)
        elif name in _NESTED:
            if not isinstance(value, dict):
                raise _bad(name, value, "named values")
            queue.extend(value.items())
        elif name in _WITHOUT_EFFECT:
            continue
        elif name not in checks:
            raise CheckpointError(f"unknown argument {show(name)} of the file's {what}; known are {', '.join(checks)}")
        else:
            value = checks[name](name, value)
            if name in flat and flat[name] != value:
                raise CheckpointError(f"the file gives {name} twice: {show(flat[name])} and {show(value)}")
            flat[name] = value
    return flat


def _mapping_arguments(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _bad("mapping_kwargs", value, "named values")
    known: dict[str, Any] = {}
    for name, item in value.items():
        if name in _WITHOUT_EFFECT:
            continue
        if name not in _MAPPING:
            known_names = ", ".join(_MAPPING)
            raise CheckpointError(f"unknown argument mapping_kwargs.{show(name)[1:-1]}; known are {known_names}")
        known[name] = _MAPPING[name](f"mapping_kwargs.{name}", item)
    return known


# ------------------------------------------------------------------------------------------ facts from tensors


def family_of(names: Iterable[str]) -> str:
    """ "stylegan2", "stylegan3", "discriminator", or "" for another network, by the names of its tensors."""
    names = set(names)
    if "synthesis.input.freqs" in names:
        return "stylegan3"
    if "synthesis.b4.const" in names:
        return "stylegan2"
    if "b4.fc.weight" in names and "b4.out.weight" in names:
        return "discriminator"
    return ""


def _shape(tensors: Tensors, name: str, rank: int) -> tuple[int, ...]:
    tensor = tensors.get(name)
    if tensor is None:
        raise CheckpointError(f"the file has no tensor '{name}'; it is incomplete or another kind of network")
    if tensor.ndim != rank or 0 in tensor.shape:
        raise CheckpointError(f"tensor '{name}' has shape {list(tensor.shape)}; {rank} sizes from 1 on are expected")
    return tensor.shape


def _resolutions(tensors: Tensors, prefix: str) -> list[int]:
    """Block sizes 4, 8, ..., R of a network, without gaps."""
    pattern = re.compile(re.escape(prefix) + r"b([0-9]{1,5})\.")
    found = sorted({int(m.group(1)) for name in tensors if (m := pattern.match(name))})
    if not found or found != [4 << i for i in range(len(found))]:
        raise CheckpointError(f"the file's blocks {found} are not of sizes 4, 8, 16, ...; it is incomplete")
    return found


def widths_to_base(widths: Mapping[int, int]) -> tuple[int, int] | None:
    """channel_base and channel_max with ``min(channel_base // r, channel_max) == widths[r]`` for every r, or None."""
    top = max(widths.values())
    base = max(r * width for r, width in widths.items())
    return (base, top) if all(min(base // r, top) == width for r, width in widths.items()) else None


def _channels(arguments: Mapping[str, Any], widths: Mapping[int, int], optional: bool) -> dict[str, Any]:
    """channel_base and channel_max as given if they lead to these widths, else such as do."""
    base, top = arguments.get("channel_base", 32768), arguments.get("channel_max", 512)
    if all(min(base // r, top) == width for r, width in widths.items()):
        return {"channel_base": base, "channel_max": top}
    found = widths_to_base(widths)
    if found is not None:
        return {"channel_base": found[0], "channel_max": found[1]}
    if not optional:
        raise CheckpointError(f"the widths {dict(widths)} of the file's blocks follow no known rule")
    return {"channels": [widths[r] for r in sorted(widths)]}


def _agree(arguments: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    for name, fact in facts.items():
        if name in arguments and arguments[name] != fact:
            raise CheckpointError(
                f"the file's argument {name} = {show(arguments[name])} contradicts its tensors, which say {show(fact)}"
            )


def _setting(
    name: str, check: Check, attributes: Attributes, layers: Iterable[str], attribute: str, default: Any
) -> Any:
    """A setting as the published layers keep it, the same in all of them; where they do not, the default."""
    values = [check(name, attributes[path][attribute]) for path in layers if attribute in attributes.get(path, {})]
    if any(value != values[0] for value in values):
        raise CheckpointError(f"{name} differs between layers, which is not supported")
    return values[0] if values else default


def _convolutions(arguments: Mapping[str, Any], attributes: Attributes, layers: list[str]) -> dict[str, Any]:
    """What the convolutions of a StyleGAN2 generator and those of a discriminator are told alike."""
    clamp, activation = arguments.get("conv_clamp"), arguments.get("activation", "lrelu")
    return {
        "resample_filter": arguments.get("resample_filter", [1, 3, 3, 1]),
        "conv_clamp": _setting("conv_clamp", _CLAMP, attributes, layers, "conv_clamp", clamp),
        "activation": _setting("activation", _ACTIVATION, attributes, layers, "activation", activation),
    }


def _mapping(
    tensors: Tensors, arguments: Mapping[str, Any], attributes: Attributes, *, has_z: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Facts about a mapping network: sizes (z_dim, c_dim, w_dim) and its own arguments."""
    given = arguments.get("mapping_kwargs", {})
    pattern = re.compile(r"mapping\.fc([0-9]{1,3})\.weight")
    found = sorted(int(m.group(1)) for name in tensors if (m := pattern.fullmatch(name)))
    if not found or found != list(range(len(found))):
        raise CheckpointError(f"the layers {found} of the file's mapping network are not numbered 0, 1, ...")
    layers = [f"mapping.fc{i}" for i in found]
    shapes = [_shape(tensors, f"{layer}.weight", 2) for layer in layers]
    w_dim = shapes[-1][0]
    c_dim = embed = 0
    if "mapping.embed.weight" in tensors:
        embed, c_dim = _shape(tensors, "mapping.embed.weight", 2)
    z_dim = shapes[0][1] - embed
    if has_z != (z_dim > 0):
        raise CheckpointError(f"the file's mapping network takes {shapes[0][1]} numbers, {embed} of them for the class")
    own = {
        "num_layers": len(layers),
        "activation": _setting(
            "mapping_kwargs.activation",
            _ACTIVATION,
            attributes,
            layers,
            "activation",
            given.get("activation", "lrelu"),
        ),
        "lr_multiplier": _setting(
            "mapping_kwargs.lr_multiplier",
            _MAPPING["lr_multiplier"],
            attributes,
            layers,
            "bias_gain",
            given.get("lr_multiplier", 0.01),
        ),
    }
    if c_dim and embed != w_dim:
        own["embed_features"] = embed
    if len(layers) > 1 and shapes[0][0] != w_dim:
        own["layer_features"] = shapes[0][0]
    facts = {"num_layers": len(layers)}
    for name, implied in (("embed_features", embed if c_dim else None), ("layer_features", shapes[0][0])):
        # None stands for w_dim; a network of one layer has no hidden one.
        if given.get(name) is not None and implied is not None and (name == "embed_features" or len(layers) > 1):
            facts[name] = implied
    _agree(given, facts)
    return {"z_dim": z_dim, "c_dim": c_dim, "w_dim": w_dim}, own


def stylegan2_kwargs(
    given: Mapping[str, Any], tensors: Tensors, attributes: Attributes | None = None
) -> dict[str, Any]:
    """Arguments of `StyleGAN2Generator`.

    Args:
        given: what the file says (`plain` values); may nest, may be empty.
        tensors: by published names.
        attributes: of the published layers, where the file has them.

    Raises:
        CheckpointError: an argument is unknown, of another type, or contradicts the tensors.
    """
    attributes = attributes or {}
    arguments = _checked(given, _STYLEGAN2, "StyleGAN2 generator")
    sizes, mapping = _mapping(tensors, arguments, attributes, has_z=True)
    resolutions = _resolutions(tensors, "synthesis.")
    top = resolutions[-1]
    widths = {r: _shape(tensors, f"synthesis.b{r}.conv1.weight", 4)[0] for r in resolutions}
    const = _shape(tensors, "synthesis.b4.const", 3)
    if const[1:] not in ((4, 4), (4, 2)):
        raise CheckpointError(f"tensor 'synthesis.b4.const' has shape {list(const)}; its map must be 4x4 or 4x2")
    architecture = arguments.get("architecture", "skip")
    if top > 4:
        names = ("skip" if "synthesis.b4.torgb.weight" in tensors else "orig", "resnet")
        architecture = names["synthesis.b8.skip.weight" in tensors]
    convs = [f"synthesis.b{r}.conv{i}" for r in resolutions for i in ((1,) if r == 4 else (0, 1))]
    facts = {
        **sizes,
        "img_resolution": top,
        "img_channels": _shape(tensors, f"synthesis.b{top}.torgb.weight", 4)[0],
        "square": const[1] == const[2],
        "architecture": architecture,
        "use_noise": "synthesis.b4.conv1.noise_const" in tensors,
    }
    _agree(arguments, facts)
    return {
        **facts,
        **_channels(arguments, widths, optional=True),
        "mapping_kwargs": mapping,
        **_convolutions(arguments, attributes, convs),
    }


def stylegan3_kwargs(
    given: Mapping[str, Any], tensors: Tensors, attributes: Attributes | None = None
) -> dict[str, Any]:
    """Arguments of `StyleGAN3Generator`; as `stylegan2_kwargs`. What is not said is left to our class's defaults."""
    attributes = attributes or {}
    arguments = _checked(given, _STYLEGAN3, "StyleGAN3 generator")
    sizes, mapping = _mapping(tensors, arguments, attributes, has_z=True)
    pattern = re.compile(r"synthesis\.(L([0-9]{1,3})_([0-9]{1,5})_([0-9]{1,5}))\.weight")
    layers = sorted((int(m.group(2)), m.group(1), int(m.group(3))) for n in tensors if (m := pattern.fullmatch(n)))
    if len(layers) < 3 or [layer[0] for layer in layers] != list(range(len(layers))):
        raise CheckpointError(f"the file's layers {[layer[1] for layer in layers][:20]} are not numbered L0, L1, ...")
    names = [f"synthesis.{layer[1]}" for layer in layers]
    facts = {
        **sizes,
        "img_resolution": layers[-1][2],
        "img_channels": _shape(tensors, f"{names[-1]}.weight", 4)[0],
        "num_layers": len(layers) - 1,
        "conv_kernel": _shape(tensors, f"{names[0]}.weight", 4)[2],
    }
    _agree(arguments, facts)
    known = {name: value for name, value in arguments.items() if name in _STYLEGAN3}
    known |= {**facts, "mapping_kwargs": mapping}
    known.setdefault("channel_base", 32768)
    known.setdefault("channel_max", 512)
    for name in ("num_critical", "margin_size", "output_scale"):
        if name in attributes.get("synthesis", {}):
            known[name] = _STYLEGAN3[name](name, attributes["synthesis"][name])
    clamp = arguments.get("conv_clamp", 256)
    known["conv_clamp"] = _setting("conv_clamp", _CLAMP, attributes, names, "conv_clamp", clamp)
    return known


def discriminator_kwargs(
    given: Mapping[str, Any], tensors: Tensors, attributes: Attributes | None = None
) -> dict[str, Any]:
    """Arguments of `Discriminator`; as `stylegan2_kwargs`."""
    attributes = attributes or {}
    arguments = _checked(given, _DISCRIMINATOR, "discriminator")
    resolutions = _resolutions(tensors, "")
    top = resolutions[-1]
    last = _shape(tensors, "b4.conv.weight", 4)
    # Every block but the last halves its map and brings it to the width of the next.
    widths = {r: _shape(tensors, f"b{r}.conv0.weight", 4)[0] for r in resolutions[1:]} | {4: last[0]}
    architecture = arguments.get("architecture", "resnet")
    if top > 4:
        names = ("skip" if "b4.fromrgb.weight" in tensors else "orig", "resnet")
        architecture = names[f"b{top}.skip.weight" in tensors]
    flat = _shape(tensors, "b4.fc.weight", 2)[1]
    if flat not in (last[0] * 16, last[0] * 8):
        raise CheckpointError(f"tensor 'b4.fc.weight' takes {flat} numbers; a map of 4x4 or 4x2 is expected")
    facts: dict[str, Any] = {
        "c_dim": 0,
        "img_resolution": top,
        "img_channels": _shape(tensors, f"b{top}.fromrgb.weight", 4)[1],
        "architecture": architecture,
    }
    result: dict[str, Any] = {}
    if "mapping.embed.weight" in tensors:
        sizes, mapping = _mapping(tensors, arguments, attributes, has_z=False)
        facts["c_dim"] = sizes["c_dim"]
        result = {"cmap_dim": _shape(tensors, "b4.out.weight", 2)[0], "mapping_kwargs": mapping}
        if arguments.get("cmap_dim") is not None:
            facts["cmap_dim"] = result["cmap_dim"]
    _agree(arguments, facts)
    facts["mbstd_num_channels"] = last[1] - last[0]
    if facts["mbstd_num_channels"]:
        _agree(arguments, {"mbstd_num_channels": facts["mbstd_num_channels"]})
    convs = ["b4.conv"] + [f"b{r}.conv{i}" for r in resolutions[1:] for i in (0, 1)]
    if flat == last[0] * 8:
        facts["square"] = False
    _agree(arguments, {"square": flat == last[0] * 16})
    return {
        **facts,
        **result,
        **_channels(arguments, widths, optional=False),
        "mbstd_group_size": _setting(
            "mbstd_group_size",
            _DISCRIMINATOR["mbstd_group_size"],
            attributes,
            ["b4.mbstd"],
            "group_size",
            arguments.get("mbstd_group_size", 4),
        ),
        **_convolutions(arguments, attributes, convs),
    }
