"""Processes that share jobs among themselves: each loads a model once, and one that dies costs the job it was at.

A process says when it begins with a job: one that has died before, with nothing to do, costs none.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from draggan.batch.jobs import Job
from draggan.batch.worker import Options, Worker, failed
from draggan.device import choose_device
from draggan.engine.local import LocalEngine
from draggan.engine.models import AnyModels
from draggan.errors import ConfigError

__all__ = ["Alone", "Pool", "usable_cores"]


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Alone:
    """This process alone does the jobs: nothing is loaded twice, and nothing survives if it dies. A context manager.

    Args:
        options: what is made of every recipe; the threads are PyTorch's own choice.
    """

    def __init__(self, options: Options) -> None:
        self._engine = LocalEngine(AnyModels(options.device, downloads=False), workers=1)
        self._worker = Worker(self._engine, options)

    def __enter__(self) -> Alone:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, dict[str, Any]]]:
        """Do jobs, one after the other; each with its row."""
        for job in jobs:
            yield job, self._worker.do(job)


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    job: Job | None = None
    has_begun: bool = False  # with this job, as it has said itself


class Pool:
    """Processes that do jobs; a context manager, at whose end they end.

    Args:
        options: what is made of every recipe.
        count: processes.

    Raises:
        ConfigError: there is no such device.
    """

    def __init__(self, options: Options, count: int) -> None:
        choose_device(options.device)  # says what is wrong with it, once
        if not 1 <= count <= 1024:
            raise ConfigError(f"{count} processes are not allowed; give 1 to 1024")
        self._options, self._count = options, count
        # A forked child would share threads and locks of PyTorch's that do not survive in it.
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.terminate()
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(10)

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, dict[str, Any]]]:
        """Do jobs; each with its row, in the order in which they are done."""
        waiting = iter(jobs)
        again: list[Job] = []  # given to a process that was no longer there
        tried: set[int] = set()
        nothing_left = False
        while True:
            while again or not nothing_left:
                free = next((worker for worker in self._workers if worker.job is None), None)
                if free is None and len(self._workers) >= self._count:
                    break
                job = again.pop() if again else next(waiting, None)
                if job is None:
                    nothing_left = True
                    break
                _give(free or self._begin(), job)
            busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
            if not busy:
                return
            for ready in wait(list(busy)):
                worker = busy[ready]  # type: ignore[index]  # the connections that were given
                done = worker.job
                assert done is not None
                try:
                    row = worker.connection.recv()
                except (EOFError, OSError):
                    row = failed(done, self._ended(worker))
                    if not worker.has_begun and done.number not in tried:
                        # Once more, by another one; not for ever, where none comes as far as to begin.
                        tried.add(done.number)
                        again.append(done)
                        continue
                if row is None:
                    worker.has_begun = True
                    continue
                worker.job = None
                yield done, row

    def _begin(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._options), daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _ended(self, worker: _Worker) -> str:
        """Say how a process has ended; another one takes its place with the next job."""
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"exit status {code}"
        if code < 0:
            how = f"signal {-code}"
        why = ", most likely because there was no memory left; fewer processes (--jobs) need less" if code == -9 else ""
        return f"the process that was at it has ended ({how}){why}"


def _give(worker: _Worker, job: Job) -> None:
    worker.job, worker.has_begun = job, False
    try:
        worker.connection.send(job)
    except OSError:
        return  # it has ended meanwhile; its connection says so


def _serve(connection: Connection, options: Options) -> None:
    """What a process of the pool does: jobs, until there is nobody who gives them."""
    # Ctrl+C reaches all processes of a terminal: the first of them ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(options.threads)
    # One drag at a time, so there is nothing for a second thread of the engine.
    worker = Worker(LocalEngine(AnyModels(options.device, downloads=False), workers=1), options)
    while True:
        try:
            job = connection.recv()
            connection.send(None)  # it has begun
            connection.send(worker.do(job))
        except (EOFError, OSError):
            return
