"""From sessions to tensors and back: what the page and its programming interface have computed."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from draggan.config import DragConfig
from draggan.drag import Drag, DragStep, Reference
from draggan.engine.models import Models
from draggan.errors import ConfigError, DragGANError, LatentError
from draggan.generators.base import Generator
from draggan.images import to_uint8
from draggan.recipe import ModelReference, Recipe, Seed, Xy
from draggan.session import Session

__all__ = [
    "begin_drag",
    "begin_pull",
    "first_session",
    "latent",
    "picture",
    "picture_details",
    "preview",
    "recipe_of",
    "render",
    "warm_up",
]


_WARM = 512  # pixels; a larger model would be in the way of whoever waits for its first picture


def first_session(models: Models, model: str, seed: int, truncation: float, label: int = 0) -> Session:
    """A session on the picture of a seed; ``label`` counts only where the model has classes."""
    generator = models.load(model)
    chosen = label if generator.c_dim else None
    ws = latent(generator, seed, truncation, chosen)
    return Session.of(recipe_of(model, generator.image_size, ws, seed, truncation, chosen))


def recipe_of(
    model: str,
    image_size: tuple[int, int],
    ws: Float[np.ndarray, "1 num_ws w_dim"],
    seed: int,
    truncation: float,
    label: int | None,
) -> Recipe:
    """The recipe of a seed's picture, with its latent."""
    start = Seed(seed=seed, truncation=truncation, label=label)
    return Recipe(model=ModelReference(name=model), image_size=image_size, start=start, results=(ws,))


def begin_drag(models: Models, session: Session, settings: Mapping[str, Any]) -> Drag:
    """The drag that a session asks for, ready to run.

    Raises:
        PointError, ConfigError: nothing to drag, or a setting that there is not.
    """
    known = {f.name for f in dataclasses.fields(DragConfig)}
    for name in settings:
        if name not in known:
            raise ConfigError(f"there is no setting '{name}'; there are {', '.join(sorted(known))}")
    generator = models.load(session.model)
    usual: dict[str, Any] = {"space": session.space, **models.find(session.model).settings}
    config = DragConfig(**(usual | dict(settings)))
    points = session.edit().points
    reference = Reference(
        handles=torch.tensor([point.origin for point in points], dtype=torch.float32),
        ws=_tensor(np.concatenate([_known(session, point.picture) for point in points]), generator),
        mask_ws=_mask_ws(session, generator),
    )
    handles, targets = [point.handle for point in points], [point.target for point in points]
    ws = _tensor(session.ws, generator)
    return Drag(generator, ws, handles, targets, session.mask, config, reference=reference)


def begin_pull(models: Models, session: Session, at: Xy, settings: Mapping[str, Any]) -> Drag:
    """A drag that holds what is under a point of the picture and follows wherever it is sent, ready to run."""
    known = {"space": session.space, **models.find(session.model).settings, **settings}
    # The published optimiser moves a pixel a step: a hand does not wait for that.
    config = DragConfig(**(known | {"solver": "gauss-newton"}))
    generator = models.load(session.model)
    mask_ws = _mask_ws(session, generator)
    ws = _tensor(session.ws, generator)
    here = torch.tensor([at], dtype=torch.float32)
    reference = Reference(handles=here, ws=ws, mask_ws=mask_ws)
    return Drag(generator, ws, here, here, session.mask, config, reference=reference, live=True)


def _known(session: Session, picture: int | None) -> Float[np.ndarray, "1 num_ws w_dim"]:
    """The latent of a numbered picture."""
    ws = session.recipe.results[-1 if picture is None else picture]
    assert ws is not None
    return ws


def _mask_ws(session: Session, generator: Generator) -> Tensor | None:
    """The latent whose fixed region the mask keeps."""
    mask = session.now.mask
    return None if mask is None else _tensor(_known(session, mask.picture), generator)


def warm_up(models: Models) -> None:
    """Take hold of the first picture and let go: what the first drag of a process prepares is ready then."""
    with contextlib.suppress(DragGANError):
        first = models.listed()[0]
        session = first_session(models, first.name, 0, first.truncation)
        height, width = session.image_size
        if max(height, width) > _WARM:
            return
        drag = begin_pull(models, session, (width // 2, height // 2), {})
        drag.retarget([(width // 2 + width // 16, height // 2)])
        drag.settle()
        for step in itertools.islice(drag, 2):
            preview(drag, step, drag.generator.preview_heights[-1])


def picture(models: Models, session: Session) -> tuple[UInt8[np.ndarray, "height width 3"], dict[str, Any]]:
    """The clean picture of a session, ``[height, width, 3]`` bytes, and the facts to store with it."""
    return render(models.load(session.model), session.ws), picture_details(session)


def picture_details(session: Session) -> dict[str, Any]:
    """How the picture on the screen came about."""
    return {
        "model": session.model,
        "seed": session.seed,
        "truncation": session.truncation,
        "class": session.label,
        "handles": [pair.handle for pair in session.pairs],
        "targets": [pair.target for pair in session.pairs],
    }


def latent(
    generator: Generator, seed: int | None, truncation: float | None, label: int | None
) -> Float[np.ndarray, "1 num_ws w_dim"]:
    """The latent ``[1, num_ws, w_dim]`` of a seed, and of a class where the model has classes.

    Raises:
        LatentError, ConfigError: a seed, truncation or class that there is not.
    """
    if seed is None:
        raise LatentError(f"there is no seed; give a whole number from 0 to {2**32 - 1}, or press Random")
    if not isinstance(seed, int):
        raise LatentError(f"seed {seed} is not allowed; give a whole number from 0 to {2**32 - 1}")
    if not isinstance(truncation, (int, float)) or not 0 <= truncation <= 1:
        raise ConfigError(f"truncation {truncation} is not allowed; give a number from 0 to 1")
    return generator.sample(seed, truncation, label if generator.c_dim else None).cpu().numpy()


def render(generator: Generator, ws: np.ndarray | Tensor) -> UInt8[np.ndarray, "height width 3"]:
    """The picture of a latent, ``[height, width, 3]`` bytes."""
    with torch.no_grad():
        return to_uint8(generator.synthesis(ws if isinstance(ws, Tensor) else _tensor(ws, generator)))


def _tensor(array: np.ndarray, generator: Generator) -> Tensor:
    return torch.tensor(array, device=generator.device)


def preview(drag: Drag, step: DragStep, height: int) -> UInt8[np.ndarray, "height width 3"]:
    """What a running drag shows of a step: its picture, perhaps smaller, in the precision of the drag."""
    device = drag.generator.device.type
    with torch.no_grad(), torch.autocast(device, dtype=drag.dtype, enabled=drag.dtype != torch.float32):
        return to_uint8(drag.generator.preview(step.ws, height))
