"""A drag as a film: frames in between, at an even speed."""

from __future__ import annotations

import numpy as np

from draggan.film import evenly, there_and_back
from draggan.recipe import Edit, ModelReference, Point, Recipe, Seed

START = Recipe(
    model=ModelReference(name="toy", sha256="ab" * 32), image_size=(8, 8), start=Seed(seed=1, truncation=1.0)
)
DRAGGED = START.then(Edit(points=(Point(handle=(1.0, 1.0), target=(4.0, 1.0)),)))


def latent(value: float) -> np.ndarray:
    return np.full((1, 2, 3), value, np.float32)


def test_frames_are_as_far_from_each_other_as_the_next_however_long_the_steps_were():
    steps = [(START, latent(0)), (DRAGGED, latent(7)), (DRAGGED, latent(7.5)), (DRAGGED, latent(10))]
    film = evenly(steps, 11)
    assert np.allclose([ws.mean() for _, ws in film], np.arange(11), atol=1e-5)
    assert all(np.ptp(ws) < 1e-5 and ws.dtype == np.float32 for _, ws in film)
    # It begins and ends with the very pictures that were there; between, the drag's own mask holds.
    assert film[0][1] is steps[0][1]
    assert film[-1][1] is steps[-1][1]
    assert [recipe is DRAGGED for recipe, _ in film] == [False] + 10 * [True]


def test_a_film_of_what_did_not_move_is_short_and_one_of_nothing_is_empty():
    still = [(START, latent(1)), (DRAGGED, latent(1)), (DRAGGED, latent(1))]
    assert len(evenly(still, 30)) == 2
    assert evenly([], 5) == []
    assert len(evenly(still[:1], 5)) == 1
    assert evenly(still, 1) == still[:1]


def test_there_and_back_shows_each_end_once():
    assert there_and_back(4) == [0, 1, 2, 3, 2, 1]
    assert there_and_back(2) == [0, 1]
    assert there_and_back(1) == [0]
