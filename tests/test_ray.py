"""A cluster of this machine, where Ray is installed: the same pictures, and what dies is done again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from draggan.cli import main
from draggan.config import Cluster
from draggan.engine.ray import import_ray
from draggan.errors import ConfigError

ROOT = Path(__file__).parent.parent


def test_without_ray_a_sentence_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="pip install"):
        import_ray()
    source = tmp_path / "recipes.jsonl"
    source.write_text('{"model": "cat", "seed": 1}\n', encoding="utf-8")
    assert main(["batch", str(source), "--out", str(tmp_path / "out"), "--ray"]) == 1
    assert "needs Ray" in capsys.readouterr().err


def test_replicas_are_not_fewer_at_most_than_at_least():
    with pytest.raises(ConfigError, match="not possible together"):
        Cluster(least=3, most=2)
    assert Cluster(gpus=0.25).device == "cuda"


def test_drags_and_batches_by_a_cluster_are_those_of_this_process_although_processes_die(tmp_path):
    """In a process of its own: what Ray sends to other processes is not what these tests check types in."""
    pytest.importorskip("ray", reason="the package ray is not installed")
    out = tmp_path / "ray.md"
    command = [sys.executable, "-m", "benchmarks", "ray", "--quick", "--out", str(out)]
    # Of two pages one might have loaded compiled operators, which round otherwise, and one not yet.
    environment = os.environ | {"DRAGGAN_NATIVE_OPS": "0"}
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=900, env=environment)
    text = out.read_text(encoding="utf-8")
    assert text.count("| 2 of 2 |") == 4
    assert "the same picture to the last bit | True |" in text
    assert "| steps seen twice or missing | 0 |" in text
    assert "5 of 5 the same" in text
    assert "| done, failed, missing | 8, 0, 0 |" in text
    assert "| 8 of 8 |" in text
