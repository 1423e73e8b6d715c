"""Scenes that stay on the device they are drawn on, so that a training's steps read them without the host."""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from draggan.scenes import gpu
from draggan.scenes.objective import outlines
from draggan.scenes.pool import scene_noise
from draggan.scenes.scene import Scene

__all__ = ["DevicePool", "Scenes"]

BLOCK = 64


class Scenes(NamedTuple):
    """Some scenes on the device; as `draggan.scenes.pool.Drawn`."""

    z: Float[Tensor, "count z_dim"]
    pictures: UInt8[Tensor, "count 3 size size"]
    importance: UInt8[Tensor, "count size size"]
    outlines: UInt8[Tensor, "count size size"]


class DevicePool:
    """Pairs of noise and rendering on a device; a context manager, inside which a thread draws new ones.

    The thread hands over blocks; `refresh` puts them into the pool, between two steps. `sample` is made of operations
    on the device alone, so a recorded step draws other scenes every time it is replayed.

    Args:
        capacity: how many scenes are kept.
        first: how many to have before the constructor returns.
        ahead: blocks that may wait to be put into the pool.
        start_block: the first block of scenes, so that a resumed training does not see the first ones again.
    """

    def __init__(
        self,
        scene: Scene,
        size: int,
        *,
        capacity: int,
        first: int,
        seed: int,
        device: torch.device,
        ahead: int = 8,
        start_block: int = 0,
    ) -> None:
        self.scene, self.size, self.seed, self.device, self.block = scene, size, seed, device, start_block
        self.capacity = max(BLOCK, -(-max(capacity, first) // BLOCK) * BLOCK)
        self.added = 0
        self.quiet = threading.Lock()
        """Held by whoever needs the device exclusively: nothing is drawn meanwhile."""
        n = self.capacity

        def empty(*shape: int) -> Tensor:
            return torch.empty(n, *shape, dtype=torch.uint8, device=device)

        self._kept = Scenes(
            torch.empty(n, scene.z_dim, device=device), empty(3, size, size), empty(size, size), empty(size, size)
        )
        self._filled = torch.zeros((), device=device)
        self._waiting: queue.Queue[Scenes] = queue.Queue(maxsize=ahead)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._produce, name="device-pool", daemon=True)
        while self.added < first:
            self._put(self._draw())

    def __enter__(self) -> DevicePool:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def sample(self, count: int) -> Scenes:
        """Random scenes; can be recorded."""
        which = (torch.rand(count, device=self.device) * self._filled).long()
        return Scenes(*(kept[which] for kept in self._kept))

    def refresh(self, blocks: int = 2) -> None:
        """Put so many blocks into the pool, if they are there; the oldest scenes make room."""
        if self._error is not None:
            raise self._error
        for _ in range(blocks):
            try:
                self._put(self._waiting.get_nowait())
            except queue.Empty:
                return

    def _put(self, block: Scenes) -> None:
        at = self.added % self.capacity
        for kept, new in zip(self._kept, block, strict=True):
            kept[at : at + BLOCK].copy_(new)
            if new.is_cuda:
                new.record_stream(torch.cuda.current_stream(self.device))
        self.added += BLOCK
        self._filled.fill_(float(len(self)))

    def _draw(self) -> Scenes:
        z = scene_noise(self.scene, self.seed, self.block, BLOCK)
        self.block += 1
        parameters = self.scene.parameters(z)
        drawn = None
        if self.device.type == "cuda":
            drawn = gpu.draw_there(self.scene.index, parameters, self.size, device=self.device, segments=True)
        if drawn is None:
            r = self.scene.render(parameters, self.size, segments=True)
            assert r.segments is not None
            weights = (r.importance * 16 + 0.5).astype(np.uint8)
            given = (torch.from_numpy(x).to(self.device) for x in (r.pictures, weights, r.segments))
            pictures, importance, segments = given
        else:
            pictures, importance, labels = drawn
            assert labels is not None
            segments = labels
        near = outlines(segments)
        if near.is_cuda:
            torch.cuda.current_stream(self.device).synchronize()
        return Scenes(torch.from_numpy(z).to(self.device), pictures, importance, near)

    def _produce(self) -> None:
        while not self._stop.is_set():
            try:
                with self.quiet:
                    block = self._draw()
            except BaseException as error:  # noqa: BLE001 - handed to the thread that trains
                self._error = error
                return
            while not self._stop.is_set():
                try:
                    self._waiting.put(block, timeout=0.2)
                    break
                except queue.Full:
                    continue
