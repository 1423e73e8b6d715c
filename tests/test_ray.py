"""A cluster of this machine, where Ray is installed: the same pictures, and what dies is done again."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from draggan.batch.jobs import read_jobs
from draggan.batch.run import run_batch
from draggan.batch.worker import Options
from draggan.cli import main
from draggan.config import Cluster
from draggan.engine.local import LocalEngine
from draggan.engine.models import AnyModels
from draggan.engine.ray import RayEngine, import_ray
from draggan.errors import ConfigError, PointError
from draggan.recipe import Edit, read_points
from tests.model_files import write_tiny_stylegan2

ROOT = Path(__file__).parent.parent


def test_without_ray_a_sentence_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    pytest.importorskip("ray", reason="the package ray is not installed")
    os.environ["PYTHONPATH"] = str(ROOT)
    ray = import_ray()
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def engines(cluster, tmp_path_factory):
    path = write_tiny_stylegan2(tmp_path_factory.mktemp("models"))
    models = AnyModels("cpu")
    return path, LocalEngine(models), RayEngine(models, Cluster(cpus=0.5))


def processes(word: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::") and word.encode() in title:
            found.append(int(path.parent.name))
    return found


@pytest.mark.filterwarnings("ignore")
def test_a_drag_by_replicas_is_that_of_this_process_although_one_dies(engines):
    path, local, remote = engines
    recipe = local.begin(path, seed=3)
    assert np.array_equal(remote.begin(path, seed=3).latent, recipe.latent)
    edit = Edit(points=read_points([[10, 12, 14, 12]], recipe.image_size), settings={"max_steps": 40})
    whole = local.drag(recipe, edit)
    whole.result()
    running = remote.drag(recipe, edit)
    killed = False
    for update in running:
        assert running.preview(update, 16).shape == (16, 16, 3)
        if update.index > 3 and not killed:
            killed = True
            os.kill(processes("ServeReplica")[0], signal.SIGKILL)
    assert killed
    reached = running.reached()
    assert np.array_equal(reached.latent, whole.reached().latent)
    assert np.array_equal(remote.picture(reached), local.picture(reached))
    with pytest.raises(PointError):
        remote.drag(recipe, Edit(points=()))


@pytest.mark.filterwarnings("ignore")
def test_a_pull_by_replicas_follows_and_rests(engines):
    path, _, remote = engines
    recipe = remote.begin(path, seed=3)
    running = remote.live(recipe, Edit(points=read_points([[10, 12, 10, 12]], recipe.image_size)))
    running.retarget([[12, 12]])
    deadline = time.monotonic() + 60
    while (update := running.newer(None, 0.1)) is None or update.rests is None:
        assert time.monotonic() < deadline
    assert update.targets.tolist() == [[12, 12]]
    running.settle()
    assert running.result().done


@pytest.mark.filterwarnings("ignore")
def test_a_batch_by_the_cluster_misses_nothing_although_a_process_dies(cluster, engines, tmp_path):
    path = engines[0]
    source = tmp_path / "recipes.jsonl"
    edit = {"points": [[10, 12, 14, 12]], "settings": {"max_steps": 2}}
    lines = [json.dumps({"model": path, "seed": seed, **edit}) for seed in range(6)] + ["{no json"]
    source.write_text("\n".join(lines), encoding="utf-8")
    killed: list[int] = []

    def kill_one(done: int, failed: int, total: int) -> None:
        if done == 2 and not killed:
            killed.extend(processes("draggan.batch")[:1])
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    options = Options(folder=str(tmp_path / "out"), device="cpu")
    jobs = read_jobs(source, options.key)
    summary = run_batch(jobs, options, processes=1, cluster="auto", progress=kill_one)
    assert (summary.done, summary.failed, summary.left) == (6, 1, 0)
    assert len(list((tmp_path / "out").glob("*.png"))) == 6
    again = run_batch(jobs, options, processes=1, cluster="auto")
    assert again.known == 6
