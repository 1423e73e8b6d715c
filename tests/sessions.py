"""What a person does to a session, in one word each, for tests: the page sends whole lists of points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from draggan.recipe import Edit, ModelReference, Recipe, Seed, Xy
from draggan.session import Session

__all__ = ["Hand", "add_pair", "click", "dragged", "recipe_of"]

S = TypeVar("S", bound=Session)


def recipe_of(
    model: str,
    image_size: tuple[int, int],
    ws: np.ndarray,
    seed: int | None = None,
    truncation: float = 1.0,
    label: int | None = None,
) -> Recipe:
    """The recipe of a picture whose latent is known."""
    start = ws if seed is None else Seed(seed=seed, truncation=truncation, label=label)
    return Recipe(model=ModelReference(name=model), image_size=image_size, start=start, results=(ws,))


def _same_kind(before: S, after: Session) -> S:
    """Transitions of a session of any kind give another of that kind, which `Session` does not say."""
    assert isinstance(after, type(before))
    return after


def add_pair(session: S, handle: Xy, target: Xy) -> S:
    """A handle and its target."""
    pairs = [(pair.handle, pair.target) for pair in session.pairs]
    return _same_kind(session, session.with_points([*pairs, (handle, target)]))


def click(session: S, *points: Xy) -> S:
    """Alternately a handle and its target."""
    for xy in points:
        pairs = [(pair.handle, pair.target) for pair in session.pairs]
        after = (
            session.with_points(pairs, xy)
            if session.pending is None
            else session.with_points([*pairs, (session.pending, xy)])
        )
        session = _same_kind(session, after)
    return session


def dragged(session: S, ws: np.ndarray, handles: np.ndarray, frames: Sequence[np.ndarray] = ()) -> S:
    """The points have been dragged to here."""
    edit = Edit(points=session.active_pairs, mask=session.now.mask, space=session.space)
    return _same_kind(session, session.dragged(session.recipe.then(edit, ws), handles, frames))


class Hand(Session):
    """A session with these as methods, to be written one after the other."""

    def add_pair(self, handle: Xy, target: Xy) -> Hand:
        return add_pair(self, handle, target)

    def click(self, *points: Xy) -> Hand:
        return click(self, *points)

    def drag_to(self, ws: np.ndarray, handles: np.ndarray, frames: Sequence[np.ndarray] = ()) -> Hand:
        return dragged(self, ws, handles, frames)

    def pull_to(self, ws: np.ndarray, frames: Sequence[np.ndarray] = ()) -> Hand:
        return _same_kind(self, self.pulled(self.recipe.then(Edit(recorded=ws, by_hand=True), ws), frames))

    def with_seed(
        self,
        ws: np.ndarray,
        *,
        seed: int,
        truncation: float = 1.0,
        label: int | None = None,
        pairs: Sequence[tuple[Xy, Xy]] = (),
    ) -> Hand:
        recipe = recipe_of(self.model, self.image_size, ws, seed, truncation, label)
        return _same_kind(self, self.with_picture(recipe, pairs))
