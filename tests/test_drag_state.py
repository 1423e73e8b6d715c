"""A drag goes on from its state elsewhere, to the last bit as if it had never stopped."""

from __future__ import annotations

import pickle
from dataclasses import asdict, fields

import numpy as np
import pytest
import torch

from draggan.config import DragConfig
from draggan.drag import Drag, DragStep
from draggan.drag.state import DragState
from draggan.generators.base import Generator
from tests.conftest import tiny_stylegan2

HANDLES = [[10.0, 15.0], [20.0, 20.0], [5.0, 25.0]]
TARGETS = [[14.0, 15.0], [20.0, 23.0], [8.0, 22.0]]


def elsewhere(drag: Drag) -> bytes:
    """The state as it is sent."""
    return pickle.dumps(drag.state())


def assert_same(one: DragStep, other: DragStep) -> None:
    for (name, mine), theirs in zip(asdict(one).items(), asdict(other).values(), strict=True):
        assert torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else np.array_equal(mine, theirs), name


def mask_of(generator: Generator) -> np.ndarray:
    mask = np.zeros(generator.image_size, bool)
    mask[:, : generator.image_size[1] // 2 + 8] = True
    return mask


@pytest.mark.parametrize(
    ("count", "masked", "settings"),
    [
        (1, False, {"solver": "gauss-newton"}),
        (3, True, {"solver": "gauss-newton"}),
        (1, True, {"solver": "gauss-newton", "tracker": "template", "space": "w"}),
        (3, False, {"solver": "adam"}),
        (1, True, {"solver": "adam", "mask_windows": 2}),
    ],
)
def test_every_step_of_a_drag_may_be_taken_by_another_process(settings, count, masked):
    generator = tiny_stylegan2(32)
    config = DragConfig(max_steps=4, **settings)
    ws = generator.sample(1, 0.7)
    begun = (generator, ws, HANDLES[:count], TARGETS[:count], mask_of(generator) if masked else None, config)
    state = None
    for step in Drag(*begun):
        other = Drag(*begun, state=None if state is None else pickle.loads(state))
        assert_same(step, next(other))
        state = elsewhere(other)
    assert next(Drag(*begun, state=pickle.loads(state)), None) is None


def test_a_drag_that_was_let_go_goes_on_elsewhere():
    generator = tiny_stylegan2(32)
    config = DragConfig(max_steps=4, solver="gauss-newton", max_departure=100.0)
    begun = (
        generator,
        generator.sample(1, 0.7),
        HANDLES[:1],
        HANDLES[:1] + np.array([[1.0, 0.5]], np.float32),
        None,
        config,
    )
    state, let_go = None, []
    for step in Drag(*begun):
        other = Drag(*begun, state=None if state is None else pickle.loads(state))
        assert_same(step, next(other))
        let_go.append(other._here.let_go is not None)
        state = elsewhere(other)
    assert any(let_go)


def test_a_pull_goes_on_elsewhere_and_rests_there_too():
    generator = tiny_stylegan2(32)
    begun = (generator, generator.sample(1, 0.7), HANDLES[:1], HANDLES[:1], None, DragConfig(solver="gauss-newton"))
    here, there = Drag(*begun, live=True), Drag(*begun, live=True)
    for target in ([12.0, 15.0], [12.0, 17.0]):
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


def test_nothing_that_changes_in_a_drag_is_left_out():
    """Whoever adds to a drag adds it to `DragState`, or it is made anew of what the drag was begun with."""
    generator = tiny_stylegan2(32)
    drag = Drag(generator, generator.sample(1, 0.7), HANDLES[:1], TARGETS[:1])
    made = {"generator", "config", "level", "dtype", "stop_distance", "near", "problem", "solver"}
    moving = {"targets", "live", "idle"}
    assert {name.lstrip("_") for name in vars(drag)} - made - {"moving"} | moving == {
        field.name for field in fields(DragState)
    }
