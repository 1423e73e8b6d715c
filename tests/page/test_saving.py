"""Pictures and animations as files."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image, ImageSequence

from draggan.export import read_recipe
from draggan.provenance.deployment import default
from draggan.ui.canvas.value import EMPTY, canvas_value
from draggan.ui.handlers import saving
from draggan.ui.jobs import FilmJob
from draggan.ui.layout import FILMS
from tests.marks import brightest_place, frames_of_film, marks_of
from tests.page.driving import DEFAULTS, ONE_PAIR, picture_of, request, shown, text_of
from tests.pages import BUMP


@pytest.fixture
def dragged(do, parts, session):
    """A session after a drag."""
    last = list(do.start(session, ONE_PAIR, DEFAULTS, request()))[-1]
    assert shown(last, parts.save_film)["interactive"] is True
    return last[parts.session]


def frames_in(data: bytes) -> list[Image.Image]:
    if data[4:8] == b"ftyp":
        return [Image.fromarray(frame) for frame in frames_of_film(data)]
    with Image.open(io.BytesIO(data)) as film:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(film)]


@pytest.mark.parametrize("form", FILMS)
def test_a_drag_is_saved_as_a_film_marked(do, parts, session, dragged, form):
    if form == "MP4":
        pytest.importorskip("imageio_ffmpeg", reason="nothing here writes MP4")
    with pytest.raises(gr.Error, match="drag something first"):
        next(do.save_film(session, EMPTY, request(), form))
    first, *updates = do.save_film(dragged, canvas_value(dragged), request(), form)
    assert text_of(updates[0], parts).startswith("Drawing frame 1 of ")
    assert any(re.fullmatch(r"Writing the file: \d+ %", text_of(update, parts)) for update in updates)
    # It can be stopped, and nothing else can be begun.
    assert shown(first, parts.stop)["interactive"] is True
    assert shown(first, parts.start)["interactive"] is shown(first, parts.save)["interactive"] is False
    assert shown(first, parts.canvas)["busy"] is True
    assert shown(updates[-1], parts.stop)["interactive"] is False
    assert shown(updates[-1], parts.save)["interactive"] is True
    assert shown(updates[-1], parts.canvas) == {"busy": False}
    path = Path(updates[-1][parts.file])
    assert path.name == f"bump-seed0-dragged.{form.lower()}"
    assert marks_of(path.read_bytes()) >= {"words", "signature", "record"}
    assert read_recipe(path).edits[0].points == dragged.recipe.edits[0].points
    places = [brightest_place(frame)[0] for frame in frames_in(path.read_bytes())]
    assert len(places) >= 18, "with pictures in between"
    assert places[0] == pytest.approx(BUMP[0], abs=1)
    assert places[-1] == pytest.approx(BUMP[0] + 6, abs=2)
    # Codecs round, and move what is bright by a little.
    assert np.diff(places).max() < 2.5, "and without a jump"
    assert (np.diff(places) > -0.7).all(), "in the order of the drag"
    undone = do.undo(dragged, canvas_value(dragged))
    assert shown(undone, parts.save_film)["interactive"] is False


def test_a_film_goes_there_and_back_at_a_speed_with_points_or_as_the_drag_went(do, parts, dragged):
    def film(**how):
        path = list(do.save_film(dragged, canvas_value(dragged), request(), "WebP", **how))[-1][parts.file]
        with Image.open(path) as opened:
            frames = [
                (np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(opened)
            ]
        return [pixels for pixels, _ in frames], [seconds for _, seconds in frames]

    plain, _ = film(smooth=False)
    # Of two that are the same, Pillow writes one.
    assert len(dragged.frames) - 3 <= len(plain) <= len(dragged.frames)
    both, _ = film(smooth=False, back=True)
    assert len(both) == pytest.approx(2 * len(plain) - 2, abs=2)
    _, slow_times = film(speed=0.5)
    _, fast_times = film(speed=2)
    assert sum(slow_times[1:-1]) == pytest.approx(4 * sum(fast_times[1:-1]), rel=0.2)
    dotted, _ = film(smooth=False, dots=True)
    red = [(pixels[..., 0].astype(int) - pixels[..., 1] > 90).sum() for pixels in (plain[0], dotted[0])]
    assert red[0] == 0 < red[1]
    larger, _ = film(smooth=False, times=4)
    assert larger[0].shape[:2] == (256, 256)
    with pytest.raises(gr.Error, match="slow, normal, fast"):
        next(do.save_film(dragged, canvas_value(dragged), request(), "WebP", speed=3))


def test_a_film_can_be_stopped_and_without_ffmpeg_says_what_is_missing(do, parts, dragged, monkeypatch):
    film = do.save_film(dragged, canvas_value(dragged), request(), "WebP")
    next(film)
    do.stop(request())
    *_, last = film
    assert text_of(last, parts) == "Stopped: no film was saved."
    assert parts.file not in last
    assert shown(last, parts.stop)["interactive"] is False
    # One that is there as Stop is pressed is marked and on the record: it is not called unsaved.
    ended = FilmJob.ended

    def too_late(job, patience):
        over = ended(job, patience)
        if over:
            do.stop(request())
        return over

    monkeypatch.setattr(FilmJob, "ended", too_late)
    *_, last = do.save_film(dragged, canvas_value(dragged), request(), "WebP")
    assert Path(last[parts.file]).is_file()
    monkeypatch.setattr("draggan.ui.handlers.saving.can_write_mp4", lambda: False)
    with pytest.raises(gr.Error, match="pip install imageio imageio-ffmpeg"):
        next(do.save_film(dragged, canvas_value(dragged), request(), "MP4"))


@pytest.mark.parametrize(("form", "suffix"), [("JPEG", ".jpg"), ("WebP", ".webp")])
def test_a_picture_is_saved_in_other_formats_marked(do, parts, session, form, suffix):
    path = Path(do.save(session, EMPTY, request(), form)[parts.file])
    assert path.name == f"bump-seed0{suffix}"
    assert marks_of(path.read_bytes()) >= {"words", "signature", "record"}
    with Image.open(path) as picture:
        assert picture.format == form.upper()
    with pytest.raises(gr.Error, match="PNG, JPEG, WebP; choose one of them"):
        do.save(session, EMPTY, request(), "BMP")


def test_a_copy_is_a_marked_png(do, parts, session):
    shutil.rmtree(do.page.site.saved)  # as whatever cleans up temporary files does
    updates = do.copy(session, EMPTY, request(), 2)
    path = Path(updates[parts.file])
    assert marks_of(path.read_bytes()) >= {"words", "signature", "record"}
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (128, 128))
    assert text_of(updates, parts).startswith("Copied.")


def test_before_and_after_stand_side_by_side_marked(do, parts, session, dragged):
    with pytest.raises(gr.Error, match="nothing to compare yet"):
        do.save(session, EMPTY, request(), "PNG", 1, True)
    path = Path(do.save(dragged, canvas_value(dragged), request(), "PNG", 1, True)[parts.file])
    assert path.name == "bump-seed0-before-after.png"
    assert marks_of(path.read_bytes()) >= {"words", "signature", "record"}
    with Image.open(path) as strip:
        assert strip.size == (64 + 2 + 64, 64)
        before, after = strip.crop((0, 0, 64, 64)), strip.crop((66, 0, 130, 64))
    assert brightest_place(before)[0] == pytest.approx(BUMP[0], abs=1)
    assert brightest_place(after)[0] == pytest.approx(BUMP[0] + 6, abs=2)
    dotted = Path(do.save(dragged, canvas_value(dragged), request(), "PNG", 2, True, True)[parts.file])
    with Image.open(dotted) as strip:
        pixels = np.asarray(strip).astype(int)
    # The handle is red where it was set, and where it has come to.
    red = np.argwhere(pixels[..., 0] - pixels[..., 1] > 90)[:, 1]
    assert abs(red[red < 128].mean() - 2 * BUMP[0]) < 3
    assert abs(red[red >= 132].mean() - 132 - 2 * (BUMP[0] + 6)) < 5


def test_a_picture_is_saved_larger_by_plain_resampling(do, parts, session):
    path = do.save(session, EMPTY, request(), "PNG", 4)[parts.file]
    assert marks_of(Path(path).read_bytes()) >= {"words", "signature", "record"}
    with Image.open(path) as saved:
        assert saved.size == (256, 256)
        assert brightest_place(saved) == pytest.approx([4 * v + 1.5 for v in BUMP], abs=4)
    for wrong in (3, None, "2"):
        with pytest.raises(gr.Error, match="1, 2, 4 times as large"):
            do.save(session, EMPTY, request(), "PNG", wrong)


def test_saving_gives_the_clean_picture_marked(do, parts, session):
    updates = do.save(session, ONE_PAIR, request())
    path = Path(updates[parts.file])
    assert path.name == "bump-seed0.png"
    with Image.open(path) as saved:
        assert saved.size == (64, 64)
        assert "AI-generated" in saved.text["Comment"]
        assert '"seed": 0' in saved.text["DragGAN"]
        # What the canvas shows and no drag has done yet is no part of how the picture came about.
        assert '"handles": []' in saved.text["DragGAN"]
    assert marks_of(path.read_bytes()) >= {"words", "signature", "record"}
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


def test_a_long_name_of_a_photo_fits_a_file_system():
    stem = saving._stem_of("\U00020bb7" * 200 + ".jpg")
    assert stem
    assert len(stem.encode()) <= 120
    assert saving._stem_of("my cat (1).jpg") == "my-cat-1"
