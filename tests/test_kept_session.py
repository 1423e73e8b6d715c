"""A session taken apart for a browser to keep, and put together again from what comes back."""

from __future__ import annotations

import base64
import json
import time
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draggan.errors import DragGANError
from draggan.kept_session import BUDGET, pieces_of, read_session
from draggan.recipe import MOST_EDITS, Edit, ModelReference
from draggan.session import MOST_MOMENTS, Session
from tests.sessions import Hand, recipe_of

SIZE = (24, 32)
_numbers = np.random.default_rng(0)


def latent(rows: int = 3) -> np.ndarray:
    return _numbers.standard_normal((1, rows, 8)).astype(np.float32)


def begun(model: str = "cat", seed: int | None = 7) -> Hand:
    return Hand.of(recipe_of(model, SIZE, latent(), seed, 0.7))


def same(a: Session, b: Session) -> None:
    """Two sessions are alike in everything that can be seen of them, now and after undo and redo."""
    assert [s.space for s in (a, b)] == [a.space] * 2
    assert dict(a.settings) == dict(b.settings)
    assert (a.opened, a.revision, a.is_there) == (b.opened, b.revision, b.is_there)
    for mine, other in zip((*a.past, a.now, *a.future), (*b.past, b.now, *b.future), strict=True):
        assert mine.recipe == other.recipe
        assert mine.start == other.start
        assert (mine.recipe is mine.start) == (other.recipe is other.start)
        assert mine.pairs == other.pairs
        assert mine.off == other.off
        assert mine.pending == other.pending
        assert (mine.mask is None) == (other.mask is None)
        if mine.mask is not None:
            assert mine.mask.picture == other.mask.picture
            assert np.array_equal(mine.mask.allowed, other.mask.allowed)
        for x, y in zip((*mine.recipe.results, *mine.frames), (*other.recipe.results, *other.frames), strict=True):
            assert x.tobytes() == y.tobytes()
    assert [(recipe.digest, ws.tobytes()) for recipe, ws in a.frames] == [
        (recipe.digest, ws.tobytes()) for recipe, ws in b.frames
    ]


def there_and_back(session: Session) -> Session:
    return read_session(pieces_of(session).text())


COORDINATES = st.tuples(st.floats(0, SIZE[1] - 1), st.floats(0, SIZE[0] - 1))
STEPS = [
    "pair",
    "pending",
    "off",
    "mask",
    "clear",
    "drag",
    "arrive",
    "pull",
    "seed",
    "undo",
    "redo",
    "reset",
    "settings",
    "space",
    "opened",
    "page",
]


def worked(steps) -> Session:
    """A session after these steps of a hand, each with two places, a number and a text to go by."""
    session = begun()
    for step, (one, other), n, text in steps:
        if step == "pair":
            session = session.add_pair(one, other)
        elif step == "pending":
            session = session.with_points([(p.handle, p.target) for p in session.pairs], one)
        elif step == "off" and session.pairs:
            pairs = [(p.handle, p.target) for p in session.pairs]
            session = session.with_points(pairs, session.pending, [n % len(pairs)])
        elif step == "mask":
            session = session.set_mask(_numbers.random(SIZE) > (0.0, 0.5, 0.99)[n % 3])
        elif step == "clear":
            session = session.clear_points()
        elif step == "drag" and session.active_pairs:
            session = session.drag_to(
                latent(), np.array([one] * len(session.active_pairs)), [latent() for _ in range(n % 4)]
            )
        elif step == "arrive":
            session = session.with_arrived()
        elif step == "pull":
            session = session.pull_to(latent())
        elif step == "seed":
            session = session.with_seed(latent(), seed=n, truncation=n % 11 / 10, label=n % 3 or None)
        elif step in ("undo", "redo", "reset"):
            session = getattr(session, step)()
        elif step == "settings":
            session = session.set_settings({"max_steps": n % 500 + 1, "step_size": 0.01})
        elif step == "space":
            session = session.set_space(("w", "w+")[n % 2])
        elif step == "opened":
            session = session.with_opened(text, "cat-0123")
        elif step == "page":
            session = session.sent_to_page()
    return session


@settings(deadline=None, max_examples=40, database=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(STEPS), st.tuples(COORDINATES, COORDINATES), st.integers(0, 2**32 - 1), st.text(max_size=9)
        ),
        max_size=14,
    )
)
def test_a_session_comes_back_as_it_was(steps):
    session = worked(steps)
    back = there_and_back(session)
    same(session, back)
    # Named by what is in them: taken apart again they are the same pieces.
    assert sorted(pieces_of(back).names) == sorted(pieces_of(session).names)
    assert pieces_of(back).outline == pieces_of(session).outline


def test_after_a_step_only_what_is_new_travels():
    session = begun().add_pair((5, 5), (9, 9)).set_mask(np.eye(*SIZE) > 0)
    for _ in range(30):
        session = session.drag_to(latent(), np.array([[5.0, 5.0]]))
    there = pieces_of(session)
    more = session.drag_to(latent(), np.array([[6.0, 5.0]])).clear_points().undo()
    news = pieces_of(more, there=there.names)
    # Two moments, a picture, its latent; the edit says what the ones before it said.
    assert len(news.pieces) == 4
    assert set(news.names) >= set(there.names)
    joined = {**there.pieces, **news.pieces}
    outline = ",".join(f'"{name}":{joined[name]}' for name in news.names)
    same(more, read_session(f'{{"outline":{news.outline},"pieces":{{{outline}}}}}'))


def test_the_rows_that_are_alike_are_kept_once():
    ws = np.repeat(_numbers.standard_normal((1, 1, 512)).astype(np.float32), 18, 1)
    session = Hand.of(recipe_of("large", SIZE, ws, 7))
    assert len(pieces_of(session).text()) < 6000
    same(session, there_and_back(session))


def test_the_newest_is_kept_within_a_budget_and_frames_last():
    session = begun().add_pair((5, 5), (9, 9))
    for k in range(40):
        session = (
            session.drag_to(latent(64), np.array([[5.0 + k / 10, 5.0]]), [latent(64) for _ in range(3)])
            if k
            else (Hand.of(recipe_of("cat", SIZE, latent(64), 7)).add_pair((5, 5), (9, 9)))
        )
    for _ in range(5):
        session = session.undo()
    whole = pieces_of(session)
    assert len(whole.text()) < BUDGET
    alone = replaced(session, past=(), future=(), frames=())
    for more in (2000, 4000, 8000):
        budget = sum(len(piece) + 30 for piece in pieces_of(alone).pieces.values()) + more
        kept = pieces_of(session, budget=budget)
        assert sum(map(len, kept.pieces.values())) <= budget
        back = read_session(kept.text())
        same(replaced(back, past=(), future=(), frames=()), replaced(session, past=(), future=(), frames=()))
        n, m = len(back.past), len(back.future)
        assert n + m < len(session.past) + len(session.future)
        for mine, other in zip(back.past[::-1], session.past[::-1], strict=False):
            assert mine.recipe == other.recipe


def test_of_branches_the_newest_are_kept_within_a_budget():
    session = Hand.of(recipe_of("cat", SIZE, latent(64), 7)).shown_as(1)
    for number in range(2, 6):
        session = session.pull_to(latent(64)).shown_as(number).undo()
    session = replace(session, future=())
    assert [moment.seen for moment in session.branches] == [2, 3, 4]
    sizes = [len(pieces_of(replace(session, branches=session.branches[k:])).text()) for k in (2, 1)]
    back = read_session(pieces_of(session, budget=sum(sizes) // 2).text())
    assert [moment.seen for moment in back.branches] == [4]


def replaced(session: Session, *, past, future, frames) -> Session:
    return replace(session, past=past, future=future, now=replace(session.now, frames=frames))


def test_a_picture_with_a_way_too_long_to_be_kept_is_kept_as_a_start_of_its_own():
    session = begun().add_pair((5, 5), (9, 9)).set_mask(np.eye(*SIZE) > 0)
    for _ in range(60):
        session = session.drag_to(latent(), np.array([[6.0, 5.0]]))
    back = read_session(pieces_of(session, budget=2000).text())
    assert back.ws.tobytes() == session.ws.tobytes()
    assert [(p.handle, p.target) for p in back.pairs] == [((6.0, 5.0), (9.0, 9.0))]
    assert np.array_equal(back.mask, session.mask)
    assert not back.can_undo
    long = there_and_back(session)
    assert len(long.recipe.edits) == 60
    same(session, long)


def test_whatever_is_written_can_be_read(monkeypatch):
    """However long a history has become: by redo after other work was opened, and by frames, names and ways alike."""
    session = begun()
    for n in range(300):
        session = session.add_pair((1, 1), (2, 2)) if n % 2 == 0 else session.clear_points()
    other = begun()
    for n in range(150):
        other = other.add_pair((3, 3), (4, 4)) if n % 2 == 0 else other.clear_points()
    for _ in range(100):
        other = other.undo()
    session = session.with_session(other)
    for _ in range(100):
        session = session.redo()
    assert not session.future
    assert len(session.past) == MOST_MOMENTS
    same(session, there_and_back(session))
    for _ in range(MOST_MOMENTS):
        session = session.undo()
    assert there_and_back(session).can_redo
    # What an earlier version may have written.
    text = json.loads(pieces_of(session).text())
    text["outline"]["past"] = text["outline"]["future"] + text["outline"]["future"]
    assert len(read_session(json.dumps(text)).past) == MOST_MOMENTS

    shown = (
        session.clear_points()
        .add_pair((1, 1), (2, 2))
        .drag_to(latent(), np.array([(2, 2)]), [latent() for _ in range(4)])
    )
    for name in ("_MOST_FRAMES", "_MOST_OPENED", "_LONGEST_NAME"):
        monkeypatch.setattr(f"draggan.kept_session.{name}", 3)
    for title in ("abcd", "a", "b", "c", "d"):
        shown = shown.with_opened(title, title)
    back = there_and_back(shown)
    assert [title for title, _ in back.opened] == ["b", "c", "d"]
    assert not back.now.frames
    for name, most in (("_MOST_WORK", 24 * 3), ("MOST_VALUES", 9000), ("_MOST_NUMBERS", 80)):
        with monkeypatch.context() as changed:
            changed.setattr(f"draggan.kept_session.{name}", most)
            if name == "MOST_VALUES":
                changed.setattr(f"draggan.recipe.{name}", most)
            assert there_and_back(shown).recipe.digest == shown.recipe.digest


def test_history_ends_where_a_model_is_gone():
    session = begun("here").add_pair((5, 5), (9, 9)).with_picture(recipe_of("gone", SIZE, latent(), 3))
    session = session.with_picture(recipe_of("here", SIZE, latent(), 4)).clear_points()
    session = session.with_points([((1, 1), (2, 2))])
    left = session.without(lambda model: model.name == "gone")
    assert left.now is session.now
    assert [m.start.model.name for m in left.past] == ["here"]
    assert session.without(lambda model: False).past == session.past


def test_a_model_may_have_another_name_now():
    session = begun("mine-1234").add_pair((5, 5), (9, 9)).pull_to(latent())
    text = pieces_of(session).text()
    back = read_session(text, found=lambda model: ModelReference(name="mine-5678", sha256=model.sha256))
    assert {m.start.model.name for m in (*back.past, back.now)} == {"mine-5678"}
    assert {m.recipe.model.name for m in (*back.past, back.now)} == {"mine-5678"}


# ---- from outside --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept() -> dict:
    session = begun().add_pair((5, 5), (9, 9)).set_mask(np.eye(*SIZE) > 0)
    session = session.drag_to(latent(), np.array([[6.0, 5.0]]), [latent()]).undo()
    return json.loads(pieces_of(session).text())


def test_what_was_pulled_by_hand_is_told_from_a_drag_that_was_stopped():
    session = begun()
    for by_hand in (True, False):
        ws = latent()
        session = session.pulled(session.recipe.then(Edit(recorded=ws, by_hand=by_hand), ws))
    text = pieces_of(session).text()
    assert text.count('"by hand"') == 1, "pulls are written as they were before"
    assert [edit.by_hand for edit in read_session(text).recipe.edits] == [True, False]


def refused(values) -> str:
    text = values if isinstance(values, str) else json.dumps(values)
    started = time.perf_counter()
    with pytest.raises(DragGANError) as error:
        read_session(text)
    assert time.perf_counter() - started < 5
    said = str(error.value)
    assert 10 < len(said) < 400
    assert "\n" not in said
    return said


def changed(kept: dict, name: str, value, which=lambda piece: True) -> dict:
    """The same with another value of that name, in the first piece that has it, else in the outline."""
    values = json.loads(json.dumps(kept))
    for piece in values["pieces"].values():
        if name in piece and which(piece):
            piece[name] = value
            return values
    values["outline"][name] = value
    return values


HOSTILE = [
    "${6*7}",
    "<img src=x onerror=alert(1)>",
    "../../etc/passwd",
    None,
    True,
    -1,
    1e999,
    2**70,
    [],
    {},
    [[]],
    {"a": 1},
]


OUTLINE = ("session", "now", "past", "future", "space", "settings", "opened", "arrived", "revision")


@pytest.mark.parametrize("value", HOSTILE, ids=str)
@pytest.mark.parametrize("name", OUTLINE)
def test_a_wrong_outline_is_refused_in_a_sentence(kept, name, value):
    if (name, value) in (("past", []), ("future", []), ("settings", {}), ("opened", []), ("arrived", [])):
        return
    values = json.loads(json.dumps(kept))
    values["outline"][name] = value
    refused(values)


@pytest.mark.parametrize("value", HOSTILE, ids=str)
@pytest.mark.parametrize(
    "name",
    [
        "start",
        "picture",
        "pending",
        "mask",
        "frames",
        "points",
        "recipe",
        "before",
        "edit",
        "result",
        "recorded",
        "shape",
        "deflated",
        "runs",
    ],
)
def test_a_wrong_piece_is_refused_in_a_sentence(kept, name, value):
    if (value is None and name in ("pending", "mask", "recorded")) or (value == [] and name in ("frames", "points")):
        return
    refused(changed(kept, name, value))


def test_what_is_no_kept_work_is_refused():
    for text in (
        "",
        "null",
        "[]",
        "{",
        '{"outline":{},"pieces":{}}',
        "nonsense",
        '{"outline":1,"outline":1}',
        "[" * 10**5,
    ):
        refused(text)
    refused('{"outline":{},"pieces":{},"x":"' + "x" * (17 << 20) + '"}')


def test_pictures_that_begin_with_each_other_are_refused(kept):
    values = json.loads(json.dumps(kept))
    pieces = values["pieces"]
    name = next(name for name, piece in pieces.items() if "before" in piece)
    pieces[name]["before"] = name
    assert "edits" in refused(values)


def test_a_short_text_cannot_take_much_memory(kept):
    # 64 MB of zeros in 64 kB of text, under many names.
    bomb = {"shape": [1, 1, 1 << 20], "deflated": base64.b64encode(zlib.compress(bytes(1 << 26), 9)).decode()}
    assert "more than" in refused(changed(kept, "deflated", bomb["deflated"]))
    full = {"shape": [1, 1 << 10, 1 << 10], "deflated": base64.b64encode(zlib.compress(bytes(4 << 20), 9)).decode()}
    values = json.loads(json.dumps(kept))
    moment = values["pieces"][values["outline"]["now"]]
    frames = [f"bomb{k}" for k in range(900)]
    values["pieces"] |= dict.fromkeys(frames, full)
    moment["frames"] = frames
    refused(values)


def test_too_long_recipes_are_refused():
    session = begun()
    for _ in range(20):
        session = session.pull_to(latent())
    values = json.loads(pieces_of(session).text())
    # The last picture with edits upon edits, each of them the same.
    pieces, now = values["pieces"], values["outline"]["now"]
    last = pieces[now]["picture"]
    for k in range(MOST_EDITS):
        pieces[f"more{k}"] = pieces[last] | {"before": f"more{k - 1}" if k else last}
    pieces[now]["picture"] = f"more{MOST_EDITS - 1}"
    assert f"more than {MOST_EDITS} edits" in refused(values)


def test_points_outside_and_masks_of_other_sizes_are_refused(kept):
    point = {"handle": [99, 5], "target": [1, 1], "origin": [1, 1], "picture": 0}
    assert "outside" in refused(changed(kept, "points", [point]))
    refused(changed(kept, "runs", [0, 5]))
    refused(changed(kept, "points", [point | {"handle": [1, 1], "picture": 9}]))


def test_the_numbers_of_pictures_and_branches_come_back():
    there = begun().shown_as(4)
    there = there.with_picture(recipe_of("cat", SIZE, latent(), 8, 0.7)).shown_as(5).undo()
    there = there.with_picture(recipe_of("cat", SIZE, latent(), 9, 0.7)).shown_as(6)
    back = read_session(pieces_of(there).text())
    assert dict(back.pictures) == dict(there.pictures) == {4: "past", 6: "now", 5: "branch"}
    assert back.branches[0].recipe == there.branches[0].recipe
    spoilt = pieces_of(there).text().replace('"seen":5', '"seen":-5')
    with pytest.raises(DragGANError, match="not the number of a picture"):
        read_session(spoilt)
