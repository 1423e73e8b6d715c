"""What a person does, as values: every transition has a known answer and leaves the old session as it was."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draggan.errors import LatentError, MaskError, PointError
from draggan.recipe import Edit, Recipe
from draggan.session import Session
from tests.sessions import Hand, recipe_of

HEIGHT, WIDTH = 24, 32


def latent(value: float = 0.0) -> np.ndarray:
    return np.full((1, 4, 3), value, np.float32)


@pytest.fixture
def session() -> Hand:
    return Hand.of(recipe_of("cat", (HEIGHT, WIDTH), latent(), seed=7, truncation=0.7))


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


def test_a_drag_moves_handles_and_keeps_targets_and_origins(session):
    dragged = session.add_pair((1, 1), (9, 9)).drag_to(latent(1), np.array([[4, 5]], np.float32))
    (pair,) = dragged.pairs
    assert (pair.handle, pair.target, pair.origin) == ((4, 5), (9, 9), (1, 1))
    edit = dragged.edit()
    assert dragged.recipe.latent is dragged.ws
    assert (dragged.ws == 1).all()
    assert [point.handle for point in edit.points] == [(4, 5)]
    assert [point.target for point in edit.points] == [(9, 9)]
    assert [point.origin for point in edit.points] == [(1, 1)]
    assert [point.picture for point in edit.points] == [0]
    assert (dragged.recipe.results[0] == 0).all()
    assert edit.mask is None
    assert dragged.is_edited
    assert not session.is_edited


def test_a_handle_clicked_later_belongs_to_the_later_picture(session):
    dragged = session.add_pair((1, 1), (9, 9)).drag_to(latent(1), np.array([[4, 5]], np.float32))
    dragged = dragged.click((6, 6)).click((7, 7))
    points = dragged.edit().points
    assert [point.origin for point in points] == [(1, 1), (6, 6)]
    assert [dragged.recipe.results[point.picture][0, 0, 0] for point in points] == [0, 1]


def test_a_hand_takes_hold_of_the_picture_on_the_screen(session):
    dragged = session.set_mask(mask()).add_pair((1, 1), (9, 9)).drag_to(latent(1), np.array([[4, 5]], np.float32))
    edit = dragged.set_space("w").set_settings({"r1": 5}).live_edit((6, 7))
    (point,) = edit.points
    assert (point.handle, point.target, point.origin, point.picture) == ((6, 7), (6, 7), (6, 7), 1)
    assert (edit.space, edit.settings, edit.mask.picture) == ("w", {"r1": 5.0}, 0)
    with pytest.raises(PointError, match="outside the picture"):
        dragged.live_edit((99, 7))


def test_points_of_a_canvas_keep_their_origins(session):
    dragged = session.add_pair((1, 1), (9, 9)).drag_to(latent(1), np.array([[4.25, 5]], np.float32))
    # The handle stands where the drag left it; its target was moved; another pair was added before it.
    after = dragged.with_points([((2, 2), (3, 3)), ((4.25, 5), (8, 8))])
    assert [pair.origin for pair in after.pairs] == [(2, 2), (1, 1)]
    assert after.pairs[1].target == (8, 8)
    assert after.pairs[1].picture == dragged.pairs[0].picture == 0
    # Moved by hand: another handle, held from now on where it is now.
    moved = dragged.with_points([((4, 5), (9, 9))])
    assert moved.pairs[0].origin == (4, 5)
    assert (moved.recipe.results[moved.pairs[0].picture] == 1).all()


def test_unchanged_points_of_a_canvas_are_no_step(session):
    there = session.add_pair((1, 1), (2, 2)).click((3, 3))
    assert there.with_points([((1, 1), (2, 2))], pending=(3, 3)) is there


def test_two_handles_on_one_spot_stay_two(session):
    there = session.add_pair((1, 1), (2, 2)).add_pair((1, 1), (3, 3))
    again = there.with_points([((1, 1), (2, 2)), ((1, 1), (4, 4))])
    assert points(again) == [((1, 1), (2, 2)), ((1, 1), (4, 4))]


def test_points_that_are_off_are_not_dragged_and_hold_afterwards_what_is_under_them(session):
    three = [((1, 1), (9, 9)), ((2, 2), (3, 3)), ((4, 4), (5, 5))]
    there = session.with_points(three, off=[1])
    assert there.with_points(three, off=[1]) is there
    assert there.active_numbers == (0, 2)
    assert [point.handle for point in there.edit().points] == [(1, 1), (4, 4)]
    after = there.drag_to(latent(1), np.array([[6, 7], [4, 5]], np.float32))
    assert [pair.handle for pair in after.pairs] == [(6, 7), (2, 2), (4, 5)]
    assert [(pair.origin, pair.picture) for pair in after.pairs] == [((1, 1), 0), ((2, 2), 1), ((4, 4), 0)]
    assert after.off == {1}
    assert after.undo().pairs == there.pairs
    # Pulled by hand, by the last of them.
    assert [point.target for point in after.live_edit((8, 8), 2).points] == [(9, 9), (8, 8)]
    with pytest.raises(PointError, match="point 2 is switched off"):
        after.live_edit((8, 8), 1)
    recipe = after.recipe.then(after.live_edit((8, 8), 2), latent(2))
    pulled = after.pulled_by_pair(recipe, np.array([[6, 6], [7, 7]]), np.array([[9, 9], [8, 8]]))
    assert [pair.target for pair in pulled.pairs] == [(9, 9), (3, 3), (8, 8)]
    assert pulled.pairs[1].picture == 2
    # A step of history like any other; without a point that is on, there is nothing to drag.
    none = there.with_points(three, off=[0, 1, 2])
    with pytest.raises(PointError, match="every point is switched off"):
        none.edit()
    assert none.undo().off == {1}
    assert none.remove_last().off == {0, 1}
    assert none.clear_points().off == none.pulled(recipe).off == frozenset()
    with pytest.raises(PointError, match="no point 4 to switch off; there are 3"):
        session.with_points(three, off=[3])


def test_nothing_to_drag_is_said(session):
    with pytest.raises(PointError, match="click a point in the picture"):
        session.edit()
    with pytest.raises(PointError, match="point 2 has no target yet"):
        session.add_pair((1, 1), (2, 2)).click((3, 3)).edit()


def test_mask(session):
    painted = session.set_mask(mask())
    assert (painted.mask == mask()).all()
    assert painted.recipe.results[painted.now.mask.picture] is session.ws
    assert painted.set_mask(mask()) is painted
    assert painted.set_mask(None).mask is None
    assert painted.set_mask(np.zeros((HEIGHT, WIDTH), bool)).mask is None
    assert session.clear_mask() is session
    dragged = painted.add_pair((1, 1), (2, 2)).drag_to(latent(1), np.array([[2, 2]]))
    kept = dragged.recipe.results[dragged.edit().mask.picture]
    assert (kept == 0).all(), "the mask protects the picture it was painted on"
    kept = dragged.recipe.results[dragged.set_mask(mask(slice(0, 9))).edit().mask.picture]
    assert (kept == 1).all()


@pytest.mark.parametrize("bad", [np.zeros((WIDTH, HEIGHT), bool), np.zeros((HEIGHT, WIDTH), np.uint8)])
def test_a_mask_that_does_not_fit_is_refused(session, bad):
    with pytest.raises(MaskError, match=r"it must be bool \[24, 32\]"):
        session.set_mask(bad)


def test_nobody_can_write_to_what_sessions_share(session):
    m = mask()
    painted = session.set_mask(m)
    m[:] = False
    assert painted.mask.any()
    for array in (painted.mask, session.ws, session.start.latent):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_undo_and_redo(session):
    a = session.add_pair((1, 1), (2, 2))
    b = a.drag_to(latent(1), np.array([[2, 2]]))
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
    dragged = session.set_mask(mask()).add_pair((1, 1), (9, 9)).drag_to(latent(1), np.array([[4, 5]]))
    later = dragged.add_pair((6, 6), (7, 7))
    reset = later.reset()
    assert reset.ws is session.start.latent
    assert not reset.is_edited
    assert points(reset) == [((1, 1), (9, 9)), ((6, 6), (7, 7))]
    held = [reset.recipe.results[point.picture] for point in reset.edit().points]
    assert all((ws == 0).all() for ws in held), "all handles hold what is in the starting picture"
    assert (reset.mask == mask()).all()
    assert reset.undo().now is later.now


def test_a_pull_is_a_drag_without_points(session):
    there = session.add_pair((1, 1), (9, 9)).set_mask(mask())
    pulled = there.pull_to(latent(1))
    assert (pulled.pairs, pulled.pending, pulled.is_edited) == ((), None, True)
    assert (pulled.mask == mask()).all()
    assert pulled.undo().now is there.now
    with pytest.raises(LatentError, match="different shapes"):
        there.pull_to(np.zeros((1, 9, 3), np.float32))


def test_frames_lead_to_what_is_on_the_screen(session):
    def shown(session: Session) -> list[float]:
        return [ws[0, 0, 0] for _, ws in session.frames]

    assert shown(session) == []
    dragged = session.add_pair((1, 1), (9, 9)).drag_to(latent(3), np.array([[8, 8]]), [latent(1), latent(2)])
    assert shown(dragged) == [0, 1, 2, 3]
    assert shown(dragged.clear_points()) == [0, 1, 2, 3]
    assert shown(dragged.undo()) == []
    assert shown(dragged.undo().redo()) == [0, 1, 2, 3]
    # One drag after the other, whatever was clicked between them; another picture and Reset begin anew.
    pulled = dragged.clear_points().click((3, 3)).pull_to(latent(5), [latent(4)])
    assert shown(pulled) == [0, 1, 2, 3, 4, 5]
    assert shown(pulled.undo()) == [0, 1, 2, 3]
    assert shown(pulled.with_seed(latent(7), seed=8)) == []
    assert shown(pulled.with_seed(latent(7), seed=8).undo()) == [0, 1, 2, 3, 4, 5]
    assert shown(pulled.reset()) == []
    assert shown(pulled.reset().pull_to(latent(6))) == [0, 6]
    assert pulled.frames[-1][1] is pulled.ws
    assert pulled.frames[-1][0] is pulled.recipe


def test_work_goes_on_from_any_frame(session):
    def shown(session: Session) -> list[float]:
        return [ws[0, 0, 0] for _, ws in session.frames]

    dragged = session.add_pair((1, 1), (9, 9)).drag_to(latent(3), np.array([[8, 8]]), [latent(1), latent(2)])
    pulled = dragged.clear_points().pull_to(latent(6), [latent(4), latent(5)])
    there = pulled.from_frame(4)
    assert shown(pulled)[4] == there.ws[0, 0, 0] == 4
    assert shown(there) == [0, 1, 2, 3, 4]
    assert there.pairs == ()
    assert there.undo().now is pulled.now
    assert Recipe.from_json(there.recipe.to_json(results=False)).latent[0, 0, 0] == 4, "the recipe leads there"
    back = there.from_frame(2)
    assert shown(back) == [0, 1, 2]
    assert shown(back.pull_to(latent(7))) == [0, 1, 2, 7]
    assert shown(pulled.from_frame(3)) == [0, 1, 2, 3]
    assert pulled.from_frame(3).recipe is dragged.recipe
    assert pulled.from_frame(0).recipe is session.start
    with pytest.raises(LatentError, match="there is no frame 7; the drags so far have 7"):
        pulled.from_frame(7)


def test_frames_are_bounded_and_what_is_long_ago_goes_first(session):
    for k in range(30):
        session = session.pull_to(latent(k + 1), [latent(k + 0.5)] * 32).click((1, 1)).remove_last()
    assert len(session.frames) < 250
    assert [ws[0, 0, 0] for _, ws in session.frames[:4]] == [0, 1, 2, 3]
    assert [ws[0, 0, 0] for _, ws in session.frames[-34:]] == [29] + [29.5] * 32 + [30]
    undone = session
    for _ in range(3):
        undone = undone.undo()
    assert undone.ws[0, 0, 0] == 29


def test_what_a_page_is_given_is_counted_whatever_is_undone(session):
    sent = session.click((1, 1)).sent_to_page()
    assert (session.revision, sent.revision, sent.undo().revision) == (0, 1, 1)
    assert sent.undo().sent_to_page().redo().with_seed(latent(7), seed=8).revision == 2
    # What was sent before that belongs to the page's past; with the next values it gets, that is over.
    assert sent.mark_page_outdated().undo().page_outdated
    assert not sent.mark_page_outdated().sent_to_page().page_outdated


def test_history_is_bounded(session):
    for i in range(1000):
        session = session.click((i % WIDTH, 0))
    assert 100 <= len(session.past) < 1000


def test_another_picture_takes_nothing_along_but_the_space_and_undo_brings_all_back(session):
    busy = session.set_space("w").add_pair((1, 1), (2, 2)).set_mask(mask())
    after = busy.with_seed(latent(2), seed=8, truncation=0.5)
    assert (after.seed, after.truncation, after.space, after.model) == (8, 0.5, "w", "cat")
    assert not after.pairs
    assert after.mask is None
    assert not after.is_touched
    back = after.undo()
    assert back.now is busy.now
    assert (back.seed, back.truncation) == (7, 0.7)
    assert back.redo().now is after.now
    other = busy.with_picture(recipe_of("car", (8, 8), np.zeros((1, 2, 5), np.float32)))
    assert (other.model, other.image_size, other.ws.shape, other.space) == ("car", (8, 8), (1, 2, 5), "w")
    assert (other.undo().model, other.undo().image_size) == ("cat", (HEIGHT, WIDTH))
    assert other.undo().now is busy.now
    ready = busy.with_seed(latent(3), seed=9, pairs=[((1, 2), (3, 4))])
    assert points(ready) == [((1, 2), (3, 4))]
    assert ready.undo().now is busy.now
    with pytest.raises(PointError, match="outside"):
        busy.with_seed(latent(3), seed=9, pairs=[((1, 2), (3, 400))])


def test_the_way_from_one_truncation_to_another_is_one_step(session):
    dragged = session.add_pair((1, 1), (2, 2)).drag_to(latent(1), np.array([[2, 2]]))
    a = dragged.with_seed(latent(2), seed=7, truncation=0.6)
    b = a.with_seed(latent(3), seed=7, truncation=0.5)
    c = b.with_seed(latent(4), seed=7, truncation=0.4)
    assert (c.truncation, c.undo().now) == (0.4, dragged.now)
    # What was done on the way is kept, and so is every seed.
    touched = b.add_pair((3, 3), (4, 4))
    assert touched.with_seed(latent(4), seed=7, truncation=0.4).undo().now is touched.now
    assert touched.clear_points().with_seed(latent(4), seed=7, truncation=0.4).undo().now.start is touched.start
    # What was done at one of them is not on the way: it stays, and so does what it was done at.
    done = c.shown_as(2).pull_to(latent(9)).shown_as(3).undo()
    assert done.with_seed(latent(6), seed=7, truncation=0.3).pictures == ((2, "past"), (3, "branch"))
    other = c.with_seed(latent(5), seed=8, truncation=0.4)
    assert other.with_seed(latent(6), seed=9, truncation=0.4).undo().now is other.now
    assert other.with_seed(latent(6), seed=8, truncation=0.4).undo().now is other.now


def test_wrong_latents_are_refused(session):
    pulled = session.recipe.then(Edit(), latent())
    with pytest.raises(LatentError, match="different shapes"):
        session.pulled(session.recipe.then(Edit(), np.zeros((1, 5, 3), np.float32)))
    with pytest.raises(LatentError, match="cannot end"):
        session.pulled(recipe_of("cat", (HEIGHT, WIDTH), np.zeros((1, 5, 3), np.float32)))
    with pytest.raises(LatentError, match="not finite"):
        session.pull_to(latent(float("nan")))
    with pytest.raises(LatentError, match="give \\[1, num_ws, w_dim\\]"):
        recipe_of("cat", (8, 8), np.zeros((2, 4, 3), np.float32))
    with pytest.raises(LatentError, match="let an engine complete it first"):
        session.pulled(pulled.with_results([None, latent()]))
    with pytest.raises(PointError, match="there are 0 handles"):
        session.dragged(pulled, np.zeros((1, 2)))


def test_a_session_begins_with_any_recipe_that_is_complete(session):
    worked = session.add_pair((1, 1), (9, 9)).drag_to(latent(1), np.array([[4, 5]]))
    again = Session.of(worked.recipe)
    assert (again.ws == 1).all()
    assert again.is_edited
    assert again.start == session.recipe
    assert (again.reset().ws == 0).all()
    assert not again.can_undo
    with pytest.raises(LatentError, match="let an engine complete it first"):
        Session.of(worked.recipe.with_results([]))


def test_a_recipe_that_can_have_no_more_edits_begins_anew(session):
    for k in range(501):
        session = session.add_pair((1, 1), (2, 2)).drag_to(latent(k + 1), np.array([[2, 2]])).clear_points()
    session = session.add_pair((3, 3), (4, 4))
    assert len(session.recipe.edits) == 1
    assert (session.ws == 501).all()
    assert (session.recipe.up_to(0).latent == 500).all()
    assert [point.picture for point in session.edit().points] == [1]
    assert (session.reset().ws == 0).all()
    assert len(session.frames) > 50


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
    session = Hand.of(recipe_of("cat", (HEIGHT, WIDTH), latent()))
    seen = [session.now]
    for act, n in steps:
        after = {
            "click": lambda s, n=n: s.click((n, n)),
            "pair": lambda s, n=n: s.add_pair((n, 0), (0, n)),
            "last": lambda s: s.remove_last(),
            "clear": lambda s: s.clear_points(),
            "drag": lambda s, n=n: s.drag_to(latent(n), np.full((len(s.pairs), 2), n, np.float32)),
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


def test_pictures_of_a_history_stay_reachable_also_where_another_way_was_taken(session):
    def pulled(session: Hand, value: float, number: int) -> Hand:
        return session.pull_to(latent(value)).shown_as(number)

    there = pulled(pulled(session.shown_as(1), 1, 2), 2, 3)
    assert there.shown_as(9) is there, "a picture keeps its number"
    assert there.pictures == ((1, "past"), (2, "past"), (3, "now"))
    undone = there.undo().undo()
    assert undone.pictures == ((1, "now"), (2, "ahead"), (3, "ahead"))
    assert undone.go_to(3).now is there.now
    assert undone.go_to(3).go_to(1).now is undone.now
    other = pulled(undone, 5, 4)
    assert other.pictures == ((1, "past"), (4, "now"), (2, "branch"), (3, "branch"))
    assert not other.can_redo
    back = other.go_to(3)
    assert back.recipe is there.recipe
    assert back.pictures == ((1, "past"), (4, "past"), (3, "now"), (2, "branch"))
    assert back.undo().now is other.now
    # Each comes from the one that its drag began with, or from the nearest one before it that is left.
    assert back.origins == {2: 1, 3: 2, 4: 1}
    assert back.without_picture(2).origins == {3: 1, 4: 1}
    assert back.without_picture(2).without_picture(1).origins == {}
    # Points are no pictures of their own; a reset is the first one again.
    assert back.add_pair((1, 1), (2, 2)).pictures == back.pictures
    assert dict(back.reset().pictures)[1] == "now"
    assert back.without(lambda model: True).pictures == ((3, "now"),)
    for wrong in (0, 9):
        with pytest.raises(LatentError, match="there is no picture"):
            other.go_to(wrong)
    # What was undone is there again from a branch, too.
    assert other.undo().go_to(3).pictures == ((1, "past"), (3, "now"), (2, "branch"), (4, "branch"))
    full = other.undo()
    for number in range(10, 40):
        full = pulled(full, number, number).undo()
    oldest = full.branches[0].seen
    assert set(dict(full.pictures)) == set(dict(full.go_to(oldest).pictures)), "the place of one is another's"


def test_branches_of_other_work_come_along_under_numbers_of_their_own(session):
    there = session.shown_as(1).with_picture(another(1)).shown_as(2).undo().with_picture(another(2)).shown_as(3)
    both = there.with_session(there)
    assert [kind for _, kind in both.pictures].count("branch") == 2
    (first, second) = [number for number, kind in both.pictures if kind == "branch"]
    assert both.moment_of(first).recipe is both.moment_of(second).recipe
    assert both.go_to(second).recipe is there.moment_of(2).recipe
    # And so does all the rest of it: what it had undone is on a branch when something else is done.
    both = session.shown_as(1).with_session(there.undo())
    assert both.pictures == ((1, "past"), (2, "now"), (4, "ahead"), (3, "branch"))
    assert dict(both.pull_to(latent(9)).shown_as(5).pictures)[4] == "branch"


def another(seed: int) -> Recipe:
    return recipe_of("cat", (HEIGHT, WIDTH), latent(seed), seed=seed, truncation=0.7)


def test_a_picture_of_the_history_can_be_deleted_but_not_the_one_that_is_shown(session):
    third = session.shown_as(1).with_picture(another(1)).shown_as(2).with_picture(another(2)).shown_as(3)
    without = third.without_picture(2)
    assert dict(without.pictures) == {1: "past", 3: "now"}
    assert without.go_to(1).now.seen == 1
    assert dict(third.undo().without_picture(3).pictures) == {1: "past", 2: "now"}
    branched = third.undo().with_picture(another(4)).shown_as(4)
    assert dict(branched.pictures)[3] == "branch"
    assert 3 not in dict(branched.without_picture(3).pictures)
    for number in (3, 9):
        with pytest.raises(LatentError, match="cannot be deleted"):
            third.without_picture(number)


def test_undo_puts_a_deleted_picture_back_where_it_was_and_redo_deletes_it_again(session):
    second = session.shown_as(1).with_picture(another(1)).shown_as(2)
    third = second.add_pair((1, 1), (2, 2)).with_picture(another(2)).shown_as(3).with_picture(another(3)).shown_as(4)
    there = third.undo()
    for number in (1, 2, 4):
        gone = there.without_picture(number)
        assert number not in dict(gone.pictures)
        assert gone.can_undo
        back = gone.undo()
        assert back.pictures == there.pictures
        assert [*map(id, back.past)] == [*map(id, there.past)]
        assert [*map(id, back.future)] == [*map(id, there.future)]
        assert back.redo().pictures == gone.pictures, "deleted once more"
        assert back.redo().undo().pictures == there.pictures
    # Several, one after the other; and what was done after them comes first.
    both = there.without_picture(2).without_picture(1)
    later = both.add_pair((3, 3), (4, 4))
    assert later.undo().pairs == there.pairs
    assert 1 not in dict(later.undo().pictures)
    back = later.undo().undo().undo()
    assert not back.deletions
    assert dict(back.pictures) == {1: "past", 2: "past", 3: "now", 4: "branch"}
    # Where something else is to be redone by now, what was undone comes back as a branch.
    other = there.without_picture(4).with_picture(another(5)).shown_as(5).undo()
    assert dict(other.undo().pictures) == {1: "past", 2: "past", 3: "now", 4: "branch", 5: "ahead"}
    # On the way through the history it stays deleted, and no other picture gets its number.
    assert 2 not in dict(there.without_picture(2).go_to(1).pictures)
    assert there.without_picture(4).with_picture(another(6)).shown_as(1).now.seen == 5
    assert there.without_picture(2).go_to(1).go_to(3).undo().pictures == there.pictures
    # A picture that is shown, or gone, is not deleted once more: then redo does what it does otherwise.
    twice = session.shown_as(1).with_work(session.recipe).shown_as(2).without_picture(1).undo().go_to(1)
    assert twice.redo().now.seen == 2
    # What another way has left comes back as it was.
    left = second.undo().with_picture(another(7)).shown_as(8)
    assert left.without_picture(2).undo().pictures == left.pictures


def test_a_picture_that_is_chosen_once_more_is_the_one_that_is_known(session):
    first = session.with_picture(another(1)).shown_as(1)
    again = first.with_picture(another(2)).shown_as(2).with_picture(another(1), [((1, 1), (2, 2))])
    assert again.shown_as(9).pictures == ((1, "now"), (2, "past"))
    assert again.pull_to(latent(5)).shown_as(9).origins == {9: 1}


def test_a_number_that_another_picture_has_is_passed_over(session):
    """The server has started anew, and counts from the beginning."""
    assert session.shown_as(57).with_picture(another(1)).shown_as(2).now.seen == 58
