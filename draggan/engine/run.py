"""One recipe, run in this process: for programs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from draggan.engine.local import LocalEngine
from draggan.engine.models import AnyModels
from draggan.recipe import Recipe

__all__ = ["RunResult", "run"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RunResult:
    """What a recipe gives.

    Attributes:
        recipe: the same, with the latents of all its pictures.
        ws: the latent of its picture, ``[1, num_ws, w_dim]``.
        pixels: its picture, bytes.
    """

    recipe: Recipe
    ws: Float[np.ndarray, "1 num_ws w_dim"]
    pixels: UInt8[np.ndarray, "height width channels"]


def run(recipe: Recipe, *, device: str = "auto") -> RunResult:
    """Run a recipe. What it carries as results is taken as it is; ``recipe.with_results([])`` computes all anew.

    Args:
        device: "auto" (cuda, else cpu), "cpu", "mps", "cuda" or "cuda:N".

    Raises:
        RecipeError: it was made for other weights, or another picture size.
        DragGANError: the model cannot be had, or a drag cannot be run.
    """
    engine = LocalEngine(AnyModels(device))
    try:
        complete = engine.complete(recipe)
        ws = complete.latent
        assert ws is not None
        return RunResult(recipe=complete, ws=ws, pixels=engine.picture(complete))
    finally:
        engine.close()
