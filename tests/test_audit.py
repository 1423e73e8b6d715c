"""The record of exports: what it notices, what can be erased, and what it never holds."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from dnnlib.private_files import private_file, write_private
from draggan.errors import AuditError, ConfigError, ExportError
from draggan.provenance import audit
from draggan.provenance.audit import AuditLog, Export, Head
from draggan.provenance.deployment import Deployment, state_folder
from draggan.recipe import Edit, ModelReference, Point, Recipe, Seed

ROOT = Path(__file__).parents[1]
MODEL = ModelReference(name="/home/someone/secret.pkl", sha256="ab" * 32)
POINT = Point(handle=(1.0, 2.0), target=(3.0, 4.0))


def recipe(seed: int = 7) -> Recipe:
    return Recipe(model=MODEL, image_size=(8, 8), start=Seed(seed=seed), edits=(Edit(points=(POINT,)),))


def export(log: AuditLog | Deployment, number: int, made: Recipe | None = None) -> Head:
    return log.record_export(
        Export(
            sha256=hashlib.sha256(f"{number}".encode()).hexdigest(),
            kind="png",
            recipe=made,
            watermark="12ab",
            credentials="signed",
            verdict="not moderated",
            door="page",
        )
    )


@pytest.fixture
def log(tmp_path):
    log = AuditLog(tmp_path / "audit.sqlite")
    yield log
    log.close()


def change(log: AuditLog, *statements: str) -> None:
    """What somebody does who can write to the file."""
    log.close()
    with sqlite3.connect(log.path) as database:
        for statement in ("DROP TRIGGER rows_stay", *statements):
            database.execute(statement)
    database.close()


def test_a_chain_is_valid_and_its_head_is_that_of_the_last_row(log):
    assert log.head() is None
    assert log.verify().rows == 0
    heads = [export(log, i, recipe(i)) for i in range(5)]
    found = log.verify(heads)
    assert found.is_valid
    assert (found.rows, found.head) == (5, heads[-1])
    assert Head.read(str(heads[-1])) == log.head() == heads[-1]
    last = log.rows(last=1)[0]
    assert last.facts["recipe"] == recipe(4).digest
    assert last.details["edits"][0]["points"] == [[1.0, 2.0, 3.0, 4.0]]
    assert last.minute % 60 == 0


@pytest.mark.parametrize(
    ("change_made", "noticed"),
    [
        ("UPDATE chain SET body = replace(body, 'png', 'gif') WHERE number = 3", "Row 3 was changed"),
        ("UPDATE chain SET body = '{' WHERE number = 3", "Row 3 was changed"),
        ("UPDATE chain SET previous = hash WHERE number = 3", "Row 3 was changed"),
        ("UPDATE details SET body = replace(body, '7', '8') WHERE number = 3", "details of row 3 were changed"),
        ("DELETE FROM chain WHERE number = 3", "Row 3 is missing"),
        ("DELETE FROM chain WHERE number = 1", "Row 1 is missing"),
        ("DELETE FROM chain WHERE number > 3", "Row 5 was there and is not"),
        ("DELETE FROM chain", "Row 5 was there and is not"),
    ],
)
def test_a_change_is_noticed(log, change_made, noticed):
    for i in range(5):
        export(log, i, recipe())
    change(log, change_made)
    found = log.verify()
    assert not found.is_valid
    assert noticed in found.problems[0]


def test_a_row_whose_hash_was_made_to_fit_is_noticed_by_the_next(log):
    for i in range(3):
        export(log, i)
    row = sqlite3.connect(log.path).execute("SELECT body, previous FROM chain WHERE number = 2").fetchone()
    body = row[0].replace("png", "gif")
    digest = hashlib.sha256(f"{row[1]}\n{body}".encode()).hexdigest()
    change(log, f"UPDATE chain SET body = '{body}', hash = '{digest}' WHERE number = 2")
    assert "Row 3 was changed" in log.verify().problems[0]


def test_a_record_begun_anew_fits_no_remembered_head(log, tmp_path):
    """Also where the head that is kept beside it was taken away: exports carry it."""
    heads = [export(log, i) for i in range(3)]
    log.close()
    for path in tmp_path.iterdir():
        path.unlink()
    export(log, 9)
    assert log.verify().is_valid
    assert "Row 3 was there and is not" in log.verify([heads[2]]).problems[0]
    assert "Row 1 was another one" in log.verify([heads[0]]).problems[0]


def test_erased_details_are_gone_from_the_disk_and_leave_the_chain_valid(tmp_path):
    now = [1_800_000_000.0]
    log = AuditLog(tmp_path / "audit.sqlite", keep=86400, clock=lambda: now[0])
    log.record_decision(item="ab", decision="refuse", why="a very particular reason")
    now[0] += 86401
    export(log, 1, recipe())
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert log.verify().erased == 1
    assert log.purge(everything=True) == 1
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"particular" not in files
    assert b"points" not in files
    found = log.verify()
    assert found.is_valid
    assert found.erased == 2
    assert [row.event for row in log.rows(last=10)] == ["decision", "purge", "export", "purge"]
    assert log.purge() == 0
    log.close()


def test_what_is_erased_by_and_by_leaves_the_file_of_recent_changes_too(tmp_path):
    """Also where the record stays open, as in a page, and where somebody reads it at that moment."""
    now = [1_800_000_000.0]
    log = AuditLog(tmp_path / "audit.sqlite", keep=86400, clock=lambda: now[0])

    def on_disk() -> bool:
        return any(b"particular" in path.read_bytes() for path in tmp_path.iterdir())

    for is_read in (False, True):
        log.record_decision(item="ab", decision="refuse", why="a very particular reason")
        assert on_disk()
        now[0] += 86401
        with contextlib.closing(sqlite3.connect(log.path, isolation_level=None)) as reader:
            if is_read:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM details").fetchone()
            export(log, 1, recipe())
            assert on_disk() == is_read
        if is_read:
            assert log.purge() == 0, "erased before, and only now gone"
        assert not on_disk()
    assert log.verify().is_valid
    log.close()


def test_a_record_that_was_never_begun_has_nothing_to_erase(log):
    assert log.purge(everything=True) == 0
    assert not log.path.exists()


def test_part_of_a_key_does_not_stay_on_a_full_disk(tmp_path, monkeypatch):
    class Full:
        def __init__(self, descriptor: int, mode: str) -> None:
            self._file = open(descriptor, mode, buffering=0)  # noqa: SIM115

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def write(self, data: bytes) -> None:
            self._file.write(data[:4])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dnnlib.private_files.os.fdopen", Full)
    for write in (
        lambda: write_private(tmp_path / "a", b"secret"),
        lambda: private_file(tmp_path / "b", lambda: b"secret"),
    ):
        with pytest.raises(OSError, match="No space left"):
            write()
    assert not list(tmp_path.iterdir())


def test_a_key_that_a_power_cut_has_emptied_is_made_anew_and_is_on_the_disk_before_it_has_its_name(
    tmp_path, monkeypatch
):
    key, flushed, link = tmp_path / "key", [], os.link
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_size))
    monkeypatch.setattr(os, "link", lambda *names: (flushed.append("named"), link(*names)))
    key.write_bytes(b"")
    assert private_file(key, lambda: b"secret") == key.read_bytes() == b"secret"
    assert private_file(key, lambda: b"another") == b"secret"
    assert flushed == [6, "named"]
    assert list(tmp_path.iterdir()) == [key]


def test_a_commitment_does_not_tell_what_was_erased(log):
    """Two uploads of the same file have nothing in common, and its hash stands nowhere in their rows."""
    digest = hashlib.sha256(b"a photograph").hexdigest()
    for _ in range(2):
        log.record_upload(what="photo", sha256=digest, verdict="ok", visit="ab")
    log.purge(everything=True)
    bodies = [row[0] for row in sqlite3.connect(log.path).execute("SELECT body FROM chain LIMIT 2")]
    assert all(digest not in body for body in bodies)
    commitments = [body.split('"details":"')[1][:64] for body in bodies]
    assert commitments[0] != commitments[1]


def test_latents_and_names_of_models_are_not_recorded(log, tmp_path):
    latent = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 2, 8)
    photo = Recipe(model=MODEL, image_size=(8, 8), start=latent, edits=(Edit(recorded=latent),))
    export(log, 1, photo)
    log.close()
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (b"float32", b"deflated", b"secret", b"someone", b"latent"):
        assert secret not in held
    row = log.rows(last=1)[0]
    assert row.facts["recipe"] is None, "its hash would tell whoever has the photograph that it was here"
    assert row.details["recipe"] == photo.digest
    assert row.details["edits"][0]["by hand"] is False, "a drag that was stopped"


@pytest.mark.parametrize(
    "text", ["192.0.2.7", "2001:db8::1", "holiday.jpg", "C:\\a", "~/a", "Ann Example", "x" * 41, ""]
)
def test_addresses_and_names_of_files_are_refused(log, text):
    with pytest.raises(AuditError, match="is not recorded"):
        log.record_consent(text=text, visit="ab")
    with pytest.raises(AuditError, match="is not recorded"):
        log.record_consent(text="upload 1", visit=text or "ann")


@pytest.mark.skipif(os.name == "nt", reason="rights of files are another matter there")
def test_only_the_owner_can_read_it(tmp_path):
    deployment = Deployment.of(folder=tmp_path / "state")
    export(deployment, 1)
    deployment.private_file("key", lambda: b"secret")
    for path in (tmp_path / "state").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    deployment.audit.close()


def test_nobody_who_records_waits_for_somebody_who_reads_it_all(log, monkeypatch):
    problem_of = audit._problem_of
    recorded = []

    def problem_meanwhile(*row):
        recorded.append(log.record_consent(text="upload 1", visit="ab"))
        return problem_of(*row)

    rows = [export(log, number) for number in range(3)][-1].number
    monkeypatch.setattr(audit, "_problem_of", problem_meanwhile)
    assert log.verify().rows == rows == len(recorded)  # what came meanwhile is not seen
    assert log.head() == recorded[-1]


def test_threads_lose_no_row(tmp_path):
    """Four threads of four logs on one file, as of four processes: every acknowledged row is there, once."""
    heads: list[Head] = []

    def work(number: int) -> None:
        log = AuditLog(tmp_path / "audit.sqlite")
        for i in range(25):
            heads.append(export(log, 100 * number + i, recipe(i)))
        log.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    log = AuditLog(tmp_path / "audit.sqlite")
    found = log.verify(heads)
    assert found.is_valid
    assert found.rows == len({head.number for head in heads}) == 100
    log.close()


def test_whoever_begins_a_record_waits_for_another_one_who_does(log, monkeypatch):
    class Busy(sqlite3.Connection):
        tries = 0

        def executescript(self, script: str) -> sqlite3.Cursor:
            Busy.tries += 1
            if Busy.tries == 1:  # as SQLite says without a wait, where two change a new file to WAL
                raise sqlite3.OperationalError("database is locked")
            return super().executescript(script)

    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Busy))
    assert export(log, 1).number == 1


@pytest.mark.parametrize("another", [True, False])
def test_rows_of_a_record_that_was_taken_away_are_not_acknowledged(tmp_path, another):
    """Once, so that a public page stops and whoever runs it hears of it; then in the file that is there."""
    ours = Deployment.of(public=True, folder=tmp_path)
    assert ours.audit is not None
    export(ours, 1)
    for path in tmp_path.glob("audit.sqlite*"):
        path.rename(tmp_path / f"old-{path.name}")
    second = AuditLog(ours.audit.path)
    if another:
        export(second, 2)
    # Who only reads hears what there is, and takes nobody's place.
    assert ours.audit.find_export(sha256="ab" * 32) is None
    with pytest.raises(ExportError, match="cannot be written"):
        export(ours, 3)
    head = export(ours, 4)
    assert head.number == 1 + another
    assert second.head() == head, "where others look for it"
    assert second.verify().is_valid
    second.close()
    ours.audit.close()


WRITER = """
import sys, pathlib
from draggan.provenance.audit import AuditLog
log = AuditLog(pathlib.Path(sys.argv[1]))
while True:
    print(log.record_consent(text="upload 1", visit="ab"), flush=True)
"""


def test_two_of_one_process_and_another_process_lose_no_row(log):
    """Another process, the last one to let go of the file as it seems, deletes nothing that is still in use here."""
    export(log, 0)
    second = AuditLog(log.path)
    export(second, 1)
    second.close()
    code = (
        "import pathlib, sys; from draggan.provenance.audit import AuditLog; "
        "log = AuditLog(pathlib.Path(sys.argv[1])); print(log.head()); log.close()"
    )
    ask = functools.partial(
        subprocess.run, [sys.executable, "-c", code, log.path], cwd=ROOT, check=True, capture_output=True, text=True
    )
    ask()
    heads = [export(log, 2), export(log, 3)]
    found = log.verify(heads)
    assert found.is_valid, found.problems
    assert found.rows == 4
    assert ask().stdout.strip() == str(heads[-1]), "all that was acknowledged is on the disk, for everybody"


@pytest.mark.skipif(os.name == "nt", reason="no such signal there")
def test_a_killed_process_loses_no_acknowledged_row(tmp_path):
    path = tmp_path / "audit.sqlite"
    heads = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        heads += [process.stdout.readline() for _ in range(30)]
        os.kill(process.pid, signal.SIGKILL)
        heads += process.stdout.read().splitlines()
        process.wait()
        process.stdout.close()
    log = AuditLog(path)
    found = log.verify([Head.read(head) for head in heads if head.count(":") == 1 and len(head.strip()) > 64])
    assert found.is_valid
    assert found.rows >= 60
    log.close()


def test_a_file_that_is_no_record_is_an_error_with_a_sentence(tmp_path):
    path = tmp_path / "audit.sqlite"
    path.write_bytes(b"not a database" * 100)
    log = AuditLog(path)
    for use in (log.verify, log.head, lambda: export(log, 1)):
        with pytest.raises(AuditError, match="cannot be read or written"):
            use()
    with pytest.raises(AuditError, match="NUMBER:HASH"):
        Head.read("17:short")


def test_on_a_public_server_what_cannot_be_recorded_does_not_leave(tmp_path, caplog):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    with pytest.raises(ExportError, match="cannot be written"):
        export(Deployment.of(public=True, folder=blocked), 1)
    assert export(Deployment.of(folder=blocked), 1) is None
    assert "cannot be read or written" in caplog.text
    assert Deployment.of(folder=blocked).chain_head() is None


def test_settings_of_the_environment(tmp_path):
    off = {"DRAGGAN_AUDIT": "off", "DRAGGAN_MODERATORS": "none"}
    local = Deployment.of(folder=tmp_path, environment=off)
    assert local.audit is None
    assert export(local, 1) is None
    assert local.chain_head() is None
    assert Deployment.of(public=True, folder=tmp_path, environment=off).audit is not None
    for wrong in ({"DRAGGAN_AUDIT": "perhaps"}, {"DRAGGAN_AUDIT_DAYS": "many"}, {"DRAGGAN_AUDIT_DAYS": "-1"}):
        with pytest.raises(ConfigError, match="is not allowed"):
            Deployment.of(folder=tmp_path, environment=wrong)
    assert state_folder({"DRAGGAN_STATE": "/a"}) == Path("/a")
    assert state_folder({"DRAGGAN_HOME": "/b", "XDG_STATE_HOME": "/c"}) == Path("/b/state")
    assert state_folder({"XDG_STATE_HOME": "/c"}) == Path("/c/draggan")
