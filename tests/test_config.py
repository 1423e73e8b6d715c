import dataclasses

import numpy as np
import pytest

from draggan.config import DragConfig, GaussNewtonRules, at_size, describe
from draggan.errors import ConfigError


def test_every_setting_names_source_and_help():
    for field in dataclasses.fields(DragConfig):
        facts = describe(DragConfig, field.name)
        assert facts["source"]
        assert facts["help"]


def test_defaults_are_valid_and_frozen():
    config = DragConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.max_steps = 3


@pytest.mark.parametrize(
    "bad",
    [
        {"max_steps": 0},
        {"max_steps": 2.5},
        {"max_steps": True},
        {"r1": float("nan")},
        {"step_size": -1},
        {"step_size": "fast"},
        {"space": "z"},
        {"precision": "half"},
        {"free_rows": 0},
        {"stop_distance": float("inf")},
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(bad):
    (name,) = bad
    with pytest.raises(ConfigError, match=rf"{name}.*(give|choose)"):
        DragConfig(**bad)


@pytest.mark.parametrize("name", ["gauss-newton", "newton", "gauss_newton"])
def test_names_that_the_solver_had_before_stand_for_it(name):
    assert DragConfig(solver=name) == DragConfig(solver="gauss-newton")
    assert DragConfig(solver=name).solver == "gauss-newton"


def test_an_unknown_solver_is_named_with_those_there_are():
    with pytest.raises(ConfigError, match="'sgd' is not allowed; choose 'adam' or 'gauss-newton'"):
        DragConfig(solver="sgd")


def test_every_rule_of_gauss_newton_says_what_it_means():
    for field in dataclasses.fields(GaussNewtonRules):
        facts = describe(GaussNewtonRules, field.name)
        assert facts["unit"]
        assert facts["source"]
        assert facts["help"]


def test_numpy_numbers_are_numbers():
    assert DragConfig(max_steps=np.int64(5), r1=np.float32(2)).max_steps == 5


def test_lengths_scale_with_the_longer_side():
    assert at_size(3, (1024, 512)) == 6
    assert at_size(12, (128, 128)) == 3


def test_an_unknown_setting_is_an_error():
    with pytest.raises(KeyError):
        describe(DragConfig, "nonsense")
