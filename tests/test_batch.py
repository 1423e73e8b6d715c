"""Many recipes at once: nothing twice, nothing missing, and a bad line costs one line."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draggan.batch import pool
from draggan.batch.edits import along, each_target, grid, over_seeds
from draggan.batch.jobs import read_job, read_jobs
from draggan.batch.journal import Journal
from draggan.batch.run import run_batch
from draggan.batch.worker import Options
from draggan.cli import main
from draggan.cli.batch import _reasons
from draggan.engine.local import LocalEngine
from draggan.engine.models import AnyModels
from draggan.engine.short_form import recipe_from
from draggan.errors import DragGANError, ExportError, PointError, RecipeError
from draggan.export import read_recipe, save_animation, save_picture
from draggan.kept_session import pieces_of
from draggan.session import Session
from tests.marks import marks_of
from tests.model_files import write_tiny_stylegan2


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_stylegan2(tmp_path_factory.mktemp("models"))


@pytest.fixture
def engine():
    return LocalEngine(AnyModels("cpu"))


def short(model, seed, **more):
    edit = {"points": [[10, 12, 14, 12]], "settings": {"max_steps": 2}}
    return json.dumps({"model": model, "seed": seed, **edit, **more})


def written(folder, lines):
    path = folder / "recipes.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_of_many_failures_each_reason_is_told_once_and_a_few_of_them():
    same = [(f"line {number}", "it is \x1b[31mwrong") for number in range(1, 8)]
    others = [(f"{number}.json", f"reason {number}") for number in range(12)]
    told = list(_reasons([*same, *others, ("line 9", "long " * 100)]))
    assert told[0] == "line 1, line 2, line 3, line 4 and 3 more: it is ?[31mwrong"
    assert told[1:10] == [f"{number}.json: reason {number}" for number in range(9)]
    assert told[10:] == ["and 4 for other reasons, which the report says"]
    assert list(_reasons([("line 9", "long " * 100)])) == [f"line 9: {'long ' * 58}lo …"]


def rows_of(folder):
    with (folder / "report.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_lines_become_pictures_and_a_bad_line_costs_one_line(model, tmp_path, capsys):
    lines = [short(model, 1), "{no json", short(model, 2, points=[[99, 0, 1, 1]]), "", short("nothing", 2)]
    lines += [short(model, 5, name="mine"), short(model, 6, name="mine"), short(model, 7, name="../up")]
    lines += [json.dumps({"model": model, "seed": 8})]
    source, out = written(tmp_path, lines), tmp_path / "out"
    assert (
        main(["batch", str(source), "--out", str(out), "--jobs", "1", "--film", "gif", "--before", "--measures"]) == 1
    )
    said = capsys.readouterr().err
    assert "5 could not be run:" in said
    told = dict(line.strip().split(": ", 1) for line in said.splitlines() if ": " in line)
    assert list(told) == ["line 2", "line 3", "line 5", "line 7", "line 8"]
    assert "(99, 0) is outside the picture" in told["line 3"]
    assert "'nothing' is neither a listed model" in told["line 5"]
    rows = rows_of(out)
    assert [row["state"] for row in rows] == ["done", "failed", "failed", "failed", "done", "failed", "failed", "done"]
    assert [row["number"] for row in rows] == ["1", "2", "3", "5", "6", "7", "8", "9"]
    assert "(99, 0) is outside the picture" in rows[2]["error"]
    assert "'nothing' is neither a listed model" in rows[3]["error"]
    assert "'mine' belongs to 6 already" in rows[5]["error"]
    assert "cannot be that of a file" in rows[6]["error"]
    assert {p.name for p in out.iterdir()} - {".lock"} == {
        *("000001.png", "000001-before.png", "000001.gif", "mine.png", "mine-before.png", "mine.gif", "000009.png"),
        *("report.json", "report.csv", "journal.jsonl"),
    }
    assert float(rows[0]["change"]) > 0
    assert json.loads((out / "report.json").read_text())["done"] == 3
    for name in ("mine.png", "mine-before.png", "mine.gif"):
        assert {"words", "signature", "record"} <= marks_of((out / name).read_bytes())
    with Image.open(out / "mine.png") as picture:
        assert picture.size == (32, 32)
        assert json.loads(picture.info["DragGAN"])["seed"] == 5


def test_a_batch_makes_the_picture_that_a_drag_makes(model, tmp_path):
    options = ["--model", model, "--seed", "3", "--point", "10,12:14,12", "--steps", "3"]
    assert main(["drag", *options, "--out", str(tmp_path / "one.png")]) == 0
    assert main(["edits", *options, "--out", str(tmp_path / "list.jsonl")]) == 0
    # Lists are for others: what they say of a file of one's own is its name.
    assert main(["batch", str(tmp_path / "list.jsonl"), "--out", str(tmp_path / "many"), "--model", model]) == 0
    one, many = (read_recipe(path) for path in (tmp_path / "one.png", *(tmp_path / "many").glob("*.png")))
    assert one == many
    assert np.array_equal(one.latent, many.latent)


def test_what_was_broken_off_goes_on_and_nothing_is_done_twice(model, tmp_path, monkeypatch):
    source, out = written(tmp_path, [short(model, seed) for seed in range(5)]), tmp_path / "out"
    options = Options(folder=str(out), device="cpu")
    jobs = read_jobs(source, options.key)

    def interrupted(done, failed, total):
        if done == 2:
            raise KeyboardInterrupt

    summary = run_batch(jobs, options, processes=1, progress=interrupted)
    assert (summary.done, summary.left, summary.known) == (2, 3, 0)
    # A line that was being written when the machine stopped, a picture that was and one that is gone.
    with (out / "journal.jsonl").open("ab") as file:
        file.write(b'{"journal": 1, "name": "0000')
    (out / ".000003.png.1-1.tmp").write_bytes(b"half")
    (out / "000001.png").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert set(times) == {"000002.png"}
    summary = run_batch(jobs, options, processes=1)
    assert (summary.done, summary.left, summary.known) == (5, 0, 1)
    assert (out / "000002.png").stat().st_mtime_ns == times["000002.png"]
    entries = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    assert sorted(entry["name"] for entry in entries) == [f"00000{k}" for k in (1, 1, 2, 3, 4, 5)]
    # Another line under the same name is another job, and so is the same one with other options.
    changed = read_jobs(written(tmp_path, [short(model, seed) for seed in (0, 9)]), options.key)
    with Journal(out) as journal:
        assert [journal.done(job) is not None for job in changed] == [True, False]
        for more in ({"film": ".gif"}, {"model": "another"}):
            other = read_jobs(source, Options(folder=str(out), **more).key)
            assert not any(journal.done(job) for job in other)


def test_done_is_said_of_the_files_of_the_very_job_and_the_weights_of_today(model, tmp_path, capsys):
    own, out = tmp_path / "own.safetensors", tmp_path / "out"
    shutil.copy(model, own)

    def run(seed: int, *options: str) -> int:
        lines = [json.dumps({"model": str(own), "seed": s, "name": name}) for s, name in ((seed, "x"), (9, "x-before"))]
        return main(["batch", str(written(tmp_path, lines)), "--out", str(out), "--jobs", "1", *options])

    for seed, known in ((1, 0), (2, 1), (1, 1), (1, 2)):
        assert run(seed) == 0
        assert read_recipe(out / "x.png").seed.seed == seed
        said = capsys.readouterr().out
        assert ("were there already" in said) == (known > 0)
        assert f"{2 - known} done" in said
    os.replace(write_tiny_stylegan2(tmp_path, seed=1), own)
    assert run(1) == 0
    assert "2 done" in capsys.readouterr().out
    # Somebody took it away before its line was written.
    journal = out / "journal.jsonl"
    journal.write_text(re.sub(r'"x.png": "[0-9a-f]+"', '"x.png": ""', journal.read_text()))
    (out / "x.png").unlink()
    assert run(1) == 0
    assert (out / "x.png").is_file()
    capsys.readouterr()
    # What would be the picture before x is that of another recipe.
    assert run(1, "--before") == 1
    assert "would be called 'x-before'" in rows_of(out)[0]["error"]
    assert rows_of(out)[1]["state"] == "done"


def test_a_batch_that_is_killed_goes_on(model, tmp_path):
    """The whole program, with two processes, as when a machine is switched off."""
    lines = [short(model, seed, settings={"max_steps": 8}) for seed in range(16)]
    source, out = written(tmp_path, lines), tmp_path / "out"
    command = [sys.executable, "-m", "draggan", "batch", str(source), "--out", str(out), "--jobs", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=Path(__file__).parent.parent, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    ) as program:
        while len(list(out.glob("*.png"))) < 3 and program.poll() is None:
            time.sleep(0.02)
        os.killpg(program.pid, signal.SIGKILL)
    journal = out / "journal.jsonl"
    before = journal.read_text().count("\n")
    assert 0 < before < 16
    first = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    noted = {json.loads(line)["name"] + ".png" for line in journal.read_text().splitlines()}
    assert main(["batch", str(source), "--out", str(out), "--jobs", "1"]) == 0
    assert {path.name for path in out.glob("*.png")} == {f"{k:06d}.png" for k in range(1, 17)}
    assert journal.read_text().count("\n") == 16, "every job once"
    assert all((out / name).stat().st_mtime_ns == first[name] for name in noted)


def test_a_process_that_dies_costs_the_job_it_was_at(model, tmp_path, monkeypatch):
    source = written(tmp_path, [short(model, seed) for seed in range(4)])
    options = Options(folder=str(tmp_path), device="cpu")
    monkeypatch.setattr(pool, "_serve", _dies_at_the_second_and_after_the_third)
    with pool.Pool(options, 1) as workers:
        rows = [row for _, row in workers.run(read_jobs(source))]
    assert [row["state"] for row in rows] == ["done", "failed", "done", "done"]
    assert "has ended (signal 9), most likely because there was no memory left" in rows[1]["error"]


def _dies_at_the_second_and_after_the_third(connection, options):
    """In place of what a process of the pool does."""
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(None)
        if job.number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        connection.send({"number": job.number, "name": job.name, "state": "done"})
        if job.number == 3:
            os.kill(os.getpid(), signal.SIGKILL)


def test_two_batches_do_not_share_a_folder(model, tmp_path):
    source, out = written(tmp_path, [short(model, 1)]), tmp_path / "out"
    options = Options(folder=str(out), device="cpu")
    refused = []

    def again(done, failed, total):
        def other():
            try:
                run_batch(read_jobs(source), options, processes=1)
            except ExportError as error:
                refused.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    run_batch(read_jobs(source), options, processes=1, progress=again)
    assert "another batch writes to" in refused[0]


def test_a_folder_of_saved_work(model, tmp_path, engine):
    folder = tmp_path / "saved"
    folder.mkdir()
    assert main(["drag", "--model", model, "--seed", "1", "--point", "10,12:14,12", "--steps", "2",
                 "--out", str(folder / "a picture.png"), "--recipe-out", str(folder / "recipe.json")]) == 0  # fmt: skip
    session = Session.of(engine.complete(engine.begin(model, seed=4)))
    (folder / "session.json").write_text(pieces_of(session).text())
    pixels = np.zeros((32, 32, 3), np.uint8)
    save_animation(folder / "a picture.gif", [pixels], recipe=read_recipe(folder / "recipe.json"))
    save_picture(folder / "other.jpg", pixels, recipe=session.recipe)
    Image.new("RGB", (4, 4)).save(folder / "strange.png")
    (folder / "report.json").write_text("{}")
    (folder / "notes.txt").write_text("not mine")
    jobs = read_jobs(folder)
    assert [(job.name, bool(job.error)) for job in jobs] == [
        ("000001", False),  # its film beside it is no work of its own
        ("other", False),
        ("recipe", False),
        ("session", False),
        ("strange", True),
    ]
    assert read_job(jobs[0], engine) == read_job(jobs[2], engine)
    assert read_job(jobs[1], engine).digest == session.recipe.digest
    assert read_job(jobs[3], engine) == session.recipe
    (tmp_path / "nothing").mkdir()
    with pytest.raises(RecipeError, match="no recipes in"):
        read_jobs(tmp_path / "nothing")
    with pytest.raises(RecipeError, match="there is no file or folder"):
        read_jobs(tmp_path / "nowhere")


def test_a_recipe_in_a_few_words(model, engine):
    allowed = np.zeros((32, 32), bool)
    allowed[4:20] = True
    runs = {"runs": [128, 512, 384]}
    recipe = recipe_from(json.loads(short(model, 3, truncation=0.5, mask=runs, space="w")), engine)
    assert recipe.seed.seed == 3
    assert recipe.seed.truncation == 0.5
    assert recipe.edits[0].space == "w"
    assert np.array_equal(recipe.edits[0].mask.allowed, allowed)
    assert recipe_from(json.loads(recipe.to_json()), engine) == recipe
    for wrong in (
        {"model": model, "sed": 3},
        {"model": 7},
        {"seed": 3},
        {"model": model, "settings": {"max_steps": 3}},
        {"model": model, "points": [[1, 2, 3, 4]], "mask": "/etc/passwd"},
        {"recipe": 2},
        [],
    ):
        with pytest.raises(DragGANError):
            recipe_from(wrong, engine)


def test_no_model_is_downloaded_because_a_recipe_names_it(tmp_path, capsys):
    line = short("https://example.org/model.pkl", 1)
    assert main(["batch", str(written(tmp_path, [line])), "--out", str(tmp_path / "out"), "--jobs", "1"]) == 1
    (row,) = rows_of(tmp_path / "out")
    assert "add --yes to download it" in row["error"]


def test_one_edit_over_seeds_and_targets(model, engine):
    recipe = recipe_from(json.loads(short(model, 3)), engine)
    assert [r.seed.seed for r in over_seeds(recipe, [4, 5])] == [4, 5]
    # A drag that was stopped is the same drag; where a hand has pulled nobody can say.
    stopped, pulled = (
        replace(recipe.edits[0], recorded=np.ones((1, 8, 8), np.float32), by_hand=by_hand) for by_hand in (False, True)
    )
    assert list(over_seeds(replace(recipe, edits=(stopped,)), [4])) == list(over_seeds(recipe, [4]))
    with pytest.raises(RecipeError, match="by hand"):
        list(over_seeds(replace(recipe, edits=(pulled,)), [4]))
    places = grid(recipe, 3, 3, 9)
    assert places == [(5, 3), (14, 3), (23, 3), (5, 12), (14, 12), (23, 12), (5, 21), (14, 21), (23, 21)]
    assert len(grid(recipe, 5, 1, 9)) == 3, "the others are outside"
    way = along(recipe, [(14, 12), (14, 20)], 3)
    assert np.allclose(way, [(14, 12), (14, 16), (14, 20)])
    made = list(each_target(recipe, way))
    assert [r.edits[-1].points[0].target for r in made] == [tuple(p) for p in way]
    assert len({r.digest for r in made}) == 3
    with pytest.raises(PointError, match="no length"):
        along(recipe, [(10, 12)], 3)
    with pytest.raises(PointError, match="outside the picture"):
        list(each_target(recipe, [(40, 2)]))
    with pytest.raises(RecipeError, match="latent code"):
        list(over_seeds(recipe_at_latent(recipe, engine), [1]))


def recipe_at_latent(recipe, engine):
    return replace(recipe, start=engine.complete(recipe.up_to(0)).latent, results=())


def test_edits_are_written_as_a_list(model, tmp_path, capsys):
    base = ["edits", "--model", model, "--point", "10,12:14,12"]
    assert main([*base, "--seeds", "0-2,7", "--grid", "2x1"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines] == [f"tiny-seed{s}-{k}" for s in (0, 1, 2, 7) for k in (1, 2)]
    assert len(lines[0]["recipe"]["edits"]) == 1
    assert main([*base, "--path", "14,12:14,20", "--count", "12", "--out", str(tmp_path / "list.jsonl")]) == 0
    assert len(read_jobs(tmp_path / "list.jsonl")) == 12
    assert main(["edits", "--model", model]) == 1
    assert main([*base, "--grid", "2x2", "--path", "1,1"]) == 1
    for wrong in (["--seeds", "5-1"], ["--seeds", "a"], ["--grid", "5"], ["--path", "3"]):
        with pytest.raises(SystemExit):
            main([*base, *wrong])
