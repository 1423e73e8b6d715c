"""Choosing a model, and opening one from a file."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import numpy as np
import pytest

from draggan.checkpoints import catalogue
from draggan.engine.models import CatalogueModels
from draggan.errors import CheckpointError, RecipeError
from draggan.ui import messages
from draggan.ui.canvas.value import EMPTY, canvas_value
from draggan.ui.handlers import keeping
from tests.page.driving import DEFAULTS, ONE_PAIR, chosen, far, picture_of, request, seeded, shown, slow, text_of
from tests.pages import BUMP, PRESETS


def test_the_page_opens_on_a_picture(do, parts, session):
    updates = do.open_page("bump", 0, 0.0)
    assert shown(updates, parts.canvas)["size"] == [64, 64]
    pixels = picture_of(updates, parts).astype(int)
    y, x = np.unravel_index(pixels.sum(-1).argmax(), (64, 64))
    assert (x, y) == BUMP
    assert text_of(updates, parts).startswith("Click a point in the picture, then where it should go. Or choose Live")
    assert updates[parts.undo]["interactive"] is False
    assert updates[parts.start]["interactive"] is False


def test_what_is_chosen_already_is_not_chosen_again(do, parts, session):
    there = do.edit(session, ONE_PAIR)[parts.session]
    assert chosen(do, there, "bump") == {parts.session: there}
    far = list(do.choose_model(there, "far", 1))[-1]
    assert far[parts.offered] == "far"
    (offered,) = do.choose_model(there, "far", 1, "far")
    assert set(offered) == {parts.session, parts.model, parts.photo}, "it is on offer already"
    assert offered[parts.session] is there
    assert shown(offered, parts.model)["value"] == "bump", "and not on the canvas"
    back = list(do.choose_model(there, "bump", 1, "far"))[-1]
    assert (back[parts.session], back[parts.offered]) == (there, "")
    assert parts.canvas not in back


def test_a_page_without_a_model_says_so(do, parts):
    assert "There is no model 'dog' here" in text_of(do.open_page("dog", 0, 0.5), parts)


def kept(do, parts, session) -> dict:
    """What a browser has of it, as it comes back with the page's first event."""
    updates = do.keep(session, None, {"count": 1, "there": []}, request(), DEFAULTS)
    answer = shown(updates, parts.keeper)["answer"]
    pieces = ",".join(f'"{name}":{text}' for name, text in answer["pieces"].items())
    return {"text": f'{{"outline":{answer["outline"]},"pieces":{{{pieces}}}}}'}


def test_work_comes_back_also_with_another_model_on_a_way_that_was_left(do, parts, session):
    left = chosen(do, session, "tiny")[parts.session].undo()
    there = seeded(do, left, 7)[parts.session]
    assert [moment.start.model.name for moment in there.branches] == ["tiny"]
    updates = do.open_page("bump", 0, 0.0, kept(do, parts, there), request())
    assert text_of(updates, parts).startswith("Your work is back")
    assert updates[parts.session].seed == 7
    assert len(updates[parts.session].branches) == 1


def test_kept_work_that_cannot_be_read_is_refused_and_any_other_is_offered_again(do, parts, session, monkeypatch):
    tiny = chosen(do, session, "tiny")[parts.session]
    work, failure, whole_model = kept(do, parts, seeded(do, tiny, 7)[parts.session]), None, type(do.page).whole_model

    def opened() -> dict:
        return do.open_page("bump", 0, 0.0, work, request())

    def broken(*args, **kwargs):
        raise failure

    with monkeypatch.context() as reading:
        reading.setattr(keeping, "read_session", broken)
        failure = RecipeError("its settings are none")
        updates = opened()
    assert text_of(updates, parts).startswith("The work kept in this browser cannot be used, so this is a new start.")
    assert shown(updates, parts.keeper)["aside"] == {"waiting": None}
    # Of the machine, of a model that could not be read this time, of the program: the work is as it should be.
    late = CheckpointError("tiny.pkl: reading took longer than 60 s and was stopped")
    for error, why in ((MemoryError(), "not enough memory"), (late, "took longer"), (KeyError("x"), "unexpected")):
        failure = error
        monkeypatch.setattr(type(do.page), "whole_model", broken)
        waiting = shown(opened(), parts.keeper)["aside"]["waiting"]
        assert waiting["again"] is True
        assert waiting["text"].startswith("Your last work could not be shown this time, and stays kept.")
        assert why in waiting["text"]
    # Where a new start is possible, there is one.
    monkeypatch.setattr(
        type(do.page), "whole_model", lambda *of: (broken if of[1].model == "tiny" else whole_model)(*of)
    )
    updates = opened()
    assert shown(updates, parts.keeper)["aside"]["waiting"] == waiting
    assert updates[parts.session].model == "bump"
    monkeypatch.setattr(type(do.page), "whole_model", whole_model)
    updates = opened()
    assert updates[parts.session].model == "tiny"
    assert shown(updates, parts.keeper)["back"] is True


def test_another_model(do, parts, session):
    updates = chosen(do, session, "classes", 5)
    after = updates[parts.session]
    assert (after.model, after.image_size, after.seed, after.label) == ("classes", (32, 16), 5, 0)
    assert shown(updates, parts.canvas)["size"] == [16, 32]
    label = shown(updates, parts.label)
    assert label["visible"] is True
    assert [value for _, value in label["choices"]] == [0, 1, 2]
    assert shown(chosen(do, after, "tiny", 5), parts.label)["visible"] is False


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


def names(do, parts, session) -> list[str]:
    """Of all models in the list."""
    return [model["name"] for model in shown(do.list_models(session), parts.model)["models"]]


def test_the_list_says_what_is_to_be_known_of_each_model(do, parts, session, distant):
    there = {model["name"]: model for model in shown(do.list_models(session), parts.model)["models"]}
    assert there["far"]["facts"] == ["To download from example.org", "Terms: CC0"]
    assert there["bump"] == {
        "name": "bump",
        "title": "A bump",
        "group": "Your files",
        "sign": "files",
        "facts": ["On this machine", "Terms: CC0"],
        "picture": "",
    }
    cat = CatalogueModels().find("cat")
    assert cat.picture is not None
    assert cat.picture.stat().st_size < 4000, "it goes with the list"


def test_opening_a_file(do, parts, session):
    first, last = do.open_file(session, "/somewhere/mine.safetensors", request())
    assert text_of(first, parts) == "Reading mine.safetensors …"
    after = last[parts.session]
    assert after.image_size == (16, 16)
    assert shown(last, parts.model)["title"] == "mine.safetensors"
    assert shown(last, parts.model)["value"] == after.model
    assert Path(do.save(after, EMPTY, request())[parts.file]).name == "mine-seed0.png"
    # Another tab's list does not show it, and this tab's keeps it.
    assert after.model not in names(do, parts, chosen(do, None, "tiny")[parts.session])
    assert after.model in names(do, parts, chosen(do, after, "tiny")[parts.session])
    assert list(do.open_file(session, "", request())) == []
    failed = do.open_file(session, "/somewhere/notes.txt", request())
    assert [text_of(next(failed), parts), text_of(next(failed), parts)] == [
        "Reading notes.txt …",
        "notes.txt is not a model file.",
    ]
    with pytest.raises(gr.Error, match="is not a model file"):
        next(failed)


def test_what_is_done_while_a_file_is_read_counts(do, parts, session):
    read, start = do.page.tabs.serialized(do.open_file), do.page.tabs.serialized(do.start)
    run = read(request(), session, "/somewhere/mine.safetensors")
    assert text_of(next(run), parts).startswith("Reading")
    dragged = list(start(request(), session, ONE_PAIR, DEFAULTS))[-1][parts.session]
    assert dragged.is_edited
    after = next(run)[parts.session]
    assert after.image_size == (16, 16)
    assert do.undo(after, canvas_value(after))[parts.session].now is dragged.now


def test_a_file_that_is_read_while_a_drag_runs_leaves_it_alone(do, parts, session, capsys):
    read, start = do.page.tabs.serialized(do.open_file), do.page.tabs.serialized(do.start)
    drag = start(request(), session, far(session), slow())
    next(drag), next(drag)
    _, listed = read(request(), session, "/somewhere/mine.safetensors")
    assert parts.canvas not in listed, "the page stays as the drag has it"
    assert "mine.safetensors is ready. Choose it from the list to use it." in text_of(listed, parts)
    assert "is ready" in capsys.readouterr().out, "the next step would overwrite the status line"
    do.stop(request())
    after = list(drag)[-1][parts.session]
    assert after.is_edited
    (opened,) = after.opened
    assert opened[1] in names(do, parts, chosen(do, after, "tiny")[parts.session])


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
        catalogue.ModelEntry(
            name="far", title="Far away", urls=("https://example.org/far.pkl",), file="far.pkl", kind="animals"
        ),
        catalogue.ModelEntry(name="mine", title="Mine", path=str(tmp_path / "mine.pkl")),
        catalogue.ModelEntry(name="face", title="Faces", file="face.safetensors", builtin=True),
        catalogue.ModelEntry(name="cat", title="Cats", file="cat.safetensors", builtin=True, size=(128, 64)),
    )
    monkeypatch.setattr(catalogue, "_BUILTIN_DIR", tmp_path)
    monkeypatch.setattr("draggan.engine.models.all_models", lambda: entries)
    monkeypatch.setattr("draggan.engine.models.load_generator", lambda *args: None)
    assert [model.name for model in CatalogueModels().listed()] == ["face", "cat", "mine", "far", "hand"]
    assert [model.name for model in CatalogueModels(first="cat").listed()] == ["cat", "face", "mine", "far", "hand"]
    assert [model.title for model in CatalogueModels().listed()][:2] == ["Faces", "Cats · 64 x 128 px"]
    listed = CatalogueModels().listed()
    assert [model.group for model in listed] == ["built in", "built in", "files", "animals", "files"]
    assert [messages.model_facts(model, None) for model in listed] == [
        [],
        [],
        ["On this machine"],
        ["To download"],
        ["To get by hand"],
    ]


def test_another_model_begins_with_the_seed_of_its_first_example(do, parts, session):
    """A seed that shows one model at its best says nothing of another."""
    other = chosen(do, session, "tiny", 5)[parts.session]
    assert other.seed == 5, "it has no examples"
    assert chosen(do, other, "bump", 5)[parts.session].seed == PRESETS[0].seed


def test_a_path_without_a_file_is_named_without_its_folder_and_the_next_choice_takes_the_error_away(
    do, parts, session, monkeypatch
):
    own = gr.Request(session_hash="a")
    monkeypatch.setattr("draggan.ui.handlers.models.is_own", lambda request: True)
    monkeypatch.setattr(do.page.models, "open", CatalogueModels().open)
    opening = do.open_path(session, "/nowhere/x.pkl", own)
    assert text_of(next(opening), parts) == "Reading x.pkl …"
    assert text_of(next(opening), parts) == "There is no file or listed model called x.pkl."
    with pytest.raises(gr.Error):
        next(opening)
    offered = list(do.choose_model(session, "far", 1))[-1]
    assert (text_of(offered, parts), shown(offered, parts.status)["kind"]) == (messages.hint(session), "")
    assert text_of(do.not_now(session, own), parts) == messages.hint(session)
