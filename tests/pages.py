"""A page on small models whose answers are known, for the tests of the page."""

from __future__ import annotations

from collections.abc import Sequence

from draggan.errors import ModelNotFound
from draggan.generators.base import Generator
from draggan.ui import Model
from tests.conftest import tiny_stylegan2
from tests.toys import BumpGenerator

BUMP = (20.0, 30.0)


class TinyModels:
    """"bump": content that a drag can move exactly; "tiny": a random StyleGAN2; "classes": one with three classes."""

    def __init__(self) -> None:
        self._generators: dict[str, Generator] = {
            "bump": BumpGenerator([BUMP]).freeze(),
            "tiny": tiny_stylegan2(),
            "classes": tiny_stylegan2(c_dim=3, square=False),
        }
        self.loads: list[str] = []

    def listed(self) -> Sequence[Model]:
        return [
            Model(name="bump", title="A bump", truncation=0.0),
            Model(name="tiny", title="Tiny"),
            Model(name="classes", title="Three classes"),
        ]

    def load(self, name: str) -> Generator:
        self.loads.append(name)
        if name not in self._generators:
            raise ModelNotFound(f"there is no model '{name}' here; choose one of the list")
        return self._generators[name]
