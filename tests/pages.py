"""A page on small models whose answers are known, for the tests of the page."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from draggan.checkpoints.catalogue import Preset
from draggan.downloads import Terms
from draggan.engine.models import Model, Progress
from draggan.errors import CheckpointError, DownloadError, ModelNotFound
from draggan.generators.base import Generator, Latent
from tests.conftest import tiny_stylegan2
from tests.toys import BumpGenerator

BUMP = (20.0, 30.0)
PRESETS = (
    Preset(title="Right", seed=0, points=((*BUMP, 26, 30),)),
    Preset(title="Up and out", seed=3, points=((*BUMP, 20, 24), (40, 40, 50, 50))),
)


def spare_port() -> int:
    """One that no other process of the tests takes at the same moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def serve(demo: Any, **options: Any) -> str:
    """Have a page answer; returns its address."""
    given = {"server_name": "127.0.0.1", "server_port": spare_port(), "ssr_mode": False}
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **given, **options)
    return url


class PatientBump(BumpGenerator):
    """Takes some time for every step, as a trained model does, so that a drag can be watched and stopped."""

    def features(self, ws: Latent, level: str) -> Tensor:
        time.sleep(0.004)
        return super().features(ws, level)


class TinyModels:
    """Four models, and files whose name says what they are.

    "bump": content that a drag can move exactly; "tiny": a random StyleGAN2; "classes": one with three classes; "far":
    not here, its download waits half-way until `more` is set, and fails if `broken` is.
    """

    def __init__(self) -> None:
        self._generators: dict[str, Generator] = {
            "bump": PatientBump([BUMP]).freeze(),
            "tiny": tiny_stylegan2(),
            "classes": tiny_stylegan2(c_dim=3, square=False),
        }
        self._opened: dict[str, Model] = {}
        self.more = threading.Event()
        self.broken = False

    def listed(self) -> Sequence[Model]:
        far = "far" in self._generators
        return [
            Model(name="bump", title="A bump", file="bump", truncation=0.0, presets=PRESETS),
            Model(name="tiny", title="Tiny"),
            Model(name="classes", title="Three classes"),
            Model(
                name="far",
                title="Far away",
                what="Far (away)",
                recommended=True,
                here=far,
                state="" if far else "to download",
                settings={"step_size": 0.005},
            ),
            Model(name="hand", title="By hand", here=False, state="by hand"),
        ]

    def find(self, name: str) -> Model:
        for model in (*self.listed(), *self._opened.values()):
            if model.name == name:
                return model
        raise ModelNotFound(f"there is no model '{name}' here; choose one of the list")

    def load(self, name: str) -> Generator:
        self.find(name)
        return self._generators[name]

    def sha256(self, name: str) -> str:
        self.find(name)
        return ""

    def terms(self, name: str, *, ask: bool) -> Terms:
        if name == "hand":
            return Terms(bytes=None, source="", licence="not verified", by_hand="Get it from a friend.")
        return Terms(bytes=2_500_000 if ask else None, source="example.org", licence="CC0", notes="A note.")

    def fetch(self, name: str, progress: Progress) -> None:
        progress(0, 2_500_000)
        while not self.more.wait(0.02):
            progress(1_000_000, 2_500_000)
        if self.broken:
            raise DownloadError("far.pkl was not downloaded. example.org: no connection")
        progress(2_500_000, 2_500_000)
        self._generators["far"] = tiny_stylegan2(seed=1)

    def forget(self) -> None:
        """Nothing has been downloaded."""
        self._generators.pop("far", None)
        self.more.clear()
        self.broken = False

    def open(self, path: Path) -> Model:
        if path.suffix != ".safetensors":
            raise CheckpointError(f"{path.name} is not a model file")
        model = Model(name=f"{path.stem}-secret{len(self._opened)}", title=path.name, file=path.stem)
        self._opened[model.name] = model
        self._generators[model.name] = tiny_stylegan2(16)
        return model

    def unused(self, path: Path) -> float:
        return 0.0
