"""Everything a GPU can be asked, in the time there is: builds, tests, measures and trains; one table, and the weights.

For a fresh machine with PyTorch for CUDA and nvcc; ``benchmarks/on_gpu.sh`` installs what else is needed and calls
this. Parts run one after the other in processes of their own, each with what is left of the time that it may take, and
the table is written again after each: whatever ends early, the answers so far are there. Training takes what is left.
The same command with the same folder goes on: what was answered is not asked again, and training continues from its
checkpoint.

``--device cpu`` goes the same way on a processor, to the end, in four minutes on two cores: with small networks,
nothing compiled for CUDA, tests that skip and say why, and figures that say nothing about a GPU.
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
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from benchmarks import machine
from benchmarks.timing import publish, table

__all__ = ["GPU_TESTS", "Part", "main", "parts", "run"]

GPU_TESTS = ("tests/test_ops.py", "tests/test_recorded_on_gpu.py", "tests/test_scene_gpu.py")
"""Files with tests that need a GPU. Only these are collected: all of them would take a minute, and every library."""
_EMULATED = ("tests/test_recorded_pictures.py", "tests/test_recorded_steps.py")

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
        says: its last words belong to the answer.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    seconds: float
    tables: tuple[Path, ...] = ()
    says: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of a part.

    Attributes:
        state: begins with "done", or says what went wrong.
        found: its tables, as Markdown.
    """

    part: str
    state: str
    seconds: float
    found: str = ""

    @property
    def done(self) -> bool:
        """Whether it need not be asked again."""
        return self.state.startswith("done")

    def __str__(self) -> str:
        return f"{self.part} | {self.state} | {self.seconds:.0f}"


@dataclass(kw_only=True)
class Report:
    """What is known so far; written after every part, and read by a run that goes on in the same folder."""

    out: Path
    head: str
    answers: dict[str, Answer] = field(default_factory=dict)

    def read(self) -> None:
        """What an earlier run has found."""
        file = self.out / "report.json"
        if file.is_file():
            known = [Answer(**fields) for fields in json.loads(file.read_text(encoding="utf-8"))]
            self.answers = {answer.part: answer for answer in known}

    def add(self, part: Part, state: str, seconds: float) -> Answer:
        """One part is over."""
        found = [
            f"## {part.name}: {file.stem}\n\n{file.read_text(encoding='utf-8').strip()}\n"
            for file in part.tables
            if file.is_file()
        ]
        answer = Answer(part=part.name, state=state, seconds=seconds, found="\n".join(found))
        self.answers[part.name] = answer
        (self.out / "report.md").write_text(self.text, encoding="utf-8")
        known = [asdict(answer) for answer in self.answers.values()]
        (self.out / "report.json").write_text(json.dumps(known), encoding="utf-8")
        return answer

    @property
    def text(self) -> str:
        """As Markdown."""
        rows: list[list[object]] = [[a.part, a.state, f"{a.seconds:.0f}"] for a in self.answers.values()]
        tables = "\n".join(answer.found for answer in self.answers.values() if answer.found)
        return f"# On a GPU\n\n{self.head}\n\n{table(['part', 'ended', 'seconds'], rows)}\n{tables}"


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
    asked: list[tuple[str, ...]] = [("-m", "pytest", "-q", "-rs", "-m", "gpu", *GPU_TESTS)]
    if not cuda:
        asked.append(("-m", "pytest", "-q", *_EMULATED))
    return [
        Part(name="operators and renderers are built", commands=tuple(builds), seconds=180),
        Part(name="tests", commands=tuple(asked), seconds=tests, says=True),
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
        if status != 0:
            return f"failed, {_last_words(log)}"
        return f"done, {_last_words(log)}" if part.says else "done"

    with ThreadPoolExecutor(len(part.commands)) as pool:
        states = list(pool.map(one, range(len(part.commands))))
    return "; ".join(dict.fromkeys(states))


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return (lines[-1] if lines else "no word")[:160].replace("|", "/")


def training(device: str, out: Path, scene: str, seconds: float, *, tiny: bool) -> Part:
    """One scene, from the shipped weights or where an earlier run ended; ends in a file of weights."""
    folder, file = out / f"train-{scene}", out / f"{scene}.safetensors"
    begin = ["-m", "draggan.scenes.train", scene, "--out", str(folder), "--device", device]
    size = ("--resolution", "32", "--batch", "4") if tiny else ("--resolution", "256", "--settle")
    weights = f"checkpoints/{scene}.safetensors"
    minutes = (max(seconds, 1) + _trained(folder / "checkpoint.pt")) / 60
    run_it = [*begin, *size, "--minutes", f"{minutes:.3f}", "--init", weights, "--resume"]
    script = (
        "import subprocess, sys; run = lambda a: subprocess.run([sys.executable, *a], check=True); "
        f"run({run_it!r}); run({[*begin, '--export', str(file)]!r})"
    )
    return Part(name=f"training of {scene}", commands=(("-c", script),), seconds=seconds + 180)


def _trained(checkpoint: Path) -> float:
    """Seconds of the runs that a checkpoint comes from; 0 without one."""
    if not checkpoint.is_file():
        return 0.0
    return float(torch.load(checkpoint, map_location="cpu", weights_only=True)["progress"]["seconds"])


def main(argv: Sequence[str] = ()) -> int:
    """Ask everything, print the report."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="in all (default: %(default)s)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="the same as --device cpu --minutes 4")
    parser.add_argument(
        "--scenes", nargs="*", default=["face"], choices=_SCENE_NAMES, help="to train, one after another"
    )
    parser.add_argument("--only", nargs="+", help="parts whose names contain one of these words")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/gpu"), help="folder for everything (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    begun = time.monotonic()
    device, minutes = ("cpu", 4.0) if args.quick else (args.device, args.minutes)
    limit, tiny = 60 * minutes, device == "cpu"
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    report = Report(
        out=out,
        head=f"`python -m benchmarks gpu --minutes {minutes:g} --device {device}`; {machine.describe().markdown()}",
    )
    report.read()
    wanted: list[str] = []

    def left() -> float:
        return limit - (time.monotonic() - begun)

    def ask(part: Part, *, anew: bool = False) -> None:
        if args.only and not any(word in part.name for word in args.only):
            return
        wanted.append(part.name)
        before = report.answers.get(part.name)
        if before is not None and before.done and not anew:
            print(f"{before} | before", flush=True)
            return
        since = time.monotonic()
        # A training that has begun writes its weights, whatever the time.
        state = run(part, out, part.seconds if anew else left()) if left() > 2 else "no time left"
        print(report.add(part, state, time.monotonic() - since), flush=True)

    # A processor takes longer for the little that it is asked.
    for part in parts(device, out, tests=(0.4 if tiny else 0.2) * limit, measuring=(0.2 if tiny else 0.12) * limit):
        ask(part)
    for i, scene in enumerate(args.scenes):
        # Starting, drawing the first scenes and writing the weights take some seconds, too.
        seconds = (left() - 50 if limit > 120 else left() / 3) / (len(args.scenes) - i)
        ask(training(device, out, scene, seconds, tiny=tiny), anew=True)
    publish(report.text, None)
    return 0 if all(report.answers[name].done for name in wanted) else 1
