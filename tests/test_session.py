"""What a person does, as values: every transition has a known answer and leaves the old session as it was."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draggan.errors import LatentError, MaskError, PointError
from draggan.session import Session

HEIGHT, WIDTH = 24, 32


def latent(value: float = 0.0) -> np.ndarray:
    return np.full((1, 4, 3), value, np.float32)


@pytest.fixture
def session() -> Session:
    return Session.begin("cat", (HEIGHT, WIDTH), latent(), seed=7, truncation=0.7)


def points(session: Session) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    return [(pair.handle, pair.target) for pair in session.pairs]


def mask(rows: slice = slice(0, 5)) -> np.ndarray:
    m = np.zeros((HEIGHT, WIDTH), bool)
    m[rows] = True
    return m


def test_clicks_are_alternately_handle_and_target(session):
    after = session.click((3, 4))
    assert after.pending == (3, 4)
    assert after.pairs == ()
    after = after.click((5, 6)).click((7, 8))
    assert points(after) == [((3, 4), (5, 6))]
    assert after.pending == (7, 8)
    assert session.pairs == ()
    assert session.pending is None


@pytest.mark.parametrize("xy", [(0, 0), (WIDTH - 1, 0), (0, HEIGHT - 1), (WIDTH - 1, HEIGHT - 1), (0.5, 22.9)])
def test_corners_are_points(session, xy):
    assert session.click(xy).pending == xy
    assert points(session.add_pair(xy, (1, 1))) == [(xy, (1, 1))]


@pytest.mark.parametrize(
    "xy", [(-0.1, 0), (WIDTH, 0), (0, HEIGHT), (WIDTH - 0.5, 1), (float("nan"), 1), (1, float("inf"))]
)
def test_a_point_outside_is_refused_with_what_is_allowed(session, xy):
    for act in (
        lambda: session.click(xy),
        lambda: session.add_pair((1, 1), xy),
        lambda: session.add_pair((1, 1), (2, 2)).move(0, target=xy),
        lambda: session.with_points([(xy, (1, 1))]),
        lambda: session.with_points([], pending=xy),
    ):
        with pytest.raises(PointError, match="x goes from 0 to 31, y from 0 to 23"):
            act()


def test_remove_last_takes_the_waiting_handle_first(session):
    two = session.add_pair((1, 1), (2, 2)).add_pair((3, 3), (4, 4)).click((5, 5))
    assert two.remove_last().pending is None
    assert len(two.remove_last().pairs) == 2
    assert points(two.remove_last().remove_last()) == [((1, 1), (2, 2))]
    assert session.remove_last() is session


def test_clear_points(session):
    assert session.clear_points() is session
    cleared = session.add_pair((1, 1), (2, 2)).click((5, 5)).clear_points()
    assert cleared.pairs == ()
    assert cleared.pending is None


def test_move_one_end(session):
    after = session.add_pair((1, 1), (2, 2)).add_pair((3, 3), (4, 4)).move(0, target=(9, 9)).move(1, handle=(8, 8))
    assert points(after) == [((1, 1), (9, 9)), ((8, 8), (4, 4))]
    with pytest.raises(PointError, match="there is no point 3; there are 2"):
        after.move(2, target=(1, 1))


def test_a_drag_moves_handles_and_keeps_targets_and_origins(session):
    dragged = session.add_pair((1, 1), (9, 9)).commit(latent(1), np.array([[4, 5]], np.float32))
    (pair,) = dragged.pairs
    assert (pair.handle, pair.target, pair.origin) == ((4, 5), (9, 9), (1, 1))
    given = dragged.drag_arguments()
    assert given.ws is dragged.ws
    assert (given.ws == 1).all()
    assert given.handles.tolist() == [[4, 5]]
    assert given.targets.tolist() == [[9, 9]]
    assert given.reference_handles.tolist() == [[1, 1]]
    assert (given.reference_ws == 0).all()
    assert given.reference_ws.shape == (1, 4, 3)
    assert given.mask is None
    assert given.mask_ws is None
    assert dragged.is_edited
    assert not session.is_edited


def test_a_handle_clicked_later_belongs_to_the_later_picture(session):
    dragged = session.add_pair((1, 1), (9, 9)).commit(latent(1), np.array([[4, 5]], np.float32))
    dragged = dragged.click((6, 6)).click((7, 7))
    given = dragged.drag_arguments()
    assert given.reference_handles.tolist() == [[1, 1], [6, 6]]
    assert given.reference_ws[:, 0, 0].tolist() == [0, 1]


def test_points_of_a_canvas_keep_their_origins(session):
    dragged = session.add_pair((1, 1), (9, 9)).commit(latent(1), np.array([[4.25, 5]], np.float32))
    # The handle stands where the drag left it; its target was moved; another pair was added before it.
    after = dragged.with_points([((2, 2), (3, 3)), ((4.25, 5), (8, 8))])
    assert [pair.origin for pair in after.pairs] == [(2, 2), (1, 1)]
    assert after.pairs[1].target == (8, 8)
    assert after.pairs[1].origin_ws is dragged.pairs[0].origin_ws
    # Moved by hand: another handle, held from now on where it is now.
    moved = dragged.with_points([((4, 5), (9, 9))])
    assert moved.pairs[0].origin == (4, 5)
    assert (moved.pairs[0].origin_ws == 1).all()


def test_unchanged_points_of_a_canvas_are_no_step(session):
    there = session.add_pair((1, 1), (2, 2)).click((3, 3))
    assert there.with_points([((1, 1), (2, 2))], pending=(3, 3)) is there


def test_two_handles_on_one_spot_stay_two(session):
    there = session.add_pair((1, 1), (2, 2)).add_pair((1, 1), (3, 3))
    again = there.with_points([((1, 1), (2, 2)), ((1, 1), (4, 4))])
    assert points(again) == [((1, 1), (2, 2)), ((1, 1), (4, 4))]


def test_nothing_to_drag_is_said(session):
    with pytest.raises(PointError, match="click a point of the picture"):
        session.drag_arguments()
    with pytest.raises(PointError, match="point 2 has no target yet"):
        session.add_pair((1, 1), (2, 2)).click((3, 3)).drag_arguments()


def test_mask(session):
    painted = session.set_mask(mask())
    assert (painted.mask == mask()).all()
    assert painted.now.mask_ws is session.ws
    assert painted.set_mask(mask()) is painted
    assert painted.set_mask(None).mask is None
    assert painted.set_mask(np.zeros((HEIGHT, WIDTH), bool)).mask is None
    assert session.clear_mask() is session
    dragged = painted.add_pair((1, 1), (2, 2)).commit(latent(1), np.array([[2, 2]]))
    assert (dragged.drag_arguments().mask_ws == 0).all(), "the mask protects the picture it was painted on"
    assert (dragged.set_mask(mask(slice(0, 9))).drag_arguments().mask_ws == 1).all()


@pytest.mark.parametrize("bad", [np.zeros((WIDTH, HEIGHT), bool), np.zeros((HEIGHT, WIDTH), np.uint8)])
def test_a_mask_that_does_not_fit_is_refused(session, bad):
    with pytest.raises(MaskError, match=r"it must be bool \[24, 32\]"):
        session.set_mask(bad)


def test_nobody_can_write_to_what_sessions_share(session):
    m = mask()
    painted = session.set_mask(m)
    m[:] = False
    assert painted.mask.any()
    for array in (painted.mask, session.ws, session.start):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_undo_and_redo(session):
    a = session.add_pair((1, 1), (2, 2))
    b = a.commit(latent(1), np.array([[2, 2]]))
    c = b.click((3, 3))
    assert not session.can_undo
    assert c.can_undo
    assert not c.can_redo
    assert c.undo().now is b.now
    assert c.undo().undo().now is a.now
    assert not c.undo().undo().is_edited
    assert c.undo().undo().redo().now is b.now
    assert c.undo().undo().redo().redo().now is c.now
    assert not c.undo().click((4, 4)).can_redo, "another step forgets what was taken back"
    assert session.undo() is session
    assert session.redo() is session


def test_reset_goes_back_to_the_start_and_can_be_undone(session):
    dragged = session.set_mask(mask()).add_pair((1, 1), (9, 9)).commit(latent(1), np.array([[4, 5]]))
    later = dragged.add_pair((6, 6), (7, 7))
    reset = later.reset()
    assert reset.ws is session.start
    assert not reset.is_edited
    assert points(reset) == [((1, 1), (9, 9)), ((6, 6), (7, 7))]
    assert (reset.drag_arguments().reference_ws == 0).all(), "all handles hold what is in the starting picture"
    assert (reset.mask == mask()).all()
    assert reset.undo().now is later.now


def test_a_pull_is_a_drag_without_points(session):
    there = session.add_pair((1, 1), (9, 9)).set_mask(mask())
    pulled = there.pulled(latent(1))
    assert (pulled.pairs, pulled.pending, pulled.is_edited) == ((), None, True)
    assert (pulled.mask == mask()).all()
    assert pulled.undo().now is there.now
    with pytest.raises(LatentError, match="cannot end"):
        there.pulled(np.zeros((1, 9, 3)))


def test_a_film_leads_to_what_is_on_the_screen(session):
    def shown(session: Session) -> list[float]:
        return [ws[0, 0, 0] for ws in session.film]

    assert shown(session) == []
    dragged = session.add_pair((1, 1), (9, 9)).commit(latent(3), np.array([[8, 8]]), [latent(1), latent(2)])
    assert shown(dragged) == [0, 1, 2, 3]
    assert shown(dragged.clear_points()) == [0, 1, 2, 3]
    assert shown(dragged.undo()) == []
    assert shown(dragged.undo().redo()) == [0, 1, 2, 3]
    # One drag after the other, whatever was clicked between them; another picture and Reset begin anew.
    pulled = dragged.clear_points().click((3, 3)).pulled(latent(5), [latent(4)])
    assert shown(pulled) == [0, 1, 2, 3, 4, 5]
    assert shown(pulled.undo()) == [0, 1, 2, 3]
    assert shown(pulled.with_latent(latent(7), seed=8)) == []
    assert shown(pulled.with_latent(latent(7), seed=8).undo()) == [0, 1, 2, 3, 4, 5]
    assert shown(pulled.reset()) == []
    assert shown(pulled.reset().pulled(latent(6))) == [0, 6]
    assert pulled.film[-1] is pulled.ws


def test_a_film_is_bounded_and_what_is_long_ago_goes_first(session):
    for k in range(30):
        session = session.pulled(latent(k + 1), [latent(k + 0.5)] * 32).click((1, 1)).remove_last()
    assert len(session.film) < 250
    assert [ws[0, 0, 0] for ws in session.film[:4]] == [0, 1, 2, 3]
    assert [ws[0, 0, 0] for ws in session.film[-34:]] == [29] + [29.5] * 32 + [30]
    undone = session
    for _ in range(3):
        undone = undone.undo()
    assert undone.ws[0, 0, 0] == 29


def test_what_a_page_is_given_is_counted_whatever_is_undone(session):
    given = session.click((1, 1)).given()
    assert (session.revision, given.revision, given.undo().revision) == (0, 1, 1)
    assert given.undo().given().redo().with_latent(latent(7), seed=8).revision == 2
    # What was sent before that belongs to the page's past; with the next values it is given, that is over.
    assert given.overtake().undo().overtaken
    assert not given.overtake().given().overtaken


def test_history_is_bounded(session):
    for i in range(1000):
        session = session.click((i % WIDTH, 0))
    assert 100 <= len(session.past) < 1000


def test_another_picture_takes_nothing_along_but_the_space_and_undo_brings_all_back(session):
    busy = session.set_space("w").add_pair((1, 1), (2, 2)).set_mask(mask())
    after = busy.with_latent(latent(2), seed=8, truncation=0.5)
    assert (after.seed, after.truncation, after.space, after.model) == (8, 0.5, "w", "cat")
    assert not after.pairs
    assert after.mask is None
    assert not after.is_touched
    back = after.undo()
    assert back.now is busy.now
    assert (back.seed, back.truncation) == (7, 0.7)
    assert back.redo().now is after.now
    other = busy.with_model("car", (8, 8), np.zeros((1, 2, 5)))
    assert (other.model, other.image_size, other.ws.shape, other.space) == ("car", (8, 8), (1, 2, 5), "w")
    assert (other.undo().model, other.undo().image_size) == ("cat", (HEIGHT, WIDTH))
    assert other.undo().now is busy.now
    ready = busy.with_latent(latent(3), seed=9, pairs=[((1, 2), (3, 4))])
    assert points(ready) == [((1, 2), (3, 4))]
    assert ready.undo().now is busy.now
    with pytest.raises(PointError, match="outside"):
        busy.with_latent(latent(3), seed=9, pairs=[((1, 2), (3, 400))])


def test_the_way_from_one_truncation_to_another_is_one_step(session):
    dragged = session.add_pair((1, 1), (2, 2)).commit(latent(1), np.array([[2, 2]]))
    a = dragged.with_latent(latent(2), seed=7, truncation=0.6)
    b = a.with_latent(latent(3), seed=7, truncation=0.5)
    c = b.with_latent(latent(4), seed=7, truncation=0.4)
    assert (c.truncation, c.undo().now) == (0.4, dragged.now)
    # What was done on the way is kept, and so is every seed.
    touched = b.add_pair((3, 3), (4, 4))
    assert touched.with_latent(latent(4), seed=7, truncation=0.4).undo().now is touched.now
    assert touched.clear_points().with_latent(latent(4), seed=7, truncation=0.4).undo().now.picture is touched.picture
    other = c.with_latent(latent(5), seed=8, truncation=0.4)
    assert other.with_latent(latent(6), seed=9, truncation=0.4).undo().now is other.now
    assert other.with_latent(latent(6), seed=8, truncation=0.4).undo().now is other.now


def test_wrong_latents_are_refused(session):
    with pytest.raises(LatentError, match=r"takes \[1, 4, 3\]"):
        session.with_latent(np.zeros((1, 5, 3)))
    with pytest.raises(LatentError, match="not finite"):
        session.with_latent(latent(float("nan")))
    with pytest.raises(LatentError, match="give \\[1, num_ws, w_dim\\]"):
        Session.begin("cat", (8, 8), np.zeros((2, 4, 3)))
    with pytest.raises(PointError, match="there are 0 handles"):
        session.commit(latent(), np.zeros((1, 2)))


def test_copies_and_pickles(session):
    full = session.add_pair((1, 1), (2, 2)).set_mask(mask())
    for twin in (copy.deepcopy(full), pickle.loads(pickle.dumps(full))):
        assert points(twin) == points(full)
        assert (twin.mask == full.mask).all()
        assert (twin.ws == full.ws).all()


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["click", "pair", "last", "clear", "drag", "reset", "mask"]), st.integers(0, 23))
    )
)
def test_undo_takes_any_history_back_step_by_step(steps):
    session = Session.begin("cat", (HEIGHT, WIDTH), latent())
    seen = [session.now]
    for act, n in steps:
        after = {
            "click": lambda s, n=n: s.click((n, n)),
            "pair": lambda s, n=n: s.add_pair((n, 0), (0, n)),
            "last": lambda s: s.remove_last(),
            "clear": lambda s: s.clear_points(),
            "drag": lambda s, n=n: s.commit(latent(n), np.full((len(s.pairs), 2), n, np.float32)),
            "reset": lambda s: s.reset(),
            "mask": lambda s, n=n: s.set_mask(mask(slice(0, n))),
        }[act](session)
        if after is not session:
            seen.append(after.now)
        session = after
    for moment in reversed(seen):
        assert session.now is moment
        session = session.undo()
    for moment in seen[1:]:
        session = session.redo()
        assert session.now is moment
    assert not session.can_redo
