"""Find, read, build and share models.

A model is loaded once per process and device and shared by everyone who asks: generators are frozen and remember no
user. The least recently used ones are let go when there are more than the limit.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from dnnlib.download import Progress
from draggan.checkpoints import build, catalogue
from draggan.checkpoints.description import Role
from draggan.checkpoints.read import read_checkpoint
from draggan.device import choose_device
from draggan.errors import CheckpointError
from draggan.generators.base import Generator

__all__ = [
    "ModelStore",
    "default_store",
    "load_discriminator",
    "load_generator",
    "locate",
]

log = logging.getLogger(__name__)

T = TypeVar("T")
_BEST: tuple[Role, ...] = ("G_ema",)
_DISCRIMINATOR: tuple[Role, ...] = ("D",)


@dataclass
class _Slot:
    """One model that is there or on its way."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    model: Any = None


class ModelStore:
    """Models in memory, each loaded once even if several threads ask at the same moment.

    Args:
        limit: how many models to keep; the least recently used one goes first. Whoever still holds a model that
            was let go keeps it alive.
    """

    def __init__(self, limit: int = 4) -> None:
        self.limit = limit
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def generator(self, path: str | os.PathLike[str], device: str | torch.device = "auto") -> Generator:
        """The generator in a file, from memory if it is there and the file has not changed since."""
        target = choose_device(device)

        def load() -> Generator:
            description = read_checkpoint(path, _BEST)
            if not description.networks:
                description = read_checkpoint(path)
            generator = build.build_generator(description, target)
            # Once for everybody in this process: the model is shared.
            for note in description.metadata.get("notes", ()):
                log.warning("%s: %s", Path(path).name, note)
            return generator

        return self._get(("G", _identity(path), str(target)), load)

    def discriminator(self, path: str | os.PathLike[str], device: str | torch.device = "auto") -> nn.Module:
        """The discriminator in a file, likewise."""
        target = choose_device(device)

        def load() -> nn.Module:
            description = read_checkpoint(path, _DISCRIMINATOR)
            return build.build_discriminator(description, target)

        return self._get(("D", _identity(path), str(target)), load)

    def clear(self) -> None:
        """Let go of all models."""
        with self._lock:
            self._slots.clear()

    def __len__(self) -> int:
        return len(self._slots)

    def _get(self, key: Hashable, load: Callable[[], T]) -> T:
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
        # Loading is outside the store's lock: other models stay available meanwhile.
        with slot.lock:
            if slot.model is None:
                try:
                    slot.model = load()
                except BaseException:
                    with self._lock:
                        if self._slots.get(key) is slot:
                            del self._slots[key]
                    raise
                self._shrink()
            return slot.model

    def _shrink(self) -> None:
        with self._lock:
            loaded = [key for key, slot in self._slots.items() if slot.model is not None]
            for key in loaded[: max(len(loaded) - self.limit, 0)]:
                del self._slots[key]


def _identity(path: str | os.PathLike[str]) -> tuple[str, int, int]:
    """What tells one state of a file from another: where it is, when it was written, how long it is."""
    try:
        real = Path(path).resolve(strict=True)
        status = real.stat()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    return str(real), status.st_mtime_ns, status.st_size


_default_store = ModelStore()


def default_store() -> ModelStore:
    """The store of this process."""
    return _default_store


def load_generator(
    model: str | os.PathLike[str], device: str | torch.device = "auto", progress: Progress | None = None
) -> Generator:
    """A generator by its name in the catalogue, path or https URL; shared by all callers in this process.

    Args:
        model: "cat", "path/to/model.pkl" or "https://...". A listed model that is not on disk, or a URL, is
            downloaded into the cache first.
        device: "auto" (cuda, else cpu), "cpu", "mps", "cuda" or "cuda:N".
        progress: called with bytes done and in all while downloading; what it raises cancels the download.

    Raises:
        ModelNotFound: neither a name in the list nor a file.
        DownloadError: the file could not be fetched.
        CheckpointError: the file cannot be read.
        ConfigError: no such device here.
    """
    return default_store().generator(locate(model, progress), choose_device(device))


def load_discriminator(
    model: str | os.PathLike[str], device: str | torch.device = "auto", progress: Progress | None = None
) -> nn.Module:
    """The discriminator of a model, where its file has one; arguments and errors as for `load_generator`."""
    return default_store().discriminator(locate(model, progress), choose_device(device))


def locate(model: str | os.PathLike[str], progress: Progress | None = None) -> Path:
    """The file of a model: a path as it is; a listed model or URL from the cache, downloaded first if need be.

    Raises:
        ModelNotFound, DownloadError: as for `load_generator`.
    """
    path = Path(model).expanduser()
    if path.is_file():
        return path
    return catalogue.fetch(str(model), progress)
