"""A child process that reads one file: limits on time, processor time, memory and output, and nothing else to do.

The child's own reader cannot run anything (see `pickle.machine`). The process around it is there for what might be
wrong with that sentence: it may not start programs, open sockets or write outside its directory, and dies with its
limits.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError

from draggan.checkpoints.detect import converted_name, describe_bytes, open_bytes
from draggan.checkpoints.formats import safetensors
from draggan.errors import CheckpointError, UnsafeCheckpoint

__all__ = ["CHILD", "NO_ROOM", "child_main", "forbid", "is_full", "limit_process", "run_child"]

# What the child says when the disk is full.
NO_ROOM = "NoRoom"

# The child's memory: itself (an interpreter and numpy), the mapped file, its tensors and their copy when written.
BASE_MEMORY = 900 << 20
MEMORY_PER_BYTE = 3
# Processor seconds; published files take less than one.
CPU_SECONDS = 8
# The clock runs on when a machine is busy or its disk slow; the child's own budget ends a slow file much earlier.
WALL_SECONDS = 60.0
BYTES_PER_SECOND = 8 << 20

# Each may have gigabytes for a large file, and many people may open one at the same moment.
_AT_ONCE = threading.BoundedSemaphore(4)

# The child gets the parent's import path but none of its modules, environment or descriptors. The package is made known
# without running its __init__, which would load PyTorch.
CHILD = """
import json, sys, types
job = json.loads(sys.argv[1])
sys.path[:] = job["import_path"]
package = types.ModuleType("draggan")
package.__path__ = [job["package"]]
sys.modules["draggan"] = package
from draggan.checkpoints import sandbox
sandbox.child_main(job)
"""
_ENVIRONMENT = ("PATH", "SYSTEMROOT", "WINDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "TEMP", "TMP")


def run_child(source: Path, work: Path, cache: Path, size: int) -> dict[str, Any]:
    """Convert a file of ``size`` bytes in a child process.

    Args:
        work: the only directory that the child may write to.
        cache: where converted copies are kept; a file that has one is not converted again.

    Returns:
        ``sha256``, and ``already`` where the cache has the copy; or ``error`` (the name of its class) and ``message``.

    Raises:
        CheckpointError: the child was stopped by its limits, or could not be started.
    """
    if not sys.executable:
        raise CheckpointError(f"{source}: cannot be read safely here, because no child process can be started")
    job = {
        "source": str(source),
        "work": str(work.resolve()),
        "cache": str(cache.resolve()),
        "package": str(Path(__file__).resolve().parents[1]),
        "import_path": [os.path.abspath(entry) for entry in sys.path],
    }
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # One thread each: the pools of numpy's linear algebra would count against the memory limit, and are not used.
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    timeout = WALL_SECONDS + size / BYTES_PER_SECOND
    try:
        with _AT_ONCE:
            process = subprocess.run(
                [sys.executable, "-I", "-B", "-c", CHILD, json.dumps(job)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd=work,
                timeout=timeout,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise CheckpointError(f"{source}: reading took longer than {timeout:.0f} s and was stopped") from None
    try:
        result = json.loads((work / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        result = None
    if isinstance(result, dict):
        return result
    if shutil.disk_usage(work).free < size:
        return {"error": NO_ROOM}
    raise CheckpointError(
        f"{source}: reading it ended early (exit status {process.returncode}), most likely because it needed more than "
        f"{CPU_SECONDS + size // (50 << 20)} s or {_memory_limit(size) >> 20} MB; the file is damaged or made to do so"
    )


def _memory_limit(size: int) -> int:
    return BASE_MEMORY + MEMORY_PER_BYTE * size


# What runs in the child.


def child_main(job: dict[str, str]) -> None:
    """Read and convert one file; leave ``result.json`` and ``converted.safetensors`` in the work directory."""
    work = Path(job["work"])
    result: dict[str, Any]
    try:
        limit_process(os.stat(job["source"]).st_size)
        forbid(work)
        data = open_bytes(job["source"])
        digest = hashlib.sha256(data).hexdigest()
        result = {"sha256": digest}
        if (Path(job["cache"]) / converted_name(digest)).is_file():
            result["already"] = True
        else:
            description = describe_bytes(data)
            description.metadata["sha256"] = digest
            safetensors.write(work / "converted.safetensors", description)
    except (CheckpointError, OSError) as error:
        kind = "UnsafeCheckpoint" if isinstance(error, UnsafeCheckpoint) else "CheckpointError"
        if is_full(error) or is_full(error.__cause__):
            kind = NO_ROOM
        result = {"error": kind, "message": str(error)}
    except MemoryError:
        result = {"error": "CheckpointError", "message": "the file needs more memory to be read than is allowed"}
    # A disk that filled up since is told by its being full: the result is missing then.
    with contextlib.suppress(OSError):
        (work / "result.json").write_text(json.dumps(result), encoding="utf-8")


def is_full(error: BaseException | None) -> bool:
    """Whether an error says that a disk is full, or a person's share of it."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    # The safetensors library, which passes the system's error on as text.
    return isinstance(error, SafetensorError) and any(f"os error {n})" in str(error) for n in _FULL)


_FULL = (errno.ENOSPC, errno.EDQUOT)


def limit_process(size: int) -> None:
    """Limits of the operating system, where it has them (not on Windows; macOS ignores some)."""
    try:
        import resource
    except ImportError:
        return
    cpu = CPU_SECONDS + size // (50 << 20)
    limits = {
        "RLIMIT_CPU": cpu,
        "RLIMIT_AS": _memory_limit(size),
        "RLIMIT_FSIZE": 2 * size + (64 << 20),
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": 0,
    }
    for name, limit in limits.items():
        kind = getattr(resource, name, None)
        if kind is not None:
            with contextlib.suppress(ValueError, OSError):
                hard = resource.getrlimit(kind)[1]
                top = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
                resource.setrlimit(kind, (top, top))


_FORBIDDEN: tuple[str, ...] = (
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "os.kill", "os.chmod"),
    *("os.symlink", "os.link", "pickle.", "code.__new__", "sys.settrace", "sys.setprofile", "shutil."),
    *("subprocess.", "socket.", "ctypes.", "pty.", "webbrowser.", "ftplib.", "http.", "smtplib.", "urllib."),
)
_INSIDE_ONLY = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate")


def forbid(work: Path) -> None:
    """From here on this process may not start anything, connect anywhere, or open for writing outside its directory.

    The reader never tries; should it have been made to, this ends it.
    """
    inside = str(work) + os.sep

    def outside(target: object) -> bool:
        if not isinstance(target, (str, bytes, os.PathLike)):
            return True
        return not (os.fsdecode(target) + os.sep).startswith(inside)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(_FORBIDDEN):
            _abort(event)
        if event == "open":
            target, mode, flags = arguments
            for_writing = isinstance(mode, str) and not set(mode) <= set("rbt")
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                for_writing = True
            if for_writing and outside(target):
                _abort(event)
        elif event in _INSIDE_ONLY and outside(arguments[0]):
            _abort(event)

    sys.addaudithook(hook)


def _abort(event: str) -> NoReturn:
    raise UnsafeCheckpoint(f"refused: reading the file led to '{event}'. Weights do not need this")
