"""Our file format, models built from it, and the store that shares them."""

from __future__ import annotations

import json
import struct
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from draggan.checkpoints import build, store
from draggan.checkpoints.convert import convert
from draggan.checkpoints.description import CheckpointDescription, NetworkDescription
from draggan.checkpoints.formats import safetensors
from draggan.checkpoints.read import read_checkpoint
from draggan.checkpoints.store import ModelStore, load_discriminator, load_generator
from draggan.device import available_devices, choose_device
from draggan.errors import CheckpointError, ConfigError, ModelNotFound
from draggan.generators.stylegan2 import StyleGAN2Generator
from draggan.generators.stylegan2.config import StyleGAN2Config

GOLDEN = Path(__file__).parent / "golden"
KWARGS = {
    "z_dim": 8,
    "c_dim": 0,
    "w_dim": 8,
    "img_resolution": 16,
    "channel_base": 64,
    "channel_max": 8,
    "mapping_kwargs": {"num_layers": 2},
}


@pytest.fixture(scope="module")
def conversions(tmp_path_factory):
    """One cache for all tests here: a published file is converted once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def home(conversions, monkeypatch):
    monkeypatch.setenv("DRAGGAN_HOME", str(conversions))
    store.default_store().clear()


def weights(kwargs=KWARGS):
    torch.manual_seed(0)
    return {
        name: t.detach().numpy()
        for name, t in StyleGAN2Generator(StyleGAN2Config.from_mapping(kwargs)).state_dict().items()
    }


def description(kwargs=KWARGS, tensors=None, **metadata):
    network = NetworkDescription(family="stylegan2", kwargs=kwargs, tensors=tensors or weights())
    return CheckpointDescription(networks={"G_ema": network}, format="nvidia-pickle", metadata=metadata)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.write(path, description())
    return path


def picture(generator):
    with torch.no_grad():
        return generator.synthesis(generator.mapping(torch.ones(1, generator.z_dim), truncation_psi=0.7))


# ------------------------------------------------------------------------------------------------ the format


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "m.safetensors"
    half = {name: a.astype(np.float16) for name, a in weights().items()}
    both = replace(
        description(licence="Apache-2.0", sizes=[1, 2]),
        networks={
            "G_ema": NetworkDescription(family="stylegan2", kwargs=KWARGS, tensors=half),
            "D": NetworkDescription(family="stylegan2", kwargs={"c_dim": 0}, tensors={"b4.out.bias": np.ones(1, "f4")}),
        },
    )
    safetensors.write(path, both)
    read = safetensors.read(path)
    assert read.format == "safetensors"
    assert read.metadata == {"licence": "Apache-2.0", "sizes": [1, 2], "source_format": "nvidia-pickle"}
    assert set(read.networks) == {"G_ema", "D"}
    for role, network in both.networks.items():
        assert read.networks[role].kwargs == network.kwargs
        assert read.networks[role].tensors.keys() == network.tensors.keys()
        for name, array in network.tensors.items():
            assert read.networks[role].tensors[name].dtype == array.dtype
            np.testing.assert_array_equal(read.networks[role].tensors[name], array)
    assert set(safetensors.read(path, ["D"]).networks) == {"D"}
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["m.safetensors"]


def test_other_tools_can_read_the_file(file):
    tensors = load_file(file)
    assert set(tensors) == {f"G_ema/{name}" for name in weights()}


def test_the_simple_form_means_one_generator(tmp_path):
    path = tmp_path / "m.safetensors"
    tensors = {f"G_ema/{name}": a for name, a in weights().items()}
    save_file(tensors, path, metadata={"family": "stylegan2", "kwargs": json.dumps(KWARGS), "name": "test"})
    assert load_generator(path, "cpu").image_size == (16, 16)
    assert safetensors.read(path).metadata == {"name": "test"}


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(CheckpointError, match="float64"):
        safetensors.write(tmp_path / "m.safetensors", description(tensors={"a": np.zeros(3)}))
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        safetensors.write(tmp_path / "file" / "m.safetensors", description())
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["file"]


def test_a_file_cut_off_anywhere_is_refused(file, tmp_path):
    data = file.read_bytes()
    cut = tmp_path / "cut.safetensors"
    for i in [*range(0, 20), *range(20, len(data) - 1, len(data) // 60)]:
        cut.write_bytes(data[:i])
        with pytest.raises(CheckpointError):
            safetensors.read(cut)


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({}, "names no network family"),
        ({"family": "stylegan2"}, "names no network family"),
        ({"family": "stylegan9", "kwargs": "{}"}, "unknown family 'stylegan9'"),
        ({"family": "stylegan2", "kwargs": "{"}, "is not JSON"),
        ({"family": "stylegan2", "kwargs": "[1]"}, "must be a JSON object"),
        ({"family": "stylegan2", "kwargs": "[" * 100_000}, "is not JSON"),
        ({"networks": "{}"}, "holds no network"),
        ({"networks": '{"E": {}}'}, "unknown network 'E'"),
        ({"networks": '{"G_ema": 3}'}, "must hold 'family' and 'kwargs'"),
        ({"networks": '{"G_ema": {"family": "stylegan2", "kwargs": []}}'}, "must hold 'family' and 'kwargs'"),
        ({"networks": '{"G_ema": {"family": ["stylegan2"], "kwargs": {}}}'}, "unknown family"),
        ({"networks": '{"G": {"family": "stylegan2", "kwargs": {}}}'}, "belongs to none of the networks"),
        ({"family": "stylegan2", "kwargs": "{}", "facts": "3"}, "'facts' must be a JSON object"),
    ],
)
def test_wrong_metadata_is_explained(tmp_path, metadata, told):
    save_file({"G_ema/a": np.zeros(1, np.float32)}, tmp_path / "m.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match=told):
        safetensors.read(tmp_path / "m.safetensors")


def test_other_numbers_than_floats_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file({"G_ema/a": np.zeros(1, np.int64)}, path, metadata={"family": "stylegan2", "kwargs": "{}"})
    with pytest.raises(CheckpointError, match="is I64; allowed are F32, F16"):
        safetensors.read(path)


@pytest.mark.parametrize(
    "header",
    [
        b'{"G_ema/a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}',
        b'{"G_ema/a": {"dtype": "F32", "shape": [9223372036854775807, 4], "data_offsets": [0, 4]}}',
        b'{"G_ema/a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}',
        b'{"G_ema/a": {"dtype": "F32", "shape": [1], "data_offsets": [2, 6]}}',
        b"[" * 100_000,
        b"{}",
    ],
)
def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path, header):
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(CheckpointError):
        safetensors.read(path)
    path.write_bytes(struct.pack("<Q", 1 << 31) + header)
    with pytest.raises(CheckpointError, match="damaged"):
        safetensors.read(path)


# ----------------------------------------------------------------------------------------------- the building


def test_a_built_model_is_the_written_one(file):
    generator = build.build_generator(safetensors.read(file))
    torch.manual_seed(0)
    original = StyleGAN2Generator(StyleGAN2Config.from_mapping(KWARGS)).freeze()
    assert torch.equal(picture(generator), picture(original))
    assert not generator.training
    assert not any(p.requires_grad for p in generator.parameters())
    assert all(p.is_contiguous() for p in generator.parameters())


def test_half_precision_weights_become_float32(tmp_path):
    half = {name: a.astype(np.float16) for name, a in weights().items()}
    generator = build.build_generator(description(tensors=half))
    assert {p.dtype for p in generator.parameters()} == {torch.float32}
    np.testing.assert_array_equal(generator.synthesis.b4.const.numpy(), half["synthesis.b4.const"].astype(np.float32))


def test_what_does_not_fit_is_listed_by_name():
    tensors = weights()
    tensors["mapping.fc7.weight"] = tensors.pop("mapping.fc1.weight")
    tensors["synthesis.b4.const"] = np.zeros((8, 4, 5), np.float32)
    with pytest.raises(CheckpointError) as caught:
        build.build_generator(description(tensors=tensors))
    assert "missing: mapping.fc1.weight" in str(caught.value)
    assert "unexpected: mapping.fc7.weight" in str(caught.value)
    assert "of another shape: synthesis.b4.const [8, 4, 5] instead of [8, 4, 4]" in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(bad):
    tensors = weights()
    tensors["synthesis.b8.conv0.weight"] = tensors["synthesis.b8.conv0.weight"].copy()
    tensors["synthesis.b8.conv0.weight"][1, 2, 1, 1] = bad
    with pytest.raises(CheckpointError, match=r"b8\.conv0\.weight holds values that are not finite"):
        build.build_generator(description(tensors=tensors))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"z_dim": None}, "z_dim = None is not allowed; it must be a whole number from 1"),
        ({"z_dim": True}, "z_dim = True"),
        ({"z_dim": -1}, "z_dim = -1"),
        ({"z_dim": 8.0}, r"z_dim = 8\.0"),
        ({"z_dim": 10**30}, "z_dim = 1000"),
        ({"w_dim": "8"}, "w_dim = '8'"),
        ({"img_resolution": 1 << 20}, "img_resolution"),
        ({"img_resolution": 24}, "power of two"),
        ({"img_channels": 2}, "img_channels = 2 is not allowed; it must be one of 1, 3, 4"),
        ({"channel_base": 0}, "channel_base = 0"),
        ({"conv_clamp": float("nan")}, "conv_clamp = nan"),
        ({"activation": "__import__"}, "activation = '__import__' is not allowed; it must be one of linear"),
        ({"activation": ["lrelu"]}, "activation = "),
        ({"architecture": "big"}, "one of skip, resnet, orig"),
        ({"resample_filter": [1, 3, 3]}, "four numbers"),
        ({"resample_filter": [1, -1, 1, -1]}, "sum is not 0"),
        ({"square": 1}, "true or false"),
        ({"mapping_kwargs": 3}, "must hold named values"),
        ({"mapping_kwargs": {"num_layers": 10**6}}, r"mapping_kwargs\.num_layers = 1000000"),
        ({"mapping_kwargs": {"depth": 2}}, r"unknown argument 'mapping_kwargs\.depth'; known are num_layers"),
        ({"device": "cuda"}, "unknown argument 'device'"),
        ({"x" * 100_000: 1}, "unknown argument"),
    ],
)
def test_wrong_arguments_are_refused(change, told):
    with pytest.raises(CheckpointError, match=told) as caught:
        build.build_generator(description(kwargs={**KWARGS, **change}))
    assert len(str(caught.value)) < 500


def test_a_missing_argument_is_named():
    kwargs = {name: value for name, value in KWARGS.items() if name != "w_dim"}
    with pytest.raises(CheckpointError, match="does not say w_dim"):
        build.build_generator(description(kwargs=kwargs))


def test_a_huge_network_costs_nothing_before_its_weights_are_there():
    sizes = {"z_dim": 4096, "w_dim": 4096, "img_resolution": 4096, "channel_base": 1 << 20, "channel_max": 4096}
    huge = {**KWARGS, **sizes}
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=r"of another shape|million weights"):
        build.build_generator(description(kwargs={**huge, "mapping_kwargs": {"num_layers": 32}}))
    assert time.monotonic() - start < 5


def test_laying_out_a_network_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    checkpoint = description()
    torch.manual_seed(3)
    build.build_generator(checkpoint)
    assert torch.equal(torch.rand(1), expected)


def test_a_file_without_the_network_asked_for_says_what_it_holds(file):
    with pytest.raises(CheckpointError, match="no discriminator in this file"):
        build.build_discriminator(safetensors.read(file))
    only_d = replace(description(), networks={"D": description().networks["G_ema"]})
    with pytest.raises(CheckpointError, match="no generator in this file; it holds D"):
        build.build_generator(only_d)


# -------------------------------------------------------------------------------------------------- the store


def test_a_model_is_loaded_once_even_by_two_at_the_same_moment(file, monkeypatch):
    loads = []

    def slow(path, roles=None):
        loads.append(path)
        time.sleep(0.2)
        return read_checkpoint(path, roles)

    monkeypatch.setattr(store, "read_checkpoint", slow)
    models = ModelStore()
    found = []
    threads = [threading.Thread(target=lambda: found.append(models.generator(file, "cpu"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len({id(generator) for generator in found}) == 1


def test_the_least_recently_used_goes_first(tmp_path):
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path in paths:
        safetensors.write(path, description())
    models = ModelStore(limit=2)
    first, second = models.generator(paths[0], "cpu"), models.generator(paths[1], "cpu")
    assert models.generator(paths[0], "cpu") is first
    models.generator(paths[2], "cpu")
    assert len(models) == 2
    assert models.generator(paths[0], "cpu") is first
    assert models.generator(paths[1], "cpu") is not second


def test_a_changed_file_is_read_again_and_a_failure_is_not_kept(file):
    models = ModelStore()
    before = models.generator(file, "cpu")
    data = file.read_bytes()
    file.write_bytes(data[:-10])
    with pytest.raises(CheckpointError):
        models.generator(file, "cpu")
    assert len(models) == 1
    safetensors.write(file, description())
    assert models.generator(file, "cpu") is not before


def test_what_is_no_model_says_so(tmp_path):
    with pytest.raises(ModelNotFound, match="neither a listed model nor a file"):
        load_generator(tmp_path / "none.pkl")
    with pytest.raises(CheckpointError, match="cannot read"):
        ModelStore().generator(tmp_path / "none.pkl", "cpu")


def test_a_device_that_is_not_there_is_refused_with_those_that_are(file):
    for device in ("cuda:99", "tpu", "cpu:3"):
        with pytest.raises(ConfigError, match=r"not available.* choose auto or one of .*cpu"):
            load_generator(file, device)
    assert str(choose_device("auto")) == available_devices()[0]
    assert available_devices()[-1] == "cpu"


def test_the_built_in_model_loads():
    from draggan.checkpoints import catalogue

    for entry in catalogue.all_models():
        if entry.builtin and entry.on_disk:
            generator = load_generator(entry.name, "cpu")
            assert generator.image_size == entry.size
            assert generator.family == entry.family


def test_a_discriminator_is_loaded_and_shared_likewise():
    golden = np.load(GOLDEN / "stylegan2-32.npz")
    discriminator = load_discriminator(GOLDEN / "stylegan2-32.pkl", "cpu")
    with torch.no_grad():
        logits = discriminator(torch.from_numpy(golden["in/d_img"])).numpy()
    np.testing.assert_allclose(logits, golden["out/d_logits"], rtol=1e-4, atol=1e-5)
    assert load_discriminator(GOLDEN / "stylegan2-32.pkl", "cpu") is discriminator
    assert not any(p.requires_grad for p in discriminator.parameters())


# ------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("source", sorted(GOLDEN.glob("*.p[kt]*")), ids=lambda path: path.name)
def test_a_conversion_gives_the_same_picture_bit_for_bit(source, tmp_path):
    converted = convert(source, tmp_path / "c.safetensors")
    assert torch.equal(picture(load_generator(converted, "cpu")), picture(load_generator(source, "cpu")))
    read, original = safetensors.read(converted), read_checkpoint(source)
    assert set(read.networks) == set(original.networks)
    assert read.metadata["original_file"] == source.name
    assert len(read.metadata["original_sha256"]) == 64
    assert read.metadata["source_format"] == original.format


def test_a_plain_state_dict_fits_the_generator(tmp_path):
    source = GOLDEN / "stylegan2-32.pkl"
    generator = load_generator(source, "cpu")
    state = torch.load(convert(convert(source, tmp_path / "a.safetensors"), tmp_path / "b.pt"), weights_only=True)
    other = StyleGAN2Generator(StyleGAN2Config.from_mapping(read_checkpoint(source).networks["G_ema"].kwargs))
    other.load_state_dict(state, strict=True)
    assert torch.equal(picture(other.freeze()), picture(generator))


def test_arrays_hold_all_networks_and_what_they_are(tmp_path):
    arrays = np.load(convert(GOLDEN / "stylegan2-32.pkl", tmp_path / "a.npz"), allow_pickle=False)
    golden = np.load(GOLDEN / "stylegan2-32.npz")
    meta = json.loads(str(arrays["meta"]))
    assert meta["G_ema"]["kwargs"]["img_resolution"] == 32
    for name in golden:
        if name.startswith(("G_ema/", "D/")):
            np.testing.assert_array_equal(arrays[name], golden[name])


def test_a_conversion_refuses_what_it_cannot_write(file, tmp_path):
    with pytest.raises(CheckpointError, match="must end in"):
        convert(file, tmp_path / "x.onnx")
    with pytest.raises(CheckpointError, match="is the source itself"):
        convert(file, file)
    with pytest.raises(CheckpointError, match="cannot write"):
        convert(file, file / "x.pt")
    with pytest.raises(ModelNotFound):
        convert(tmp_path / "none.pkl", tmp_path / "x.pt")
