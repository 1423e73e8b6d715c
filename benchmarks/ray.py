"""An engine and batches on a Ray cluster of two nodes on this machine, one core each (the extra ``ray``).

* Drags by turns by the local engine on one thread and by replicas, and whether their pictures are the same: one handle,
  a mask, many handles, the published optimiser; seconds a drag and a step.
* A drag in which the replica that takes its steps is killed, twice; a batch in which a process is killed at its task.
* Four drags at once with one replica and with two, and by the local engine on two threads.
* The page with ``--engine ray``: drags over HTTP and pulls over ``/v1/live`` beside a page that computes itself.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import machine, service
from benchmarks.timing import publish, table
from draggan.batch.jobs import read_jobs
from draggan.batch.run import run_batch
from draggan.batch.worker import Options
from draggan.config import Cluster
from draggan.engine.base import Engine, Update
from draggan.engine.local import LocalEngine
from draggan.engine.models import AnyModels
from draggan.engine.ray import RayEngine, import_ray
from draggan.export import read_recipe
from draggan.recipe import Edit, Mask, Recipe, read_points
from torch_utils.ops import library

__all__ = ["main"]

ROOT = Path(__file__).parent.parent
_SHARE = 0.5  # of a core, as Ray counts them
_POINTS = {
    "one handle": [[156, 156, 128, 156]],
    "one handle, mask": [[156, 156, 140, 156]],
    "five handles": [
        [156, 156, 140, 156],
        [100, 120, 92, 124],
        [180, 120, 172, 124],
        [120, 190, 112, 190],
        [170, 190, 160, 190],
    ],
    "one handle, adam": [[156, 156, 140, 156]],
}


def main(argv: Sequence[str] = ()) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ray", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few drags, short pulls")
    parser.add_argument("--seeds", type=int, default=6, help="drags of every kind (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=24, help="recipes of the batch (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of every pull (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7996)
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    args = parser.parse_args(argv)
    if args.quick:
        args.seeds, args.batch, args.seconds = 2, 8, 5.0
    here = machine.describe()
    torch.set_num_threads(1)
    # As the page and replicas do it beside their work.
    library.load_all()
    models = AnyModels("cpu")
    with _two_nodes() as address:
        local = LocalEngine(models, workers=1)
        # Half a core each, so that one replica and two fit side by side; one of them works at a time.
        one, two = (RayEngine(models, Cluster(address=address, least=n, most=n, cpus=_SHARE)) for n in (1, 2))
        parts = [
            _compared(local, one, args.seeds),
            _throughput({"this process, one thread": local, "one replica": one, "two replicas": two}, args.seeds),
            _killed_drag(local, two),
            _pages(address, args.port, args.seconds),
        ]
        importlib.import_module("ray.serve").shutdown()
        parts.append(_killed_batch(address, args.batch))
    head = f"{here.markdown()}\n\nRay {import_ray().__version__}; two nodes on this machine, one core for each replica."
    publish("\n\n".join([head, *parts]), args.out)
    return 0


@contextmanager
def _two_nodes() -> Iterator[str]:
    """A cluster of two nodes of a core each on this machine; its address."""
    # Processes of the cluster find this program where it is not installed.
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    ray = import_ray()
    clusters = importlib.import_module("ray.cluster_utils")
    memory = {"object_store_memory": 200 << 20}
    cluster = clusters.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **memory}
    )
    try:
        cluster.add_node(num_cpus=1, **memory)
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


def _edit(kind: str, recipe: Recipe) -> Edit:
    mask = None
    if "mask" in kind:
        allowed = np.zeros(recipe.image_size, bool)
        allowed[40:110, 30:120] = True
        mask = Mask(allowed=allowed)
    settings = {"solver": "adam", "max_steps": 40} if "adam" in kind else {}
    return Edit(points=read_points(_POINTS[kind], recipe.image_size), mask=mask, settings=settings)


def _dragged(engine: Engine, recipe: Recipe, edit: Edit) -> tuple[float, Update, Recipe]:
    begun = time.perf_counter()
    running = engine.drag(recipe, edit)
    update = running.result()
    seconds = time.perf_counter() - begun
    assert update is not None
    return seconds, update, running.reached()


def _same_latent(one: Recipe, other: Recipe) -> bool:
    """Whether both have been computed, and to the same last bit."""
    return one.latent is not None and other.latent is not None and np.array_equal(one.latent, other.latent)


def _compared(local: Engine, one: Engine, seeds: int) -> str:
    rows: list[list[object]] = []
    for kind in _POINTS:
        seconds: dict[str, list[float]] = {"here": [], "there": []}
        steps, same = 0, 0
        for seed in range(-1, seeds):
            recipe = local.begin("cat", seed=max(seed, 0))
            edit = _edit(kind, recipe)
            took, update, reached = _dragged(local, recipe, edit)
            took_there, update_there, reached_there = _dragged(one, recipe, edit)
            if seed < 0:
                continue  # what the first of a kind prepares
            seconds["here"].append(took)
            seconds["there"].append(took_there)
            steps += update.index
            same += (
                _same_latent(reached, reached_there)
                and np.array_equal(local.picture(reached), one.picture(reached_there))
                and update.outcome == update_there.outcome
            )
        here, there = (statistics.median(values) for values in seconds.values())
        more = 1e3 * (sum(seconds["there"]) - sum(seconds["here"])) / max(steps, 1)
        rows.append(
            [
                kind,
                f"{steps / seeds:.1f}",
                f"{here:.3f}",
                f"{there:.3f}",
                f"{there / here:.2f}",
                f"{more:.0f}",
                f"{same} of {seeds}",
            ]
        )
        print(rows[-1], flush=True)
    columns = [
        *("drag of the cat", "steps", "this process, s", "one replica, s", "ratio", "ms more a step"),
        "picture, latent and outcome the same to the last bit",
    ]
    return f"By turns, one thread each, {seeds} seeds; medians of whole drags.\n\n{table(columns, rows)}"


def _throughput(engines: Mapping[str, Engine], rounds: int) -> str:
    """Steps a second of four visitors' drags at once."""
    rates: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(-1, max(rounds // 2, 1)):
        for name, engine in engines.items():
            recipes = [engine.begin("cat", seed=max(number, 0) * 4 + k) for k in range(4)]
            edits = [_edit("one handle, adam", recipe) for recipe in recipes]
            begun = time.perf_counter()
            running = [engine.drag(r, e, visitor=str(k)) for k, (r, e) in enumerate(zip(recipes, edits, strict=True))]
            updates = [one.result() for one in running]
            if number >= 0:
                steps = sum(update.index for update in updates if update is not None)
                rates[name].append(steps / (time.perf_counter() - begun))
        print({name: values[-1:] for name, values in rates.items()}, flush=True)
    base = statistics.median(next(iter(rates.values())))
    rows: list[list[object]] = [
        [name, f"{statistics.median(values):.1f}", f"{statistics.median(values) / base:.2f}"]
        for name, values in rates.items()
    ]
    return f"Four drags by Adam at once, by turns.\n\n{table(['computed by', 'steps a second', 'ratio'], rows)}"


def _processes(word: str) -> list[int]:
    """Of Ray's, those whose title has this word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_bytes().split(b"\0")[0].decode(errors="replace")
        except OSError:
            continue
        if title.startswith("ray::") and word in title:
            found.append(int(path.parent.name))
    return found


def _processor_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _busiest(word: str) -> int:
    """The one of them that computes."""
    before = {pid: _processor_seconds(pid) for pid in _processes(word)}
    time.sleep(0.2)
    return max(before, key=lambda pid: _processor_seconds(pid) - before[pid])


def _killed_drag(local: Engine, two: Engine) -> str:
    """A drag in which the replica that takes the steps is killed, and then the one that goes on."""
    recipe = local.begin("cat", seed=5)
    edit = replace(
        _edit("one handle, adam", recipe), settings={"solver": "adam", "max_steps": 80, "stop_distance": 0.5}
    )
    _, whole, reached = _dragged(local, recipe, edit)
    running = two.drag(recipe, edit)
    seen: list[tuple[float, int]] = []
    killed: list[int] = []
    for update in running:
        seen.append((time.perf_counter(), update.index))
        if update.index >= (4, 16, 10**9)[len(killed)]:
            pid = _busiest("ServeReplica")
            os.kill(pid, signal.SIGKILL)
            killed.append(update.index)
    last = running.result()
    assert last is not None
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(seen)]
    after = running.reached()
    rows: list[list[object]] = [
        ["killed at steps", ", ".join(map(str, killed))],
        ["steps and outcome", f"{last.index}, {last.outcome}; undisturbed {whole.index}, {whole.outcome}"],
        ["steps seen twice or missing", len([1 for _, k in seen]) - len({k for _, k in seen})],
        ["the same picture to the last bit", _same_latent(reached, after)],
        ["between two updates, median and longest", f"{statistics.median(gaps):.3f} s, {max(gaps):.2f} s"],
    ]
    print(rows, flush=True)
    return table(["a drag whose replica is killed twice", ""], rows)


def _killed_batch(address: str, count: int) -> str:
    """A batch by the cluster, of which a process is killed at its task; the same by this machine alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "recipes.jsonl"
        lines = [{"model": "cat", "seed": k, "points": [[156, 156, 128, 156]]} for k in range(count)]
        source.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        made: dict[str, Any] = {}
        killed: list[int] = []
        for way, cluster in (("local", None), ("ray", address)):
            options = Options(folder=str(folder / way), device="cpu", threads=1)

            def kill_one(done: int, failed: int, total: int) -> None:
                if cluster is not None and done >= total // 3 and not killed:  # noqa: B023
                    pid = _busiest("draggan.batch")
                    os.kill(pid, signal.SIGKILL)
                    killed.append(done)

            made[way] = run_batch(
                read_jobs(source, options.key), options, processes=2, cluster=cluster, progress=kill_one
            )
        same = sum(
            _same_latent(read_recipe(path), read_recipe(folder / "ray" / path.name))
            for path in (folder / "local").glob("*.png")
        )
        noted = (folder / "ray" / "journal.jsonl").read_text(encoding="utf-8").splitlines()
        names = [json.loads(line)["name"] for line in noted]
    rows: list[list[object]] = [
        ["recipes", count],
        ["a process killed at its task after", f"{killed[0]} were done"],
        ["done, failed, missing", f"{made['ray'].done}, {made['ray'].failed}, {count - len(set(names))}"],
        ["done twice", len(names) - len(set(names))],
        ["latents the same as by two processes of `draggan batch`", f"{same} of {count}"],
        [
            "seconds, start of the workers included",
            f"{made['ray'].seconds:.1f}; two processes {made['local'].seconds:.1f}",
        ],
    ]
    return table(["a batch by the cluster", ""], rows)


def _pages(address: str, port: int, seconds: float) -> str:
    """Two pages, one after the other: drags over HTTP, and a pull."""
    rows: list[list[object]] = []
    latents: dict[str, Any] = {}
    for name, options in {
        "this process, two threads": [],
        "two replicas": ["--engine", f"ray:{address}", "--replicas", "2", "--replica-cpus", str(_SHARE)],
    }.items():
        command = [sys.executable, "app.py", "--port", str(port), *options]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as page:
            try:
                asyncio.run(service.until_up(port))
                took = []
                for seed in (0, 0, 1, 2, 3):
                    begun = time.perf_counter()
                    latents.setdefault(name, []).append(_asked(port, seed))
                    took.append(time.perf_counter() - begun)
                asyncio.run(service.clients(port, 1, 2.0))
                before = _processor_seconds(page.pid)
                (seen,) = asyncio.run(service.clients(port, 1, seconds))
                used = _processor_seconds(page.pid) - before
            finally:
                page.terminate()
        lags = 1e3 * np.quantile(seen.lags, [0.5, 0.95])
        rows.append(
            [
                name,
                f"{statistics.median(took[1:]):.2f}",
                f"{len(seen.pictures) / seconds:.1f}",
                f"{lags[0]:.0f}",
                f"{lags[1]:.0f}",
                f"{1e3 * used / len(seen.pictures):.0f}",
            ]
        )
        print(rows[-1], flush=True)
    here, there = latents.values()
    same = sum(a == b for a, b in zip(here, there, strict=True))
    columns = [
        *("the page's engine", "`/v1/drag`, s", "`/v1/live`, pictures a second", "lag p50 ms", "lag p95 ms"),
        "processor ms of the page's own process a picture",
    ]
    return (
        f"The page as `draggan app --engine ray:ADDRESS --replicas 2` and as `draggan app`; pulls of {seconds:g} s as "
        f"in `service`. Recipes that both pages have reached, results included: {same} of {len(here)} the same.\n\n"
        f"{table(columns, rows)}"
    )


def _asked(port: int, seed: int) -> Any:
    """The recipe that a drag has reached."""
    body = json.dumps({"model": "cat", "seed": seed, "points": [[156, 156, 128, 156]]}).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/drag", body, timeout=120) as answer:
        return json.loads(answer.read().splitlines()[-1])["recipe"]
