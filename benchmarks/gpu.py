"""Everything a GPU can be asked, in the time there is: builds, tests, measures and trains; one table, and the weights.

For a fresh machine with PyTorch for CUDA and nvcc; ``benchmarks/on_gpu.sh`` installs what else is needed and calls
this. Parts run one after the other in processes of their own, each with what is left of the time that it may take, and
the table is written again after each: whatever ends early, the answers so far are there. Training takes what is left.

``--device cpu`` goes the same way on a processor, as far as that goes: with small networks, nothing compiled for CUDA,
and figures that say nothing about a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import machine
from benchmarks.timing import publish, table

__all__ = ["Part", "main", "parts", "run"]

_ROOT = Path(__file__).resolve().parents[1]
_BUILD = "from torch_utils.ops import library; library.load({kind!r})"
_SCENES = "from draggan.scenes import scene; scene.renderer()"
_CUDA_SCENES = "from draggan.scenes import gpu; assert gpu._library() is not None"
_SCENE_NAMES = ("cat", "face", "car")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One question.

    Attributes:
        name: of its log and of its line in the table.
        commands: arguments for Python, run side by side.
        seconds: that it may take at most.
        tables: files that it writes, shown in the report.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    seconds: float
    tables: tuple[Path, ...] = ()


@dataclass(kw_only=True)
class Report:
    """What is known so far; written after every part."""

    out: Path
    head: str
    rows: list[list[object]] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    def add(self, part: Part, state: str, seconds: float) -> None:
        """One part is over."""
        self.rows.append([part.name, state, f"{seconds:.0f}"])
        for file in part.tables:
            if file.is_file():
                self.found.append(f"## {part.name}: {file.stem}\n\n{file.read_text(encoding='utf-8').strip()}\n")
        self.write()

    def write(self) -> None:
        """The file ``report.md``."""
        text = f"# On a GPU\n\n{self.head}\n\n{table(['part', 'ended', 'seconds'], self.rows)}\n" + "\n".join(
            self.found
        )
        (self.out / "report.md").write_text(text, encoding="utf-8")


def parts(device: str, out: Path, *, tests: float, measuring: float) -> list[Part]:
    """What is asked before training.

    Args:
        device: "cuda", or "cpu" for a try.
        out: folder of the tables.
        tests: seconds for the tests.
        measuring: seconds for every measurement.
    """
    cuda = device == "cuda"
    builds = [("-c", _BUILD.format(kind="cpu")), ("-c", _SCENES)]
    if cuda:
        builds += [("-c", _BUILD.format(kind="cuda")), ("-c", _CUDA_SCENES)]
    small: tuple[str, ...] = () if cuda else ("--quick",)

    def measured(name: str, file: str, *arguments: str) -> Part:
        target = out / f"{file}.md"
        command = ("-m", "benchmarks", *arguments, *small, "--out", str(target))
        return Part(name=name, commands=(command,), seconds=measuring, tables=(target,))

    sizes = ("--sizes", "256-cat", "512", "1024") if cuda else ()
    wanted = "gpu" if cuda else "gpu or not gpu"
    chosen = () if cuda else ("tests/test_recorded_steps.py",)
    return [
        Part(name="operators and renderers are built", commands=tuple(builds), seconds=180),
        Part(
            name="tests",
            commands=(("-m", "pytest", "-q", "-m", wanted, *chosen),),
            seconds=tests,
        ),
        measured("a step of Adam", "step", "step", "--device", device, "--masks", "none", "exact", *sizes),
        measured("a drag, its picture, Live", "on_device", "on_device", "--device", device),
        measured("precision", "precision", "precision", *(("--device", device) if cuda else ())),
        measured("whole drags at 512 px", "target", "target", "--device", device, "--whole", "0"),
    ]


def run(part: Part, out: Path, seconds: float) -> str:
    """Run a part's commands side by side, at most so long; their words go to a log each.

    Returns:
        "done", or what went wrong.
    """
    end = time.monotonic() + min(part.seconds, seconds)
    name = part.name.replace(",", "").replace(" ", "-")

    def one(number: int) -> str:
        log = out / f"{name}-{number}.log"
        with log.open("w", encoding="utf-8") as file:
            child = subprocess.Popen(
                [sys.executable, *part.commands[number]],
                cwd=_ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
            try:
                status = child.wait(max(1.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                # It may have begun others: a compiler, a browser.
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                return "out of time"
        return "done" if status == 0 else f"failed, {_last_words(log)}"

    with ThreadPoolExecutor(len(part.commands)) as pool:
        states = list(pool.map(one, range(len(part.commands))))
    return "; ".join(dict.fromkeys(states))


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return (lines[-1] if lines else "no word")[:160].replace("|", "/")


def training(device: str, out: Path, scene: str, seconds: float, *, tiny: bool) -> Part:
    """One scene, from the shipped weights on; ends in a file of weights."""
    folder, file = out / f"train-{scene}", out / f"{scene}.safetensors"
    begin = ["-m", "draggan.scenes.train", scene, "--out", str(folder), "--device", device]
    size = ("--resolution", "32", "--batch", "4") if tiny else ("--resolution", "256", "--settle")
    weights = f"checkpoints/{scene}.safetensors"
    run_it = [*begin, *size, "--minutes", f"{max(seconds, 1) / 60:.3f}", "--init", weights]
    script = (
        "import subprocess, sys; run = lambda a: subprocess.run([sys.executable, *a], check=True); "
        f"run({run_it!r}); run({[*begin, '--export', str(file)]!r})"
    )
    return Part(name=f"training of {scene}", commands=(("-c", script),), seconds=seconds + 90)


def main(argv: Sequence[str] = ()) -> int:
    """Ask everything, print the report."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="in all (default: %(default)s)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="the same as --device cpu --minutes 1")
    parser.add_argument(
        "--scenes", nargs="*", default=["face"], choices=_SCENE_NAMES, help="to train, one after another"
    )
    parser.add_argument("--only", nargs="+", help="parts whose names contain one of these words")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/gpu"), help="folder for everything (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    begun = time.monotonic()
    device, minutes = ("cpu", 1.0) if args.quick else (args.device, args.minutes)
    limit, tiny = 60 * minutes, device == "cpu"
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    report = Report(
        out=out,
        head=f"`python -m benchmarks gpu --minutes {minutes:g} --device {device}`; {machine.describe().markdown()}",
    )

    def left() -> float:
        return limit - (time.monotonic() - begun)

    def ask(part: Part) -> None:
        if args.only and not any(word in part.name for word in args.only):
            return
        before = time.monotonic()
        state = run(part, out, left()) if left() > 2 else "no time left"
        report.add(part, state, time.monotonic() - before)
        print(" | ".join(map(str, report.rows[-1])), flush=True)

    for part in parts(device, out, tests=0.2 * limit, measuring=0.12 * limit):
        ask(part)
    for i, scene in enumerate(args.scenes):
        # Starting, drawing the first scenes and writing the weights take some seconds, too.
        ask(
            training(
                device, out, scene, (left() - 50 if limit > 120 else left() / 2) / (len(args.scenes) - i), tiny=tiny
            )
        )
    (out / "report.json").write_text(json.dumps(report.rows), encoding="utf-8")
    publish((out / "report.md").read_text(encoding="utf-8"), None)
    return 0 if all(row[1] == "done" for row in report.rows) else 1
