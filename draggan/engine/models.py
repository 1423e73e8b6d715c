"""Where generators come from: the models of the catalogue, and files that people open."""

from __future__ import annotations

import functools
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dnnlib.download import sha256_of
from draggan.checkpoints.catalogue import ModelEntry, Preset, all_models, entry_of, find, listed_entry
from draggan.checkpoints.store import load_generator, locate
from draggan.downloads import Terms, terms_of
from draggan.errors import LimitError, ModelNotFound
from draggan.generators.base import Generator
from draggan.recipe import ModelReference
from draggan.suggestions import TRUNCATION, settings_of, truncation_of

__all__ = ["AnyModels", "CatalogueModels", "Model", "ModelSource", "Models", "Progress", "portable_reference"]

# Bytes done and in all (None: unknown). Raising from it cancels.
Progress = Callable[[int, "int | None"], None]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A line in the list of models.

    Attributes:
        name: what it is loaded by.
        title: what it shows, and how large.
        what: what it shows; empty: as the title.
        group: where it stands in a list: "built in", one of `draggan.checkpoints.catalogue.KINDS`, or "files".
        recommended: offered without a look at the list.
        picture: a small JPEG of what it draws, if there is one.
        here: whether it can be loaded without a download.
        state: where it is, for the list; empty where that goes without saying.
        file: what pictures saved from it are called.
        truncation: where its pictures look best.
        settings: of a drag, where others than the usual ones suit it.
        presets: drags to try.
    """

    name: str
    title: str
    what: str = ""
    group: str = "files"
    recommended: bool = False
    picture: Path | None = None
    here: bool = True
    state: str = ""
    file: str = "picture"
    truncation: float = TRUNCATION
    settings: Mapping[str, Any] = field(default_factory=dict)
    presets: tuple[Preset, ...] = ()


def portable_reference(models: Models, model: ModelReference) -> ModelReference:
    """A model of a recipe by a name for others: that under which a file was opened here is its owner's secret, and
    useless there."""
    return replace(model, name=models.find(model.name).file)


@runtime_checkable
class ModelSource(Protocol):
    """Where an engine gets its models from."""

    def find(self, name: str) -> Model:
        """A model by its name; `ModelNotFound` otherwise."""

    def load(self, name: str) -> Generator:
        """Its generator, frozen; the same one every time."""

    def sha256(self, name: str) -> str:
        """SHA-256 of its file, 64 hexadecimal digits; empty where there is none."""


@runtime_checkable
class Models(ModelSource, Protocol):
    """The same for a page that offers them. Names come from anybody: only listed and opened models are found."""

    def listed(self) -> Sequence[Model]:
        """The models to choose from, the first one for a start."""

    def terms(self, name: str, *, ask: bool) -> Terms:
        """What to know before a download; ``ask`` the server for the size if nothing else tells."""

    def fetch(self, name: str, progress: Progress) -> None:
        """Download it."""

    def open(self, path: Path) -> Model:
        """Read a file of any known format; the model's name is known to the caller alone."""

    def unused(self, path: Path) -> float:
        """Seconds since a file that was opened has been used last."""


class CatalogueModels:
    """The registry's models, and files that people open.

    Args:
        device: where to load them.
        first: a registry name, a file or an https address, shown at the start; downloaded now if need be.
        downloads: whether other models may be downloaded later on. Those that are not here are not listed otherwise.

    Raises:
        DragGANError: the first model cannot be had; the message says why.
    """

    def __init__(self, device: str = "auto", first: str = "", *, downloads: bool = True) -> None:
        self._device, self._first, self._downloads = device, first, downloads
        self._own: tuple[Model, ...] = ()
        # Files by their names here: of one that was opened, its opener alone is told it.
        self._files: dict[str, tuple[Path, Model]] = {}
        self._used: dict[Path, float] = {}
        if first:
            load_generator(first, device)
            entry = listed_entry(first)
            # Everybody is told the name of the first one, and nobody in which folder or at which address it is.
            self._first = locate(first).name if entry is None else entry.name
            if entry is None:
                self._own = (self._add(self._first, locate(first)),)

    def listed(self) -> Sequence[Model]:
        """The model to begin with, then the built-in ones, what else is here, and what can be downloaded."""
        entries = sorted(all_models(), key=lambda entry: (not entry.builtin, not entry.on_disk, entry.by_hand))
        models = [model for model in (*self._own, *map(_model, entries)) if model.here or self._downloads]
        return sorted(models, key=lambda model: model.name != self._first)

    def find(self, name: str) -> Model:
        """A listed or opened model."""
        if name in self._files:
            return self._files[name][1]
        # Asked with every step: not all of them are looked for on the disk.
        for entry in all_models():
            if entry.name == name and (entry.on_disk or self._downloads):
                return _model(entry)
        raise ModelNotFound(f"there is no model '{name}' here; choose one of the list")

    def load(self, name: str) -> Generator:
        """The generator of a listed or opened model that is on this machine."""
        if name in self._files:
            path = self._files[name][0]
            self._used[path] = time.monotonic()
            return load_generator(path, self._device)
        if not self.find(name).here:
            raise ModelNotFound(f"the model '{name}' is not on this machine; download it first")
        return load_generator(name, self._device)

    def sha256(self, name: str) -> str:
        """Of the file, computed once."""
        if name in self._files:
            return file_sha256(self._files[name][0])
        self.find(name)
        return file_sha256(locate(name))

    def file(self, name: str) -> Path | None:
        """Where a model is that no other machine knows by its name; None: the catalogue has it."""
        return self._files[name][0] if name in self._files else None

    def terms(self, name: str, *, ask: bool) -> Terms:
        """What the registry and, if asked, the server say."""
        self.find(name)
        return terms_of(find(name), ask=ask)

    def fetch(self, name: str, progress: Progress) -> None:
        """Download a listed model."""
        if not self._downloads:
            raise LimitError("this server downloads nothing for its visitors; choose another model")
        self.find(name)
        find(name).fetch(progress)

    def open(self, path: Path) -> Model:
        """Read a file; what is wrong with it is raised now."""
        path = path.expanduser()
        load_generator(path, self._device)
        self._forget_gone()
        return self._add(f"{path.stem}-{secrets.token_hex(8)}", path)

    def _add(self, name: str, path: Path) -> Model:
        model = Model(name=name, title=path.name, file=path.stem)
        self._files[name] = (path, model)
        self._used[path] = time.monotonic()
        return model

    def _forget_gone(self) -> None:
        """Files that are not there any more, as those of visitors after a time, are nobody's models."""
        gone = {name for name, (path, _) in self._files.copy().items() if name != self._first and not path.is_file()}
        for name in gone:
            path, _ = self._files.pop(name)
            self._used.pop(path, None)

    def unused(self, path: Path) -> float:
        """Seconds since an opened file was used last."""
        return time.monotonic() - self._used.get(path, -math.inf)


class AnyModels:
    """Whatever `load_generator` takes: names, paths and addresses. For the machine's own user, not for visitors.

    Args:
        device: where to load them.
        downloads: whether a model that is not on this machine is downloaded.
    """

    def __init__(self, device: str = "auto", *, downloads: bool = True) -> None:
        self._device, self._downloads = device, downloads

    def find(self, name: str) -> Model:
        """The model of that name, with what the catalogue knows about it."""
        entry = listed_entry(name)
        if entry is None:
            return Model(name=name, title=Path(name).name, file=Path(name).stem)
        return replace(_model(entry), name=name)

    def load(self, name: str) -> Generator:
        """Its generator; downloaded now if need be and allowed."""
        if not self._downloads and not Path(name).expanduser().is_file() and not entry_of(name).on_disk:
            raise ModelNotFound(f"the model '{name}' is not on this machine; download it first")
        return load_generator(name, self._device)

    def sha256(self, name: str) -> str:
        """Of the file, computed once."""
        return file_sha256(locate(name))

    def file(self, name: str) -> Path | None:
        """Where a model is that is a file of this machine; None: it is known by its name."""
        path = Path(name).expanduser()
        return path if listed_entry(name) is None and path.is_file() else None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, computed again only when the file has changed."""
    status = path.stat()
    return _file_sha256(str(path), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=256)
def _file_sha256(path: str, _written: int, _size: int) -> str:
    return sha256_of(Path(path))


def _model(entry: ModelEntry) -> Model:
    size = "" if entry.size is None else f" · {entry.size[0]} px"
    if entry.size is not None and entry.size[0] != entry.size[1]:
        size = f" · {entry.size[1]} x {entry.size[0]} px"
    return Model(
        name=entry.name,
        title=f"{entry.title}{size}",
        what=entry.title,
        group="built in" if entry.builtin else entry.kind or "files",
        recommended=entry.recommended,
        picture=entry.picture,
        here=entry.on_disk,
        state="" if entry.on_disk else entry.state,
        file=entry.name,
        truncation=min(truncation_of(entry), 1.0),
        settings=settings_of(entry),
        presets=entry.presets,
    )
