"""A cluster of this machine, where Ray is installed: the same pictures, and what dies is done again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from draggan.batch.jobs import Job
from draggan.batch.ray import RayWorkers
from draggan.batch.worker import Options
from draggan.cli import main
from draggan.config import Cluster, Limits
from draggan.engine.models import AnyModels
from draggan.engine.ray import RayEngine, import_ray
from draggan.errors import ConfigError, DragGANError

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


class Silence:
    """What stands for Ray, and for an answer of it that never comes."""

    class exceptions:
        RayError = type("RayError", (Exception,), {})
        RayTaskError = type("RayTaskError", (RayError,), {})

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.cancelled = 0

    def options(self, **_):
        return self

    def remote(self, *_, **__):
        return self

    def result(self, timeout_s: float):
        self.waited.append(timeout_s)
        raise TimeoutError("Timed out resolving to ObjectRef.")

    def cancel(self, *_, **__):
        self.cancelled += 1


def test_a_replica_that_never_answers_ends_in_a_sentence(monkeypatch):
    """After as long as a drag may take at all, and the model to be loaded."""
    ray = Silence()
    modules = {"ray.serve": None, "ray.serve.exceptions": SimpleNamespace(BackPressureError=BlockingIOError)}
    monkeypatch.setattr("draggan.engine.ray.connect", lambda address: ray)
    monkeypatch.setattr("draggan.engine.ray._deployed", lambda *_: ray)
    monkeypatch.setattr("draggan.engine.ray.importlib.import_module", modules.__getitem__)
    engine = RayEngine(AnyModels("cpu"), limits=Limits(seconds=100.0))
    try:
        with pytest.raises(DragGANError, match="no machine has answered for 700 s"):
            engine.begin("cat", seed=1)
    finally:
        engine.close()
    assert ray.waited == [pytest.approx(700.0, abs=60.0)]
    assert ray.cancelled == 1


def test_a_batch_ends_although_no_machine_ever_answers(monkeypatch):
    """Its jobs have failed, those that were never begun as well."""
    ray = Silence()
    references = iter("abc")
    ray.remote = lambda *_, **options: (lambda _: ray) if options else next(references)
    ray.cluster_resources = lambda: {"CPU": 0.25}
    ray.wait = lambda under_way, *, num_returns, timeout: ray.waited.append(timeout) or ([], under_way)
    monkeypatch.setattr("draggan.batch.ray.connect", lambda address: ray)
    monkeypatch.setattr("draggan.batch.ray._AHEAD", 2)
    monkeypatch.setattr(RayWorkers, "_parcel", lambda self, job: job)
    jobs = [Job(number=n, name=f"job-{n}", key="", path="recipes.jsonl") for n in range(3)]
    with RayWorkers(Options(folder="out")) as workers:
        rows = [row for _, row in workers.run(jobs)]
    assert sorted(row["number"] for row in rows) == [0, 1, 2]
    assert all("no machine of the cluster has answered for 49 h" in row["error"] for row in rows)
    assert ray.waited == [2 * 86400 + 3600]
    assert ray.cancelled == 2


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
