"""From a photo to a changed photo on the command line, in three processes' worth of commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draggan.cli import main
from draggan.engine.local import LocalEngine
from draggan.engine.models import AnyModels
from draggan.inversion import read_photo
from draggan.provenance.verify import verify_bytes
from draggan.session_file import read_session_file
from tests.marks import marks_of
from torch_utils.ops.status import reference_only

QUICK = ("--coarse-steps", "3", "--steps", "2", "--tuning-steps", "2")


@pytest.fixture
def photo(tmp_path):
    """A built-in model's picture in a larger one."""
    picture = tmp_path / "picture.png"
    assert main(["drag", "--model", "cat", "--point", "60,60:61,60", "--steps", "1", "--out", str(picture)]) == 0
    whole = Image.effect_noise((400, 300), 60).convert("RGB")
    whole.paste(Image.open(picture).convert("RGB").resize((200, 200)), (120, 40))
    whole.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_photo_is_opened_dragged_and_put_back(photo, tmp_path, capsys, monkeypatch):
    session, changed, saved = (tmp_path / name for name in ("a.draggan", "b.png", "b.draggan"))
    drawn = tmp_path / "drawn.png"
    options = ("--find", *QUICK, "--picture", str(drawn), "--consent", "--json")
    assert main(["invert", str(photo), "--model", "cat", "--out", str(session), *options]) == 0
    assert {"words", "pixels", "signature", "record"} <= marks_of(drawn.read_bytes())
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["verdict"] in ("very close", "recognisable", "foreign")
    # Where the picture was put; of what is there to be seen, a little around it is no matter.
    assert said["crop"][0] == pytest.approx([219.5, 139.5], abs=20)
    assert said["crop"][1][0] == pytest.approx(100, rel=0.15)
    point = ("--point", "120,120:130,120", "--steps", "2")
    out = ("--out", str(changed), "--recipe-out", str(saved), "--photo", str(photo))
    assert main(["drag", "--recipe", str(session), *point, *out]) == 0
    before, after = read_photo(photo).pixels, read_photo(changed).pixels
    assert before.shape == after.shape
    # It carries the invisible mark all over, which is no more than a few steps of a byte.
    outside = np.abs(after.astype(int) - before)[:, :90]
    assert outside.max() <= 32
    assert outside.mean() < 6
    found = verify_bytes(changed.read_bytes(), folder=tmp_path)
    assert found.recipe is None
    assert b"compositeWithTrainedAlgorithmicMedia" in changed.read_bytes()
    assert {"words", "pixels", "signature", "record"} <= marks_of(changed.read_bytes())
    # Another process goes on with it, and does what this one does, to the last bit. Both on one thread, as tests are,
    # and without compiled operators, which another test may have loaded here, or may be loading: otherwise sums round
    # differently, and a few bytes of a picture with them.
    again = ("drag", "--recipe", str(saved), "--point", "100,100:103,100", "--steps", "2")
    here, there = tmp_path / "here.draggan", tmp_path / "there.draggan"
    command = [sys.executable, "-m", "draggan", *again, "--recipe-out", str(there), "--out", str(tmp_path / "d.png")]
    monkeypatch.setenv("DRAGGAN_NATIVE_OPS", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    subprocess.run(command, check=True, cwd=Path(__file__).parents[1], capture_output=True)
    with reference_only():
        assert main([*again, "--recipe-out", str(here), "--out", str(tmp_path / "c.png")]) == 0
        pictures = []
        for path in (here, there):
            work, engine = read_session_file(path), LocalEngine(AnyModels("cpu"))
            for tuning in work.tunings.values():
                engine.keep_tuning(tuning)
            pictures.append([engine.picture(work.session.recipe.up_to(number)) for number in range(3)])
            engine.close()
    np.testing.assert_array_equal(*pictures)
    assert not np.array_equal(pictures[0][1], pictures[0][2])


def test_what_cannot_be_done_with_a_photo_ends_in_a_sentence(photo, tmp_path, capsys):
    session = tmp_path / "a.draggan"
    start = ["invert", str(photo), "--model", "cat"]
    nothing = tmp_path / "nothing.png"
    Image.effect_noise((200, 150), 60).save(nothing)
    for words, said in (
        ([*start, "--out", str(session)], "agree"),
        ([*start, "--out", str(tmp_path / "a.png"), "--consent"], ".draggan"),
        ([*start, "--out", str(session), "--consent", "--box", "900,900:950,950"], "outside the photo"),
        (
            ["invert", str(tmp_path / "no.png"), "--model", "cat", "--out", str(session), "--consent"],
            "there is no file",
        ),
        (["drag", "--recipe", str(tmp_path / "no.draggan"), "--point", "1,1:2,2"], "there is no file"),
        (["drag", "--model", "cat", "--point", "1,1:2,2", "--photo", str(photo)], "draggan invert"),
        (["invert", str(nothing), *start[2:], "--out", str(session), "--consent", "--find"], "not sure where"),
    ):
        assert main(words) == 1
        assert said in capsys.readouterr().err
    assert not session.exists()
