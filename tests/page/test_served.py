"""The page as it is served: over the network, for people and for programs."""

from __future__ import annotations

import base64
import io
import time

import pytest
from gradio_client import Client
from PIL import Image

from draggan.ui.app import build
from draggan.ui.canvas.value import EMPTY
from tests.marks import brightest_place, marks_of
from tests.page.driving import DEFAULTS, ONE_PAIR, drawn_on, slow
from tests.pages import BUMP, TinyModels


def test_of_several_choices_the_last_one_counts():
    """The first is under way then; by Gradio's own rule those after it would be dropped, while the page shows them."""
    modes = {fn.api_name: fn.trigger_mode for fn in build(TinyModels()).fns.values()}
    assert {modes[name] for name in ("class", "seed", "truncation", "edit")} == {"always_last"}
    assert modes["model"] == "multiple", "its answer writes to the list"


def test_a_path_may_be_given_only_where_nobody_else_can_reach_the_page():
    for local in (True, False):
        demo = build(TinyModels(), local=local)
        assert ("path" in [fn.api_name for fn in demo.fns.values()]) is local


@pytest.fixture
def client(served):
    client = Client(served, verbose=False)
    yield client
    client.close()


def status_in(result) -> str:
    """The status line among what an endpoint returns."""
    found = [r["props"]["text"] for r in result if isinstance(r, dict) and "kind" in r.get("props", {})]
    assert len(found) == 1, result
    return found[0]


def test_what_programs_are_told_of(client):
    told = client.view_api(return_format="dict")["named_endpoints"]
    assert set(told) == {"/models", "/picture", "/drag", "/consent"}
    # Each in its place, with an example that can be sent as it stands.
    parameters = {p["label"].split(":")[0]: p["example_input"] for p in told["/drag"]["parameters"]}
    assert [*parameters] == ["model", "seed", "points", "truncation", "label", "mask", "settings"]
    assert (parameters["model"], parameters["points"]) == ("bump", [[20, 30, 26, 30]])


def test_every_example_that_programs_are_told_works_as_it_stands(client):
    told = client.view_api(return_format="dict")["named_endpoints"]
    answers = {
        name: client.predict(*[p["example_input"] for p in what["parameters"]], api_name=name)
        for name, what in told.items()
    }
    assert answers["/models"][0]["name"] == "bump"
    assert answers["/picture"].startswith("data:image/png")
    assert answers["/drag"]["outcome"] == "arrived"
    assert answers["/consent"]["agreed"] is False
    assert len(answers["/consent"]["words"]) > 40


def test_pictures_and_models_for_programs(client):
    listed = {m["name"]: m["here"] for m in client.predict(api_name="/models")}
    assert listed == {"bump": True, "tiny": True, "classes": True, "far": False, "hand": False}
    url = client.predict("classes", 3, 0.7, 2, api_name="/picture")
    data = base64.b64decode(url.split(",", 1)[1])
    assert {"words", "signature", "record"} <= marks_of(data)
    with Image.open(io.BytesIO(data)) as png:
        assert png.size == (16, 32)
        assert "AI-generated" in png.text["Comment"]
    with pytest.raises(Exception, match="There is no model 'dog' here"):
        client.predict("dog", 3, 0.7, 0, api_name="/picture")


def test_a_drag_for_programs(client):
    result = client.predict("bump", 0, [[*BUMP, BUMP[0] + 6, BUMP[1]]], 0.0, 0, "", None, api_name="/drag")
    assert result["outcome"] == "arrived"
    assert result["targets"] == [[26, 30]]
    assert abs(result["handles"][0][0] - 26) <= 1
    data = base64.b64decode(result["picture"].split(",", 1)[1])
    assert marks_of(data) >= {"words", "signature", "record"}
    assert brightest_place(Image.open(io.BytesIO(data))) == pytest.approx((26, 30), abs=2)
    with pytest.raises(Exception, match="There is no setting 'speed'"):
        client.predict("bump", 0, [[*BUMP, 26, 30]], 0.0, 0, "", {"speed": 3}, api_name="/drag")
    with pytest.raises(Exception, match="max_steps = 0 is not allowed"):
        client.predict("bump", 0, [[*BUMP, 26, 30]], 0.0, 0, "", {"max_steps": 0}, api_name="/drag")


def test_the_page_over_the_network(client):
    client.predict("bump", 0, 0.0, None, api_name="/open")
    assert status_in(client.predict(ONE_PAIR, api_name="/edit")).startswith("1 point set.")
    job = client.submit(ONE_PAIR, DEFAULTS, api_name="/start")
    assert status_in(job.result(timeout=60)).startswith("Arrived after ")
    assert len(job.outputs()) >= 2
    assert drawn_on(canvas_of(client.predict(EMPTY, api_name="/reset"))) == EMPTY
    path, _ = client.predict(EMPTY, "PNG", 1, False, False, True, api_name="/save")
    with Image.open(path) as saved:
        assert saved.size == (64, 64)
    with open(path, "rb") as file:
        assert marks_of(file.read()) >= {"words", "signature", "record"}
    with pytest.raises(Exception, match="There is nothing to drag yet"):
        client.predict(EMPTY, DEFAULTS, api_name="/start")


def test_what_is_asked_for_at_once_is_done_one_after_the_other(client):
    client.predict("bump", 0, 0.0, None, api_name="/open")
    pairs = [[k, k, k + 1, k] for k in range(5)]
    for k in range(1, 6):
        client.predict({"points": pairs[:k], "pending": None, "mask": None}, api_name="/edit")
    seen = {"points": pairs, "pending": None, "mask": None, "revision": 1}
    jobs = [client.submit(seen, api_name="/undo") for _ in range(3)]
    left = sorted(len(canvas_of(job.result(timeout=60))["points"]) for job in jobs)
    assert left == [2, 3, 4]
    result = client.predict(seen, api_name="/redo")
    assert canvas_of(result)["points"] == pairs[:3]


def canvas_of(result) -> dict:
    return next(r["value"] for r in result if isinstance(r, dict) and isinstance(r.get("value"), dict))


def test_stop_over_the_network_and_sessions_are_independent(served):
    one, two = Client(served, verbose=False), Client(served, verbose=False)
    value = {"points": [[*BUMP, 62, 62]], "pending": None, "mask": None}
    first = one.submit(value, slow(), api_name="/start")
    second = two.submit(value, slow(), api_name="/start")
    deadline = time.monotonic() + 60
    while len(first.outputs()) < 2 or len(second.outputs()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    one.predict(api_name="/stop")
    assert status_in(first.result(timeout=60)).startswith("Stopped after ")
    assert not second.done(), "the other session goes on"
    two.predict(api_name="/stop")
    assert status_in(second.result(timeout=60)).startswith("Stopped after ")
    one.close()
    two.close()


def test_what_the_canvas_is_told_is_no_event_of_its(parts):
    for name in ("frame", "size", "live", "busy", "value"):
        assert "functools" not in str(getattr(parts.canvas, name, "")), f"'{name}' stands in quotes in canvas.js"
    assert callable(parts.canvas.edit)


def test_every_member_of_a_group_has_the_same_explicit_limit():
    demo = build(TinyModels(), drags=3)
    limits = {}
    for fn in demo.fns.values():
        limits.setdefault(fn.concurrency_id, set()).add(fn.concurrency_limit)
    assert all(len(group) == 1 for group in limits.values())
    assert demo._queue.default_concurrency_limit == 6
