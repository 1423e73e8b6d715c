"""The examples that the page offers, on the models that come with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from draggan import load_generator, suggested_config, suggested_truncation
from draggan.checkpoints import catalogue
from draggan.drag import Drag

MODELS = [entry for entry in catalogue.all_models() if entry.builtin]


@pytest.mark.parametrize("entry", MODELS, ids=[entry.name for entry in MODELS])
def test_an_example_arrives(entry):
    """What people see first; one may end otherwise on a processor that adds up in another order."""
    generator = load_generator(entry.name, device="cpu")
    ends = {}
    for example in entry.presets:
        ws = generator.sample(example.seed, suggested_truncation(entry.name))
        points = np.array(example.points, np.float32)
        *_, last = Drag(generator, ws, points[:, :2], points[:, 2:], config=suggested_config(entry.name))
        ends[example.title] = last.outcome
        assert torch.isfinite(last.ws).all()
    assert len(ends) >= 5
    assert len([end for end in ends.values() if end != "arrived"]) <= 1, ends
