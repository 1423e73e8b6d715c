"""The only caller of ``torch.utils.cpp_extension``: builds a compiled library when it is first asked for, once.

A build happens in a child process of low priority and a temporary directory, and appears in the cache by a rename. So
an interrupted build leaves nothing that the next one could trip over, no lock file goes stale, a compiler that hangs is
stopped, one that still runs when this process ends is ended with it, and ``os.environ`` of this process is never
touched. The cache is keyed by the content of all sources and headers, the flags, the versions of Python and torch, and
(for ``-march=native``) the processor.

A failure is remembered for the life of the process: asking again raises the same `BuildError` at once. It is logged
here; callers catch it and go on with the plain PyTorch twin.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import json
import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dnnlib.cache import cache_dir
from torch_utils.errors import BuildError

__all__ = ["Build", "Toolchain", "builds", "for_processor", "load_cached", "load_library", "stop_children", "toolchain"]

logger = logging.getLogger(__name__)

BUILD_TIMEOUT = 1800.0
"""Seconds after which a build is stopped and counts as failed."""

_LOADING = 5.0  # seconds, longer than it takes to load a library that is there
_HEADER_SUFFIXES = {".h", ".hpp", ".cuh", ".inc"}


@dataclass(frozen=True, kw_only=True)
class Build:
    """What became of one library in this process; ``draggan doctor`` shows it.

    Attributes:
        state: "building", "built" (now), "cached" (by an earlier run) or "failed".
        path: the library, or None if the build failed.
        seconds: time the build took; 0 when cached.
        error: the reason for "failed", else empty.
    """

    name: str
    state: str
    path: Path | None
    seconds: float
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """What a build would use. None means that it was not found."""

    compiler: str | None
    ninja: str | None
    cuda: str | None
    cache: Path


# Held while something is built or loaded, which may take minutes; the tables below it are for everybody at any time.
_build_lock = threading.RLock()
_loaded: dict[str, ctypes.CDLL] = {}
_failed: dict[str, BuildError] = {}
_builds: dict[str, Build] = {}
_children: set[subprocess.Popen[str]] = set()


def load_library(
    name: str, sources: Sequence[Path], *, cflags: Sequence[str] = (), cuda_cflags: Sequence[str] = ()
) -> ctypes.CDLL:
    """A shared library, built if the cache lacks it: with a plain C interface, or one that registers operators.

    Args:
        name: a Python identifier; part of the file name.
        sources: C++ files. Headers beside them count as part of the source.
        cflags: compiler flags.
        cuda_cflags: those of nvcc, which compiles ``.cu`` sources.

    Raises:
        BuildError: there is no compiler, it failed, or the result cannot be loaded.
    """
    flags = tuple(cflags), tuple(cuda_cflags)
    with _build_lock:
        key = _digest(name, sources, *flags)
        if key in _failed:
            raise _failed[key]
        if key in _loaded:
            return _loaded[key]
        try:
            _loaded[key] = _find_or_build(name, key, sources, *flags)
        except BuildError as error:
            _failed[key] = error
            _builds[key] = Build(name=name, state="failed", path=None, seconds=0.0, error=str(error))
            logger.warning("compiled op '%s' is not available: %s", name, str(error).splitlines()[0])
            raise
        return _loaded[key]


def load_cached(
    name: str, sources: Sequence[Path], *, cflags: Sequence[str] = (), cuda_cflags: Sequence[str] = ()
) -> bool:
    """Load a shared library if an earlier process has built it; never builds, nor waits for a build. As `load_library`.

    Returns:
        Whether it is loaded.

    Raises:
        BuildError: its sources cannot be read.
    """
    if any(build.state == "building" for build in builds()) or not _build_lock.acquire(timeout=_LOADING):
        return False
    try:
        key = _digest(name, sources, tuple(cflags), tuple(cuda_cflags))
        if key not in _loaded and key not in _failed:
            library = _cached(name, key)
            if library is not None:
                _loaded[key] = library
        return key in _loaded
    finally:
        _build_lock.release()


def for_processor() -> str:
    """The compiler's flag for the processor to build for: this very one, which the cache is keyed by.

    ``DRAGGAN_MARCH`` names another (such as "x86-64-v3"), for a cache that other machines will use. Nobody checks that
    they can: without these instructions the process ends.
    """
    return f"-march={os.environ.get('DRAGGAN_MARCH', '').strip() or 'native'}"


def builds() -> list[Build]:
    """Every library that this process has asked for, in the order of asking. Never waits for a build."""
    return list(_builds.copy().values())


def toolchain() -> Toolchain:
    """Which compiler, ninja and CUDA a build would find."""
    path = _child_path()
    compiler = os.environ.get("CXX") or ("cl" if sys.platform == "win32" else "c++")
    return Toolchain(
        compiler=shutil.which(compiler, path=path),
        ninja=shutil.which("ninja", path=path),
        cuda=shutil.which("nvcc", path=path),
        cache=cache_dir("ops"),
    )


def _find_or_build(
    name: str, key: str, sources: Sequence[Path], cflags: tuple[str, ...], cuda_cflags: tuple[str, ...]
) -> ctypes.CDLL:
    cached = _cached(name, key)
    if cached is not None:
        return cached
    final = _folder(name, key)
    # A damaged file, or one from a machine with other libraries: not worth more than a rebuild.
    shutil.rmtree(final, ignore_errors=True)
    _builds[key] = Build(name=name, state="building", path=None, seconds=0.0)
    start = time.monotonic()
    library = _build(name, final, sources, cflags, cuda_cflags)
    seconds = time.monotonic() - start
    try:
        op = ctypes.CDLL(str(library))
    except OSError as error:
        raise BuildError(f"the op '{name}' was built but cannot be loaded: {error}") from error
    _builds[key] = Build(name=name, state="built", path=library, seconds=seconds)
    logger.info("built op '%s' in %.1f s", name, seconds)
    return op


def _folder(name: str, key: str) -> Path:
    return cache_dir("ops", f"{name}-{key[:20]}")


def _cached(name: str, key: str) -> ctypes.CDLL | None:
    """The library that is in the cache, loaded; None: there is none, or it cannot be loaded."""
    library = _library_in(_folder(name, key), name)
    if library is None:
        return None
    try:
        op = ctypes.CDLL(str(library))
    except OSError as error:
        logger.info("cached op %s cannot be loaded (%s)", library, error)
        return None
    _builds[key] = Build(name=name, state="cached", path=library, seconds=0.0)
    return op


def _library_in(directory: Path, name: str) -> Path | None:
    for suffix in (".so", ".pyd", ".dll", ".dylib"):
        path = directory / f"{name}{suffix}"
        if path.is_file():
            return path
    return None


def _build(
    name: str, final: Path, sources: Sequence[Path], cflags: tuple[str, ...], cuda_cflags: tuple[str, ...]
) -> Path:
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _sweep(final.parent)
        work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=final.parent))
    except OSError as error:
        raise BuildError(
            f"no place to build the op '{name}': {error}. Set DRAGGAN_HOME to a writable folder."
        ) from error
    try:
        request = {
            "name": name,
            "sources": [str(Path(s).resolve()) for s in sources],
            "extra_cflags": list(cflags),
            "extra_cuda_cflags": list(cuda_cflags),
            "build_directory": str(work),
        }
        root = str(Path(__file__).resolve().parents[2])
        environment = dict(os.environ)
        environment["PATH"] = _child_path()
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "torch_utils.ops.build", json.dumps(request)]
        returncode, output = _run_child(name, command, environment)
        library = _library_in(work, name)
        if returncode != 0 or library is None:
            raise BuildError(f"the op '{name}' could not be built: {_reason(output)}\n{output[-4000:]}")
        for path in work.iterdir():
            if path != library:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        # mkdtemp makes the folder private; a cache shared by several users stays readable.
        work.chmod(0o755)
        try:
            work.rename(final)
        except OSError:
            # Another process was first; its build is as good as ours.
            if _library_in(final, name) is None:
                raise
        found = _library_in(final, name)
        assert found is not None
        return found
    except OSError as error:
        raise BuildError(f"the op '{name}' could not be built: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run_child(name: str, command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and output of a child that is stopped, with its compilers, when it takes too long or we end."""
    child = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Its own group, so that its compilers can be stopped with it.
        start_new_session=sys.platform != "win32",
    )
    _children.add(child)
    try:
        output, _ = child.communicate(timeout=BUILD_TIMEOUT)
        return child.returncode, output
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"building the op '{name}' took more than {BUILD_TIMEOUT:.0f} s and was stopped") from error
    finally:
        _children.discard(child)
        _stop(child)


def _stop(child: subprocess.Popen[str]) -> None:
    """End a child and what it started."""
    if child.poll() is None:
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                child.kill()
            else:
                os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@atexit.register
def stop_children() -> None:
    """End the compilers that this process has started; also for an end that passes `atexit` by."""
    for child in list(_children):
        _stop(child)


def _sweep(folder: Path) -> None:
    """Remove what builds of killed processes left behind, once it is older than any build can be."""
    for path in folder.glob(".*-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > 2 * BUILD_TIMEOUT + 60:
                shutil.rmtree(path, ignore_errors=True)


def _reason(output: str) -> str:
    """The line of a compiler's output that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        if "error" in line.lower() and not line.startswith(("FAILED", "subprocess")):
            return line[:300]
    return lines[-1][:300] if lines else "no output"


def _child_path() -> str:
    # A virtual environment that was not activated has its ninja beside its Python, but not in PATH.
    return os.pathsep.join(filter(None, [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]))


def _digest(name: str, sources: Sequence[Path], cflags: tuple[str, ...], cuda_cflags: tuple[str, ...]) -> str:
    paths = [Path(s) for s in sources]
    h = hashlib.sha256()
    try:
        folders = {p.parent for p in paths}
        headers = {file for folder in folders for file in folder.iterdir() if file.suffix in _HEADER_SUFFIXES}
        for path in [*paths, *sorted(headers)]:
            data = path.read_bytes()
            h.update(f"{path.name}:{len(data)}:".encode() + data)
    except OSError as error:
        raise BuildError(f"the source of the op '{name}' cannot be read: {error}") from error
    # "library", the form of the result, keeps what is in people's caches: there used to be another form.
    about = ["library", name, cflags, cuda_cflags, sys.version, torch.__version__, torch.version.cuda]
    # Not the kernel's release: its updates do not change what a library runs on.
    about += [platform.system(), platform.machine(), *platform.libc_ver()]
    about += [os.environ.get("CXX"), os.environ.get("TORCH_CUDA_ARCH_LIST")]
    if "-march=native" in cflags:
        about.append(_processor())
    h.update(json.dumps(about).encode())
    return h.hexdigest()


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    return next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")


def _main(request: str) -> None:
    """In the child process: build, and load once so that a library with missing symbols counts as a failure."""
    from torch.utils import cpp_extension

    if sys.platform != "win32":
        os.nice(10)
    arguments = json.loads(request)
    if "-fopenmp" in arguments["extra_cflags"] and _is_clang():
        # Its code wants LLVM's library of threads; GCC's wants the one that PyTorch has brought already.
        arguments["extra_ldflags"] = ["-fopenmp"]
    cpp_extension.load(**arguments, is_python_module=False, verbose=True)


def _is_clang() -> bool:
    compiler = toolchain().compiler
    if compiler is None:
        return False
    about = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60, check=False)
    return "clang" in about.stdout.lower()


if __name__ == "__main__":
    _main(sys.argv[1])
