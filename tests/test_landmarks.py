"""Landmark networks: places known in advance, a training that learns and resumes, and the shipped files' precision."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from draggan.checkpoints.catalogue import builtin_dir
from draggan.checkpoints.store import load_generator
from draggan.errors import CheckpointError, ConfigError, ModelNotFound, OpBuildError
from draggan.evaluation import train_landmarks
from draggan.evaluation.train_landmarks import (
    Batch,
    LandmarkConfig,
    LandmarkTrainer,
    Stock,
    degrade,
    export,
    main,
    measure,
)
from draggan.landmarks import LandmarkNetwork, find_landmarks, landmark_file, load_landmarks, save_landmarks
from draggan.scenes import SCENES
from draggan.scenes.scene import renderer

CAT = SCENES["cat"]
SHIPPED = sorted(
    path.name.removesuffix(landmark_file("").name) for path in builtin_dir().glob("*-landmarks.safetensors")
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _no_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_landmarks, "_dtype", lambda: torch.float32)


@pytest.fixture(scope="module")
def _compiled() -> None:
    try:
        renderer()
    except OpBuildError as error:
        pytest.skip(f"the renderer needs a compiler: {error}")


def small(names: tuple[str, ...] = ("a", "b", "c")) -> LandmarkNetwork:
    torch.manual_seed(0)
    return LandmarkNetwork(names, widths=(4, 6, 8, 10), neck=5).eval().requires_grad_(False)


def test_places_are_the_mean_of_cells_and_distances() -> None:
    network = small()
    network.head.weight.zero_()
    network.head.bias.zero_()
    picture = torch.zeros(2, 3, 64, 64)
    torch.testing.assert_close(network(picture), torch.full((2, 3, 2), 31.5))
    # A distance of one and a half cells to the right and half a cell up, for the second landmark.
    network.head.bias[3 + 1], network.head.bias[6 + 1] = 1.5, -0.5
    expected = torch.full((2, 3, 2), 31.5)
    expected[:, 1] += torch.tensor([6.0, -2.0])
    torch.testing.assert_close(network(picture), expected)


def test_places_scale_with_the_picture() -> None:
    network = small()
    picture = torch.rand(2, 3, 64, 64) * 2 - 1
    at_64 = network(picture)
    at_256 = network(picture.repeat_interleave(4, 2).repeat_interleave(4, 3))
    torch.testing.assert_close((at_256 + 0.5) / 4, at_64 + 0.5)
    assert network(picture[..., ::2, ::2]).shape == (2, 3, 2)
    assert network(torch.zeros(1, 3, 100, 60)).shape == (1, 3, 2)


def test_features_are_numbers_per_picture() -> None:
    network = small()
    pictures = torch.rand(3, 3, 64, 64)
    features = network.features(pictures)
    assert features.shape == (3, network.feature_size) == (3, 10)
    torch.testing.assert_close(features[1:2], network.features(pictures[1:2]))
    assert not torch.allclose(features[0], features[1])


def test_a_file_gives_the_network_back(tmp_path: Path) -> None:
    network = small()
    network.stem.norm.running_mean.add_(0.3)
    save_landmarks(network, tmp_path / "small.safetensors", licence="Apache-2.0")
    again = load_landmarks(tmp_path / "small.safetensors")
    assert again.names == ("a", "b", "c")
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    picture = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(again(picture), network(picture), atol=0.05, rtol=0)
    with safe_open(tmp_path / "small.safetensors", "pt") as file:
        assert file.metadata()["licence"] == "Apache-2.0"
        assert all(file.get_tensor(name).dtype == torch.float16 for name in file.keys())  # noqa: SIM118


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no landmark network for 'dog'"):
        find_landmarks("dog")
    with pytest.raises(ModelNotFound):
        find_landmarks("../cat")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_landmarks(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="no landmark network, but 'stylegan2'"):
        load_landmarks(builtin_dir() / "cat.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "bad.safetensors", metadata={"kind": "landmarks", "kwargs": "{}"})
    with pytest.raises(CheckpointError, match="does not fit"):
        load_landmarks(tmp_path / "bad.safetensors")


def test_spoilt_pictures_take_their_landmarks_along() -> None:
    n = 48
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(n, 1, 2, generator=generator) * 0.5 + 0.25
    middle = (torch.arange(64) + 0.5) / 64
    distance = (middle - places[..., :1]).square()[:, :, None] + (middle - places[..., 1:]).square()[:, :, :, None]
    spot = torch.exp(-distance / (2 * 0.03**2)).expand(-1, 3, -1, -1) * 1.8 - 0.9
    batch = Batch(pictures=spot, places=places, visible=torch.ones(n, 1, dtype=torch.bool))
    degraded = degrade(batch, generator)
    assert degraded.pictures.shape == (n, 3, 64, 64)
    assert degraded.pictures.abs().max() <= 1
    assert (degraded.places - places).abs().mean() > 0.02
    grey = torch.nn.functional.avg_pool2d(degraded.pictures.mean(1, keepdim=True) + 1, 7, stride=1, padding=3)
    at = grey.flatten(1).argmax(1)
    found = torch.stack([at % 64, at // 64], -1)
    error = ((found + 0.5) / 64 - degraded.places[:, 0]).norm(dim=-1)
    assert error.median() < 0.02
    assert error.quantile(0.9) < 0.04


@pytest.mark.usefixtures("_compiled")
def test_the_stock_has_the_scenes_landmarks_and_new_scenes() -> None:
    stock = Stock(CAT, None, capacity=48, seed=3)
    stock.render()
    assert len(stock) == 32
    batch = stock.draw(16, np.random.default_rng(0))
    assert batch.pictures.shape == (16, 3, 64, 64)
    assert batch.places.shape == (16, len(CAT.landmarks), 2)
    assert 0 < batch.places[batch.visible].min() < batch.places[batch.visible].max() < 1
    stock.render()
    assert (len(stock), stock.block) == (48, 2)


def tiny(**changes: float) -> LandmarkConfig:
    config = LandmarkConfig(
        minutes=10,
        batch=8,
        stock=64,
        first=64,
        renew=100,
        warmup=5,
        held=8,
        widths=(8, 12, 16, 24),
        neck=16,
    )
    return replace(config, **changes)


@pytest.mark.usefixtures("_compiled")
def test_training_learns_resumes_and_exports(tmp_path: Path) -> None:
    trainer = LandmarkTrainer(CAT, None, tiny(), tmp_path, resume=True)
    errors = [trainer.step(0.0) for _ in range(60)]
    assert np.mean(errors[-5:]) < 0.75 * np.mean(errors[:3])
    trainer.save()
    assert math.isfinite(trainer.progress.rendered)
    assert math.isnan(trainer.progress.generated)

    again = LandmarkTrainer(CAT, None, tiny(), tmp_path, resume=True)
    assert again.progress.steps == 60
    assert again.stock.block > trainer.progress.block
    for a, b in zip(again.average.state_dict().values(), trainer.average.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ConfigError, match="another scene"):
        LandmarkTrainer(SCENES["car"], None, tiny(), tmp_path, resume=True)

    target = tmp_path / "cat-landmarks.safetensors"
    rendered, generated = export(tmp_path / "checkpoint.pt", target, None, count=8)
    assert rendered > 0
    assert math.isnan(generated)
    assert load_landmarks(target).names == CAT.landmarks
    # A new training from that file; one of another scene takes all but the last layer.
    started = LandmarkTrainer(CAT, None, tiny(), tmp_path / "new", resume=False, init=target)
    torch.testing.assert_close(started.network.head.weight, trainer.average.head.weight, atol=1e-3, rtol=1e-3)
    other = LandmarkTrainer(SCENES["car"], None, tiny(), tmp_path / "x", resume=False, init=target)
    assert other.network.names == SCENES["car"].landmarks
    torch.testing.assert_close(other.network.stem.conv.weight, started.network.stem.conv.weight)
    with pytest.raises(ConfigError, match="other size"):
        LandmarkTrainer(CAT, None, tiny(neck=20), tmp_path / "x", resume=False, init=target)


@pytest.mark.usefixtures("_compiled")
def test_a_run_ends_when_its_time_is_over(tmp_path: Path) -> None:
    LandmarkTrainer(CAT, None, tiny(minutes=0.005), tmp_path, resume=False).run()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_wrong_requests_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match="minutes"):
        LandmarkConfig(minutes=0)
    with pytest.raises(ConfigError, match="at least 1"):
        LandmarkConfig(batch=0)
    with pytest.raises(ConfigError, match="train first"):
        export(tmp_path / "checkpoint.pt", tmp_path / "x.safetensors", None)
    assert main(["dog", "--out", str(tmp_path), "--generator", "none"]) == 1
    assert "no scene 'dog'" in caplog.text


def test_the_cat_has_a_landmark_network() -> None:
    assert "cat" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.usefixtures("_compiled")
def test_a_shipped_network_is_precise(name: str) -> None:
    """Within 1 % of the width on renderings, 1.5 % on generated pictures against the scene's truth."""
    assert landmark_file(name).stat().st_size <= 3e6
    network = find_landmarks(name)
    assert network.names == SCENES[name].landmarks
    try:
        generator = load_generator(name, device="cpu")
    except ModelNotFound:
        generator = None
    rendered, generated = measure(network, SCENES[name], generator, count=32)
    assert rendered < 1
    assert generator is None or generated < 1.5
