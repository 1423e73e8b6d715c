"""The script that asks a GPU everything, as far as it goes on a processor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import gpu, timing
from benchmarks.gpu import Part


def test_parts_run_side_by_side_and_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    waits = ("-c", "import time; print('begun', flush=True); time.sleep(60)")
    part = Part(name="some, of it", commands=(("-c", "print('fine')"), waits), seconds=50)
    assert gpu.run(part, tmp_path, 3) == "done; out of time"
    assert (tmp_path / "some-of-it-0.log").read_text() == "fine\n"
    assert (tmp_path / "some-of-it-1.log").read_text() == "begun\n"
    wrong = Part(name="wrong", commands=(("-c", "raise ValueError('no | way')"),), seconds=50)
    assert gpu.run(wrong, tmp_path, 30) == "failed, ValueError: no / way"


def test_every_part_leaves_its_line_and_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends early, the answers so far are there; and the training has what is left."""
    made = tmp_path / "step.md"

    def parts(device: str, out: Path, *, tests: float, measuring: float) -> list[Part]:
        assert (device, out, tests, measuring) == ("cpu", tmp_path, pytest.approx(12), pytest.approx(7.2))
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
    assert gpu.main(["--quick", "--scenes", "cat", "car", "--out", str(tmp_path)]) == 1
    text = (tmp_path / "report.md").read_text()
    assert "| a step | done |" in text
    assert "| breaks | failed, no word |" in text
    assert "| training of car | done |" in text
    assert "## a step: step\n\n| 7 ms |" in text
    # Half of what is left of a minute, for two; then for one.
    assert 8 < seconds[0] < 15
    assert 16 < seconds[1] < 30


def test_what_is_asked_of_a_gpu(tmp_path: Path) -> None:
    asked = {part.name: part.commands for part in gpu.parts("cuda", tmp_path, tests=90, measuring=60)}
    builds = asked["operators and renderers are built"]
    assert len(builds) == 4, "side by side"
    assert any("load('cuda')" in code for _, code in builds)
    assert ("-m", "pytest", "-q", "-m", "gpu") in asked["tests"]
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
