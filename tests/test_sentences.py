"""What goes wrong is told in a sentence that says nothing of this machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from gradio.utils import get_upload_folder

import draggan
from draggan.errors import RecipeError
from draggan.sentences import sentence
from draggan.service.answers import error_of
from draggan.ui.errors import presented


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("seed 3 is not allowed; give 1", "Seed 3 is not allowed; give 1."),
        ("lions.pkl is not a model", "lions.pkl is not a model."),
        ("step_size = -1 is not allowed", "step_size = -1 is not allowed."),
        ("r1 = -1 is not allowed", "r1 = -1 is not allowed."),
        ("'dog' is neither here nor there. Look elsewhere!", "'dog' is neither here nor there. Look elsewhere!"),
    ],
)
def test_messages_become_sentences(message, said):
    assert sentence(message) == said


def by_the_service(message: str) -> str:
    return error_of(RecipeError(message))[1]


@pytest.mark.parametrize("told", [presented, by_the_service])
def test_no_sentence_says_where_things_lie(told, tmp_path, monkeypatch):
    """Wherever it is told; also of a folder in another one that is left out as well."""
    program = Path(draggan.__file__).parents[1]
    monkeypatch.setenv("HOME", str(program.parent))
    monkeypatch.setenv("USERPROFILE", str(program.parent))
    monkeypatch.setenv("DRAGGAN_HOME", str(tmp_path))
    for folder in (program, program.parent, tmp_path, Path(tempfile.gettempdir())):
        assert told(f"cannot read {folder}{os.sep}a.json") == "Cannot read a.json."
    assert told("no <Tensor at 0x7f01beef>") == "No <Tensor>."
    said = told(f"x{'y' * 2000}: give another one")
    assert len(said) < 610
    assert said.endswith("give another one."), "the end says what to do"


def test_the_page_does_not_name_the_folder_of_uploads_either():
    assert presented(f"cannot read {get_upload_folder()}{os.sep}a.json") == "Cannot read a.json."
