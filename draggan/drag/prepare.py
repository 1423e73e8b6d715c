"""From what people give to a `Problem`: everything is checked and computed once, before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from draggan.config import DragConfig, at_size
from draggan.drag.mask import FixedRegion, MaskView
from draggan.drag.precision import compute_features, feature_dtype
from draggan.drag.problem import Problem
from draggan.drag.solvers.base import Solver
from draggan.errors import LatentError, MaskError, PointError
from draggan.generators.base import Generator
from draggan.geometry import disc_offsets, fixed_cells, sample, square_offsets
from draggan.points import check_mask, check_points

__all__ = ["PointsLike", "Reference", "check_pairs", "check_targets", "prepare"]

# Points as people have them: pairs (x, y) in any sequence or array.
PointsLike: TypeAlias = Sequence[Any] | np.ndarray | Tensor

# Image pixels: no live drag follows more closely than this. About half a pixel of the screen where a picture of 128 px
# fills it.
LIVE_FLOOR = 0.125


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """What a continued drag measures against: the picture in which the person clicked, not the one dragged so far.

    Attributes:
        handles: ``[n, 2]`` where each handle was clicked, image pixels ``(x, y)``.
        ws: ``[n, num_ws, w_dim]`` the latent whose picture it was clicked in.
        mask_ws: ``[1, num_ws, w_dim]`` the latent whose fixed region the mask protects; None: the drag's first.
    """

    handles: Float[Tensor, "n 2"]
    ws: Float[Tensor, "n num_ws w_dim"]
    mask_ws: Float[Tensor, "1 num_ws w_dim"] | None = None


def prepare(
    generator: Generator,
    ws: Tensor | np.ndarray,
    handles: Float[Tensor, "n 2"],
    mask: np.ndarray | None,
    config: DragConfig,
    reference: Reference | None,
    solver: type[Solver[Any]],
    *,
    live: bool,
) -> Problem:
    """The problem, or an error that names what does not fit; see `draggan.drag.Drag`."""
    size = generator.image_size
    level = generator.check_level(config.level or generator.default_level)
    start = _one_latent(generator, ws)
    points = handles.to(start.device)
    dtype = feature_dtype(config.precision, generator)

    # Floors: below 512 px the scaled radii would shrink to nothing while a feature cell stays four pixels wide.
    r1 = max(round(at_size(config.r1, size)), 2)
    r2 = max(round(at_size(config.r2, size)), 3)
    patch = disc_offsets(r1).to(start.device)
    # The paper: d = 1 for up to five points, 2 for more.
    arrived = at_size(config.stop_distance * (2 if len(points) > 5 else 1), size)
    stop_distance = max(arrived, 1.0)

    if reference is None:
        reference = Reference(handles=points, ws=start.expand(len(points), -1, -1))
    view = solver.mask_view(generator, config, level)
    with torch.no_grad():
        templates = _template_features(generator, level, dtype, reference, points, patch)
        fixed = _fixed_region(generator, dtype, mask, config, reference, start, view)
    return Problem(
        generator=generator,
        config=config,
        level=level,
        grid=generator.grid(level),
        dtype=dtype,
        ws=start,
        handles=points,
        patch=patch,
        window=square_offsets(r2).to(start.device),
        # A step looks this far around where a handle should be: it may be r2 off, and its patch moves by 1 px.
        reach=float(r2 + r1 + 1),
        templates=templates,
        mask=fixed,
        stop_distance=stop_distance,
        near=max(arrived, LIVE_FLOOR) if live and solver.subpixel else stop_distance,
    )


def check_pairs(
    handles: PointsLike, targets: PointsLike, image_size: tuple[int, int]
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"]]:
    """Handles and their targets as float32, on the host.

    Raises:
        PointError: no points, unequal numbers, not finite, or outside the picture.
    """
    start = _points("handle", handles, image_size)
    aims = check_targets(targets, len(start), image_size)
    if not len(start):
        raise PointError("no points were given; set at least one handle and its target")
    return start, aims


def check_targets(targets: PointsLike, count: int, image_size: tuple[int, int]) -> Float[Tensor, "n 2"]:
    """Targets as float32, on the host.

    Args:
        count: of handles.

    Raises:
        PointError: not one per handle, not finite, or outside the picture.
    """
    points = _points("target", targets, image_size)
    if count != len(points):
        raise PointError(
            f"{count} handle points and {len(points)} target points were given; every handle needs one target"
        )
    return points


def _points(kind: str, points: PointsLike, image_size: tuple[int, int]) -> Float[Tensor, "n 2"]:
    if isinstance(points, Tensor):
        points = points.detach().cpu().numpy()
    return torch.from_numpy(check_points(kind, points, image_size)).float()


def _one_latent(generator: Generator, ws: Tensor | np.ndarray) -> Float[Tensor, "1 num_ws w_dim"]:
    """A copy of the latent, float32, where the generator is; or `LatentError`."""
    ws = generator.check_ws(torch.as_tensor(ws))
    if len(ws) != 1:
        raise LatentError(f"{len(ws)} latent codes were given; a drag takes one, {[1, *ws.shape[1:]]}")
    if not torch.isfinite(ws).all():
        raise LatentError("the latent code has values that are not finite numbers; start from another picture")
    return ws.detach().to(generator.device, torch.float32, copy=True)


def _template_features(
    generator: Generator,
    level: str,
    dtype: torch.dtype,
    reference: Reference,
    handles: Float[Tensor, "n 2"],
    patch: Float[Tensor, "p 2"],
) -> Float[Tensor, "n p channel"]:
    """``f_i = F_0(p_i)`` and the rest of the patch. Handles clicked in the same picture share one pass."""
    ws, clicked = reference.ws.to(generator.device, torch.float32), reference.handles.to(handles)
    if len(ws) != len(handles) or len(clicked) != len(handles):
        raise PointError(
            f"the reference has {len(clicked)} handles and {len(ws)} latents; there are {len(handles)} handles"
        )
    generator.check_ws(ws)
    distinct, member = torch.unique(ws, dim=0, return_inverse=True)
    templates: list[Tensor] = [torch.empty(0)] * len(clicked)
    for k, latent in enumerate(distinct):
        features = compute_features(generator, latent[None], level, dtype)
        for i in (member == k).nonzero()[:, 0].tolist():
            templates[i] = sample(features, generator.grid(level), clicked[i] + patch)
    return torch.stack(templates)


def _fixed_region(
    generator: Generator,
    dtype: torch.dtype,
    mask: np.ndarray | None,
    config: DragConfig,
    reference: Reference,
    start: Float[Tensor, "1 num_ws w_dim"],
    view: MaskView,
) -> FixedRegion | None:
    """What the mask holds in this view; None where nothing is fixed."""
    if mask is None:
        return None
    array = check_mask(mask, generator.image_size)
    if array.all() or config.mask_weight == 0:
        return None
    if not array.any():
        raise MaskError("the mask lets nothing change; paint the region that may move, or clear the mask")
    fixed = fixed_cells(torch.from_numpy(array).to(start.device), view.grid(generator))
    mask_ws = start if reference.mask_ws is None else generator.check_ws(reference.mask_ws.to(start))
    return FixedRegion(fixed=fixed[None, None], kept=view.compute(generator, mask_ws, dtype))
