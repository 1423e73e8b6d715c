"""What one person sees, as plain values: the recipe of the picture, points, mask, and what undo brings back.

A `Session` is frozen; every transition returns another one and shares what did not change, so that copying, undoing
and saving cost next to nothing. It holds no weights, no pictures and nothing that computes.

Points are ``(x, y)`` in image pixels, integers at pixel centres.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, takewhile
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from draggan.config import Space, check_space
from draggan.errors import LatentError, PointError
from draggan.points import check_mask, check_points
from draggan.recipe import MOST_EDITS, MOST_POINTS, Edit, Mask, ModelReference, Point, Recipe, Xy, check_latent

__all__ = ["MOST_MOMENTS", "Deletion", "Moment", "Session"]

# Moments kept, in the past and in the future each; each shares its arrays with its neighbours. However a session comes
# about, it has no more, so that whatever is written (`draggan.kept_session`) can be read.
MOST_MOMENTS = 200
_BRANCHES = 24  # pictures kept that undo does not lead to any more
_FRAMES = 160  # latents kept of what lies between the ends of drags


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """What undo brings back.

    Attributes:
        start: the recipe of the picture that the work began with, without edits.
        recipe: of the picture on the screen, with the latents of all its pictures.
        pairs: handles with their targets, in the order of their numbers.
        off: numbers of the pairs that are switched off, from 0: they stay where they are and no drag moves them.
        pending: a handle that has no target yet.
        mask: what may change, and the number of the picture it was last painted on; None: everything may.
        frames: latents on the way of the drag that led to this picture, without its ends.
        seen: number under which a page knows its picture; 0: none has shown it yet.
    """

    start: Recipe
    recipe: Recipe
    pairs: tuple[Point, ...] = ()
    off: frozenset[int] = frozenset()
    pending: Xy | None = None
    mask: Mask | None = None
    frames: tuple[Float[np.ndarray, "1 num_ws w_dim"], ...] = ()
    seen: int = 0

    def begun_anew(self) -> Moment:
        """The moment with its picture as a start of its own, where a recipe can have no more edits; handles hold what
        is under them now."""
        recipe = replace(self.recipe, start=_latent_of(self.recipe), edits=(), results=())
        pairs = tuple(replace(pair, origin=pair.handle, picture=0) for pair in self.pairs)
        mask = None if self.mask is None else replace(self.mask, picture=0)
        return replace(self, recipe=recipe, pairs=pairs, mask=mask)


Taken: TypeAlias = tuple[tuple[int, Moment], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Deletion:
    """A picture that was taken out of the history, and from where.

    Attributes:
        number: that under which a page knows it.
        at: the moment that was on the screen.
        past, future, branches: its moments, each with how many stood behind it there.
        left: what redo had left to bring back.
    """

    number: int
    at: Moment
    past: Taken
    future: Taken
    branches: Taken
    left: tuple[Moment, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Session:
    """One person's work: on one picture, then on another.

    Attributes:
        now: what is on the screen.
        space: whether a drag moves every latent row on its own ("w+") or all alike ("w").
        settings: of a drag, by name, as last chosen; those that are not there are what suits the model.
        opened: title and name of every model that was opened from a file.
        past, future: what undo and redo bring back, the nearest last, and `MOST_MOMENTS` at most: the farthest go.
        branches: what came after a step that was taken back when something else was done, the newest last.
        deletions: what undo puts back into the history, the newest last: of this visit, neither kept nor saved.
        undeleted: moments and numbers of pictures that redo deletes once more, likewise.
        arrived: handles and targets as the last drag that arrived has left them: there is nothing left to drag.
        revision: counts how often a page got points and mask; see `sent_to_page`.
        page_outdated: whether the page has sent something older since.
    """

    now: Moment
    space: Space = "w+"
    settings: Mapping[str, Any] = field(default_factory=dict)
    opened: tuple[tuple[str, str], ...] = ()
    past: tuple[Moment, ...] = ()
    future: tuple[Moment, ...] = ()
    branches: tuple[Moment, ...] = ()
    deletions: tuple[Deletion, ...] = ()
    undeleted: tuple[tuple[Moment, int], ...] = ()
    arrived: tuple[tuple[Xy, Xy], ...] = ()
    revision: int = 0
    page_outdated: bool = False

    def __post_init__(self) -> None:
        for name, most in (("past", MOST_MOMENTS), ("future", MOST_MOMENTS), ("branches", _BRANCHES)):
            moments = getattr(self, name)
            if len(moments) > most:
                object.__setattr__(self, name, moments[-most:])

    @classmethod
    def of(cls, recipe: Recipe, *, space: Space = "w+") -> Session:
        """A fresh session on the picture that a recipe makes.

        Raises:
            LatentError: the latents of its pictures are not all known; an engine's `complete` computes them.
        """
        recipe = _complete(recipe)
        return cls(now=Moment(start=recipe.up_to(0) if recipe.edits else recipe, recipe=recipe), space=space)

    # What there is

    @property
    def recipe(self) -> Recipe:
        """Of the picture on the screen."""
        return self.now.recipe

    @property
    def start(self) -> Recipe:
        """Of the picture that the work began with."""
        return self.now.start

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.start.model.name

    @property
    def image_size(self) -> tuple[int, int]:
        """Of its pictures, ``(height, width)``."""
        return self.start.image_size

    @property
    def seed(self) -> int | None:
        """Of the starting picture; None: it came from elsewhere (a file, a photo)."""
        return None if self.start.seed is None else self.start.seed.seed

    @property
    def truncation(self) -> float:
        """Of the starting picture."""
        return 1.0 if self.start.seed is None else self.start.seed.truncation

    @property
    def label(self) -> int | None:
        """Class of the starting picture, where the model has classes."""
        return None if self.start.seed is None else self.start.seed.label

    @property
    def ws(self) -> Float[np.ndarray, "1 num_ws w_dim"]:
        """The latent of the picture on the screen."""
        return _latent_of(self.recipe)

    @property
    def moments(self) -> tuple[Moment, ...]:
        """All that the work consists of, also what was undone and what is on branches; that of now is the first."""
        return (self.now, *self.past, *self.future, *self.branches)

    @property
    def pairs(self) -> tuple[Point, ...]:
        """Handles and targets."""
        return self.now.pairs

    @property
    def off(self) -> frozenset[int]:
        """Numbers of the pairs that are switched off, from 0."""
        return self.now.off

    @property
    def active_numbers(self) -> tuple[int, ...]:
        """Numbers of the others: those that a drag moves, in its order."""
        return tuple(number for number in range(len(self.pairs)) if number not in self.off)

    @property
    def active_pairs(self) -> tuple[Point, ...]:
        """The pairs that a drag moves."""
        return tuple(self.pairs[number] for number in self.active_numbers)

    @property
    def is_there(self) -> bool:
        """Whether every point that is on is held where it is, or where a drag has left it on its target."""
        ends = [(pair.handle, pair.target) for pair in self.active_pairs]
        return all(handle == target or (handle, target) in self.arrived for handle, target in ends)

    @property
    def pending(self) -> Xy | None:
        """A handle that has no target yet."""
        return self.now.pending

    @property
    def mask(self) -> Bool[np.ndarray, "height width"] | None:
        """True = may change; None: everything may."""
        return None if self.now.mask is None else self.now.mask.allowed

    @property
    def is_edited(self) -> bool:
        """Whether the picture is another one than at the start."""
        return self.recipe is not self.start

    @property
    def is_touched(self) -> bool:
        """Whether anything was done to the picture: points, mask or drag."""
        return self.is_edited or bool(self.pairs) or self.pending is not None or self.mask is not None

    # Another picture

    def with_picture(self, recipe: Recipe, pairs: Sequence[tuple[Xy, Xy]] = ()) -> Session:
        """Another picture, with these handles and targets; undo brings the old one back with all its work.

        The choice of latent space and the settings are kept: nothing else would fit.
        """
        first = Session.of(recipe).now
        # Chosen once more, as the start of an example may be, it is the picture that a page knows already.
        seen = (m.seen for m in self.moments if not m.recipe.edits and _is_of_same_seed(m.recipe, first.recipe))
        begun = replace(self, now=replace(first, seen=next(seen, 0)))
        if pairs:
            begun = begun.with_points(pairs)
        before = self.past[-1].start if self.past else self.start
        is_halfway = before is not self.start and not self.is_touched and not self.future
        if is_halfway and _one_seed(before, self.start, begun.start):
            # From one truncation to another, with nothing done there: not worth a step of history.
            return replace(self, now=begun.now, undeleted=())
        return self._record(begun.now)

    def with_work(self, recipe: Recipe) -> Session:
        """The picture of a recipe, with the edits that led to it as steps of history; before them, what was there.

        Raises:
            LatentError: the latents of its pictures are not all known.
        """
        recipe = _complete(recipe)
        start = recipe.up_to(0) if recipe.edits else recipe
        work = self
        for number, edit in enumerate(recipe.edits):
            pairs = tuple(
                replace(
                    point,
                    origin=point.handle if point.origin is None else point.origin,
                    picture=number if point.picture is None else point.picture,
                )
                for point in edit.points
            )
            before = recipe.up_to(number) if number else start
            work = work._record(Moment(start=start, recipe=before, pairs=pairs, mask=edit.mask))
        mask = recipe.edits[-1].mask if recipe.edits else None
        return work._record(Moment(start=start, recipe=recipe, mask=mask))

    def with_session(self, other: Session) -> Session:
        """Another session's work, with its history, branches and choices; before that, what was there."""
        # Numbers of this session's pictures are taken.
        numbers = sorted({moment.seen for moment in other.moments} - {0})
        anew = {0: 0} | {number: self._most + k for k, number in enumerate(numbers, 1)}
        past, now, future, branches = (
            tuple(replace(moment, seen=anew[moment.seen]) for moment in moments)
            for moments in (other.past, (other.now,), other.future, other.branches)
        )
        work = replace(self, space=other.space, settings=other.settings, arrived=other.arrived)
        for moment in (*past, *now):
            work = work._record(moment)
        return replace(work, future=future, branches=(*work.branches, *branches))

    # Points

    def with_points(
        self, pairs: Sequence[tuple[Xy, Xy]], pending: Xy | None = None, off: Collection[int] = ()
    ) -> Session:
        """The points as a canvas shows them; one step of history however many changed.

        A handle that stands exactly where one stood is that one and keeps its origin, wherever it is in the list;
        any other is new and holds what is under it in the picture on the screen.

        Args:
            off: numbers of the pairs that are switched off, from 0.

        Raises:
            PointError: one of them is outside the picture, there are too many, or there is no pair of such a number.
        """
        for number in off:
            if not 0 <= number < len(pairs):
                raise PointError(f"there is no point {number + 1} to switch off; there are {len(pairs)}")
        known: dict[Xy, list[Point]] = {}
        for pair in self.pairs:
            known.setdefault(pair.handle, []).append(pair)
        if len(pairs) > MOST_POINTS:
            raise PointError(f"{len(pairs)} points are too many; give at most {MOST_POINTS}")
        handles = check_points("handle", [handle for handle, _ in pairs], self.image_size).tolist()
        targets = check_points("target", [target for _, target in pairs], self.image_size).tolist()
        after = []
        for handle, target in zip(map(tuple, handles), map(tuple, targets), strict=True):
            old = known.get(handle)
            after.append(replace(old.pop(0), target=target) if old else self._held(handle, target))
        if pending is not None:
            ((x, y),) = check_points("handle", [pending], self.image_size).tolist()
            pending = (x, y)
        if pending == self.pending and tuple(after) == self.pairs and frozenset(off) == self.off:
            return self
        return self._record(replace(self.now, pairs=tuple(after), pending=pending, off=frozenset(off)))

    def remove_last(self) -> Session:
        """Drop the handle that waits for its target, else the last pair; with no points, nothing happens."""
        if self.pending is not None:
            return self._record(replace(self.now, pending=None))
        if self.pairs:
            last = len(self.pairs) - 1
            return self._record(replace(self.now, pairs=self.pairs[:-1], off=self.off - {last}))
        return self

    def clear_points(self) -> Session:
        """Drop all points."""
        if not self.pairs and self.pending is None:
            return self
        return self._record(replace(self.now, pairs=(), pending=None, off=frozenset()))

    # Mask

    def set_mask(self, mask: np.ndarray | None) -> Session:
        """What may change. A mask without a single True is none at all: nothing has been painted."""
        if mask is None:
            return self.clear_mask()
        mask = check_mask(mask, self.image_size)
        if not mask.any():
            return self.clear_mask()
        if self.mask is not None and np.array_equal(mask, self.mask):
            return self
        return self._record(replace(self.now, mask=Mask(allowed=mask, picture=self._picture)))

    def clear_mask(self) -> Session:
        """Everything may change."""
        return self if self.mask is None else self._record(replace(self.now, mask=None))

    # The drag

    def set_space(self, space: Space) -> Session:
        """Which latent space the next drag moves in."""
        arrived = self.arrived if space == self.space else ()
        return replace(self, space=check_space(space), arrived=arrived)

    def set_settings(self, settings: Mapping[str, Any]) -> Session:
        """Set the settings of the next drag; they are checked when it begins. With others there may be more to do."""
        arrived = self.arrived if dict(settings) == dict(self.settings) else ()
        return replace(self, settings=dict(settings), arrived=arrived)

    def with_opened(self, title: str, name: str) -> Session:
        """One more model that was opened from a file; undo does not close it."""
        return replace(self, opened=(*self.opened, (title, name)))

    def edit(self) -> Edit:
        """The drag that points, mask, space and settings ask for; `recipe` is what it begins with.

        Raises:
            PointError: there is no complete pair, or a handle still waits for its target.
            ConfigError: a setting outside its range.
        """
        if self.pending is not None:
            raise PointError(
                f"point {len(self.pairs) + 1} has no target yet; click where it should go, or remove the last point"
            )
        if not self.pairs:
            raise PointError("there is nothing to drag yet; click a point in the picture, then where it should go")
        if not self.active_pairs:
            raise PointError("every point is switched off; switch one on in the list of points, or add another")
        return self._edit(self.active_pairs)

    def live_edit(self, at: Xy, pair: int | None = None) -> Edit:
        """The drag that begins where a hand takes hold of the picture.

        Args:
            pair: it takes hold of this one of `pairs`: all that are on are dragged, this one's target is at the hand.
                None: of the picture itself, whatever points there are.

        Raises:
            PointError: that is outside the picture, or the pair is switched off.
        """
        ((x, y),) = check_points("handle", [at], self.image_size).tolist()
        if pair is None:
            return self._edit((self._held((x, y), (x, y)),))
        if pair in self.off:
            raise PointError(f"point {pair + 1} is switched off; switch it on in the list of points, or hold another")
        there = [replace(self.pairs[k], target=(x, y)) if k == pair else self.pairs[k] for k in self.active_numbers]
        return self._edit(tuple(there))

    def dragged(self, recipe: Recipe, handles: np.ndarray, frames: Sequence[np.ndarray] = ()) -> Session:
        """After a drag: another picture, handles where they were tracked, targets and origins as they were.

        A pair that is switched off stays where it is, and holds what is under it now.

        Args:
            recipe: what the drag has reached (`draggan.engine.base.RunningDrag.reached`).
            handles: of `active_pairs`.
            frames: latents on the way, in their order; begin and end are added.
        """
        active = self.active_numbers
        if np.shape(handles) != (len(active), 2):
            raise PointError(f"there are {len(active)} handles; {list(np.shape(handles))} positions were given")
        pairs = [replace(pair, origin=pair.handle, picture=len(recipe.edits)) for pair in self.pairs]
        for number, xy in zip(active, check_points("handle", handles, self.image_size).tolist(), strict=True):
            pairs[number] = replace(self.pairs[number], handle=tuple(xy))
        return self._reached(recipe, replace(self.now, pairs=tuple(pairs)), frames)

    def with_arrived(self) -> Session:
        """Its points are on their targets, as the drag that has ended says."""
        return replace(self, arrived=tuple((pair.handle, pair.target) for pair in self.active_pairs))

    def pulled(self, recipe: Recipe, frames: Sequence[np.ndarray] = ()) -> Session:
        """After a live drag of the picture itself; points lie on other content now and go, until undo.

        Arguments as for `dragged`.
        """
        return self._reached(recipe, replace(self.now, pairs=(), pending=None, off=frozenset()), frames)

    def pulled_by_pair(
        self, recipe: Recipe, handles: np.ndarray, targets: np.ndarray, frames: Sequence[np.ndarray] = ()
    ) -> Session:
        """After a live drag of all pairs: likewise, and targets are where the hand left them."""
        after = self.dragged(recipe, handles, frames)
        pairs = list(after.pairs)
        for number, xy in zip(self.active_numbers, check_points("target", targets, self.image_size), strict=True):
            pairs[number] = replace(pairs[number], target=tuple(xy.tolist()))
        return replace(after, now=replace(after.now, pairs=tuple(pairs)))

    @property
    def frames(self) -> tuple[tuple[Recipe, Float[np.ndarray, "1 num_ws w_dim"]], ...]:
        """Latents of every drag since the starting picture, to the one on the screen; empty: there was none.

        Each with the recipe that it belongs to, whose last mask holds in its picture (`draggan.engine.base.Engine`'s
        ``render``). Of drags long ago only where they ended.
        """
        frames: list[tuple[Recipe, np.ndarray]] = []
        for before, after in pairwise((*self.past, self.now)):
            if after.recipe is after.start:
                frames = []
            elif after.recipe is not before.recipe:
                # Where work went on from an earlier frame, those after it are no part of the way any more.
                if 0 < len(after.recipe.edits) <= len(before.recipe.edits):
                    while frames and len(frames[-1][0].edits) >= len(after.recipe.edits):
                        frames.pop()
                begin = frames or [(before.recipe, _latent_of(before.recipe))]
                frames = [*begin, *((after.recipe, ws) for ws in (*after.frames, _latent_of(after.recipe)))]
        return tuple(frames)

    def from_frame(self, number: int) -> Session:
        """Back to one of `frames`, to go on from there; points lie on other content there and go, until undo.

        Raises:
            LatentError: there is no such frame.
        """
        frames = self.frames
        if not 0 <= number < len(frames):
            raise LatentError(f"there is no frame {number}; the drags so far have {len(frames)}")
        recipe, ws = frames[number]
        if not recipe.edits:
            return self.reset()
        if ws is not _latent_of(recipe):
            # It cannot be computed again without the drag that it is on the way of.
            *_, last = recipe.edits
            recipe = recipe.up_to(len(recipe.edits) - 1).then(replace(last, recorded=ws))
        way = tuple(seen for of, seen in frames[:number] if len(of.edits) == len(recipe.edits))
        mask = self.now.mask
        if mask is not None:
            mask = replace(mask, picture=min(mask.picture or 0, len(recipe.edits)))
        return self._record(Moment(start=self.start, recipe=recipe, mask=mask, frames=way))

    def reset(self) -> Session:
        """Back to the starting picture, every handle to where it was clicked, mask as it is. Undo takes it back."""
        pairs = tuple(replace(pair, handle=pair.origin or pair.handle, picture=0) for pair in self.pairs)
        mask = None if self.now.mask is None else replace(self.now.mask, picture=0)
        seen = next((m.seen for m in reversed(self.past) if m.recipe is self.start), 0)
        return self._record(replace(self.now, recipe=self.start, pairs=pairs, mask=mask, frames=(), seen=seen))

    # History

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self.past) or self._was_deleted_here

    @property
    def can_redo(self) -> bool:
        """Whether a step was taken back and nothing else done since."""
        return bool(self.future) or self._was_put_back_here

    def undo(self) -> Session:
        """Take back the last step: points, a mask stroke, a drag, another picture, a deletion from the history. Without
        one, nothing happens."""
        if self._was_deleted_here:
            return self._with_deleted()
        return self._back()

    def redo(self) -> Session:
        """Do again what undo took back."""
        if self._was_put_back_here:
            *earlier, (_, number) = self.undeleted
            return replace(self.without_picture(number), undeleted=tuple(earlier))
        return self._forth()

    def _back(self) -> Session:
        if not self.past:
            return self
        return replace(self, now=self.past[-1], past=self.past[:-1], future=(*self.future, self.now))

    def _forth(self) -> Session:
        if not self.future:
            return self
        return replace(self, now=self.future[-1], past=(*self.past, self.now), future=self.future[:-1])

    def shown_as(self, number: int) -> Session:
        """A page shows the picture; it keeps the number that it has. One that is taken by another is passed over."""
        if self.now.seen:
            return self
        # Work that has come back brings numbers along.
        return replace(self, now=replace(self.now, seen=max(number, self._most + 1)))

    @property
    def pictures(self) -> tuple[tuple[int, str], ...]:
        """Every picture that a page has shown and that can be gone to, by number, each once: "past", "now", "ahead"
        (undone), and on a "branch"."""
        kinds = [*((m, "past") for m in self.past), (self.now, "now"), *((m, "ahead") for m in reversed(self.future))]
        found: dict[int, str] = {}
        for moment, kind in [*kinds, *((m, "branch") for m in self.branches)]:
            if moment.seen and (moment.seen not in found or kind == "now"):
                found[moment.seen] = kind
        return tuple(found.items())

    @property
    def origins(self) -> dict[int, int]:
        """By the number of one of `pictures`: that of the one which its last drag began with, or, where that is
        gone, the nearest one before it; without those that began the work on a picture."""
        recipes = {number: self.moment_of(number).recipe for number in sorted(dict(self.pictures))}
        known: dict[tuple[ModelReference, bytes], int] = {}
        for number, recipe in recipes.items():
            known.setdefault(_look_of(recipe), number)
        found: dict[int, int] = {}
        for number, recipe in recipes.items():
            before = (known.get(_look_of(recipe, k), 0) for k in reversed(range(len(recipe.edits))))
            # Fewer edits: so that no way leads round and round, whatever the pictures look like.
            origin = next((n for n in before if n and len(recipes[n].edits) < len(recipe.edits)), 0)
            if origin:
                found[number] = origin
        return found

    def moment_of(self, number: int) -> Moment:
        """The first moment with one of `pictures`."""
        everywhere = (*self.past, self.now, *reversed(self.future), *self.branches)
        return next(moment for moment in everywhere if moment.seen == number)

    def without_picture(self, number: int) -> Session:
        """The session without one of `pictures`: redo and branches pass it over, and undo too, once it has put it back.

        Raises:
            LatentError: there is no such picture, or it is the one on the screen.
        """
        if dict(self.pictures).get(number, "now") == "now":
            raise LatentError(f"picture {number} cannot be deleted: it is not in the history, or is the one shown")
        (past, of_past), (future, of_future), (branches, of_branches) = (
            _parted(moments, number) for moments in (self.past, self.future, self.branches)
        )
        taken = Deletion(number=number, at=self.now, past=of_past, future=of_future, branches=of_branches, left=future)
        deletions = (*self.deletions, taken)[-_BRANCHES:]
        return replace(self, past=past, future=future, branches=branches, deletions=deletions, undeleted=())

    @property
    def _was_deleted_here(self) -> bool:
        """Whether a deletion is what was done last: all that was done since has been undone."""
        return bool(self.deletions) and _is_same(self.deletions[-1].at, self.now)

    @property
    def _was_put_back_here(self) -> bool:
        """Whether what was done last is that a deletion was undone, of a picture that can be deleted once more."""
        if not self.undeleted or not _is_same(self.undeleted[-1][0], self.now):
            return False
        return dict(self.pictures).get(self.undeleted[-1][1], "now") != "now"

    def _with_deleted(self) -> Session:
        """The session with the picture that was deleted last."""
        *earlier, last = self.deletions
        future, branches = self.future, _joined(self.branches, last.branches)
        if len(future) == len(last.left) and all(map(operator.is_, future, last.left)):
            future = _joined(future, last.future)
        elif last.future and not any(moment.seen == last.number for moment in branches):
            # Something else is to be redone there by now.
            branches = (*branches, replace(last.future[-1][1], frames=()))
        return replace(
            self,
            past=_joined(self.past, last.past),
            future=future,
            branches=branches,
            deletions=tuple(earlier),
            undeleted=(*self.undeleted, (self.now, last.number)),
        )

    def go_to(self, number: int) -> Session:
        """To one of `pictures`, as undo and redo would; to one on a branch as a step of its own.

        Raises:
            LatentError: there is no such picture.
        """
        kind = dict(self.pictures).get(number)
        if kind is None:
            raise LatentError(f"there is no picture {number} in this history")
        there = self
        if kind == "branch":
            (moment,) = [m for m in self.branches if m.seen == number][-1:]
            return replace(self, branches=tuple(m for m in self.branches if m is not moment))._record(moment)
        while kind != "now" and there.now.seen != number:
            there = there._back() if kind == "past" else there._forth()
        return there

    def with_only_opened(self, names: Collection[str]) -> Session:
        """The session without the opened models of other names."""
        return replace(self, opened=tuple(pair for pair in self.opened if pair[1] in names))

    def without(self, gone: Callable[[ModelReference], bool]) -> Session:
        """The session without that part of its history that lies beyond a picture of one of these models."""
        past = _up_to_first(reversed(self.past), gone)[::-1]
        branches = tuple(m for m in self.branches if not gone(m.start.model))
        future = _up_to_first(reversed(self.future), gone)[::-1]
        return replace(self, branches=branches, past=past, future=future, deletions=(), undeleted=())

    # The page

    def sent_to_page(self) -> Session:
        """A page gets points and mask of this session. What it sends back from then on carries this revision; what it
        has sent with an older one belongs to what is no longer there."""
        return replace(self, revision=self.revision + 1, page_outdated=False)

    def mark_page_outdated(self) -> Session:
        """Something older than this revision has come from the page: it had not heard of it yet."""
        return replace(self, page_outdated=True)

    # Of its own work

    @property
    def _most(self) -> int:
        """The highest number of a picture, also of a deleted one."""
        return max(*(moment.seen for moment in self.moments), *(one.number for one in self.deletions), 0)

    @property
    def _picture(self) -> int:
        """Number of the picture on the screen."""
        return len(self.recipe.edits)

    def _held(self, handle: Xy, target: Xy) -> Point:
        """A handle that holds what is under it in the picture on the screen."""
        return Point(handle=handle, target=target, origin=handle, picture=self._picture)

    def _edit(self, points: tuple[Point, ...]) -> Edit:
        return Edit(points=points, mask=self.now.mask, space=self.space, settings=dict(self.settings))

    def _reached(self, recipe: Recipe, moment: Moment, frames: Sequence[np.ndarray]) -> Session:
        recipe = _complete(recipe)
        ws = _latent_of(recipe)
        if ws.shape != self.ws.shape:
            raise LatentError(f"a drag of {list(self.ws.shape)} cannot end in {list(ws.shape)}")
        moment = replace(moment, recipe=recipe, frames=tuple(check_latent(ws) for ws in frames), seen=0)
        if len(recipe.edits) >= MOST_EDITS:
            moment = moment.begun_anew()
        moved = self._record(moment)
        return replace(moved, past=_with_frames(moved.past, _FRAMES - len(frames)))

    def _record(self, moment: Moment) -> Session:
        known = {m.seen for m in (*self.past, self.now, moment)}
        # Of each picture that would be lost, as it was last.
        lost = {m.seen: replace(m, frames=()) for m in reversed(self.future) if m.seen not in known and m.seen}
        branches = [m for m in self.branches if m.seen not in lost]
        return replace(
            self,
            now=moment,
            past=(*self.past, self.now),
            future=(),
            branches=(*branches, *lost.values()),
            undeleted=(),
        )


def _parted(moments: tuple[Moment, ...], number: int) -> tuple[tuple[Moment, ...], Taken]:
    """Those of other pictures, and those of this one, each with how many stand behind it."""
    behind = range(len(moments) - 1, -1, -1)
    taken = tuple((k, moment) for k, moment in zip(behind, moments, strict=True) if moment.seen == number)
    return tuple(moment for moment in moments if moment.seen != number), taken


def _joined(moments: tuple[Moment, ...], taken: Taken) -> tuple[Moment, ...]:
    """The other way round; where too few stand behind, in front."""
    all_of_them = list(moments)
    for behind, moment in reversed(taken):
        all_of_them.insert(max(len(all_of_them) - behind, 0), moment)
    return tuple(all_of_them)


def _is_same(one: Moment, other: Moment) -> bool:
    """Whether they are the same moment; frames on the way to it may have been given up since."""
    parts = ("recipe", "pairs", "off", "pending", "mask")
    return all(getattr(one, part) is getattr(other, part) for part in parts)


def _with_frames(past: tuple[Moment, ...], most: int) -> tuple[Moment, ...]:
    """The same moments; of their frames the newest, so many latents at most."""
    kept: list[Moment] = []
    frames: tuple[np.ndarray, ...] = ()
    for moment in reversed(past):
        # Moments after a drag, up to the next, share its frames.
        if moment.frames is not frames:
            frames = moment.frames
            most -= len(frames)
        kept.append(moment if most >= 0 or not frames else replace(moment, frames=()))
    return past if most >= 0 else tuple(reversed(kept))


def _up_to_first(moments: Iterable[Moment], gone: Callable[[ModelReference], bool]) -> tuple[Moment, ...]:
    return tuple(takewhile(lambda moment: not gone(moment.start.model), moments))


def _one_seed(*recipes: Recipe) -> bool:
    """Whether pictures differ in truncation alone."""
    alike = {None if r.seed is None else (r.model.name, r.seed.seed, r.seed.label) for r in recipes}
    return len(alike) == 1 and None not in alike


def _is_of_same_seed(one: Recipe, other: Recipe) -> bool:
    return one.seed is not None and (one.model, one.seed) == (other.model, other.seed)


def _look_of(recipe: Recipe, number: int = -1) -> tuple[ModelReference, bytes]:
    """What one of the pictures of a recipe is told by, the last if no number is given."""
    ws = recipe.results[number]
    assert ws is not None
    return recipe.model, ws.tobytes()


def _complete(recipe: Recipe) -> Recipe:
    if not recipe.is_complete:
        raise LatentError("not all pictures of the recipe are known; let an engine complete it first")
    return recipe


def _latent_of(recipe: Recipe) -> Float[np.ndarray, "1 num_ws w_dim"]:
    """Of the picture that it makes, which sessions always know."""
    ws = recipe.latent
    assert ws is not None
    return ws
