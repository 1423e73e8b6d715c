"""Seconds, with warm-up, median and spread, and the tables they stand in."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from torch_utils.recorder import RECORD_AFTER, graphs_made

K = TypeVar("K", bound=Hashable)

__all__ = ["Sample", "publish", "race", "steady", "table"]


@dataclass(frozen=True)
class Sample:
    """Seconds of repeated runs of one thing.

    Attributes:
        seconds: wall clock, one per run.
        cpu: processor seconds of the whole process per run; on a busy machine wall clock over this says how much of
            the time others had.
    """

    seconds: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def spread(self) -> tuple[float, float]:
        """Lower and upper quartile."""
        low, high = np.percentile(self.seconds, [25, 75])
        return float(low), float(high)

    def __str__(self) -> str:
        low, high = self.spread
        return f"{1e3 * self.median:.1f} ms ({1e3 * low:.1f}-{1e3 * high:.1f})"


def race(
    runs: Mapping[K, Callable[[], object]],
    *,
    warmup: int = 2,
    repeats: int = 9,
    limit: float = 60.0,
    at_least: int = 3,
) -> dict[K, Sample]:
    """Time several things by turns, so that a busy machine slows all of them alike.

    Args:
        repeats: rounds; every thing runs once per round.
        limit: seconds for all rounds together; no new round begins later.
        at_least: rounds that are run in any case.
    """
    for run in runs.values():
        for _ in range(warmup):
            run()
    wall: dict[K, list[float]] = {name: [] for name in runs}
    cpu: dict[K, list[float]] = {name: [] for name in runs}
    begun = time.perf_counter()
    for k in range(repeats):
        if k >= at_least and time.perf_counter() - begun > limit:
            break
        for name, run in runs.items():
            _synchronise()
            w, c = time.perf_counter(), time.process_time()
            run()
            _synchronise()
            wall[name].append(time.perf_counter() - w)
            cpu[name].append(time.process_time() - c)
    return {name: Sample(tuple(wall[name]), tuple(cpu[name])) for name in runs}


def steady(run: Callable[[], object], *, most: int = 40) -> int:
    """Run until nothing new was recorded as a graph in two runs in a row, and say how often; twice without graphs.

    The first runs of a step on a GPU are taken operation by operation, and then recorded, kind by kind.

    Raises:
        RuntimeError: that goes on for ``most`` runs; what is timed then is the recording.
    """
    unchanged, before = 0, graphs_made()
    for count in range(1, most + 1):
        run()
        now = graphs_made()
        unchanged = unchanged + 1 if now == before else 0
        if unchanged == 2 and count > (RECORD_AFTER if torch.cuda.is_available() else 1):
            return count
        before = now
    raise RuntimeError(f"graphs are still being recorded after {most} runs; nothing can be timed")


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def publish(text: str, out: Path | None) -> None:
    """Print what was found, and write it to a file, too, where one was named."""
    print(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")
