"""A drag goes on from its state elsewhere, to the last bit as if it had never stopped."""

from __future__ import annotations

import pickle
from dataclasses import asdict

import numpy as np
import pytest
import torch

from draggan.config import DragConfig
from draggan.drag import Drag, DragStep
from draggan.generators.base import Generator
from tests.conftest import tiny_stylegan2

HANDLES = [[20.0, 30.0], [40.0, 40.0], [10.0, 50.0]]
TARGETS = [[27.0, 30.0], [40.0, 46.0], [16.0, 44.0]]


def elsewhere(drag: Drag) -> bytes:
    """The state as it is sent."""
    return pickle.dumps(drag.state())


def assert_same(one: DragStep, other: DragStep) -> None:
    for (name, mine), theirs in zip(asdict(one).items(), asdict(other).values(), strict=True):
        assert torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else np.array_equal(mine, theirs), name


def mask_of(generator: Generator) -> np.ndarray:
    mask = np.zeros(generator.image_size, bool)
    mask[:, : generator.image_size[1] // 2 + 20] = True
    return mask


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "gauss-newton"},
        {"solver": "gauss-newton", "tracker": "template", "space": "w"},
        {"solver": "adam"},
        {"solver": "adam", "mask_windows": 2},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_every_step_of_a_drag_may_be_taken_by_another_process(settings, count, masked):
    generator = tiny_stylegan2(64)
    config = DragConfig(max_steps=6, **settings)
    ws = generator.sample(1, 0.7)
    begun = (generator, ws, HANDLES[:count], TARGETS[:count], mask_of(generator) if masked else None, config)
    state = None
    for step in Drag(*begun):
        other = Drag(*begun, state=None if state is None else pickle.loads(state))
        assert_same(step, next(other))
        state = elsewhere(other)
    assert next(Drag(*begun, state=pickle.loads(state)), None) is None


def test_a_pull_goes_on_elsewhere_and_rests_there_too():
    generator = tiny_stylegan2(64)
    begun = (generator, generator.sample(1, 0.7), HANDLES[:1], HANDLES[:1], None, DragConfig(solver="gauss-newton"))
    here, there = Drag(*begun, live=True), Drag(*begun, live=True)
    for target in ([24.0, 30.0], [24.0, 33.0], [18.0, 30.0]):
        here.retarget([target])
        there = Drag(*begun, live=True, state=pickle.loads(elsewhere(there)))
        there.retarget([target])
        while not here.would_sleep():
            assert not there.would_sleep()
            assert_same(next(here), next(there))
        assert there.would_sleep()
        there = Drag(*begun, live=True, state=pickle.loads(elsewhere(there)))
        assert there.would_sleep()
    here.settle()
    there.settle()
    for one, other in zip(here, there, strict=True):
        assert_same(one, other)
