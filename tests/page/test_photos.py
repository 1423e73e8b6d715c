"""A photo of one's own on the page."""

from __future__ import annotations

import base64
import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draggan.config import InversionConfig
from draggan.ui.canvas.value import canvas_value
from draggan.ui.handlers import consenting, photos
from draggan.ui.photos import OpenedPhoto, Photos, SentPhoto
from tests.marks import marks_of
from tests.page.driving import chosen, request, shown, text_of

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


def test_a_photo_is_opened_dragged_and_saved_back_into_the_whole_of_it(do, page, tiny, quick):
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
    assert path.name.endswith("-photo.png")
    with Image.open(path) as whole:
        assert whole.size == (WIDTH, HEIGHT), "the whole photo, as large as it was"
        assert "DragGAN recipe" not in whole.text, "which would draw the person again"
    assert marks_of(path.read_bytes()) >= {"words", "signature", "record"}
    part = Path(do.save(opened, canvas_value(opened), request(), pasted=False)[parts.file])
    with Image.open(part) as picture:
        assert picture.size == opened.image_size[::-1]
    # Another visitor's tab may go on with its own; this one is given up with its tuned weights.
    do.close(request())
    with pytest.raises(Exception, match="there is no photo yet"):
        page.photos.chosen("a")


def test_a_photo_that_is_cancelled_leaves_all_as_it_was_and_good_enough_keeps_it(do, page, tiny):
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


def test_photos_are_given_up_when_they_are_old_or_too_many():
    forgotten, now = [], [0.0]
    kept = Photos(forgotten.append, clock=lambda: now[0])
    one = OpenedPhoto(sent=SentPhoto(data=b"", name=""), crop=None, kind="bmp")
    assert one.ingredient is None, "credentials of such files are not known here"
    kept.keep("first", one)
    now[0] = 7 * 3600.0
    kept.keep("second", one)
    assert forgotten == ["first"]
    assert kept.opened("first") is None
    for number in range(64):
        kept.keep(str(number), one)
    assert forgotten == ["first", "second"]
    for number in range(80):
        kept.choose(str(number), one.sent)
    assert kept.chosen("79") is one.sent
