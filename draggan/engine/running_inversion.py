"""A photo on its way into a model, in turns with others."""

from __future__ import annotations

from collections.abc import Generator as Turns
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from draggan.config import InversionConfig
from draggan.engine.base import InversionUpdate
from draggan.engine.work import Home, Watched
from draggan.errors import PhotoError
from draggan.inversion.invert import Inversion, InversionStep
from draggan.pixels import to_uint8
from draggan.recipe import Recipe

__all__ = ["TurnsInversion"]


class TurnsInversion(Watched[InversionUpdate]):
    """A photo on its way into a model (`draggan.engine.base.RunningInversion`).

    Args:
        recipe: of the model's mean picture.
        photo: as `TurnsEngine.invert` takes it.
        config: how.
    """

    called = "photo"

    def __init__(
        self,
        home: Home,
        recipe: Recipe,
        photo: UInt8[np.ndarray, "height width 3"],
        config: InversionConfig,
        visitor: str,
    ) -> None:
        super().__init__(home, recipe, visitor)
        self._photo, self._config = photo, config
        self._inversion: Inversion | None = None
        self._cancelled = False

    def stop(self) -> None:
        """Good enough: end it with its next step."""
        inversion = self._inversion
        if inversion is not None:
            inversion.stop()
        super().stop()

    def cancel(self) -> None:
        """End it, and keep nothing."""
        self._cancelled = True
        self.stop()

    def reached(self) -> Recipe:
        """The recipe that draws the photo."""
        self.wait()
        if not self.recipe.is_of_photo:
            raise PhotoError("opening the photo was cancelled; nothing of it was kept")
        return self.recipe

    def _run(self) -> Turns[bool, None, None]:
        name, sha256 = self.recipe.model.name, self.recipe.model.sha256
        inversion = self._computing.inversion(name, self._photo, self._config, sha256)
        self._inversion = inversion
        # Asked while it was being prepared.
        if self._stopping.is_set():
            inversion.stop()
        yield False
        for step in inversion:
            if step.done and not self._cancelled:
                # Before anybody hears that it is over: then the recipe is there.
                result = inversion.result
                tuning = self._computing.tunings.keep(result.tuning)
                ws = result.ws.detach().cpu().numpy()
                model = replace(self.recipe.model, tuning=tuning)
                recipe = Recipe(model=model, image_size=self.recipe.image_size, start=ws)
                step = replace(step, picture=result.picture, psnr=result.psnr, verdict=result.verdict)
                self.recipe = recipe
            self._show(step, inversion.steps)
            yield False
            if self._cancelled:
                return

    def _end(self, error: BaseException | None) -> None:
        self._inversion = None
        super()._end(error)

    def _show(self, step: InversionStep, steps: int) -> None:
        update = InversionUpdate(
            index=step.index,
            steps=steps,
            stage=step.stage,
            progress=step.progress,
            seconds=step.seconds,
            seconds_left=step.seconds_left,
            psnr=step.psnr,
            pixels=to_uint8(step.picture),
            verdict=step.verdict,
            done=step.done,
        )
        self._publish(update)
