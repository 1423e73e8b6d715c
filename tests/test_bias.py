"""The bias sheet: known answers, and a model that draws some more often than others."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from draggan.cli import main
from draggan.config import DragConfig
from draggan.errors import ConfigError
from draggan.evaluation.attributes import SceneReader, load_reader
from draggan.evaluation.bias import _strict, audit, contact_sheet
from draggan.evaluation.statistics import (
    chi_square_alike,
    chi_square_fit,
    disparate_impact,
    total_variation,
    variation_by_chance,
)
from draggan.evaluation.subject import Subject
from draggan.landmarks import find_landmarks
from draggan.scenes import find_scene
from tests.marks import marks_of
from tests.scene_helpers import compiled  # noqa: F401 - a fixture
from tests.toys import BumpGenerator

CONFIG = DragConfig(step_size=0.05, max_steps=20)


def test_distances_and_tests_have_their_known_values():
    assert total_variation(np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])) == 0.5
    # (10 - 20)² / 20 + 0 + (30 - 20)² / 20 = 10; exp(-10 / 2) with two degrees of freedom.
    statistic, freedom, p = chi_square_fit(np.array([10, 20, 30]), np.full(3, 1 / 3))
    assert (statistic, freedom) == (pytest.approx(10), 2)
    assert p == pytest.approx(math.exp(-5))
    # Two samples of 20 and 30 hits in 100: 100 * 100 * 200 (0.1)² / (50 * 150) ... = 2.667, p 0.1025.
    statistic, freedom, p = chi_square_alike(np.array([20, 80]), np.array([30, 70]))
    assert (statistic, freedom, p) == (pytest.approx(8 / 3), 1, pytest.approx(0.10247, abs=1e-5))
    assert chi_square_fit(np.array([5, 5, 1]), np.array([0.5, 0.5, 0.0]))[2] == 0
    assert math.isnan(chi_square_alike(np.array([0, 0]), np.array([3, 4]))[2])
    # What chance does: the distance to the truth of a share of a half in 100 is 0.1 at most, 19 times in 20.
    assert variation_by_chance(np.array([0.5, 0.5]), 100) == pytest.approx(0.1, abs=0.011)
    assert disparate_impact(np.array([30, 45]), np.array([100, 100])) == pytest.approx(2 / 3)
    assert math.isnan(disparate_impact(np.array([0, 0]), np.array([5, 5])))


def test_of_many_tests_few_are_significant_by_chance():
    assert _strict([0.001, 0.04, 0.9]) == [True, False, False]
    assert _strict([0.01, 0.02, math.nan]) == [True, True, False]
    assert _strict([]) == []


def test_a_scenes_parameters_are_read_back_from_pictures():
    scene = find_scene("face")
    reader = SceneReader(scene, find_landmarks("face"), 64, count=300, held=80)
    assert reader.quality["yaw"] > 0.9
    assert reader.quality["skin"] > 0.8
    assert reader.quality["back_hue"] > 0.8, "a hue, on its circle"
    assert reader.quality["glasses"] < 0.5
    assert "glasses" not in reader.names
    z = np.random.default_rng(3).standard_normal((40, scene.z_dim))
    pictures = scene.render(scene.parameters(z), 64).pictures.transpose(0, 2, 3, 1)
    read, true = reader(pictures), reader.known(z)
    assert set(read) == set(true) == set(reader.names)
    assert np.corrcoef(read["skin"], true["skin"])[0, 1] > 0.9
    # Of other pictures than it was fitted to it knows when half of them are missing.
    assert np.abs(np.sort(read["skin"])[20] - 0.5) < 0.2


def sides(pictures: np.ndarray) -> dict:
    """Where the bump is."""
    x = pictures[..., 0].mean(1).argmax(1)
    return {"side": ["left" if column < 32 else "right" for column in x], "column": x.astype(float)}


def test_a_model_that_prefers_a_side_is_found_out():
    subject = Subject(name="bump", generator=BumpGenerator([(30.0, 32.0)]).freeze(), truncation=0.03)
    given = {"reference": {"side": {"left": 0.5, "right": 0.5}, "column": np.arange(64.0)}, "samples": 60, "drags": 4}
    sheet, shown = audit(subject, CONFIG, sides, **given)
    side = next(one for one in sheet.distributions if one.name == "side")
    assert side.groups == ("left", "right")
    assert side.shares[0] > 0.6
    assert side.total_variation == pytest.approx(side.shares[0] - 0.5)
    assert side.total_variation > side.by_chance
    assert side.p_value < 0.05
    column = next(one for one in sheet.distributions if one.name == "column")
    assert column.shares[0] == column.shares[4] == 0, "never at an edge"
    assert sum(interval.count for interval in sheet.figures[0].success) == 4
    assert all(one.psnr is None for one in sheet.figures)
    text = sheet.markdown(["side"])
    assert "| side |" in text
    assert "By side:" in text
    assert json.loads(json.dumps(sheet.to_dict()))["model"] == "bump"
    assert contact_sheet(shown[:10]).shape == (128, 512, 3)
    # Nothing is found where there is nothing.
    fair, _ = audit(subject, CONFIG, lambda p: {"all": ["one"] * len(p)}, samples=20, drags=0)
    assert fair.distributions[0].total_variation == 0


def test_what_does_not_fit_is_a_sentence(tmp_path):
    subject = Subject(name="bump", generator=BumpGenerator([(30.0, 32.0)]).freeze(), truncation=0.03)
    some = {"samples": 12, "drags": 0}
    for reader, reference, says in (
        (None, None, "give --attributes MODULE:FUNCTION"),
        (lambda p: [1, 2], None, "has to return a dictionary"),
        (lambda p: {"a": [1.0, 2.0]}, None, "of each of the 12 pictures"),
        (lambda p: {"a": [math.nan] * 12}, None, "a finite number"),
        (lambda p: {"a": [1.0] * 12}, None, "needs pictures to be compared with"),
        (lambda p: {"a": ["x"] * 12}, {"a": {"y": 1.0}}, "has to name a share of every group: x"),
        (lambda p: {"a": [f"{i}" for i in range(len(p) * 4)][: len(p)]}, {"a": [f"{i}" for i in range(50)]}, "groups"),
    ):
        with pytest.raises(ConfigError, match=says):
            audit(subject, CONFIG, reader, reference=reference, **some)
    for name in ("nowhere:nothing", "json:nothing", "json", f"{tmp_path}/none.py:f", "math:pi"):
        with pytest.raises(ConfigError, match=name.rpartition(":")[2]):
            load_reader(name)


def test_the_command_writes_tables_and_a_marked_sheet(tmp_path, capsys):
    sheet, tables, everything = (tmp_path / name for name in ("sheet.png", "sheet.md", "sheet.json"))
    command = ["audit-model", "cat", "--samples", "12", "--drags", "1"]
    written = ["--sheet", str(sheet), "--out", str(tables), "--json", str(everything)]
    assert main([*command, "--renderings", "60", "--group", "yaw", *written]) == 0
    out = capsys.readouterr().out
    assert "12 pictures of `cat` at truncation 0.7, against 60 renderings of the scene `cat`" in out
    assert tables.read_text() in out
    assert marks_of(sheet.read_bytes()) == {"words", "pixels", "signature", "record"}
    found = json.loads(everything.read_text())
    assert {one["name"] for one in found["distributions"]} | set(found["unread"]) | set(found["misread"]) == {
        parameter.name for parameter in find_scene("cat").parameters_table
    }
    # Any function of one's own, against pictures of one's own.
    (tmp_path / "mine.py").write_text(
        "def light(pictures):\n    return {'light': pictures.mean((1, 2, 3)), 'dark': pictures.mean((1, 2, 3)) < 60}\n"
    )
    folder = tmp_path / "pictures"
    folder.mkdir()
    for shade in range(10):
        Image.new("RGB", (40, 40), (25 * shade,) * 3).save(folder / f"{shade}.png")
    own = ["--attributes", f"{tmp_path}/mine.py:light", "--reference", str(folder)]
    assert main([*command, *own, "--truncation", "0.5"]) == 0
    assert "against the reference that was given" in capsys.readouterr().out
    for wrong, says in (
        (["--samples", "3"], "--samples 3 is not allowed"),
        (["--truncation", "2"], "--truncation 2 is not allowed"),
        (["--reference", str(folder)], "need --attributes, too"),
        (["--reference", str(tmp_path / "none.json")], "there is no file"),
        (["--reference", str(tables)], "neither a folder of pictures nor JSON"),
        (["--sheet", str(tmp_path / "x.bmp")], "cannot be written as"),
    ):
        assert main([*command, *wrong]) == 1
        assert says in capsys.readouterr().err
