"""Every format is read as what it is: tensors bit by bit, arguments by value, and nothing is read twice."""

from __future__ import annotations

import errno
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from draggan.checkpoints import conversion_cache, latents, sandbox
from draggan.checkpoints import infer_config as k
from draggan.checkpoints.build import build_discriminator, build_generator, config_of
from draggan.checkpoints.detect import describe_bytes
from draggan.checkpoints.formats import safetensors
from draggan.checkpoints.read import read_checkpoint
from draggan.errors import CheckpointError, LatentError, UnsafeCheckpoint
from draggan.generators.stylegan2.config import StyleGAN2Config
from tests.published import (
    SMALL,
    Network,
    Persistent,
    dumps,
    dumps_torch,
    generator_file,
    layer,
    network,
    tensorflow_network,
)

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(path.name for path in GOLDEN.iterdir() if path.suffix in (".pkl", ".pt"))
FORMATS = {"stylegan2-tf-16.pkl": "tensorflow-pickle", "rosinality-32.pt": "rosinality"}


def describe(content: bytes):
    return describe_bytes(memoryview(content))


@functools.cache
def golden(name: str):
    return describe((GOLDEN / name).read_bytes())


def reference(name: str):
    return np.load(GOLDEN / f"{Path(name).stem}.npz", allow_pickle=False)


def assert_same_tensors(a, b) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert a[name].shape == b[name].shape, name
        assert a[name].tobytes() == b[name].tobytes(), name


# ------------------------------------------------------------------------------------------------- golden files


@pytest.mark.parametrize("name", [name for name in FILES if name != "rosinality-32.pt"])
def test_golden_tensors_are_read_bit_by_bit(name: str) -> None:
    description, numbers = golden(name), reference(name)
    assert description.format == FORMATS.get(name, "nvidia-pickle")
    for role in ("G_ema", "D"):
        expected = {key[len(role) + 1 :]: numbers[key] for key in numbers.files if key.startswith(f"{role}/")}
        # The reference of the TensorFlow file has no weights of D.
        if expected:
            assert_same_tensors(description.networks[role].tensors, expected)
        else:
            assert role == "D"


@pytest.mark.parametrize("name", [name for name in FILES if name not in FORMATS])
def test_golden_arguments_are_those_the_networks_were_made_with(name: str) -> None:
    description, meta = golden(name), json.loads(str(reference(name)["meta"]))
    assert all(network.family == meta["family"] for role, network in description.networks.items() if role != "D")
    for role, expected in (("G_ema", meta["G"]), ("D", meta.get("D"))):
        if expected is None:
            continue
        found = description.networks[role].kwargs
        for key, value in {**expected, **expected.get("synthesis_kwargs", {})}.items():
            if key == "mapping_kwargs":
                assert found[key]["num_layers"] == value["num_layers"]
            elif key not in ("synthesis_kwargs", "num_fp16_res"):
                assert found[key] == value, key


@pytest.mark.parametrize("name", FILES)
def test_golden_arguments_are_what_our_constructors_take(name: str) -> None:
    for role, found in golden(name).networks.items():
        config_of("discriminator" if role == "D" else found.family, found.kwargs)


def test_golden_arguments_by_value() -> None:
    assert golden("stylegan2-16-conditional.pkl").networks["G_ema"].kwargs == {
        "z_dim": 16,
        "c_dim": 5,
        "w_dim": 16,
        "img_resolution": 16,
        "img_channels": 3,
        "square": True,
        "architecture": "skip",
        "use_noise": True,
        "channel_base": 256,
        "channel_max": 16,
        "mapping_kwargs": {"num_layers": 2, "activation": "lrelu", "lr_multiplier": 0.01},
        "resample_filter": [1, 3, 3, 1],
        # Not among the constructor's arguments: its default in that code, which the layers keep as an attribute.
        "conv_clamp": 256,
        "activation": "lrelu",
    }
    assert golden("stylegan2-16-conditional.pkl").networks["D"].kwargs == {
        "c_dim": 5,
        "img_resolution": 16,
        "img_channels": 3,
        "architecture": "resnet",
        "mbstd_num_channels": 1,
        "mbstd_group_size": 4,
        "cmap_dim": 16,
        "mapping_kwargs": {"num_layers": 8, "activation": "lrelu", "lr_multiplier": 0.01},
        "channel_base": 256,
        "channel_max": 16,
        "resample_filter": [1, 3, 3, 1],
        "conv_clamp": 256,
        "activation": "lrelu",
    }
    human = golden("stylegan-human-64x32.pkl").networks["G_ema"].kwargs
    assert (human["square"], human["channel_base"], human["conv_clamp"]) == (False, 512, None)


@pytest.mark.parametrize("name", FORMATS)
def test_converted_weights_give_the_golden_pictures(name: str) -> None:
    # A kernel flipped the wrong way, or a modulation off by one, shows here and nowhere else.
    generator, numbers = build_generator(golden(name)), reference(name)
    ws = generator.mapping(torch.from_numpy(numbers["in/z"]))
    truncated = generator.mapping(torch.from_numpy(numbers["in/z"]), truncation_psi=0.7)
    for found, key in ((ws, "out/ws"), (truncated, "out/ws_psi0.7"), (generator.synthesis(ws), "out/img")):
        expected = torch.from_numpy(numbers[key])
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


# ------------------------------------------------------------------------------------------- files we write here


@pytest.mark.parametrize("roles", [("G_ema",), ("G",), ("G", "G_ema")])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_any_subset_of_networks_in_any_protocol(roles: tuple[str, ...], protocol: int) -> None:
    description = describe(dumps(generator_file(SMALL, roles=roles), protocol))
    assert set(description.networks) == set(roles)
    assert description.metadata["training_set"] == {"resolution": 16}
    torch.manual_seed(0)
    from draggan.generators.stylegan2 import StyleGAN2Generator

    expected = StyleGAN2Generator(StyleGAN2Config.from_mapping(SMALL)).state_dict()
    found = description.networks[roles[0]].tensors
    assert_same_tensors(found, {name: tensor.numpy() for name, tensor in expected.items()})


def test_discriminator_alone() -> None:
    content = golden("stylegan2-32.pkl").networks["D"]
    tensors = {name: torch.from_numpy(array.copy()) for name, array in content.tensors.items()}
    given = {"c_dim": 0, "img_resolution": 32, "img_channels": 3, "channel_base": 512, "channel_max": 32}
    given |= {"block_kwargs": {"freeze_layers": 0}, "epilogue_kwargs": {"mbstd_group_size": 8}, "conv_clamp": 256}
    description = describe(dumps({"D": network(tensors, "Discriminator", given)}))
    assert set(description.networks) == {"D"}
    assert description.networks["D"].kwargs == {**content.kwargs, "mbstd_group_size": 8}


def test_a_strange_discriminator_costs_only_the_discriminator() -> None:
    content = generator_file(SMALL)
    content["D"] = network({"main.weight": torch.zeros(3)}, "ProjectedDiscriminator")
    description = describe(dumps(content))
    assert set(description.networks) == {"G_ema"}
    assert "ProjectedDiscriminator" in description.metadata["skipped"]["D"]
    with pytest.raises(CheckpointError, match="cannot be used: a network of class 'ProjectedDiscriminator'"):
        build_discriminator(description)


@pytest.mark.parametrize("zipped", [True, False])
def test_tuned_generators_in_torch_archives(zipped: bool) -> None:
    content = generator_file(SMALL)
    expected = describe(dumps(content)).networks["G_ema"]
    found = describe(dumps_torch(content["G_ema"], _use_new_zipfile_serialization=zipped))
    assert found.format == "pti"
    assert found.networks["G_ema"].kwargs == expected.kwargs
    assert_same_tensors(found.networks["G_ema"].tensors, expected.tensors)


def test_archives_saved_on_a_graphics_card() -> None:
    content = dumps_torch(generator_file(SMALL)["G_ema"])
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        for entry in old.infolist():
            data = old.read(entry).replace(b"ctorch\nFloatStorage", b"ctorch.cuda\nFloatStorage")
            data = data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:1")
            new.writestr(entry.filename, data)
    assert_same_tensors(
        describe(stream.getvalue()).networks["G_ema"].tensors, describe(content).networks["G_ema"].tensors
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_rosinality_training_checkpoints(zipped: bool) -> None:
    import argparse

    old = torch.load(GOLDEN / "rosinality-32.pt", weights_only=True)
    content = {
        "g": old["g_ema"],
        "d": {"convs.0.weight": torch.zeros(3)},
        "g_ema": old["g_ema"],
        "g_optim": {"state": {0: {"step": 1}}, "param_groups": [{"betas": (0.0, 0.99), "params": [0]}]},
        "args": argparse.Namespace(size=32, path="x"),
        "ada_aug_p": 0.5,
        "latent_avg": old["latent_avg"],
    }
    found = describe(dumps_torch(content, _use_new_zipfile_serialization=zipped))
    expected = golden("rosinality-32.pt").networks["G_ema"]
    for role in ("G", "G_ema"):
        assert_same_tensors(found.networks[role].tensors, expected.tensors)


def test_rosinality_without_average_or_noise_says_so() -> None:
    old = torch.load(GOLDEN / "rosinality-32.pt", weights_only=True)
    state = {name: tensor for name, tensor in old["g_ema"].items() if not name.startswith("noises.")}
    found = describe(dumps_torch({"g_ema": state}))
    assert [note.split(";")[0] for note in found.metadata["notes"]] == [
        "the file has no constant noise, so none is added to its pictures",
        "the file has no average latent",
    ]
    generator = build_generator(found)
    assert not any(array.any() for name, array in generator.state_dict().items() if name.endswith("noise_const"))
    # Not zero, towards which pictures would be wrong at every truncation below 1: the mean of mapped z.
    z = torch.from_numpy(np.random.RandomState(5).randn(20_000, generator.z_dim).astype(np.float32))
    mapped = generator.mapping(z)[:, 0]
    error = (generator.mapping.w_avg - mapped.mean(0)).abs() / mapped.std(0)
    assert error.max() < 5 / 4096**0.5


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        (torch.float16, np.float16),
        (torch.bfloat16, np.float32),
        (torch.float64, np.float32),
    ],
)
def test_other_float_types(dtype: torch.dtype, stored: type) -> None:
    content = generator_file(SMALL)
    generator = content["G_ema"]
    const = generator.state["_modules"]["synthesis"].state["_modules"]["b4"].state["_parameters"]
    const["const"] = torch.nn.Parameter(const["const"].to(dtype), requires_grad=False)
    for form in (dumps(content), dumps_torch(generator)):
        found = describe(form).networks["G_ema"].tensors["synthesis.b4.const"]
        assert found.dtype == stored
        np.testing.assert_array_equal(found.astype(np.float32), const["const"].float().numpy())


def test_views_and_tensors_in_another_order() -> None:
    content = generator_file(SMALL)
    block = content["G_ema"].state["_modules"]["synthesis"].state["_modules"]["b8"].state["_modules"]["conv1"].state
    weight = block["_parameters"]["weight"]
    shared = torch.cat([torch.zeros(5), weight.flatten(), torch.ones(7)])
    view = shared[5 : 5 + weight.numel()].view(weight.shape)
    for other in (
        view,
        weight.to(memory_format=torch.channels_last),
        weight.transpose(0, 1).contiguous().transpose(0, 1),
    ):
        block["_parameters"]["weight"] = torch.nn.Parameter(other, requires_grad=False)
        for form in (dumps(content), dumps_torch(content["G_ema"])):
            found = describe(form).networks["G_ema"].tensors["synthesis.b8.conv1.weight"]
            assert found.tobytes() == weight.detach().numpy().tobytes()
            assert found.flags.c_contiguous


def test_old_and_new_numpy_names() -> None:
    content = generator_file(SMALL)
    content["G_ema"].state["_modules"]["mapping"].state["_modules"]["fc0"].state["bias_gain"] = np.float32(0.5)
    content["G_ema"].state["_modules"]["mapping"].state["_modules"]["fc1"].state["bias_gain"] = np.float64(0.5)
    new = dumps(content)
    if b"numpy._core.multiarray" not in new:
        pytest.skip("NumPy 1 writes the old names itself")
    # Text in pickles has its length before it.
    old = new.replace(b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray")
    # Frames do, too; without them the reading is the same.
    old = b"".join(_without_frames(old))
    for form in (new, old):
        assert describe(form).networks["G_ema"].kwargs["mapping_kwargs"]["lr_multiplier"] == 0.5


def _without_frames(content: bytes):
    import pickletools

    # genops stops at a frame whose length is wrong, so only its beginning is looked at.
    start = content.index(b"\x95")
    assert start == 2
    yield content[:2]
    rest = content[2 + 9 :]
    starts = [op[2] for op in pickletools.genops(content[:2] + rest) if op[0].name == "FRAME"]
    last = 0
    for at in starts:
        yield rest[last : at - 2]
        last = at - 2 + 9
    yield rest[last:]


def test_positional_arguments() -> None:
    content = generator_file(SMALL)
    generator = content["G_ema"]
    named = dict(generator.state["_init_kwargs"])
    generator.state["_init_args"] = tuple(named.pop(name) for name in ("z_dim", "c_dim", "w_dim", "img_resolution"))
    generator.state["_init_kwargs"] = named
    assert describe(dumps(content)).networks["G_ema"].kwargs["w_dim"] == 8


# ---------------------------------------------------------------------------------------------------- arguments


def with_arguments(**changes: object) -> bytes:
    content = generator_file(SMALL)
    content["G_ema"].state["_init_kwargs"].update(changes)
    return dumps(content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"img_resolution": "8"}, "img_resolution = '8' is not allowed"),
        ({"img_resolution": 16}, "img_resolution = 16 contradicts its tensors, which say 8"),
        ({"img_resolution": True}, "img_resolution = True is not allowed"),
        ({"z_dim": -8}, "z_dim = -8 is not allowed"),
        ({"z_dim": float("nan")}, "z_dim = nan is not allowed"),
        ({"w_dim": 2**70}, "w_dim = 1180591620717411303424 is not allowed"),
        ({"c_dim": 3}, "c_dim = 3 contradicts"),
        ({"architecture": "unet"}, "architecture = 'unet' is not allowed; it must be one of skip, resnet, orig"),
        ({"architecture": "resnet"}, "contradicts its tensors, which say 'skip'"),
        ({"architecture": ["skip"]}, "architecture = list is not allowed"),
        ({"activation": "exec"}, "activation = 'exec' is not allowed; it must be one of linear, relu"),
        ({"mapping_kwargs": {"activation": "os.system"}}, "mapping_kwargs.activation = 'os.system' is not allowed"),
        ({"mapping_kwargs": {"num_layers": 3}}, "num_layers = 3 contradicts its tensors, which say 2"),
        ({"mapping_kwargs": {"depth": 3}}, "unknown argument mapping_kwargs.depth"),
        ({"mapping_kwargs": 2}, "mapping_kwargs = 2 is not allowed"),
        ({"synthesis_kwargs": [1]}, "synthesis_kwargs = list is not allowed"),
        ({"synthesis_kwargs": {"channel_base": "x"}}, "channel_base = 'x' is not allowed"),
        ({"synthesis_kwargs": {"channel_base": 32}}, "the file gives channel_base twice"),
        ({"conv_clamp": -1}, "conv_clamp = -1 is not allowed"),
        ({"conv_clamp": float("inf")}, "conv_clamp = inf is not allowed"),
        ({"resample_filter": [1, 3, 3]}, "resample_filter = list is not allowed; it must be four numbers"),
        ({"resample_filter": [1, -1, 1, -1]}, "whose sum is not 0"),
        ({"square": 1}, "square = 1 is not allowed; it must be true or false"),
        ({"square": False}, "square = False contradicts"),
        ({"use_noise": False}, "use_noise = False contradicts"),
        ({"eval": "1"}, "unknown argument 'eval'"),
    ],
)
def test_wrong_arguments_are_named(changes: dict, message: str) -> None:
    with pytest.raises(CheckpointError) as error:
        describe(with_arguments(**changes))
    assert message in str(error.value)


def test_arguments_without_effect_are_dropped() -> None:
    found = describe(
        with_arguments(
            num_fp16_res=4,
            padding=False,
            conv_clamp=128,
            synthesis_kwargs={"fp16_channels_last": True, "block_kwargs": {"fused_modconv_default": "inference_only"}},
            mapping_kwargs={"num_layers": 2, "w_avg_beta": 0.99, "layer_features": None},
        )
    )
    assert found.networks["G_ema"].kwargs == describe(with_arguments(conv_clamp=128)).networks["G_ema"].kwargs


def test_layers_know_better_than_arguments() -> None:
    content = generator_file(SMALL)
    for block in content["G_ema"].state["_modules"]["synthesis"].state["_modules"].values():
        for name, conv in block.state["_modules"].items():
            if name.startswith("conv"):
                conv.state.update(conv_clamp=64, activation="relu")
    found = describe(dumps(content)).networks["G_ema"].kwargs
    assert (found["conv_clamp"], found["activation"]) == (64, "relu")
    content["G_ema"].state["_modules"]["synthesis"].state["_modules"]["b8"].state["_modules"]["conv0"].state[
        "conv_clamp"
    ] = 32
    with pytest.raises(CheckpointError, match="conv_clamp differs between layers"):
        describe(dumps(content))


@given(st.integers(0, 8), st.integers(1, 512), st.integers(4, 65536))
def test_base_and_maximum_are_found_from_widths(blocks: int, top: int, base: int) -> None:
    resolutions = [4 << i for i in range(blocks + 1)]
    widths = {r: min(base // r, top) for r in resolutions}
    if min(widths.values()) == 0:
        return
    found = k.widths_to_base(widths)
    if found is not None:
        assert {r: min(found[0] // r, found[1]) for r in resolutions} == widths
    elif base & (base - 1) == 0:
        pytest.fail(f"no base found for {widths}")


# ----------------------------------------------------------------------------------------------- TensorFlow files


def tensorflow_file(architecture: str = "skip", **static: object) -> bytes:
    """The golden file's networks, rewritten; ``orig`` has the last colour output, under its old name."""
    from draggan.checkpoints.pickle.allowed import IN_PICKLES
    from draggan.checkpoints.pickle.budget import Budget
    from draggan.checkpoints.pickle.machine import PickleMachine

    data = memoryview((GOLDEN / "stylegan2-tf-16.pkl").read_bytes())
    networks = PickleMachine(data, allowed=IN_PICKLES, budget=Budget()).load()

    def rebuild(net) -> Network:
        variables = []
        for name, value in net.state["variables"]:
            array = value if isinstance(value, float) else value.value.copy()
            if architecture == "orig" and "ToRGB" in name:
                if not name.startswith("16x16"):
                    continue
                name = name.replace("16x16/ToRGB", "ToRGB_lod0")
            variables.append((name, array))
        components = {name: rebuild(part) for name, part in net.state["components"].items()}
        arguments = dict(net.state["static_kwargs"])
        if arguments:
            arguments |= static
        return tensorflow_network(variables, arguments, **components)

    return dumps(tuple(rebuild(net) for net in networks))


def test_old_tensorflow_files_are_orig() -> None:
    found = describe(tensorflow_file("orig")).networks["G_ema"]
    assert found.kwargs["architecture"] == "orig"
    assert [name for name in found.tensors if name.endswith("torgb.weight")] == ["synthesis.b16.torgb.weight"]
    build_generator(describe(tensorflow_file("orig")))


def test_tensorflow_arguments() -> None:
    found = describe(tensorflow_file(randomize_noise=True, resample_kernel=[1, 2, 2, 1], mapping_lrmul=0.02))
    assert found.networks["G_ema"].kwargs["mapping_kwargs"]["lr_multiplier"] == 0.02
    low_pass = found.networks["G_ema"].tensors["synthesis.b8.resample_filter"]
    np.testing.assert_allclose(low_pass[0], np.array([1, 2, 2, 1]) / 36, rtol=1e-6)
    for static, message in (
        ({"label_size": 10}, "c_dim = 10 contradicts its tensors"),
        ({"program": 1}, "unknown argument 'program'"),
        ({"fmap_base": "x"}, "fmap_base = 'x' is not allowed"),
        ({"nonlinearity": "evil"}, "activation = 'evil' is not allowed"),
    ):
        with pytest.raises(CheckpointError, match=message):
            describe(tensorflow_file(**static))


# ------------------------------------------------------------------------------------------- the converted copy


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch):
    """Call to forbid child processes from then on."""

    def forbid() -> None:
        def run(*arguments: object, **options: object) -> None:
            raise AssertionError("a child process was started")

        monkeypatch.setattr(sandbox.subprocess, "run", run)

    return forbid


def small_file(folder: Path, name: str = "model.pkl", seed: int = 0) -> Path:
    path = folder / name
    path.write_bytes(dumps(generator_file(SMALL, seed=seed)))
    return path


@pytest.mark.parametrize("name", ["stylegan2-32.pkl", "stylegan3-t-32.pkl", "stylegan2-tf-16.pkl", "rosinality-32.pt"])
def test_conversion_keeps_every_bit(name: str, tmp_path: Path) -> None:
    path, direct = GOLDEN / name, golden(name)
    for found in (read_checkpoint(path, cache=tmp_path), read_checkpoint(path, cache=tmp_path)):
        assert found.format == direct.format
        assert found.networks.keys() == direct.networks.keys()
        for role, expected in direct.networks.items():
            assert found.networks[role].kwargs == expected.kwargs
            assert found.networks[role].family == expected.family
            assert_same_tensors(found.networks[role].tensors, expected.tensors)
    out = tmp_path / "out.safetensors"
    safetensors.write(out, direct)
    if name != "stylegan3-t-32.pkl":
        one, two = build_generator(direct), build_generator(read_checkpoint(out))
        ws = one.mapping(torch.randn(1, one.z_dim))
        assert torch.equal(one.synthesis(ws), two.synthesis(ws))


def test_second_start_neither_unpickles_nor_waits(tmp_path: Path, no_child) -> None:
    path, cache = small_file(tmp_path), tmp_path / "cache"
    first = read_checkpoint(path, cache=cache)
    no_child()
    start = time.monotonic()
    second = read_checkpoint(path, ("G_ema",), cache=cache)
    assert time.monotonic() - start < 1
    assert_same_tensors(first.networks["G_ema"].tensors, second.networks["G_ema"].tensors)
    # What the cache holds, and nothing else.
    assert sorted(p.suffix for p in cache.rglob("*") if p.is_file()) == [".json", ".safetensors"]
    assert first.metadata["sha256"] in next(cache.glob("*.safetensors")).name


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    path, cache = small_file(tmp_path), tmp_path / "cache"
    first = read_checkpoint(path, cache=cache)
    small_file(tmp_path, seed=1)
    second = read_checkpoint(path, cache=cache)
    assert first.metadata["sha256"] != second.metadata["sha256"]


def test_damaged_copy_is_made_again(tmp_path: Path) -> None:
    path, cache = small_file(tmp_path), tmp_path / "cache"
    first = read_checkpoint(path, cache=cache)
    converted = next(cache.glob("*.safetensors"))
    converted.write_bytes(converted.read_bytes()[:500])
    again = read_checkpoint(path, cache=cache)
    assert_same_tensors(first.networks["G_ema"].tensors, again.networks["G_ema"].tensors)
    # The same under another path, such as an upload.
    converted.write_bytes(b"")
    again = read_checkpoint(path.rename(tmp_path / "other.pkl"), cache=cache)
    assert_same_tensors(first.networks["G_ema"].tensors, again.networks["G_ema"].tensors)


@pytest.mark.parametrize("index", [b"", b"[]", b"{", b'{"sha256": 3}', b'{"sha256": "../../x"}'])
def test_damaged_index_does_no_harm(tmp_path: Path, index: bytes) -> None:
    path = tmp_path / "index.json"
    path.write_bytes(index)
    assert conversion_cache.known_digest(path, {"size": 1}) is None


def test_two_at_once(tmp_path: Path) -> None:
    path, cache = small_file(tmp_path), tmp_path / "cache"
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(read_checkpoint(path, cache=cache))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert len(list(cache.glob("*.safetensors"))) == 1
    assert not list(cache.glob(".*"))


def test_copies_that_were_not_used_for_longest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, paths = tmp_path / "cache", []
    for seed in range(3):
        (tmp_path / f"{seed}").mkdir()
        paths.append(small_file(tmp_path / f"{seed}", seed=seed))
    digests = [read_checkpoint(path, cache=cache).metadata["sha256"] for path in paths[:2]]

    def kept() -> list[str]:
        return [digest for digest in digests if list(cache.glob(f"{digest}-*.safetensors"))]

    for age, digest in enumerate(reversed(digests), 1):
        (copy,) = cache.glob(f"{digest}-*.safetensors")
        os.utime(copy, (time.time() - 1000 * age,) * 2)
    read_checkpoint(paths[0], cache=cache)  # now the other one is older
    monkeypatch.setattr(conversion_cache, "_MOST_BYTES", copy.stat().st_size + paths[2].stat().st_size)
    digests.append(read_checkpoint(paths[2], cache=cache).metadata["sha256"])
    assert kept() == [digests[0], digests[2]]
    assert len(list(cache.rglob("*.json"))) == 2
    # Where room on the disk is missing that copies can give, and where they cannot.
    usage, short = shutil.disk_usage, [1]
    enough = (208 << 20) + paths[1].stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(path)._replace(free=enough - short[0]))
    paths[2].unlink()
    read_checkpoint(paths[1], cache=cache)
    assert digests[0] not in kept()
    assert len(list(cache.rglob("*.json"))) == 1, "one whose file is gone is not remembered"
    short[0] = 1 << 30
    monkeypatch.setattr(conversion_cache, "_MOST_BYTES", 1 << 30)
    small_file(tmp_path / "0", seed=4)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = kept()
    with pytest.raises(CheckpointError, match="too little left"):
        read_checkpoint(paths[0], cache=cache)
    assert kept() == before


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("x")
    found = read_checkpoint(small_file(tmp_path), cache=blocker / "cache")
    assert set(found.networks) == {"G_ema"}


def fill(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """These disks are full from now on, as far as anybody can see."""
    usage = shutil.disk_usage

    def disk_usage(path: object) -> object:
        found = usage(path)
        full = any(Path(str(path)).is_relative_to(folder) for folder in folders)
        return found._replace(free=0) if full else found

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)


def test_a_full_cache_does_not_shut_anybody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = small_file(tmp_path), tmp_path / "cache"
    expected = read_checkpoint(path, cache=tmp_path / "other")
    fill(monkeypatch, cache)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = read_checkpoint(path, cache=cache)
    assert_same_tensors(found.networks["G_ema"].tensors, expected.networks["G_ema"].tensors)
    assert not any(cache.rglob("*"))


def test_full_disks_are_called_full_and_the_file_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, cache = small_file(tmp_path), tmp_path / "cache"
    fill(monkeypatch, tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"takes 8 MB of disk, and .* has too little left; make room") as error:
        read_checkpoint(path, cache=cache)
    assert "damaged" not in str(error.value)


def test_a_child_that_finds_the_disk_full_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = 'import json; open("result.json", "w").write(json.dumps({"error": "NoRoom"}))'
    monkeypatch.setattr(sandbox, "CHILD", code)
    with pytest.raises(CheckpointError, match="has too little left"):
        read_checkpoint(small_file(tmp_path), cache=tmp_path / "cache")


def test_a_child_that_cannot_even_say_so_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage

    def disk_usage(path: object) -> object:
        # There was room when the conversion began; its folder is looked at when it has ended.
        return usage(path)._replace(free=0 if "converting" in str(path) else 1 << 40)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    monkeypatch.setattr(sandbox, "CHILD", "import os; os._exit(1)")
    with pytest.raises(CheckpointError, match="has too little left"):
        read_checkpoint(small_file(tmp_path), cache=tmp_path / "cache")


def test_the_disk_full_error_is_known_in_all_its_forms() -> None:
    assert sandbox.is_full(OSError(errno.ENOSPC, "No space left on device"))
    assert not sandbox.is_full(OSError(errno.EACCES, "Permission denied"))
    assert sandbox.is_full(SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert not sandbox.is_full(None)


def test_name_does_not_matter(tmp_path: Path) -> None:
    assert read_checkpoint(small_file(tmp_path, "weights.safetensors"), cache=tmp_path / "c").format == "nvidia-pickle"
    out = tmp_path / "model.pkl"
    safetensors.write(out, golden("stylegan2-16-orig.pkl"))
    assert read_checkpoint(out, cache=tmp_path / "c").format == "safetensors"


def test_four_files_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child may have gigabytes, and many people may open a file at the same moment."""
    running, most, lock, gate = 0, 0, threading.Lock(), threading.Event()

    def run(*args: object, **options: object) -> subprocess.CompletedProcess[bytes]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(20)
        with lock:
            running -= 1
        return subprocess.CompletedProcess([], 9)

    monkeypatch.setattr(sandbox.subprocess, "run", run)

    def read() -> None:
        with pytest.raises(CheckpointError):
            sandbox.run_child(tmp_path / "model.pkl", tmp_path, tmp_path, 10)

    threads = [threading.Thread(target=read) for _ in range(7)]
    for thread in threads:
        thread.start()
    while running < 4:
        time.sleep(0.01)
    time.sleep(0.1)
    assert most == 4
    gate.set()
    for thread in threads:
        thread.join(20)
    assert most == 4


def test_child_that_dies_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "CHILD", "import os; os._exit(9)")
    with pytest.raises(CheckpointError, match=r"ended early \(exit status 9\)"):
        read_checkpoint(small_file(tmp_path), cache=tmp_path / "c")
    assert not any((tmp_path / "c").rglob("*"))


def test_child_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "CHILD", "import time; time.sleep(60)")
    monkeypatch.setattr(sandbox, "WALL_SECONDS", 0.5)
    with pytest.raises(CheckpointError, match="took longer than"):
        read_checkpoint(small_file(tmp_path), cache=tmp_path / "c")


def test_child_is_small_and_may_do_nothing_else(tmp_path: Path) -> None:
    # The reader's process loads neither PyTorch nor pickle's program-running reader into action, and its limits hold.
    code = sandbox.CHILD.replace(
        "sandbox.child_main(job)",
        """
import os, socket, subprocess
assert "torch" not in sys.modules
from pathlib import Path
sandbox.limit_process(1000)
sandbox.forbid(Path(job["work"]))
tried = {
    "system": lambda: os.system("true"),
    "subprocess": lambda: subprocess.run(["true"]),
    "socket": lambda: socket.socket().connect(("127.0.0.1", 9)),
    "write": lambda: open(job["work"] + "-elsewhere", "w"),
    "remove": lambda: os.remove(job["source"]),
    "unpickle": lambda: __import__("pickle").loads(b"cos\\nsystem\\n."),
    "memory": lambda: bytearray(4 << 30),
}
done = []
for name, attempt in tried.items():
    try:
        attempt()
    except (sandbox.UnsafeCheckpoint, MemoryError):
        continue
    done.append(name)
open(job["work"] + "/result", "w").write(json.dumps(done))
""",
    )
    work = tmp_path / "work"
    work.mkdir()
    job = {
        "source": str(small_file(tmp_path)),
        "work": str(work),
        "package": str(Path(sandbox.__file__).parents[1]),
        "import_path": sys.path,
    }
    subprocess.run([sys.executable, "-I", "-c", code, json.dumps(job)], check=True, timeout=60)
    assert json.loads((work / "result").read_text()) == []
    assert not Path(f"{work}-elsewhere").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>", "a web page, not a model"),
        (b"\n <html>", "a web page, not a model"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n", "Git LFS pointer"),
        (b"\x1f\x8b\x08\x00", "gzip archive; unpack it first"),
        (b"\x93NUMPY\x01\x00", "open it as a latent code"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\x89PNG\r\n", "a picture"),
        (b"\x00\x01\x02\x03", "not a model file that we know; known are"),
        (b"\xff\xfe\xfd\xfc", "not a model file that we know; known are"),
        (b"not a\nmodel", "not a model file that we know (it begins with text); known are"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path, cache=tmp_path / "c")
    assert message in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a file"):
        read_checkpoint(tmp_path / "none.pkl")


# -------------------------------------------------------------------------------------------------------- latents


def numpy_bytes(array: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npz_bytes(compressed: bool = False, **arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


W = np.random.RandomState(0).randn(14, 512).astype(np.float32)


@pytest.mark.parametrize(
    "content",
    [
        numpy_bytes(W[None]),
        numpy_bytes(W),
        numpy_bytes(np.asfortranarray(W)),
        numpy_bytes(W.astype(">f4")),
        npz_bytes(w=W[None]),
        npz_bytes(True, w=W[None], other=np.zeros(3)),
        npz_bytes(projected=W[None]),
        dumps_torch(torch.from_numpy(W[None])),
        dumps_torch(torch.nn.Parameter(torch.from_numpy(W[None]))),
        dumps_torch(torch.from_numpy(W[None]), _use_new_zipfile_serialization=False),
        dumps_torch({"latent": torch.from_numpy(W), "noises": [torch.zeros(4)], "n": torch.zeros(2)}),
        dumps_torch([torch.from_numpy(W)]),
    ],
)
def test_latents(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "latent"
    path.write_bytes(content)
    found = latents.read_latent(path)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, W[None])
    assert latents.fit_latent(found, 14, 512).shape == (1, 14, 512)


@pytest.mark.parametrize("shape", [(512,), (1, 512), (1, 1, 512)])
def test_latents_of_one_row_are_repeated(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "w.npy"
    path.write_bytes(numpy_bytes(W[0].reshape(shape)))
    found = latents.fit_latent(latents.read_latent(path), 14, 512)
    np.testing.assert_array_equal(found, np.broadcast_to(W[:1], (1, 14, 512)))
    with pytest.raises(LatentError, match="1 rows of 512 numbers does not fit this model, which takes 10"):
        latents.fit_latent(latents.read_latent(path), 10, 256)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (numpy_bytes(np.array([{}], object), allow_pickle=True), UnsafeCheckpoint, "array of object"),
        (numpy_bytes(W)[:-1], CheckpointError, "over 28671 bytes"),
        (numpy_bytes(W)[:20], CheckpointError, "no numpy header"),
        (numpy_bytes(W).replace(b"(14, 512)", b"(1<<40, )"), CheckpointError, "no numpy header"),
        (numpy_bytes(W).replace(b"(14, 512)", b"(-4, 512)"), CheckpointError, "over 28672 bytes"),
        (numpy_bytes(W).replace(b"(14, 512), ", b"(9999999, )"), CheckpointError, "over 28672 bytes"),
        (numpy_bytes(W * np.nan), CheckpointError, "not finite"),
        (numpy_bytes(np.zeros((2, 14, 512), np.float32)), CheckpointError, "not one latent code"),
        (numpy_bytes(np.zeros((1, 1, 14, 512), np.float32)), CheckpointError, "not one latent code"),
        (numpy_bytes(np.zeros(512, int)), UnsafeCheckpoint, "array of int64"),
        (npz_bytes(a=W, b=W), CheckpointError, "none of them named"),
        (npz_bytes(True, w=np.zeros((5000, 1024), np.float32)), UnsafeCheckpoint, "array of 20480128 bytes"),
        (dumps_torch({"w": 3}), CheckpointError, "0 arrays"),
        (dumps_torch("text"), CheckpointError, "a str, not a latent code"),
        (dumps_torch(torch.zeros(512).long()), CheckpointError, "not a latent code"),
        (b"PK\x03\x04", CheckpointError, "directory is missing"),
        (b"hello", CheckpointError, "known are .npy, .npz and .pt"),
        (dumps({"w": 1}), CheckpointError, "known are .npy, .npz and .pt"),
    ],
)
def test_latents_that_are_none(tmp_path: Path, content: bytes, error: type, message: str) -> None:
    path = tmp_path / "latent"
    path.write_bytes(content)
    with pytest.raises(error) as caught:
        latents.read_latent(path)
    assert message in str(caught.value)


def test_layers_of_other_kinds_are_refused() -> None:
    content = generator_file(SMALL)
    content["G_ema"].state["_modules"]["mapping"] = "text"
    with pytest.raises(CheckpointError, match="layer 'mapping' is a str"):
        describe(dumps(content))
    content = generator_file(SMALL)
    content["G_ema"].state["_modules"]["a.b"] = layer("X")
    with pytest.raises(CheckpointError, match=r"called 'a\.b'"):
        describe(dumps(content))
    assert isinstance(content["G_ema"], Persistent)
