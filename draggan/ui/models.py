"""The models that a page offers, and how it gets them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from draggan.checkpoints.registry import ModelEntry, all_models
from draggan.checkpoints.store import load_generator
from draggan.errors import ModelNotFound
from draggan.generators.base import Generator

__all__ = ["Model", "Models", "Progress", "Shelf"]

# Bytes done and in all (None: unknown). Raising from it cancels.
Progress = Callable[[int, "int | None"], None]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A line in the list of models.

    Attributes:
        name: what it is loaded by.
        title: what the list shows.
        here: whether it can be loaded without a download.
        truncation: where its pictures look best.
        step_size: a learning rate that suits it; None: the usual one.
        level: the feature level to drag on; None: the generator's own choice.
    """

    name: str
    title: str
    here: bool = True
    truncation: float = 0.7
    step_size: float | None = None
    level: str | None = None


@runtime_checkable
class Models(Protocol):
    """Where a page gets its models from. Loading the same name twice gives the same generator."""

    def listed(self) -> Sequence[Model]:
        """The models to choose from, the first one for a start."""

    def load(self, name: str) -> Generator:
        """The generator of a listed model that is here, frozen."""


class Shelf:
    """The registry's models, and one more file if a person started the app with it.

    Args:
        device: where to load them.
        first: a registry name or a file, shown at the start.
    """

    def __init__(self, device: str = "auto", first: str = "") -> None:
        self._device, self._first = device, first
        self._own: tuple[Model, ...] = ()
        if "://" in first or Path(first).expanduser().is_file():
            self._own = (Model(name=first, title=Path(first).name),)
        if first:
            # Wrong names, files and addresses are told at once, not in the page.
            load_generator(first, device)

    def listed(self) -> Sequence[Model]:
        """The model to begin with, then what is here, then what can be downloaded."""
        models = [*self._own, *(_model(entry) for entry in all_models())]
        return sorted(models, key=lambda model: (model.name != self._first, not model.here))

    def load(self, name: str) -> Generator:
        """The generator of a listed model. Nothing else: a name may come from anybody."""
        model = next((model for model in self.listed() if model.name == name), None)
        if model is None:
            raise ModelNotFound(f"there is no model '{name}' here; choose one of the list")
        if not model.here:
            raise ModelNotFound(f"the model '{name}' is not on this machine; download it first")
        return load_generator(name, self._device)


def _model(entry: ModelEntry) -> Model:
    size = "" if entry.size is None else f" · {entry.size[0]} px"
    if entry.size is not None and entry.size[0] != entry.size[1]:
        size = f" · {entry.size[1]} x {entry.size[0]} px"
    return Model(
        name=entry.name,
        title=f"{entry.title}{size}" + ("" if entry.on_disk else f" · {entry.state}"),
        here=entry.on_disk,
        truncation=min(entry.truncation, 1.0),
        step_size=entry.step_size,
        level=entry.level or None,
    )
