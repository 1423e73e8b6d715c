"""A pool of rendered scenes that a background thread keeps fresh while training draws from it."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from draggan.device import choose_device
from draggan.scenes.objective import outlines
from draggan.scenes.scene import Scene

__all__ = ["Drawn", "ScenePool", "scene_noise"]

logger = logging.getLogger(__name__)

_BLOCK = 32


class Drawn(NamedTuple):
    """Some scenes of a pool.

    Attributes:
        z: noise ``[count, z_dim]``.
        pictures: ``[count, 3, size, size]``.
        importance: 16 times that of the renderer, ``[count, size, size]``.
        outlines: 1 near an outline, ``[count, size, size]``; 0 everywhere where the scene has no parts.
    """

    z: NDArray[np.float32]
    pictures: NDArray[np.uint8]
    importance: NDArray[np.uint8]
    outlines: NDArray[np.uint8]


def scene_noise(scene: Scene, seed: int, block: int, count: int = _BLOCK) -> NDArray[np.float32]:
    """Noise ``[count, z_dim]`` of one block of scenes; the same for the same seed and block."""
    return np.random.default_rng((seed, block)).standard_normal((count, scene.z_dim)).astype(np.float32)


class ScenePool:
    """Pairs of noise and rendering at one size; a context manager, inside which it is kept fresh.

    New scenes are appended until ``capacity``, from then on they replace the oldest. Which scene comes as the n-th
    depends on the seed alone, so nothing needs to be kept on disk.

    Args:
        capacity: how many scenes are kept.
        first: how many to render before the constructor returns.
        share: part of one core that the thread may use, 0 (never renders) to 1.
        reuse: how often a scene is drawn before the next one is due; rendering more would only take time from training.
        start_block: the first block of scenes, so that a resumed training does not see the first ones again.
        device: where to render, as for `Scene.render`; "auto" for a GPU where there is one.
    """

    def __init__(
        self,
        scene: Scene,
        size: int,
        *,
        capacity: int,
        first: int,
        seed: int,
        share: float,
        reuse: float = 3.0,
        start_block: int = 0,
        device: str | torch.device = "auto",
    ) -> None:
        self.scene, self.size, self.seed, self.share, self.reuse = scene, size, seed, share, reuse
        self.device = choose_device(device)
        self.capacity = max(capacity, first, _BLOCK)
        self.block = start_block
        self.rendered = self.drawn = 0
        self._z = np.empty((self.capacity, scene.z_dim), np.float32)
        self._pictures = np.empty((self.capacity, 3, size, size), np.uint8)
        self._importance = np.empty((self.capacity, size, size), np.uint8)
        self._outlines = np.zeros((self.capacity, size, size), np.uint8)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._keep_fresh, name="scene-pool", daemon=True)
        while self.rendered < first:
            self._add(threads=None)

    def __enter__(self) -> ScenePool:
        if self.share > 0:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def __len__(self) -> int:
        return min(self.rendered, self.capacity)

    def draw(self, count: int, rng: np.random.Generator) -> Drawn:
        """Random scenes."""
        if self._error is not None:
            raise self._error
        with self._lock:
            self.drawn += count
            i = rng.integers(0, len(self), count)
            return Drawn(self._z[i], self._pictures[i], self._importance[i], self._outlines[i])

    def _add(self, threads: int | None) -> None:
        z = scene_noise(self.scene, self.seed, self.block)
        parts = bool(self.scene.parts)
        p = self.scene.parameters(z)
        r = self.scene.render(p, self.size, segments=parts, threads=threads, device=self.device)
        near = None if r.segments is None else outlines(torch.from_numpy(r.segments)).numpy()
        with self._lock:
            at = (self.rendered + np.arange(_BLOCK)) % self.capacity
            self._z[at], self._pictures[at] = z, r.pictures
            self._importance[at] = (r.importance * 16 + 0.5).astype(np.uint8)
            if near is not None:
                self._outlines[at] = near
            self.block += 1
            self.rendered += _BLOCK

    def _keep_fresh(self) -> None:
        first = self.rendered
        while not self._stop.is_set():
            if (self.rendered - first) * self.reuse > self.drawn:
                self._stop.wait(0.05)
                continue
            start = time.monotonic()
            try:
                self._add(threads=1)
            except BaseException as error:  # noqa: BLE001 - handed to the thread that draws
                self._error = error
                return
            busy = time.monotonic() - start
            self._stop.wait(busy * (1 / self.share - 1))
