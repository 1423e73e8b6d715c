"""A photo of one's own on the page."""

from __future__ import annotations

import base64
import io
import re
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draggan.config import InversionConfig, Limits
from draggan.errors import ModerationError, PhotoError, RecipeError
from draggan.inversion import Crop
from draggan.inversion.stepwise import finished
from draggan.kept_session import BUDGET
from draggan.session_file import PhotoPlace
from draggan.ui import messages
from draggan.ui.canvas.value import canvas_value
from draggan.ui.handlers import consenting, photos
from draggan.ui.photo_weights import kept_pieces
from draggan.ui.photos import OpenedPhoto, Photos, SentPhoto
from draggan.ui.reading_turns import ReadingTurns
from draggan.ui.tab_queue import visitor_of
from tests.marks import marks_of
from tests.page.driving import DEFAULTS, ONE_PAIR, chosen, request, shown, text_of

WIDTH, HEIGHT = 90, 60


def photo_file() -> bytes:
    y, x = np.indices((HEIGHT, WIDTH))
    pixels = np.stack([120 + 100 * np.sin(x / 9), 120 + 100 * np.cos(y / 7), 100 + x], -1).clip(0, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def sent(content: bytes, name: str = "me.png") -> dict:
    return {"count": 1, "name": name, "content": base64.b64encode(content).decode()}


@pytest.fixture
def page(do):
    return do.page


@pytest.fixture
def tiny(do, session, parts):
    return chosen(do, session, "tiny")[parts.session]


@pytest.fixture
def quick(page, monkeypatch):
    """Photos are opened in a few steps."""
    config = InversionConfig(coarse_steps=4, steps=4, row_steps=2, tuning_steps=4, full_size_steps=2)
    monkeypatch.setattr(page.engine, "invert", partial(page.engine.invert, config=config))


def agree(page) -> None:
    assert shown(consenting.agree_photo(page, {"agreed": True}, request()), page.parts.photo)["allowed"] is True


def test_nobody_who_has_not_agreed_gets_a_photo_in(page, tiny):
    refused = shown(photos.photo_sent(page, tiny, sent(photo_file()), request()), page.parts.photo)["shown"]
    assert "permission of everybody in it" in refused["error"]
    agree(page)
    there = shown(photos.photo_sent(page, tiny, sent(photo_file()), request()), page.parts.photo)
    assert there["shown"]["size"] == [WIDTH, HEIGHT]
    assert there["shown"]["box"] == pytest.approx([14.5, -0.5, 74.5, 59.5])
    assert there["value"] is None, "it is not kept in what the page sends along"
    # Agreeing to models is something else; a change of mind gives the photo up.
    consenting.agree(page, {"agreed": True}, request())
    taken_back = consenting.agree_photo(page, {"agreed": False}, request())
    assert shown(taken_back, page.parts.photo)["allowed"] is False
    aimed = shown(photos.aim(page, tiny, {}, request()), page.parts.photo)["aimed"]
    assert "there is no photo yet" in aimed["error"].lower()
    *_, last = photos.open_photo(page, tiny, {}, request())
    assert "permission of everybody in it" in text_of(last, page.parts)


@pytest.mark.parametrize("content", [b"", b"nonsense", photo_file()[:200]])
def test_what_is_no_photo_is_explained(page, tiny, content):
    agree(page)
    answer = shown(photos.photo_sent(page, tiny, sent(content), request()), page.parts.photo)["shown"]
    assert answer["count"] == 1
    assert len(answer["error"]) > 20


def test_what_is_cut_out_is_a_frame_or_a_face_and_anything_else_is_explained(page, tiny):
    agree(page)
    photos.photo_sent(page, tiny, sent(photo_file()), request())

    def aimed(crop) -> dict:
        return shown(photos.aim(page, tiny, {"crop": crop}, request()), page.parts.photo)["aimed"]

    frame = aimed({"box": [10, 10, 40, 40]})
    np.testing.assert_allclose(frame["corners"], [[10, 10], [40, 10], [40, 40], [10, 40]])
    assert frame["cut"].startswith("data:image/jpeg;base64,")
    face = np.array(aimed({"face": [[40, 25], [50, 25], [45, 38]]})["corners"])
    assert face.mean(0) == pytest.approx([45, 26.3])
    for wrong in ({"box": "abc"}, {"box": [1, 2, 3]}, {"face": [[1, 2]]}, {"face": 7}, {"box": [5, 5, 5, 5]}):
        assert "anew" in aimed(wrong)["error"]
    assert "error" in aimed({"box": [1e9, 0, float("nan"), 3]})
    assert "cut" in aimed("nonsense"), "the middle of it"


def test_before_it_is_opened_it_is_said_how_long_it_takes_and_where_the_subject_is(page, session, tiny, monkeypatch):
    agree(page)
    photos.photo_sent(page, tiny, sent(photo_file()), request())
    turns = []

    def in_turns(work, *, visitor, wanted):
        assert wanted()
        turns.append(visitor)
        return finished(work)

    monkeypatch.setattr(page.engine, "in_turns", in_turns)
    lasts, none = photos.foresee(page, tiny, {"count": 4}, request())
    assert turns == [visitor_of(request())] * 2, "both take from the visitor's time"
    expected = shown(lasts, page.parts.photo)["expected"]
    assert re.fullmatch(r"Opening takes about \d+ s here\.", expected["text"])
    found = shown(none, page.parts.photo)["found"]
    assert expected["count"] == found["count"] == 4, "so that the page knows of which photo it is said"
    assert found == {"count": 4, "box": None, "text": ""}, "this model has no networks for that"
    crop = Crop(centre=(30.0, 20.0), right=(10.0, 0.0), down=(0.0, 10.0))
    for answer, box, words in (((True, crop), [20.0, 10.0, 40.0, 30.0], ""), ((True, None), None, "is not sure")):
        monkeypatch.setattr(page.finders, "find", lambda model, photo, visitor, wanted, answer=answer: answer)
        *_, last = photos.foresee(page, tiny, {}, request())
        found = shown(last, page.parts.photo)["found"]
        assert found["box"] == box
        assert words in found["text"]
    # Of a model that is not on the canvas any more nothing is proposed.
    page.tabs.remember("a", {page.parts.session: session})
    *_, last = photos.foresee(page, tiny, {}, request())
    assert shown(last, page.parts.photo)["found"] == {"count": None, "box": None, "text": ""}, (
        "it is searched no longer"
    )
    page.tabs.remember("a", {page.parts.session: tiny})

    # Another photo is chosen meanwhile: the search ends, and nothing is said of the photo before.
    def find(model, photo, visitor, wanted):
        assert wanted()
        photos.photo_sent(page, tiny, sent(photo_file()), request())
        assert not wanted()

    monkeypatch.setattr(page.finders, "find", find)
    assert len(list(photos.foresee(page, tiny, {}, request()))) == 1
    # Searches take their turns: nobody has many at once.
    monkeypatch.setattr(page, "searches", ReadingTurns(at_once=1, places=1, what="searched"))
    with page.searches.turn("a"):
        *_, last = photos.foresee(page, tiny, {}, request())
    assert "is being searched" in shown(last, page.parts.photo)["found"]["text"]
    consenting.agree_photo(page, {"agreed": False}, request())
    (said,) = photos.foresee(page, tiny, {}, request())
    assert "there is no photo yet" in shown(said, page.parts.photo)["found"]["text"].lower()


def test_a_photo_is_opened_dragged_and_saved_back_into_the_whole_of_it(do, page, tiny, quick, monkeypatch):
    parts = page.parts
    agree(page)
    photos.photo_sent(page, tiny, sent(photo_file()), request())
    crop = {"crop": {"box": [20, 10, 60, 50]}}
    updates = list(photos.open_photo(page, tiny, crop, request()))
    assert shown(updates[0], parts.canvas)["busy"] is True
    assert shown(updates[-1], parts.canvas)["busy"] is False
    assert shown(updates[-1], parts.photo)["work"]["running"] is False
    assert len(text_of(updates[-1], parts)) > 20
    opened = updates[-1][parts.session]
    assert opened.recipe.is_of_photo
    assert opened.can_undo
    path = Path(do.save(opened, canvas_value(opened), request())[parts.file])
    assert path.name == "me-drawn.png"
    with Image.open(path) as whole:
        assert whole.size == (WIDTH, HEIGHT), "the whole photo, as large as it was"
        assert "DragGAN recipe" not in whole.text, "which would draw the person again"
    assert marks_of(path.read_bytes()) >= {"words", "signature", "record"}
    with pytest.raises(Exception, match="press Save session"):
        do.save_recipe(opened, canvas_value(opened), request())
    part = Path(do.save(opened, canvas_value(opened), request(), pasted=False)[parts.file])
    with Image.open(part) as picture:
        assert picture.size == opened.image_size[::-1]
    # The whole of it can be looked at, as Save writes it; where the photo is gone, that is said.
    assert shown(updates[-1], parts.canvas)["photo"] is True
    seen = shown(photos.whole(page, opened, canvas_value(opened), request()), parts.canvas)["whole"]["url"]
    with Image.open(io.BytesIO(base64.b64decode(seen.partition(",")[2]))) as whole:
        assert whole.size == (WIDTH, HEIGHT)
    monkeypatch.setattr(page.photos, "opened", lambda *_: None)
    assert text_of(photos.whole(page, opened, canvas_value(opened), request()), parts) == messages.NO_PHOTO
    # Another visitor's tab may go on with its own; this one is given up with its tuned weights.
    do.close(request())
    with pytest.raises(Exception, match="there is no photo yet"):
        page.photos.chosen("a")


def test_a_photo_that_is_cancelled_leaves_all_as_it_was_and_good_enough_keeps_it(do, page, tiny, monkeypatch):
    parts = page.parts
    agree(page)
    photos.photo_sent(page, tiny, sent(photo_file()), request())
    run = photos.open_photo(page, tiny, {}, request())
    next(run)
    assert "a" in page.drags
    photos.cancel_photo(page, request())
    *_, last = run
    assert text_of(last, parts).startswith("The photo was not opened")
    assert last[parts.session].recipe is tiny.recipe
    assert "a" not in page.drags
    run = photos.open_photo(page, tiny, {}, request())
    next(run)
    do.stop(request())
    *_, last = run
    assert text_of(last, parts).startswith("Your photo is open as far as it had got")
    assert last[parts.session].recipe.is_of_photo
    # Where the server ends it, that is said, and nothing of what the model knows: it was not looked for to the end.
    monkeypatch.setattr(page.engine, "limits", replace(page.engine.limits, seconds=1.0))
    *_, last = photos.open_photo(page, tiny, {}, request())
    assert text_of(last, parts).startswith("The photo has used the 1 s that one may take here; it was stopped")
    assert last[parts.session].recipe.is_of_photo


def test_photos_are_given_up_when_they_are_old_or_too_many():
    forgotten, now = [], [0.0]
    kept = Photos(forgotten.append, clock=lambda: now[0])
    one = OpenedPhoto(sent=SentPhoto(data=b"", name=""), crop=None, kind="bmp", place=None)
    assert one.ingredient is None, "credentials of such files are not known here"
    kept.keep("first", one, "a")
    now[0] = 7 * 3600.0
    kept.keep("second", one, "b")
    assert forgotten == ["first"]
    assert kept.opened("first", "a") is None
    for number in range(64):
        kept.keep(str(number), one, "c")
    assert forgotten == ["first", "0"], "of whoever has most, so that one visitor takes nobody else's"
    kept.choose("mine", one.sent, "b")
    for number in range(80):
        kept.choose(str(number), one.sent, "c")
    assert kept.chosen("79") is kept.chosen("mine") is one.sent
    with pytest.raises(PhotoError, match="there is no photo yet"):
        kept.chosen("0")
    # What is used stays, and what nobody has used for hours goes though nobody comes.
    forgotten.clear()
    for _ in range(7):
        now[0] += 3600.0
        assert kept.opened("second", "b") is one
        assert kept.chosen("mine") is one.sent
    kept.sweep()
    assert kept.opened("second", "b") is one
    assert set(forgotten) == {str(number) for number in range(1, 64)}
    now[0] += 7 * 3600.0
    kept.sweep()
    assert "second" in forgotten
    with pytest.raises(PhotoError, match="there is no photo yet"):
        kept.chosen("mine")


def test_every_hour_weights_go_that_nobody_has_used(page, work, monkeypatch):
    page.site.remove_what_is_over()
    page.picture(work.recipe)
    monkeypatch.setattr("draggan.ui.page.KEPT", -1.0)
    page.site.remove_what_is_over()
    with pytest.raises(RecipeError, match="tuned weights"):
        page.picture(work.recipe)


def test_what_somebody_else_opens_gives_nothing_of_a_photo_and_changes_nothing_of_it():
    forgotten = []
    kept = Photos(forgotten.append)
    sent = SentPhoto(data=b"", name="")
    places = [
        PhotoPlace(crop=((x, 0.0), (9.0, 0.0), (0.0, 9.0)), photo_sha256="", photo_size=(9, 9)) for x in (0.0, 5.0)
    ]
    mine = OpenedPhoto(sent=sent, crop=None, kind="bmp", place=places[0])
    kept.keep("one", mine, "a")
    kept.hold("one", places[1], "b")
    assert kept.opened("one", "b") is None
    assert kept.opened("one", "a") is mine
    assert [kept.place("one", owner) for owner in ("a", "b", "c")] == [places[0], places[1], places[0]]
    kept.hold("one", places[1], "a")
    assert kept.place("one", "a") is places[0], "a file says nothing new of a photo that is here"
    for number in range(80):
        kept.hold(str(number), None, "b")
    assert "one" not in forgotten, "its owner still has it"
    assert kept.opened("one", "a") is mine


def test_a_photo_is_no_favourite_and_it_is_said_what_keeps_it(do, page, tiny):
    of_photo = tiny.with_picture(replace(tiny.recipe, model=replace(tiny.recipe.model, tuning="ab" * 32)))
    kept = shown(do.favour(of_photo, {"count": 2}), page.parts.starts)["kept"]
    assert kept["count"] == 2
    assert "“Save session” keeps the work on it" in kept["error"]


# ---- the work as a file, and what the browser keeps ----------------------------------------------------------------


@pytest.fixture
def work(do, page, tiny, quick):
    """A photo that was opened and dragged: its session."""
    agree(page)
    photos.photo_sent(page, tiny, sent(photo_file()), request())
    *_, last = photos.open_photo(page, tiny, {"crop": {"box": [20, 10, 60, 50]}}, request())
    opened = last[page.parts.session]
    pair = {"points": [[4, 4, 7, 4]], "pending": None, "mask": None}
    *_, last = do.start(opened, pair, DEFAULTS, request())
    assert len(last[page.parts.session].recipe.edits) == 1
    return last[page.parts.session]


def session_file(do, page, work, tab: str = "a") -> bytes:
    updates = do.save_session(work, canvas_value(work), request(tab))
    assert "keep it as you would the photo" in text_of(updates, page.parts)
    path = Path(updates[page.parts.file])
    assert path.name.endswith("-photo-dragged.draggan")
    return path.read_bytes()


def forgotten(page, work) -> None:
    """Another process, which has never seen the photo."""
    page.engine.forget_tuning(work.recipe.model.tuning)
    page.photos = Photos(page.engine.forget_tuning)
    with pytest.raises(RecipeError, match="tuned weights"):
        page.picture(work.recipe)


def test_a_session_file_goes_on_where_it_is_opened(do, page, session, work):
    parts, before = page.parts, page.picture(work.recipe)
    data = session_file(do, page, work)
    forgotten(page, work)
    file = sent(data, "me.draggan")
    refused = do.open_work(session, file, request("b"))
    assert "agree to the sentence under “Your photo” first" in text_of(refused, parts)
    assert parts.session not in refused
    consenting.agree_photo(page, {"agreed": True}, request("b"))
    updates = do.open_work(session, file, request("b"))
    assert "is open again: the picture and" in text_of(updates, parts)
    assert "choose that photo once more" in text_of(updates, parts)
    again = updates[parts.session]
    np.testing.assert_array_equal(page.picture(again.recipe), before)
    assert again.recipe == work.recipe
    # Its history, and before that what was there.
    assert len(again.past) == len(session.past) + 1 + len(work.past)
    *_, dragged = do.start(again, {"points": [[9, 9, 11, 9]], "pending": None, "mask": None}, DEFAULTS, request("b"))
    assert len(dragged[parts.session].recipe.edits) == 2
    # The photo itself is not in the file; it comes back when it is chosen again, and no other one.
    assert page.photos.opened(again.recipe.model.tuning, "b") is None
    other = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), "red").save(other, "PNG")
    for content, note in ((other.getvalue(), ""), (photo_file(), "what you save goes back into it")):
        said = shown(photos.photo_sent(page, again, sent(content), request("b")), parts.photo)["shown"]
        assert note in said["note"]
        assert bool(said["note"]) == bool(note)
    with Image.open(do.save(again, canvas_value(again), request("b"))[parts.file]) as whole:
        assert whole.size == (WIDTH, HEIGHT)


def test_another_visitor_saves_the_crop_and_not_the_whole_photo(do, page, session, work):
    parts, data = page.parts, session_file(do, page, work)
    consenting.agree_photo(page, {"agreed": True}, request("b"))
    updates = do.open_work(session, sent(data, "me.draggan"), request("b"))
    assert "choose that photo once more" in text_of(updates, parts)
    theirs = updates[parts.session]
    with Image.open(do.save(theirs, canvas_value(theirs), request("b"))[parts.file]) as picture:
        assert picture.size == work.image_size[::-1]
    with Image.open(do.save(work, canvas_value(work), request())[parts.file]) as whole:
        assert whole.size == (WIDTH, HEIGHT)


def test_a_session_without_a_photo_is_saved_and_opened_too(do, page, session, parts):
    *_, last = do.start(session, ONE_PAIR, DEFAULTS, request())
    after = last[parts.session]
    updates = do.save_session(after, canvas_value(after), request())
    assert "photo" not in text_of(updates, parts)
    file = sent(Path(updates[parts.file]).read_bytes(), "a.draggan")
    again = do.open_work(session, file, request())[parts.session]
    np.testing.assert_array_equal(page.picture(again.recipe), page.picture(after.recipe))
    assert again.can_undo


def test_a_damaged_or_hostile_session_file_ends_in_a_sentence_and_keeps_nothing(do, page, session, work):
    parts, data = page.parts, session_file(do, page, work)
    forgotten(page, work)
    agree(page)
    at = data.index(b'"draggan_session"')
    spoilt = bytearray(data)
    spoilt[-40] ^= 1  # a weight or a letter of the session
    cases = [
        (b"nonsense", "no session"),
        (data[:200], "damaged"),
        (data[:-100], "damaged"),
        (bytes(spoilt), ""),
        (data[:at] + b'"draggan_sessiom"' + data[at + 17 :], "no session"),
        (b"\xff" * 8 + data[8:], "damaged"),
    ]
    for content, words in cases:
        updates = do.open_work(session, sent(content, "<b>me</b>.draggan"), request())
        assert words in text_of(updates, parts)
        assert parts.session not in updates
    with pytest.raises(RecipeError, match="tuned weights"):
        page.picture(work.recipe)
    # Where photos are chosen, it is said where sessions are opened.
    answer = shown(photos.photo_sent(page, session, sent(data, "a.draggan"), request()), parts.photo)["shown"]
    assert "Open saved work" in answer["error"]


def test_what_is_opened_is_looked_at_as_a_photo_is(do, page, session, work, monkeypatch):
    data = session_file(do, page, work)
    forgotten(page, work)
    agree(page)
    moderation = page.site.deployment.moderation

    failure, looking, verdict = MemoryError(), threading.Event(), threading.Event()

    def refuse(self, pixels):
        looking.set()
        verdict.wait(10)
        raise failure

    def opened(tab: str) -> str:
        return text_of(do.open_work(session, sent(data, "me.draggan"), request(tab)), page.parts)

    monkeypatch.setattr(type(moderation), "check_upload", refuse)
    verdict.set()
    assert "not enough memory" in opened("a")
    with pytest.raises(RecipeError, match="tuned weights"):
        page.picture(work.recipe)
    # While one of two tabs waits for the verdict, the other one waits for it too.
    failure = ModerationError("this picture is not allowed here")
    consenting.agree_photo(page, {"agreed": True}, request("b"))
    looking.clear()
    verdict.clear()
    said: list[str] = []
    first = threading.Thread(target=lambda: said.append(opened("a")))
    first.start()
    assert looking.wait(30)
    threading.Timer(0.5, verdict.set).start()
    said.append(opened("b"))
    first.join(30)
    assert [("not allowed here" in text) for text in said] == [True, True]
    with pytest.raises(RecipeError, match="tuned weights"):
        page.picture(work.recipe)


def test_nobody_draws_with_weights_that_are_still_being_looked_at(do, page, session, work, monkeypatch):
    """Not even who knows their hash, as programs do; and of what was allowed the picture is the same as before."""
    data, before = session_file(do, page, work), page.picture(work.recipe)
    forgotten(page, work)
    agree(page)
    looked_at = []

    def look(self, pixels):
        looked_at.append(pixels)
        for ask in (page.engine.picture, page.engine.tuning):
            with pytest.raises(RecipeError, match="tuned weights of this photo are not here"):
                ask(work.recipe)

    monkeypatch.setattr(type(page.site.deployment.moderation), "check_upload", look)
    assert "is open again" in text_of(do.open_work(session, sent(data, "me.draggan"), request()), page.parts)
    assert len(looked_at) == 1
    np.testing.assert_array_equal(looked_at[0], page.picture(work.recipe.up_to(0)))
    np.testing.assert_array_equal(page.picture(work.recipe), before)


def kept_by_browser(do, page, work, **more) -> dict:
    """What a browser has of the work, as it comes back."""
    updates = do.keep(work, None, {"count": 1, "there": []}, request(), DEFAULTS | {"space": work.space})
    answer = shown(updates, page.parts.keeper)["answer"]
    assert set(answer["names"]) == set(answer["pieces"])
    pieces = ",".join(f'"{name}":{text}' for name, text in answer["pieces"].items())
    return {"text": f'{{"outline":{answer["outline"]},"pieces":{{{pieces}}}}}', **more}


def photo_names(text: str) -> list[str]:
    return re.findall(r'"(photo-[0-9a-f]{64}-[0-9]+)":', text)


def test_what_the_browser_keeps_of_photos_fits_and_only_what_does_not_fit_is_left_out(do, page, tiny, work):
    (name,) = photo_names(kept_by_browser(do, page, work)["text"])
    digest, size = work.recipe.model.tuning, int(name.split("-")[2])
    (text,) = kept_pieces(page, work, "a", there=[], limits=Limits())[1].values()
    assert len(text) <= size
    # One more, which the browser alone has, and one that nobody has.
    other, model = "ab" * 32, work.recipe.model
    gone = replace(work.recipe, model=replace(model, tuning=other))
    both = work.with_picture(gone).undo()
    limits = Limits(call_bytes=round((BUDGET + 2.5 * size) / 0.94))

    def names(session, more: int) -> tuple[str, ...]:
        return kept_pieces(page, session, "a", there=[name, f"photo-{other}-{more}"], limits=limits)[0]

    assert names(both, size) == (name, f"photo-{other}-{size}")
    assert names(both, 2 * size) == (name,), "what does not fit beside the picture on the screen"
    # What the browser alone has goes before what is here, too; the picture on the screen goes first.
    elsewhere = work.with_picture(tiny.recipe)
    assert names(elsewhere, size) == (name,)
    assert names(elsewhere.with_picture(gone).undo(), 2 * size) == (f"photo-{other}-{2 * size}",)
    assert names(elsewhere.with_picture(gone).undo(), 3 * size) == (name,), "what is too large keeps nothing else out"
    assert digest in name


def test_a_photo_on_a_branch_goes_along_in_files_and_in_what_the_browser_keeps(do, page, session, work):
    branched = work.shown_as(7)
    while branched.recipe.is_of_photo:
        branched = branched.undo()
    branched = branched.with_picture(session.recipe).shown_as(8)
    assert not any(m.recipe.is_of_photo for m in (branched.now, *branched.past, *branched.future))
    before = page.picture(work.recipe)
    data = Path(do.save_session(branched, canvas_value(branched), request())[page.parts.file]).read_bytes()
    token = shown(consenting.agree_photo(page, {"agreed": True}, request()), page.parts.photo_consent)["answer"][
        "token"
    ]
    kept = kept_by_browser(do, page, branched, agreed=token)
    for bring_back in (
        lambda: do.open_work(session, sent(data, "me.draggan"), request()),
        lambda: do.open_page("bump", 0, 0.0, kept, request("b")),
    ):
        forgotten(page, work)
        again = bring_back()[page.parts.session]
        left = [number for number, kind in again.pictures if kind == "branch"]
        (number,) = [number for number in left if again.moment_of(number).recipe.edits]
        np.testing.assert_array_equal(page.picture(again.go_to(number).recipe), before)


def test_work_on_a_photo_survives_a_restart_of_the_server(do, page, work):
    parts, before = page.parts, page.picture(work.recipe)
    token = shown(consenting.agree_photo(page, {"agreed": True}, request()), parts.photo_consent)["answer"]["token"]
    kept = kept_by_browser(do, page, work, agreed=token)
    again = do.keep(work, None, {"count": 2, "there": photo_names(kept["text"])}, request(), DEFAULTS)
    assert not any(name.startswith("photo-") for name in shown(again, parts.keeper)["answer"]["pieces"]), "once only"
    forgotten(page, work)
    updates = do.open_page("bump", 0, 0.0, kept, request("b"))
    assert text_of(updates, parts).startswith("Your work is back")
    np.testing.assert_array_equal(page.picture(updates[parts.session].recipe), before)
    assert page.photos.place(work.recipe.model.tuning, "b") is not None


def test_without_consent_or_weights_it_is_said_and_the_work_stays_kept(do, page, work):
    parts, digest = page.parts, work.recipe.model.tuning
    kept = kept_by_browser(do, page, work, agreed="forged")
    data = session_file(do, page, work)
    forgotten(page, work)
    updates = do.open_page("bump", 0, 0.0, kept, request("c"))
    waiting = shown(updates, parts.keeper)["aside"]["waiting"]
    assert waiting["photo"] == digest
    assert waiting["agreed"] is False
    assert "Agree to the sentence" in waiting["text"]
    clicked = consenting.agree_photo(page, {"agreed": True}, request("c"))
    assert shown(clicked, parts.keeper)["model"] == {"agreed": True}
    assert text_of(do.open_page("bump", 0, 0.0, kept, request("c")), parts).startswith("Your work is back")
    # A browser that never had the weights, as they were too large for it.
    forgotten(page, work)
    without = kept | {"text": kept["text"].replace(f'"photo-{digest}-', '"none-')}
    updates = do.open_page("bump", 0, 0.0, without, request("c"))
    waiting = shown(updates, parts.keeper)["aside"]["waiting"]
    assert waiting["agreed"] is True
    assert "open the session file" in waiting["text"]
    opened = do.open_work(updates[parts.session], sent(data, "me.draggan"), request("c"))
    assert shown(opened, parts.keeper)["model"] == {"photos": [digest]}
