"""The script that asks a GPU everything, as far as it goes on a processor."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from benchmarks import gpu, timing
from benchmarks.gpu import Part
from draggan.errors import OpBuildError
from draggan.scenes.scene import renderer


def test_parts_run_side_by_side_and_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    waits = ("-c", "import time; print('begun', flush=True); time.sleep(60)")
    part = Part(name="some, of it", commands=(("-c", "print('fine')"), waits), seconds=50)
    assert gpu.run(part, tmp_path, 3) == "done; out of time"
    assert (tmp_path / "some-of-it-0.log").read_text() == "fine\n"
    assert (tmp_path / "some-of-it-1.log").read_text() == "begun\n"
    wrong = Part(name="wrong", commands=(("-c", "raise ValueError('no | way')"),), seconds=50)
    assert gpu.run(wrong, tmp_path, 30) == "failed, ValueError: no / way"


def test_every_part_leaves_its_line_and_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever ends early, the answers so far are there; and the training has what is left."""
    made = tmp_path / "step.md"

    def parts(device: str, out: Path, *, tests: float, measuring: float) -> list[Part]:
        assert (device, out, tests, measuring) == ("cpu", tmp_path, pytest.approx(24), pytest.approx(12))
        write = f"from pathlib import Path; Path({str(made)!r}).write_text('| 7 ms |')"
        return [
            Part(name="a step", commands=(("-c", write),), seconds=20, tables=(made,)),
            Part(name="breaks", commands=(("-c", "raise SystemExit(3)"),), seconds=20),
        ]

    seconds = []

    def training(device: str, out: Path, scene: str, time: float, *, tiny: bool) -> Part:
        seconds.append(time)
        assert tiny
        return Part(name=f"training of {scene}", commands=(("-c", "pass"),), seconds=20)

    monkeypatch.setattr(gpu, "parts", parts)
    monkeypatch.setattr(gpu, "training", training)
    command = ["--device", "cpu", "--minutes", "1", "--scenes", "cat", "car", "--out", str(tmp_path)]
    assert gpu.main(command) == 1
    text = (tmp_path / "report.md").read_text()
    assert "| a step | done |" in text
    assert "| breaks | failed, no word |" in text
    assert "| training of car | done |" in text
    assert "## a step: step\n\n| 7 ms |" in text
    # A third of what is left of a minute, for two; then for one.
    assert 5 < seconds[0] < 10
    assert 10 < seconds[1] < 20

    # What is known is not asked again; what broke is, and there is always something to train.
    made.write_text("| other |")
    assert gpu.main(command) == 1
    printed = capsys.readouterr().out
    assert "a step | done | 0 | before" in printed
    assert "breaks | failed, no word | 0 | before" not in printed
    assert len(seconds) == 4
    assert (tmp_path / "report.md").read_text().count("| 7 ms |") == 1


def test_it_trains_to_the_end_and_leaves_weights(tmp_path: Path) -> None:
    """The real thing, as small as it comes: a scene of 32 px for two seconds. The next run goes on from there."""
    try:
        renderer()  # built beforehand, as the benchmark does it
    except OpBuildError as error:
        pytest.skip(f"no renderer: {error}")
    command = ["--device", "cpu", "--minutes", "0.1", "--only", "training", "--scenes", "cat", "--out", str(tmp_path)]
    status = gpu.main(command)
    text = (tmp_path / "report.md").read_text()
    assert status == 0, text + (tmp_path / "training-of-cat-0.log").read_text()
    assert "| training of cat | done |" in text
    with safe_open(tmp_path / "cat.safetensors", "pt") as file:
        assert json.loads(file.metadata()["training"])["pictures_seen"] > 0
    ((_, script),) = gpu.training("cpu", tmp_path, "cat", 60, tiny=True).commands
    assert "'--resume'" in script
    (minutes,) = re.findall(r"'--minutes', '([0-9.]+)'", script)
    assert 1.01 < float(minutes) < 1.5


def test_all_tests_of_a_gpu_are_known() -> None:
    folder = Path(__file__).parent
    marked = [file.name for file in folder.rglob("test_*.py") if "pytest.mark." + "gpu" in file.read_text()]
    assert sorted(f"tests/{name}" for name in marked) == sorted(gpu.GPU_TESTS)


def test_what_is_asked_of_a_gpu(tmp_path: Path) -> None:
    asked = {part.name: part.commands for part in gpu.parts("cuda", tmp_path, tests=90, measuring=60)}
    builds = asked["operators and renderers are built"]
    assert len(builds) == 4, "side by side"
    assert any("load('cuda')" in code for _, code in builds)
    assert asked["tests"] == (("-m", "pytest", "-q", "-rs", "-m", "gpu", *gpu.GPU_TESTS),)
    assert all("--quick" not in command for commands in asked.values() for command in commands)
    (train,) = gpu.training("cuda", tmp_path, "face", 240, tiny=False).commands
    for word in ("draggan.scenes.train", "checkpoints/face.safetensors", "--settle", "'4.000'", "face.safetensors"):
        assert word in train[1]


def test_what_is_timed_is_steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before nothing was recorded in two runs."""
    made, runs = [0], [0]

    def run() -> None:
        runs[0] += 1
        made[0] += runs[0] in (3, 4)

    monkeypatch.setattr(timing, "graphs_made", lambda: made[0])
    assert timing.steady(run) == (2 if not torch.cuda.is_available() else 6)
    runs[0], made[0] = 1, 0
    assert timing.steady(run) == 5
    with pytest.raises(RuntimeError, match="after 9 runs"):
        timing.steady(lambda: made.__setitem__(0, made[0] + 1), most=9)
