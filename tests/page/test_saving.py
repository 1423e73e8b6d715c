"""Pictures and animations as files."""

from __future__ import annotations

import errno
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from draggan.export import read_recipe
from draggan.provenance.deployment import default
from draggan.ui.canvas.value import EMPTY, canvas_value
from tests.marks import brightest_place, marks_of
from tests.page.driving import DEFAULTS, ONE_PAIR, picture_of, request, shown, text_of
from tests.pages import BUMP


@pytest.mark.parametrize(("suffix", "form"), [("gif", "GIF"), ("webp", "WEBP")])
def test_a_drag_is_saved_as_an_animation_marked(do, parts, session, suffix, form):
    save = {"gif": do.save_gif, "webp": do.save_webp}[suffix]
    with pytest.raises(gr.Error, match="drag something first"):
        next(save(session, EMPTY, request()))
    last = list(do.start(session, ONE_PAIR, "w+", request(), *DEFAULTS))[-1]
    assert shown(last, parts.save_gif)["interactive"] is True
    after = last[parts.session]
    updates = list(save(after, canvas_value(after), request()))
    assert text_of(updates[0], parts).startswith("Drawing frame 1 of ")
    path = Path(updates[-1][parts.file])
    assert path.name == f"bump-seed0-dragged.{suffix}"
    assert marks_of(path.read_bytes()) >= {"words", "signature", "record"}
    with Image.open(path) as film:
        assert film.format == form
        assert 3 <= film.n_frames <= 35
        places = []
        for i in range(film.n_frames):
            film.seek(i)
            places.append(brightest_place(film)[0])
    assert places[0] == pytest.approx(BUMP[0], abs=1)
    assert places[-1] == pytest.approx(BUMP[0] + 6, abs=2)
    assert (np.diff(places) > -0.7).all(), "in the order of the drag"
    undone = do.undo(after, canvas_value(after))
    assert shown(undone, parts.save_gif)["interactive"] is False


def test_a_picture_is_saved_larger_by_plain_resampling(do, parts, session):
    path = do.save(session, EMPTY, request(), 4)[parts.file]
    assert marks_of(Path(path).read_bytes()) >= {"words", "signature", "record"}
    with Image.open(path) as saved:
        assert saved.size == (256, 256)
        assert brightest_place(saved) == pytest.approx([4 * v + 1.5 for v in BUMP], abs=4)
    for wrong in (3, None, "2"):
        with pytest.raises(gr.Error, match="1, 2, 4 times as large"):
            do.save(session, EMPTY, request(), wrong)


def test_saving_gives_the_clean_picture_marked(do, parts, session):
    updates = do.save(session, ONE_PAIR, request())
    path = Path(updates[parts.file])
    assert path.name == "bump-seed0.png"
    with Image.open(path) as saved:
        assert saved.size == (64, 64)
        assert "AI-generated" in saved.text["Comment"]
        assert '"seed": 0' in saved.text["DragGAN"]
    assert marks_of(path.read_bytes()) >= {"words", "signature", "record"}
    # What the canvas shows and no drag has done yet is no part of how the picture came about.
    assert replace(read_recipe(path), model=session.recipe.model) == session.recipe
    with Image.open(path) as saved:
        # A lossless picture of the latent: the preview of the same is within what JPEG loses.
        preview = picture_of(do.open_page("bump", 0, 0.0), parts).astype(int)
        assert np.abs(np.asarray(saved).astype(int) - preview).mean() < 2


def test_saves_of_one_visit_are_recorded_under_one_random_name(do, session):
    for tab in ("a", "a", "b"):
        do.save(session, ONE_PAIR, request(tab))
    names = [row.facts["session"] for row in default().audit.rows(last=3)]
    assert names[0] == names[1] != names[2]
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in names)


def test_files_make_room_when_they_are_old_and_not_before(do, parts, session, monkeypatch):
    """As many as may be written at the same time."""
    kept = [Path(do.save(session, ONE_PAIR, request())[parts.file]) for _ in range(12)]
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
    assert Path(do.save(session, ONE_PAIR, request())[parts.file]).exists()
    assert not any(path.exists() for path in kept)


def test_a_saved_picture_names_an_opened_model_by_its_file_and_keeps_its_secret(do, parts, session, tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(b"")
    opened = list(do.open_file(session, str(tmp_path / "mine.safetensors"), request()))[-1][parts.session]
    path = Path(do.save(opened, EMPTY, request())[parts.file])
    assert "secret" in opened.model
    assert b"secret" not in path.read_bytes()
    assert read_recipe(path).model.name == "mine"


def test_a_full_temporary_folder_is_a_sentence_and_nothing_is_lost(do, session, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("draggan.ui.handlers.saving.mkdtemp", full)
    with pytest.raises(gr.Error, match="The file could not be written: the disk of this server is full"):
        do.save(session, EMPTY, request())
    monkeypatch.undo()
    assert do.save(session, EMPTY, request())
