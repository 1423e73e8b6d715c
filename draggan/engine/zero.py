"""An engine on a Space with ZeroGPU: a GPU is lent for as long as a function runs that asks for one.

The function runs in a process of its own, to which all goes that it needs: a drag's steps from the state before them,
as on a cluster (`draggan.engine.remote`), many in one loan. Everything else is computed by the Space's processors. The
platform's package ``spaces`` was not there where this was tested; what it promises was.
"""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

from draggan.config import Limits
from draggan.engine.models import ModelSource
from draggan.engine.remote import RemoteComputing
from draggan.engine.replica import Replica, Sent
from draggan.engine.turns import TurnsEngine

__all__ = ["ZeroEngine", "lent_gpu"]

_SLICE = 20.0  # seconds of steps in one loan: to ask for one takes about a second
_LONGEST = 60  # seconds for which a GPU is asked: the model is loaded, too


def lent_gpu() -> Any:
    """The platform's package, where GPUs are lent; None elsewhere."""
    return importlib.import_module("spaces") if os.environ.get("SPACES_ZERO_GPU") else None


class ZeroEngine(TurnsEngine):
    """Runs recipes with lent GPUs (`draggan.engine.base.Engine`).

    Args:
        models: what is known of models here.
        spaces: `lent_gpu`.
        limits: what one visitor may have.
    """

    def __init__(self, models: ModelSource, spaces: Any, limits: Limits | None = None) -> None:
        super().__init__(models, _ZeroComputing(models, spaces), limits, workers=4)


class _ZeroComputing(RemoteComputing):
    def __init__(self, models: ModelSource, spaces: Any) -> None:
        super().__init__(models, slice_seconds=_SLICE)
        self._here = Replica(_given, "cpu")
        # The platform wants to see it before the page is served.
        self._lent = spaces.GPU(duration=_LONGEST)(_on_gpu)

    def call(self, method: str, *args: Any, model: Sent, run: str = "") -> Any:
        """See `RemoteComputing.call`."""
        return self._lent(*args) if method == "step" else getattr(self._here, method)(*args)

    def put(self, value: Any) -> Any:
        """See `RemoteComputing.put`: it goes along."""
        return value


def _given(value: Any) -> Any:
    return value


def _on_gpu(order: Any) -> Any:
    return _replica().step(order)


@functools.cache
def _replica() -> Replica:
    """That of the process with the GPU."""
    return Replica(_given, "auto")
