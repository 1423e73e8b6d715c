"""One recipe after the other, in whatever process this is: files and a row of figures for each."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from draggan.batch.jobs import Job, read_job
from draggan.engine.base import Engine
from draggan.errors import DragGANError
from draggan.export import Provenance, save_animation, save_picture
from draggan.recipe import Recipe

__all__ = ["COLUMNS", "Options", "Worker", "failed"]

log = logging.getLogger(__name__)

_PROVENANCE = Provenance(door="batch")

COLUMNS = (
    *(
        "number",
        "name",
        "state",
        "error",
        "model",
        "seed",
        "edits",
        "outcome",
        "faded",
        "unsure",
        "steps",
        "way",
        "distance",
        "reached",
    ),
    *("change", "change_outside", "seconds", "picture", "before", "film"),
)
"""What is known of every job, in the order of the report."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is made of every recipe.

    Attributes:
        folder: where files go.
        film: ".gif", ".webp" or ".mp4": the last drag of every recipe as an animation; empty: none.
        before: whether the picture before the last edit is written too.
        measures: whether that picture and the last one are compared.
        model: what draws in place of the recipes' own models; their hashes have to agree.
        device: as for `draggan.device.choose_device`.
        threads: of PyTorch, in every process.
    """

    folder: str
    film: str = ""
    before: bool = False
    measures: bool = False
    model: str = ""
    device: str = "auto"
    threads: int = 1

    @property
    def key(self) -> str:
        """What results depend on, as text."""
        text = f"1 {self.film} {self.before} {self.measures}"
        return f"{text} {self.model}" if self.model else text


class Worker:
    """Runs jobs, one at a time.

    Args:
        engine: what draws and drags.
        options: what is made of every recipe.
    """

    def __init__(self, engine: Engine, options: Options) -> None:
        self._engine, self._options = engine, options

    def do(self, job: Job) -> dict[str, Any]:
        """Do a job; whatever goes wrong with it is in its row."""
        try:
            return self._done(job)
        except DragGANError as error:
            return failed(job, str(error))
        except Exception as error:  # one line, not the whole batch
            log.exception("line %d has failed in a way that was not foreseen", job.number)
            return failed(job, f"{type(error).__name__}: {error}"[:500])

    def _done(self, job: Job) -> dict[str, Any]:
        started = time.perf_counter()
        engine, options = self._engine, self._options
        recipe = read_job(job, engine)
        if options.model:
            recipe = replace(recipe, model=replace(recipe.model, name=options.model))
        last = max(len(recipe.edits) - 1, 0)
        before = engine.complete(recipe.up_to(last))
        figures: dict[str, Any] = {}
        frames = [before.latent]
        if recipe.latent is None and recipe.edits:
            running = engine.drag(before, recipe.edits[-1])
            update = running.result()
            recipe = running.reached()
            frames = [*running.frames]
            if update is not None:
                figures = {
                    "outcome": update.outcome,
                    "faded": update.faded,
                    "unsure": update.unsure,
                    "steps": update.index,
                    "way": round(update.way, 4),
                    "distance": round(float(update.distances.mean()), 3),
                    "reached": np.round(update.handles, 3).tolist(),
                }
        else:
            # Its last picture is known, or it has no edit.
            recipe = recipe.with_results([*before.results, recipe.latent]) if recipe.edits else before
        pixels = engine.picture(recipe)
        folder = Path(options.folder)
        details = {"steps": figures["steps"]} if figures else {}
        row = {"number": job.number, "name": job.name, "state": "done", "model": recipe.portable().model.name}
        row |= {"seed": recipe.seed and recipe.seed.seed, "edits": len(recipe.edits), **figures}
        if recipe.edits and (options.before or options.measures):
            first = engine.picture(before)
            if options.measures:
                row |= _change(first, pixels, recipe)
            if options.before:
                path = folder / f"{job.name}-before.png"
                row["before"] = save_picture(path, first, recipe=before, provenance=_PROVENANCE).name
        if recipe.edits and options.film:
            shown = [engine.render(recipe, ws) for ws in (*frames, recipe.latent) if ws is not None]
            path = folder / f"{job.name}{options.film}"
            row["film"] = save_animation(path, shown, details, recipe=recipe, provenance=_PROVENANCE).name
        path = folder / f"{job.name}.png"
        row["picture"] = save_picture(path, pixels, details, recipe=recipe, provenance=_PROVENANCE).name
        row["seconds"] = round(time.perf_counter() - started, 3)
        return row


def failed(job: Job, error: str) -> dict[str, Any]:
    """The row of a job that could not be done."""
    return {"number": job.number, "name": job.name, "state": "failed", "error": " ".join(error.split())}


def _change(before: np.ndarray, after: np.ndarray, recipe: Recipe) -> dict[str, Any]:
    """Mean absolute difference of the bytes of two pictures, and outside the mask the largest one."""
    difference = np.abs(after.astype(np.int16) - before.astype(np.int16))
    found: dict[str, Any] = {"change": round(float(difference.mean()), 3)}
    mask = recipe.edits[-1].mask
    if mask is not None and not mask.allowed.all():
        found["change_outside"] = int(difference[~mask.allowed].max())
    return found
