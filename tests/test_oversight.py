"""The commands and the page of whoever runs it: the record of exports, and what waits for a person."""

from __future__ import annotations

import http.client
import json
import os
import re
import tempfile
import time
from pathlib import Path

import gradio as gr
import numpy as np
import pytest

from draggan.cli import main
from draggan.moderation.review import ReviewQueue
from draggan.moderation.verdict import Subject, Verdict
from draggan.provenance import deployment
from draggan.provenance.deployment import Deployment
from draggan.ui.review_page import build_review
from draggan.ui.server.exposure import Exposure
from draggan.ui.server.site import Site
from tests.pages import serve

REVIEW = Verdict(decision="review", code="sexual content", moderator="says", score=0.5)


@pytest.fixture
def ours(tmp_path, monkeypatch):
    ours = Deployment.of(folder=tmp_path, environment={})
    monkeypatch.setattr(deployment, "default", lambda: ours)
    yield ours
    ours.audit.close()


def wait_for_a_person(queue: ReviewQueue, shade: int) -> str:
    return queue.add(Subject(stage="export", pictures=[np.full((8, 8, 3), shade, np.uint8)]), REVIEW)


def test_the_record_is_looked_at_and_details_are_erased(ours, capsys):
    assert main(["audit", "head"]) == 0
    assert "nothing has been recorded yet" in capsys.readouterr().out
    ours.record_consent("model 1", "ab")
    ours.record_upload(what="model", sha256="12" * 32, verdict="not moderated", visit="ab")
    assert main(["audit", "head"]) == 0
    head = capsys.readouterr().out.strip()
    assert main(["audit", "verify", "--head", head]) == 0
    assert f"head: {head}" in capsys.readouterr().out
    assert main(["audit", "show", "--json"]) == 0
    assert [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == ["consent", "upload"]
    assert main(["audit", "purge", "--all"]) == 0
    assert "details of 1 row erased" in capsys.readouterr().out
    assert main(["audit", "verify", "--head", head]) == 0
    assert "3 rows, 1 with erased details; whole" in capsys.readouterr().out
    other = f"{head.partition(':')[0]}:{'0' * 64}"
    assert main(["audit", "verify", "--head", other]) == 1
    assert "NOT whole" in capsys.readouterr().out
    assert main(["audit", "verify", "--head", "nonsense"]) == 1


def test_what_waits_is_decided_on_the_command_line(ours, capsys):
    assert main(["review", "list"]) == 0
    assert "nothing waits" in capsys.readouterr().out
    first, second = (wait_for_a_person(ours.queue, shade) for shade in (1, 2))
    assert main(["review", "list", "--json"]) == 0
    assert [json.loads(line)["number"] for line in capsys.readouterr().out.splitlines()] == [first, second]
    assert main(["review", "approve", first, "--why", "a beach"]) == 0
    assert main(["review", "refuse", second]) == 0
    assert main(["review", "refuse", second]) == 1
    assert not list(ours.queue.folder.glob("*.png"))
    assert [row.facts["decision"] for row in ours.audit.rows(last=2)] == ["approve", "refuse"]


def test_what_waits_is_decided_in_a_page_for_its_own_user_alone(ours):
    item = wait_for_a_person(ours.queue, 1)
    late = ours.queue.folder / f"{wait_for_a_person(ours.queue, 2)}.json"
    late.write_text(json.dumps(json.loads(late.read_text()) | {"since": 0.0}))
    site, demo = Site(Exposure(), deployment=ours), build_review(ours.queue)
    url = serve(demo, **site.launch_options())
    port = int(url.rstrip("/").rsplit(":", 1)[1])

    def ask(name: str, *values: str, **headers: str) -> str:
        number = next(number for number, function in demo.fns.items() if function.api_name == name)
        session = f"tab{len(headers)}"
        body = json.dumps({"data": list(values), "fn_index": number, "session_hash": session})
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/gradio_api/queue/join", body, {"Content-Type": "application/json", **headers})
        connection.getresponse().read()
        connection.request("GET", f"/gradio_api/queue/data?session_hash={session}", headers=headers)
        answer = connection.getresponse().read().decode()
        connection.close()
        return answer

    try:
        # Without a look at it, as soon as a page is served.
        until = time.monotonic() + 30
        while late.exists() or late.with_suffix(".png").exists():
            assert time.monotonic() < until, "what has waited for too long is still there"
            time.sleep(0.05)
        assert "Only the user who has started this page" in ask("look", **{"X-Forwarded-For": "192.0.2.1"})
        assert "data:image/png;base64," in (looked := ask("look"))
        assert item in looked
        ask("approve", item, "a beach")
        assert ours.queue.waiting() == []
        assert ours.audit.rows(last=1)[0].details == {"why": "a beach"}
    finally:
        demo.close()


def test_that_page_needs_no_proxy_and_leaves_no_file(ours, capsys, monkeypatch, tmp_path):
    folders = []

    def end(demo):
        folders.append(Path(tempfile.mkdtemp()))
        demo.close()

    monkeypatch.setattr(gr.Blocks, "block_thread", end)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "runs"))
    monkeypatch.delenv("GRADIO_ANALYTICS_ENABLED", raising=False)
    assert main(["review", "serve"]) == 0
    assert re.match(r"What waits is at http://127\.0\.0\.1:\d+", capsys.readouterr().out)
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert folders[0].is_relative_to(tmp_path / "runs"), "what a library makes for itself lies there, too"
    assert list((tmp_path / "runs").iterdir()) == []
