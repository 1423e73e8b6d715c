"""Data sets: the layout that others read, and that what is said to be true is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from draggan.cli import main
from draggan.datasets.folder import Pairs
from draggan.datasets.scene_pairs import APPEARANCE, _moved
from draggan.errors import ConfigError
from draggan.scenes import SCENES
from tests.marks import marks_of
from tests.scene_helpers import compiled  # noqa: F401 - a fixture
from tests.test_batch import model, short, written  # noqa: F401 - a fixture

DOCUMENT = Path(__file__).parent.parent / "docs" / "datasets.md"
SIZE, COUNT = 48, 20


@pytest.fixture(scope="module")
def cats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "cats"
    assert main(made(folder)) == 0
    return folder


def made(folder, *more):
    options = ["--scene", "cat", "--count", str(COUNT), "--size", str(SIZE), "--points", "8"]
    return ["dataset", "scenes", *options, "--out", str(folder), *more]


def rows_in(folder, split="train"):
    return [json.loads(line) for line in (folder / split / "metadata.jsonl").read_text().splitlines()]


def test_the_layout_is_that_of_an_imagefolder(cats):
    """Pictures beside the metadata, named by columns that end in ``file_name``; nothing else is in a split's folder."""
    rows = rows_in(cats)
    assert len(rows) == COUNT
    named = [row[key] for row in rows for key in row if key.endswith("file_name")]
    assert len(set(named)) == 2 * COUNT
    assert {path.name for path in (cats / "train").iterdir()} == {*named, "metadata.jsonl"}
    assert len({tuple(row) for row in rows}) == 1, "every line has the same columns"
    assert all((cats / row["truth"]).is_file() for row in rows)
    assert 'configs:\n- config_name: default\n  data_files: [{split: train, path: "train/*"}]' in (
        cats / "README.md"
    ).read_text(encoding="utf-8")
    with Image.open(cats / "train" / named[0]) as picture:
        assert picture.size == (SIZE, SIZE)
    # What a program has drawn is not marked as if a network had.
    assert marks_of((cats / "train" / named[0]).read_bytes()) == {"not AI", "signature", "record"}


def test_points_and_landmarks_are_where_the_flow_and_the_segments_say(cats):
    for row in rows_in(cats)[:6]:
        truth = np.load(cats / row["truth"])
        assert truth["points"].shape[1] == 4
        for x, y, u, v in truth["points"]:
            assert truth["flow_known"][int(y), int(x)]
            np.testing.assert_allclose(truth["flow"][int(y), int(x)], [u - x, v - y], atol=1e-3)
            assert 0 <= u <= SIZE - 1
            assert 0 <= v <= SIZE - 1
        nose = row["landmarks"].index("nose")
        (x, y), (u, v) = truth["landmarks_before"][nose], truth["landmarks_after"][nose]
        assert row["landmarks_before"][nose][:2] == pytest.approx([x, y], abs=1e-3)
        column, line = round(float(x)), round(float(y))
        if truth["visible_before"][nose] and truth["visible_after"][nose]:
            np.testing.assert_allclose(truth["flow"][line, column], [u - x, v - y], atol=1.5)


def test_only_pose_and_shape_move():
    for scene in SCENES.values():
        names = [p.name for p in scene.parameters_table]
        still = [name in APPEARANCE for name in names]
        assert 0 < sum(still) < len(names) / 1.5
        for k in range(20):
            before, after = _moved(scene, np.random.default_rng(k), 0.3)
            assert np.array_equal(before[still], after[still])
            assert not np.array_equal(before, after)


def test_a_command_that_is_given_again_goes_on(cats, tmp_path):
    folder = tmp_path / "cats"
    assert main(made(folder)) == 0
    assert rows_in(folder) == rows_in(cats), "the same seed, the same pairs"
    times = {path.name: path.stat().st_mtime_ns for path in folder.glob("train/*.png")}
    (folder / "truth" / "train" / "000003.npz").unlink()
    (folder / "train" / "metadata.jsonl").unlink()
    assert main(made(folder, "--split", "validation", "--seed", "1", "--count", "2")) == 0
    assert main(made(folder)) == 0
    assert rows_in(folder) == rows_in(cats)
    changed = {p.name for p in folder.glob("train/*.png") if p.stat().st_mtime_ns != times[p.name]}
    assert changed == {"000003-before.png", "000003-after.png"}
    assert '{split: train, path: "train/*"}, {split: validation' in (folder / "README.md").read_text(encoding="utf-8")
    assert len(Pairs(folder, "validation")) == 2


def test_a_data_loader_reads_it(cats):
    (batch,) = DataLoader(Pairs(cats, arrays=["flow", "segments_after"]), batch_size=COUNT)
    assert batch["before"].shape == batch["after"].shape == (COUNT, 3, SIZE, SIZE)
    assert batch["flow"].shape == (COUNT, SIZE, SIZE, 2)
    assert batch["segments_after"].dtype == torch.uint8
    assert batch["before"].min() >= -1
    with pytest.raises(ConfigError, match="cannot read"):
        Pairs(cats, "test")
    with pytest.raises(ConfigError, match="cannot be called"):
        Pairs(cats, "../train")


def test_the_example_learns(cats, monkeypatch):
    """The lines of the document, as they are."""
    example = re.search(r"```python\n(import torch\n.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    lines = [line for line in example[1].splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) == 10
    monkeypatch.chdir(cats.parent)
    torch.manual_seed(0)
    names: dict = {}
    exec(example[1], names)
    (everything,) = DataLoader(names["pairs"], batch_size=COUNT)
    known, flow = everything["flow_known"][:, 4::8, 4::8], everything["flow"][:, 4::8, 4::8]
    with torch.no_grad():
        found = names["network"](torch.cat([everything["before"], everything["after"]], 1)).permute(0, 2, 3, 1)
    assert (found - flow)[known].square().mean() < 0.5 * flow[known].square().mean()


def test_drags_of_a_batch(model, tmp_path):  # noqa: F811 - a fixture
    lines = [short(model, seed) for seed in (1, 2)] + ["{", json.dumps({"model": model, "seed": 3})]
    source = written(tmp_path, lines)
    assert main(["batch", str(source), "--out", str(tmp_path / "out"), "--jobs", "1", "--before"]) == 1
    assert main(["dataset", "drags", str(tmp_path / "out"), "--out", str(tmp_path / "set")]) == 0
    pairs = Pairs(tmp_path / "set")
    assert len(pairs) == 2, "what was not dragged is no pair"
    item = pairs[0]
    assert item["before"].shape == (3, 32, 32)
    assert item["points"].shape == (1, 4)
    assert item["points"][0, :2].tolist() == [10, 12]
    assert item["targets"].tolist() == [[14, 12]]
    assert item["latent_after"].shape == item["latent_before"].shape
    first = (tmp_path / "out" / "000001.png").read_bytes()
    assert (tmp_path / "set" / "train" / "000000-after.png").read_bytes() == first, "with all that it says of itself"
    assert marks_of(first) >= {"words", "signature", "record"}
    assert main(["dataset", "drags", str(tmp_path), "--out", str(tmp_path / "set")]) == 1


@pytest.mark.parametrize(
    "wrong", [("--scene", "dog"), ("--count", "0"), ("--size", "4"), ("--motion", "7"), ("--split", "Train/..")]
)
def test_what_cannot_be_is_refused(tmp_path, capsys, wrong):
    assert main(made(tmp_path / "x", *wrong)) == 1
    assert capsys.readouterr().err.startswith("draggan: ")
    assert not (tmp_path / "x").exists()
