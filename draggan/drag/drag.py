"""One drag: optimise a latent code until the content under every handle sits on its target.

Pan et al., "Drag Your GAN: Interactive Point-based Manipulation on the Generative Image Manifold" (SIGGRAPH 2023).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from draggan.config import DragConfig
from draggan.drag.crowd import CrowdTracker
from draggan.drag.line import LineTracker
from draggan.drag.live import MovingTargets
from draggan.drag.prepare import PointsLike, Reference, check_pairs, check_targets, prepare
from draggan.drag.refusal import Refusal, refused, trusted
from draggan.drag.second_look import SecondLookTracker
from draggan.drag.solvers import SOLVERS
from draggan.drag.solvers.base import Evaluation, Solver, Stuck
from draggan.drag.state import DragState, on_device
from draggan.drag.step import DragStep, Nearest
from draggan.drag.stopping import RESTS, Findings, Outcome, Progress, close, decide, told
from draggan.drag.tracking import TemplateTracker
from draggan.generators.base import Generator
from torch_utils.transfer import to_host

__all__ = ["Drag"]

log = logging.getLogger(__name__)

# How often a drag may go on after the second look (`Tracker.confirm`) found the content elsewhere. Many handles and
# live drags never do: a hand has seen where content is, and five landmarks of 42 pairs that went on as often as they
# liked were there less often (181 of 210 points for 186), said so of as many (121), and took 2.6 times as long.
# Two handles: those that went on a second time came no nearer, and half of what they claimed was false.
CORRECTIONS = 1
# One handle.
CORRECTIONS_OF_ONE = 2


class Move(NamedTuple):
    """What has come of a step.

    Attributes:
        here: where the drag is now.
        stuck, refusal: no step leads nearer, and why those that do are not taken.
        gone: why nothing true can be said of the picture to which the step led.
    """

    here: Evaluation
    stuck: bool = False
    refusal: Refusal | None = None
    gone: Refusal | None = None


class Drag(Iterator[DragStep]):
    """An iterator of `DragStep`. It always ends, once it is not live.

    It renders no pictures by itself: `picture` gives that of a step when one is due.

    *Following a pointer.* With ``live=True`` the picture follows targets that change while it runs::

        drag = Drag(G, ws, [grabbed], [grabbed], config=DragConfig(solver="gauss-newton"), live=True)
        thread: for step in drag: show(step)            # one thread iterates
        pointer moves: drag.retarget([position])         # any thread, any rate; returns at once
        pointer released: drag.settle()                  # from now on it ends like any other drag

    * Every step goes to the newest targets there are when it begins; those in between are never looked at. So a step
      that begins after `retarget` returned shows what was asked then, or later.
    * Of several handles all targets are given every time, those that stay included.
    * While live, reaching the targets or finding no way nearer does not end the drag: that step is yielded with
      ``done`` False, ``outcome`` None and the reason in ``rests``; its handles are where the content is, however far
      away the targets are. Asking for the next one *sleeps*, with no lock held that a caller could wait for, until
      `retarget` brings other targets, farther than ``near``, or `settle` or `stop` is called. A program of one thread
      must therefore ask `would_sleep` first, and call one of them instead of asking for another step.
      A live drag that is no longer needed must be told to `settle` or `stop`, or the thread that iterates it sleeps for
      ever.
    * A hand sees where content is more exactly than a drag has to end: handles go on to ``near`` their targets, a
      fraction of a pixel in small pictures, if the solver tracks fractions. Within the stop distance only a step that
      leads nearer at its first attempt is taken, so that what rests does not tremble.
    * ``max_steps`` begin to count with `settle`; without progress a live drag rests.
    * After `settle`, the drag goes on until it has arrived (at once if it has), stalled (at once if it rests: what was
      to be seen stays) or used up its steps, and its last step has ``done`` True as ever. The best latent that a
      stalled one goes back to is the nearest to the last targets; the one it began with is among those compared.
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
        state: go on from there, with the same numbers: of a drag that was begun with all the same arguments, perhaps in
            another process.

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
        state: DragState | None = None,
    ) -> None:
        self.generator, self.config = generator, config or DragConfig()
        method = SOLVERS[self.config.solver]
        start, aims = check_pairs(handles, targets, generator.image_size)
        known = None if live else aims
        problem = prepare(generator, ws, start, mask, self.config, reference, method, targets=known, live=live)
        self.level, self.dtype = problem.level, problem.dtype
        self.stop_distance, self.near = problem.stop_distance, problem.near
        self.problem = problem
        self._targets = aims.to(problem.handles)
        self._moving = MovingTargets(self._targets, near=self.near, live=live)
        self._solver = self.make_solver(self._targets)
        self._here: Evaluation | None = None  # where the drag is; None before the first step
        self._index = 0
        self._counted_from = 0  # the step from which `max_steps` counts
        self._progress, self._nearest = Progress(), Nearest()
        self._rest: Findings | None = None  # what has made a live drag rest short of these targets
        self._by_hand = live  # a hand has led it
        self._ended = False
        never_corrected = live or problem.regime.along_lines
        self._corrections = 0 if never_corrected else CORRECTIONS_OF_ONE if problem.regime.alone else CORRECTIONS
        if state is not None:
            self._resume(state)

    def make_solver(self, targets: Float[Tensor, "n 2"]) -> Solver[Any]:
        """The solver that the settings name, with its tracker. Another kind of drag may make another."""
        method = SOLVERS[self.config.solver]
        regime = self.problem.regime
        if regime.follows:
            followed = CrowdTracker if regime.crowd else LineTracker if regime.along_lines else SecondLookTracker
            return method(self.problem, followed(self.problem))
        tracker = TemplateTracker(self.problem, subpixel=method.subpixel, tolerance=method.match_tolerance)
        return method(self.problem, tracker)

    def state(self) -> DragState:
        """All that is needed to go on from here elsewhere; to be asked for between two steps."""
        targets, live = self._moving.current
        state = DragState(
            index=self._index,
            counted_from=self._counted_from,
            targets=targets,
            live=live,
            idle=self._moving.idle,
            rest=self._rest,
            by_hand=self._by_hand,
            ended=self._ended,
            corrections=self._corrections,
            progress=self._progress,
            nearest=self._nearest,
            here=None if self._here is None else self._solver.kept(self._here),
        )
        return on_device(state, "cpu")

    def stop(self) -> None:
        """End the drag with the next step. May be called from any thread.

        Its outcome is "stopped", or where all handles are within the stop distance "arrived" ("lost", if that is not
        certain of all of them).
        """
        self._moving.stop()

    def retarget(self, targets: PointsLike) -> None:
        """Replace the targets, from the next step on. May be called from any thread, at any rate; returns at once.

        A drag of few handles that is not live moves straight on once it has been near its targets: to be sent far from
        there, it should end, and another begin.

        Raises:
            PointError: not one per handle, not finite, or outside the picture; the drag goes on as it was.
        """
        self._moving.retarget(check_targets(targets, len(self.problem.handles), self.problem.size))

    def settle(self) -> None:
        """Let a live drag end like any other, at the newest targets. May be called from any thread, and twice."""
        self._moving.settle()

    @torch.no_grad()
    def picture(self, step: DragStep) -> Float[Tensor, "1 _ height width"]:
        """What a person sees of a step: its latent's picture, or with a mask that part of it that may change.

        Where a mask holds exactly (`DragConfig.mask_hold`), everything outside it is the first picture to the last bit.
        May be called from any thread, in the middle of a drag and after its end.
        """
        blend = self.problem.blend
        return self.generator.synthesis(step.ws) if blend is None else blend.synthesis(step.ws)

    def would_sleep(self) -> bool:
        """Whether a live drag has nothing to do now, so that asking for the next step would sleep. From any thread."""
        return not self._ended and self._moving.would_sleep(self._handles)

    def __next__(self) -> DragStep:
        if self._ended:
            raise StopIteration
        targets, live = self._moving.newest(self._handles)
        if targets is not self._targets:
            self._targets, self._rest = targets, None
            self._progress = Progress(self._index)
            self._nearest = self._nearest.measured_against(targets)
        step = self._advance(live=live, stopped=self._moving.stopped)
        self._ended = step.done
        if self._ended and self._here is not None:
            self._here.forget()
        self._index += 1
        return step

    def _resume(self, state: DragState) -> None:
        state = on_device(state, self.problem.ws.device)
        self._targets = state.targets
        self._moving = MovingTargets(self._targets, near=self.near, live=state.live)
        self._moving.idle = state.idle
        self._index, self._counted_from = state.index, state.counted_from
        self._progress, self._nearest = state.progress, state.nearest
        self._rest = state.rest
        self._by_hand, self._ended, self._corrections = state.by_hand, state.ended, state.corrections
        self._here = None if state.here is None else self._solver.resumed(state.here)

    def _advance(self, *, live: bool, stopped: bool) -> DragStep:
        """One turn of the paper's loop: optimise (section 3.2), track (3.3), see whether that is enough."""
        if live:
            self._counted_from = self._index
        last = stopped or self._index - self._counted_from >= self.config.max_steps
        # Let go of where it could go no farther: what is to be seen there stays.
        rested = None if live else self._rest
        move = self._move(live=live, last=last, stays=stopped or rested is not None)
        here = self._here = move.here
        patience = self._solver.patience(here, self._targets)
        self._progress = self._progress.after(self._index, self._distances.sum().item(), patience.least)
        findings = self._findings(move, patience.steps, live=live, last=last, stopped=stopped)
        if rested is not None:
            findings = replace(rested, live=False, stopped=findings.stopped, last=last)
        outcome = decide(findings)
        # Of few handles there is nothing to confirm unless they have arrived.
        doubted = outcome == "arrived" or (self.problem.regime.along_lines and outcome not in (None, "stopped"))
        if doubted and move.gone is None and not live:
            findings, here = self._look_again(findings, here, stays=rested is not None)
            outcome = decide(findings)
        self._moving.idle = live and outcome in RESTS
        self._rest = findings if self._moving.idle and outcome != "arrived" else None
        if outcome is None or self._moving.idle:
            (loss,) = to_host(here.loss(self._targets))
            step = self._step(here, loss.item(), rests=outcome)
            if np.isfinite(step.loss):
                self._tell(findings, outcome, step)
                if move.gone is None and self._believed(here):
                    self._nearest = self._nearest.including(step)
                return step
            outcome = "diverged"
        step = self._last_step(here, outcome, untrusted=move.gone is not None)
        self._tell(findings, outcome, step)
        return step

    def _tell(self, findings: Findings, outcome: Outcome | None, step: DragStep) -> None:
        """Log what has come of this step, and why the drag ends here or goes on."""
        if not log.isEnabledFor(logging.DEBUG):
            return
        left, kept = self._distances.max().item(), step.distances.max()
        more = "" if step.done else f", loss {step.loss:.4g}"
        if abs(kept - left) > 0.05:
            more += f", {kept:.1f} px in the picture that is kept"
        log.debug("step %d: %.1f px to go%s; %s", self._index, left, more, told(findings, outcome))

    def _move(self, *, live: bool, last: bool, stays: bool) -> Move:
        """Where a step leads, if there is to be one; before the first, the picture that the drag begins with."""
        here = self._here
        if here is None:
            return Move(self._solver.initial(self.problem.handles, last=last))
        improves = not (live or last or here.converged)
        if stays or not (self._farther_than(self.near) or improves):
            return Move(here)
        there = self._solver.step(here, self._targets, last=last, stopped=lambda: self._moving.stopped)
        if isinstance(there, Stuck):
            return Move(there.evaluation, stuck=True, refusal=there.refusal)
        # Some solvers refuse such steps themselves.
        gone = refused(self.problem, here.shift, here.tracked, there.shift, there.tracked)
        # A live drag goes on from the last picture of which something true could be said.
        return Move(self._solver.again(here) if live and gone is not None else there, gone=gone)

    def _findings(self, move: Move, stall_steps: int, *, live: bool, last: bool, stopped: bool) -> Findings:
        """What is known of where it is now."""
        return Findings(
            pulled=self._farther_than(self.near),
            within_stop_distance=not self._farther_than(self.stop_distance),
            live=live,
            stopped=stopped or self._moving.stopped,
            last=last,
            stuck=move.stuck,
            converged=move.here.converged,
            idle_steps=self._index - self._progress.index,
            stall_steps=stall_steps,
            refusal=move.refusal,
            close=self._close(),
            lost=self._lost(move.here),
            gone=move.gone,
        )

    def _believed(self, here: Evaluation) -> bool:
        """Whether its places are as good as certain. What a hand has led to, it has seen."""
        return self._by_hand or trusted(here.tracked)

    def _last_step(self, here: Evaluation, outcome: Outcome, *, untrusted: bool) -> DragStep:
        """The last step of a drag that ends here.

        Args:
            untrusted: nothing true can be said of this picture.
        """
        doubtful = outcome not in ("arrived", "stopped") and not self._believed(here)
        step = self._nearest.last_step(self._step(here, 0.0), outcome, untrusted=doubtful or untrusted)
        may_have_arrived = outcome == "arrived" or (outcome == "lost" and bool(step.lost.any()))
        if not may_have_arrived or self._index == 0:
            return step
        asked = outcome == "lost" and self.problem.regime.minds_stretching
        stretched = asked and bool(self.problem.stretched(here.tracked.handles))
        return replace(step, contrast=self.problem.contrast(here.shift), stretched=stretched)

    def _look_again(self, findings: Findings, here: Evaluation, *, stays: bool) -> tuple[Findings, Evaluation]:
        """Look for content once more before anything is said at the end, where the tracker can do that.

        A drag whose content turns out to be elsewhere goes on from there, if it may.

        Args:
            stays: the picture is the one that was let go, wherever its content is.
        """
        final = self._corrections <= 0 or findings.last or stays
        there = self._solver.confirmed(here, final=final)
        if there is here:
            return findings, here
        moved = (there.tracked.handles - here.tracked.handles).norm(dim=-1).max().item()
        elsewhere = moved > self.stop_distance and not final
        self._corrections -= elsewhere
        # Nothing that was said on the way is as sure.
        self._here, self._nearest = there, Nearest()
        if elsewhere:
            self._progress = Progress().after(self._index, self._distances.sum().item(), 0.0)
        findings = replace(
            findings,
            pulled=self._farther_than(self.near),
            within_stop_distance=not self._farther_than(self.stop_distance),
            close=self._close(),
            lost=self._lost(there),
            stuck=findings.stuck and not elsewhere,
            refusal=None if elsewhere else findings.refusal,
            idle_steps=0 if elsewhere else findings.idle_steps,
        )
        if elsewhere and decide(findings) is not None:
            # It is where it should be, and ends after all: the last look has the last word.
            there = self._here = self._solver.confirmed(there, final=True)
            findings = replace(findings, lost=self._lost(there))
        if self.problem.regime.along_lines and decide(findings) is None:
            # It would believe itself there again and again, and be a little off each time.
            findings = replace(findings, stuck=True)
        return findings, there

    def _close(self) -> bool:
        problem = self.problem
        return close(self._distances, self.stop_distance, problem.size, follows=problem.follows, masked=problem.masked)

    @staticmethod
    def _lost(here: Evaluation) -> bool:
        (lost,) = to_host(here.tracked.lost)
        return bool(lost.any())

    @property
    def _distances(self) -> Float[Tensor, "n"]:
        """From the handles to their targets, image pixels; on the host, which decides by them."""
        handles, targets = to_host(self._handles, self._targets)
        return (targets - handles).norm(dim=-1)

    @property
    def _handles(self) -> Float[Tensor, "n 2"]:
        """Where they are now."""
        return self.problem.handles if self._here is None else self._here.tracked.handles

    def _farther_than(self, distance: float) -> bool:
        """Whether a handle is farther from its target."""
        return bool((self._distances > distance).any())

    def _step(self, here: Evaluation, loss: float, *, rests: Outcome | None = None) -> DragStep:
        with torch.no_grad():
            ws = torch.stack(self.problem.rows(here.shift), 1)
        tracked = here.tracked
        known = to_host(tracked.handles, self._targets, self.problem.handles, tracked.lost)
        handles, targets, start, lost = (t.numpy().copy() for t in known)
        return DragStep(
            index=self._index,
            ws=ws,
            handles=handles,
            targets=targets,
            distances=self._distances.numpy().copy(),
            start=start,
            lost=lost,
            loss=loss,
            rests=rests,
        )
