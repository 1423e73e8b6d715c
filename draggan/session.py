"""What one person sees, as plain values: the picture's latent, points, mask, and what undo brings back.

A `Session` is frozen; every transition returns another one and shares what did not change, so that copying, undoing
and saving cost next to nothing. It holds no weights, no pictures and nothing that computes.

Points are ``(x, y)`` in image pixels, integers at pixel centres.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from draggan.config import Space
from draggan.errors import ConfigError, LatentError, MaskError, PointError

__all__ = ["DragArguments", "Moment", "Pair", "Picture", "Session", "Xy"]

Xy: TypeAlias = tuple[float, float]

_HISTORY = 200  # moments kept; each shares its arrays with its neighbours
_FILM = 160  # latents kept of what lies between the ends of drags


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """A handle and its target.

    Attributes:
        handle: where the handle is now; a drag moves it with the content.
        target: where the content is to go.
        origin, origin_ws: where the handle was clicked, and the latent ``[num_ws, w_dim]`` of the picture it was
            clicked in. A continued drag still looks for what was there.
    """

    handle: Xy
    target: Xy
    origin: Xy
    origin_ws: Float[np.ndarray, "num_ws w_dim"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture to start from.

    Attributes:
        model: name of the model.
        image_size: ``(height, width)``.
        ws: its latent, ``[1, num_ws, w_dim]``.
        seed, truncation, label: where that came from; seed None: from elsewhere (a file, a photo).
    """

    model: str
    image_size: tuple[int, int]
    ws: Float[np.ndarray, "1 num_ws w_dim"]
    seed: int | None = None
    truncation: float = 1.0
    label: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """What undo brings back.

    Attributes:
        picture: what the work began with.
        ws: the latent of the picture on the screen, ``[1, num_ws, w_dim]``.
        pairs: complete pairs, in the order of their numbers.
        pending: a handle that has no target yet.
        mask: ``[height, width]``, True = may change; None: everything may.
        mask_ws: the latent of the picture the mask was last painted on, whose fixed region is kept.
        film: latents on the way of the drag or pull that led to ``ws``, without its ends.
    """

    picture: Picture
    ws: Float[np.ndarray, "1 num_ws w_dim"]
    pairs: tuple[Pair, ...] = ()
    pending: Xy | None = None
    mask: Bool[np.ndarray, "height width"] | None = None
    mask_ws: Float[np.ndarray, "1 num_ws w_dim"] | None = None
    film: tuple[Float[np.ndarray, "1 num_ws w_dim"], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class DragArguments:
    """What a drag is started with, as arrays.

    Attributes:
        reference_handles, reference_ws: ``[n, 2]`` and ``[n, num_ws, w_dim]``, where and in which latent each handle
            was clicked.
        mask_ws: the latent whose fixed region the mask keeps; None without a mask.
    """

    ws: Float[np.ndarray, "1 num_ws w_dim"]
    handles: Float[np.ndarray, "n 2"]
    targets: Float[np.ndarray, "n 2"]
    mask: Bool[np.ndarray, "height width"] | None
    reference_handles: Float[np.ndarray, "n 2"]
    reference_ws: Float[np.ndarray, "n num_ws w_dim"]
    mask_ws: Float[np.ndarray, "1 num_ws w_dim"] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Session:
    """One person's work: on one picture, then on another.

    Attributes:
        now: what is on the screen.
        space: whether a drag moves every latent row on its own ("w+") or all alike ("w").
        settings: of a drag, by name, as last chosen; those that are not there are what suits the model.
        opened: title and name of every model that was opened from a file.
        past, future: what undo and redo bring back, the nearest last.
        revision: counts how often a page was given points and mask; see `given`.
        overtaken: whether the page has sent something older since.
    """

    now: Moment
    space: Space = "w+"
    settings: Mapping[str, Any] = field(default_factory=dict)
    opened: tuple[tuple[str, str], ...] = ()
    past: tuple[Moment, ...] = ()
    future: tuple[Moment, ...] = ()
    revision: int = 0
    overtaken: bool = False

    @classmethod
    def begin(
        cls,
        model: str,
        image_size: tuple[int, int],
        ws: np.ndarray,
        *,
        seed: int | None = None,
        truncation: float = 1.0,
        label: int | None = None,
        space: Space = "w+",
    ) -> Session:
        """A fresh session on the picture of ``ws``."""
        picture = Picture(
            model=model, image_size=image_size, ws=_latent(ws), seed=seed, truncation=truncation, label=label
        )
        return cls(now=Moment(picture=picture, ws=picture.ws), space=space)

    # What there is

    @property
    def picture(self) -> Picture:
        """What the work on the screen began with."""
        return self.now.picture

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.picture.model

    @property
    def image_size(self) -> tuple[int, int]:
        """Of its pictures, ``(height, width)``."""
        return self.picture.image_size

    @property
    def seed(self) -> int | None:
        """Of the starting picture; None: it came from elsewhere."""
        return self.picture.seed

    @property
    def truncation(self) -> float:
        """Of the starting picture."""
        return self.picture.truncation

    @property
    def label(self) -> int | None:
        """Class of the starting picture, where the model has classes."""
        return self.picture.label

    @property
    def start(self) -> Float[np.ndarray, "1 num_ws w_dim"]:
        """The starting latent."""
        return self.picture.ws

    @property
    def ws(self) -> Float[np.ndarray, "1 num_ws w_dim"]:
        """The latent of the picture on the screen."""
        return self.now.ws

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Handles and targets."""
        return self.now.pairs

    @property
    def pending(self) -> Xy | None:
        """A handle that has no target yet."""
        return self.now.pending

    @property
    def mask(self) -> Bool[np.ndarray, "height width"] | None:
        """True = may change; None: everything may."""
        return self.now.mask

    @property
    def is_edited(self) -> bool:
        """Whether the picture is another one than at the start."""
        return self.ws is not self.start

    @property
    def is_touched(self) -> bool:
        """Whether anything was done to the picture: points, mask or drag."""
        return self.is_edited or bool(self.pairs) or self.pending is not None or self.mask is not None

    # Another picture

    def with_model(
        self,
        model: str,
        image_size: tuple[int, int],
        ws: np.ndarray,
        *,
        seed: int | None = None,
        truncation: float = 1.0,
        label: int | None = None,
        pairs: Sequence[tuple[Xy, Xy]] = (),
    ) -> Session:
        """A picture of another model, with these handles and targets; as `with_picture`."""
        picture = Picture(model=model, image_size=image_size, ws=ws, seed=seed, truncation=truncation, label=label)
        return self.with_picture(picture, pairs)

    def with_picture(self, picture: Picture, pairs: Sequence[tuple[Xy, Xy]] = ()) -> Session:
        """Another picture, with these handles and targets; undo brings the old one back with all its work.

        The choice of latent space and the settings are kept: nothing else would fit.
        """
        picture = replace(picture, ws=_latent(picture.ws))
        begun = replace(self, now=Moment(picture=picture, ws=picture.ws))
        if pairs:
            begun = begun.with_points(pairs)
        before = self.past[-1].picture if self.past else self.picture
        if before is not self.picture and not self.is_touched and _one_seed(before, self.picture, begun.picture):
            # Halfway from one truncation to another, with nothing done there: not worth a step of history.
            return replace(self, now=begun.now, future=())
        return self._record(begun.now)

    def with_latent(
        self,
        ws: np.ndarray,
        *,
        seed: int | None = None,
        truncation: float = 1.0,
        label: int | None = None,
        pairs: Sequence[tuple[Xy, Xy]] = (),
    ) -> Session:
        """Another picture of the same model; points and mask belong to the old one and go, until undo."""
        if np.shape(ws) != self.start.shape:
            raise LatentError(
                f"a latent code of shape {list(np.shape(ws))} does not fit model '{self.model}'; "
                f"it takes {list(self.start.shape)}"
            )
        return self.with_model(
            self.model, self.image_size, ws, seed=seed, truncation=truncation, label=label, pairs=pairs
        )

    # Points

    def click(self, xy: Xy) -> Session:
        """Alternately a handle and its target."""
        xy = self._inside("point", xy)
        if self.pending is None:
            return self._record(replace(self.now, pending=xy))
        return self._record(replace(self.now, pairs=(*self.pairs, self._pair(self.pending, xy)), pending=None))

    def add_pair(self, handle: Xy, target: Xy) -> Session:
        """A handle and its target at once; a handle that waits for its target is dropped."""
        pair = self._pair(self._inside("handle", handle), self._inside("target", target))
        return self._record(replace(self.now, pairs=(*self.pairs, pair), pending=None))

    def move(self, index: int, *, handle: Xy | None = None, target: Xy | None = None) -> Session:
        """Put one end of a pair (counted from 0) elsewhere. A moved handle holds what is there now."""
        if not 0 <= index < len(self.pairs):
            raise PointError(f"there is no point {index + 1}; there are {len(self.pairs)}")
        pair = self.pairs[index]
        if handle is not None:
            pair = self._pair(self._inside("handle", handle), pair.target)
        if target is not None:
            pair = replace(pair, target=self._inside("target", target))
        return self._record(replace(self.now, pairs=(*self.pairs[:index], pair, *self.pairs[index + 1 :])))

    def remove_last(self) -> Session:
        """Drop the handle that waits for its target, else the last pair; with no points, nothing happens."""
        if self.pending is not None:
            return self._record(replace(self.now, pending=None))
        if self.pairs:
            return self._record(replace(self.now, pairs=self.pairs[:-1]))
        return self

    def clear_points(self) -> Session:
        """Drop all points."""
        if not self.pairs and self.pending is None:
            return self
        return self._record(replace(self.now, pairs=(), pending=None))

    def with_points(self, pairs: Sequence[tuple[Xy, Xy]], pending: Xy | None = None) -> Session:
        """The points as a canvas shows them; one step of history however many changed.

        A handle that stands exactly where one stood is that one and keeps its origin, wherever it is in the list;
        any other is new and holds what is under it in the picture on the screen.
        """
        known: dict[Xy, list[Pair]] = {}
        for pair in self.pairs:
            known.setdefault(pair.handle, []).append(pair)
        after = []
        for handle, target in pairs:
            handle, target = self._inside("handle", handle), self._inside("target", target)
            old = known.get(handle)
            after.append(replace(old.pop(0), target=target) if old else self._pair(handle, target))
        pending = None if pending is None else self._inside("handle", pending)
        before = [(pair.handle, pair.target) for pair in self.pairs]
        if pending == self.pending and before == [(pair.handle, pair.target) for pair in after]:
            return self
        return self._record(replace(self.now, pairs=tuple(after), pending=pending))

    # Mask

    def set_mask(self, mask: np.ndarray | None) -> Session:
        """What may change. A mask without a single True is none at all: nothing has been painted."""
        if mask is None:
            return self.clear_mask()
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != self.image_size:
            raise MaskError(
                f"the mask is {mask.dtype} of shape {list(mask.shape)}; it must be bool {list(self.image_size)} "
                "like the picture, True where it may change"
            )
        if not mask.any():
            return self.clear_mask()
        if self.mask is not None and np.array_equal(mask, self.mask):
            return self
        return self._record(replace(self.now, mask=_frozen(mask), mask_ws=self.ws))

    def clear_mask(self) -> Session:
        """Everything may change."""
        return self if self.mask is None else self._record(replace(self.now, mask=None, mask_ws=None))

    # The drag

    def set_space(self, space: Space) -> Session:
        """Which latent space the next drag moves in."""
        if space not in ("w+", "w"):
            raise ConfigError(f"space '{space}' is not allowed; choose 'w+' or 'w'")
        return replace(self, space=space)

    def set_settings(self, settings: Mapping[str, Any]) -> Session:
        """With which settings the next drag runs; whoever begins it checks them."""
        return replace(self, settings=dict(settings))

    def with_opened(self, title: str, name: str) -> Session:
        """One more model that was opened from a file; undo does not close it."""
        return replace(self, opened=(*self.opened, (title, name)))

    def drag_arguments(self) -> DragArguments:
        """What to start a drag with.

        Raises:
            PointError: there is no complete pair, or a handle still waits for its target.
        """
        if self.pending is not None:
            raise PointError(
                f"point {len(self.pairs) + 1} has no target yet; click where it should go, or remove the last point"
            )
        if not self.pairs:
            raise PointError("there is nothing to drag yet; click a point of the picture, then where it should go")
        return DragArguments(
            ws=self.ws,
            handles=np.array([pair.handle for pair in self.pairs], np.float32),
            targets=np.array([pair.target for pair in self.pairs], np.float32),
            mask=self.mask,
            reference_handles=np.array([pair.origin for pair in self.pairs], np.float32),
            reference_ws=np.stack([pair.origin_ws for pair in self.pairs]),
            mask_ws=self.now.mask_ws,
        )

    def commit(self, ws: np.ndarray, handles: np.ndarray, film: Sequence[np.ndarray] = ()) -> Session:
        """Where a drag ended: another picture, handles where they were tracked, targets and origins as they were.

        Args:
            film: latents on the way, in their order; begin and end are added.
        """
        if np.shape(ws) != self.start.shape:
            raise LatentError(f"a drag of {list(self.start.shape)} cannot end in {list(np.shape(ws))}")
        if np.shape(handles) != (len(self.pairs), 2):
            raise PointError(f"there are {len(self.pairs)} handles; {list(np.shape(handles))} positions were given")
        pairs = tuple(
            replace(pair, handle=self._inside("handle", xy))
            for pair, xy in zip(self.pairs, np.asarray(handles).tolist(), strict=True)
        )
        return self._moved(replace(self.now, ws=_latent(ws), pairs=pairs), film)

    def pulled(self, ws: np.ndarray, film: Sequence[np.ndarray] = ()) -> Session:
        """Where the picture was pulled to by hand; points lie on other content now and go, until undo.

        Args:
            film: as for `commit`.
        """
        if np.shape(ws) != self.start.shape:
            raise LatentError(f"a pull of {list(self.start.shape)} cannot end in {list(np.shape(ws))}")
        return self._moved(replace(self.now, ws=_latent(ws), pairs=(), pending=None), film)

    def _moved(self, moment: Moment, film: Sequence[np.ndarray]) -> Session:
        moved = self._record(replace(moment, film=tuple(_latent(ws) for ws in film)))
        return replace(moved, past=_with_films(moved.past, _FILM - len(film)))

    @property
    def film(self) -> tuple[Float[np.ndarray, "1 num_ws w_dim"], ...]:
        """Latents of every drag and pull since the starting picture, to the one on the screen; empty: there was none.

        Of drags long ago only where they ended.
        """
        frames: list[np.ndarray] = []
        for before, after in pairwise((*self.past, self.now)):
            if after.ws is after.picture.ws:
                frames = []
            elif after.ws is not before.ws:
                frames += [*after.film, after.ws] if frames else [before.ws, *after.film, after.ws]
        return tuple(frames)

    def reset(self) -> Session:
        """Back to the starting picture, every handle to where it was clicked, mask as it is. Undo takes it back."""
        pairs = tuple(replace(pair, handle=pair.origin, origin_ws=self.start[0]) for pair in self.pairs)
        mask_ws = None if self.mask is None else self.start
        return self._record(replace(self.now, ws=self.start, pairs=pairs, mask_ws=mask_ws, film=()))

    # History

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self.past)

    @property
    def can_redo(self) -> bool:
        """Whether a step was taken back and nothing else done since."""
        return bool(self.future)

    def undo(self) -> Session:
        """Take back the last step: points, a mask stroke, a drag, another picture. Without one, nothing happens."""
        if not self.past:
            return self
        return replace(self, now=self.past[-1], past=self.past[:-1], future=(*self.future, self.now))

    def redo(self) -> Session:
        """Do again what undo took back."""
        if not self.future:
            return self
        return replace(self, now=self.future[-1], past=(*self.past, self.now), future=self.future[:-1])

    # The page

    def given(self) -> Session:
        """A page is given points and mask of this session. What it sends back from then on carries this revision; what
        it has sent with an older one belongs to what is no longer there."""
        return replace(self, revision=self.revision + 1, overtaken=False)

    def overtake(self) -> Session:
        """Something older than this revision has come from the page: it had not heard of it yet."""
        return replace(self, overtaken=True)

    def _record(self, moment: Moment) -> Session:
        return replace(self, now=moment, past=(*self.past, self.now)[-_HISTORY:], future=())

    def _pair(self, handle: Xy, target: Xy) -> Pair:
        return Pair(handle=handle, target=target, origin=handle, origin_ws=self.ws[0])

    def _inside(self, kind: str, xy: Sequence[float]) -> Xy:
        """The point as floats, or `PointError` if it is not on the picture."""
        height, width = self.image_size
        try:
            x, y = (float(v) for v in xy)
        except (TypeError, ValueError) as e:
            raise PointError(f"{xy!r} is not a point; give (x, y) in image pixels") from e
        if not (math.isfinite(x) and math.isfinite(y) and 0 <= x <= width - 1 and 0 <= y <= height - 1):
            raise PointError(
                f"the {kind} ({x:g}, {y:g}) is outside the picture; x goes from 0 to {width - 1}, "
                f"y from 0 to {height - 1}"
            )
        return x, y


def _with_films(past: tuple[Moment, ...], most: int) -> tuple[Moment, ...]:
    """The same moments; of their films the newest, so many latents at most."""
    kept: list[Moment] = []
    film: tuple[np.ndarray, ...] = ()
    for moment in reversed(past):
        # Moments after a drag, up to the next, share its film.
        if moment.film is not film:
            film = moment.film
            most -= len(film)
        kept.append(moment if most >= 0 or not film else replace(moment, film=()))
    return past if most >= 0 else tuple(reversed(kept))


def _one_seed(*pictures: Picture) -> bool:
    """Whether pictures differ in truncation alone."""
    return len({(p.model, p.seed, p.label) for p in pictures}) == 1 and pictures[0].seed is not None


def _latent(ws: np.ndarray) -> Float[np.ndarray, "1 num_ws w_dim"]:
    ws = np.asarray(ws, np.float32)
    if ws.ndim != 3 or ws.shape[0] != 1:
        raise LatentError(f"a latent code of shape {list(ws.shape)} is not one picture; give [1, num_ws, w_dim]")
    if not np.isfinite(ws).all():
        raise LatentError("the latent code has values that are not finite numbers; start from another picture")
    return _frozen(ws)


def _frozen(array: np.ndarray) -> np.ndarray:
    """A copy that nobody can write to: sessions share it."""
    array = array.copy()
    array.setflags(write=False)
    return array
