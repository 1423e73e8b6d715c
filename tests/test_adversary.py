"""The adversarial part of a training: known answers, and a training that takes it up, saves it and goes on."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from draggan import load_discriminator
from draggan.errors import ConfigError, OpBuildError
from draggan.scenes.adversary import Adversary, r1_penalty
from draggan.scenes.cat import CAT
from draggan.scenes.pool import ScenePool
from draggan.scenes.scene import renderer
from draggan.scenes.train import TrainConfig, Trainer, export

KWARGS = {"c_dim": 0, "img_resolution": 16, "channel_base": 256, "channel_max": 16, "architecture": "resnet"}


def adversary(**settings: object) -> Adversary:
    torch.manual_seed(0)
    given = {"lr": 5e-3, "gamma": 1.0, "device": torch.device("cpu"), "dtype": torch.float32} | settings
    return Adversary(KWARGS, **given)  # type: ignore[arg-type]


def test_penalty_of_a_linear_judge_is_its_squared_weight() -> None:
    judge = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 4, 1))
    found = r1_penalty(judge, torch.randn(5, 3, 4, 4))
    torch.testing.assert_close(found, judge[1].weight.square().sum())
    found.backward()
    torch.testing.assert_close(judge[1].weight.grad, 2 * judge[1].weight.detach())


def test_it_learns_to_tell_grey_from_stripes_and_its_objection_points_to_stripes() -> None:
    judge = adversary()
    stripes = torch.zeros(8, 3, 16, 16)
    stripes[..., ::2] = 1
    grey = torch.zeros(8, 3, 16, 16)

    def noisy(x: torch.Tensor) -> torch.Tensor:
        return x + 0.1 * torch.randn_like(x)

    losses = [judge.learn(noisy(grey), noisy(stripes)) for _ in range(40)]
    # Random weights are worse than guessing, which costs 2 ln 2.
    assert losses[-1] < 0.5 * 2 * math.log(2) < losses[0]
    assert judge.objection(stripes) < judge.objection(grey)
    assert judge.steps == 40


def test_half_precision_learns_too() -> None:
    judge = adversary(dtype=torch.bfloat16)
    values = [judge.learn(torch.zeros(4, 3, 16, 16), torch.ones(4, 3, 16, 16)) for _ in range(20)]
    assert values[-1] < values[0]
    assert all(p.dtype == torch.float32 for p in judge.discriminator.parameters())


def test_a_training_takes_it_up_saves_it_and_goes_on(tmp_path: Path) -> None:
    try:
        renderer()
    except OpBuildError as error:
        pytest.skip(f"no renderer: {error}")
    sizes = {"resolution": 32, "w_dim": 32, "mapping_layers": 2, "channel_base": 512, "channel_max": 16, "batch": 8}
    pool = {"pool": 64, "pool_first": 64, "pool_share": 0.0, "stages": (0.0,)}
    plain = TrainConfig(scene="cat", minutes=10, **sizes, **pool)  # type: ignore[arg-type]
    config = replace(plain, adversarial_from=0.5)
    assert not config.is_adversarial(32, 0.4)
    assert config.is_adversarial(32, 0.5)
    assert not plain.is_adversarial(32, 1.0)
    with pytest.raises(ConfigError, match="part of the time"):
        replace(plain, adversarial_from=2)
    threads, cpu = torch.get_num_threads(), torch.device("cpu")
    try:
        trainer = Trainer(plain, tmp_path, device=cpu, resume=False)
        with ScenePool(CAT, 32, capacity=64, first=64, seed=0, share=0) as scenes:
            trainer.step(scenes, 32, 0.6)
            assert trainer.adversary is None
            trainer.progress.stage = 32
            trainer.save()
            # What began without goes on with it.
            trainer = Trainer(config, tmp_path, device=cpu, resume=True)
            assert trainer.adversary is not None
            trainer.step(scenes, 32, 0.4)
            assert trainer.adversary.steps == 0
            values = [trainer.step(scenes, 32, 0.6)[0] for _ in range(3)]
            assert trainer.adversary.steps == 3
            assert all(map(math.isfinite, values))
        trainer.save()
        again = Trainer(config, tmp_path, device=cpu, resume=True)
    finally:
        torch.set_num_threads(threads)
    assert again.adversary is not None
    assert again.adversary.steps == 3
    ours, theirs = (t.adversary.discriminator.state_dict() for t in (again, trainer))  # type: ignore[union-attr]
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)

    export(tmp_path / "checkpoint.pt", tmp_path / "cat.safetensors")
    loaded = load_discriminator(tmp_path / "cat-discriminator.safetensors", device="cpu")
    x = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(loaded(x), again.adversary.discriminator(x), atol=2e-2, rtol=2e-2)
