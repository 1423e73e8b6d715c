"""An engine that computes in this process."""

from __future__ import annotations

from draggan.config import Limits
from draggan.engine.computing import LocalComputing
from draggan.engine.models import ModelSource
from draggan.engine.turns import TurnsEngine
from draggan.inversion.lpips import Lpips

__all__ = ["LocalEngine"]


class LocalEngine(TurnsEngine):
    """Runs recipes in this process (`draggan.engine.base.Engine`).

    Args:
        models: where generators come from.
        limits: what one visitor may have.
        workers: threads that do the steps. On processors a step uses all cores by itself; a second thread fills the
            gaps between its parts.
        lpips: photos are opened by this distance, too.
    """

    def __init__(
        self, models: ModelSource, limits: Limits | None = None, *, workers: int = 2, lpips: Lpips | None = None
    ) -> None:
        super().__init__(models, LocalComputing(models, lpips), limits, workers=workers)
