"""Damped Gauss-Newton (Levenberg-Marquardt) within a trust region: the smallest latent step that puts every handle on
its target.

``J`` is the Jacobian of all handles (`draggan.drag.solvers.jacobian`), and ``v`` are coordinates in which a short step
is a likely one: in the simplest case ``dw = K S v``, with a metric ``S`` and a coupling of rows ``K``
(`draggan.drag.solvers.latent_metric`); for the others see `draggan.drag.solvers.coordinates`. With ``J`` taken in v,

    v = argmin |v|^2 + sum_k (J v - d)_k^2 / (damping (J J^T)_kk)

is a linear system of two rows per handle. ``d``, where the handles are to go, is limited to the trust radius. Damping
follows Levenberg and Marquardt: a step that did not bring the handles nearer, as the drag measures it, is taken back,
shortened and damped more.

What a step does besides lies in the null space of ``J``, so that the handles stay where it brings them. It goes back
towards where the drag began; where what is under the handles has changed, it makes that look more like the start; and
it makes up for what it would change in a region that a mask fixes (`draggan.drag.solvers.mask_constraint`). Once the
handles have arrived, a few more steps make up for the rest of that. `draggan.config.GaussNewtonRules` holds the
constants.

How far it gets, and how truly, beside Adam: benchmarks/truth.md and benchmarks/solvers.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.config import DragConfig, GaussNewtonRules
from draggan.drag.latent_statistics import LatentStatistics, latent_statistics
from draggan.drag.mask import MaskView
from draggan.drag.problem import Problem
from draggan.drag.refusal import Refusal, fetch_at_once, refused
from draggan.drag.regime import freedom
from draggan.drag.solvers.base import Evaluation, Kept, Solver, Stuck, never
from draggan.drag.solvers.coordinates import Coordinates, Linear, Pictures
from draggan.drag.solvers.jacobian import inverse, null_space, to_float64
from draggan.drag.solvers.latent_metric import LatentMetric, metric_root, row_coupling
from draggan.drag.solvers.mask_constraint import MaskConstraint, mask_view
from draggan.drag.solvers.surroundings import Surroundings
from draggan.drag.solvers.trust_region import Region, accepts, initial_region
from draggan.drag.stopping import Patience
from draggan.drag.tracking import Tracked, Tracker, nowhere
from draggan.generators.base import Generator
from draggan.geometry import moved_inside
from torch_utils.recorder import replayed
from torch_utils.transfer import to_device, to_host

__all__ = ["GaussNewton", "GaussNewtonEvaluation", "Linearisation", "smallest_step"]

RULES = GaussNewtonRules()


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussNewtonEvaluation(Evaluation):
    """See `Evaluation`.

    Attributes:
        v: where the latent is in the coordinates of the drag: all zero where it began, or was let go.
        let_go: the shift from which on the rows may part as they like (`GaussNewton` says when); None: they may not.
        surroundings: its features.
        region: how far the next step may go.
        targets: those that uphill steps are counted for.
        uphill_steps: how many more there may be.
        mask_steps: how many more steps may make up for what has changed outside the mask.
        astray: see `Coordinates.astray`.
    """

    problem: Problem
    v: Float[Tensor, "1 shift_rows d"]
    let_go: Float[Tensor, "1 shift_rows w_dim"] | None
    surroundings: Surroundings
    region: Region
    targets: Float[Tensor, "_ 2"]
    uphill_steps: int
    mask_steps: int = 0
    astray: Float[Tensor, ""] | None = None

    def loss(self, targets: Float[Tensor, "n 2"]) -> Float[Tensor, ""]:
        """See `Evaluation.loss`."""
        return self.surroundings.loss(self.tracked.handles, targets)

    def forget(self) -> None:
        """See `Evaluation.forget`."""
        self.surroundings.forget()


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussNewtonKept(Kept):
    """See `Kept`.

    Attributes:
        around, last, reach: with which the surroundings are made again, see `Surroundings`.

    The rest as in `GaussNewtonEvaluation`.
    """

    v: Float[Tensor, "1 shift_rows d"]
    let_go: Float[Tensor, "1 shift_rows w_dim"] | None
    around: Float[Tensor, "n 2"]
    last: bool
    reach: float
    region: Region
    targets: Float[Tensor, "_ 2"]
    uphill_steps: int
    mask_steps: int


@dataclass(frozen=True, eq=False)
class Linearisation:
    """How handles and content depend on v where a step begins.

    Attributes:
        jacobian: of the handles.
        restoring: a step that would leave the handles where they are, and what is under them as it was at the start, by
            first order; None: it has not changed by much.
    """

    jacobian: Float[Tensor, "k shift_rows d"]
    restoring: Float[Tensor, "1 shift_rows d"] | None


@dataclass(frozen=True, eq=False)
class Attempt:
    """A step that may be taken.

    Attributes:
        step: in coordinates of the drag.
        expected: where it should take the handles, image pixels, inside the picture.
        v, shift: where it leads, see `GaussNewtonEvaluation`.
        share: how much of it is left where the latent may go no farther; 1 elsewhere.
    """

    step: Float[Tensor, "1 shift_rows d"]
    expected: Float[Tensor, "n 2"]
    v: Float[Tensor, "1 shift_rows d"]
    shift: Float[Tensor, "1 shift_rows w_dim"]
    share: float = 1.0


@dataclass(frozen=True, eq=False)
class Trial:
    """An attempt, and what has come of it.

    Attributes:
        there: where it leads.
        refusal: why it is not taken, however near it leads; None: nothing speaks against it.
        before, promised, now: image pixels from the handles to their targets: where it begins, by the linear model
            where it ends, and there as tracked.
    """

    there: GaussNewtonEvaluation
    refusal: Refusal | None
    before: Float[Tensor, "n"]
    promised: Float[Tensor, "n"]
    now: Float[Tensor, "n"]

    @property
    def asked(self) -> float:
        """How far the farthest handle is to go."""
        return self.before.max().item()

    @property
    def gain(self) -> float:
        """By how much it has brought the handles nearer, all together."""
        return (self.before.sum() - self.now.sum()).item()

    @property
    def hope(self) -> float:
        """By how much it was to."""
        return (self.before.sum() - self.promised.sum()).item()

    def leads_nearer(self, near: float) -> bool:
        """Whether it is worth taking.

        Args:
            near: a handle this near to its target is where it should be, image pixels.
        """
        return accepts(RULES, self.gain, self.hope) or bool((self.now <= near).all())


class GaussNewton(Solver[GaussNewtonEvaluation]):
    """One forward pass a step or attempt, two or three backward passes a step, over a small window for every handle.

    The last bit of a way is a short way, whatever came before: where a drag of few handles has little left to go, it
    needs less naturalness (`draggan.drag.regime`), and the rows of the latent may part. So they are let go, and steps
    give back only what they have done since. They stay so, also where the drag is sent on from there.
    """

    second_order = True
    subpixel = True
    match_tolerance = RULES.match_tolerance

    def __init__(self, problem: Problem, tracker: Tracker) -> None:
        super().__init__(problem, tracker)
        config = problem.config
        known = self._known
        # Rows that the features do not depend on stay where they are.
        used = min(problem.shift_rows, problem.generator.rows_used(problem.level))
        coupling = row_coupling(problem.shift_rows, used, problem.freedom.row_independence)
        root = self._root(problem.freedom.naturalness)
        metric = LatentMetric(root, None if coupling is None else coupling.to(problem.ws.device))
        self._coordinates: Coordinates = Linear(metric, problem.ws)
        noise = problem.noise
        if noise is not None and known is not None:
            own = replace(metric, root=known.root.to(problem.ws.device))
            self._coordinates = Pictures(noise, own, RULES.beyond)
        self._regime = problem.regime
        self._last_bit = problem.pixels(RULES.last_bit)
        self._restored_from = problem.pixels(RULES.restored_from)
        self._constraint = None if problem.mask is None else MaskConstraint(problem, problem.mask)
        self._widest = max(problem.pixels(config.trust_radius), 1.0)
        self._shortest_refused: dict[Refusal | None, float] = {
            None: 2 * RULES.min_step,
            **dict.fromkeys(("unlikely", "far"), problem.pixels(RULES.min_refused_step)),
            "lost": problem.pixels(RULES.min_refused_step if problem.regime.by_hand else RULES.min_lost_step),
        }

    @property
    def _known(self) -> LatentStatistics | None:
        """Of the model's latents; None where steps do not go by that."""
        return latent_statistics(self.problem.generator) if self.problem.config.naturalness > 0 else None

    def _root(self, naturalness: float) -> Float[Tensor, "w_dim w_dim"] | None:
        known = self._known
        return None if known is None else metric_root(known, naturalness).to(self.problem.ws.device)

    @cached_property
    def _last_coordinates(self) -> Linear:
        """For the last bit of the way: as natural as a short one, with rows that may part."""
        problem = self.problem
        least = freedom(problem.regime, problem.config, 0.0, problem.size).naturalness
        return Linear(LatentMetric(self._root(least), None), problem.ws)

    @classmethod
    def mask_view(cls, generator: Generator, config: DragConfig, level: str) -> MaskView:
        """See `Solver.mask_view`."""
        return mask_view(generator, config, level)

    @property
    def _uphill_steps(self) -> int:
        """How many a drag may take."""
        return RULES.max_uphill_steps if self.tracker.jumps else 0

    def patience(self, here: GaussNewtonEvaluation, targets: Float[Tensor, "n 2"]) -> Patience:
        """See `Solver.patience`. A drag that lets go of its rows is the more patient where it does."""
        steps, least = RULES.stall_share * self.problem.config.stall_steps, self.problem.least_progress
        if not self._regime.lets_go or self._all_within(here.tracked, targets, self._last_bit):
            return Patience(max(round(steps), 2), least)
        few = max(round(RULES.creeping_share * steps), 2)
        # As far as half of the steps may go, whatever the settings, is progress.
        return Patience(few, min(RULES.creeping * least, few * self._widest / 2))

    def initial(self, handles: Float[Tensor, "n 2"], *, last: bool = False) -> GaussNewtonEvaluation:
        """See `Solver.initial`."""
        problem = self.problem
        v = self._coordinates.origin(problem.shift_rows)
        shift = torch.zeros_like(problem.ws[:, : problem.shift_rows])
        surroundings = Surroundings(problem, shift, handles, last=last)
        return GaussNewtonEvaluation(
            problem=problem,
            shift=shift,
            v=v,
            let_go=None,
            surroundings=surroundings,
            tracked=self.tracker.begin(handles, shift, surroundings.sampler),
            region=initial_region(RULES, self._widest),
            targets=torch.zeros(0, 2, device=shift.device),
            uphill_steps=self._uphill_steps,
        )

    def kept(self, here: GaussNewtonEvaluation) -> GaussNewtonKept:
        """See `Solver.kept`."""
        surroundings = here.surroundings
        return GaussNewtonKept(
            shift=here.shift,
            tracked=here.tracked,
            converged=here.converged,
            v=here.v,
            let_go=here.let_go,
            around=surroundings.handles,
            last=surroundings.last,
            reach=surroundings.reach,
            region=here.region,
            targets=here.targets,
            uphill_steps=here.uphill_steps,
            mask_steps=here.mask_steps,
        )

    def resumed(self, kept: Kept) -> GaussNewtonEvaluation:
        """See `Solver.resumed`."""
        assert isinstance(kept, GaussNewtonKept)
        self.begin_again()
        return GaussNewtonEvaluation(
            problem=self.problem,
            shift=kept.shift,
            tracked=kept.tracked,
            converged=kept.converged,
            v=kept.v,
            let_go=kept.let_go,
            surroundings=Surroundings(self.problem, kept.shift, kept.around, last=kept.last, reach=kept.reach),
            region=kept.region,
            targets=kept.targets,
            uphill_steps=kept.uphill_steps,
            mask_steps=kept.mask_steps,
        )

    @torch.no_grad()
    def confirmed(self, here: GaussNewtonEvaluation, *, final: bool) -> GaussNewtonEvaluation:
        """See `Solver.confirmed`."""
        tracked = self.tracker.confirm(here.tracked, here.shift, final=final)
        if tracked is here.tracked:
            return here
        surroundings = Surroundings(
            self.problem, here.shift, tracked.handles, last=False, reach=self.problem.probe_reach
        )
        region = initial_region(RULES, self._widest)
        return replace(here, tracked=tracked, surroundings=surroundings, region=region)

    @torch.no_grad()
    def step(
        self,
        here: GaussNewtonEvaluation,
        targets: Float[Tensor, "n 2"],
        *,
        last: bool = False,
        stopped: Callable[[], bool] = never,
    ) -> GaussNewtonEvaluation | Stuck[GaussNewtonEvaluation]:
        """See `Solver.step`."""
        if self._may_let_go(here, targets):
            here = replace(here, v=torch.zeros_like(here.shift), let_go=here.shift, astray=None)
        # Before anything else is computed: what it takes to differentiate may be gone then.
        linearisation = self._linearised(here)
        same = targets is here.targets or torch.equal(*to_host(targets, here.targets))
        uphill_steps = here.uphill_steps if same else self._uphill_steps
        here = replace(
            here,
            targets=targets,
            uphill_steps=uphill_steps,
            region=here.region.reopened(RULES, self.problem.near),
        )
        if self._constraint is not None and self._all_within(here.tracked, targets, self.problem.near):
            return self._restore(here, linearisation.jacobian, self._constraint, last=last)
        return self._approach(here, linearisation, last=last, stopped=stopped)

    def _linearised(self, here: GaussNewtonEvaluation) -> Linearisation:
        """How everything depends on the coordinates here."""
        coordinates = self._of(here)
        rows = here.surroundings.rows(here.tracked.handles, content=self._has_changed(here.tracked))
        if rows.change is None:
            return Linearisation(coordinates.pulled_back(rows.jacobian, here.v), None)
        pulled = coordinates.pulled_back(torch.cat([rows.jacobian, rows.content]), here.v)
        return Linearisation(pulled[:-1], _restoring(pulled[:-1], pulled[-1:], rows.change))

    def _has_changed(self, tracked: Tracked) -> bool:
        """Whether what is under a handle looks so different that steps are to make up for it."""
        if tracked.changed is None or not self._regime.restores:
            return False
        (changed,) = to_host(tracked.changed)
        return bool((changed > self._restored_from).any())

    def _approach(
        self,
        here: GaussNewtonEvaluation,
        linearisation: Linearisation,
        *,
        last: bool,
        stopped: Callable[[], bool],
    ) -> GaussNewtonEvaluation | Stuck[GaussNewtonEvaluation]:
        """Bring the handles nearer: attempts, each shorter than the one before, until one is good.

        Where none is, there may be another way to go on: a step uphill.
        """
        only_once = self._may_try_only_once(here)
        region, attempt = here.region, self._attempt(here, linearisation, here.region)
        refusal: Refusal | None = None
        for backtracks in itertools.count(1):
            exhausted = (attempt.share < 1 or refusal is not None) and self._promises_little(here, attempt, region)
            if exhausted:
                refusal = refusal or "unlikely"
                break
            trial = self._try(here, attempt, last=last)
            if trial.refusal is None and trial.leads_nearer(self.problem.near):
                return self._taken(trial, region)
            # The last reason given; a shorter attempt that was allowed, but led no nearer, does not take it back.
            refusal = trial.refusal or refusal
            exhausted = backtracks > RULES.max_backtracks or region.radius < self._shortest_refused[trial.refusal]
            if exhausted or only_once or stopped():
                break
            region = region.shrunk(RULES, trial.asked)
            attempt = self._shorter(here, linearisation, region, backtracks, attempt)
        if exhausted and here.uphill_steps and not (only_once or stopped()):
            return self._go_uphill(here, linearisation, last=last)
        if exhausted and not here.uphill_steps:
            region = initial_region(RULES, self._widest)
        return Stuck(replace(here, region=region), refusal)

    def _promises_little(self, here: GaussNewtonEvaluation, attempt: Attempt, region: Region) -> bool:
        """What is left of a step that was cut off, or would have been refused, may not be worth a look."""
        if not self._regime.cuts_off:
            return False
        targets, *handles = to_host(here.targets, here.tracked.handles, attempt.expected)
        before, promised = (targets - torch.stack(handles)).norm(dim=-1)
        asked = before.sum() * min(region.radius / before.max().item(), 1.0)
        return bool(before.sum() - promised.sum() < RULES.least_promise * asked)

    def _may_try_only_once(self, here: GaussNewtonEvaluation) -> bool:
        """What is closer than people can see may be improved, but not by trying again and again."""
        near, stop_distance = self.problem.near, self.problem.stop_distance
        return near < stop_distance and self._all_within(here.tracked, here.targets, stop_distance)

    def _try(self, here: GaussNewtonEvaluation, attempt: Attempt, *, last: bool) -> Trial:
        """What comes of an attempt."""
        there = self._evaluate(here, attempt, last=last)
        refusal = refused(self.problem, here.shift, here.tracked, there.shift, there.tracked)
        if refusal is None and self._goes_astray(there):
            refusal = "unlikely"
        places = here.targets, here.tracked.handles, attempt.expected, there.tracked.handles
        targets, *handles = to_host(*places)
        before, promised, now = (targets - torch.stack(handles)).norm(dim=-1)
        return Trial(there, refusal, before, promised, now)

    def _goes_astray(self, there: GaussNewtonEvaluation) -> bool:
        """Whether a step leads too far from the model's own pictures."""
        if not self._regime.follows or there.astray is None:
            return False
        (now,) = to_host(there.astray)
        return bool(now > self.problem.max_astray)

    def _taken(self, trial: Trial, region: Region) -> GaussNewtonEvaluation:
        """The evaluation that an attempt within this region has led to, which is kept."""
        if trial.gain >= RULES.expand_ratio * trial.hope:
            widen = RULES.widen_followed if self._regime.restores else RULES.widen
            region = region.expanded(RULES, widen, self._widest)
        mask_steps = 0 if self._constraint is None else RULES.max_mask_steps
        return replace(self._with(trial.there, mask_steps=mask_steps), region=region)

    def _go_uphill(
        self, here: GaussNewtonEvaluation, linearisation: Linearisation, *, last: bool
    ) -> GaussNewtonEvaluation:
        """The longest step, although it does not lead nearer: beyond, the way may be open."""
        region = initial_region(RULES, self._widest)
        trial = self._try(here, self._attempt(here, linearisation, region), last=last)
        return replace(self._taken(trial, region), uphill_steps=here.uphill_steps - 1)

    def _shorter(
        self,
        here: GaussNewtonEvaluation,
        linearisation: Linearisation,
        region: Region,
        backtracks: int,
        attempt: Attempt,
    ) -> Attempt:
        """The attempt after one that was not good."""
        if self._constraint is None:
            return self._attempt(here, linearisation, region, backtracks)
        # Solving anew would cost as much as several steps.
        return self._going(here, linearisation.jacobian, RULES.shrink * attempt.step)

    def _of(self, here: GaussNewtonEvaluation) -> Coordinates:
        """The coordinates it moves in."""
        return self._coordinates if here.let_go is None else replace(self._last_coordinates, begins=here.let_go)

    def _linear(self, here: GaussNewtonEvaluation) -> Linear:
        """Those that it moves in, which are linear wherever there is a mask."""
        coordinates = self._of(here)
        assert isinstance(coordinates, Linear)
        return coordinates

    def _may_let_go(self, here: GaussNewtonEvaluation, targets: Float[Tensor, "n 2"]) -> bool:
        return self._regime.lets_go and here.let_go is None and self._all_within(here.tracked, targets, self._last_bit)

    def _usual_step(
        self, here: GaussNewtonEvaluation, jacobian: Float[Tensor, "k shift_rows d"]
    ) -> Float[Tensor, "1 shift_rows d"]:
        """The smallest that moves the handles the way they came, as far as the first step of a drag may.

        And no less far than the last bit of a way, but for handles that have never moved, where there is none.
        """
        region, start = initial_region(RULES, self._widest), self.problem.handles
        way = here.tracked.handles - start
        length = way.norm(dim=-1).max()
        onwards = start + way * (length.clamp(min=min(self._last_bit, region.radius)) / length.clamp(min=1e-6))
        return _step_towards(jacobian, here.v, start, onwards, _limits(region, 0.0, here.v.device), 0.0)

    def _restore(
        self,
        here: GaussNewtonEvaluation,
        jacobian: Float[Tensor, "k shift_rows d"],
        constraint: MaskConstraint,
        *,
        last: bool,
    ) -> GaussNewtonEvaluation | Stuck[GaussNewtonEvaluation]:
        """Leave the handles where they are, and make up for what has changed outside the mask."""
        coordinates = self._linear(here)
        outside = constraint.change(coordinates, here.v)
        step = self._towards(here, jacobian, here.region)
        step = constraint.restore(coordinates, here.v, step, jacobian, self._usual_step(here, jacobian))
        there = self._evaluate(here, self._going(here, jacobian, step), last=last)
        left = constraint.change(coordinates, there.v)
        refusal = refused(self.problem, here.shift, here.tracked, there.shift, there.tracked)
        arrived = refusal is None and self._all_within(there.tracked, here.targets, self.problem.near)
        if not (arrived and left < outside):
            return Stuck(self._with(here, mask_steps=0))
        goes_on = left < RULES.mask_progress * outside
        return self._with(there, mask_steps=max(here.mask_steps - 1, 0) if goes_on else 0)

    @staticmethod
    def _with(evaluation: GaussNewtonEvaluation, *, mask_steps: int) -> GaussNewtonEvaluation:
        return replace(evaluation, mask_steps=mask_steps, converged=mask_steps == 0)

    def _attempt(
        self,
        here: GaussNewtonEvaluation,
        linearisation: Linearisation,
        region: Region,
        backtracks: int = 0,
    ) -> Attempt:
        """The step from here, within this region."""
        jacobian = linearisation.jacobian
        # A step that is tried again shorter takes back less, too.
        homing = RULES.homing * RULES.shrink**backtracks
        step = self._towards(here, jacobian, region, homing)
        if linearisation.restoring is not None:
            step = _restored(step, linearisation.restoring)
        if self._regime.cuts_off:
            step, share = self._cut_off(here, jacobian, step)
            return replace(self._going(here, jacobian, step), share=share)
        if self._constraint is not None:
            step = self._constraint.keep(self._linear(here), here.v, step, jacobian)
        return self._going(here, jacobian, step)

    def _cut_off(
        self,
        here: GaussNewtonEvaluation,
        jacobian: Float[Tensor, "k shift_rows d"],
        step: Float[Tensor, "1 shift_rows d"],
    ) -> tuple[Float[Tensor, "1 shift_rows d"], float]:
        """As much of a step as does not lead beyond `Problem.max_departure`, and which share of it that is.

        That is known before anything is drawn. What the step takes back, it takes back all the same: that makes room.
        """
        back, coordinates = null_space(jacobian)(step), self._of(here)
        onwards = step - back
        # In one metric for all latents a step is the same from everywhere.
        share = self.problem.share_within(coordinates.shift(here.v + back), coordinates.shift(onwards))
        (known,) = to_host(share)
        return back + share * onwards, float(known)

    def _towards(
        self,
        here: GaussNewtonEvaluation,
        jacobian: Float[Tensor, "k shift_rows d"],
        region: Region,
        homing: float = 0.0,
    ) -> Float[Tensor, "1 shift_rows d"]:
        """The smallest step to the targets, or as far towards them as the region reaches.

        Args:
            homing: what share of the way back to where the coordinates begin it goes besides, the handles left alone.
        """
        # What is brought nearer than it has to be is sent all the way.
        exact = self.problem.near < self.problem.stop_distance
        short = 0.0 if exact else RULES.aim * self.problem.near
        limits = _limits(region, homing, here.v.device)
        return _step_towards(jacobian, here.v, here.tracked.handles, here.targets, limits, short)

    def _going(
        self,
        here: GaussNewtonEvaluation,
        jacobian: Float[Tensor, "k shift_rows d"],
        step: Float[Tensor, "1 shift_rows d"],
    ) -> Attempt:
        """A step, and a prediction of where it takes the handles."""
        v = here.v + step
        expected = _predicted_handles(jacobian, here.tracked.handles, step, self.problem.size)
        return Attempt(step, expected, v, self._of(here).shift(v))

    def _evaluate(self, here: GaussNewtonEvaluation, attempt: Attempt, *, last: bool) -> GaussNewtonEvaluation:
        """Where an attempt leads."""
        v, shift = attempt.v, attempt.shift
        astray = self._of(here).astray(v)
        if self.tracker.looks_itself:
            tracked = self.tracker.follow(here.tracked, shift, nowhere, attempt.expected)
            surroundings = Surroundings(self.problem, shift, tracked.handles, last=last, reach=self.problem.probe_reach)
        else:
            surroundings = Surroundings(self.problem, shift, attempt.expected, last=last)
            tracked = self.tracker.follow(here.tracked, shift, surroundings.sampler, attempt.expected)
            # If the step is taken, its loss is asked for, too.
            more = [known for known in (astray, tracked.changed) if known is not None]
            fetch_at_once(self.problem, shift, tracked, surroundings.loss(tracked.handles, here.targets), *more)
        return replace(
            here,
            v=v,
            shift=shift,
            surroundings=surroundings,
            tracked=tracked,
            astray=astray,
        )

    @staticmethod
    def _all_within(tracked: Tracked, targets: Float[Tensor, "n 2"], distance: float) -> bool:
        there, here = to_host(targets, tracked.handles)
        return bool(((there - here).norm(dim=-1) <= distance).all())


def _limits(region: Region, homing: float, device: torch.device) -> Float[Tensor, "3"]:
    """Those of a step (`_step_towards`), as data: what is recorded with a number is recorded for that number."""
    return to_device(torch.tensor([region.radius, region.damping, homing]), device)


@replayed
def _step_towards(
    jacobian: Float[Tensor, "k shift_rows d"],
    way: Float[Tensor, "1 shift_rows d"],
    handles: Float[Tensor, "n 2"],
    targets: Float[Tensor, "n 2"],
    limits: Float[Tensor, "3"],
    short: float,
) -> Float[Tensor, "1 shift_rows d"]:
    """See `GaussNewton._towards`.

    Args:
        way: from where the coordinates begin.
        limits: the region's radius and damping, and the homing.
        short: so far from its target every handle is to end, image pixels.
    """
    radius, damping, homing = limits.unbind()
    d = targets - handles
    length = d.norm(dim=-1, keepdim=True)
    d = d * (1 - short / length.clamp(min=1e-6)).clamp(min=0)
    d = d * (radius / torch.maximum(d.norm(dim=-1).max(), radius))
    step = smallest_step(jacobian.flatten(1), d.flatten(), damping).reshape(way.shape)
    return step - homing * null_space(jacobian)(way)


@replayed
def _restoring(
    jacobian: Float[Tensor, "k shift_rows d"], row: Float[Tensor, "1 shift_rows d"], change: Float[Tensor, ""]
) -> Float[Tensor, "1 shift_rows d"]:
    """See `Linearisation.restoring`.

    Args:
        row, change: of the content, see `Rows`.
    """
    downhill = null_space(jacobian)(row)
    return -downhill * (change / downhill.square().sum().clamp(min=torch.finfo(row.dtype).tiny ** 0.5))


@replayed
def _restored(
    step: Float[Tensor, "1 shift_rows d"], restoring: Float[Tensor, "1 shift_rows d"]
) -> Float[Tensor, "1 shift_rows d"]:
    """With as much of the restoring one as is no longer than the step itself: farther, first order says nothing."""
    length = restoring.norm().clamp(min=torch.finfo(step.dtype).tiny ** 0.5)
    return step + restoring * (step.norm() / length).clamp(max=1)


@replayed
def _predicted_handles(
    jacobian: Float[Tensor, "k shift_rows d"],
    handles: Float[Tensor, "n 2"],
    step: Float[Tensor, "1 shift_rows d"],
    size: tuple[int, int],
) -> Float[Tensor, "n 2"]:
    """Where a step leads the handles, by the Jacobian and inside the picture."""
    moved = (jacobian.flatten(1) @ step.flatten()).reshape(handles.shape)
    return moved_inside(handles + moved, size)


def smallest_step(
    jacobian: Float[Tensor, "m n"],
    d: Float[Tensor, "m"],
    damping: float | Float[Tensor, ""],
) -> Float[Tensor, "n"]:
    """``argmin_v |v|^2 + sum_i (J v - d)_i^2 / (damping (J J^T)_ii)``.

    For a matrix of few rows that is ``J^T (J J^T + diag(c))^-1 d`` with ``c_i = damping (J J^T)_ii``.
    """
    j = to_float64(jacobian)
    c = (to_float64(damping) if isinstance(damping, Tensor) else damping) * j.square().sum(1)
    # A handle that nothing moves has a row of zeros; it asks for nothing.
    c = c + 1e-6 * c.mean() + torch.finfo(j.dtype).tiny ** 0.5
    return (j.T @ (inverse(j @ j.T + torch.diag(c)) @ to_float64(d))).to(jacobian)
