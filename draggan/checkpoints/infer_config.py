"""From what a file says about a network to the constructor arguments of our classes.

Tensors are the truth about everything that has a shape: resolution, channels, numbers of layers, architecture. What has
none (activation, clamp, learning-rate multiplier) is read from the attributes that the published layers keep, else
from the arguments of the constructor, else it is the default. Both are checked: an unknown argument, one of another
type, and one that contradicts the tensors is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from draggan.checkpoints.pickle.budget import refuse, show
from draggan.checkpoints.pickle.tensors import NumpyArray
from draggan.errors import CheckpointError, ConfigError
from draggan.generators.schema import FieldError, NetworkConfig
from draggan.generators.stylegan2.config import DiscriminatorConfig, MappingConfig, StyleGAN2Config
from draggan.generators.stylegan3.config import StyleGAN3Config

__all__ = [
    "Attributes",
    "as_in_file",
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


def as_in_file(allowed: str) -> str:
    """What a field may hold, in words, with flags as files write them."""
    return allowed.replace("True or False", "true or false")


def _bad(name: str, value: Any, allowed: str) -> CheckpointError:
    return CheckpointError(
        f"the file's argument {name} = {show(value)} is not allowed; it must be {as_in_file(allowed)}"
    )


def _checked_field(config: type[NetworkConfig], field: str) -> Check:
    """The check of one field of a config, for a value from a file under any name."""

    def check(name: str, value: Any) -> Any:
        # 16384.0 occurs where a width was computed.
        if type(value) is float and value.is_integer() and config.is_whole(field):
            value = int(value)
        try:
            config.check_field(field, value)
        except FieldError as error:
            raise _bad(name, value, error.allowed) from None
        return value

    return check


_CLAMP = _checked_field(StyleGAN2Config, "conv_clamp")
_ACTIVATION = _checked_field(StyleGAN2Config, "activation")
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
# Arguments that hold arguments of inner layers.
_NESTED = ("synthesis_kwargs", "block_kwargs", "layer_kwargs", "epilogue_kwargs")


def _checked(given: Mapping[str, Any], config: type[NetworkConfig], what: str) -> dict[str, Any]:
    """All given arguments, nested ones flattened, each checked; ``mapping_kwargs`` stay nested."""
    # The widths of blocks that follow no rule are our own argument; files have tensors of them.
    known = [name for name in config.field_names() if name not in ("mapping_kwargs", "channels")]
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
        elif name not in known:
            raise CheckpointError(f"unknown argument {show(name)} of the file's {what}; known are {', '.join(known)}")
        else:
            value = _checked_field(config, name)(name, value)
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
        if name not in MappingConfig.field_names():
            names = ", ".join(MappingConfig.field_names())
            raise CheckpointError(f"unknown argument mapping_kwargs.{show(name)[1:-1]}; known are {names}")
        known[name] = _checked_field(MappingConfig, name)(f"mapping_kwargs.{name}", item)
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
            _checked_field(MappingConfig, "lr_multiplier"),
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


def _possible(config: type[NetworkConfig], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments themselves if they make a config, else `CheckpointError`: what is converted can be built."""
    try:
        config.from_mapping(kwargs)
    except FieldError as error:
        raise _bad(error.name, error.value, error.allowed) from None
    except ConfigError as error:
        raise CheckpointError(f"the file describes no possible network: {error}") from error
    return kwargs


def _without_side(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the picture's size where ``init_res`` says that it begins with another map than 4 x 4.

    In such a file it may be the longer side, or that of a square of as many blocks; the tensors tell.
    """
    nested = given.get("synthesis_kwargs")
    first = given.get("init_res") or (nested.get("init_res") if isinstance(nested, dict) else None)
    if first in (None, [4, 4]):
        return given
    return {name: value for name, value in given.items() if name != "img_resolution"}


def _first_size(height: int, width: int) -> dict[str, Any]:
    """How a config says what a picture begins with: in the published way where there is one."""
    said: dict[str, Any] = {"square": height == width}
    return said if (height, width) in ((4, 4), (4, 2)) else {**said, "init_res": [height, width]}


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
    arguments = _checked(_without_side(given), StyleGAN2Config, "StyleGAN2 generator")
    sizes, mapping = _mapping(tensors, arguments, attributes, has_z=True)
    resolutions = _resolutions(tensors, "synthesis.")
    top = resolutions[-1]
    widths = {r: _shape(tensors, f"synthesis.b{r}.conv1.weight", 4)[0] for r in resolutions}
    const = _shape(tensors, "synthesis.b4.const", 3)
    architecture = arguments.get("architecture", "skip")
    if top > 4:
        names = ("skip" if "synthesis.b4.torgb.weight" in tensors else "orig", "resnet")
        architecture = names["synthesis.b8.skip.weight" in tensors]
    convs = [f"synthesis.b{r}.conv{i}" for r in resolutions for i in ((1,) if r == 4 else (0, 1))]
    facts = {
        **sizes,
        "img_resolution": top,
        "img_channels": _shape(tensors, f"synthesis.b{top}.torgb.weight", 4)[0],
        **_first_size(const[1], const[2]),
        "architecture": architecture,
        "use_noise": "synthesis.b4.conv1.noise_const" in tensors,
    }
    _agree(arguments, {**facts, "init_res": list(const[1:])} if arguments.get("init_res") else facts)
    return _possible(
        StyleGAN2Config,
        {
            **facts,
            **_channels(arguments, widths, optional=True),
            "mapping_kwargs": mapping,
            **_convolutions(arguments, attributes, convs),
        },
    )


def stylegan3_kwargs(
    given: Mapping[str, Any], tensors: Tensors, attributes: Attributes | None = None
) -> dict[str, Any]:
    """Arguments of `StyleGAN3Generator`; as `stylegan2_kwargs`. What is not said is left to our class's defaults."""
    attributes = attributes or {}
    arguments = _checked(given, StyleGAN3Config, "StyleGAN3 generator")
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
    known = {**arguments, **facts, "mapping_kwargs": mapping}
    known.setdefault("channel_base", 32768)
    known.setdefault("channel_max", 512)
    for name in ("num_critical", "margin_size", "output_scale"):
        if name in attributes.get("synthesis", {}):
            known[name] = _checked_field(StyleGAN3Config, name)(name, attributes["synthesis"][name])
    clamp = arguments.get("conv_clamp", 256)
    known["conv_clamp"] = _setting("conv_clamp", _CLAMP, attributes, names, "conv_clamp", clamp)
    return _possible(StyleGAN3Config, known)


def discriminator_kwargs(
    given: Mapping[str, Any], tensors: Tensors, attributes: Attributes | None = None
) -> dict[str, Any]:
    """Arguments of `Discriminator`; as `stylegan2_kwargs`."""
    attributes = attributes or {}
    arguments = _checked(_without_side(given), DiscriminatorConfig, "discriminator")
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
    # The number of cells does not tell their shape.
    first = arguments.get("init_res") or {16: (4, 4), 8: (4, 2)}.get(flat // last[0])
    if first is None or flat != last[0] * first[0] * first[1]:
        raise CheckpointError(
            f"tensor 'b4.fc.weight' takes {flat} numbers; a map of 4x4, 4x2 or of the argument init_res is expected"
        )
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
    size = _first_size(*first)
    _agree(arguments, {"square": size["square"]})
    if tuple(first) != (4, 4):
        facts |= size
    found = {
        **facts,
        **result,
        **_channels(arguments, widths, optional=False),
        "mbstd_group_size": _setting(
            "mbstd_group_size",
            _checked_field(DiscriminatorConfig, "mbstd_group_size"),
            attributes,
            ["b4.mbstd"],
            "group_size",
            arguments.get("mbstd_group_size", 4),
        ),
        **_convolutions(arguments, attributes, convs),
    }
    return _possible(DiscriminatorConfig, found)
