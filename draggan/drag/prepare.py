"""From what people give to a `Problem`: everything is checked and computed once, before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.config import LEAST_PIXELS, DragConfig, at_size, radii_at_size
from draggan.drag.mask import FixedRegion, MaskView
from draggan.drag.precision import compute_picture_features, feature_dtype
from draggan.drag.problem import Pattern, Problem
from draggan.drag.regime import Regime, freedom
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
    "nearer_surrounding_offsets",
    "pattern_slack",
    "prepare",
    "surrounding_offsets",
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
    targets: Float[Tensor, "n 2"] | None = None,
    live: bool,
) -> Problem:
    """The problem, or an error that names what does not fit; see `draggan.drag.Drag`.

    Args:
        targets: of the handles; None: nobody knows how far they will go.
    """
    size = generator.image_size
    level = generator.check_level(config.level or generator.default_level)
    grid, dtype = generator.grid(level), feature_dtype(config.precision)
    start = _one_latent(generator, ws)
    points = handles.to(start.device)
    if reference is None:
        reference = Reference(handles=points, pictures=[Picture(ws=start)] * len(points))
    held = None if mask is None else _held(generator, mask)
    regime = _regime(config, len(points), held, solver, live=live)

    published = _published_stop_distance(config, len(points), size)
    stop_distance = _stop_distance(published, grid)
    r1, r2 = radii_at_size(config, size)
    patch = disc_offsets(r1)
    offsets, weights = _known_by(regime, patch, size, grid)
    second_level = _finer_level(generator, level) if regime.looks_again else level

    with torch.no_grad():
        clicked = _Clicked(generator, level, dtype, reference, points)
        templates, pattern = clicked.features(patch), clicked.pattern(offsets, weights)
        base = Picture(ws=start) if reference.mask_picture is None else _on_device(generator, reference.mask_picture)
        view = solver.mask_view(generator, config, level)
        fixed = None if held is None else _fixed_region(generator, dtype, held, config, base, view)
        blend = generator.blend(held, base, second_level) if held is not None and regime.blended else None

    way = None if targets is None else _farthest_way(targets.to(points), points, reference.handles.to(points))
    free = freedom(regime, config, way, size)

    def find_second_pattern() -> Pattern:
        if not regime.looks_again:
            return pattern
        # Nearer surroundings than steps follow it by, in features that say more exactly where it is.
        with torch.no_grad():
            seen = _Clicked(generator, second_level, dtype, reference, points)
            return seen.pattern(*nearer_surrounding_offsets(size, grid))

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
        patch=patch.to(start.device),
        window=square_offsets(r2).to(start.device),
        reach=_reach(regime, r1, r2, offsets, size),
        templates=templates,
        pattern=pattern,
        clicked_together=clicked.together,
        find_second_pattern=find_second_pattern,
        second_level=second_level,
        regime=regime,
        mask=fixed,
        blend=blend,
        stop_distance=stop_distance,
        near=_near(regime, published, stop_distance),
        freedom=free,
        along_pictures=regime.second_order and not regime.masked and regime.alone and free.naturalness == 1,
    )


def _regime(
    config: DragConfig,
    handles: int,
    held: Bool[np.ndarray, "height width"] | None,
    solver: type[Solver[Any]],
    *,
    live: bool,
) -> Regime:
    blended = held is not None and config.mask_hold == "exact"
    return Regime(
        handles=handles,
        masked=blended or (held is not None and config.mask_weight > 0),
        blended=blended,
        follows=config.follows,
        second_order=solver.second_order,
        live=live,
    )


def _farthest_way(targets: Float[Tensor, "n 2"], handles: Float[Tensor, "n 2"], clicked: Float[Tensor, "n 2"]) -> float:
    """How far a handle is to go at most, image pixels: from where it is, or from where it was clicked."""
    return max(float((targets - begun).norm(dim=-1).max()) for begun in (handles, clicked))


def _known_by(
    regime: Regime, patch: Float[Tensor, "q 2"], image_size: tuple[int, int], grid: Grid
) -> tuple[Float[Tensor, "p 2"], Float[Tensor, "p"]]:
    """By what the content of a handle is known on the way: offsets, image pixels, and how much each counts.

    Of few handles by more of what surrounds it than it is looked for once more by.
    """
    if not regime.follows:
        return patch, torch.ones(len(patch))
    return (nearer_surrounding_offsets if regime.along_lines else surrounding_offsets)(image_size, grid)


def _reach(regime: Regime, r1: float, r2: float, offsets: Float[Tensor, "p 2"], image_size: tuple[int, int]) -> float:
    """How far around the place where a handle should be a step needs features, image pixels."""
    # It may be r2 off, and its patch moves by 1 px.
    reach = float(r2 + r1 + 1)
    if not regime.follows:
        return reach
    # Content may be found as far from where it is expected, and is compared by what surrounds it there.
    return max(reach, float(offsets.norm(dim=-1).max()) + pattern_slack(image_size) + 1)


def _near(regime: Regime, published: float, stop_distance: float) -> float:
    """How near its target a handle is brought, image pixels."""
    if regime.by_hand:
        return max(published, LIVE_FLOOR)
    return NEARER * stop_distance if regime.restores else stop_distance


def _published_stop_distance(config: DragConfig, handles: int, image_size: tuple[int, int]) -> float:
    """The paper's, image pixels: d = 1 (as set, at 512 px) for up to five points, twice as far for more."""
    return at_size(config.stop_distance * (2 if handles > 5 else 1), image_size)


def _stop_distance(published: float, grid: Grid) -> float:
    """Within which a handle has arrived, image pixels.

    At least a pixel. Nor does a map of features say more exactly where content is than within a quarter of its cells:
    with less, drags of the built-in models take more steps, and no more of their claims are true.
    """
    cell = 1 / max(grid.scale)
    return max(published, float(LEAST_PIXELS["stop_distance"]), cell / 4)


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


def surrounding_offsets(image_size: tuple[int, int], grid: Grid) -> tuple[Float[Tensor, "p 2"], Float[Tensor, "p"]]:
    """By what the content of a handle is known: offsets in image pixels, the handle first, and how much each counts.

    A disc of 60 px at 512 px, a point every 12 px: a contour or a smooth cheek looks alike for many pixels, and only
    what surrounds it says which place it is. Less (48 px) is off by a fifth more in one of ten pulls that fail; more
    (96 px) takes in parts that move another way. Eight cells at most: in large pictures the features of one cell show
    more of what surrounds it.
    """
    unit = min(at_size(4.0, image_size), 0.5 / max(grid.scale))
    offsets = square_offsets(5) * 3
    offsets = offsets[offsets.norm(dim=-1) <= 15] * unit
    return offsets, torch.ones(len(offsets))


def nearer_surrounding_offsets(
    image_size: tuple[int, int], grid: Grid
) -> tuple[Float[Tensor, "p 2"], Float[Tensor, "p"]]:
    """Likewise, nearer: of many handles, which pull parts of a picture in many directions, and of a second look.

    Densely within 24 px at 512 px, and thinly, at half the weight, as far again; six cells at most.
    """
    unit = min(at_size(4.0, image_size), 0.5 / max(grid.scale))
    near, far = square_offsets(3) * 2, square_offsets(4) * 3
    near, far = near[near.norm(dim=-1) <= 6], far[(far.norm(dim=-1) > 6) & (far.norm(dim=-1) <= 12)]
    weights = torch.cat([torch.ones(len(near)), torch.full((len(far),), 0.5)])
    return torch.cat([near, far]) * unit, weights


def pattern_slack(image_size: tuple[int, int]) -> float:
    """How far from where it is expected content is followed in one step, image pixels; as far as the paper's r2."""
    return max(at_size(12.0, image_size), 3.0)


class _Clicked:
    """The handles in the pictures in which they were clicked, of which each is computed once.

    Raises:
        PointError: the reference is of another number of handles.
    """

    def __init__(
        self,
        generator: Generator,
        level: str,
        dtype: torch.dtype,
        reference: Reference,
        handles: Float[Tensor, "n 2"],
    ) -> None:
        pictures, self._clicked = reference.pictures, reference.handles.to(handles)
        if len(pictures) != len(handles) or len(self._clicked) != len(handles):
            raise PointError(
                f"the reference has {len(self._clicked)} handles and {len(pictures)} pictures; "
                f"there are {len(handles)} handles"
            )
        self._generator, self._level, self._dtype = generator, level, dtype
        self._seen: list[tuple[Picture, FeatureSampler, Float[Tensor, "channel"]]] = []
        self._shown = [self._look(_on_device(generator, picture)) for picture in pictures]

    @property
    def together(self) -> bool:
        """In one picture."""
        return len(self._seen) == 1

    def _look(self, picture: Picture) -> tuple[FeatureSampler, Float[Tensor, "channel"]]:
        """The features of a picture, and their mean."""
        for seen, sampler, mean in self._seen:
            if _same(picture, seen):
                return sampler, mean
        features = compute_picture_features(self._generator, picture, self._level, self._dtype)
        sampler, mean = FeatureSampler.of(features, self._generator.grid(self._level)), features.mean((0, 2, 3))
        self._seen.append((picture, sampler, mean))
        return sampler, mean

    def features(self, offsets: Float[Tensor, "p 2"]) -> Float[Tensor, "n p channel"]:
        """Around every handle; the handle itself, ``f_i = F_0(p_i)``, where its offset is zero.

        Args:
            offsets: image pixels, on any device.
        """
        offsets = offsets.to(self._clicked)
        return torch.stack([sampler(at + offsets) for at, (sampler, _) in zip(self._clicked, self._shown, strict=True)])

    def pattern(self, offsets: Float[Tensor, "p 2"], weights: Float[Tensor, "p"]) -> Pattern:
        """Their surroundings.

        Args:
            offsets, weights: see `surrounding_offsets`; on any device.
        """
        offsets, weights = offsets.to(self._clicked), weights.to(self._clicked)
        slopes = [
            derivatives(sampler, at[None], offsets)[0]
            for at, (sampler, _) in zip(self._clicked, self._shown, strict=True)
        ]
        return Pattern(
            offsets=offsets,
            weights=_own(weights, offsets, self._clicked),
            features=self.features(offsets),
            slopes=torch.stack(slopes),
            mean=torch.stack([mean for _, mean in self._shown]),
            clicked=self._clicked,
            image_size=self._generator.image_size,
        )


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
    """The weights of every handle's surroundings; of two that share some, what lies towards the other does not count.

    Between two lips that open, or lids that close, is what was not there before, or will be gone. Many handles have
    their nearer surroundings.
    """
    if len(clicked) != 2:
        return weights.expand(len(clicked), -1)
    towards = clicked.flip(0) - clicked
    share = towards.norm(dim=-1, keepdim=True) < 2 * offsets.norm(dim=-1).max()
    between = (offsets * towards[:, None]).sum(-1) > 1e-3
    return weights * ~(between & share)


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
