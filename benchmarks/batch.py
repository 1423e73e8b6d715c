"""Many recipes: ``draggan batch`` against a loop over ``draggan drag``, and a batch that is killed and goes on.

The recipes are one drag (the cat's nose to the left) over seeds. By turns in every round: the loop, a few seeds, one
program for each as a shell script would do it; the batch with one process of many threads; with a process for each
core; and for comparison one process in which as many engines as there are cores run side by side on threads. Every
round has seeds of its own. Then the whole list is begun, killed with all its processes, and begun again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks import machine
from benchmarks.timing import publish, table
from draggan.batch.jobs import Job, read_jobs
from draggan.batch.pool import usable_cores
from draggan.batch.worker import Options, Worker
from draggan.engine.local import LocalEngine
from draggan.engine.models import AnyModels
from draggan.export import read_recipe

__all__ = ["main"]

_DRAG = ("--model", "cat", "--point", "156,156:128,156")


def main(argv: Sequence[str] = ()) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks batch", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small round, a short list")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=24, help="recipes in a round of a batch (default: %(default)s)")
    parser.add_argument("--loop", type=int, default=6, help="of them in the loop (default: %(default)s)")
    parser.add_argument("--whole", type=int, default=500, help="recipes of the whole list (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    args = parser.parse_args(argv)
    if args.quick:
        args.rounds, args.count, args.loop, args.whole = 1, 6, 2, 12
    here = machine.describe()
    with tempfile.TemporaryDirectory() as folder:
        rates = _rates(Path(folder), args.rounds, args.count, args.loop)
        whole = _killed(Path(folder), args.whole)
        same = _same(Path(folder))
    text = f"{here.markdown()}\n\n{rates}\n{same}\n\n{whole}"
    publish(text, args.out)
    return 0


def _rates(folder: Path, rounds: int, count: int, loop: int) -> str:
    """Pictures a second of every way, by turns."""
    cores = usable_cores()
    ways: dict[str, Callable[[Path, Path, int], int]] = {
        f"loop over `draggan drag` ({loop} of {count})": lambda source, out, first: _loop(
            out, range(first, first + loop)
        ),
        f"one process, {cores} threads": lambda source, out, first: _batch(source, out, 1),
        f"{cores} processes": lambda source, out, first: _batch(source, out, cores),
        f"{cores} engines on threads, one process": lambda source, out, first: _threads(source, out, cores),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        first = number * count
        source = folder / f"round{number}.jsonl"
        _draggan("edits", *_DRAG, "--seeds", f"{first}-{first + count - 1}", "--out", str(source))
        for way, (name, run) in enumerate(ways.items()):
            begun = time.perf_counter()
            made = run(source, folder / f"way{way}-{number}", first)
            seconds[name].append((time.perf_counter() - begun) / made)
            print(f"round {number}: {name}: {1 / seconds[name][-1]:.2f} a second", flush=True)
    base = statistics.median(next(iter(seconds.values())))
    rows: list[list[object]] = [
        [name, f"{1 / statistics.median(values):.2f}", f"{base / statistics.median(values):.1f}"]
        for name, values in seconds.items()
    ]
    head = f"{rounds} rounds by turns, {count} recipes in each, start of all programs included; medians.\n\n"
    return head + table(["way", "pictures a second", "times the loop"], rows)


def _loop(out: Path, seeds: Sequence[int]) -> int:
    out.mkdir()
    for seed in seeds:
        _draggan("drag", *_DRAG, "--seed", str(seed), "--out", str(out / f"cat-seed{seed}.png"))
    return len(seeds)


def _batch(source: Path, out: Path, processes: int) -> int:
    _draggan("batch", str(source), "--out", str(out), "--jobs", str(processes))
    return len(list(out.glob("*.png")))


def _threads(source: Path, out: Path, count: int) -> int:
    """In a program of its own, so that its start counts as those of the others do."""
    code = f"from benchmarks.batch import on_threads; on_threads({str(source)!r}, {str(out)!r}, {count})"
    subprocess.run([sys.executable, "-c", code], check=True)
    return len(list(out.glob("*.png")))


def on_threads(source: str, out: str, count: int) -> None:
    """Engines side by side in this process, each on one thread of PyTorch's."""
    Path(out).mkdir()
    torch.set_num_threads(1)
    options = Options(folder=out, device="cpu")
    jobs = read_jobs(Path(source))

    def do(part: list[Job]) -> None:
        worker = Worker(LocalEngine(AnyModels("cpu"), workers=1), options)
        for job in part:
            worker.do(job)

    with ThreadPoolExecutor(count) as threads:
        list(threads.map(do, [jobs[k::count] for k in range(count)]))


def _same(folder: Path) -> str:
    """How many pictures of the loop and of the batches are the same to the last bit of their latent."""
    same = compared = 0
    farthest = 0.0
    for path in folder.glob("way0-*/*.png"):
        loop = read_recipe(path)
        for way in (1, 2):
            other = read_recipe(folder / path.parent.name.replace("way0", f"way{way}") / path.name)
            assert loop == other
            assert loop.latent is not None
            assert other.latent is not None
            compared += 1
            same += np.array_equal(loop.latent, other.latent)
            farthest = max(farthest, float(np.abs(loop.latent - other.latent).max()))
    return (
        f"Latents of the batches and of the loop, {compared} pairs: {same} the same to the last bit, "
        f"largest difference of a number {farthest:.1g}."
    )


def _killed(folder: Path, count: int) -> str:
    """Begin a list, kill it when a third is there, begin it again; say what became of every recipe."""
    source, out = folder / "whole.jsonl", folder / "whole"
    _draggan("edits", *_DRAG, "--seeds", f"0-{count - 1}", "--out", str(source))
    command = [sys.executable, "-m", "draggan", "batch", str(source), "--out", str(out)]
    begun = time.perf_counter()
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as program:
        while len(list(out.glob("*.png"))) < count // 3:
            time.sleep(0.05)
        os.killpg(program.pid, signal.SIGKILL)
    first = time.perf_counter() - begun
    noted = (out / "journal.jsonl").read_bytes().count(b"\n")
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    second = time.perf_counter() - begun
    names = [json.loads(line)["name"] for line in (out / "journal.jsonl").read_text().splitlines()]
    files = {path.name for path in out.glob("*.png")}
    rewritten = sum((out / name).stat().st_mtime_ns != written for name, written in before.items())
    report = json.loads((out / "report.json").read_text())
    rows: list[list[object]] = [
        ["recipes", count],
        ["killed after", f"{first:.0f} s, {noted} noted in the journal, {len(before)} pictures on the disk"],
        [
            "begun again",
            f"{second:.0f} s for the other {count - noted}: {(count - noted) / second:.2f} pictures a second",
        ],
        ["pictures at the end", f"{len(files)}, {count - len(files)} missing"],
        ["done twice", f"{len(names) - len(set(names))} in the journal; {rewritten} written again, not noted before"],
        ["in the report", f"{report['done']} done, {report['failed']} failed, outcomes {report['outcomes']}"],
        ["the whole list", f"{first + second:.0f} s with the break: {count / (first + second):.2f} pictures a second"],
    ]
    return table(["killed in the middle", ""], rows)


def _draggan(*words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "draggan", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
