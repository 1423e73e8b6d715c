"""Encoders: a training that learns and resumes, files read back or refused, and the shipped files' precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dnnlib.digests import sha256_of
from draggan.checkpoints.catalogue import builtin_dir
from draggan.checkpoints.store import load_generator, locate
from draggan.errors import CheckpointError, ConfigError, OpBuildError
from draggan.inversion.encoder import Encoder, encoder_file, find_encoder, load_encoder, save_encoder
from draggan.inversion.train_encoder import EncoderConfig, EncoderTrainer, explained, main
from draggan.scenes import SCENES, find_scene
from draggan.scenes.scene import renderer

SHIPPED = sorted(
    path.name.removesuffix(encoder_file("").name) for path in builtin_dir().glob(f"?*{encoder_file('').name}")
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def _compiled() -> None:
    try:
        renderer()
    except OpBuildError as error:
        pytest.skip(f"the renderer needs a compiler: {error}")


def small() -> Encoder:
    torch.manual_seed(0)
    network = Encoder(6, (4, 4, 8, 8, 8), 10)
    network.mean.fill_(0.5)
    network.spread.fill_(2.0)
    return network.eval()


def test_a_file_gives_the_network_back(tmp_path: Path) -> None:
    network, pictures = small(), torch.rand(2, 3, 128, 128) * 2 - 1
    save_encoder(network, tmp_path / "a.safetensors", model_sha256="0", licence="Apache-2.0")
    again = load_encoder(tmp_path / "a.safetensors")
    assert (again.widths, again.neck, again.w_dim) == (network.widths, network.neck, 6)
    torch.testing.assert_close(again(pictures), network(pictures), rtol=0, atol=0.02)


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (96, 192)])
def test_pictures_of_any_size_have_a_latent(size: tuple[int, int]) -> None:
    assert small()(torch.zeros(1, 3, *size)).shape == (1, 6)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_encoder(path)
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_encoder(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="holds no encoder"):
        load_encoder(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"kind": "encoder"})
    with pytest.raises(CheckpointError, match="does not fit"):
        load_encoder(path)


def test_models_without_an_encoder_have_none() -> None:
    assert find_encoder("stylegan2-ffhq-512", "") is None
    assert find_encoder("", "") is None


@pytest.mark.parametrize("name", SHIPPED)
def test_somebody_elses_model_of_the_same_name_has_none(name: str) -> None:
    assert find_encoder(name, "0" * 64) is None


@pytest.mark.usefixtures("_compiled")
def test_training_learns_resumes_and_exports(tmp_path: Path) -> None:
    scene, generator = SCENES["cat"], load_generator("cat", device="cpu")
    config = EncoderConfig(minutes=60, batch=8, first=32, stock=32, warmup=1, renew=100)
    trainer = EncoderTrainer(scene, generator, config, tmp_path, resume=False)
    losses = [trainer.step(0.0) for _ in range(30)]
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10])
    trainer.save()
    again = EncoderTrainer(scene, generator, config, tmp_path, resume=True)
    assert (again.progress.steps, again.progress.block >= trainer.progress.block) == (30, True)
    again.export(tmp_path / "cat.safetensors", model_sha256="0")
    assert load_encoder(tmp_path / "cat.safetensors").w_dim == generator.w_dim


def test_wrong_requests_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match="minutes"):
        EncoderConfig(minutes=0)
    assert main(["cat", "--generator", "face", "--out", str(tmp_path)]) == 1
    assert "takes noise of" in caplog.text


@pytest.mark.usefixtures("_compiled")
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_encoder_knows_its_model(name: str) -> None:
    network, generator = find_encoder(name, sha256_of(locate(name))), load_generator(name, device="cpu")
    assert network is not None
    assert network.w_dim == generator.w_dim
    rendered, generated = explained(network, find_scene(name), generator, count=32)
    assert min(rendered, generated) > 0.6
