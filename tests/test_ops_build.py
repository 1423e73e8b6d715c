"""Building compiled libraries: one build, remembered failures, nothing left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from torch_utils.errors import BuildError
from torch_utils.ops import build

pytestmark = pytest.mark.skipif(
    build.toolchain().compiler is None or build.toolchain().ninja is None, reason="needs a compiler and ninja"
)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and an empty memory."""
    monkeypatch.setenv("DRAGGAN_HOME", str(tmp_path / "home"))
    for table in ("_loaded", "_failed", "_builds"):
        monkeypatch.setattr(build, table, {})
    return tmp_path


def write(folder: Path, text: str) -> Path:
    source = folder / "op.cpp"
    source.write_text(text)
    return source


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    for table in ("_loaded", "_failed", "_builds"):
        monkeypatch.setattr(build, table, {})


GOOD = 'extern "C" int answer() { return 42; }\n'


def test_builds_once_then_comes_from_the_cache(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(fresh, GOOD)
    environment = dict(os.environ)
    library = build.load_library("answer", [source], cflags=["-O0"])
    assert library.answer() == 42
    assert build.load_library("answer", [source], cflags=["-O0"]) is library
    assert build.builds()[0].state == "built"
    assert dict(os.environ) == environment

    forget(monkeypatch)
    start = time.monotonic()
    assert build.load_library("answer", [source], cflags=["-O0"]).answer() == 42
    assert time.monotonic() - start < 1
    assert build.builds()[0].state == "cached"
    # One folder with one library; no temporary folders, objects or lock files.
    (folder,) = (fresh / "home" / "ops").iterdir()
    assert [p.stem for p in folder.iterdir()] == ["answer"]


def test_another_source_or_flag_is_another_build(fresh: Path) -> None:
    source = write(fresh, GOOD)
    key = build._digest("answer", [source], (), ())
    assert build._digest("answer", [source], ("-O1",), ()) != key
    (fresh / "op.h").write_text("// a header beside it\n")
    assert build._digest("answer", [source], (), ()) != key


def test_failing_compiler_is_reported_once_and_remembered(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = fresh / "broken-compiler"
    compiler.write_text("#!/bin/sh\necho 'fatal error: this compiler never works' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    source = write(fresh, GOOD)
    with pytest.raises(BuildError, match="answer") as first:
        build.load_library("answer", [source])
    start = time.monotonic()
    with pytest.raises(BuildError) as second:
        build.load_library("answer", [source])
    assert second.value is first.value
    assert time.monotonic() - start < 0.5
    (only,) = build.builds()
    assert only.state == "failed"
    assert "answer" in only.error
    assert list((fresh / "home" / "ops").iterdir()) == []


def test_unwritable_cache_is_an_op_build_error(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = fresh / "file"
    blocker.write_text("")
    monkeypatch.setenv("DRAGGAN_HOME", str(blocker))
    with pytest.raises(BuildError, match="DRAGGAN_HOME"):
        build.load_library("answer", [write(fresh, GOOD)])


def test_missing_source_is_an_op_build_error(fresh: Path) -> None:
    with pytest.raises(BuildError, match="cannot be read"):
        build.load_library("answer", [fresh / "absent.cpp"])


def test_damaged_library_is_built_again(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(fresh, GOOD)
    key = build._digest("answer", [source], ("-O0",), ())
    folder = fresh / "home" / "ops" / f"answer-{key[:20]}"
    folder.mkdir(parents=True)
    (folder / "answer.so").write_bytes(b"not a library")
    assert build.load_library("answer", [source], cflags=["-O0"]).answer() == 42
    assert build.builds()[0].state == "built"


def test_hanging_compiler_is_stopped(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BUILD_TIMEOUT", 0.05)
    with pytest.raises(BuildError, match="stopped"):
        build.load_library("answer", [write(fresh, GOOD)])


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("FAILED: x\nop.cpp:1:1: error: expected ';'\nninja: stopped", "op.cpp:1:1: error: expected ';'"),
        ("", "no output"),
    ],
)
def test_reason_is_the_compilers_own_words(output: str, reason: str) -> None:
    assert build._reason(output) == reason
