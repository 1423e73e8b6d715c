"""The models that have a name: what they show, where they come from, under what terms, and where they are on disk.

Three sources, later ones win: ``checkpoints/models.toml`` of this package; ``models.toml`` in the cache folder, where
people add their own entries; and any model file in the cache's folder ``models`` that no entry names.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from dnnlib import errors
from dnnlib.addresses import check_url, mirrors
from dnnlib.cache import cache_dir
from dnnlib.download import Progress, download
from dnnlib.http import remote_size
from draggan.checkpoints.description import FAMILIES
from draggan.config import MOST_TRUNCATION, SEEDS, SOLVER_NAMES, solver_name
from draggan.errors import ConfigError, DownloadError, ModelNotFound
from draggan.program import own_command

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "Catalogue",
    "ModelEntry",
    "Preset",
    "all_models",
    "builtin_dir",
    "entry_of",
    "fetch",
    "find",
    "listed_entry",
    "models_dir",
    "read_catalogue",
]

logger = logging.getLogger(__name__)

SUFFIXES = (".safetensors", ".pkl", ".pt", ".pth", ".npz")
KINDS = ("faces", "people", "animals", "vehicles", "other")
FORMATS = ("nvidia-pickle", "tensorflow-pickle", "rosinality", "pti", "state-dict", "safetensors")
# In the repository and in an installed package alike, the folder `checkpoints` is beside the package.
_BUILTIN_DIR = Path(__file__).resolve().parents[2] / "checkpoints"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_WINDOWS_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A drag to try: what a stranger sees after two clicks.

    Attributes:
        title: what it does, in a few words.
        seed: of the picture, at the model's own truncation.
        points: ``(handle x, handle y, target x, target y)`` of every point, image pixels.
    """

    title: str
    seed: int
    points: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One model of the list.

    Attributes:
        name: what it is loaded by.
        title: what it shows.
        kind: of what it shows: one of `KINDS`; empty: somebody's own entry that does not say.
        recommended: offered without a look at the list.
        family: "stylegan2" or "stylegan3"; empty: the file will tell.
        size: pixels ``(height, width)``, or None: the file will tell.
        format: of the file; a hint for people, the content decides.
        urls: https addresses of the same file, tried in order.
        page: where a person gets the file that cannot be fetched from ``urls``.
        file: its name in the folder of models.
        path: an absolute path, for an entry that lies elsewhere.
        bytes, sha256: of the file, where known.
        licence: of the weights.
        truncation: psi at which its pictures look best; None: as usual.
        step_size: a learning rate that suits it; None: as usual.
        solver: "adam" or "gauss-newton", where one was measured to be the better one for it; empty: as usual.
        level: the feature level to drag on; empty: the generator's default.
        presets: drags to try.
        notes: anything else a person should know.
        builtin: comes with the package.
    """

    name: str
    title: str
    kind: str = ""
    recommended: bool = False
    family: str = ""
    size: tuple[int, int] | None = None
    format: str = ""
    urls: tuple[str, ...] = ()
    page: str = ""
    file: str = ""
    path: str = ""
    bytes: int | None = None
    sha256: str | None = None
    licence: str = "not verified"
    truncation: float | None = None
    step_size: float | None = None
    solver: str = ""
    level: str = ""
    presets: tuple[Preset, ...] = ()
    notes: str = ""
    builtin: bool = False

    @property
    def local(self) -> Path:
        """Where the file is, or will be once it is downloaded."""
        if self.path:
            return Path(self.path).expanduser()
        return (builtin_dir() if self.builtin else models_dir()) / self.file

    @property
    def picture(self) -> Path:
        """Where a small picture of what it draws may lie: beside ``NAME.pkl``, as ``NAME.thumbnail.jpg``."""
        return self.local.with_suffix(".thumbnail.jpg")

    @property
    def on_disk(self) -> bool:
        """Whether the whole file is there."""
        return self.local.is_file()

    @property
    def by_hand(self) -> bool:
        """Whether only a person can get the file."""
        return not self.urls and not self.builtin and not self.path

    @property
    def state(self) -> str:
        """ "built in", "on disk", "partly downloaded", "to download", "by hand" or "missing"."""
        if self.on_disk:
            return "built in" if self.builtin else "on disk"
        if self.by_hand:
            return "by hand"
        if not self.urls:
            return "missing"
        return "partly downloaded" if self.local.with_name(self.file + ".part").exists() else "to download"

    def bytes_on_disk(self) -> int | None:
        """Size of the file if it is there."""
        return self.local.stat().st_size if self.on_disk else None

    def download_size(self) -> int | None:
        """Bytes to download: as listed, else as the server says now (asks the network); None if neither knows."""
        return self.bytes if self.bytes is not None else remote_size(self._addresses())

    def fetch(self, progress: Progress | None = None) -> Path:
        """The file, downloaded first if it is not there.

        Args:
            progress: called with bytes done and in all; what it raises cancels the download.

        Raises:
            DownloadError: it could not be fetched, or has to be fetched by hand; the message says how.
        """
        if self.on_disk:
            return self.local
        if not self.urls:
            raise DownloadError(f"the file of '{self.name}' is not here. {self.advice()}")
        with _translated():
            return download(
                self._addresses(),
                self.local,
                size=self.bytes,
                sha256=self.sha256,
                pins=cache_dir("pins.json"),
                progress=progress,
                advice=self.advice(),
            )

    def advice(self) -> str:
        """How a person gets the file without us."""
        if self.builtin:
            return f"It belongs to this package, as {self.local}; install the package again."
        if self.path:
            return f"Put it back to {self.local}, or change the entry's path in {cache_dir('models.toml')}."
        source = self.page or (self.urls[0] if self.urls else "")
        where = f"from {source} " if source else ""
        return f"By hand: get it {where}and save it as {self.local}."

    def hosts(self) -> list[str]:
        """The machines that are asked for the file, in order."""
        found = (urlsplit(url).hostname or "" for url in self._addresses())
        return list(dict.fromkeys(host for host in found if host))

    def _addresses(self) -> list[str]:
        return list(dict.fromkeys(address for url in self.urls for address in mirrors(url)))


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All models, and what was wrong with the entries that people added."""

    models: tuple[ModelEntry, ...]
    problems: tuple[str, ...] = ()


def builtin_dir() -> Path:
    """The folder of the models that come with the package."""
    return _BUILTIN_DIR


def models_dir() -> Path:
    """The folder of downloaded models, where people also drop their own files."""
    return cache_dir("models")


def all_models() -> tuple[ModelEntry, ...]:
    """All models, the built-in ones first; problems in people's own entries are logged."""
    catalogue = read_catalogue()
    for problem in catalogue.problems:
        logger.warning(problem)
    return catalogue.models


def read_catalogue() -> Catalogue:
    """All models, as the disk has them now; problems in people's own entries are told, not raised."""
    global _newest
    user_file, folder = cache_dir("models.toml"), models_dir()
    seen = _Seen(_builtin_models(), user_file, folder, _written(user_file), _written(folder))
    if _newest is None or _newest[0] != seen:
        catalogue = _read(seen)
        if not seen.is_settled:
            return catalogue
        _newest = seen, catalogue
    return _newest[1]


class _Seen(NamedTuple):
    """Where models are listed, and when that was changed last, in nanoseconds; None: it is not there."""

    builtin: tuple[ModelEntry, ...]
    user_file: Path
    folder: Path
    file_written: int | None
    folder_written: int | None

    @property
    def is_settled(self) -> bool:
        """Whether a change from now on will show in the times; file systems count in steps of up to two seconds."""
        written = (self.file_written, self.folder_written)
        return all(at is None or time.time_ns() - at > 2_000_000_000 for at in written)


_newest: tuple[_Seen, Catalogue] | None = None


def _written(path: Path) -> int | None:
    """When a file, or which files are in a folder, was changed last; None: it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _read(seen: _Seen) -> Catalogue:
    models = {entry.name: entry for entry in seen.builtin}
    problems = []
    if seen.user_file.is_file():
        try:
            models |= {entry.name: entry for entry in parse(seen.user_file)}
        except ConfigError as error:
            problems.append(str(error))
    known = {entry.local for entry in models.values()}
    for path in sorted(seen.folder.iterdir()) if seen.folder.is_dir() else ():
        if path.suffix.lower() in SUFFIXES and path.is_file() and path not in known and not path.name.startswith("."):
            # A listed name belongs to what the list says.
            name = path.name if path.stem in models else path.stem
            models[name] = ModelEntry(name=name, title=path.stem, file=path.name)
    return Catalogue(models=tuple(models.values()), problems=tuple(problems))


@functools.cache
def _builtin_models() -> tuple[ModelEntry, ...]:
    return parse(builtin_dir() / "models.toml", builtin=True)


def find(name: str) -> ModelEntry:
    """The entry of that name.

    Raises:
        ModelNotFound: there is none; the message suggests similar ones.
    """
    models = {entry.name: entry for entry in all_models()}
    if name in models:
        return models[name]
    similar = difflib.get_close_matches(name, models, n=3)
    hint = f"did you mean {' or '.join(similar)}?" if similar else f"`{own_command()} models` lists all names."
    raise ModelNotFound(f"'{name}' is neither a listed model nor a file; {hint}")


def listed_entry(model: str | os.PathLike[str]) -> ModelEntry | None:
    """The entry of a model given by name, by one of its addresses or by the path of its file; None: not listed."""
    entries = all_models()
    name = os.fspath(model)
    found = next((entry for entry in entries if name == entry.name or name in entry.urls), None)
    path = Path(model).expanduser()
    if not path.is_file():
        return found
    # A file goes before a name, as everywhere.
    path = path.resolve()
    return next((entry for entry in entries if entry.on_disk and entry.local.resolve() == path), None)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """The downloader's errors as ours; what is raised by those who watch its progress passes."""
    try:
        yield
    except errors.DownloadError as error:
        raise DownloadError(str(error)) from error


def fetch(model: str, progress: Progress | None = None) -> Path:
    """The file of a listed model or https address, downloaded into the cache if it is not there.

    Raises:
        ModelNotFound: no such model.
        DownloadError: it could not be fetched.
    """
    return entry_of(model).fetch(progress)


def entry_of(model: str) -> ModelEntry:
    """The entry of a listed model or https address; of an address that is not listed, one made for it.

    Raises:
        ModelNotFound: no such model.
        DownloadError: an address that is not fetched.
    """
    if "://" not in model:
        return find(model)
    with _translated():
        check_url(model)
    listed = next((entry for entry in all_models() if model in entry.urls), None)
    if listed is not None:
        return listed
    name = re.sub(r"[^A-Za-z0-9._-]", "_", unquote(urlsplit(model).path).rsplit("/", 1)[-1]).lstrip(".") or "model"
    # The digest keeps files of the same name from two places apart.
    file = f"{hashlib.sha256(model.encode()).hexdigest()[:8]}-{name[-80:]}"
    return ModelEntry(name=file, title=name, urls=(model,), file=file)


def parse(path: Path, *, builtin: bool = False) -> tuple[ModelEntry, ...]:
    """The entries of a ``models.toml``, checked.

    Args:
        builtin: whether entries may claim to come with the package.

    Raises:
        ConfigError: the file is no TOML, or an entry has a wrong key or value; the message names both.
    """
    try:
        with open(path, "rb") as f:
            content = tomllib.load(f)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not a TOML file: {error}") from error
    tables = content.get("model", [])
    unknown = [key for key in content if key != "model"]
    if unknown or not isinstance(tables, list):
        what = f"; '{unknown[0]}' is not known" if unknown else ""
        raise ConfigError(f"{path}: every entry begins with [[model]]{what}")
    entries: dict[str, ModelEntry] = {}
    for number, table in enumerate(tables, 1):
        name = table.get("name", f"number {number}") if isinstance(table, dict) else f"number {number}"
        try:
            entry = _entry(table, builtin=builtin)
        except ValueError as error:
            raise ConfigError(f"{path}: model {name}: {error}") from error
        if entry.name in entries:
            raise ConfigError(f"{path}: model {name} is there twice")
        entries[entry.name] = entry
    return tuple(entries.values())


def _entry(table: Any, *, builtin: bool) -> ModelEntry:
    """One checked entry; a ValueError says what is wrong with it."""
    if not isinstance(table, dict):
        raise ValueError("it must be a table of keys and values")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _CHECKS:
            raise ValueError(f"unknown key '{key}'; known are {', '.join(_CHECKS)}")
        values[key] = _CHECKS[key](key, value)
    if not values.get("name"):
        raise ValueError(_NAME_RULE)
    values.setdefault("title", values["name"])
    for preset in values.get("presets", ()):
        _check_inside(preset, values.get("size"))
    if values.get("builtin") and not builtin:
        raise ValueError(_BUILTIN_RULE)
    if not any(values.get(key) for key in ("urls", "page", "path", "builtin", "file")):
        raise ValueError("give urls (https), a path, a file in the folder of models, or the page where people get it")
    if not values.get("file") and not values.get("path"):
        values["file"] = _plain_file_name("file", _file_name(values))
    return ModelEntry(**values)


# Each of the following takes a key and its value, and gives the value of the entry's field or says what is allowed.

_NAME_RULE = "name must be made of letters, digits, '.', '_' and '-'"
_BUILTIN_RULE = "builtin is for the models that come with the package"
_PRESET_RULE = 'a preset looks like { title = "Open the mouth", seed = 7, points = [[64, 90, 64, 98]] }'


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key} = {value!r} must be text in quotes")
    return value


def _one_of(*names: str) -> Callable[[str, Any], str]:
    def check(key: str, value: Any) -> str:
        if _text(key, value) not in ("", *names):
            raise ValueError(f"{key} must be one of {', '.join(names)}")
        return value

    return check


def _number(low: float, high: float) -> Callable[[str, Any], float]:
    def check(key: str, value: Any) -> float:
        if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
            raise ValueError(f"{key} = {value!r} must be a number from {low:g} to {high:g}")
        return value

    return check


def _name(key: str, value: Any) -> str:
    if not _NAME.fullmatch(_text(key, value)):
        raise ValueError(_NAME_RULE)
    return value


def _plain_file_name(key: str, value: Any) -> str:
    if _text(key, value) and (not _NAME.fullmatch(value) or _WINDOWS_DEVICE.fullmatch(value)):
        raise ValueError(f"file = {value!r} must be a plain file name of letters, digits, '.', '_' and '-'")
    return value


def _sha256(key: str, value: Any) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", _text(key, value).lower()):
        raise ValueError("sha256 must be 64 hexadecimal digits")
    return value.lower()


def _byte_count(key: str, value: Any) -> int:
    if type(value) is not int or not 0 < value < 1 << 40:
        raise ValueError(f"{key} = {value!r} must be a whole number above 0")
    return value


def _flag(key: str, value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(_BUILTIN_RULE)
    return value


def _solver(key: str, value: Any) -> str:
    try:
        return solver_name(value) if _text(key, value) else ""
    except ConfigError:
        names = " or ".join(repr(name) for name in SOLVER_NAMES)
        raise ValueError(f"{key} = {value!r} must be {names}") from None


def _size(key: str, value: Any) -> tuple[int, int]:
    good = isinstance(value, list) and len(value) == 2 and all(type(n) is int and 4 <= n <= 8192 for n in value)
    if not good:
        raise ValueError(f"{key} = {value!r} must be [height, width] in pixels")
    return value[0], value[1]


def _urls(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(url, str) for url in value):
        raise ValueError('urls must be a list of texts, such as ["https://..."]')
    for url in value:
        try:
            check_url(url)
        except errors.RefusedError as error:
            raise ValueError(f"{error}; list such an address as 'page'") from error
    return tuple(value)


def _presets(key: str, value: Any) -> tuple[Preset, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{key} must be a list in [ ]")
    return tuple(_preset(item) for item in value)


def _preset(value: Any) -> Preset:
    if not isinstance(value, dict) or set(value) != {"title", "seed", "points"}:
        raise ValueError(_PRESET_RULE)
    title, seed, points = value["title"], value["seed"], value["points"]
    if not isinstance(title, str) or not 0 < len(title) <= 40 or type(seed) is not int or not 0 <= seed < SEEDS:
        raise ValueError(_PRESET_RULE)
    if not isinstance(points, list) or not points:
        raise ValueError(_PRESET_RULE)
    for point in points:
        if not isinstance(point, list) or len(point) != 4 or any(type(n) not in (int, float) for n in point):
            raise ValueError(_outside(point, title))
    return Preset(title=title, seed=seed, points=tuple((a, b, c, d) for a, b, c, d in points))


def _check_inside(preset: Preset, size: tuple[int, int] | None) -> None:
    """Whether the points lie in the picture, where its size is known."""
    height, width = size or (8192, 8192)
    for point in preset.points:
        if not all(0 <= n <= most for n, most in zip(point, (width - 1, height - 1) * 2, strict=True)):
            raise ValueError(_outside(list(point), preset.title))


def _outside(point: Any, title: str) -> str:
    return f"{point!r} of preset '{title}' is not [handle x, handle y, target x, target y] inside"


# The keys of an entry in the order of the class's fields.
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "name": _name,
    "title": _text,
    "kind": _one_of(*KINDS),
    "recommended": _flag,
    "family": _one_of(*FAMILIES),
    "size": _size,
    "format": _one_of(*FORMATS),
    "urls": _urls,
    "page": _text,
    "file": _plain_file_name,
    "path": _text,
    "bytes": _byte_count,
    "sha256": _sha256,
    "licence": _text,
    "truncation": _number(0.0, MOST_TRUNCATION),
    "step_size": _number(1e-6, 1.0),
    "solver": _solver,
    "level": _text,
    "presets": _presets,
    "notes": _text,
    "builtin": _flag,
}


def _file_name(values: dict[str, Any]) -> str:
    """The published name of the file where there is one, else made from the entry's name."""
    for url in values.get("urls", ()):
        published = unquote(urlsplit(url).path).rsplit("/", 1)[-1]
        if _NAME.fullmatch(published) and published.lower().endswith(SUFFIXES):
            return published
    return f"{values['name']}.safetensors" if values.get("format") == "safetensors" else f"{values['name']}.pkl"
