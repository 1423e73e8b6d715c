"""The files that people have: each kind opens as what it is, or is named and refused with what to do.

After public reports. Files are made here, of the golden weights where numbers are compared.
"""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from torch import Tensor, nn

from draggan.checkpoints.build import build_discriminator, build_generator
from draggan.checkpoints.convert import convert
from draggan.checkpoints.description import CheckpointDescription
from draggan.checkpoints.detect import describe_bytes
from draggan.checkpoints.read import read_checkpoint
from draggan.checkpoints.store import ModelStore
from draggan.config import DragConfig
from draggan.drag import Drag
from draggan.errors import CheckpointError, ConfigError, UnsafeCheckpoint
from draggan.export import encode_picture
from draggan.generators.stylegan2 import StyleGAN2Generator
from draggan.generators.stylegan2.config import StyleGAN2Config
from draggan.generators.stylegan3 import StyleGAN3Config, StyleGAN3Generator
from draggan.geometry import Windows, crop
from draggan.pixels import to_uint8
from tests.published import (
    SMALL,
    SingleDisc,
    dumps,
    dumps_torch,
    foreign_network,
    generator_file,
    network,
    tensorflow_network,
)

GOLDEN = Path(__file__).parent / "golden"
State = dict[str, Tensor]
# The file, whose names its state dict has.
NVIDIA = ("stylegan2-32.pkl", "stylegan2-64-clamp.pkl", "stylegan2-16-resnet.pkl", "stylegan2-16-orig.pkl")
NVIDIA += ("stylegan2-16-conditional.pkl", "stylegan-human-64x32.pkl", "stylegan3-t-32.pkl", "stylegan3-r-32.pkl")


def describe(content: bytes) -> CheckpointDescription:
    return describe_bytes(memoryview(content))


@functools.cache
def golden(name: str) -> CheckpointDescription:
    return describe((GOLDEN / name).read_bytes())


def state_of(name: str) -> State:
    """The generator's state dict in the names that its program uses."""
    if name.endswith(".pt"):
        return dict(torch.load(GOLDEN / name, weights_only=True)["g_ema"])
    return {key: torch.from_numpy(np.array(array)) for key, array in golden(name).networks["G_ema"].tensors.items()}


def prefixed(state: Mapping[str, Tensor], prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def assert_golden_pictures(found: CheckpointDescription, name: str) -> None:
    """The published numbers come out."""
    generator = build_generator(found)
    with np.load(GOLDEN / f"{Path(name).stem}.npz", allow_pickle=False) as numbers:
        z = torch.from_numpy(numbers["in/z"])
        c = torch.from_numpy(numbers["in/c"]) if "in/c" in numbers.files else None
        ws = generator.mapping(z, c)
        truncated = "out/ws_psi0.7" if "out/ws_psi0.7" in numbers.files else "out/ws_psi0.7_cutoff4"
        shortened = generator.mapping(z, c, 0.7, 4 if truncated.endswith("4") else None)
        pictures = generator.synthesis(torch.from_numpy(numbers["out/ws"]))
        for got, key in ((ws, "out/ws"), (shortened, truncated), (pictures, "out/img")):
            expected = torch.from_numpy(numbers[key])
            assert (got - expected).abs().max() <= 1e-4 * expected.abs().max(), key


# ------------------------------------------------------------------------------------------- state dicts


def as_torch(state: Mapping[str, Any]) -> bytes:
    return dumps_torch(dict(state))


def as_old_torch(state: Mapping[str, Any]) -> bytes:
    return dumps_torch(dict(state), _use_new_zipfile_serialization=False)


def as_pickled_arrays(state: Mapping[str, Any]) -> bytes:
    return dumps({name: tensor.numpy() for name, tensor in state.items()})


def as_npz(state: Mapping[str, Any], save: Callable[..., None] = np.savez) -> bytes:
    stream = io.BytesIO()
    save(stream, **{name: tensor.numpy() for name, tensor in state.items()})
    return stream.getvalue()


def as_compressed_npz(state: Mapping[str, Any]) -> bytes:
    return as_npz(state, np.savez_compressed)


FORMS = (as_torch, as_old_torch, as_pickled_arrays, as_npz, as_compressed_npz)


@pytest.mark.parametrize("name", NVIDIA)
def test_a_bare_state_dict_tells_its_network(name: str) -> None:
    assert_golden_pictures(describe(as_torch(state_of(name))), name)


@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize("name", ["stylegan2-32.pkl", "stylegan3-t-32.pkl"])
def test_in_any_container(name: str, write: Callable[[State], bytes]) -> None:
    assert_golden_pictures(describe(write(state_of(name))), name)


@pytest.mark.parametrize("name", ["stylegan2-32.pkl", "stylegan3-t-32.pkl", "rosinality-32.pt"])
def test_in_a_safetensors_file_of_another_program(name: str, tmp_path: Path) -> None:
    state = {key: tensor.numpy() for key, tensor in state_of(name).items()}
    if name == "rosinality-32.pt":
        state["latent_avg"] = torch.load(GOLDEN / name, weights_only=True)["latent_avg"].numpy()
    save_file(state, tmp_path / "m.safetensors", metadata={"format": "pt"})
    assert_golden_pictures(read_checkpoint(tmp_path / "m.safetensors"), name)


@pytest.mark.parametrize("prefix", ["module.", "G_ema.", "generator.", "decoder.", "model.decoder.", "G_ema/"])
@pytest.mark.parametrize("name", ["stylegan2-32.pkl", "rosinality-32.pt"])
def test_behind_any_prefix(name: str, prefix: str) -> None:
    content: dict[str, Any] = prefixed(state_of(name), prefix)
    if name == "rosinality-32.pt":
        content["latent_avg"] = torch.load(GOLDEN / name, weights_only=True)["latent_avg"]
    assert_golden_pictures(describe(dumps_torch(content)), name)


@pytest.mark.parametrize("key", ["g_ema", "G_ema", "state_dict", "params_ema", "model", "generator"])
def test_under_any_key(key: str) -> None:
    found = describe(dumps_torch({key: state_of("stylegan2-32.pkl"), "iter": 1000, "args": {"lr": 0.1}}))
    assert set(found.networks) == {"G_ema"}
    assert_golden_pictures(found, "stylegan2-32.pkl")


def test_of_two_generators_the_averaged_one_is_the_first() -> None:
    state = state_of("stylegan2-32.pkl")
    worse = {name: tensor + 1 for name, tensor in state.items()}
    for content in ({"g": worse, "g_ema": state}, {"g_ema": state, "g": worse}):
        found = describe(dumps_torch(content))
        assert set(found.networks) == {"G", "G_ema"}
        assert_golden_pictures(found, "stylegan2-32.pkl")


def encoder_file(rows: int) -> dict[str, Any]:
    """A file of pSp, e4e or ReStyle: an encoder, a decoder, and its average latent beside both."""
    old = torch.load(GOLDEN / "rosinality-32.pt", weights_only=True)
    encoder = {"encoder.input_layer.0.weight": torch.zeros(3, 3), "encoder.bn.num_batches_tracked": torch.tensor(1)}
    average = old["latent_avg"].reshape(-1)
    return {
        "state_dict": {**encoder, **prefixed(old["g_ema"], "decoder.")},
        "latent_avg": average.expand(rows, -1).clone() if rows else average,
        "opts": {"device": "cuda:0", "size": 32},
    }


@pytest.mark.parametrize("rows", [0, 1, 8])
def test_the_decoder_of_an_encoder_opens_with_its_average(rows: int) -> None:
    assert_golden_pictures(describe(dumps_torch(encoder_file(rows))), "rosinality-32.pt")


def test_a_generator_inside_a_larger_one_opens() -> None:
    old = torch.load(GOLDEN / "rosinality-32.pt", weights_only=True)
    outer = {"style.0.weight": torch.zeros(3, 3), "res.0.conv.weight": torch.zeros(3, 3, 3, 3)}
    content = {"g_ema": {**outer, **prefixed(old["g_ema"], "generator.")}, "latent_avg": old["latent_avg"]}
    assert_golden_pictures(describe(dumps_torch(content)), "rosinality-32.pt")


def test_what_is_not_trained_may_be_left_out() -> None:
    state = {name: tensor for name, tensor in state_of("stylegan2-32.pkl").items() if "resample_filter" not in name}
    assert_golden_pictures(describe(dumps_torch(state)), "stylegan2-32.pkl")


def test_a_missing_average_is_computed_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("rosinality-32.pt", "stylegan2-32.pkl", "stylegan2-16-conditional.pkl"):
        state = state_of(name)
        state.pop("mapping.w_avg", None)
        path = tmp_path / f"{name}.pt"
        path.write_bytes(dumps_torch({"g_ema": state}))
        store = ModelStore()
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            generator = store.generator(path, "cpu")
            store.generator(path, "cpu")
        assert [r.message for r in caplog.records if "average" in r.message] == [
            f"{path.name}: the file has no average latent; the average of 4096 random ones is used for truncation"
        ]
        count = 20_000
        z = torch.from_numpy(np.random.RandomState(7).randn(count, generator.z_dim).astype(np.float32))
        c = torch.eye(generator.c_dim)[torch.arange(count) % generator.c_dim] if generator.c_dim else None
        mapped = generator.mapping(z, c)[:, 0]
        error = (generator.mapping.w_avg - mapped.mean(0)).abs() / mapped.std(0)
        assert error.max() < 5 / 4096**0.5, name


def test_an_average_of_another_width_is_explained() -> None:
    old = torch.load(GOLDEN / "rosinality-32.pt", weights_only=True)
    with pytest.raises(CheckpointError, match=r"average latent has shape \[7\]; 32 numbers"):
        describe(dumps_torch({"g_ema": old["g_ema"], "latent_avg": torch.zeros(7)}))


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt"])
@pytest.mark.parametrize("name", [*NVIDIA, "rosinality-32.pt", "stylegan2-tf-16.pkl"])
def test_what_we_write_we_read(name: str, suffix: str, tmp_path: Path) -> None:
    written = convert(GOLDEN / name, tmp_path / f"out{suffix}")
    found, expected = read_checkpoint(written, cache=tmp_path / "c"), golden(name)
    roles = {"G_ema"} if suffix == ".pt" else set(expected.networks)
    assert set(found.networks) == roles
    for role in roles:
        assert found.networks[role].family == expected.networks[role].family
        assert found.networks[role].kwargs == expected.networks[role].kwargs
        assert found.networks[role].tensors.keys() == expected.networks[role].tensors.keys()
        for key, array in expected.networks[role].tensors.items():
            assert array.tobytes() == found.networks[role].tensors[key].tobytes(), key
    assert "notes" not in found.metadata


def test_a_converted_state_dict_is_still_one(tmp_path: Path) -> None:
    # What we keep beside the tensors does not disturb other programs.
    written = convert(GOLDEN / "stylegan2-32.pkl", tmp_path / "out.pt")
    state = torch.load(written, weights_only=True)
    generator = build_generator(golden("stylegan2-32.pkl"))
    assert generator.load_state_dict(state, strict=True)
    assert set(state) == set(golden("stylegan2-32.pkl").networks["G_ema"].tensors)


# --------------------------------------------------------------------------------------------- TensorFlow


def tensorflow_ada(source: str | CheckpointDescription, **static: Any) -> bytes:
    """A golden (or another) network as StyleGAN2-ADA's TensorFlow program would have written it."""
    found = (golden(source) if isinstance(source, str) else source).networks["G_ema"]
    mapping: list[tuple[str, np.ndarray]] = []
    synthesis: list[tuple[str, np.ndarray]] = []
    noises: dict[int, np.ndarray] = {}
    average = found.tensors["mapping.w_avg"]

    def kernel(weight: np.ndarray, flip: bool) -> np.ndarray:
        weight = weight[:, :, ::-1, ::-1] if flip else weight
        return np.ascontiguousarray(weight.transpose(2, 3, 1, 0))

    for key, array in found.tensors.items():
        part, *path, leaf = key.split(".")
        if part == "mapping" and path:
            theirs = "LabelEmbed" if path[0] == "embed" else path[0].replace("fc", "Dense")
            mapping.append((f"{theirs}/{leaf}", array.T if leaf == "weight" else array))
        elif part == "synthesis" and leaf not in ("resample_filter", "const"):
            r = int(path[0][1:])
            layer_name = {"conv0": "Conv0_up", "conv1": "Conv" if r == 4 else "Conv1", "torgb": "ToRGB"}[path[1]]
            theirs = f"{r}x{r}/{layer_name}"
            if path[2:] == ["affine"]:
                value = array.T if leaf == "weight" else array - 1
                synthesis.append((f"{theirs}/mod_{leaf}", value))
            elif leaf == "noise_const":
                noises[2 * (r.bit_length() - 3) - (path[1] == "conv0")] = array[None, None]
            else:
                value = kernel(array, path[1] == "conv0") if leaf == "weight" else array
                synthesis.append((f"{theirs}/{leaf}", float(value) if leaf == "noise_strength" else value))
        elif leaf == "const":
            synthesis.append(("4x4/Const/const", array[None]))
    synthesis += [(f"noise{index}", array) for index, array in noises.items()]
    kwargs = found.kwargs
    arguments = {
        "latent_size": kwargs["z_dim"],
        "label_size": kwargs["c_dim"],
        "dlatent_size": kwargs["w_dim"],
        "resolution": kwargs["img_resolution"],
        "num_channels": 3,
        "mapping_layers": kwargs["mapping_kwargs"]["num_layers"],
        "num_fp16_res": 4,
        "conv_clamp": 256,
        **static,
    }
    parts = {"mapping": tensorflow_network(mapping, {}), "synthesis": tensorflow_network(synthesis, {})}
    net = tensorflow_network([("dlatent_avg", average)], arguments, **parts)
    return dumps((net, tensorflow_network([], {}), net))


@pytest.mark.parametrize("name", ["stylegan2-16-conditional.pkl", "stylegan2-32.pkl"])
def test_tensorflow_ada_opens_conditional_too(name: str) -> None:
    found = describe(tensorflow_ada(name))
    # The clamp is applied; the number of half-precision blocks has no effect in float32.
    assert found.networks["G_ema"].kwargs["conv_clamp"] == 256
    assert_golden_pictures(found, name)


def test_a_clamp_in_a_tensorflow_file_changes_the_picture() -> None:
    pictures = []
    for clamp in (256, 0.5):
        generator = build_generator(describe(tensorflow_ada("stylegan2-32.pkl", conv_clamp=clamp)))
        pictures.append(generator.synthesis(generator.mapping(torch.ones(1, generator.z_dim))))
    assert (pictures[0] - pictures[1]).abs().max() > 0.1


def test_a_tensorflow_fork_opens_where_the_tensors_fit() -> None:
    content = tensorflow_ada("stylegan2-32.pkl", min_h=3, min_w=5, res_log2=5, resolution=160)
    assert_golden_pictures(describe(content), "stylegan2-32.pkl")


def test_conditional_networks_of_the_older_kind_are_named() -> None:
    found = golden("stylegan2-32.pkl").networks["G_ema"].kwargs
    mapping = tensorflow_network([("LabelConcat/weight", np.zeros((5, found["z_dim"]), np.float32))], {})
    synthesis = tensorflow_network([("4x4/Const/const", np.zeros((1, 8, 4, 4), np.float32))], {})
    average = [("dlatent_avg", np.zeros(found["w_dim"], np.float32))]
    net = tensorflow_network(average, {}, mapping=mapping, synthesis=synthesis)
    with pytest.raises(CheckpointError, match="class-conditional TensorFlow networks from before StyleGAN2-ADA"):
        describe(dumps((net, net, net)))


# ----------------------------------------------------------------------------- what is not ours to use, by name


def test_a_discriminator_that_cannot_be_read_costs_the_discriminator_only() -> None:
    expected = describe(dumps(generator_file(SMALL)))
    found = describe(dumps({**generator_file(SMALL), "D": SingleDisc()}))
    assert set(found.networks) == {"G_ema"}
    for name, array in expected.networks["G_ema"].tensors.items():
        assert found.networks["G_ema"].tensors[name].tobytes() == array.tobytes()
    with pytest.raises(CheckpointError, match=r"of the class 'pg_modules\.discriminator\.SingleDisc'"):
        build_discriminator(found)


def styles(name: str) -> bytes:
    net = tensorflow_network([("G_synthesis/4x4/Const/const", np.zeros((1, 4, 4, 4), np.float32))], {})
    net.state |= {"version": 3, "static_kwargs": {"func_name": name}}
    return dumps((net, net, net))


def small_stylegan3() -> State:
    sizes = {"z_dim": 64, "w_dim": 16, "img_resolution": 16, "img_channels": 3, "num_layers": 6}
    config = StyleGAN3Config.from_mapping({**sizes, "c_dim": 0, "channel_base": 256, "channel_max": 8})
    return as_state(StyleGAN3Generator(config))


def grown_stylegan3() -> State:
    """StyleGAN-XL as far as it is known here: StyleGAN3's layers, 64 numbers in z, and a class that is projected."""
    return small_stylegan3() | {"mapping.embed_proj.weight": torch.zeros(64, 32), "mapping.embed_proj.bias": ZERO}


ZERO = torch.zeros(2)
FIRST = r"a StyleGAN \(first version\)"


@pytest.mark.parametrize(
    ("make", "family"),
    [
        (lambda: dumps({"G": foreign_network("pg_modules.networks_fastgan"), "D": None}), "a FastGAN"),
        (lambda: dumps({"G_ema": foreign_network("pg_modules.networks_fastgan", a=nn.Linear(2, 2))}), "a FastGAN"),
        (lambda: dumps_torch({"g": {"init.init.0.weight": ZERO, "feat_8.1.weight": ZERO}}), "a FastGAN"),
        (lambda: styles("training.networks_stylegan.G_style"), FIRST),
        (lambda: dumps_torch({"g_synthesis.blocks.4x4.const": ZERO}), FIRST),
        (lambda: dumps_torch({"g_running": {"generator.progression.0.conv1.0.weight": ZERO}}), FIRST),
        (lambda: dumps({"G_ema": network({"mapping.fc0.weight": ZERO}, "SuperresGenerator")}), "a StyleGAN-XL"),
        (lambda: dumps({"G_ema": network(grown_stylegan3(), "Generator", {})}), "a StyleGAN-XL"),
        (lambda: dumps({"G_ema": network(small_stylegan3(), "SuperresGenerator", {})}), "a StyleGAN-XL"),
        (lambda: dumps_torch(grown_stylegan3()), "a StyleGAN-XL"),
        (lambda: dumps_torch({"g_ema": grown_stylegan3()}), "a StyleGAN-XL"),
    ],
)
def test_what_is_not_supported_is_named_and_not_suspected(make: Callable[[], bytes], family: str) -> None:
    with pytest.raises(CheckpointError, match=f"{family}.*, which is not supported") as caught:
        describe(make())
    assert type(caught.value) is CheckpointError
    assert "refused" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        lambda: dumps_torch(foreign_network("model", conv=nn.Conv2d(3, 3, 3))),
        lambda: dumps_torch({"g_ema": foreign_network("model", conv=nn.Conv2d(3, 3, 3))}),
        lambda: dumps({"G_ema": foreign_network("model")}),
    ],
)
def test_a_whole_model_is_refused_with_what_to_do(content: Callable[[], bytes]) -> None:
    with pytest.raises(UnsafeCheckpoint, match=r"asks for 'model\.Generator'.*torch\.save\(model\.state_dict\(\)"):
        describe(content())


def test_an_unknown_file_is_told_by_what_is_in_it() -> None:
    with pytest.raises(CheckpointError, match=r"holds no generator: .*it has 1 tensors, such as 'w'"):
        describe(dumps_torch({"g_ema": {"w": torch.zeros(3)}}))


def test_layers_of_other_classes_are_named() -> None:
    content = generator_file(SMALL)
    content["G_ema"].state["_modules"]["extra"] = nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match=r"layer 'extra' is a torch\.nn\.modules\.linear\.Linear"):
        describe(dumps(content))


# -------------------------------------------------------------------------- pictures of other shapes and colours


def other_shape(size: tuple[int, int], **kwargs: Any) -> StyleGAN2Generator:
    """A generator whose picture begins with a constant of this height and width."""
    torch.manual_seed(1)
    config = {**SMALL, "img_resolution": 32, "init_res": size, "square": size[0] == size[1], **kwargs}
    generator = StyleGAN2Generator(StyleGAN2Config.from_mapping(config))
    with torch.no_grad():
        for name, tensor in [*generator.named_parameters(), *generator.named_buffers()]:
            if "noise_strength" in name or name == "mapping.w_avg":
                tensor.normal_()
    return generator.freeze()


def as_state(generator: torch.nn.Module) -> State:
    return {name: tensor.detach().clone() for name, tensor in generator.state_dict().items()}


def assert_same_pictures(found: CheckpointDescription, expected: StyleGAN2Generator) -> None:
    generator = build_generator(found)
    assert generator.image_size == expected.image_size
    z = torch.from_numpy(np.random.RandomState(0).randn(1, expected.z_dim).astype(np.float32))
    ws = expected.mapping(z, truncation_psi=0.7)
    assert torch.equal(generator.mapping(z, truncation_psi=0.7), ws)
    assert torch.equal(generator.synthesis(ws), expected.synthesis(ws))


SIZES = [(4, 4), (4, 2), (3, 5), (5, 3), (7, 4), (1, 2), (6, 6)]


@pytest.mark.parametrize("size", SIZES)
def test_the_fork_for_any_ratio_opens(size: tuple[int, int]) -> None:
    expected = other_shape(size)
    assert expected.image_size == (size[0] * 8, size[1] * 8)
    kwargs = {**SMALL, "img_resolution": 32, "init_res": list(size)}
    content = dumps({"G_ema": network(as_state(expected), "Generator", kwargs)})
    assert_same_pictures(describe(content), expected)
    assert_same_pictures(describe(dumps_torch(as_state(expected))), expected)
    # The longer side instead of the number of blocks, as some forks have it.
    kwargs["img_resolution"] = max(expected.image_size)
    if size not in ((4, 4), (4, 2)):
        assert_same_pictures(describe(dumps({"G_ema": network(as_state(expected), "Generator", kwargs)})), expected)


def test_the_tensorflow_fork_for_any_ratio_opens() -> None:
    expected = other_shape((3, 5), conv_clamp=256)
    content = tensorflow_ada(describe(dumps_torch(as_state(expected))), min_h=3, min_w=5, res_log2=5, resolution=40)
    generator = build_generator(describe(content))
    ws = expected.sample(5)
    # Modulation is stored less 1, which costs a bit of its last digit.
    torch.testing.assert_close(generator.synthesis(ws), expected.synthesis(ws), rtol=1e-4, atol=1e-4)


def test_a_size_that_the_tensors_contradict_is_an_error() -> None:
    kwargs = {**SMALL, "img_resolution": 32, "init_res": [5, 3]}
    with pytest.raises(CheckpointError, match="init_res = list contradicts its tensors"):
        describe(dumps({"G_ema": network(as_state(other_shape((3, 5))), "Generator", kwargs)}))


@pytest.mark.parametrize("size", [(0, 4), (-4, 4), (4, 1 << 40), (4,), "44", (4.5, 4)])
def test_absurd_sizes_are_refused(size: Any) -> None:
    with pytest.raises(CheckpointError, match="init_res"):
        describe(dumps({"G_ema": network(as_state(other_shape((4, 4))), "Generator", {**SMALL, "init_res": size})}))


def test_a_constant_that_makes_a_huge_picture_is_refused() -> None:
    state = {**as_state(other_shape((4, 4), use_noise=False)), "synthesis.b4.const": torch.zeros(8, 1, 600)}
    with pytest.raises(CheckpointError, match=r"init_res = .* is not allowed"):
        describe(dumps_torch(state))
    with pytest.raises(ConfigError, match="up to 4096 px a side"):
        StyleGAN2Config.from_mapping({**SMALL, "img_resolution": 1024, "init_res": [4, 17], "channel_base": 8192})


@pytest.mark.parametrize("size", [(3, 5), (7, 4)])
def test_other_shapes_can_be_dragged(size: tuple[int, int]) -> None:
    generator = other_shape(size)
    ws = generator.sample(3)
    height, width = generator.image_size
    drag = Drag(
        generator, ws, [[width * 0.4, height * 0.5]], [[width * 0.6, height * 0.4]], None, DragConfig(max_steps=3)
    )
    for step in drag:
        assert np.isfinite(step.distances).all()
    assert generator.preview(ws, generator.preview_heights[0]).shape[-2:] == size
    # A window is what a crop of the whole map is, at every level.
    for level in generator.levels[1:]:
        grid = generator.grid(level)
        whole = generator.features(ws, level)
        assert tuple(whole.shape[-2:]) == grid.size
        windows = Windows(origins=((0, 1), (grid.size[0] - 3, grid.size[1] - 3)), size=(3, 3))
        part = generator.local_features(ws, level, windows)
        torch.testing.assert_close(part, crop(whole, windows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_networks_open(channels: int) -> None:
    expected = other_shape((4, 4), img_channels=channels)
    kwargs = {**SMALL, "img_resolution": 32, "img_channels": channels}
    content = dumps({"G_ema": network(as_state(expected), "Generator", kwargs)})
    assert_same_pictures(describe(content), expected)
    pixels = to_uint8(expected.synthesis(expected.sample(1)))
    assert pixels.shape == (32, 32, 3 if channels == 1 else 4)
    if channels == 1:
        assert (pixels == pixels[..., :1]).all()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_picture(pixels)))), pixels)
