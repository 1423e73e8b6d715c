"""The command line, on a tiny network in a file."""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

import draggan
from draggan import program, terminal
from draggan.checkpoints import catalogue
from draggan.cli import _parser, main
from draggan.cli.drag import _OUTCOMES, _Dragged, _say, _watched
from draggan.drag import Outcome
from draggan.engine.running_drag import TurnsDrag
from draggan.export import read_recipe
from tests.marks import marks_of
from tests.model_files import write_tiny_stylegan2
from tests.updates import an_update


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_stylegan2(tmp_path_factory.mktemp("models"))


def drag(model, *options):
    return main(["drag", "--model", model, "--seed", "7", "--point", "10,12:14,12", "--steps", "4", *options])


def test_a_drag_writes_marked_pictures_and_says_what_happened(model, tmp_path, capsys):
    files = [str(tmp_path / name) for name in ("out.png", "before.png", "points.png")]
    assert drag(model, "--out", files[0], "--before", files[1], "--points-out", files[2]) == 0
    text = capsys.readouterr().out
    assert "point 1" in text
    assert all(f"wrote {name}" in text for name in files)
    out, before, points = (Image.open(name) for name in files)
    assert out.size == before.size == (32, 32)
    assert points.size == (512, 512)
    assert json.loads(out.info["DragGAN"])["seed"] == 7
    assert all({"words", "signature", "record"} <= marks_of(Path(name).read_bytes()) for name in files)
    assert "pixels" in marks_of(Path(files[2]).read_bytes())


def test_every_outcome_has_words_of_its_own():
    words = [_OUTCOMES[outcome] for outcome in get_args(Outcome)]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    ("distance", "lost", "said"),
    [
        (0.4, True, "may have arrived"),
        (3.0, False, "would be lost, after 4 steps, 0.1 s, 50 % of the way; kept the nearest"),
    ],
)
def test_whether_a_drag_that_is_lost_may_have_arrived_is_said(capsys, distance, lost, said):
    last = an_update("lost", index=4, distances=[distance], lost=[lost])
    dragged = _Dragged(before=None, after=None, running=SimpleNamespace(), last=last)
    _say(dragged, [])
    assert said in capsys.readouterr().out
    assert (dragged.measures()["unsure"], dragged.measures()["lost"]) == (lost, [lost])


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_a_drag_is_written_as_an_animation(model, tmp_path, suffix):
    path = tmp_path / f"drag.{suffix}"
    assert drag(model, "--animation", str(path), "--step-size", "0.05") == 0
    with Image.open(path) as film:
        assert 2 <= film.n_frames <= 6
        assert film.size == (32, 32)
    assert {"words", "signature", "record"} <= marks_of(path.read_bytes())


def test_json_is_one_object_with_everything(model, capsys):
    assert drag(model, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["handles"] == [[10, 12]]
    assert result["targets"] == [[14, 12]]
    assert result["outcome"] in ("arrived", "max_steps", "stalled")
    assert len(result["distances"]) == 1


def test_the_same_command_and_a_saved_picture_give_the_same_pixels(model, tmp_path):
    """At 32 px, where no mark is put in: what differs otherwise is the number of each export in it."""
    first, again, drawn = (str(tmp_path / name) for name in ("a.png", "b.png", "c.png"))
    assert drag(model, "--out", first) == drag(model, "--out", again) == 0
    assert main(["drag", "--recipe", first, "--model", model, "--out", drawn]) == 0
    assert Image.open(first).tobytes() == Image.open(again).tobytes() == Image.open(drawn).tobytes()


def test_home_quotes_and_blanks_of_paths_that_are_pasted(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    mask = np.zeros((32, 32), np.uint8)
    mask[:, :20] = 1
    Image.fromarray(mask).save(tmp_path / "zero and one.png")
    given = (
        "--mask",
        " '~/zero and one.png' ",
        "--out",
        "~/o.png",
        "--before",
        ' "~/b.png"',
        "--recipe-out",
        "~/r.json",
    )
    assert drag(f'"{model}" ', *given) == 0
    assert {"o.png", "b.png", "r.json"} <= {path.name for path in tmp_path.iterdir()}
    assert json.loads(Image.open(tmp_path / "o.png").info["DragGAN"])["mask"] is True


def test_a_mask_file_is_used(model, tmp_path, capsys):
    mask = np.zeros((32, 32), np.uint8)
    mask[:, :20] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    free, held = (str(tmp_path / f"{name}.png") for name in ("free", "held"))
    assert drag(model, "--step-size", "0.05", "--out", free) == 0
    assert drag(model, "--step-size", "0.05", "--mask", str(tmp_path / "m.png"), "--out", held) == 0
    assert Image.open(free).tobytes() != Image.open(held).tobytes()
    assert json.loads(Image.open(held).info["DragGAN"])["mask"] is True


@pytest.mark.parametrize(
    "options", [("--space", "w"), ("--free-rows", "1"), ("--level", "b16"), ("--step-size", "0.1")]
)
def test_an_option_changes_the_result(model, tmp_path, options):
    files = [str(tmp_path / name) for name in ("a.png", "b.png")]
    assert drag(model, "--step-size", "0.05", "--out", files[0]) == 0
    assert drag(model, "--step-size", "0.05", *options, "--out", files[1]) == 0
    assert Image.open(files[0]).tobytes() != Image.open(files[1]).tobytes()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--point", "99,1:2,2"], "outside the picture"),
        (["--point", "-5,3:4,4"], "outside the picture"),
        (["--steps", "0"], "max_steps = 0"),
        (["--step-size", "-1"], "step_size = -1"),
        (["--space", "z"], "choose 'w+' or 'w'"),
        (["--level", "b7"], "b7"),
        (["--truncation", "7"], "truncation"),
        (["--seed", "-1"], "seed -1"),
        (["--class", "3"], "no classes"),
        (["--mask", "nowhere.png"], "nowhere.png"),
        (["--out", "nowhere/x.png"], "cannot write"),
        (["--out", "x.bmp"], "ends in .png, .jpg, .jpeg or .webp"),
        (["--animation", "x.avi"], ".gif, .webp or .mp4"),
        (["--device", "quantum"], "quantum"),
        (["--model", "no-such-model"], "no-such-model"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_1(model, options, says, capsys):
    assert drag(model, *options) == 1
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.startswith("draggan: ")
    assert "Traceback" not in captured.err


POINT = "--model cat --point 1,2:3,4"
MISTAKES = {
    "drag --nope": "unrecognized arguments: --nope",
    "drag": "no points were given",
    f"drag {POINT} --seed x": "invalid int value",
    f"drag {POINT} --seed -1": "seed -1 is not allowed",
    f"drag {POINT} --steps 0": "max_steps = 0",
    f"drag {POINT} --space z": "choose 'w+' or 'w'",
    f"drag {POINT} --solver quick": "'adam' or 'gauss-newton'",
    f"drag {POINT} --device quantum": "there is no device 'quantum'",
    f"drag {POINT} --mask nowhere": "there is no file nowhere",
    f"drag {POINT} --mask a.png": "a.png",
    "drag --model cat --point 1,2:999,4": "target 1 at (999, 4) is outside the picture",
    "edits --model cat --point 999,2:3,4": "outside the picture",
    f"drag {POINT} --latent nowhere": "there is no file nowhere",
    f"drag {POINT} --out nowhere/x.png": "there is no folder nowhere",
    f"drag {POINT} --animation x.avi": ".gif, .webp or .mp4",
    "drag --model nothing --point 1,2:3,4": "'nothing' is neither a listed model nor a file",
    "drag --recipe nowhere": "there is no file nowhere",
    "drag --recipe a.json": "a recipe needs",
    "drag --recipe good.json --point 1,2:999,4": "outside the picture",
    "edits --recipe nowhere": "there is no file nowhere",
    f"edits {POINT} --grid 2x2 --path 1,2:3,4": "--grid does not go with --path",
    "invert nowhere --model cat --out x.draggan": "there is no file nowhere",
    "invert a.json --model cat --out x.png": "a name that ends in .draggan",
    "invert a.json --model cat --out x.draggan --steps -1": "steps = -1",
    "invert a.json --model cat --consent --out x.draggan": "a.json is not a picture that can be read",
    "invert a.png --model cat --out x.draggan": "agree to this sentence by --consent",
    "invert a.json --model nothing --out x.draggan": "'nothing' is neither a listed model nor a file",
    "video nowhere x.gif --model cat --edit a.json": "there is no file nowhere",
    "video a.json x.gif --model cat --edit a.json": "a recipe needs",
    "video a.json x.gif --model cat --edit good.json": "agree to this sentence by --consent",
    "video a.json x.gif --model cat --edit a.json --strength 11": "--strength 11",
    "batch nowhere --out x": "there is no file nowhere",
    "batch a.json --out x --jobs 0": "--jobs 0",
    "batch a.json --out x --model nothing": "'nothing' is neither a listed model nor a file",
    "dataset drags nowhere --out x": "there is no file nowhere",
    "verify nowhere": "there is no file nowhere",
    "convert nothing x.pt": "'nothing' is neither a listed model nor a file",
    "evaluate --points many": "--points many",
    "evaluate --set steps": "write NAME=VALUE",
    "evaluate --model nothing": "'nothing' is neither a listed model nor a file",
    "evaluate --protocol instructions --instructions nowhere": "nowhere",
    "audit-model cat --samples 3": "--samples 3",
    "audit-model nothing": "'nothing' is neither a listed model nor a file",
    "review approve 123": "nothing waits under the number '123'",
    "review serve --port 99999": "there is no port 99999",
    "app --engine nothing": "give local, ray or ray:ADDRESS",
    "app --engine ray --replicas many": "--replicas many",
    "app --port 99999": "there is no port 99999",
    "app --origin x": "'x' is not the origin of a web page",
    "app --model nothing": "'nothing' is neither a listed model nor a file",
}


GOOD = {
    "recipe": 1,
    "model": {"name": "cat"},
    "size": [256, 256],
    "start": {"seed": 0, "truncation": 0.7, "class": None},
    "edits": [{"points": [{"handle": [1.0, 2.0], "target": [3.0, 4.0]}]}],
}


def test_a_mistake_is_told_before_pytorch_and_gradio_are_imported(tmp_path):
    """Which take seconds. In a process that has neither of them yet."""
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "good.json").write_text(json.dumps(GOOD), encoding="utf-8")
    code = """
import contextlib, io, json, sys
from draggan.cli import main
told = {}
for line in json.loads(sys.stdin.read()):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            status = main(line.split())
        except SystemExit as end:
            status = end.code
    slow = [name for name in ("torch", "gradio") if name in sys.modules]
    told[line] = [status, said.getvalue(), slow]
print(json.dumps(told))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(list(MISTAKES)),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(draggan.__file__).parents[1]), "DRAGGAN_STATE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert list(told) == list(MISTAKES)
    for line, (status, said, slow) in told.items():
        assert status in (1, 2), line
        assert MISTAKES[line] in said, line
        assert "Traceback" not in said, line
        assert slow == [], line


def test_a_picture_that_is_written_nowhere_is_told_of(model, capsys):
    assert drag(model) == 0
    assert "nothing was written; add --out" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device there")
def test_output_that_has_no_room_is_one_sentence(capsys, monkeypatch):
    with open("/dev/full", "w") as full:  # whose end would fail, too, had anything been left to write
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["models"]) == 1
    assert capsys.readouterr().err == "draggan: [Errno 28] No space left on device\n"


def test_a_folder_that_is_not_there_is_told_of_and_not_made(model, tmp_path, capsys):
    for command in (
        ["edits", "--model", model, "--seed", "1", "--point", "10,12:14,12", "--out", str(tmp_path / "no" / "x.jsonl")],
        ["convert", model, str(tmp_path / "no" / "x.npz")],
    ):
        assert main(command) == 1
        assert "there is no folder" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_the_settings_are_those_that_suit_the_model(tmp_path, capsys):
    short = ["--model", "cat", "--seed", "7", "--point", "156,156:148,156", "--steps", "1", "--json"]
    assert main(["drag", *short]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["settings"]["step_size"], result["model"], result["truncation"]) == (0.005, "cat", 0.7)
    assert main(["drag", *short, "--step-size", "0.001", "--truncation", "0.5"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["settings"]["step_size"], result["truncation"]) == (0.001, 0.5)


# ---- a model that is not here -------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def far(model, monkeypatch):
    """A listed model "far" on a server of this machine; `far.cut` bytes of it come before the person presses Ctrl-C."""
    data = Path(model).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            far.requests.append((self.command, start))
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("ETag", '"one"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data[start:])

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    far = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    far.requests = []
    threading.Thread(target=far.serve_forever, daemon=True).start()
    entry = catalogue.ModelEntry(
        name="far",
        title="Far away",
        urls=(f"http://127.0.0.1:{far.server_port}/far.safetensors",),
        file="far.safetensors",
        licence="CC0",
    )
    far.entry = entry
    monkeypatch.setattr(catalogue, "_builtin_models", lambda: (entry,))
    for name in ("download", "remote_size"):
        monkeypatch.setattr(catalogue, name, functools.partial(getattr(catalogue, name), allow_local_http=True))
    yield far
    far.shutdown()
    far.server_close()


@pytest.fixture
def typed(monkeypatch):
    """A terminal on which something has been typed already; what it shows can be read from it."""

    def answer(text):
        shown = Terminal()
        monkeypatch.setattr(sys, "stdin", Terminal(text))
        monkeypatch.setattr(sys, "stderr", shown)
        return shown

    return answer


@pytest.mark.parametrize("answer", ["y\n", "YES\n"])
def test_a_download_is_shown_asked_for_and_has_a_bar(far, typed, answer):
    shown = typed(answer)
    assert drag("far") == 0
    text = shown.getvalue()
    size = len(far.entry.local.read_bytes())
    for fact in ("far: Far away", f"{size / 1e6:.1f} MB", "127.0.0.1", "CC0", str(far.entry.local), "[y/N]"):
        assert fact in text
    assert text.index("[y/N]") < text.index("Connecting") < text.index("[####")
    # The second time it is here: nothing is asked.
    again = typed("")
    assert drag("far") == 0
    assert "[y/N]" not in again.getvalue()


@pytest.mark.parametrize("answer", ["\n", "n\n", ""])
def test_without_a_yes_nothing_is_downloaded(far, typed, answer):
    shown = typed(answer)
    assert drag("far") == 1
    assert "nothing was downloaded" in shown.getvalue()
    assert [method for method, _ in far.requests] == ["HEAD"]
    assert not far.entry.on_disk


def test_where_nobody_can_be_asked_a_yes_is_an_option(far, capsys, tmp_path):
    assert drag("far") == 1
    assert "add --yes" in capsys.readouterr().err
    assert not far.entry.on_disk
    assert main(["convert", "far", str(tmp_path / "far.npz")]) == 1
    assert main(["convert", "far", str(tmp_path / "far.npz"), "--yes"]) == 0
    said = capsys.readouterr().err
    assert "CC0" in said
    assert "\r" not in said, "a bar is for terminals"
    assert drag("far") == 0


def test_an_interrupted_download_keeps_its_part(far, typed, monkeypatch):
    shown = typed("y\n")

    def interrupt(self, done, total):
        if done:
            raise KeyboardInterrupt

    with monkeypatch.context() as pressed:
        pressed.setattr(terminal.ProgressBar, "__call__", interrupt)
        pressed.setattr("dnnlib.download.CHUNK", 4096)
        assert drag("far") == 130
    assert "What has come is kept" in shown.getvalue()
    assert far.entry.local.with_name("far.safetensors.part").stat().st_size == 4096
    typed("y\n")
    assert drag("far") == 0
    assert far.requests[-1] == ("GET", 4096)


def test_a_drag_says_on_a_terminal_how_far_it_still_is(model, typed, monkeypatch):
    shown = typed("")
    assert drag(model) == 0
    begun, *steps, wiped, left = shown.getvalue().split("\r")
    assert begun == ""
    assert steps
    assert all(re.fullmatch(r"step \d: \d+\.\d px to go *", step) for step in steps)
    assert (wiped.strip(), left) == ("", ""), "nothing of it stays"
    for stderr, options in ((Terminal(), ["--json"]), (io.StringIO(), [])):
        monkeypatch.setattr(sys, "stderr", stderr)
        assert drag(model, *options) == 0
        assert stderr.getvalue() == "", options


def test_of_several_points_the_line_says_how_far_the_farthest_is_and_ctrl_c_stops_the_drag(typed):
    class Scripted:
        """A drag at these distances that Ctrl-C is pressed in."""

        def __init__(self, *news):
            self.news, self.stopped = list(news), 0

        def newer(self, than, patience):
            if isinstance(one := self.news.pop(0), BaseException):
                raise one
            return one

        def ended(self, patience):
            return False

        def stop(self):
            self.stopped += 1

    def at(index, *distances, done=False):
        return SimpleNamespace(index=index, distances=np.array(distances), done=done)

    shown, last = typed(""), at(2, 3.0, 0.96, done=True)
    running = Scripted(at(0, 4.0, 12.34), at(1, 5.0, 5.0), KeyboardInterrupt(), last)
    assert _watched(running, quiet=False) is last
    assert running.stopped == 1
    lines = [line.rstrip() for line in shown.getvalue().split("\r")]
    assert lines == ["", "step 0: 12.3 px to go", "step 1: 5.0 px to go", "step 2: 3.0 px to go", "", ""]
    with pytest.raises(OSError, match="lost"):
        _watched(Scripted(at(0, 4.0), OSError("lost")), quiet=False)
    assert shown.getvalue().endswith(" \r"), "the message has a line of its own"


def test_ctrl_c_keeps_and_writes_what_a_drag_has_reached(model, tmp_path, capsys, monkeypatch):
    newer, pressed = TurnsDrag.newer, []

    def interrupted(self, *args):
        if self.update is not None and not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        return newer(self, *args)

    monkeypatch.setattr(TurnsDrag, "newer", interrupted)
    out = tmp_path / "out.png"
    assert drag(model, "--steps", "10000", "--step-size", "0.000001", "--out", str(out)) == 0
    assert re.match(r"stopped after \d+ steps?, ", capsys.readouterr().out)
    assert out.is_file()


def test_a_line_is_as_long_as_the_terminal_is_wide_and_covers_what_was_there(typed, monkeypatch):
    shown = typed("")
    line = terminal.Line()
    line("a long word")
    line("short")
    line("x" * 200)
    assert shown.getvalue() == "\ra long word\rshort      \r" + "x" * 79
    line.end()
    line.end()
    assert shown.getvalue().endswith("x\r" + " " * 79 + "\r")
    line("short")
    line.end()
    assert shown.getvalue().endswith("t\r" + " " * 79 + "\r"), "^C, too, which a terminal writes behind it"
    line("x" * 200)
    monkeypatch.setattr(terminal, "_columns", lambda: 20)
    line("y")
    assert shown.getvalue().endswith("\ry" + " " * 18), "a window that was made narrower"
    line("x" * 200)
    assert shown.getvalue().endswith("\r" + "x" * 19)


def test_how_the_program_is_called_is_what_works_here(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(program.shutil, "which", lambda name: None)
    assert program.own_command() == "python -m draggan"
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = capsys.readouterr().out
    assert said.startswith("usage: python -m draggan ")
    assert "`" not in said
    monkeypatch.setattr(program.shutil, "which", lambda name: str(Path(sys.executable).parent / name))
    assert program.own_command() == "draggan"
    monkeypatch.setattr(program.shutil, "which", lambda name: str(tmp_path / name))
    assert program.own_command() == "python -m draggan", "another installation's"


@pytest.mark.parametrize(
    ("started", "called"),
    [
        ("draggan/__main__.py", "python -m draggan"),
        ("/x/draggan/__main__.py", "python -m draggan"),
        ("/x/bin/draggan", "draggan"),
        ("some/bin/draggan", "some/bin/draggan"),
        ("./draggan", "./draggan"),
        ("draggan.exe", "draggan.exe"),
        ("app.py", "draggan"),
    ],
)
def test_the_program_is_called_what_it_was_started_as(started, called, monkeypatch):
    monkeypatch.setattr(sys, "argv", [started])
    monkeypatch.setattr(program.shutil, "which", lambda name: str(Path(sys.executable).parent / name))
    assert program.own_command() == called


def test_verbose_may_stand_before_or_after_any_command(model, capsys):
    parser = _parser()
    for argv in (["--verbose", "doctor"], ["doctor", "--verbose"], ["review", "--verbose", "list"]):
        assert parser.parse_args(argv).verbose, argv
    assert not parser.parse_args(["doctor"]).verbose
    assert all("--verbose" in command.format_help() for _, command in commands())


def test_verbose_logs_what_this_program_has_to_say_and_not_its_libraries(model, caplog, tmp_path):
    for options, logged in ((["--verbose"], True), ([], False)):
        caplog.clear()
        assert drag(model, *options, "--out", str(tmp_path / "a.png")) == 0
        assert any(" px to go" in record.getMessage() for record in caplog.records) == logged
        assert all(record.name.startswith("draggan") for record in caplog.records if record.levelname == "DEBUG")


def commands(parser=None, words=()):
    """Every command that has options of its own: its words, and its parser."""
    parser = _parser() if parser is None else parser
    below = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if words and not below:
        yield " ".join(words), parser
    for name, command in (below[0] if below else {}).items():
        yield from commands(command, (*words, name))


@pytest.mark.parametrize(("words", "parser"), [pytest.param(*found, id=found[0]) for found in commands()])
def test_whoever_reads_the_help_of_a_command_finds_the_way(words, parser):
    """All of it says what it is for, numbers say of what kind they are, and many options are in groups."""
    assert parser.description
    for action in parser._actions:
        assert action.help, action.dest
        assert action.metavar or action.type not in (int, float), f"{action.dest}: what kind of number"
    grouped = {group.title: len(group._group_actions) for group in parser._action_groups}
    assert grouped["options"] <= 12 + 1, "--help, and so many that can be looked through"
    # A usage may be written by hand.
    usage = parser.format_usage()
    assert words in usage
    assert set(re.findall(r"--[a-z-]+", usage)) <= set(parser._option_string_actions)


def test_no_points_is_explained(model, capsys):
    assert main(["drag", "--model", model]) == 1
    assert "--point" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["1,2", "1,2:3", "a,b:c,d", ""])
def test_a_malformed_point_is_a_usage_error(text, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["drag", "--point", text])
    assert "60,70:80,64" in capsys.readouterr().err


def test_models_lists_the_built_in_one(capsys):
    assert main(["models"]) == 0
    assert "cat" in capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "cat"


def test_convert_goes_both_ways(model, tmp_path, capsys):
    assert main(["convert", model, str(tmp_path / "plain.pt")]) == 0
    state = torch.load(tmp_path / "plain.pt", weights_only=True)
    assert "synthesis.b4.const" in state
    assert main(["convert", model, str(tmp_path / "x.onnx")]) == 1
    assert "safetensors" in capsys.readouterr().err


def test_doctor_reports(capsys):
    main(["doctor", "--json"])
    items = json.loads(capsys.readouterr().out)
    assert all(item["status"] in ("ok", "slow", "broken") for item in items)
    main(["doctor"])
    assert "torch" in capsys.readouterr().out


# ---- recipes, latents, paths ---------------------------------------------------------------------------------------


def test_a_saved_picture_carries_the_recipe_that_makes_it_again(model, tmp_path, capsys, monkeypatch):
    out, again, text = (str(tmp_path / name) for name in ("out.png", "again.png", "recipe.json"))
    assert drag(model, "--step-size", "0.05", "--out", out, "--recipe-out", text) == 0
    recipe = read_recipe(out)
    assert recipe == read_recipe(text)
    assert (recipe.seed.seed, len(recipe.edits), recipe.edits[0].settings["step_size"]) == (7, 1, 0.05)
    # A picture is shared: where its maker keeps the model is nobody's business, and another one has to be told.
    assert recipe.model.name == Path(model).name
    assert main(["drag", "--recipe", out, "--out", again]) == 1
    assert "say where it is with --model" in capsys.readouterr().err
    # With its results, and computed anew.
    assert main(["drag", "--recipe", out, "--model", model, "--out", again]) == 0
    assert Image.open(out).tobytes() == Image.open(again).tobytes()
    (tmp_path / "bare.json").write_text(recipe.to_json(results=False))
    assert main(["drag", "--recipe", str(tmp_path / "bare.json"), "--model", model, "--out", again, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["steps"] >= 1
    assert Image.open(out).tobytes() == Image.open(again).tobytes()
    assert main(["drag", "--recipe", out, "--model", "cat", "--out", again]) == 1
    monkeypatch.chdir(Path(model).parent)
    result = draggan.run(draggan.Recipe.from_json(recipe.to_json(results=False)))
    assert result.pixels.tobytes() == Image.open(out).tobytes()


def test_before_is_before_the_last_drag_whether_that_has_its_result_or_not(model, tmp_path, capsys):
    out, before, again, film = (str(tmp_path / name) for name in ("out.png", "before.png", "again.png", "film.gif"))
    assert drag(model, "--step-size", "0.05", "--out", out, "--before", before) == 0
    assert Image.open(before).tobytes() != Image.open(out).tobytes()
    assert main(["drag", "--recipe", out, "--model", model, "--before", again, "--animation", film]) == 0
    assert "nothing left to drag" in capsys.readouterr().out
    assert Image.open(again).tobytes() == Image.open(before).tobytes()
    assert Image.open(film).n_frames == 2


def test_a_drag_goes_on_from_a_recipe(model, tmp_path):
    out, further = (str(tmp_path / name) for name in ("out.png", "further.png"))
    assert drag(model, "--step-size", "0.05", "--out", out) == 0
    assert (
        main(["drag", "--recipe", out, "--model", model, "--point", "20,20:24,20", "--steps", "3", "--out", further])
        == 0
    )
    assert [edit.points[0].picture for edit in read_recipe(further).edits] == [0, 1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--recipe", "nowhere.json"], "there is no file nowhere.json"),
        (["--recipe", "pyproject.toml"], "cannot be read; open a file that was saved here"),
        (["--recipe", "docs/cat-before.png"], "no recipe in it"),
        (["--recipe", "README.md", "--seed", "3"], "--seed does not go with --recipe"),
        (["--recipe", "README.md", "--truncation", "0.5"], "--truncation does not go with --recipe"),
        (["--recipe", "README.md", "--class", "1"], "--class does not go with --recipe"),
        (["--recipe", "README.md", "--steps", "3"], "--steps says how points are dragged; add --point"),
        (["--recipe", "README.md", "--mask", "README.md"], "--mask says how points are dragged"),
        (["--recipe", "README.md", "--step-size", "1"], "--step-size says how points are dragged"),
        (["--latent", "README.md", "--seed", "3", "--point", "1,1:2,2"], "--seed does not go with --latent"),
        (
            ["--latent", "README.md", "--truncation", "1", "--point", "1,1:2,2"],
            "--truncation does not go with --latent",
        ),
        (["--latent", "nowhere.npy", "--point", "1,1:2,2"], "nowhere.npy"),
    ],
)
def test_a_recipe_or_latent_that_cannot_be_used_is_explained(options, says, capsys, tmp_path, monkeypatch):
    if options[1].endswith(".png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
        options = [options[0], str(tmp_path / "plain.png")]
    assert main(["drag", *options]) == 1
    assert says in capsys.readouterr().err


def test_a_latent_code_from_a_file_is_a_start(model, tmp_path):
    assert drag(model, "--out", str(tmp_path / "a.png"), "--step-size", "0.05") == 0
    np.save(tmp_path / "w.npy", read_recipe(tmp_path / "a.png").results[0])
    options = ["--model", model, "--latent", str(tmp_path / "w.npy"), "--point", "10,12:14,12", "--steps", "4"]
    assert main(["drag", *options, "--step-size", "0.05", "--out", str(tmp_path / "b.png")]) == 0
    assert Image.open(tmp_path / "a.png").tobytes() == Image.open(tmp_path / "b.png").tobytes()
    assert json.loads(Image.open(tmp_path / "b.png").info["DragGAN"])["seed"] is None


def test_paths_are_taken_as_people_paste_them(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert drag(f' "{model}" ', "--out", "~/home.png", "--before", f"'{tmp_path}/quoted.png' ") == 0
    assert {"home.png", "quoted.png"} <= {path.name for path in tmp_path.iterdir()}


def test_app_is_a_command(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["app", "--help"])
    assert "--port" in capsys.readouterr().out
