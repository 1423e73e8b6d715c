"""What a figure was measured on. A figure without it means nothing."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from torch_utils.errors import BuildError
from torch_utils.ops import library, status

__all__ = ["Machine", "add_options", "describe", "load_operators", "prepare"]

# Instruction sets that decide how fast a convolution can be, in the kernel's spelling.
_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "bf16", "sve")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Processor, library versions and how busy the machine was.

    Attributes:
        operators: the compiled operators are loaded, as they are in a running application some time after its start.
        load: average number of runnable processes over the last minute; with other work running, seconds are those of
            a shared machine, and ratios measured in one process are what remains comparable.
    """

    processor: str
    cores: int
    memory_gb: float
    flags: tuple[str, ...]
    torch_version: str
    threads: int
    operators: bool
    gpu: str | None
    load: float
    date: str

    def markdown(self) -> str:
        """One line for the head of a table."""
        where = f"{self.processor}, {self.cores} cores, {self.memory_gb:.0f} GB, {' '.join(self.flags)}"
        gpu = f"; {self.gpu}" if self.gpu else ""
        return (
            f"{self.date}; {where}{gpu}; torch {self.torch_version}, {self.threads} threads, "
            f"{'with' if self.operators else 'without'} compiled operators; "
            f"load average at the start {self.load:.1f}"
        )


def describe() -> Machine:
    """This machine, now."""
    try:
        load = os.getloadavg()[0]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, OSError, ValueError):  # Windows has neither
        load, memory = float("nan"), float("nan")
    name, flags = _processor()
    return Machine(
        processor=name,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gb=memory,
        flags=tuple(f for f in _FLAGS if f in flags),
        torch_version=torch.__version__,
        threads=torch.get_num_threads(),
        operators=status.available(torch.zeros(1)),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        load=load,
        date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that `prepare` reads."""
    parser.add_argument("--threads", type=int, default=None, help="of PyTorch (default: its own choice)")
    parser.add_argument("--no-native", action="store_true", help="without compiled operators")


def prepare(args: argparse.Namespace) -> Machine:
    """Set threads and load operators as the options say; what measurements are made on from now on."""
    if args.threads:
        torch.set_num_threads(args.threads)
    if not args.no_native:
        load_operators()
    return describe()


def load_operators() -> None:
    """Load the compiled operators (building them if need be) unless they are unwanted or unavailable."""
    if not status.allowed():
        return
    try:
        library.load()
    except BuildError as e:
        print(f"without compiled operators: {e}")


def _processor() -> tuple[str, set[str]]:
    """Name and instruction sets, from the kernel where it reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), set()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    found = {key.strip(): value.strip() for key, value in found.items()}
    flags = found.get("flags", found.get("Features", "")).split()
    return found.get("model name", platform.machine()), set(flags)
