"""Saved work opens again."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from draggan.ui.canvas.value import EMPTY, canvas_value
from tests.page.driving import DEFAULTS, ONE_PAIR, chosen, picture_of, request, shown, text_of


def sent(name: str, content: bytes) -> dict:
    return {"count": 1, "name": name, "content": base64.b64encode(content).decode()}


def test_a_saved_picture_opens_with_its_drags_as_steps(do, parts, session):
    last = list(do.start(session, ONE_PAIR, DEFAULTS, request()))[-1]
    after = last[parts.session]
    path = Path(do.save(after, canvas_value(after), request())[parts.file])
    other = chosen(do, session, "tiny")[parts.session]
    updates = do.open_work(other, sent(path.name, path.read_bytes()), request())
    opened = updates[parts.session]
    assert text_of(updates, parts) == f"{path.name} is open again: the picture and 1 step to undo."
    assert (picture_of(updates, parts) == picture_of(last, parts)).all()
    assert (opened.model, opened.seed) == ("bump", 0)
    assert shown(updates, parts.canvas)["film"]["count"] == 2
    # The recipe alone opens as the picture does.
    alone = Path(do.save_recipe(after, canvas_value(after), request())[parts.file])
    assert alone.name == f"{path.stem}.json"
    again = do.open_work(other, sent(alone.name, alone.read_bytes()), request())
    assert (picture_of(again, parts) == picture_of(last, parts)).all()
    before = do.undo(opened, EMPTY)[parts.session]
    assert [(pair.handle, pair.target) for pair in before.pairs] == [((20.0, 30.0), (26.0, 30.0))]
    assert before.undo().now is other.now, "what was there is not lost"


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (sent("cats.pkl", b"x"), "cats.pkl is a model file; open it under “Open a model file”."),
        (sent("photo.png", b"\x89PNG????"), "photo.png cannot be read as a picture; open one that was saved"),
        (sent("large.png", b""), "large.png is too large, or could not be read"),
        (sent("recipe.json", b"{"), "this is not a recipe"),
        (sent("cat.png", b"nonsense"), "cannot be read; open a file that was saved here"),
        (
            sent("recipe.json", b'{"recipe": 1, "model": {"name": "dog"}, "size": [64, 64], "start": {"seed": 1}}'),
            "dog",
        ),
        (
            sent("recipe.json", b'{"recipe": 1, "model": {"name": "far"}, "size": [64, 64], "start": {"seed": 1}}'),
            "Far",
        ),
        ({"name": "a.png", "content": "?"}, "no file has come"),
        (None, "could not be read"),
    ],
)
def test_what_cannot_be_opened_is_explained_and_nothing_is_lost(do, parts, session, file, said):
    updates = do.open_work(session, file, request())
    assert said.lower() in text_of(updates, parts).lower()
    assert parts.session not in updates
