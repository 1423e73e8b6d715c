"""One drag: optimise a latent code until the content under every handle sits on its target.

Pan et al., "Drag Your GAN: Interactive Point-based Manipulation on the Generative Image Manifold" (SIGGRAPH 2023).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from draggan.config import DragConfig, at_size
from draggan.drag.mask import FixedRegion
from draggan.drag.motion import Sampler, directions, mask_loss, motion_supervision_loss
from draggan.drag.precision import feature_dtype
from draggan.drag.tracking import track
from draggan.errors import LatentError, MaskError, PointError
from draggan.generators.base import Generator, Latent
from draggan.geometry import Windows, cover, disc_offsets, fixed_cells, sample, square_offsets

__all__ = ["Drag", "DragStep", "Outcome", "Reference"]

# Points as people have them: pairs (x, y) in any sequence or array.
PointsLike: TypeAlias = Sequence[Any] | np.ndarray | Tensor

Outcome = Literal["arrived", "max_steps", "stalled", "stopped", "diverged"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DragStep:
    """What one step knows. Everything in it describes the same latent code.

    Attributes:
        index: 0 is the picture as it was before the drag.
        ws: the latent, ``[1, num_ws, w_dim]``; ``generator.synthesis(step.ws)`` is its picture.
        handles, targets: ``[n, 2]`` image pixels ``(x, y)``; the handles as tracked in this picture.
        distances: ``[n]`` image pixels from handle to target.
        loss: the supervision loss at this latent; 0 in a last step.
        done: this is the last step.
        outcome: why it is the last one, None before. "arrived": every handle is within the stop distance;
            "max_steps": the limit was reached; "stalled": no progress for `DragConfig.stall_steps` steps;
            "stopped": `Drag.stop` was called; "diverged": the loss was no longer a finite number. After "max_steps",
            "stalled" and "diverged" the last step shows the best latent of the drag (smallest summed distance).
    """

    index: int
    ws: Float[Tensor, "1 num_ws w_dim"]
    handles: Float[np.ndarray, "n 2"]
    targets: Float[np.ndarray, "n 2"]
    distances: Float[np.ndarray, "n"]
    loss: float
    done: bool = False
    outcome: Outcome | None = None


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


class Drag(Iterator[DragStep]):
    """An iterator of `DragStep`, one forward and one backward pass each. It always ends.

    It renders no pictures: whoever shows it asks ``generator.synthesis(step.ws)`` when one is due.

    Args:
        generator: frozen weights; never changed.
        ws: the latent to start from, ``[1, num_ws, w_dim]``, a tensor or an array; not changed.
        handles, targets: ``[n, 2]`` image pixels ``(x, y)``, inside the picture.
        mask: bool ``[height, width]``, True = may change; None: everything may.
        config: settings.
        reference: for a continued drag, where and in which latents the handles were clicked; None: here and now.

    Raises:
        PointError: no points, unequal numbers, not finite, or outside the picture.
        MaskError: another size than the picture, or nothing may change.
        LatentError: ``ws`` is not one latent of this generator, or not finite.
    """

    def __init__(
        self,
        generator: Generator,
        ws: Tensor | np.ndarray,
        handles: PointsLike,
        targets: PointsLike,
        mask: np.ndarray | None = None,
        config: DragConfig | None = None,
        *,
        reference: Reference | None = None,
    ) -> None:
        self.generator = generator
        self.config = config = config or DragConfig()
        size = generator.image_size
        self.level = generator.check_level(config.level or generator.default_level)
        self._grid = generator.grid(self.level)
        self._stop = threading.Event()

        self._ws = _one_latent(generator, ws)
        device = self._ws.device
        self.dtype = feature_dtype(config.precision, generator)
        self._handles = _points("handle", handles, size).to(device)
        self._targets = _points("target", targets, size).to(device)
        if len(self._handles) != len(self._targets):
            raise PointError(
                f"{len(self._handles)} handle points and {len(self._targets)} target points were given; "
                "every handle needs one target"
            )
        if not len(self._handles):
            raise PointError("no points were given; set at least one handle and its target")

        # Floors: below 512 px the scaled radii would shrink to nothing while a feature cell stays four pixels wide.
        r1 = max(round(at_size(config.r1, size)), 2)
        r2 = max(round(at_size(config.r2, size)), 3)
        self._patch = disc_offsets(r1).to(device)
        self._window = square_offsets(r2).to(device)
        # A step looks this far around where a handle was: it may have moved by r2, and its patch moves by 1 px.
        self._reach = float(r2 + r1 + 1)
        # The paper: d = 1 for up to five points, 2 for more.
        self.stop_distance = max(at_size(config.stop_distance * (2 if len(self._handles) > 5 else 1), size), 1.0)
        self._progress = at_size(config.stall_progress, size)

        if reference is None:
            reference = Reference(handles=self._handles, ws=self._ws.expand(len(self._handles), -1, -1))
        with torch.no_grad():
            self._templates = self._template_features(reference)
            self._mask = self._fixed_region(mask, reference)
        # Only the estimated mask loss draws from it; the same drag always draws the same.
        self._random = np.random.default_rng(0)

        # The free rows move by this much: each on its own in W+, all alike in W.
        self._free_rows = min(config.free_rows, generator.num_ws)
        moves = self._free_rows if config.space == "w+" else 1
        self._shift = torch.zeros(1, moves, generator.w_dim, device=device, requires_grad=True)
        # The same objects in every step: what a model computes from a row alone it may keep while the row exists.
        self._fixed_rows = self._ws.unbind(1)
        self._optimiser = torch.optim.Adam([self._shift], lr=config.step_size)

        self._index = 0
        self._finished = False
        self._best: DragStep | None = None
        self._mark = (0, float("inf"))  # step and summed distance of the last progress worth the name

    def stop(self) -> None:
        """End the drag with the next step, whose outcome is "stopped". May be called from any thread."""
        self._stop.set()

    def __next__(self) -> DragStep:
        if self._finished:
            raise StopIteration
        step = self._advance()
        self._finished = step.done
        self._index += 1
        return step

    def _advance(self) -> DragStep:
        stopping = self._stop.is_set()
        last = stopping or self._index >= self.config.max_steps
        with torch.set_grad_enabled(not last):
            sampler, change = self._look()
            size = self.generator.image_size
            if self._index > 0:
                self._handles = track(sampler, self._handles, self._templates, self._window, size)
            d, distances = directions(self._handles, self._targets)
            pulled = distances > self.stop_distance
            outcome = self._outcome(distances, pulled, stopping, last)
            if outcome is not None:
                return self._finish(distances, outcome)
            loss = motion_supervision_loss(sampler, self._handles, d, pulled, self._patch, size)
            if change is not None:
                loss = loss + self.config.mask_weight * change()
            step = self._step(distances, loss.item())
            if not np.isfinite(step.loss):
                return self._finish(distances, "diverged")
            self._remember(step)
            self._optimiser.zero_grad()
            loss.backward()
        self._optimiser.step()
        return step

    def _look(self) -> tuple[Sampler, Callable[[], Tensor] | None]:
        """Features of the current latent around the handles, and the mask loss where there is a mask.

        Only windows around the handles are computed. An exact mask loss needs the whole map, which then serves both;
        an estimated one (`DragConfig.mask_windows`) takes windows of the fixed region. Those are larger, since a window
        costs as much as one some ten cells larger on every side; a quarter of the map wide, a few of them tell enough.
        """
        rows = self._rows()
        mask, count = self._mask, self.config.mask_windows
        if mask is not None and count == 0:
            features = self._features(rows)
            return partial(sample, features, self._grid), lambda: mask_loss(features, mask.kept, mask.fixed)
        windows, member = cover(self._handles, self._reach, self._grid)
        near = self._features(rows, windows)

        def sampler(points: Tensor) -> Tensor:
            return sample(near, self._grid, points, windows, member[:, None].expand(points.shape[:-1]))

        def change() -> Tensor:
            assert mask is not None
            quarter = (max(self._grid.size[0] // 4, 1), max(self._grid.size[1] // 4, 1))
            tiles = mask.tiles(quarter, count, self._random)
            return tiles.scale * mask_loss(self._features(rows, tiles.windows), tiles.kept, tiles.fixed)

        return sampler, None if mask is None else change

    def _features(self, ws: Latent, windows: Windows | None = None) -> Float[Tensor, "n channel height width"]:
        """The whole map or windows of it, computed in `dtype`, returned as float32."""
        with torch.autocast(self._ws.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            if windows is None:
                return self.generator.features(ws, self.level).float()
            return self.generator.local_features(ws, self.level, windows).float()

    def _rows(self) -> list[Tensor]:
        """The latent as rows; only those that may move ask for a gradient."""
        rows = list(self._fixed_rows)
        for k in range(self._free_rows):
            rows[k] = rows[k] + self._shift[:, min(k, self._shift.shape[1] - 1)]
        return rows

    def _outcome(self, distances: Tensor, pulled: Tensor, stopping: bool, last: bool) -> Outcome | None:
        if not pulled.any():
            return "arrived"
        if stopping:
            return "stopped"
        if last:
            return "max_steps"
        since, before = self._mark
        now = distances.sum().item()
        if now < before and now <= before - self._progress:
            self._mark = (self._index, now)
        elif self._index - since >= self.config.stall_steps:
            return "stalled"
        return None

    def _finish(self, distances: Tensor, outcome: Outcome) -> DragStep:
        """The last step: this latent, or the best of the drag where the outcome calls for it (see `DragStep`)."""
        here = self._step(distances, 0.0, outcome)
        best = self._best
        broken = outcome == "diverged" or not bool(torch.isfinite(here.ws).all())
        keep = outcome in ("arrived", "stopped") or best is None or best.distances.sum() >= here.distances.sum()
        if best is None or (keep and not broken):
            return here
        return DragStep(
            index=self._index,
            ws=best.ws,
            handles=best.handles,
            targets=best.targets,
            distances=best.distances,
            loss=0.0,
            done=True,
            outcome=outcome,
        )

    def _remember(self, step: DragStep) -> None:
        if self._best is None or step.distances.sum() < self._best.distances.sum():
            self._best = step

    def _step(self, distances: Tensor, loss: float, outcome: Outcome | None = None) -> DragStep:
        with torch.no_grad():
            ws = torch.stack(self._rows(), 1)
        return DragStep(
            index=self._index,
            ws=ws,
            handles=self._handles.cpu().numpy().copy(),
            targets=self._targets.cpu().numpy().copy(),
            distances=distances.detach().cpu().numpy().copy(),
            loss=loss,
            done=outcome is not None,
            outcome=outcome,
        )

    def _template_features(self, reference: Reference) -> Float[Tensor, "n channel"]:
        """``f_i = F_0(p_i)``. Handles clicked in the same picture share one pass."""
        ws, clicked = reference.ws.to(self._ws), reference.handles.to(self._handles)
        if len(ws) != len(self._handles) or len(clicked) != len(self._handles):
            raise PointError(
                f"the reference has {len(clicked)} handles and {len(ws)} latents; "
                f"there are {len(self._handles)} handles"
            )
        self.generator.check_ws(ws)
        distinct, member = torch.unique(ws, dim=0, return_inverse=True)
        templates: list[Tensor] = [torch.empty(0)] * len(clicked)
        for k, latent in enumerate(distinct):
            features = self._features(latent[None])
            for i in (member == k).nonzero()[:, 0].tolist():
                templates[i] = sample(features, self._grid, clicked[i])
        return torch.stack(templates)

    def _fixed_region(self, mask: np.ndarray | None, reference: Reference) -> FixedRegion | None:
        """What the mask holds; None where nothing is fixed."""
        if mask is None:
            return None
        array = np.asarray(mask)
        if array.dtype != bool or array.shape != self.generator.image_size:
            raise MaskError(
                f"the mask is {array.dtype} of shape {list(array.shape)}; it must be bool "
                f"{list(self.generator.image_size)} like the picture, True where it may change"
            )
        if array.all() or self.config.mask_weight == 0:
            return None
        if not array.any():
            raise MaskError("the mask lets nothing change; paint the region that may move, or clear the mask")
        fixed = fixed_cells(torch.from_numpy(array.copy()).to(self._ws.device), self._grid)
        mask_ws = self._ws if reference.mask_ws is None else self.generator.check_ws(reference.mask_ws.to(self._ws))
        return FixedRegion(fixed=fixed[None, None], kept=self._features(mask_ws))


def _one_latent(generator: Generator, ws: Tensor | np.ndarray) -> Float[Tensor, "1 num_ws w_dim"]:
    """A copy of the latent, float32, where the generator is; or `LatentError`."""
    ws = generator.check_ws(torch.as_tensor(ws))
    if len(ws) != 1:
        raise LatentError(f"{len(ws)} latent codes were given; a drag takes one, {[1, *ws.shape[1:]]}")
    if not torch.isfinite(ws).all():
        raise LatentError("the latent code has values that are not finite numbers; start from another picture")
    return ws.detach().to(generator.device, torch.float32, copy=True)


def _points(kind: str, points: PointsLike, size: tuple[int, int]) -> Float[Tensor, "n 2"]:
    """Validated points as float32, or `PointError` naming the first bad one."""
    if isinstance(points, Tensor):
        points = points.detach().cpu().numpy()
    try:
        array = np.asarray(points, dtype=np.float32)
    except (TypeError, ValueError) as e:
        raise PointError(f"the {kind} points are not numbers; give pairs (x, y) of image pixels") from e
    if array.size == 0:
        return torch.zeros(0, 2)
    if array.ndim != 2 or array.shape[1] != 2:
        raise PointError(f"the {kind} points have shape {list(array.shape)}; give [n, 2], pairs (x, y) of image pixels")
    height, width = size
    for i, (x, y) in enumerate(array):
        if not (np.isfinite(x) and np.isfinite(y) and 0 <= x <= width - 1 and 0 <= y <= height - 1):
            raise PointError(
                f"{kind} {i + 1} at ({x:g}, {y:g}) is outside the picture; x goes from 0 to {width - 1}, "
                f"y from 0 to {height - 1}"
            )
    return torch.from_numpy(array.copy())
