"""Targets that move while a drag runs: other threads set them, the drag takes the newest and sleeps between."""

from __future__ import annotations

import threading

import torch
from jaxtyping import Float
from torch import Tensor

from torch_utils.transfer import to_device, to_host

__all__ = ["MovingTargets"]


class MovingTargets:
    """What other threads want of a drag: where it is to go, that it ends like any other, that it ends at once.

    Attributes:
        idle: set by the drag: it has nothing to do until there are other targets.
        near: targets that no handle is farther from than this, in image pixels, do not wake it.

    Args:
        targets: image pixels, where the drag computes.
        near: likewise.
        live: the drag follows until `settle`.
    """

    def __init__(self, targets: Float[Tensor, "n 2"], *, near: float, live: bool) -> None:
        self.idle = False
        self.near = near
        self._targets, self._live = targets, live
        self._wanted: Float[Tensor, "n 2"] | None = None  # not looked at yet
        self._stop = threading.Event()
        self._news = threading.Condition()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    @property
    def current(self) -> tuple[Float[Tensor, "n 2"], bool]:
        """The targets that the last step went to, and whether they may still move."""
        with self._news:
            return self._targets, self._live

    def retarget(self, targets: Float[Tensor, "n 2"]) -> None:
        """Go there instead. On the host: to bring them to the device from here would wait for what it is doing."""
        with self._news:
            self._wanted = targets
            self._news.notify_all()

    def settle(self) -> None:
        """Follow no longer."""
        with self._news:
            self._live = False
            self._news.notify_all()

    def stop(self) -> None:
        """End with the next step."""
        with self._news:
            self._stop.set()
            self._live = False
            self._news.notify_all()

    def would_sleep(self, handles: Float[Tensor, "n 2"]) -> bool:
        """Whether `newest` would not return yet."""
        with self._news:
            return self._sleeps(handles)

    def newest(self, handles: Float[Tensor, "n 2"]) -> tuple[Float[Tensor, "n 2"], bool]:
        """The targets to go to now (the same object until there are others), and whether they may still move.

        Sleeps as long as a live drag has nothing to do.

        Args:
            handles: where they are.
        """
        with self._news:
            while self._sleeps(handles):
                self._news.wait()
            return self._targets, self._live

    def _sleeps(self, handles: Float[Tensor, "n 2"]) -> bool:
        """Take over new targets; whether there is nothing to do then."""
        if self._wanted is not None:
            wanted, self._wanted = self._wanted, None
            here, targets = to_host(handles, self._targets)
            if not torch.equal(wanted, targets):
                self._targets = to_device(wanted, handles.device)
                self.idle = self.idle and not bool(((wanted - here).norm(dim=-1) > self.near).any())
        return self._live and self.idle and not self._stop.is_set()
