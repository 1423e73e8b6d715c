"""The benchmark's reference is the same mathematics as the package, so that its seconds may be compared."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import capacity, live
from benchmarks.__main__ import main
from benchmarks.evaluation import nested
from benchmarks.examples import joined
from benchmarks.memory import peak
from benchmarks.models import network, start
from benchmarks.reference import ReferenceDrag, ReferenceSynthesis
from benchmarks.timing import race
from draggan.checkpoints.build import build_generator
from draggan.checkpoints.read import read_checkpoint
from draggan.config import DragConfig
from draggan.drag import Drag
from draggan.drag.solvers.adam import AdamEvaluation

TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden"


@pytest.mark.parametrize("name", ["stylegan2-32", "stylegan2-64-clamp"])
def test_the_reference_network_gives_the_golden_numbers(name):
    golden = np.load(GOLDEN / f"{name}.npz")
    reference = ReferenceSynthesis(build_generator(read_checkpoint(GOLDEN / f"{name}.pkl")))
    ws = torch.from_numpy(golden["out/ws"]).requires_grad_(True)
    image, features = reference(ws)
    torch.testing.assert_close(image, torch.from_numpy(golden["out/img"]), atol=1e-5, rtol=1e-4)
    for level, got in features.items():
        torch.testing.assert_close(got, torch.from_numpy(golden[f"out/feature/{level}"]), atol=1e-5, rtol=1e-4)
    cotangent = torch.from_numpy(golden["grad/cotangent"])
    (got,) = torch.autograd.grad((features[str(golden["grad/feature_name"])] * cotangent).sum(), ws)
    expected = torch.from_numpy(golden["grad/ws"])
    torch.testing.assert_close(got, expected, atol=1e-4 * expected.abs().max().item(), rtol=1e-3)


def gradients(layout: str, level: str, target: tuple[int, int], mask: np.ndarray | None) -> tuple[list, list]:
    """Loss and gradient of the first step by both procedures, on the same network, points and radii."""
    generator = network(layout)
    size = generator.image_size[0]
    ws, handle = start(generator), (size // 2, size // 2)
    # At 512 px the radii are 3 and 12; smaller pictures have floors here that the published code has not.
    r1, r2 = 2 * 512 / size, 4 * 512 / size
    config = DragConfig(step_size=1e-3, r1=r1, r2=r2, level=level, precision="float32", mask_hold="soft")
    ours = Drag(generator, ws, [handle], [target], mask, config)
    reference = ReferenceDrag(
        ReferenceSynthesis(generator),
        ws,
        np.array([handle]),
        np.array([target]),
        mask,
        level=level,
        r1=r1,
        r2=r2,
    )
    # The mask loss is zero in the first step, and so is its gradient: both look at the second.
    _, second = (next(ours) for _ in range(2))
    loss = [reference.step() for _ in range(2)][-1]
    assert second.handles[0].tolist() == reference.handles[0].tolist()
    here = ours._here
    assert isinstance(here, AdamEvaluation)
    return [second.loss, here.supervision.gradient(here.tracked.handles, ours._targets)], [
        loss,
        reference.ws.grad[:, :6],
    ]


@pytest.mark.parametrize("target", [(56, 32), (32, 8)])
def test_loss_and_gradient_are_those_of_the_published_procedure(target):
    """Along an axis, where it makes no difference whether one interpolates once or in the resized map again."""
    (loss, gradient), (expected_loss, expected) = gradients("64-tiny", "b16", target, None)
    # Rounding: features of some 5, sums over a few hundred terms, two steps.
    assert loss == pytest.approx(expected_loss, rel=1e-3)
    torch.testing.assert_close(gradient, expected, atol=2e-3 * expected.abs().max().item(), rtol=1e-2)


def test_the_mask_loss_is_that_of_the_published_procedure_where_the_map_has_the_size_of_the_picture():
    """On smaller maps ours is taken on the map itself, which is another average of the same differences."""
    mask = np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    (loss, gradient), (expected_loss, expected) = gradients("32-tiny", "b32", (28, 16), mask)
    assert loss == pytest.approx(expected_loss, rel=2e-3)
    torch.testing.assert_close(gradient, expected, atol=5e-3 * expected.abs().max().item(), rtol=2e-2)


def test_every_thing_in_a_race_runs_equally_often():
    count = {"a": 0, "b": 0}

    def run(name: str) -> None:
        count[name] += 1

    samples = race({n: lambda n=n: run(n) for n in count}, warmup=1, repeats=4)
    assert count == {"a": 5, "b": 5}
    assert all(len(s.seconds) == 4 and s.spread[0] <= s.median <= s.spread[1] for s in samples.values())


def test_the_command_runs_and_writes_a_table(tmp_path, capsys):
    out = tmp_path / "step.md"
    # Every test has a cache of its own, so operators would be built first.
    arguments = ["step", "--quick", "--no-native", "--sizes", "32-tiny", "--handles", "1", "--precisions", "float32"]
    assert main([*arguments, "--repeats", "3", "--out", str(out)]) == 0
    assert "| 32-tiny | b32 | 1 | estimated |" in out.read_text()
    assert "times faster" in capsys.readouterr().out


def test_an_unknown_benchmark_is_refused(capsys):
    assert main(["nonsense"]) == 2
    assert "roofline" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux")
def test_a_process_that_drags_reports_its_peak(monkeypatch):
    monkeypatch.setenv("DRAGGAN_NATIVE_OPS", "0")
    found = peak("32-tiny", 1, "none", "float32", steps=1)
    assert 50 < found["before"] <= found["peak"] < 2000


def test_how_far_a_picture_is_behind_the_pointer():
    times = np.arange(0.0, 2001.0, 20.0)
    pointer = np.stack([times, 10 + times / 100, 50 - times / 200], 1)
    # Content that is where the pointer was 150 ms before, and off its way by a pixel.
    shown = np.arange(400.0, 2000.0, 100.0)
    pictures = np.stack([shown, 10 + (shown - 150) / 100 + 0.447, 50 - (shown - 150) / 200 + 0.894], 1)
    assert np.abs(live.behind(pointer, pictures) - 150).max() < 3
    # A pointer that rests is not late for its rest.
    resting = np.vstack([pointer, [[3000.0, *pointer[-1, 1:]]]])
    assert live.behind(resting, np.array([[2900.0, *pointer[-1, 1:]]]))[0] < 3


def test_examples_stand_beside_and_below_each_other():
    pairs = [np.full((2, 5, 3), i, np.uint8) for i in range(4)]
    sheet = joined(pairs, columns=3, gap=1)
    assert sheet.shape == (5, 17, 3)
    assert [int(sheet[0, x, 0]) for x in (0, 5, 6, 12)] == [0, 255, 1, 2]
    assert int(sheet[3, 0, 0]) == 3
    assert int(sheet[2, 0, 0]) == int(sheet[3, 6, 0]) == 255


def test_a_table_of_few_cases_does_not_cost_the_others_theirs():
    counts = {"adam": 100, "larger": 20, "newton": 100, "none": 0}
    rows = [SimpleNamespace(name=name, measured=count) for name, count in counts.items()]
    groups = [[row.name for row in some] for some in nested(rows)]
    assert groups == [["adam", "newton"], ["adam", "larger", "newton"]]


def test_alone_a_visitor_waits_for_nobody_and_many_need_more_machines():
    few, many = (capacity.Visits(day=day, pulls=0.0, drags=1.0) for day in (50, 20_000))
    alone = capacity.simulated(capacity.CPU, few, 1, 600.0, 0)
    assert alone.drag == pytest.approx(capacity.CPU.drag, abs=0.06)
    assert alone.enough
    crowded = capacity.simulated(capacity.CPU, many, 1, 60.0, 0)
    assert not crowded.enough
    count, seen = capacity.needed(capacity.CPU, many, 60.0, 0)
    assert count > 1
    assert seen.enough
    assert seen.busy < 1


def test_every_case_that_people_have_reported_has_the_test_that_its_row_names():
    text = (TESTS.parent / "benchmarks" / "cases.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/.]*test_[\w.]+)`", text)
    source = "".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    assert len(named) > 18
    for name in named:
        assert (TESTS.parent / name).is_file() if name.endswith(".py") else f"def {name}(" in source, name
