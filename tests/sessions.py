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


def add_pair(session: S, handle: Xy, target: Xy) -> S:
    """A handle and its target."""
    return session.with_points([*((pair.handle, pair.target) for pair in session.pairs), (handle, target)])


def click(session: S, *points: Xy) -> S:
    """Alternately a handle and its target."""
    for xy in points:
        pairs = [(pair.handle, pair.target) for pair in session.pairs]
        if session.pending is None:
            session = session.with_points(pairs, xy)
        else:
            session = session.with_points([*pairs, (session.pending, xy)])
    return session


def dragged(session: S, ws: np.ndarray, handles: np.ndarray, frames: Sequence[np.ndarray] = ()) -> S:
    """The points have been dragged to here."""
    edit = Edit(points=session.active_pairs, mask=session.now.mask, space=session.space)
    return session.dragged(session.recipe.then(edit, ws), handles, frames)


class Hand(Session):
    """A session with these as methods, to be written one after the other."""

    def add_pair(self, handle: Xy, target: Xy) -> Hand:
        return add_pair(self, handle, target)

    def click(self, *points: Xy) -> Hand:
        return click(self, *points)

    def drag_to(self, ws: np.ndarray, handles: np.ndarray, frames: Sequence[np.ndarray] = ()) -> Hand:
        return dragged(self, ws, handles, frames)

    def pull_to(self, ws: np.ndarray, frames: Sequence[np.ndarray] = ()) -> Hand:
        return self.pulled(self.recipe.then(Edit(recorded=ws, by_hand=True), ws), frames)

    def with_seed(
        self,
        ws: np.ndarray,
        *,
        seed: int,
        truncation: float = 1.0,
        label: int | None = None,
        pairs: Sequence[tuple[Xy, Xy]] = (),
    ) -> Hand:
        return self.with_picture(recipe_of(self.model, self.image_size, ws, seed, truncation, label), pairs)
