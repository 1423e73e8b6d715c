"""Checking a file in the page: it comes as a value, and what is found comes back as data."""

from __future__ import annotations

import base64
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from draggan.config import Limits
from draggan.errors import VerifyError
from draggan.export import encode_picture
from draggan.provenance import watermark
from draggan.provenance.deployment import default
from draggan.ui.file_check.component import most_bytes, read_sent
from draggan.ui.handlers import checking
from tests.test_watermark import drawing


@pytest.fixture
def check(parts, monkeypatch):
    """The report that the page is to show for a value that it has sent."""
    monkeypatch.setattr(watermark, "_SCALES", np.array([1.0]))
    page = SimpleNamespace(parts=parts, site=SimpleNamespace(limits=Limits.public(), deployment=default()))

    def report_of(value: object) -> dict:
        return checking.check(page, value, None)[parts.check].constructor_args["report"]

    return report_of


def sent(data: bytes, name: str = "a.png") -> dict:
    return {"count": 3, "name": name, "content": base64.b64encode(data).decode()}


def test_what_was_saved_here_is_told_layer_by_layer(check):
    report = check(sent(encode_picture(drawing(128)), "<b>mine</b>.png"))
    assert (report["count"], report["name"]) == (3, "<b>mine</b>.png")
    assert report["findings"][0]["text"].startswith("Made by AI")
    assert {finding["layer"] for finding in report["findings"]} >= {
        "Content credentials",
        "Invisible mark",
        "What it says of itself",
    }


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "No file has come"),
        ({"count": "x", "name": "a", "content": ""}, "No file has come"),
        ({"count": 1, "name": "a", "content": "not base64!"}, "did not come whole"),
        ({"count": 1, "name": "a", "content": "A" * 9_000_000}, "larger than 5 MB"),
        (sent(b"words", "a.txt"), "iles of this kind cannot be checked"),
        (sent(b"words", "A.PNG"), "A.PNG is damaged, or is not what its name says"),
    ],
)
def test_what_cannot_be_checked_is_a_sentence(check, value, says):
    report = check(value)
    assert says in report["error"]
    assert "findings" not in report


def test_a_file_fits_into_a_call():
    limits = Limits.public()
    content = base64.b64encode(bytes(most_bytes(limits)))
    assert len(content) < limits.call_bytes
    assert len(read_sent(sent(bytes(most_bytes(limits))), limits).content) == most_bytes(limits)


def test_one_visitor_leaves_others_a_place(check, monkeypatch):
    """Two files are looked at together, and one visitor has one of them."""
    begun, go_on = threading.Event(), threading.Event()

    def slowly(*args, **kwargs):
        begun.set()
        go_on.wait(20)
        raise VerifyError("it was looked at")

    monkeypatch.setattr(checking, "verify_bytes", slowly)
    monkeypatch.setattr(checking, "visitor_of", lambda request: "a")
    first = threading.Thread(target=check, args=(sent(b"x"),))
    first.start()
    begun.wait(20)
    try:
        assert "another file of yours is being checked" in check(sent(b"x"))["error"].lower()
        monkeypatch.setattr(checking, "visitor_of", lambda request: "b")
        go_on.set()
        assert "it was looked at" in check(sent(b"x"))["error"].lower()
    finally:
        go_on.set()
        first.join()
    monkeypatch.setattr(checking, "visitor_of", lambda request: "a")
    assert "it was looked at" in check(sent(b"x"))["error"].lower()
