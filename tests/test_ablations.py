"""Other ways to a step, on a bump whose place is known: each really drags, by its own rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.ablations import FIXED_STEPS, PRECONDITIONED_ADAM
from benchmarks.truth import CONFIGURATIONS, METHODS
from draggan.config import DragConfig
from tests.toys import BumpGenerator

START = (20.0, 24.0)
WS = torch.zeros(1, 8, 4)


def steps_of(method, target, **settings):
    generator = BumpGenerator([START]).freeze()
    config = DragConfig(tracker="continuity", step_size=2.5e-3, precision="float32", **settings)
    handles, targets = np.array([START], np.float32), np.array([target], np.float32)
    return generator, list(method.begin(generator, WS, handles, targets, None, config))


@pytest.mark.parametrize(("method", "solver"), [(FIXED_STEPS, "gauss-newton"), (PRECONDITIONED_ADAM, "adam")])
def test_the_content_arrives(method, solver):
    generator, steps = steps_of(method, (30.0, 30.0), solver=solver)
    assert steps[-1].outcome == "arrived"
    assert np.linalg.norm(generator.centres(steps[-1].ws)[0, 0].numpy() - (30, 30)) < 1.6
    assert len(steps) > 4


def test_fixed_steps_are_all_alike_until_the_target_is_near():
    generator, steps = steps_of(FIXED_STEPS, (30.0, 24.0), solver="gauss-newton")
    x = np.array([generator.centres(step.ws)[0, 0, 0].item() for step in steps])
    lengths = np.diff(x)[: len(x) - 3]
    assert lengths.min() > 0.4
    assert np.ptp(lengths) < 0.15


def test_every_configuration_of_the_benchmark_is_one_of_a_drag():
    assert set(METHODS) < set(CONFIGURATIONS)
    for settings in CONFIGURATIONS.values():
        DragConfig(**settings)  # which refuses what no drag could have
