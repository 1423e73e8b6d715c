"""One drag: optimise a latent code until the content under every handle sits on its target.

Pan et al., "Drag Your GAN: Interactive Point-based Manipulation on the Generative Image Manifold" (SIGGRAPH 2023).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from draggan.config import DragConfig, at_size
from draggan.drag.adam import Adam
from draggan.drag.hold import View
from draggan.drag.mask import FixedRegion
from draggan.drag.motion import directions
from draggan.drag.newton import Newton
from draggan.drag.precision import feature_dtype
from draggan.drag.problem import Problem, compute_features
from draggan.drag.solver import Proposal, Solver
from draggan.drag.tracking import refine, track
from draggan.errors import LatentError, MaskError, PointError
from draggan.generators.base import Generator
from draggan.geometry import disc_offsets, fixed_cells, sample, square_offsets

__all__ = ["Drag", "DragStep", "Outcome", "Reference"]

# Points as people have them: pairs (x, y) in any sequence or array.
PointsLike: TypeAlias = Sequence[Any] | np.ndarray | Tensor

Outcome = Literal["arrived", "max_steps", "stalled", "stopped", "diverged"]

# Image pixels: no live drag follows more closely than this. About half a pixel of the screen where a picture of 128 px
# fills it.
LIVE_FLOOR = 0.125


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
        outcome: why it is the last one, None before. "arrived": every handle is within the stop distance (with a mask
            the second-order solver goes on for some steps then, which make up for what has changed outside);
            "max_steps": the limit was reached; "stalled": no progress for `DragConfig.stall_steps` steps, or no step
            of the second-order solver, however short, leads nearer;
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
    """An iterator of `DragStep`. It always ends, once it is not live.

    It renders no pictures: whoever shows it asks ``generator.synthesis(step.ws)`` when one is due.

    *Following a pointer.* With ``live=True`` the picture follows targets that change while it runs::

        drag = Drag(G, ws, [grabbed], [grabbed], config=DragConfig(solver="newton"), live=True)
        thread: for step in drag: show(step)            # one thread iterates
        pointer moves: drag.retarget([position])         # any thread, any rate; returns at once
        pointer released: drag.settle()                  # from now on it ends like any other drag

    * Every step goes to the newest targets there are when it begins; those in between are never looked at. So a step
      that begins after `retarget` returned shows what was asked then, or later.
    * Of several handles all targets are given every time, those that stay included.
    * While live, reaching the targets or finding no way nearer does not end the drag: that step is yielded with
      ``done`` False and ``outcome`` None, and asking for the next one *sleeps*, with no lock held that a caller could
      wait for, until `retarget` brings other targets, farther than ``near``, or `settle` or `stop` is called. Whoever
      iterates on the only thread must therefore call one of them when all ``distances`` are within ``stop_distance``.
      Whoever lets go of a live drag must call `settle` or `stop`, or a thread that iterates it sleeps for ever.
    * A hand sees where content is more exactly than a drag has to end: handles go on to ``near`` their targets, a
      fraction of a pixel in small pictures, if the solver tracks fractions. Within the stop distance only a step that
      leads nearer at its first attempt is taken, so that what rests does not tremble.
    * Neither ``max_steps`` nor a stall count while live; both begin to count with `settle`.
    * After `settle`, the drag goes on until it has arrived (at once if it has), stalled or used up its steps, and its
      last step has ``done`` True as ever. The best latent that a stalled one goes back to is the nearest to the last
      targets; the one it began with is among those compared.
    * `stop` ends it with the picture that was shown last.

    `retarget` works without ``live`` too, as long as the drag has not ended.

    Args:
        generator: frozen weights; never changed.
        ws: the latent to start from, ``[1, num_ws, w_dim]``, a tensor or an array; not changed.
        handles, targets: ``[n, 2]`` image pixels ``(x, y)``, inside the picture.
        mask: bool ``[height, width]``, True = may change; None: everything may.
        config: settings.
        reference: for a continued drag, where and in which latents the handles were clicked; None: here and now.
        live: follow the targets until `settle`.

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
        live: bool = False,
    ) -> None:
        self.generator = generator
        self.config = config = config or DragConfig()
        size = generator.image_size
        self.level = generator.check_level(config.level or generator.default_level)
        self._stop = threading.Event()

        start = _one_latent(generator, ws)
        device = start.device
        self.dtype = feature_dtype(config.precision, generator)
        self._handles = _points("handle", handles, size).to(device)
        self._targets = self._checked_targets(targets).to(device)
        if not len(self._handles):
            raise PointError("no points were given; set at least one handle and its target")

        # Floors: below 512 px the scaled radii would shrink to nothing while a feature cell stays four pixels wide.
        r1 = max(round(at_size(config.r1, size)), 2)
        r2 = max(round(at_size(config.r2, size)), 3)
        patch = disc_offsets(r1).to(device)
        # The paper: d = 1 for up to five points, 2 for more.
        arrived = at_size(config.stop_distance * (2 if len(self._handles) > 5 else 1), size)
        self.stop_distance = max(arrived, 1.0)
        solver = {"adam": Adam, "newton": Newton}[config.solver]
        self.near = max(arrived, LIVE_FLOOR) if live and solver.subpixel else self.stop_distance
        self._progress = at_size(config.stall_progress, size)

        if reference is None:
            reference = Reference(handles=self._handles, ws=start.expand(len(self._handles), -1, -1))
        with torch.no_grad():
            templates = self._template_features(reference, start, patch)
            fixed = self._fixed_region(mask, reference, start, solver.view(generator, config, self.level))
        self._problem = Problem(
            generator=generator,
            config=config,
            level=self.level,
            grid=generator.grid(self.level),
            dtype=self.dtype,
            ws=start,
            patch=patch,
            window=square_offsets(r2).to(device),
            # A step looks this far around where a handle should be: it may be r2 off, and its patch moves by 1 px.
            reach=float(r2 + r1 + 1),
            templates=templates,
            mask=fixed,
            stop_distance=self.near,
        )
        self._solver: Solver = solver(self._problem)
        self._shift = torch.zeros(1, self._problem.moves, generator.w_dim, device=device)

        self._index = 0
        self._finished = False
        self._first: DragStep | None = None
        self._best: DragStep | None = None
        self._mark = (0, float("inf"))  # step and summed distance of the last progress worth the name
        self._counted_from = 0  # the step from which `max_steps` counts

        # What other threads change, and the word that they did.
        self._news = threading.Condition()
        self._live = live
        self._wanted: Tensor | None = None  # targets not looked at yet
        self._idle = False  # nothing to do until there are others

    def stop(self) -> None:
        """End the drag with the next step, whose outcome is "stopped". May be called from any thread."""
        with self._news:
            self._stop.set()
            self._live = False
            self._news.notify_all()

    def retarget(self, targets: PointsLike) -> None:
        """Replace the targets, from the next step on. May be called from any thread, at any rate; returns at once.

        Raises:
            PointError: not one per handle, not finite, or outside the picture; the drag goes on as it was.
        """
        # Not to the device from here: that would wait for what it is doing.
        wanted = self._checked_targets(targets)
        with self._news:
            self._wanted = wanted
            self._news.notify_all()

    def settle(self) -> None:
        """Let a live drag end like any other, at the newest targets. May be called from any thread, and twice."""
        with self._news:
            self._live = False
            self._news.notify_all()

    def _checked_targets(self, targets: PointsLike) -> Float[Tensor, "n 2"]:
        points = _points("target", targets, self.generator.image_size)
        if len(self._handles) != len(points):
            raise PointError(
                f"{len(self._handles)} handle points and {len(points)} target points were given; "
                "every handle needs one target"
            )
        return points

    def _await_news(self) -> bool:
        """Take over new targets; sleep as long as there is nothing to do. Returns whether the drag is live."""
        with self._news:
            while True:
                if self._wanted is not None:
                    self._take_targets(self._wanted.to(self._handles))
                    self._wanted = None
                if not (self._live and self._idle) or self._stop.is_set():
                    return self._live
                self._news.wait()

    def _take_targets(self, targets: Float[Tensor, "n 2"]) -> None:
        if torch.equal(targets, self._targets):
            return
        self._targets = targets
        self._mark = (self._index, float("inf"))
        d, distances = directions(self._handles, targets)
        pulled = distances > self.near
        self._idle = self._idle and not bool(pulled.any())
        if self._first is None or self._best is None:
            return
        self._first, self._best = (_aimed(step, targets) for step in (self._first, self._best))
        self._best = min(self._first, self._best, key=_left)
        # What the solver takes its next step from.
        self._solver.loss(self._handles, d, pulled)

    def __next__(self) -> DragStep:
        if self._finished:
            raise StopIteration
        step = self._advance(live=self._await_news())
        self._finished = step.done
        self._index += 1
        return step

    def _advance(self, *, live: bool) -> DragStep:
        if live:
            self._counted_from = self._index
        stopping = self._stop.is_set()
        last = stopping or self._index - self._counted_from >= self.config.max_steps
        stuck, hurried = False, live or last
        if self._index == 0:
            self._solver.look(Proposal(self._shift, self._handles), last=last)
        elif not stopping and (
            not (hurried or self._solver.settled)
            or bool((directions(self._handles, self._targets)[1] > self.near).any())
        ):
            stuck = not self._move(last)
        d, distances = directions(self._handles, self._targets)
        pulled = distances > self.near
        outcome = self._outcome(distances, pulled, stopping, last, stuck)
        if outcome is not None and self._has_arrived():
            outcome = "arrived"
        if outcome == "arrived" and not (hurried or stuck or self._solver.settled):
            outcome = None
        self._idle = live and outcome in ("arrived", "stalled")
        if outcome is not None and not self._idle:
            return self._finish(distances, outcome)
        step = self._step(distances, self._solver.loss(self._handles, d, pulled))
        if not np.isfinite(step.loss):
            return self._finish(distances, "diverged")
        self._remember(step)
        return step

    def _move(self, last: bool) -> bool:
        """Go one step on, and track the handles there; False: the solver finds no step that leads nearer."""
        solver, problem = self._solver, self._problem
        finely = self.near < self.stop_distance and self._has_arrived()
        proposal = solver.propose(self._handles, self._targets)
        while True:
            sampler = solver.look(proposal, last=last)
            handles = track(
                sampler, proposal.handles, problem.templates[:, 0], problem.window, problem.size, solver.tolerance
            )
            if solver.subpixel:
                handles = refine(sampler, handles, problem.templates, problem.patch, problem.size)
            verdict = solver.judge(handles, self._targets)
            if verdict == "good":
                self._shift, self._handles = proposal.shift, handles
                return True
            if verdict == "stuck" or finely or self._stop.is_set():
                return False
            proposal = solver.another()

    def _has_arrived(self) -> bool:
        """Whether every handle is within the stop distance."""
        return bool((directions(self._handles, self._targets)[1] <= self.stop_distance).all())

    def _outcome(self, distances: Tensor, pulled: Tensor, stopping: bool, last: bool, stuck: bool) -> Outcome | None:
        if not pulled.any():
            return "arrived"
        if stopping or self._stop.is_set():
            return "stopped"
        if last:
            return "max_steps"
        if stuck:
            return "stalled"
        since, before = self._mark
        now = distances.sum().item()
        if now < before and now <= before - self._progress:
            self._mark = (self._index, now)
        elif self._index - since >= self._solver.stall_steps:
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
        if self._first is None:
            self._first = step
        self._best = step if self._best is None else min(self._best, step, key=_left)

    def _step(self, distances: Tensor, loss: float, outcome: Outcome | None = None) -> DragStep:
        with torch.no_grad():
            ws = torch.stack(self._problem.rows(self._shift), 1)
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

    def _template_features(self, reference: Reference, start: Tensor, patch: Tensor) -> Float[Tensor, "n p channel"]:
        """``f_i = F_0(p_i)`` and the rest of the patch. Handles clicked in the same picture share one pass."""
        ws, clicked = reference.ws.to(start), reference.handles.to(self._handles)
        if len(ws) != len(self._handles) or len(clicked) != len(self._handles):
            raise PointError(
                f"the reference has {len(clicked)} handles and {len(ws)} latents; "
                f"there are {len(self._handles)} handles"
            )
        self.generator.check_ws(ws)
        distinct, member = torch.unique(ws, dim=0, return_inverse=True)
        templates: list[Tensor] = [torch.empty(0)] * len(clicked)
        for k, latent in enumerate(distinct):
            features = compute_features(self.generator, latent[None], self.level, self.dtype)
            for i in (member == k).nonzero()[:, 0].tolist():
                templates[i] = sample(features, self.generator.grid(self.level), clicked[i] + patch)
        return torch.stack(templates)

    def _fixed_region(
        self, mask: np.ndarray | None, reference: Reference, start: Tensor, view: View
    ) -> FixedRegion | None:
        """What the mask holds in this view; None where nothing is fixed."""
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
        fixed = fixed_cells(torch.from_numpy(array.copy()).to(start.device), view.grid(self.generator))
        mask_ws = start if reference.mask_ws is None else self.generator.check_ws(reference.mask_ws.to(start))
        kept = view.look(self.generator, mask_ws, self.dtype)
        return FixedRegion(fixed=fixed[None, None], kept=kept)


def _left(step: DragStep) -> float:
    """How far all handles together are from their targets, image pixels."""
    return float(step.distances.sum())


def _aimed(step: DragStep, targets: Float[Tensor, "n 2"]) -> DragStep:
    """The same step measured against other targets."""
    wanted = targets.cpu().numpy().copy()
    return replace(step, targets=wanted, distances=np.linalg.norm(wanted - step.handles, axis=1))


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
    except (TypeError, ValueError, OverflowError) as e:
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
