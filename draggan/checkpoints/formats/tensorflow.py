"""StyleGAN2 networks from the TensorFlow era: a pickled tuple (G, D, Gs), Gs being the average that makes the pictures.

Each network is a dictionary of static arguments, named variables and components that are networks themselves. Variables
are renamed and brought into PyTorch's order: ``[kh, kw, in, out]`` becomes ``[out, in, kh, kw]``, matrices are
transposed, and the kernels of upsampling convolutions, which TensorFlow applies the other way round, are flipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from draggan.checkpoints.description import CheckpointDescription, NetworkDescription, Role
from draggan.checkpoints.formats import unsupported
from draggan.checkpoints.formats.renaming import Renamer, resample_filter
from draggan.checkpoints.infer_config import discriminator_kwargs, plain, stylegan2_kwargs
from draggan.checkpoints.pickle.budget import Budget, damaged, refuse, show
from draggan.checkpoints.pickle.stand_ins import TensorFlowNetwork
from draggan.checkpoints.pickle.tensors import float_tensor
from draggan.errors import CheckpointError, UnsafeCheckpoint

__all__ = ["describe"]

MAX_VARIABLES = 5000
# Of forks for pictures that are not square: the shape of the constant says the same, and is what counts.
_OTHER_SHAPES = ("min_h", "min_w", "res_log2", "init_res")
# Static arguments that have the same meaning in all networks. None: no effect on pictures in inference.
_ARGUMENTS: dict[str, str | None] = {
    "latent_size": "z_dim",
    "label_size": "c_dim",
    "dlatent_size": "w_dim",
    "resolution": "img_resolution",
    "num_channels": "img_channels",
    "fmap_max": "channel_max",
    "architecture": "architecture",
    "resample_kernel": "resample_filter",
    "nonlinearity": "activation",
    "use_noise": "use_noise",
    "conv_clamp": "conv_clamp",
    "mbstd_group_size": "mbstd_group_size",
    "mbstd_num_features": "mbstd_num_channels",
    "truncation_psi": None,
    "truncation_cutoff": None,
    "truncation_psi_val": None,
    "truncation_cutoff_val": None,
    "dlatent_avg_beta": None,
    "style_mixing_prob": None,
    "randomize_noise": None,
    "is_training": None,
    "is_validation": None,
    "fmap_min": None,
    "fmap_decay": None,
    "dtype": None,
    "fused_modconv": None,
    "impl": None,
    "structure": None,
    "num_fp16_res": None,
    "epsilon": None,
    **dict.fromkeys(_OTHER_SHAPES),
}
_MAPPING = {
    "mapping_layers": "num_layers",
    "mapping_fmaps": "layer_features",
    "mapping_lrmul": "lr_multiplier",
    "mapping_nonlinearity": "activation",
}


def describe(networks: tuple[Any, ...], budget: Budget) -> CheckpointDescription:
    """The networks of a tuple (G, D, Gs)."""
    roles: tuple[Role, ...] = ("G", "D", "G_ema")
    described: dict[Role, NetworkDescription] = {}
    skipped: dict[str, str] = {}
    for role, network in sorted(zip(roles, networks, strict=True), key=lambda pair: pair[0] != "G_ema"):
        if not isinstance(network, TensorFlowNetwork):
            raise CheckpointError(f"{role} of this TensorFlow file is a {type(network).__name__}")
        try:
            described[role] = _describe_network(network, budget, discriminator=role == "D")
        except UnsafeCheckpoint:
            raise
        except CheckpointError as error:
            if role == "G_ema":
                raise
            skipped[role] = str(error)
    metadata: dict[str, Any] = {"skipped": skipped} if skipped else {}
    return CheckpointDescription(networks=described, format="tensorflow-pickle", metadata=metadata)


def _describe_network(network: TensorFlowNetwork, budget: Budget, *, discriminator: bool) -> NetworkDescription:
    state = _state(network)
    given = _arguments(state)
    variables = _variables(network, budget)
    taps = given.get("resample_filter", [1, 3, 3, 1])
    if type(taps) is not list or len(taps) != 4 or not all(type(t) in (int, float) for t in taps) or not sum(taps):
        raise CheckpointError(f"the file's argument resample_kernel = {show(taps)} is not allowed; give four numbers")
    if discriminator:
        tensors = _discriminator(variables, taps)
        other = ("z_dim", "w_dim", "mapping_kwargs", "use_noise")
        given = {name: value for name, value in given.items() if name not in other}
        return NetworkDescription(family="stylegan2", kwargs=discriminator_kwargs(given, tensors), tensors=tensors)
    given = {name: value for name, value in given.items() if not name.startswith("mbstd")}
    tensors = _generator(variables, taps)
    return NetworkDescription(family="stylegan2", kwargs=stylegan2_kwargs(given, tensors), tensors=tensors)


def _state(network: TensorFlowNetwork) -> dict:
    if network.state is None:
        raise damaged("a network without a state")
    static = network.state.get("static_kwargs")
    functions = (network.state.get("build_func_name"), static.get("func_name") if isinstance(static, dict) else None)
    family = next((f for f in map(unsupported.family_of_class, map(str, functions)) if f), "")
    if family:
        raise CheckpointError(f"this file holds {family}, which is not supported")
    version = network.state.get("version")
    if type(version) is not int or version < 4:
        raise CheckpointError(f"TensorFlow network version {show(version)}; known are 4 and newer")
    return network.state


def _arguments(state: Mapping[Any, Any]) -> dict[str, Any]:
    """The static arguments by our names."""
    static = plain(state.get("static_kwargs", {}))
    if not isinstance(static, dict):
        raise damaged("the arguments of a network are unreadable")
    given: dict[str, Any] = {}
    mapping: dict[str, Any] = {}
    for name, value in static.items():
        if name == "fmap_base":
            if type(value) not in (int, float) or not 1 <= value < 1 << 24:
                raise CheckpointError(f"the file's argument fmap_base = {show(value)} is not allowed; give a number")
            given["channel_base"] = int(value) * 2
        elif name in _MAPPING:
            mapping[_MAPPING[name]] = value
        elif name == "normalize_latents":
            if value is not True:
                raise CheckpointError("the file's argument normalize_latents = False is not supported")
        elif name not in _ARGUMENTS:
            known = ", ".join((*_ARGUMENTS, *_MAPPING))
            raise CheckpointError(f"unknown argument {show(name)} of a TensorFlow network; known are {known}")
        elif (ours := _ARGUMENTS[name]) is not None:
            given[ours] = value
    if mapping:
        given["mapping_kwargs"] = mapping
    if any(name in static for name in _OTHER_SHAPES):
        # There it may be the longer side, or that of a square of the same number of blocks.
        given.pop("img_resolution", None)
    return given


def _variables(network: TensorFlowNetwork, budget: Budget) -> dict[str, np.ndarray]:
    """All variables by their path: component names joined by "/", then the variable's own name."""
    found: dict[str, np.ndarray] = {}
    todo: list[tuple[str, Any, int]] = [("", network, 0)]
    networks = 0
    while todo:
        prefix, part, depth = todo.pop()
        networks += 1
        if depth > 4 or networks > 50:
            raise refuse("networks that are nested too deeply or too many")
        if not isinstance(part, TensorFlowNetwork):
            raise damaged(f"component {show(prefix)} is a {type(part).__name__}")
        state = _state(part)
        own, components = state.get("variables", []), state.get("components", {})
        if type(own) is not list or not isinstance(components, dict):
            raise damaged("the variables of a network are unreadable")
        for entry in own:
            if type(entry) is not tuple or len(entry) != 2 or type(entry[0]) is not str:
                raise damaged("a variable without a name")
            name = prefix + entry[0]
            if name in found or len(found) >= MAX_VARIABLES:
                raise damaged(f"variable {show(name)} is there twice, or there are too many")
            found[name] = float_tensor(name, entry[1], budget)
        todo.extend((f"{prefix}{name}/", component, depth + 1) for name, component in components.items())
    other = unsupported.family_of(found)
    if other:
        raise CheckpointError(f"this file holds {other}, which is not supported")
    # How far progressive growing had come; it has no counterpart.
    return {name: array for name, array in found.items() if name.rpartition("/")[2] != "lod"}


def _kernel(array: np.ndarray) -> np.ndarray:
    return array.transpose(3, 2, 0, 1)


def _flipped_kernel(array: np.ndarray) -> np.ndarray:
    return _kernel(array)[:, :, ::-1, ::-1]


def _matrix(array: np.ndarray) -> np.ndarray:
    return array.T


def _plus_one(array: np.ndarray) -> np.ndarray:
    return array + 1


def _resolution(variables: Mapping[str, Any], pattern: str) -> int:
    """The largest block size."""
    sizes = [int(m.group(1)) for name in variables if (m := re.match(pattern, name))]
    top = max(sizes, default=0)
    if top < 4 or top & (top - 1) or top > 4096:
        raise CheckpointError("the file's variables are not those of a StyleGAN2 network")
    return top


def _generator(variables: dict[str, np.ndarray], taps: list[float]) -> dict[str, np.ndarray]:
    names = Renamer(variables)
    top = _resolution(variables, r"synthesis/([0-9]{1,4})x\1/")
    low_pass = resample_filter(taps)

    def modulated(theirs: str, ours: str, *, flip: bool = False) -> None:
        names.take(f"{theirs}/weight", f"{ours}.weight", 4, _flipped_kernel if flip else _kernel)
        names.take(f"{theirs}/bias", f"{ours}.bias", 1)
        names.take(f"{theirs}/mod_weight", f"{ours}.affine.weight", 2, _matrix)
        names.take(f"{theirs}/mod_bias", f"{ours}.affine.bias", 1, _plus_one)

    def convolution(theirs: str, ours: str, index: int, *, flip: bool = False) -> None:
        modulated(theirs, ours, flip=flip)
        names.take(f"{theirs}/noise_strength", f"{ours}.noise_strength", 0)
        names.take(f"synthesis/noise{index}", f"{ours}.noise_const", 4, lambda noise: noise[0, 0])
        names.tensors[f"{ours}.resample_filter"] = low_pass

    names.take("dlatent_avg", "mapping.w_avg", 1)
    _take_embedding(names, "mapping/")
    layer = 0
    while f"mapping/Dense{layer}/weight" in names:
        names.take(f"mapping/Dense{layer}/weight", f"mapping.fc{layer}.weight", 2, _matrix)
        names.take(f"mapping/Dense{layer}/bias", f"mapping.fc{layer}.bias", 1)
        layer += 1
    names.take("synthesis/4x4/Const/const", "synthesis.b4.const", 4, lambda const: const[0])
    index = 0
    r = 4
    while r <= top:
        theirs, ours = f"synthesis/{r}x{r}", f"synthesis.b{r}"
        names.tensors[f"{ours}.resample_filter"] = low_pass
        if r == 4:
            convolution(f"{theirs}/Conv", f"{ours}.conv1", 0)
        else:
            convolution(f"{theirs}/Conv0_up", f"{ours}.conv0", index + 1, flip=True)
            convolution(f"{theirs}/Conv1", f"{ours}.conv1", index + 2)
            index += 2
            if f"{theirs}/Skip/weight" in names:
                names.take(f"{theirs}/Skip/weight", f"{ours}.skip.weight", 4, _flipped_kernel)
                names.tensors[f"{ours}.skip.resample_filter"] = low_pass
        # Files with one colour output per growing stage (ToRGB_lod0 is that of the full size) use the last one only.
        stage = f"synthesis/ToRGB_lod{(top // r).bit_length() - 1}"
        if f"{theirs}/ToRGB/weight" in names:
            modulated(f"{theirs}/ToRGB", f"{ours}.torgb")
        elif f"{stage}/weight" in names:
            modulated(stage, f"{ours}.torgb")
        r *= 2
    return names.finish()


def _take_embedding(names: Renamer, prefix: str) -> None:
    """The class's embedding of a conditional network.

    StyleGAN2-ADA's is a dense layer (NVlabs/stylegan2-ada#35), as in its PyTorch version. StyleGAN2's was a table that
    is normalised together with z, which the published PyTorch network cannot express.
    """
    if f"{prefix}LabelConcat/weight" in names:
        raise CheckpointError(
            "class-conditional TensorFlow networks from before StyleGAN2-ADA are not supported; use a PyTorch one"
        )
    if f"{prefix}LabelEmbed/weight" in names:
        names.take(f"{prefix}LabelEmbed/weight", "mapping.embed.weight", 2, _matrix)
        names.take(f"{prefix}LabelEmbed/bias", "mapping.embed.bias", 1)


def _discriminator(variables: dict[str, np.ndarray], taps: list[float]) -> dict[str, np.ndarray]:
    names = Renamer(variables)
    top = _resolution(variables, r"([0-9]{1,4})x\1/")
    low_pass = resample_filter(taps)

    def dense(theirs: str, ours: str) -> None:
        names.take(f"{theirs}/weight", f"{ours}.weight", 2, _matrix)
        names.take(f"{theirs}/bias", f"{ours}.bias", 1)

    def convolution(theirs: str, ours: str) -> None:
        names.take(f"{theirs}/weight", f"{ours}.weight", 4, _kernel)
        names.take(f"{theirs}/bias", f"{ours}.bias", 1)
        names.tensors[f"{ours}.resample_filter"] = low_pass

    r = top
    while r >= 4:
        theirs, ours = f"{r}x{r}", f"b{r}"
        if f"{theirs}/FromRGB/weight" in names:
            convolution(f"{theirs}/FromRGB", f"{ours}.fromrgb")
        if r > 4:
            names.tensors[f"{ours}.resample_filter"] = low_pass
            convolution(f"{theirs}/Conv0", f"{ours}.conv0")
            convolution(f"{theirs}/Conv1_down", f"{ours}.conv1")
            if f"{theirs}/Skip/weight" in names:
                names.take(f"{theirs}/Skip/weight", f"{ours}.skip.weight", 4, _kernel)
                names.tensors[f"{ours}.skip.resample_filter"] = low_pass
        r //= 2
    _take_embedding(names, "")
    layer = 0
    while f"Mapping{layer}/weight" in names:
        dense(f"Mapping{layer}", f"mapping.fc{layer}")
        layer += 1
    convolution("4x4/Conv", "b4.conv")
    dense("4x4/Dense0", "b4.fc")
    dense("Output", "b4.out")
    return names.finish()
