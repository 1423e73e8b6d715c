"""From a file of any known format to a description.

What a file is, its first bytes and its content say, never its name. A file that holds a pickle is read once, in a child
process with limits on time, processor time, memory and output; the child writes what it found as safetensors into the
cache and from then on only that is read. So a second start neither unpickles nor waits.

The child's own reader cannot run anything (see `unpickler`). The process around it is there for what might be wrong
with that sentence: it may not start programs, open sockets or write outside its directory, and dies with its limits.

Cache layout, under ``cache_dir("converted")``: ``<sha256 of the source>-<version>.safetensors``, and
``index/<sha256 of the path>.json`` with the size, times and digest of the source as it was then, so that an unchanged
file need not be read again to be recognised.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NoReturn

from dnnlib.cache import cache_dir, replacing
from draggan.checkpoints import nvidia_pickle, rosinality, safetensors, tensorflow_pickle, torch_archive
from draggan.checkpoints.description import CheckpointDescription, Role
from draggan.checkpoints.unpickler import NVIDIA_GLOBALS, Budget, Machine, Module, damaged, refuse
from draggan.errors import CheckpointError, UnsafeCheckpoint

__all__ = ["READER_VERSION", "describe_bytes", "open_bytes", "read_checkpoint"]

log = logging.getLogger(__name__)

# Part of every cached name: a reader that understands more makes the conversions of older ones void.
READER_VERSION = 1
MAX_FILE = 4 << 30
# The child's memory: itself (an interpreter and numpy), the mapped file, its tensors and their copy when written.
BASE_MEMORY = 900 << 20
MEMORY_PER_BYTE = 3
# Processor seconds; published files take less than one.
CPU_SECONDS = 8
# The clock runs on when a machine is busy or its disk slow; the child's own budget ends a slow file much earlier.
WALL_SECONDS = 60.0
BYTES_PER_SECOND = 8 << 20
# A conversion that did not end must not fill the disk.
STALE_SECONDS = 3600.0


def read_checkpoint(
    path: str | os.PathLike[str],
    roles: Collection[Role] | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
) -> CheckpointDescription:
    """Read a checkpoint of any format we know.

    Args:
        roles: read only these networks, those that the file has; None for all.
        cache: where conversions are kept; None for ``cache_dir("converted")``.

    Returns:
        The networks; ``format`` and ``metadata`` are those of the original file.

    Raises:
        UnsafeCheckpoint: the file asks for something that only a program would ask for. Nothing of it was run.
        CheckpointError: it is missing, damaged, or of a kind that cannot be read.
    """
    path = Path(path)
    with _no_os_errors(path):
        if not path.is_file():
            raise CheckpointError(f"{path} is not a file")
        if safetensors.is_safetensors(path):
            return safetensors.read(path, roles)
        with open(path, "rb") as f:
            _expect_pickle(path, f.read(64))
        folder = Path(cache) if cache is not None else cache_dir("converted")
        if _usable(folder):
            return _read_converted(path, folder, roles)
        log.warning("%s cannot be written to; %s will be converted anew each time", folder, path)
        with tempfile.TemporaryDirectory(prefix="draggan-") as temporary:
            return _read_converted(path, Path(temporary), roles)


@contextlib.contextmanager
def _no_os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


# ---------------------------------------------------------------------------------------- what kind of file

_OTHER_KINDS = (
    (b"\x93NUMPY", "a numpy array; open it as a latent code, not as a model"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
    (b"\x89HDF", "an HDF5 file, which is not supported; use the model's PyTorch version"),
    (b"\x89PNG", "a picture, not a model"),
    (b"\xff\xd8\xff", "a picture, not a model"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself (git lfs pull)"),
)


def _expect_pickle(path: Path, start: bytes) -> None:
    """Tell files that are no pickles and no archives by their first bytes, with advice."""
    if not start:
        raise CheckpointError(f"{path} is empty; get it again from its source")
    for magic, what in _OTHER_KINDS:
        if start.startswith(magic):
            raise CheckpointError(f"{path} is {what}")
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(f"{path} is a web page, not a model; the download gave an error or asked for a log-in")
    # Anything else goes to the machine, which says what is wrong. 0x80 begins pickles of protocol 2 and newer.
    if start[:1] not in (b"\x80", b"P", b"c", b"(", b"}", b"]", b")"):
        raise CheckpointError(
            f"{path} is no model file that we know (it begins with {start[:8].hex(' ')}); known are NVIDIA's .pkl, "
            "TensorFlow StyleGAN2 .pkl, rosinality's and PTI's .pt and our .safetensors"
        )


def open_bytes(path: str | os.PathLike[str]) -> memoryview:
    """A file's content without reading it: mapped read-only into memory, for as long as the view is used."""
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        if size > MAX_FILE:
            raise CheckpointError(f"{path} has {size / 1e9:.1f} GB; up to {MAX_FILE / 1e9:.1f} GB can be read")
        if size == 0:
            raise CheckpointError(f"{path} is empty; get it again from its source")
        return memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))


def describe_bytes(data: memoryview) -> CheckpointDescription:
    """The description of a pickle or archive, read in this process. The tensors are views into ``data`` where possible.

    Raises:
        UnsafeCheckpoint, CheckpointError: as `read_checkpoint`.
    """
    # Twice: float16 and bfloat16 become float32.
    budget = Budget(numbers=2 * len(data) + (16 << 20))
    try:
        if torch_archive.is_zip(data) or torch_archive.is_legacy(data):
            return _describe_archive(torch_archive.load(data, budget), budget)
        machine = Machine(data, allowed=NVIDIA_GLOBALS, budget=budget)
        value = machine.load()
        if machine.position != len(data):
            raise damaged(f"{len(data) - machine.position} bytes are left over at its end")
        return _describe_pickle(value, budget)
    except MemoryError:
        raise CheckpointError("the file needs more memory than is allowed; it is damaged or made to") from None
    except RecursionError:
        raise refuse("values that are nested too deeply") from None


def _describe_pickle(value: Any, budget: Budget) -> CheckpointDescription:
    if isinstance(value, dict):
        return nvidia_pickle.describe(value, budget)
    if type(value) is tuple and len(value) == 3:
        return tensorflow_pickle.describe(value, budget)
    if isinstance(value, Module):
        return nvidia_pickle.describe({"G_ema": value}, budget)
    raise CheckpointError(f"this pickle holds a {type(value).__name__}, not the networks G, D and G_ema")


def _describe_archive(value: Any, budget: Budget) -> CheckpointDescription:
    # PTI saves the tuned generator alone.
    if isinstance(value, Module):
        return nvidia_pickle.describe({"G_ema": value}, budget, "pti")
    if not isinstance(value, dict):
        raise CheckpointError(f"this archive holds a {type(value).__name__}; if it is a latent code, open it as one")
    if any(isinstance(value.get(role), Module) for role in nvidia_pickle.ROLES):
        return nvidia_pickle.describe(value, budget, "pti")
    return rosinality.describe(value, budget)


# ------------------------------------------------------------------------------------------ the converted copy


def _usable(folder: Path) -> bool:
    """Whether conversions can be kept there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _read_converted(path: Path, cache: Path, roles: Collection[Role] | None) -> CheckpointDescription:
    source = path.resolve(strict=True)
    index = cache / "index" / f"{hashlib.sha256(os.fsencode(source)).hexdigest()}.json"
    state = _state(source)
    digest = _known_digest(index, state)
    if digest is not None:
        converted = _converted(cache, digest)
        if converted.is_file():
            try:
                return _restored(safetensors.read(converted, roles))
            except CheckpointError as error:
                log.warning("converted copy %s cannot be used (%s); converting again", converted, error)
                converted.unlink(missing_ok=True)
    digest = _convert(source, cache)
    if _state(source) == state:
        _write_index(index, {**state, "sha256": digest})
    return _restored(safetensors.read(_converted(cache, digest), roles))


def _restored(description: CheckpointDescription) -> CheckpointDescription:
    """With the format of the original file."""
    metadata = dict(description.metadata)
    source_format = metadata.pop("source_format", description.format)
    return CheckpointDescription(networks=description.networks, format=source_format, metadata=metadata)


def _converted(cache: Path, digest: str) -> Path:
    return cache / f"{digest}-{READER_VERSION}.safetensors"


def _state(path: Path) -> dict[str, Any]:
    """What changes when a file is changed or replaced."""
    s = path.stat()
    return {"path": str(path), "size": s.st_size, "mtime": s.st_mtime_ns, "ctime": s.st_ctime_ns, "inode": s.st_ino}


def _known_digest(index: Path, state: dict[str, Any]) -> str | None:
    """The digest of a source file that is as it was when it was last converted."""
    try:
        entry = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    digest = entry.get("sha256") if isinstance(entry, dict) else None
    if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        return None
    return digest if {**state, "sha256": digest} == entry else None


def _write_index(index: Path, entry: dict[str, Any]) -> None:
    """Remember a digest. Failing costs only time later, so it does not stop anyone."""
    try:
        with replacing(index) as temporary:
            temporary.write_text(json.dumps(entry), encoding="utf-8")
    except OSError as error:
        log.warning("cannot write %s: %s", index, error)


def _convert(source: Path, cache: Path) -> str:
    """Read a source file in a child process and put its conversion into the cache; the source's SHA-256."""
    size = source.stat().st_size
    if size > MAX_FILE:
        raise CheckpointError(f"{source} has {size / 1e9:.1f} GB; up to {MAX_FILE / 1e9:.1f} GB can be read")
    _remove_stale(cache)
    work = Path(tempfile.mkdtemp(prefix=".converting-", dir=cache))
    try:
        result = _run_child(source, work, cache, size)
        error = result.get("error")
        if error is not None:
            kind = UnsafeCheckpoint if error == "UnsafeCheckpoint" else CheckpointError
            raise kind(f"{source}: {str(result.get('message'))[:2000]}")
        digest = result.get("sha256")
        if not isinstance(digest, str) or len(digest) != 64:
            raise CheckpointError(f"{source}: reading it gave no result; the file may be damaged")
        if not result.get("already"):
            try:
                os.replace(work / "converted.safetensors", _converted(cache, digest))
            except PermissionError:
                # Windows does not replace a file that somebody reads: then it is there already.
                if not _converted(cache, digest).is_file():
                    raise
        return digest
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _remove_stale(cache: Path) -> None:
    """Take away what conversions left that were killed, with their parent, long ago."""
    for old in cache.glob(".converting-*"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(old, ignore_errors=True)


# The child gets the parent's import path but none of its modules, environment or descriptors. The package is made known
# without running its __init__, which would load PyTorch.
_CHILD = """
import json, sys, types
job = json.loads(sys.argv[1])
sys.path[:] = job["import_path"]
package = types.ModuleType("draggan")
package.__path__ = [job["package"]]
sys.modules["draggan"] = package
from draggan.checkpoints import read
read.child_main(job)
"""
_ENVIRONMENT = ("PATH", "SYSTEMROOT", "WINDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "TEMP", "TMP")


def _run_child(source: Path, work: Path, cache: Path, size: int) -> dict[str, Any]:
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
        process = subprocess.run(
            [sys.executable, "-I", "-B", "-c", _CHILD, json.dumps(job)],
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
    raise CheckpointError(
        f"{source}: reading it ended early (exit status {process.returncode}), most likely because it needed more than "
        f"{CPU_SECONDS + size // (50 << 20)} s or {_memory_limit(size) >> 20} MB; the file is damaged or made to do so"
    )


def _memory_limit(size: int) -> int:
    return BASE_MEMORY + MEMORY_PER_BYTE * size


# --------------------------------------------------------------------------------------------------- the child


def child_main(job: dict[str, str]) -> None:
    """Read and convert one file; leave ``result.json`` and ``converted.safetensors`` in the work directory."""
    work = Path(job["work"])
    result: dict[str, Any]
    try:
        _limit_process(os.stat(job["source"]).st_size)
        _forbid(work)
        data = open_bytes(job["source"])
        digest = hashlib.sha256(data).hexdigest()
        result = {"sha256": digest}
        if _converted(Path(job["cache"]), digest).is_file():
            result["already"] = True
        else:
            description = describe_bytes(data)
            description.metadata["sha256"] = digest
            safetensors.write(work / "converted.safetensors", description)
    except (CheckpointError, OSError) as error:
        kind = "UnsafeCheckpoint" if isinstance(error, UnsafeCheckpoint) else "CheckpointError"
        result = {"error": kind, "message": str(error)}
    except MemoryError:
        result = {"error": "CheckpointError", "message": "the file needs more memory to be read than is allowed"}
    (work / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _limit_process(size: int) -> None:
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


def _forbid(work: Path) -> None:
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
