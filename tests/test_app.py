"""Every handler of the page, driven as functions and over the network."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from gradio_client import Client
from PIL import Image

from draggan.checkpoints import catalogue
from draggan.config import DragConfig
from draggan.drag import Drag, DragStep
from draggan.errors import CheckpointError, DownloadError, MaskError, PointError
from draggan.session import Session
from draggan.ui import Shelf, build, handlers, launch_options, texts
from draggan.ui.canvas import EMPTY, canvas_value, frame_url, read_canvas, with_canvas
from draggan.ui.handlers import SETTINGS, Handlers, Parts
from draggan.ui.layout import _components
from draggan.ui.preview import Pace, Size
from draggan.ui.running import Drags, Fetch, Run
from draggan.ui.turns import Turns
from draggan.ui.work import warm_up
from tests.pages import BUMP, TinyModels

DEFAULTS = tuple(getattr(DragConfig(), name) for name in SETTINGS)
ONE_PAIR = {"points": [[*BUMP, BUMP[0] + 6, BUMP[1]]], "pending": None, "mask": None}


def request(tab: str = "a") -> gr.Request:
    return gr.Request(session_hash=tab)


@pytest.fixture(scope="module")
def models() -> TinyModels:
    return TinyModels()


@pytest.fixture(scope="module")
def parts(models) -> Parts:
    with gr.Blocks(analytics_enabled=False):
        return _components(models)


@pytest.fixture
def do(parts, models) -> Handlers:
    return Handlers(parts, models, Drags(2))


@pytest.fixture
def session(do, parts) -> Session:
    return do.open_page("bump", 0, 0.0)[parts.session]


def chosen(do: Handlers, session: Session | None, model: str, seed: int = 1) -> dict:
    """What the page shows once a model has been chosen."""
    return list(do.choose_model(session, model, seed))[-1]


def last_of(answer) -> dict:
    """The updates that a handler ends with, whether it is a function or a generator function."""
    return answer if isinstance(answer, dict) else list(answer)[-1]


def shown(updates, part) -> dict:
    """An update as the page gets it."""
    value = updates[part]
    return value if isinstance(value, dict) else value.constructor_args


def picture_of(updates, parts) -> np.ndarray:
    return pixels_of(shown(updates, parts.canvas)["frame"])


def pixels_of(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))))


def drawn_on(value) -> dict:
    """Points and mask of a canvas value, whatever revision they are."""
    return {name: value[name] for name in EMPTY}


def text_of(updates, parts) -> str:
    return shown(updates, parts.status)["value"]


# ---- the canvas's values ----------------------------------------------------------------------------------------


def test_what_a_canvas_sends_comes_back(session):
    mask = np.zeros((64, 64), bool)
    mask[3:9, 60:] = True
    there = session.add_pair((0, 0), (63, 63)).add_pair((1.5, 2.25), (3, 4)).click((5, 6)).set_mask(mask)
    again = with_canvas(session, canvas_value(there))
    assert [(p.handle, p.target) for p in again.pairs] == [((0, 0), (63, 63)), ((1.5, 2.25), (3, 4))]
    assert again.pending == (5, 6)
    assert (again.mask == mask).all()
    assert with_canvas(there, canvas_value(there)) is there


@pytest.mark.parametrize(
    "value",
    [
        {"points": "x"},
        {"points": [[1, 2, 3]]},
        {"points": [[1, 2, 3, "4"]]},
        {"points": [[1, 2, 3, float("nan")]]},
        {"points": [None]},
        {"points": [[0, 0, 64, 0]]},
        {"points": [], "pending": [1]},
        {"points": [[0, 0, 1, 1]] * 501},
    ],
)
def test_anything_else_is_refused_as_points(session, value):
    with pytest.raises(PointError):
        with_canvas(session, value)


def png(size: tuple[int, int]) -> str:
    buffer = io.BytesIO()
    Image.new("RGBA", size, (255, 255, 255, 255)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    "mask",
    [
        3,
        "",
        "http://example.org/mask.png",
        "data:image/png;base64,!!!!",
        "data:image/png;base64," + base64.b64encode(b"no picture").decode(),
        "data:image/png;base64," + "A" * 100_000,
        png((64, 64))[:-40],
        png((64, 32)),
        png((5000, 5000)),
    ],
)
def test_anything_else_is_refused_as_a_mask(session, mask):
    with pytest.raises(MaskError):
        read_canvas({"points": [], "mask": mask}, session.image_size)


def test_an_empty_canvas_is_no_points(session):
    assert with_canvas(session, None) is session
    assert with_canvas(session, EMPTY) is session
    assert with_canvas(session, {}) is session


# ---- handlers as functions --------------------------------------------------------------------------------------


def test_the_page_opens_on_a_picture(do, parts, session):
    updates = do.open_page("bump", 0, 0.0)
    assert shown(updates, parts.canvas)["size"] == [64, 64]
    pixels = picture_of(updates, parts).astype(int)
    y, x = np.unravel_index(pixels.sum(-1).argmax(), (64, 64))
    assert (x, y) == BUMP
    assert text_of(updates, parts).startswith("Click a point of the picture, then where it should go. Or choose Live")
    assert updates[parts.undo]["interactive"] is False
    assert updates[parts.start]["interactive"] is True


def test_a_page_without_a_model_says_so(do, parts):
    assert "There is no model 'dog' here" in text_of(do.open_page("dog", 0, 0.5), parts)


def test_another_model(do, parts, session):
    updates = chosen(do, session, "classes", 5)
    after = updates[parts.session]
    assert (after.model, after.image_size, after.seed, after.label) == ("classes", (32, 16), 5, 0)
    assert shown(updates, parts.canvas)["size"] == [16, 32]
    label = shown(updates, parts.label)
    assert label["visible"] is True
    assert [value for _, value in label["choices"]] == [0, 1, 2]
    assert shown(chosen(do, after, "tiny", 5), parts.label)["visible"] is False


@pytest.fixture
def distant(models):
    models.forget()
    yield models
    models.forget()


def test_a_model_that_is_not_here_is_offered_with_size_source_and_terms(do, parts, session, distant):
    first = chosen(do, session, "far")
    assert "Size: asking" in first[parts.terms]
    assert first[parts.offer]["visible"] is True
    assert parts.session not in first, "the picture stays"
    assert first[parts.offered] == "far"
    second = do.tell("far", do.ask("far")[parts.asked])
    for fact in ("**Far away** is not on this machine yet", "Size: 2.5 MB", "From: example.org", "CC0", "A note."):
        assert fact in second[parts.terms]
    closed = do.not_now(session, request())
    assert closed[parts.offer]["visible"] is False
    assert shown(closed, parts.model)["value"] == "bump"
    with pytest.raises(KeyError):
        distant.load("far")


@pytest.mark.parametrize("then", ["tiny", "hand", "not now", "a file"])
def test_the_offer_of_a_model_no_longer_chosen_does_not_come_back(do, parts, session, distant, then):
    """It was closed, or another took its place, while the server was being asked."""
    first = chosen(do, session, "far")
    asked = do.ask(first[parts.offered])[parts.asked]
    later = {
        "tiny": lambda: chosen(do, session, "tiny"),
        "hand": lambda: chosen(do, session, "hand"),
        "not now": lambda: do.not_now(session, request()),
        "a file": lambda: list(do.open_file(session, "/somewhere/mine.safetensors", request()))[-1],
    }[then]()
    assert later[parts.offered] == ("hand" if then == "hand" else "")
    assert do.tell(later[parts.offered], asked) == {parts.asked: None}
    assert do.ask("" if then != "hand" else "hand")[parts.asked] != asked


def test_of_several_choices_the_last_one_counts():
    """The first is under way then; by Gradio's own rule those after it would be dropped, while the page shows them."""
    modes = {fn.api_name: fn.trigger_mode for fn in build(TinyModels()).fns.values()}
    assert {modes[name] for name in ("class", "seed", "truncation", "edit")} == {"always_last"}
    assert modes["model"] == "multiple", "its answer writes to the list"


def test_what_only_a_person_can_fetch_is_explained(do, parts, session):
    updates = chosen(do, session, "hand")
    assert "Get it from a friend." in updates[parts.terms]
    assert updates[parts.download]["visible"] is False


def test_a_download_has_a_bar_and_can_be_cancelled(do, parts, session, distant):
    run = do.download(session, "far", request())
    first = next(run)
    assert first[parts.not_now]["value"] == "Cancel"
    assert shown(first, parts.bar)["value"] == "Connecting …"
    bar = shown(next(u for u in run if shown(u, parts.bar)["percent"] == 40), parts.bar)
    assert bar["value"].startswith("1 of 2.5 MB")
    with pytest.raises(gr.Error, match="A download is running in this tab already"):
        next(do.download(session, "far", request()))
    assert do.not_now(session, request())[parts.not_now]["value"] == "Cancelling …"
    last = list(run)[-1]
    assert "cancelled" in text_of(last, parts)
    assert last[parts.download]["interactive"] is True
    assert shown(last, parts.model)["value"] == "bump", "the list says again what is on the canvas"
    assert last[parts.offered] == "far", "and it can be tried again"


def test_a_finished_download_is_used_unless_work_would_be_lost(do, parts, session, distant):
    distant.more.set()
    used = list(do.download(session, "far", request()))[-1]
    assert used[parts.session].model == "far"
    assert used[parts.settings[0]]["value"] == 0.005
    assert ("Far away", "far") in shown(used, parts.model)["choices"]
    distant.forget()
    distant.more.set()
    kept = list(do.download(session.click((3, 4)), "far", request("another tab")))[-1]
    assert parts.session not in kept
    assert text_of(kept, parts) == "Far away is here now. Choose it in the list to use it."


def test_a_failed_download_says_why_and_can_be_tried_again(do, parts, session, distant):
    distant.broken = True
    distant.more.set()
    updates = []
    for _ in range(2):
        with pytest.raises(gr.Error, match="no connection"):
            updates.extend(do.download(session, "far", request()))
    assert "no connection." in text_of(updates[-1], parts)
    assert updates[-1][parts.download]["interactive"] is True
    assert shown(updates[-1], parts.model)["value"] == "bump"


def test_a_download_that_fails_while_it_is_looked_at_has_not_come():
    fetch = Fetch(lambda progress: None)

    class Failing:
        """Of a thread: it still runs when it was waited for, and fails just before it is asked whether it does."""

        def join(self, patience):
            pass

        def is_alive(self):
            fetch._error = DownloadError("no connection")
            return False

    fetch._thread = Failing()
    with pytest.raises(DownloadError, match="no connection"):
        fetch.ended(patience=0)


def test_a_model_that_cannot_be_read_is_not_left_chosen(do, parts, session, models, monkeypatch):
    def broken(name):
        raise CheckpointError(f"{name}.pkl is damaged; download it again")

    monkeypatch.setattr(models, "load", broken)
    run = do.choose_model(session, "tiny", 1)
    back = next(run)
    assert shown(back, parts.model)["value"] == "bump"
    assert text_of(back, parts) == "tiny.pkl is damaged; download it again."
    with pytest.raises(gr.Error, match="is damaged"):
        next(run)
    assert "Size" not in str(back)


def test_opening_a_file(do, parts, session):
    first, last = do.open_file(session, "/somewhere/mine.safetensors", request())
    assert text_of(first, parts) == "Reading mine.safetensors …"
    after = last[parts.session]
    assert after.image_size == (16, 16)
    assert ("mine.safetensors", after.model) in shown(last, parts.model)["choices"]
    assert shown(last, parts.model)["value"] == after.model
    assert Path(do.save(after, EMPTY)[parts.file]).name == "mine-seed0.png"
    # Another tab's list does not show it, and this tab's keeps it.
    assert after.model not in str(shown(chosen(do, None, "tiny"), parts.model)["choices"])
    back = chosen(do, after, "tiny")
    assert after.model in str(shown(back, parts.model)["choices"])
    assert list(do.open_file(session, "", request())) == []
    failed = do.open_file(session, "/somewhere/notes.txt", request())
    assert [text_of(next(failed), parts), text_of(next(failed), parts)] == [
        "Reading notes.txt …",
        "notes.txt is not a model file.",
    ]
    with pytest.raises(gr.Error, match="is not a model file"):
        next(failed)


def test_what_is_done_while_a_file_is_read_counts(do, parts, session):
    read, start = do.turns.of(do.open_file), do.turns.of(do.start)
    run = read(request(), session, "/somewhere/mine.safetensors")
    assert text_of(next(run), parts).startswith("Reading")
    dragged = list(start(request(), session, ONE_PAIR, "w+", *DEFAULTS))[-1][parts.session]
    assert dragged.is_edited
    after = next(run)[parts.session]
    assert after.image_size == (16, 16)
    assert do.undo(after, canvas_value(after))[parts.session].now is dragged.now


def test_a_file_that_is_read_while_a_drag_runs_leaves_it_alone(do, parts, session, capsys):
    read, start = do.turns.of(do.open_file), do.turns.of(do.start)
    drag = start(request(), session, far(session), "w+", *slow())
    next(drag), next(drag)
    _, listed = read(request(), session, "/somewhere/mine.safetensors")
    assert parts.canvas not in listed, "the page stays as the drag has it"
    assert "mine.safetensors is here now. Choose it in the list to use it." in text_of(listed, parts)
    assert "is here now" in capsys.readouterr().out, "the next step would overwrite the status line"
    do.stop(request())
    after = list(drag)[-1][parts.session]
    assert after.is_edited
    (opened,) = after.opened
    assert opened in shown(chosen(do, after, "tiny"), parts.model)["choices"]


def test_a_file_that_is_opened_during_a_download_stays_in_the_list_when_that_fails(do, parts, session, distant):
    fetch, read = do.turns.of(do.download), do.turns.of(do.open_file)
    distant.broken = True
    run = fetch(request(), session, "far")
    next(run)
    opened = list(read(request(), session, "/somewhere/mine.safetensors"))[-1][parts.session]
    distant.more.set()
    updates = []
    with pytest.raises(gr.Error, match="no connection"):
        updates.extend(run)
    last = updates[-1]
    assert shown(last, parts.model)["value"] == opened.model
    assert ("mine.safetensors", opened.model) in shown(last, parts.model)["choices"]
    assert last[parts.offered] == "far"


def test_a_model_that_has_come_replaces_no_other_that_was_chosen_meanwhile(do, parts, session, distant):
    fetch, choose = do.turns.of(do.download), do.turns.of(do.choose_model)
    run = fetch(request(), session, "far")
    next(run)
    (there,) = choose(request(), session, "tiny", 0)
    distant.more.set()
    last = list(run)[-1]
    assert shown(last, parts.model)["value"] == there[parts.session].model == "tiny"
    assert "Far away is here now" in text_of(last, parts)


def test_where_an_uploaded_file_lies_is_nobodys_business(do, parts, session, models, monkeypatch):
    def broken(path):
        raise CheckpointError(f"cannot read {path}: {path.parent}/x is no tensor")

    monkeypatch.setattr(models, "open", broken)
    run = do.open_file(session, "/tmp/gradio/0c5ef3/mine.pkl", request())
    next(run)
    assert text_of(next(run), parts) == "Cannot read mine.pkl: x is no tensor."


def test_the_list_begins_with_what_is_shown_then_the_built_in_ones_then_what_is_here(tmp_path, monkeypatch):
    for name in ("face.safetensors", "cat.safetensors", "mine.pkl"):
        (tmp_path / name).write_bytes(b"weights")
    entries = (
        catalogue.ModelEntry(name="hand", title="By hand", page="https://example.org", file="hand.pkl"),
        catalogue.ModelEntry(name="far", title="Far away", urls=("https://example.org/far.pkl",), file="far.pkl"),
        catalogue.ModelEntry(name="mine", title="Mine", path=str(tmp_path / "mine.pkl")),
        catalogue.ModelEntry(name="face", title="Faces", file="face.safetensors", builtin=True),
        catalogue.ModelEntry(name="cat", title="Cats", file="cat.safetensors", builtin=True, size=(128, 64)),
    )
    monkeypatch.setattr(catalogue, "_BUILTIN_DIR", tmp_path)
    monkeypatch.setattr("draggan.ui.models.all_models", lambda: entries)
    monkeypatch.setattr("draggan.ui.models.load_generator", lambda *args: None)
    assert [model.name for model in Shelf().listed()] == ["face", "cat", "mine", "far", "hand"]
    assert [model.name for model in Shelf(first="cat").listed()] == ["cat", "face", "mine", "far", "hand"]
    shown = [texts.line(model) for model in Shelf().listed()]
    assert shown == ["Faces", "Cats · 64 x 128 px", "Mine", "Far away · to download", "By hand · by hand"]


def test_what_is_told_of_a_download_names_every_host(monkeypatch):
    terms = Shelf().terms("lions-512", ask=False)
    assert terms.source == "storage.googleapis.com, else huggingface.co"
    assert "Hugging Face" in terms.notes


def test_a_path_may_be_given_only_where_nobody_else_can_reach_the_page():
    for local in (True, False):
        demo = build(TinyModels(), local=local)
        assert ("path" in [fn.api_name for fn in demo.fns.values()]) is local


@pytest.mark.parametrize(
    ("arguments", "local"),
    [
        ([], True),
        (["--host", "localhost"], True),
        (["--host", "192.168.1.5"], False),
        (["--listen"], False),
        (["--share"], False),
        (["--root-path", "/draggan"], False),
    ],
)
def test_only_loopback_is_local(arguments, local, monkeypatch):
    import app

    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    assert app._is_local(app._parser().parse_args(arguments)) is local
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    assert app._is_local(app._parser().parse_args([])) is False


def test_seed_truncation_and_class_change_the_picture(do, parts, session):
    tiny = chosen(do, session, "tiny", 1)[parts.session]
    other = seeded(do, tiny, 2)[parts.session]
    assert other.seed == 2
    assert not np.array_equal(tiny.ws, other.ws)
    assert np.array_equal(seeded(do, other, 1)[parts.session].ws, tiny.ws)
    lower = do.set_truncation(tiny, 0.5)[parts.session]
    assert (lower.seed, lower.truncation) == (1, 0.5)
    assert not np.array_equal(tiny.ws, lower.ws)
    classes = chosen(do, session, "classes", 1)[parts.session]
    third = do.set_label(classes, 2)[parts.session]
    assert (third.label, third.seed) == (2, 1)
    assert not np.array_equal(classes.ws, third.ws)


def seeded(do: Handlers, session: Session, seed) -> dict:
    """What the page shows once a seed has been typed."""
    return list(do.set_seed(session, seed))[-1]


def test_the_same_seed_again_is_no_other_picture(do, parts, session):
    dragged = session.add_pair((1, 1), (2, 2)).commit(session.ws + 0.01, np.array([[2, 2]]))
    assert seeded(do, dragged, 0) == {parts.session: dragged}
    assert do.set_truncation(dragged, 0.0) == {parts.session: dragged}


@pytest.mark.parametrize("change", ["seed", "random", "truncation", "class", "model", "preset"])
def test_undo_brings_back_a_drag_that_another_picture_replaced(do, parts, session, change):
    if change == "class":
        session = chosen(do, session, "classes", 1)[parts.session]
    there = session.add_pair((1, 1), (2, 2)).set_mask(np.eye(*session.image_size, dtype=bool))
    dragged = there.commit(session.ws + 0.01, np.array([[2, 2]]))
    updates = {
        "seed": lambda: seeded(do, dragged, 5),
        "random": lambda: do.random_picture(dragged),
        "truncation": lambda: do.set_truncation(dragged, 0.3),
        "class": lambda: do.set_label(dragged, 1),
        "model": lambda: chosen(do, dragged, "tiny", 5),
        "preset": lambda: do.try_preset(dragged, 0),
    }[change]()
    after = updates[parts.session]
    assert not after.is_edited
    back = do.undo(after, canvas_value(after))
    assert back[parts.session].now is dragged.now
    assert shown(back, parts.canvas)["size"] == list(session.image_size[::-1])
    assert drawn_on(shown(back, parts.canvas)["value"]) == drawn_on(canvas_value(dragged))
    assert shown(back, parts.seed)["value"] == session.seed
    assert shown(back, parts.truncation)["value"] == session.truncation
    assert shown(back, parts.label)["value"] == session.label
    again = do.redo(back[parts.session], canvas_value(dragged))
    assert again[parts.session].now is after.now
    assert shown(again, parts.seed)["value"] == after.seed
    if change == "model":
        assert shown(back, parts.model)["value"] == "bump"
        assert shown(again, parts.model)["value"] == "tiny"


def test_a_preset_is_one_click_away_from_a_drag_that_arrives(do, parts, session):
    opened = do.open_page("bump", 0, 0.0)
    assert [opened[button]["value"] for button in parts.presets if opened[button]["visible"]] == ["Right", "Up and out"]
    assert chosen(do, session, "tiny", 1)[parts.preset_row]["visible"] is False
    updates = do.try_preset(session, 0)
    ready = updates[parts.session]
    assert text_of(updates, parts) == "Right: press Start, or move the points first."
    assert shown(updates, parts.canvas)["value"]["points"] == [[20, 30, 26, 30]]
    last = list(do.start(ready, canvas_value(ready), "w+", request(), *DEFAULTS))[-1]
    assert text_of(last, parts).startswith("Arrived")
    with pytest.raises(gr.Error, match="this model has 2"):
        do.try_preset(session, 2)


def test_random_gives_the_picture_of_the_seed_it_shows(do, parts, session):
    tiny = chosen(do, session, "tiny", 1)[parts.session]
    updates = do.random_picture(tiny)
    seed = updates[parts.seed]["value"]
    assert updates[parts.session].seed == seed
    assert np.array_equal(updates[parts.session].ws, seeded(do, tiny, seed)[parts.session].ws)


@pytest.mark.parametrize("seed", [None, -1, 2**32, 1.5])
def test_a_wrong_seed_is_explained_once_and_the_last_good_one_comes_back(do, parts, session, seed):
    run = do.set_seed(session, seed)
    back = next(run)
    assert back[parts.seed]["value"] == 0
    assert "give a whole number from 0 to 4294967295" in text_of(back, parts)
    with pytest.raises(gr.Error, match="give a whole number") as error:
        next(run)
    assert error.value.title == "Not a possible value"


@pytest.mark.parametrize("truncation", [None, -0.1, 1.5])
def test_a_wrong_truncation_is_explained(do, session, truncation):
    with pytest.raises(gr.Error, match="give a number from 0 to 1"):
        do.set_truncation(session, truncation)


def test_a_wrong_class_is_explained(do, parts, session):
    classes = chosen(do, session, "classes", 1)[parts.session]
    with pytest.raises(gr.Error, match="this model has the classes 0 to 2"):
        do.set_label(classes, 3)


def test_edits_lead_from_sentence_to_sentence(do, parts, session):
    updates = do.edit(session, {"points": [], "pending": [3, 4]})
    assert text_of(updates, parts) == "Now click where point 1 should go."
    assert parts.canvas not in updates, "what is being drawn is not overwritten"
    assert updates[parts.remove_last]["interactive"] is True
    updates = do.edit(updates[parts.session], ONE_PAIR | {"mask": png((64, 64))})
    assert text_of(updates, parts).startswith("1 point set. Press Start")
    assert "Only the bright region may change." in text_of(updates, parts)
    with pytest.raises(gr.Error, match="outside the picture"):
        do.edit(session, {"points": [[1, 1, 99, 1]]})


def test_remove_clear_undo_redo(do, parts, session):
    value = ONE_PAIR | {"pending": [3, 4]}
    removed = do.remove_last(session, value)[parts.session]
    assert removed.pending is None
    assert len(removed.pairs) == 1
    cleared = do.clear_points(session, value)
    assert drawn_on(shown(cleared, parts.canvas)["value"]) == EMPTY
    undone = do.undo(cleared[parts.session], EMPTY)
    assert shown(undone, parts.canvas)["value"]["points"] == ONE_PAIR["points"]
    assert undone[parts.redo]["interactive"] is True
    redone = do.redo(undone[parts.session], canvas_value(undone[parts.session]))
    assert drawn_on(shown(redone, parts.canvas)["value"]) == EMPTY


def test_a_click_on_undo_counts_though_the_page_has_not_heard_of_the_one_before(do, parts, session):
    """Each of them carries what the canvas shows; before an answer has come, that is the same."""
    there = session.click((1, 1)).click((2, 2)).click((3, 3))
    seen = canvas_value(there)
    once = do.undo(there, seen)[parts.session]
    twice = do.undo(once, seen)
    assert drawn_on(shown(twice, parts.canvas)["value"]) == {"points": [], "pending": [1, 1], "mask": None}
    assert do.redo(twice[parts.session], seen)[parts.session].now is once.now
    # So does what was pressed after it; what was drawn on what is gone now does not.
    assert do.clear_points(once, seen)[parts.session].pairs == ()
    passed_over = do.edit(once, seen | {"points": [[5, 5, 6, 6]]})
    assert passed_over.keys() == {parts.session}
    assert passed_over[parts.session].now is once.now
    # What was drawn and not told of yet does count, and Undo takes it back.
    further = seen | {"points": [[1, 1, 2, 2], [3, 3, 4, 4]], "pending": None}
    assert do.undo(there, further)[parts.session].now is there.now


def test_a_page_whose_session_is_gone_is_told(do, parts, session):
    seen = canvas_value(session) | {"points": [[5, 5, 6, 6]]}
    told = do.edit(None, seen)
    assert "no longer kept" in text_of(told, parts)
    assert shown(told, parts.canvas)["value"]["points"] == []
    assert shown(told, parts.canvas)["value"]["revision"] == told[parts.session].revision


@pytest.mark.parametrize("click", ["start", "pull", "undo", "redo", "reset", "clear_points", "save", "save_gif"])
def test_on_a_page_whose_session_is_gone_nothing_is_done_to_another_picture(do, session, click):
    seen = holding(**canvas_value(session) | ONE_PAIR)
    more = ["w+", request(), *DEFAULTS] if click in ("start", "pull") else []
    with pytest.raises(gr.Error, match="no longer kept; reload it"):
        last_of(getattr(do, click)(None, seen, *more))


def test_a_page_that_missed_an_answer_is_told_with_the_second_edit_that_is_passed_over(do, parts, session):
    """The first may just have been under way together with that answer."""
    there = session.click((1, 1)).click((2, 2))
    seen = canvas_value(there)
    undone = do.undo(there, seen)[parts.session]  # an answer that never arrives
    first = do.edit(undone, seen | {"pending": [9, 9]})
    assert first.keys() == {parts.session}
    again = do.edit(first[parts.session], seen | {"points": [[1, 1, 2, 2], [9, 9, 8, 8]], "pending": None})
    assert "had not reached the page" in text_of(again, parts)
    value = shown(again, parts.canvas)["value"]
    assert drawn_on(value) == drawn_on(canvas_value(undone))
    # From here on it is heard.
    after = do.edit(again[parts.session], value | {"points": [[1, 1, 7, 7]], "pending": None})[parts.session]
    assert [pair.target for pair in after.pairs] == [(7, 7)]
    assert after.past[-1] is undone.now


def test_whoever_is_next_need_not_wait_for_the_end_of_a_drag(session):
    """Nor would they in vain, with all threads of the server waiting and none left for the drag."""

    def drag(given):
        yield {"session": given.click((1, 1))}
        yield {"session": given.click((2, 2))}

    def click(given):
        return {"session": given.click((3, 3))}

    turns = Turns("session")
    drag, click = turns.of(drag), turns.of(click)
    run = drag(request(), session)
    one = next(run)["session"]
    two = click(request(), session)["session"]
    assert two.past[-1] is one.now
    assert next(run)["session"].pending == (2, 2)
    assert click(request("b"), session)["session"].past[-1] is session.now


def test_callers_without_a_tab_have_no_session_in_common(session):
    def click(given):
        return {"session": given.click((3, 3))}

    click = Turns("session").of(click)
    kept = [click(request(None), session)["session"] for _ in range(2)]
    assert all(other.past == (session.now,) for other in kept)


def test_a_whole_drag(do, parts, session):
    updates = list(do.start(session, ONE_PAIR, "w+", request(), *DEFAULTS))
    first, last = updates[0], updates[-1]
    assert first[parts.start]["interactive"] is False
    assert first[parts.stop]["interactive"] is True
    assert shown(first, parts.canvas)["busy"] is True
    assert last[parts.start]["interactive"] is True
    assert last[parts.stop]["interactive"] is False
    assert shown(last, parts.canvas)["busy"] is False
    assert text_of(last, parts).startswith("Arrived after ")
    after = last[parts.session]
    (pair,) = after.pairs
    assert np.hypot(pair.handle[0] - pair.target[0], pair.handle[1] - pair.target[1]) <= 1
    assert pair.origin == BUMP
    # The independent measure: the brightest pixel of the picture has moved to the target as well.
    pixels = picture_of(last, parts).astype(int)
    y, x = np.unravel_index(pixels.sum(-1).argmax(), (64, 64))
    assert abs(x - pair.target[0]) <= 1
    assert abs(y - pair.target[1]) <= 1
    # Reset and undo lead back to the very first picture.
    reset = do.reset(after, canvas_value(after))
    assert reset[parts.session].pairs[0].handle == BUMP
    assert np.array_equal(picture_of(reset, parts), picture_of(do.open_page("bump", 0, 0.0), parts))
    undone = do.undo(after, canvas_value(after))
    assert np.array_equal(undone[parts.session].ws, session.ws)
    # There is nothing left to do.
    again = list(do.start(after, canvas_value(after), "w+", request(), *DEFAULTS))[-1]
    assert "already on its target" in text_of(again, parts)
    assert again[parts.session].ws is after.ws


def test_of_a_drag_the_beginning_and_the_end_are_read_out_and_not_every_step(do, parts, session):
    updates = list(do.start(session, ONE_PAIR, "w+", request(), *DEFAULTS))
    spoken = {text_of(update, parts): shown(update, parts.status)["spoken"] for update in updates}
    assert len(spoken) > 3
    first, *steps, last = spoken.values()
    assert (first, last) == ("polite", "polite")
    assert set(steps) == {"off"}


def test_the_settings_reach_the_drag(do, parts, session):
    few = (*DEFAULTS[:1], 2, *DEFAULTS[2:])
    last = list(do.start(session, ONE_PAIR, "w", request(), *few))[-1]
    assert text_of(last, parts).startswith("2 steps done, the limit")
    assert last[parts.session].space == "w"


@pytest.mark.parametrize("i", [i for i, name in enumerate(SETTINGS) if name not in texts.CHOICES])
@pytest.mark.parametrize("at", ["start", "enter"])
def test_a_wrong_setting_is_explained_and_the_last_good_one_comes_back(do, parts, session, i, at):
    good = [*DEFAULTS]
    good[1] = 123
    session = list(do.set_settings(session, *good))[-1][parts.session]
    for value, said in ((-1, f"{texts.TITLES[SETTINGS[i]]} -1 is not allowed; give"), (None, "is empty; give")):
        wrong = (*good[:i], value, *good[i + 1 :])
        if at == "start":
            run = do.start(session, ONE_PAIR, "w+", request(), *wrong)
        else:
            run = do.set_settings(session, *wrong)
        back = next(run)
        assert [back[part]["value"] for part in parts.settings] == good
        assert said in text_of(back, parts)
        with pytest.raises(gr.Error, match=re.escape(said)) as error:
            next(run)
        assert error.value.title == "Not a possible value"


def test_half_a_step_is_refused_and_a_whole_one_with_a_point_is_not(do, parts, session):
    run = do.set_settings(session, *DEFAULTS[:1], 2.5, *DEFAULTS[2:])
    assert "Most steps 2.5 is not allowed; give a whole number from 1 to 10000" in text_of(next(run), parts)
    assert list(do.set_settings(session, *DEFAULTS[:1], 2.0, *DEFAULTS[2:]))


def test_a_setting_chosen_and_not_used_yet_is_left_alone_by_another_picture(do, parts, session):
    """The server hears of it with Start; until then no other picture of the model may write to its control."""
    other = do.random_picture(session)[parts.session]
    for updates in (
        do.random_picture(session),
        seeded(do, session, 5),
        do.set_truncation(session, 0.3),
        do.try_preset(session, 0),
        do.undo(other, canvas_value(other)),
        do.reset(session, EMPTY),
    ):
        written = [shown(updates, part) for part in parts.settings if part in updates]
        assert all("value" not in update for update in written)
    # Another model brings its own, and so does the way back to the first.
    updates = chosen(do, session, "tiny", 1)
    solver = parts.settings[SETTINGS.index("solver")]
    assert updates[solver]["value"] == DEFAULTS[SETTINGS.index("solver")]
    assert "value" in do.undo(updates[parts.session], EMPTY)[solver]


def test_a_wrong_setting_leaves_the_others_as_they_are(do, parts, session):
    solver, r1 = SETTINGS.index("solver"), SETTINGS.index("r1")
    mixed = [*DEFAULTS]
    mixed[solver], mixed[r1] = "newton", -4
    back = next(do.set_settings(session, *mixed))
    assert back[parts.settings[solver]]["value"] == "newton"
    assert back[parts.settings[r1]]["value"] == DEFAULTS[r1]


def test_chosen_settings_outlive_another_picture_and_suit_another_model(do, parts, session):
    mine = list(do.set_settings(session, 0.5, 77, *DEFAULTS[2:]))[-1][parts.session]
    other = do.random_picture(mine)[parts.session]
    assert (other.settings["step_size"], other.settings["max_steps"]) == (0.5, 77)
    updates = chosen(do, other, "tiny", 1)
    assert updates[parts.settings[0]]["value"] == DEFAULTS[0]
    assert updates[parts.session].settings["max_steps"] == 77


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (EMPTY, "There is nothing to drag yet"),
        (ONE_PAIR | {"pending": [1, 1]}, "Point 2 has no target yet"),
        ({"points": [[0, 0, 64, 0]]}, "outside the picture"),
    ],
)
def test_what_cannot_be_dragged_is_explained(do, session, value, message):
    with pytest.raises(gr.Error, match=message):
        next(do.start(session, value, "w+", request(), *DEFAULTS))


def far(session: Session) -> dict:
    return {"points": [[*BUMP, 62, 62]], "pending": None, "mask": None}


def slow(steps: int = 5000) -> tuple:
    """Settings with which a long drag creeps: on for seconds, but never so slowly that it counts as stalled."""
    return (2e-4, steps, *DEFAULTS[2:])


def test_stop_keeps_what_was_reached_and_start_goes_on(do, parts, session):
    run = do.start(session, far(session), "w+", request(), *slow())
    next(run)
    for _ in range(3):
        update = next(run)
    assert text_of(update, parts).startswith("Step ")
    assert shown(update, parts.canvas)["live"]
    do.stop(request("another tab"))
    assert text_of(next(run), parts).startswith("Step ")
    do.stop(request())
    last = list(run)[-1]
    assert text_of(last, parts).startswith("Stopped after ")
    after = last[parts.session]
    assert after.is_edited
    on = list(do.start(after, canvas_value(after), "w+", request(), *slow(3)))[-1]
    assert "the limit" in text_of(on, parts)
    assert on[parts.session].pairs[0].origin == BUMP


def test_one_drag_a_tab_and_a_closed_tab_leaves_nothing(do, session):
    run = do.start(session, far(session), "w+", request(), *slow())
    next(run), next(run)
    with pytest.raises(gr.Error, match="running in this tab already"):
        next(do.start(session, far(session), "w+", request(), *slow()))
    run.close()
    again = do.start(session, far(session), "w+", request(), *slow())
    next(again)
    again.close()


@pytest.mark.parametrize(
    "click",
    [
        *("random_picture", "choose_model", "set_seed", "set_truncation", "set_label", "try_preset"),
        *("undo", "redo", "reset", "remove_last", "clear_points", "clear_mask"),
    ],
)
@pytest.mark.parametrize("kind", ["drag", "pull"])
def test_a_click_that_comes_before_the_page_has_heard_of_a_drag_is_refused(do, parts, session, kind, click):
    there = seeded(do, session, 1)[parts.session].add_pair(BUMP, (62, 62)).set_mask(np.eye(64, dtype=bool))
    seen = canvas_value(there)
    others = {
        "random_picture": [],
        "choose_model": ["tiny", 1],
        "set_seed": [5],
        "set_truncation": [0.5],
        "set_label": [1],
        "try_preset": [0],
    }
    handler = getattr(do, click)
    clicked = do.turns.of(handler) if click == "set_seed" else do.at_rest(handler)
    value = seen if kind == "drag" else holding(**seen)
    run = do.turns.of(do.start if kind == "drag" else do.pull)(request(), there, value, "w+", *slow())
    next(run)
    with pytest.warns(UserWarning, match="A drag is running"):
        updates = last_of(clicked(request(), there, *others.get(click, [seen])))
    assert parts.canvas not in updates, "the page stays locked"
    assert not any("interactive" in update for update in updates.values() if isinstance(update, dict))
    assert updates[parts.seed]["value"] == 1
    assert updates[parts.model]["value"] == "bump"
    # In another tab nothing is refused.
    elsewhere = do.at_rest(do.random_picture)(request("another tab"), there)
    assert elsewhere[parts.session].seed != 1
    if kind == "drag":
        next(run), next(run)
        do.stop(request())
    else:
        do.pulls.steer({"key": KEY, "at": [30, 30], "end": True})
    ended = list(run)[-1][parts.session]
    assert ended.seed == 1
    assert ended.is_edited
    assert ended.past[-1].pairs
    # And when it has ended, nothing is refused any more.
    assert do.at_rest(do.random_picture)(request(), ended)[parts.session].past[-1] is ended.now


def test_leaving_the_seed_as_it_is_to_click_start_is_no_click_on_the_picture(do, parts, session):
    run = do.turns.of(do.start)(request(), session, far(session), "w+", *slow())
    next(run)
    assert list(do.turns.of(do.set_seed)(request(), session, 0))[-1].keys() == {parts.session}
    run.close()


def test_callers_without_a_tab_drag_beside_each_other(do, parts, session):
    one, two = (do.start(session, far(session), "w+", request(""), *slow()) for _ in range(2))
    for run in (one, two):
        next(run), next(run)
    one.close()
    assert text_of(next(two), parts).startswith("Step ")
    two.close()


def test_the_last_step_is_not_waited_for_once_it_has_come(do, parts, session, monkeypatch):
    """Nor shown as one of those on the way: the page at rest shows it."""
    seen = []

    def just_missed(run, patience):
        assert ended(run, 60)
        return False

    def newer(run, than, patience):
        seen.append(than)
        return look(run, than, patience)

    ended, look = Run.ended, Run.newer
    monkeypatch.setattr(Run, "ended", just_missed)
    monkeypatch.setattr(Run, "newer", newer)
    last = list(do.start(session, ONE_PAIR, "w+", request(), *DEFAULTS))[-1]
    assert text_of(last, parts).startswith("Arrived")
    assert not any(step is not None and step.done for step in seen), "there is nothing newer than the last"


def test_drags_over_the_limit_wait_and_say_so(do, parts, session):
    runs = [do.start(session, far(session), "w+", request(str(i)), *slow()) for i in range(3)]
    for run in runs:
        next(run)
    assert [text_of(next(run), parts).split(" ")[0] for run in runs] == ["Step", "Step", "Waiting"]
    runs[0].close()
    assert text_of(next(runs[2]), parts).startswith("Step ")
    runs[1].close()
    runs[2].close()
    # Stopped while it waits: nothing has changed.
    one, two = (do.start(session, far(session), "w+", request(str(i)), *slow()) for i in range(2))
    three = do.start(session, far(session), "w+", request("2"), *slow())
    for run in (one, two):
        next(run), next(run)
    next(three), next(three)
    do.stop(request("2"))
    last = list(three)[-1]
    assert not last[parts.session].is_edited
    one.close()
    two.close()


def test_an_error_in_a_drag_keeps_the_session_and_is_told(do, parts, session, monkeypatch):
    run = do.start(session, far(session), "w+", request(), *slow())
    for _ in range(3):
        next(run)

    def broken(self):
        raise RuntimeError("a secret of the machine")

    monkeypatch.setattr(Drag, "__next__", broken)
    last = next(update for update in run if parts.start in update)
    assert last[parts.session].is_edited
    assert last[parts.start]["interactive"] is True
    assert "unexpected" in text_of(last, parts)
    assert "secret" not in text_of(last, parts)
    with pytest.raises(gr.Error, match="unexpected"):
        next(run)
    monkeypatch.undo()
    next(do.start(session, far(session), "w+", request(), *slow()))


@pytest.mark.parametrize("kind", ["drag", "pull"])
def test_a_drag_whose_last_picture_cannot_be_drawn_is_kept_and_can_be_undone(do, parts, session, monkeypatch, kind):
    def full(*arguments):
        raise torch.OutOfMemoryError("no memory left")

    there = session.add_pair(BUMP, (26.0, 30.0))
    if kind == "drag":
        run = do.start(there, canvas_value(there), "w+", request(), *DEFAULTS)
        next(run)
    else:
        run = do.pull(there, holding(**canvas_value(there)), "w+", request(), *DEFAULTS)
        next(run)
        do.pulls.steer({"key": KEY, "at": [30, 30], "end": True})
    monkeypatch.setattr(handlers, "render", full)
    going: list = []
    with pytest.raises(gr.Error, match="not enough memory"):
        going.extend(run)
    last = going[-1]
    assert "not enough memory" in text_of(last, parts)
    assert shown(last, parts.canvas)["busy"] is False
    assert "frame" not in shown(last, parts.canvas), "the last one on the way stays"
    after = last[parts.session]
    assert after.is_edited
    assert last[parts.stop]["interactive"] is False
    monkeypatch.undo()
    back = do.undo(after, canvas_value(after))
    assert drawn_on(shown(back, parts.canvas)["value"]) == drawn_on(canvas_value(there))
    assert not back[parts.session].is_edited
    # Nothing of it is left that would be in the way of the next.
    assert text_of(list(do.start(after, ONE_PAIR, "w+", request(), *DEFAULTS))[-1], parts)


# ---- pulling by hand ----------------------------------------------------------------------------------------------

KEY = "1234-5678-9012-3456"


def holding(xy=BUMP, key: str = KEY, **value) -> dict:
    """What the canvas sends when it takes hold of the picture."""
    return EMPTY | value | {"pull": {"key": key, "at": list(xy)}}


def follow(do: Handlers, run, way, key: str = KEY) -> dict:
    """Move the pointer along a way, a picture for every place, and let go; returns the page at rest."""
    next(run)
    with going_on(run) as updates:
        seen = 0
        for place in way:
            seen = picture_at(do, place, seen, key)["count"]
        assert do.pulls.steer({"key": key, "at": list(way[-1]), "end": True})
    return updates[-1]


@contextmanager
def going_on(run) -> Iterator[list]:
    """What a handler yields meanwhile, and after: all of it."""
    updates: list = []
    thread = threading.Thread(target=lambda: updates.extend(run))
    thread.start()
    yield updates
    thread.join(60)
    assert not thread.is_alive()


def picture_at(do: Handlers, place, seen: int, key: str = KEY) -> dict:
    """What the page is answered when the pointer is there: another picture than it has seen."""
    deadline = time.monotonic() + 60
    while True:
        answer = asyncio.run(do.pulls.answer({"key": key, "at": list(place), "seen": seen}))
        if answer:
            return answer
        assert answer is not None
        assert time.monotonic() < deadline


@pytest.mark.parametrize("with_mask", [False, True])
def test_a_pulled_picture_follows_and_undo_brings_all_back(do, parts, session, with_mask):
    there = session.add_pair((50, 50), (60, 50))
    if with_mask:
        mask = np.zeros((64, 64), bool)
        mask[10:50, 10:60] = True
        there = there.set_mask(mask)
    run = do.pull(there, holding(**canvas_value(there)), "w+", request(), *DEFAULTS)
    last = follow(do, run, [(24, 32), (28, 34), (32, 36), (36, 36)])
    assert text_of(last, parts) == "There it is. Pull on, or Undo takes you back."
    pixels = picture_of(last, parts).astype(int)
    y, x = np.unravel_index(pixels.sum(-1).argmax(), (64, 64))
    assert abs(x - 36) <= 1
    assert abs(y - 36) <= 1
    after = last[parts.session]
    assert after.pairs == ()
    assert (after.mask is not None) is with_mask
    assert shown(last, parts.canvas)["held"] == ""
    assert shown(last, parts.canvas)["busy"] is False
    undone = do.undo(after, canvas_value(after))
    assert undone[parts.session].now is there.now
    assert not do.pulls.steer({"key": KEY, "at": [1, 1]}), "nothing is held any more"


def test_while_it_is_pulled_the_page_shows_where_the_content_is(do, parts, session):
    run = do.pull(session, holding(), "w+", request(), *DEFAULTS)
    first = next(run)
    assert shown(first, parts.canvas)["held"] == KEY
    assert shown(first, parts.canvas)["busy"] is True
    assert asyncio.run(do.pulls.answer({"key": KEY, "at": list(BUMP), "seen": 0})) == {}, "nothing has moved yet"
    with going_on(run) as updates:
        answer = {"count": 0, "handles": [BUMP]}
        while abs(answer["handles"][0][0] - 40) > 2:
            answer = picture_at(do, (40, 30), answer["count"])
        assert abs(pixels_of(answer["frame"]).astype(int).sum(-1).argmax() % 64 - 40) <= 2
        do.stop(request())
    assert asyncio.run(do.pulls.answer({"key": KEY, "at": [1, 1], "seen": 0})) is None
    last = updates[-1]
    assert last[parts.session].is_edited
    assert last[parts.session].film


def test_taking_hold_and_letting_go_changes_nothing(do, parts, session):
    there = session.add_pair((50, 50), (60, 50))
    run = do.pull(there, holding(**canvas_value(there)), "w+", request(), *DEFAULTS)
    next(run)
    do.pulls.steer({"key": KEY, "at": list(BUMP), "end": True})
    last = list(run)[-1]
    assert last[parts.session].now is there.now
    assert text_of(last, parts).startswith("1 point set")


def test_a_pull_that_waits_for_its_place_can_be_given_up(parts, models, session):
    do = Handlers(parts, models, Drags(0))
    run = do.pull(session, holding(), "w+", request(), *DEFAULTS)
    next(run)
    assert text_of(next(run), parts).startswith("Waiting")
    do.pulls.steer({"key": KEY, "at": [30, 30], "stop": True})
    assert list(run)[-1][parts.session].now is session.now


def test_a_pull_that_was_given_up_does_not_blame_the_model(do, parts, session):
    run = do.pull(session, holding(), "w+", request(), *DEFAULTS)
    next(run)
    with going_on(run) as updates:
        picture_at(do, (60, 60), 0)
        do.pulls.steer({"key": KEY, "at": [5, 60], "stop": True})
    assert text_of(updates[-1], parts).startswith("Stopped where it was")


def test_a_pointer_that_falls_silent_lets_go(do, parts, session, monkeypatch):
    monkeypatch.setattr(handlers, "_SILENCE", 0.2)
    run = do.pull(session, holding(), "w+", request(), *DEFAULTS)
    next(run)
    do.pulls.steer({"key": KEY, "at": [30, 30]})
    assert text_of(list(run)[-1], parts).startswith("There it is")


@pytest.mark.parametrize(
    "message",
    [None, 3, {}, {"key": 3}, {"key": "another"}, {"key": ["x"]}, [KEY]],
)
def test_words_of_no_pointer_of_ours_change_nothing(do, message):
    assert do.pulls.steer(message) is False


def test_a_pointer_outside_the_picture_is_passed_over(do, parts, session):
    run = do.pull(session, holding(), "w+", request(), *DEFAULTS)
    next(run)
    for at in ([99, 1], None, "x", [1], {"x": 1}, [float("nan"), 1], [10**400, 1]):
        assert do.pulls.steer({"key": KEY, "at": at}) is True
    do.pulls.steer({"key": KEY, "at": [30, 30], "end": True})
    assert text_of(list(run)[-1], parts).startswith("There it is")


@pytest.mark.parametrize(
    "value", [EMPTY, {"pull": 3}, {"pull": {"key": "short", "at": [1, 1]}}, holding((1, "x")), holding((99, 1))]
)
def test_what_cannot_be_pulled_is_refused(do, session, value):
    with pytest.raises(gr.Error, match=r"pull looks like|not 2 numbers|outside the picture"):
        next(do.pull(session, value, "w+", request(), *DEFAULTS))
    # Nothing is left of it.
    run = do.pull(session, holding(), "w+", request(), *DEFAULTS)
    next(run)
    run.close()


def test_warming_up_ends_and_changes_nothing(do, parts, session, models):
    warm_up(models)
    assert np.array_equal(do.open_page("bump", 0, 0.0)[parts.session].ws, session.ws)


def test_a_closed_tab_lets_go(do, session):
    run = do.pull(session, holding(), "w+", request(), *DEFAULTS)
    next(run)
    do.pulls.steer({"key": KEY, "at": [40, 30]})
    with going_on(run) as updates:
        do.close(request())
    assert updates, "it ends"


def test_second_order_steps_are_a_choice(do, parts, session):
    steps = {}
    for solver in ("adam", "newton"):
        chosen = [solver if name == "solver" else value for name, value in zip(SETTINGS, DEFAULTS, strict=True)]
        last = list(do.start(session, ONE_PAIR, "w+", request(), *chosen))[-1]
        assert text_of(last, parts).startswith("Arrived")
        steps[solver] = int(re.search(r"after (\d+) step", text_of(last, parts))[1])
    assert steps["newton"] < steps["adam"] / 2


# ---- saving -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "form"), [("gif", "GIF"), ("webp", "WEBP")])
def test_a_drag_is_saved_as_an_animation_marked(do, parts, session, suffix, form):
    save = {"gif": do.save_gif, "webp": do.save_webp}[suffix]
    with pytest.raises(gr.Error, match="drag something first"):
        next(save(session, EMPTY))
    last = list(do.start(session, ONE_PAIR, "w+", request(), *DEFAULTS))[-1]
    assert shown(last, parts.save_gif)["interactive"] is True
    after = last[parts.session]
    updates = list(save(after, canvas_value(after)))
    assert text_of(updates[0], parts).startswith("Drawing picture 1 of ")
    path = Path(updates[-1][parts.file])
    assert path.name == f"bump-seed0-dragged.{suffix}"
    assert b"trainedAlgorithmicMedia" in path.read_bytes()
    with Image.open(path) as film:
        assert film.format == form
        assert 3 <= film.n_frames <= 35
        places = []
        for i in range(film.n_frames):
            film.seek(i)
            places.append(int(np.asarray(film.convert("L")).argmax()) % 64)
    assert abs(places[0] - BUMP[0]) <= 1
    assert abs(places[-1] - (BUMP[0] + 6)) <= 2
    assert (np.diff(places) >= -1).all(), "in the order of the drag"
    undone = do.undo(after, canvas_value(after))
    assert shown(undone, parts.save_gif)["interactive"] is False


def test_saving_gives_the_clean_picture_marked(do, parts, session):
    updates = do.save(session, ONE_PAIR)
    path = Path(updates[parts.file])
    assert path.name == "bump-seed0.png"
    with Image.open(path) as saved:
        assert saved.size == (64, 64)
        assert "AI-generated" in saved.text["Comment"]
        assert '"seed": 0' in saved.text["DragGAN"]
        # A lossless picture of the latent: the preview of the same is within what JPEG loses.
        preview = picture_of(do.open_page("bump", 0, 0.0), parts).astype(int)
        assert np.abs(np.asarray(saved).astype(int) - preview).mean() < 2


def test_files_make_room_when_they_are_old_and_not_before(do, parts, session, monkeypatch):
    """As many as may be written at the same time."""
    kept = [Path(do.save(session, ONE_PAIR)[parts.file]) for _ in range(12)]
    assert all(path.exists() for path in kept)
    for path in kept:
        os.utime(path.parent, (1, 1))
    # Another one is removing them too.
    iterdir, gone = Path.iterdir, kept.pop()

    def meanwhile(folder):
        there = list(iterdir(folder))
        shutil.rmtree(gone.parent)
        return iter(there)

    monkeypatch.setattr(Path, "iterdir", meanwhile)
    assert Path(do.save(session, ONE_PAIR)[parts.file]).exists()
    assert not any(path.exists() for path in kept)


def test_a_caller_without_a_page_gets_a_session(do, parts):
    assert do.edit(None, ONE_PAIR)[parts.session].model == "bump"


# ---- words and pace -----------------------------------------------------------------------------------------------


def step(outcome: str | None, *, index: int = 42, distances: tuple[float, ...] = (3.14,)) -> DragStep:
    n = len(distances)
    return DragStep(
        index=index,
        ws=torch.zeros(1, 2, 2),
        handles=np.zeros((n, 2), np.float32),
        targets=np.zeros((n, 2), np.float32),
        distances=np.array(distances, np.float32),
        loss=0.0,
        done=outcome is not None,
        outcome=outcome,
    )


@pytest.mark.parametrize(
    ("seconds", "distances", "text"),
    [
        (8.0, (3.14,), "Step 42 · 3.1 px to go · 5.2 steps/s"),
        (0.5, (3.14,), "Step 42 · 3.1 px to go · 84 steps/s"),
        (100.0, (3.14, 9.96), "Step 42 · 10.0 px to go (point 2) · 0.42 steps/s"),
    ],
)
def test_progress(seconds, distances, text):
    assert texts.progress(step(None, distances=distances), seconds) == text


@pytest.mark.parametrize(
    ("last", "kind", "words"),
    [
        (step("arrived", distances=(0.7,)), "good", "Arrived after 42 steps: the handle is within 1 px of its target."),
        (step("arrived", distances=(0.7, 0.2)), "good", "every handle is within 1 px"),
        (step("arrived", index=0), "note", "already on its target"),
        (step("stopped", index=1), "note", "Stopped after 1 step, 3.1 px to go. Start goes on from here; Undo"),
        (step("max_steps"), "note", "42 steps done, the limit"),
        (step("max_steps"), "note", "Undo takes you back"),
        (step("stalled"), "note", "No more progress after 42 steps, 3.1 px to go"),
        (step("stalled"), "note", "Undo takes you back"),
        (step("diverged"), "bad", "Undo takes you back"),
        (step("diverged"), "bad", "smaller step size"),
    ],
)
def test_every_end_has_its_sentence(session, last, kind, words):
    said = texts.outcome(last, 1.0, session)
    assert said[0] == kind
    assert words in said[1]


def test_advice_fits_what_is_set(session):
    masked = session.set_mask(np.eye(64, dtype=bool)).set_space("w")
    assert "larger painted region" in texts.outcome(step("stalled"), 1.0, masked)[1]
    assert "W+ in place of W" in texts.outcome(step("stalled"), 1.0, masked)[1]
    assert "painted" not in texts.outcome(step("stalled"), 1.0, session)[1]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("seed 3 is not allowed; give 1", "Seed 3 is not allowed; give 1."),
        ("lions.pkl is not a model", "lions.pkl is not a model."),
        ("step_size = -1 is not allowed", "step_size = -1 is not allowed."),
        ("r1 = -1 is not allowed", "r1 = -1 is not allowed."),
        ("'dog' is neither here nor there. Look elsewhere!", "'dog' is neither here nor there. Look elsewhere!"),
    ],
)
def test_messages_become_sentences(message, said):
    assert texts.sentence(message) == said


@pytest.mark.parametrize(("step_cost", "picture_cost"), [(0.001, 0.0), (0.001, 0.05), (0.2, 0.1), (0.01, 0.5)])
def test_pictures_come_as_often_as_they_may_and_never_slow_a_drag_by_more_than_a_third(step_cost, picture_cost):
    now = 0.0
    pace = Pace(rate=14, share=0.25, clock=lambda: now)
    steps = pictures = 0
    while now < 60:
        now += step_cost
        steps += 1
        if pace.wait() == 0:
            pace.begin()
            now += picture_cost
            pace.end()
            pictures += 1
    assert now / (steps * step_cost) <= 4 / 3 + 0.02
    assert pictures / now <= 14.01
    # Not fewer than those two limits, and the length of a step, demand.
    interval = max(1 / 14, 4 * picture_cost) + step_cost
    assert pictures >= 60 / interval * 0.95


def test_previews_are_jpeg_of_the_right_size():
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(0, 255, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    url = frame_url(smooth)
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))))
    assert url.startswith("data:image/jpeg;base64,")
    assert np.abs(back.astype(int) - smooth).mean() < 3


# ---- the app as it is served --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served():
    models = TinyModels()
    demo = build(models, drags=3)
    _, url, _ = demo.launch(
        prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", ssr_mode=False, **launch_options()
    )
    yield url
    demo.close()


@pytest.fixture
def client(served):
    client = Client(served, verbose=False)
    yield client
    client.close()


def status_in(result) -> str:
    """The status line among what an endpoint returns."""
    found = [r["value"] for r in result if isinstance(r, dict) and "kind" in r.get("props", {})]
    assert len(found) == 1, result
    return found[0]


def test_what_programs_are_told_of(client):
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/models", "/picture", "/drag"}


def test_pictures_and_models_for_programs(client):
    listed = {m["name"]: m["here"] for m in client.predict(api_name="/models")}
    assert listed == {"bump": True, "tiny": True, "classes": True, "far": False, "hand": False}
    url = client.predict("classes", 3, 0.7, 2, api_name="/picture")
    with Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))) as png:
        assert png.size == (16, 32)
        assert "AI-generated" in png.text["Comment"]
    with pytest.raises(Exception, match="There is no model 'dog' here"):
        client.predict("dog", 3, 0.7, 0, api_name="/picture")


def test_a_drag_for_programs(client):
    result = client.predict("bump", 0, [[*BUMP, BUMP[0] + 6, BUMP[1]]], 0.0, 0, "", None, api_name="/drag")
    assert result["outcome"] == "arrived"
    assert abs(result["handles"][0][0] - 26) <= 1
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(result["picture"].split(",", 1)[1])))).astype(int)
    y, x = np.unravel_index(pixels.sum(-1).argmax(), (64, 64))
    assert abs(x - 26) <= 1
    assert abs(y - 30) <= 1
    with pytest.raises(Exception, match="There is no setting 'speed'"):
        client.predict("bump", 0, [[*BUMP, 26, 30]], 0.0, 0, "", {"speed": 3}, api_name="/drag")
    with pytest.raises(Exception, match="max_steps = 0 is not allowed"):
        client.predict("bump", 0, [[*BUMP, 26, 30]], 0.0, 0, "", {"max_steps": 0}, api_name="/drag")


def test_the_page_over_the_network(client):
    client.predict("bump", 0, 0.0, api_name="/open")
    assert status_in(client.predict(ONE_PAIR, api_name="/edit")).startswith("1 point set.")
    job = client.submit(ONE_PAIR, "w+", *DEFAULTS, api_name="/start")
    assert status_in(job.result(timeout=60)).startswith("Arrived after ")
    assert len(job.outputs()) >= 2
    assert drawn_on(canvas_of(client.predict(EMPTY, api_name="/reset"))) == EMPTY
    path = client.predict(EMPTY, api_name="/save")
    with Image.open(path) as saved:
        assert saved.size == (64, 64)
    with pytest.raises(Exception, match="There is nothing to drag yet"):
        client.predict(EMPTY, "w+", *DEFAULTS, api_name="/start")


def test_what_is_asked_for_at_once_is_done_one_after_the_other(client):
    client.predict("bump", 0, 0.0, api_name="/open")
    pairs = [[k, k, k + 1, k] for k in range(5)]
    for k in range(1, 6):
        client.predict({"points": pairs[:k], "pending": None, "mask": None}, api_name="/edit")
    seen = {"points": pairs, "pending": None, "mask": None, "revision": 1}
    jobs = [client.submit(seen, api_name="/undo") for _ in range(3)]
    left = sorted(len(canvas_of(job.result(timeout=60))["points"]) for job in jobs)
    assert left == [2, 3, 4]
    result = client.predict(seen, api_name="/redo")
    assert canvas_of(result)["points"] == pairs[:3]


def canvas_of(result) -> dict:
    return next(r["value"] for r in result if isinstance(r, dict) and isinstance(r.get("value"), dict))


def test_stop_over_the_network_and_sessions_are_independent(served):
    one, two = Client(served, verbose=False), Client(served, verbose=False)
    value = {"points": [[*BUMP, 62, 62]], "pending": None, "mask": None}
    first = one.submit(value, "w+", *slow(), api_name="/start")
    second = two.submit(value, "w+", *slow(), api_name="/start")
    deadline = time.monotonic() + 60
    while len(first.outputs()) < 2 or len(second.outputs()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    one.predict(api_name="/stop")
    assert status_in(first.result(timeout=60)).startswith("Stopped after ")
    assert not second.done(), "the other session goes on"
    two.predict(api_name="/stop")
    assert status_in(second.result(timeout=60)).startswith("Stopped after ")
    one.close()
    two.close()


def test_what_the_canvas_is_told_is_no_event_of_its(parts):
    for name in ("frame", "size", "live", "busy", "value"):
        assert "functools" not in str(getattr(parts.canvas, name, "")), f"'{name}' stands in quotes in canvas.js"
    assert callable(parts.canvas.edit)


def test_every_member_of_a_group_has_the_same_explicit_limit():
    demo = build(TinyModels(), drags=3)
    limits = {}
    for fn in demo.fns.values():
        limits.setdefault(fn.concurrency_id, set()).add(fn.concurrency_limit)
    assert all(len(group) == 1 for group in limits.values())
    assert demo._queue.default_concurrency_limit == 6


def test_nothing_is_shared_recorded_or_fetched_unless_asked():
    import app

    args = app._parser().parse_args([])
    assert (args.host, args.listen, args.share) == (None, False, False)
    options = launch_options()
    assert options.get("run_history", False) is False
    assert "http" not in "".join(options["theme"]._font_css)
    assert build(TinyModels()).analytics_enabled is False


def test_app_explains_a_wrong_model(capsys):
    import app

    assert app.main(["--model", "no-such-model"]) == 1
    said = capsys.readouterr().err
    assert "'no-such-model' is neither a listed model nor a file" in said
    assert "Traceback" not in said


@pytest.fixture
def app_on_tiny_models(monkeypatch):
    import app
    import draggan.ui
    from torch_utils.ops import library

    monkeypatch.setattr(draggan.ui, "Shelf", lambda device, model: TinyModels())
    monkeypatch.setattr(library, "build_in_background", lambda: None)
    monkeypatch.setattr(draggan.ui, "warm_up", lambda models: None)
    monkeypatch.setattr(gr.Blocks, "block_thread", gr.Blocks.close)
    return app


def test_app_says_where_the_page_is_and_nothing_else(app_on_tiny_models, capsys):
    assert app_on_tiny_models.main([]) == 0
    captured = capsys.readouterr()
    assert re.fullmatch(r"The page is at http://127\.0\.0\.1:\d+/? \(Ctrl\+C ends it\)\.", captured.out.splitlines()[0])
    assert "share" not in captured.out


def test_app_explains_a_port_that_is_taken(app_on_tiny_models, served, capsys):
    port = served.rstrip("/").rsplit(":", 1)[1]
    assert app_on_tiny_models.main(["--port", port]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"app.py: port {port} is in use; choose another one with --port")


def test_app_asks_before_it_downloads(app_on_tiny_models, capsys, monkeypatch):
    monkeypatch.setattr(catalogue.ModelEntry, "download_size", lambda self: 364_000_000)
    assert app_on_tiny_models.main(["--model", "lions-512"]) == 1
    said = capsys.readouterr().err
    for fact in ("364.0 MB", "storage.googleapis.com", "Apache-2.0 according", "add --yes"):
        assert fact in said


def test_pictures_of_a_drag_are_as_large_as_there_is_time_for():
    size = Size((4, 8, 64, 128, 256, 512, 1024), budget=0.1)
    heights = []
    for seconds in (0.01, 0.15, 0.03, 0.3, 0.01, 0.01, 0.01):
        heights.append(size.height)
        size.took(seconds)
    # A quarter at least; up after 0.01 s, down after 0.15 s, and 0.03 s is a reason for neither.
    assert heights == [256, 512, 256, 256, 256, 512, 1024]
    assert Size((4, 8, 16, 32, 64)).height == 64
    assert Size((512,)).height == 512
