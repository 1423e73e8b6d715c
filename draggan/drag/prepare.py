"""From what people give to a `Problem`: everything is checked and computed once, before the first step."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.config import FEW_HANDLES, DragConfig, at_size
from draggan.drag.mask import FixedRegion, MaskView
from draggan.drag.precision import compute_picture_features, feature_dtype
from draggan.drag.problem import Pattern, Problem
from draggan.drag.solvers.base import Solver
from draggan.drag.tracking import derivatives
from draggan.errors import LatentError, MaskError, PointError
from draggan.generators.base import Generator
from draggan.generators.blending import Picture
from draggan.geometry import FeatureSampler, Grid, disc_offsets, fixed_cells, square_offsets
from draggan.points import check_mask, check_points

__all__ = [
    "PointsLike",
    "Reference",
    "check_pairs",
    "check_targets",
    "many_surroundings",
    "pattern_slack",
    "prepare",
    "surroundings",
]

# Points as people have them: pairs (x, y) in any sequence or array.
PointsLike: TypeAlias = Sequence[Any] | np.ndarray | Tensor

# Image pixels: no live drag follows more closely than this. About half a pixel of the screen where a picture of 128 px
# fills it.
LIVE_FLOOR = 0.125
# Content of few handles that is followed is brought nearer than where it has arrived, if one more step does that: what
# is left comes to what the tracker errs by. In stop distances.
NEARER = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """What a continued drag measures against: the picture in which the person clicked, not the one dragged so far.

    Attributes:
        handles: ``[n, 2]`` where each handle was clicked, image pixels ``(x, y)``.
        pictures: for each handle the picture it was clicked in.
        mask_picture: the picture whose fixed region the mask protects; None: that of the drag's first latent.
        led_from: of a pull by hand, the latent that the pulls before it began with, which followed one another; None:
            there were none.
    """

    handles: Float[Tensor, "n 2"]
    pictures: Sequence[Picture]
    mask_picture: Picture | None = None
    led_from: Tensor | np.ndarray | None = None


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
    # Nor does a map of features say more exactly where content is than within a quarter of its cells: with less, drags
    # of the built-in models take more steps, and no more of their claims are true.
    cell = 1 / max(generator.grid(level).scale)
    stop_distance = max(arrived, 1.0, cell / 4)

    if reference is None:
        reference = Reference(handles=points, pictures=[Picture(ws=start)] * len(points))
    view = solver.mask_view(generator, config, level)
    grid = generator.grid(level)
    follows = config.follows
    along_lines = follows and solver.subpixel and len(points) > FEW_HANDLES
    by_hand = live and solver.subpixel
    near = max(arrived, LIVE_FLOOR) if by_hand else stop_distance
    if not by_hand and follows and solver.subpixel and not along_lines and mask is None:
        near = NEARER * stop_distance
    # Of few handles content is known by more of what surrounds it, and looked for once more by less of it, in features
    # that say more exactly where it is.
    finer = _finer_level(generator, level) if follows and not along_lines else level
    if follows:
        known_by = _on(start.device, (many_surroundings if along_lines else surroundings)(size, grid))
        # As far as content may be found from where it is expected, and what its surroundings are compared by.
        reach = max(float(r2 + r1 + 1), float(known_by[0].norm(dim=-1).max()) + pattern_slack(size) + 1)
    else:
        known_by = patch, torch.ones(len(patch), device=start.device)
        # A step looks this far around where a handle should be: it may be r2 off, and its patch moves by 1 px.
        reach = float(r2 + r1 + 1)

    @functools.cache
    @torch.no_grad()
    def witness() -> Pattern:
        if along_lines or not follows:
            return pattern
        looked_for_by = _on(start.device, many_surroundings(size, grid))
        return _clicked_features(generator, finer, dtype, reference, points, patch, looked_for_by)[1]

    with torch.no_grad():
        templates, pattern = _clicked_features(generator, level, dtype, reference, points, patch, known_by)
        held = None if mask is None else _held(generator, mask)
        base = Picture(ws=start) if reference.mask_picture is None else _on_device(generator, reference.mask_picture)
        fixed = None if held is None else _fixed_region(generator, dtype, held, config, base, view)
        exactly = held is not None and config.mask_hold == "exact"
    return Problem(
        generator=generator,
        config=config,
        level=level,
        grid=grid,
        dtype=dtype,
        ws=start,
        origin=_on_device(generator, reference.pictures[0]).ws[0],
        led_from=None if reference.led_from is None else _one_latent(generator, reference.led_from)[0],
        handles=points,
        patch=patch,
        window=square_offsets(r2).to(start.device),
        reach=reach,
        templates=templates,
        pattern=pattern,
        find_witness=witness,
        witness_level=finer,
        follows=follows,
        along_lines=along_lines,
        mask=fixed,
        blend=generator.blend(held, base, finer) if held is not None and exactly else None,
        stop_distance=stop_distance,
        near=near,
        by_hand=by_hand,
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


def surroundings(image_size: tuple[int, int], grid: Grid) -> tuple[Float[Tensor, "p 2"], Float[Tensor, "p"]]:
    """By what the content of a handle is known: offsets in image pixels, the handle first, and how much each counts.

    A disc of 15 px at 128 px, every third pixel: a contour or a smooth cheek looks alike for several pixels, and only
    what surrounds it says which place it is. Less (12 px) is off by a fifth more in one of ten pulls that fail; more
    (24 px) takes in parts that move another way. Eight cells at most: in large pictures the features of one cell show
    more of what surrounds it.
    """
    unit = min(at_size(4.0, image_size), 0.5 / max(grid.scale))
    offsets = square_offsets(5) * 3
    offsets = offsets[offsets.norm(dim=-1) <= 15] * unit
    return offsets, torch.ones(len(offsets))


def many_surroundings(image_size: tuple[int, int], grid: Grid) -> tuple[Float[Tensor, "p 2"], Float[Tensor, "p"]]:
    """Likewise of many handles, which pull parts of a picture in many directions: nearer, and densely.

    Densely within 6 px at 128 px, and thinly, at half the weight, as far again; six cells at most.
    """
    unit = min(at_size(4.0, image_size), 0.5 / max(grid.scale))
    near, far = square_offsets(3) * 2, square_offsets(4) * 3
    near, far = near[near.norm(dim=-1) <= 6], far[(far.norm(dim=-1) > 6) & (far.norm(dim=-1) <= 12)]
    weights = torch.cat([torch.ones(len(near)), torch.full((len(far),), 0.5)])
    return torch.cat([near, far]) * unit, weights


def pattern_slack(image_size: tuple[int, int]) -> float:
    """How far from where it is expected content is followed in one step, image pixels; as far as the paper's r2."""
    return max(at_size(12.0, image_size), 3.0)


def _clicked_features(
    generator: Generator,
    level: str,
    dtype: torch.dtype,
    reference: Reference,
    handles: Float[Tensor, "n 2"],
    patch: Float[Tensor, "p 2"],
    known_by: tuple[Tensor, Tensor],
) -> tuple[Float[Tensor, "n p channel"], Pattern]:
    """``f_i = F_0(p_i)`` and the rest of the patch, and a pattern. Handles clicked in one picture share one pass.

    Args:
        known_by: the pattern's offsets and weights.
    """
    clicked, pictures = reference.handles.to(handles), reference.pictures
    if len(pictures) != len(handles) or len(clicked) != len(handles):
        raise PointError(
            f"the reference has {len(clicked)} handles and {len(pictures)} pictures; there are {len(handles)} handles"
        )
    nothing = torch.empty(0)
    templates, means = [nothing] * len(clicked), [nothing] * len(clicked)
    offsets, weights = known_by
    looks = [(nothing, nothing)] * len(clicked)
    remaining = dict(enumerate(_on_device(generator, picture) for picture in pictures))
    while remaining:
        picture = next(iter(remaining.values()))
        alike = [i for i, other in remaining.items() if _same(picture, other)]
        shown = compute_picture_features(generator, picture, level, dtype)
        sampler, mean = FeatureSampler.of(shown, generator.grid(level)), shown.mean((0, 2, 3))
        for i in alike:
            at = clicked[i]
            templates[i], means[i] = sampler(at + patch), mean
            looks[i] = sampler(at + offsets), derivatives(sampler, at[None], offsets)[0]
            del remaining[i]
    pattern = Pattern(
        offsets=offsets,
        weights=_own(weights, offsets, clicked),
        features=torch.stack([features for features, _ in looks]),
        slopes=torch.stack([slopes for _, slopes in looks]),
        mean=torch.stack(means),
        clicked=clicked,
        image_size=generator.image_size,
    )
    return torch.stack(templates), pattern


def _on(device: torch.device, known_by: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Offsets and weights there."""
    offsets, weights = known_by
    return offsets.to(device), weights.to(device)


def _finer_level(generator: Generator, level: str) -> str:
    """The next level with smaller cells; the same one where there is none."""
    scale = max(generator.grid(level).scale)
    for finer in generator.levels[generator.levels.index(level) :]:
        if max(generator.grid(finer).scale) > scale:
            return finer
    return level


def _own(
    weights: Float[Tensor, "p"], offsets: Float[Tensor, "p 2"], clicked: Float[Tensor, "n 2"]
) -> Float[Tensor, "n p"]:
    """The weights of every handle's surroundings; of two, what lies nearer to the other one moves with that one.

    Two lips that open are surrounded by each other. Many handles have their nearer surroundings.
    """
    if len(clicked) > FEW_HANDLES:
        return weights.expand(len(clicked), -1)
    away = ((clicked[:, None] + offsets)[:, :, None] - clicked).norm(dim=-1)
    return weights * (offsets.norm(dim=-1) <= away.amin(-1) + 1e-3)


def _on_device(generator: Generator, picture: Picture) -> Picture:
    """The picture with its latents, checked, where the generator is."""
    found: Picture | None = None
    for layer in picture.layers:
        ws = generator.check_ws(layer.ws).to(generator.device, torch.float32)
        found = Picture(ws=ws, mask=layer.mask, base=found)
    assert found is not None
    return found


def _same(a: Picture, b: Picture) -> bool:
    """Whether two pictures are made of the same."""
    mine, others = a.layers, b.layers
    if len(mine) != len(others):
        return False
    return all(
        torch.equal(one.ws, other.ws) and _same_mask(one.mask, other.mask)
        for one, other in zip(mine, others, strict=True)
    )


def _same_mask(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or np.array_equal(a, b)


def _held(generator: Generator, mask: np.ndarray) -> Bool[np.ndarray, "height width"] | None:
    """The mask, checked; None where nothing is fixed."""
    array = check_mask(mask, generator.image_size)
    if array.all():
        return None
    if not array.any():
        raise MaskError("the mask lets nothing change; paint the region that may move, or clear the mask")
    return array


def _fixed_region(
    generator: Generator,
    dtype: torch.dtype,
    mask: Bool[np.ndarray, "height width"],
    config: DragConfig,
    base: Picture,
    view: MaskView,
) -> FixedRegion | None:
    """What the mask asks the latent to hold in this view; None: nothing."""
    if config.mask_weight == 0:
        return None
    fixed = fixed_cells(torch.from_numpy(mask).to(generator.device), view.grid(generator))
    return FixedRegion(fixed=fixed[None, None], kept=view.compute_picture(generator, base, dtype))
