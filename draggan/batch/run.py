"""A batch from its beginning, or from where it was broken off, to its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from draggan.batch.jobs import Job
from draggan.batch.journal import Journal
from draggan.batch.pool import Alone, Pool
from draggan.batch.ray import RayWorkers
from draggan.batch.report import write_report
from draggan.batch.worker import Options, failed
from draggan.errors import ExportError

__all__ = ["Summary", "run_batch"]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What has become of a batch.

    Attributes:
        done, left: jobs; those that are left were not begun, or not ended, when somebody interrupted it.
        failures: where the jobs that have failed stand, and why they have, in their order.
        known: of those done, how many were done before.
        seconds: that it took now.
        files: of the report.
    """

    done: int
    failures: tuple[tuple[str, str], ...]
    left: int
    known: int
    seconds: float
    files: tuple[Path, ...]


def run_batch(
    jobs: Sequence[Job],
    options: Options,
    *,
    processes: int,
    cluster: str | None = None,
    progress: Callable[[int, int, int], None] = lambda done, failed, total: None,
) -> Summary:
    """Do jobs, except those that were done before.

    Args:
        jobs: of `read_jobs`, with the key of the same options.
        options: what is made of every recipe; the folder is made if need be.
        processes: that share the work.
        cluster: the address of a Ray cluster that does it instead (`draggan.batch.ray`); empty: one of this machine's.
        progress: called with the jobs that are done, those that have failed, and all of them.

    Raises:
        ExportError: the folder cannot be written to, or another batch writes there.
    """
    folder = Path(options.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            return _locked(jobs, options, processes, cluster, progress)
    except Timeout as error:
        raise ExportError(f"another batch writes to {folder}; wait for its end, or choose another folder") from error
    except OSError as error:
        raise ExportError(f"cannot write to {folder}: {error.strerror or error}") from error


def _locked(
    jobs: Sequence[Job],
    options: Options,
    processes: int,
    cluster: str | None,
    progress: Callable[[int, int, int], None],
) -> Summary:
    started = time.perf_counter()
    folder = Path(options.folder)
    rows: dict[int, dict[str, Any]] = {}
    names = {job.name.lower() for job in jobs} if options.before else set()
    with Journal(folder) as journal:
        left: list[Job] = []
        for job in jobs:
            if why := job.error or _why_its_before_has_no_place(job, names):
                rows[job.number] = failed(job, why)
            elif (row := journal.done(job)) is not None:
                # The line may stand elsewhere in the file by now.
                rows[job.number] = row | {"number": job.number}
            else:
                left.append(job)
        known = sum(row["state"] == "done" for row in rows.values())

        def tell() -> None:
            bad = sum(row["state"] == "failed" for row in rows.values())
            progress(len(rows) - bad, bad, len(jobs))

        tell()
        try:
            with _workers(options, min(processes, len(left)), cluster if left else None) as workers:
                for job, row in workers.run(left):
                    rows[job.number] = row
                    if row["state"] == "done":
                        journal.add(job, row)
                    tell()
        except KeyboardInterrupt:
            pass  # what is done is reported; the same command goes on
    seconds = time.perf_counter() - started
    facts = {"jobs": len(jobs), "left": len(jobs) - len(rows), "seconds": round(seconds, 2)}
    files = write_report(folder, list(rows.values()), facts)
    failures = [(job.place, row["error"]) for job in jobs if (row := rows.get(job.number, {})).get("state") == "failed"]
    return Summary(
        done=len(rows) - len(failures),
        failures=tuple(failures),
        left=len(jobs) - len(rows),
        known=known,
        seconds=seconds,
        files=files,
    )


def _why_its_before_has_no_place(job: Job, names: Collection[str]) -> str:
    """Why the picture before the last edit would be written over another job's picture; empty: it would not.

    Args:
        names: of all jobs, in small letters.
    """
    name = f"{job.name}-before"
    if name.lower() not in names:
        return ""
    return (
        f"its picture before the edit would be called '{name}', which is the name of another recipe; change one of them"
    )


def _workers(options: Options, count: int, cluster: str | None) -> RayWorkers | Pool | Alone:
    if cluster is not None:
        return RayWorkers(options, cluster)
    return Pool(options, count) if count > 1 else Alone(options)
