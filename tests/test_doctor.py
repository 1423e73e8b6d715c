"""The doctor finds what is wrong, says what to do, and never fails itself."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from draggan import doctor
from draggan.checkpoints import catalogue
from draggan.doctor import report
from draggan.provenance.deployment import state_folder
from torch_utils.ops import build


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAGGAN_HOME", str(tmp_path))
    return tmp_path


def found(name, **options):
    return next(item for item in report(measure=False, **options) if item.name == name)


def test_everything_that_matters_is_looked_at_and_every_complaint_comes_with_advice():
    items = report()
    names = [item.name for item in items]
    assert {"python", "torch", "gradio", "cpu", "compiled ops", "cache", "built-in models"} <= set(names)
    assert str(state_folder()) in next(item.value for item in items if item.name.startswith("state"))
    ray = next(item for item in items if item.name == "many machines")
    assert ray.value.startswith("ray ") or "pip install 'ray[serve]'" in ray.advice
    assert len(names) == len(set(names))
    assert all(item.status in ("ok", "slow", "broken") and item.value for item in items)
    assert all(item.advice for item in items if item.status != "ok")


def test_a_package_out_of_range_or_missing_is_broken(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "jaxtyping":
            raise importlib.metadata.PackageNotFoundError(name)
        return "99.1" if name == "gradio" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert found("gradio").status == "broken"
    assert "pip install 'gradio>=" in found("gradio").advice
    assert found("jaxtyping").value == "missing"
    assert found("numpy").status == "ok"


@pytest.mark.parametrize(
    ("version", "inside"),
    [("2.8", True), ("2.13.1+cpu", True), ("2.14.0", False), ("2.7.9", False), ("2.14.0a1", False)],
)
def test_version_bounds(version, inside):
    assert doctor._within(version, ">=2.8,<2.14") is inside


def test_a_failed_op_costs_speed_and_says_why(monkeypatch):
    failed = build.Build(name="blur", state="failed", path=None, seconds=1.0, error="no such header")
    monkeypatch.setattr(build, "builds", lambda: [failed])
    assert found("op blur").status == "slow"
    assert "no such header" in found("op blur").advice


def test_a_cache_that_cannot_be_written_is_told(monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert found("cache").status == "broken"
    assert "DRAGGAN_HOME" in found("cache").advice


@pytest.mark.parametrize(
    ("variable", "name"), [("DRAGGAN_HOME", "cache"), ("DRAGGAN_STATE", "state (keys, record of exports)")]
)
@pytest.mark.parametrize(("there", "why"), [("file", "not a folder"), ("/proc/nobody/may", "not writable")])
def test_where_nothing_can_be_kept_is_told_alike(variable, name, there, why, tmp_path, monkeypatch):
    """Also where the rights of the folder above say otherwise."""
    if there.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("the system has no folder in which nobody can make one")
    (tmp_path / "file").touch()
    monkeypatch.setenv(variable, str(tmp_path / there))
    assert found(name).value == f"{tmp_path / there}, {why}"
    assert found(name).status == "broken"
    assert variable in found(name).advice


def test_unfinished_downloads_are_counted(home):
    (home / "models").mkdir()
    (home / "models" / "lions.pkl.part").write_bytes(bytes(3_000_000))
    assert found("unfinished downloads").value == "1, 3 MB"


def test_missing_built_in_models_and_wrong_entries_are_told(home, monkeypatch):
    (home / "models.toml").write_text("[[model]]\nname = 3")
    assert "must be text" in found("models.toml").value
    monkeypatch.setattr(catalogue, "_BUILTIN_DIR", home / "nowhere")
    assert found("built-in models").status == "broken"


def test_a_part_that_fails_does_not_hide_the_others(monkeypatch):
    def fail():
        raise ImportError("libfoo.so: cannot open shared object file")

    monkeypatch.setattr(build, "toolchain", fail)
    assert "libfoo" in found("ops").value
    assert found("cache").status == "ok"


class Installed:
    """A distribution whose files are wherever an installer puts them, and what the installer wrote down."""

    def __init__(self, record):
        self.record = record
        self.requires = ["numpy>=1.26"]

    def read_text(self, name):
        return self.record if name == "direct_url.json" else None


@pytest.mark.parametrize(
    ("record", "advice"),
    [
        ('{"url": "file:///home/me/my%20drags", "dir_info": {}}', "pip install --force-reinstall '/home/me/my drags'"),
        (
            '{"url": "https://files.example/draggan.whl"}',
            "pip install --force-reinstall https://files.example/draggan.whl",
        ),
        (None, "the way you did, with pip's option --force-reinstall"),
        ("not json", "the way you did, with pip's option --force-reinstall"),
    ],
)
def test_an_installed_package_is_installed_again_from_where_it_came(monkeypatch, tmp_path, record, advice):
    def fail():
        raise ImportError("libfoo.so: cannot open shared object file")

    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "site-packages/draggan/doctor.py"))
    others = importlib.metadata.distribution
    monkeypatch.setattr(
        importlib.metadata, "distribution", lambda name: Installed(record) if name == "draggan" else others(name)
    )
    monkeypatch.setattr(build, "toolchain", fail)
    assert advice in found("ops").advice
    assert "requirements.txt" not in found("ops").advice


def test_in_a_source_tree_the_file_of_requirements_is_named(monkeypatch):
    def fail():
        raise ImportError("libfoo.so: cannot open shared object file")

    monkeypatch.setattr(build, "toolchain", fail)
    advice = found("ops").advice
    assert Path(advice.split("-r ")[1]).is_file()
    assert Path(advice.split("-r ")[1]).name == "requirements.txt"


def test_one_slow_picture_is_a_busy_machine_and_all_of_them_a_slow_one(monkeypatch):
    def measured(*seconds):
        taken = iter(seconds)
        monkeypatch.setattr(doctor, "_seconds", lambda work: next(taken))
        return next(doctor._speed())

    assert measured(9.0, 2.0, 0.02, 3.0, 2.0, 2.0).status == "ok"
    slow = measured(9.0, *[0.9] * 5)
    assert (slow.status, slow.value.split(" for")[0]) == ("slow", "900 ms")
    assert "256 px" not in slow.advice, "the model measured is smaller"
    assert "256 px" in doctor._faster(512)
