"""Jobs done by the machines of a Ray cluster (the optional extra ``ray``): a task for each.

A task has all that it needs with it, and gives back the content of its files: the machines share no folder, and need
nothing but this program. Ray gives a task to a free core, starts machines where it may, and does a task again whose
process or machine has ended.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dnnlib.cache import replacing
from draggan.batch.jobs import Job
from draggan.batch.journal import files_of
from draggan.batch.worker import Options, Worker, failed
from draggan.config import Limits
from draggan.engine.local import LocalEngine
from draggan.engine.models import AnyModels
from draggan.engine.ray import connect, import_ray
from draggan.engine.replica import Sent, SentModels
from draggan.errors import DragGANError

__all__ = ["RayWorkers"]

_AHEAD = 4  # tasks that wait at every core; so many jobs are read before they are needed
_TRIES = 4  # times that a task is begun whose process ends
# Seconds without a single answer after which none will come: what the edits of a recipe may take, and then its last
# drag, with an hour to load the model and write films.
_PATIENCE = 2 * Limits().seconds + 3600.0


@dataclass(frozen=True, kw_only=True)
class _Parcel:
    """A job as it is sent.

    Attributes:
        job: where it stood.
        content: of its file, or the line.
        options: what is made of it.
        models: whose files another machine does not know by name.
    """

    job: Job
    content: bytes
    options: Options
    models: tuple[Sent, ...]


class RayWorkers:
    """The cores of a cluster do the jobs. A context manager.

    Args:
        options: what is made of every recipe.
        address: of the cluster, as for `draggan.engine.ray.connect`.

    Raises:
        ConfigError: there is no such cluster, or no Ray.
    """

    def __init__(self, options: Options, address: str = "") -> None:
        self._options = options
        self._ray = ray = connect(address)
        self._models = AnyModels("cpu", downloads=False)
        self._sent: dict[str, Sent] = {}
        self._under_way: dict[Any, Job] = {}
        self._gpu = options.device.startswith("cuda")
        self._task = ray.remote(
            num_cpus=1,
            num_gpus=int(self._gpu),
            max_retries=_TRIES - 1,
            scheduling_strategy="SPREAD",
            name="draggan.batch",
        )(_do)

    def __enter__(self) -> RayWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        """What was begun and not waited for is not needed any more."""
        for reference in self._under_way:
            self._ray.cancel(reference, force=True)

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, dict[str, Any]]]:
        """Do jobs; each with its row, in the order in which they are done."""
        waiting = iter(jobs)
        nothing_left = False
        while True:
            while not nothing_left and len(self._under_way) < self._most():
                job = next(waiting, None)
                if job is None:
                    nothing_left = True
                    break
                try:
                    self._under_way[self._task.remote(self._parcel(job))] = job
                except DragGANError as error:
                    yield job, failed(job, str(error))
            if not self._under_way:
                return
            ready, _ = self._ray.wait(list(self._under_way), num_returns=1, timeout=_PATIENCE)
            for reference in ready:
                job = self._under_way.pop(reference)
                yield job, self._row(job, reference)
            if not ready:
                yield from self._given_up(waiting)
                return

    def _given_up(self, waiting: Iterator[Job]) -> Iterator[tuple[Job, dict[str, Any]]]:
        """All that is under way and all that waits has failed: no machine answers."""
        why = (
            f"no machine of the cluster has answered for {_PATIENCE / 3600:.0f} h; look whether they run (`ray status`)"
        )
        while self._under_way:
            reference, job = self._under_way.popitem()
            self._ray.cancel(reference, force=True)
            yield job, failed(job, why)
        for job in waiting:
            yield job, failed(job, why)

    def _most(self) -> int:
        """How many tasks may be under way."""
        there = self._ray.cluster_resources().get("GPU" if self._gpu else "CPU", 1)
        return _AHEAD * max(int(there), 1)

    def _parcel(self, job: Job) -> _Parcel:
        path = Path(job.path)
        with path.open("rb") as file:
            file.seek(job.offset)
            content = file.read() if job.length < 0 else file.read(job.length)
        names = {name for name in (job.model, self._options.model) if name}
        models = tuple(sent for name in sorted(names) if (sent := self._of(name)) is not None)
        return _Parcel(job=job, content=content, options=replace(self._options, threads=1), models=models)

    def _of(self, name: str) -> Sent | None:
        """A model that is a file here."""
        if name not in self._sent:
            path = self._models.file(name)
            if path is None:
                return None
            content = [self._ray.put(path.read_bytes())]
            self._sent[name] = Sent(name=name, file=path.name, sha256=self._models.sha256(name), content=content)
        return self._sent[name]

    def _row(self, job: Job, reference: Any) -> dict[str, Any]:
        errors = self._ray.exceptions
        try:
            row, files = self._ray.get(reference)
        except errors.RayTaskError as error:
            return failed(job, f"{type(error.cause).__name__}: {error.cause}"[:500])
        except errors.RayError as error:
            return failed(job, f"{_TRIES} processes in turn have ended while they were at it ({type(error).__name__})")
        folder = Path(self._options.folder)
        for name, content in files.items():
            with replacing(folder / name) as temporary:
                temporary.write_bytes(content)
        return row


def _do(parcel: _Parcel) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Do a job, somewhere: its row, and its files by their names."""
    models, engine = _engine(parcel.options.device, parcel.options.threads)
    for model in parcel.models:
        models.receive(model)
    with tempfile.TemporaryDirectory(prefix="draggan-batch-") as folder:
        source, out = Path(folder, f"job{Path(parcel.job.path).suffix}"), Path(folder, "out")
        source.write_bytes(parcel.content)
        out.mkdir()
        length = parcel.job.length if parcel.job.length < 0 else len(parcel.content)
        job = replace(parcel.job, path=str(source), offset=0, length=length)
        row = Worker(engine, replace(parcel.options, folder=str(out))).do(job)
        return row, {name: (out / name).read_bytes() for name in files_of(row)}


@functools.lru_cache(maxsize=1)
def _engine(device: str, threads: int) -> tuple[SentModels, LocalEngine]:
    """The engine of this process: models are loaded once, whatever jobs come here."""
    torch.set_num_threads(threads)
    ray = import_ray()
    models = SentModels(lambda where: ray.get(where[0]), device)
    return models, LocalEngine(models, workers=1)
