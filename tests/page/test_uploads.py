"""Files that visitors send, and the folder of a run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dnnlib.run_folder import RunFolder
from draggan.config import Limits
from draggan.errors import LimitError
from draggan.ui.server.uploads import Uploads

LIMITS = Limits(uploads=2, upload_bytes=1000, visitor_bytes=1500, all_bytes=2000)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path


def uploads_in(folder: Path, **more) -> Uploads:
    return Uploads(folder / "in", folder / "kept", LIMITS, **more)


def send(uploads: Uploads, visitor: str, size: int, name: str = "a.pkl") -> Path:
    path = uploads.incoming / f"{size:x}" / name
    uploads.begin(visitor, size)
    try:
        uploads.grow(visitor, 0, size)
    except LimitError:
        uploads.end(visitor, 0)
        raise
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(size))
    uploads.end(visitor, size, [str(path)])
    return path


def test_sizes_numbers_and_totals_are_limited(folder):
    uploads = uploads_in(folder)
    with pytest.raises(LimitError, match="a file may have 0 MB here"):
        send(uploads, "a", 1001)
    send(uploads, "a", 900)
    with pytest.raises(LimitError, match="your files may have"):
        send(uploads, "a", 700)
    send(uploads, "a", 300)
    with pytest.raises(LimitError, match="2 files of yours are kept here"):
        send(uploads, "a", 1)
    with pytest.raises(LimitError, match="no room"):
        send(uploads, "b", 900)
    send(uploads, "b", 500)


def test_a_length_that_was_not_said_or_was_a_lie_counts_as_it_comes(folder):
    uploads = uploads_in(folder)
    uploads.begin("a", None)
    uploads.grow("a", 0, 600)
    with pytest.raises(LimitError):
        uploads.grow("a", 600, 600)
    uploads.end("a", 600)
    uploads.begin("a", 1000)


def test_a_visitor_who_sends_nothing_is_not_remembered(folder):
    uploads = uploads_in(folder)
    for n in range(3):
        send(uploads, f"visitor {n}", 100)
        uploads.begin(f"other {n}", 10)
        uploads.end(f"other {n}", 0)
    assert not uploads._under_way


def test_what_is_opened_moves_and_what_is_refused_goes(folder):
    uploads = uploads_in(folder)
    path = send(uploads, "a", 500)
    assert uploads.holds(path)
    assert not uploads.holds(Path("/etc/passwd"))
    assert not uploads.holds(uploads.incoming / ".." / "x")
    kept = uploads.keep(path, "a")
    assert kept.read_bytes() == bytes(500)
    assert kept.name == "a.pkl"
    assert not path.parent.exists()
    uploads.discard(kept)
    assert not kept.parent.exists()
    uploads.begin("a", 1000)


def test_an_equal_file_of_two_people_is_there_for_both(folder):
    uploads = uploads_in(folder)
    path = send(uploads, "a", 500)
    assert send(uploads, "b", 500) == path
    first, second = uploads.keep(path, "a"), uploads.keep(path, "b")
    assert first.exists()
    assert second.exists()
    assert not path.exists()


def test_what_nobody_opens_or_uses_goes(folder):
    now, rest = [0.0], [0.0]
    uploads = uploads_in(folder, clock=lambda: now[0], unused=lambda path: rest[0])
    waiting, kept = send(uploads, "a", 100), uploads.keep(send(uploads, "b", 200), "b")
    now[0], rest[0] = 601.0, 7 * 3600 - 1
    uploads.sweep()
    assert not waiting.exists()
    assert kept.exists()
    rest[0] = 7 * 3600 + 1
    uploads.sweep()
    assert not kept.exists()


def test_what_was_cut_off_goes_with_the_last_transfer(folder):
    uploads = uploads_in(folder)
    uploads.begin("a", 10)
    uploads.begin("b", 10)
    left = uploads.incoming / "tmpabcd"
    left.write_bytes(b"half")
    uploads.end("a", 0)
    assert left.exists(), "it may be the other one's"
    uploads.end("b", 0)
    assert not left.exists()


def test_a_run_leaves_nothing_and_takes_away_what_a_killed_one_has_left(tmp_path):
    mine = RunFolder(tmp_path)
    (mine.path / "models").mkdir()
    (mine.path / "models" / "x").write_bytes(b"x")
    program = (
        "import sys, time; from pathlib import Path; from dnnlib.run_folder import RunFolder;"
        "print(RunFolder(Path(sys.argv[1])).path, flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    theirs = Path(other.stdout.readline().strip())
    assert theirs.is_dir()
    assert mine.path.is_dir(), "it is in use"
    third = RunFolder(tmp_path)
    assert theirs.is_dir()
    other.kill()
    other.wait()
    fourth = RunFolder(tmp_path)
    assert not theirs.exists()
    for folder in (mine, third, fourth):
        folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_run_touches_nothing_else(tmp_path):
    link, file, left = (tmp_path / f"draggan-run-{name}" for name in ("link", "file", "left"))
    other = tmp_path / "other"
    other.mkdir()
    link.symlink_to(other)
    file.write_text("")
    left.mkdir()
    RunFolder(tmp_path).remove()
    assert {path.name for path in tmp_path.iterdir()} == {link.name, file.name, "other"}


def test_a_run_that_begins_while_another_one_does_leaves_it_its_folder(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    taken, lock = [], fcntl.flock

    def late(descriptor, operation):
        if not taken:
            taken.append(None)  # before the first one holds its folder, another one begins
            taken.append(RunFolder(tmp_path))
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    first = RunFolder(tmp_path)
    assert first.path.is_dir()
    assert taken[1].path.is_dir()
    assert sorted(tmp_path.iterdir()) == sorted([first.path, taken[1].path])


def test_a_run_whose_files_somebody_cleans_up_goes_on_and_ends(tmp_path):
    mine = RunFolder(tmp_path)
    inside = mine.path / "gradio"
    inside.mkdir()
    for path in mine.path.iterdir():
        if path.is_file():
            path.unlink()
    os.utime(mine.path, (time.time() - 11 * 86400,) * 2)
    RunFolder(tmp_path)
    assert inside.is_dir(), "it is in use"
    shutil.rmtree(mine.path)
    mine.remove()
