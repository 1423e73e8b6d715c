"""The search on a line, on bumps whose places are known: it arrives where the content does, and always ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import evaluation
from benchmarks.line_search import HALF, LINE_SEARCH, TENTH, LineSearch, template_weight
from draggan.config import DragConfig
from draggan.evaluation.protocols import Case, Landmarks, Method
from draggan.evaluation.results import ResultFile, Row, measure
from tests.test_evaluation import bumps
from tests.toys import BumpGenerator

START = [(20.0, 24.0), (44.0, 40.0)]
TARGETS = [(26.0, 21.0), (40.0, 44.0)]
WS = torch.zeros(1, 8, 4)
# A bump moves 100 px per unit of the latent, so that is a quarter of a pixel a step.
CONFIG = DragConfig(step_size=2.5e-3, precision="float32")


def generator() -> BumpGenerator:
    return BumpGenerator(START).freeze()


def steps_of(targets=TARGETS, handles=START, mask=None, **settings):
    steps = list(LineSearch(generator(), WS, handles, targets, mask, replace(CONFIG, **settings)))
    assert [s.index for s in steps] == list(range(len(steps)))
    assert [s.done for s in steps] == [False] * (len(steps) - 1) + [True]
    return steps


def test_the_content_arrives_and_the_handles_stay_on_their_lines():
    steps = steps_of()
    last = steps[-1]
    assert last.outcome == "arrived"
    assert last.distances.max() <= 1
    assert np.linalg.norm(generator().centres(last.ws)[0].numpy() - np.array(TARGETS), axis=1).max() < 2
    assert 3 < len(steps) < 100
    for step in steps:
        for p, start, target in zip(step.handles, np.array(START), np.array(TARGETS), strict=True):
            along = target - start
            away = p - start
            assert abs(along[0] * away[1] - along[1] * away[0]) / np.linalg.norm(along) < 1e-3
            assert -1e-3 <= away @ along / (along @ along) <= 1 + 1e-3
    # Rows that are not free stay.
    assert torch.equal(last.ws[:, 6:], WS[:, 6:])
    assert not torch.equal(last.ws[:, :6], WS[:, :6])


def test_a_handle_at_its_target_has_arrived():
    (only,) = steps_of(targets=START)
    assert only.outcome == "arrived"
    assert torch.equal(only.ws, WS)


def test_contradictory_targets_end():
    steps = steps_of(handles=[START[0]] * 2, targets=[(36.0, 24.0), (4.0, 24.0)], stall_steps=20)
    assert steps[-1].outcome in ("stalled", "max_steps")
    assert steps[-1].distances.sum() <= steps[0].distances.sum()
    limited = steps_of(handles=[START[0]] * 2, targets=[(36.0, 24.0), (4.0, 24.0)], max_steps=7)
    assert (limited[-1].index, limited[-1].outcome) == (7, "max_steps")


def test_the_same_drag_is_the_same_drag():
    for one, two in zip(steps_of(max_steps=15), steps_of(max_steps=15), strict=True):
        assert torch.equal(one.ws, two.ws)
        np.testing.assert_array_equal(one.handles, two.handles)


def test_settings_have_their_effect():
    few = steps_of(free_rows=2)[-1]
    assert torch.equal(few.ws[:, 2:], WS[:, 2:])
    small, large = (steps_of(step_size=size, max_steps=1)[-1].ws.norm() for size in (1e-3, 4e-3))
    assert large > 3 * small > 0
    # A fixed region that the content lies in holds it back.
    mask = np.zeros((64, 64), bool)
    mask[:, 40:] = True
    one = {"handles": START[:1], "targets": TARGETS[:1], "max_steps": 15}
    held, free = (generator().centres(steps_of(mask=m, **one)[-1].ws)[0, 0].numpy() for m in (mask, None))
    assert np.linalg.norm(held - START[0]) < 0.8 * np.linalg.norm(free - START[0])


def test_other_targets_on_the_way():
    drag = LineSearch(generator(), WS, START[:1], [(30.0, 24.0)], config=CONFIG)
    for _ in range(4):
        next(drag)
    drag.retarget([(20.0, 30.0)])
    last = list(drag)[-1]
    assert last.outcome == "arrived"
    assert np.linalg.norm(generator().centres(last.ws)[0, 0].numpy() - np.array([20.0, 30.0])) < 2


def test_a_template_takes_on_less_of_what_came_out_worse():
    shares = torch.tensor([0.0, HALF, TENTH, 2.0])
    weights = template_weight(shares)
    assert weights[1:3].tolist() == pytest.approx([0.5, 0.1])
    assert (weights.diff() < 0).all()


# ------------------------------------------------------------------------------------------------ In the evaluation


def row(method: Method | None = None) -> Row:
    config = DragConfig(step_size=0.05, max_steps=3)
    return Row(bumps(), Landmarks(), config, "quick", *([] if method is None else [method]))


def test_cases_of_another_method_are_another_row(tmp_path):
    path = tmp_path / "results.json"
    measure([row()], 2, file=ResultFile(path))
    searched = row(LINE_SEARCH)
    file = ResultFile(path)
    assert file.load(searched) == 0
    measure([searched], 1, file=file)
    assert ResultFile(path).load(row()) == 2
    assert ResultFile(path).load(row(LINE_SEARCH)) == 1
    assert ResultFile(path).load(row(Method(key="line search 0", begin=LineSearch))) == 0
    # Rows of the package's own drag are written as they were before there were others.
    assert "method" not in row().identity
    assert row(LINE_SEARCH).over([]).method is LINE_SEARCH
    fresh = row(LINE_SEARCH).add(0)
    assert fresh.figures["landmarks"] == pytest.approx(searched.cases[0].figures["landmarks"])


def test_it_is_a_row_of_the_evaluation():
    choice = evaluation.ROWS["line search"]
    (made,) = evaluation.rows_of(bumps(), Landmarks(), {"line search": choice})
    assert made.method is LINE_SEARCH
    assert made.identity["method"] == LINE_SEARCH.key
    made.cases[0] = Case(seed=0, figures={"landmarks": 1.0})
    text = evaluation.document([("bumps", "landmarks-1", [made])], evaluation.machine.describe(), None)
    assert f"- line search: {LINE_SEARCH.key}" in text
