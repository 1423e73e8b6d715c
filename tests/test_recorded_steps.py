"""A training whose steps are recorded, by the rules of CUDA's graphs on a processor (tests/emulated.py)."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from draggan.errors import OpBuildError
from draggan.scenes.cat import CAT
from draggan.scenes.device_pool import BLOCK, DevicePool, Scenes
from draggan.scenes.scene import renderer
from draggan.scenes.train import TrainConfig, Trainer
from tests.emulated import Emulated, record_on_the_processor

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        renderer()
    except OpBuildError as error:
        pytest.skip(f"no renderer: {error}")
    record_on_the_processor(monkeypatch)


def config(**settings: object) -> TrainConfig:
    sizes = {"resolution": 32, "w_dim": 32, "mapping_layers": 2, "channel_base": 512, "channel_max": 16, "batch": 8}
    rest = {"minutes": 10, "stages": (0.0,), "warmup": 5, "pool": BLOCK, "pool_first": BLOCK}
    return TrainConfig(scene="cat", **(sizes | rest | settings))  # type: ignore[arg-type]


def pool() -> DevicePool:
    return DevicePool(CAT, 32, capacity=BLOCK, first=BLOCK, seed=0, device=CPU)


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [p.detach().clone() for p in (*trainer.generator.parameters(), *trainer.average.parameters())]


def test_recorded_steps_are_the_steps_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same scenes, step for step; recording leaves weights, averages and moments as they were."""
    found = []
    for recorded in (True, False):
        trainer = Trainer(config(adversarial_from=0.5), tmp_path / str(recorded), device=CPU, resume=False)
        trainer.dtype = torch.float32
        if not recorded:
            trainer.recorder = None
        torch.manual_seed(3)
        steps = trainer.recorded_steps(pool())
        # The same scenes in every step of both, though recording takes some steps, too.
        some = Scenes(*(kept[:8].clone() for kept in steps.pool.sample(BLOCK)))
        monkeypatch.setattr(steps.pool, "sample", lambda count, some=some: Scenes(*(kept.clone() for kept in some)))
        before = weights(trainer)
        losses = [float(trainer.recorded_step(steps, 0.1)) for _ in range(6)]
        assert losses[-1] < losses[0]
        assert any(not torch.equal(a, b) for a, b in zip(before, weights(trainer), strict=True))
        found.append((losses, weights(trainer), trainer.generator.mapping.w_avg.clone()))
        assert trainer.progress.pictures == 48
    assert Emulated.recorded == 1
    assert Emulated.replayed == 6
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[0][2], found[1][2], rtol=1e-4, atol=1e-6)


def test_every_kind_of_step_is_recorded_once_and_learns(tmp_path: Path) -> None:
    """Growing, with a discriminator, with its penalty: one recording each, and other scenes in every replay."""
    trainer = Trainer(
        config(resolution=64, stages=(0.0, 0.3), adversarial_from=0.5), tmp_path, device=CPU, resume=False
    )
    trainer.dtype = torch.float32
    with DevicePool(CAT, 64, capacity=BLOCK, first=BLOCK, seed=0, device=CPU) as scenes:
        steps = trainer.recorded_steps(scenes)
        values = [float(trainer.recorded_step(steps, part)) for part in (0.1, 0.1, 0.4, 0.4, 0.6, 0.6, 0.6)]
    assert all(map(math.isfinite, values))
    assert len(set(values)) == len(values)
    # 32 px, 64 px, 64 px with the discriminator, which learns with and without its penalty.
    assert steps.recorded == Emulated.recorded == 5
    assert trainer.adversary is not None
    assert trainer.adversary.steps == 3
    assert all(bool(p.isfinite().all()) for p in trainer.adversary.discriminator.parameters())
    trainer.save()
    again = Trainer(config(resolution=64, stages=(0.0, 0.3), adversarial_from=0.5), tmp_path, device=CPU, resume=True)
    assert again.progress.steps == 7
    torch.testing.assert_close(again.average.mapping.w_avg, trainer.average.mapping.w_avg)
    assert math.isfinite(float(again.recorded_step(again.recorded_steps(scenes), 0.9)))


def test_what_cannot_be_recorded_is_done_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(recorder: Emulated, work: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Emulated, "record", refuse)
    trainer = Trainer(config(), tmp_path, device=CPU, resume=False)
    steps = trainer.recorded_steps(pool())
    values = [float(trainer.recorded_step(steps, 0.1)) for _ in range(8)]
    assert values[-1] < values[0]
    assert caplog.text.count("cannot be recorded") == 1


def test_a_run_trains_on_scenes_that_stay_on_the_device(tmp_path: Path) -> None:
    trainer = Trainer(config(minutes=0.02), tmp_path, device=CPU, resume=False)
    trainer.run()
    assert trainer.progress.steps > 0
    assert trainer.progress.blocks >= BLOCK // 32
    assert trainer.checkpoint.is_file()
    assert trainer.progress.held_psnr > 0
