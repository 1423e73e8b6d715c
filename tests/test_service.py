"""The service: recipes over plain HTTP and WebSockets, with no page and no gate before it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import threading
import time
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from fastapi import Request, WebSocket
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from draggan.config import DragConfig, Limits
from draggan.drag import Outcome
from draggan.engine.local import LocalEngine
from draggan.engine.models import CatalogueModels
from draggan.engine.short_form import recipe_from
from draggan.errors import DragGANError, LimitError
from draggan.recipe import Edit, Mask, ModelReference, Point, Recipe, Seed
from draggan.service.answers import facts_of
from draggan.service.app import _listening, build_service
from draggan.service.description import RECIPE, STREAM
from draggan.service.live import Live
from draggan.service.metrics import Metrics
from tests.marks import marks_of
from tests.pages import BUMP, TinyModels
from tests.updates import an_update

RIGHT = {"model": "bump", "seed": 0, "points": [[*BUMP, BUMP[0] + 6, BUMP[1]]]}
ENDLESS = {"max_steps": 5000, "solver": "adam", "stall_steps": 1000, "stop_distance": 0.1, "step_size": 1e-6}


@pytest.fixture(scope="module")
def engine():
    engine = LocalEngine(TinyModels(), Limits(unwatched=30))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def client(engine):
    with TestClient(build_service(engine, engine.models, engine.limits), raise_server_exceptions=True) as client:
        yield client


def file_in(url: str) -> bytes:
    return base64.b64decode(url.split(",", 1)[1])


def picture_in(url: str) -> Image.Image:
    return Image.open(io.BytesIO(file_in(url)))


def brightest(pixels: np.ndarray) -> tuple[int, int]:
    y, x = np.unravel_index(pixels.astype(int).sum(-1).argmax(), pixels.shape[:2])
    return int(x), int(y)


def test_models_and_health(client):
    assert {m["name"]: m["here"] for m in client.get("/v1/models").json()}["bump"] is True
    assert client.get("/health").status_code == client.get("/ready").status_code == 200


def test_it_is_not_ready_before_it_can_draw(engine):
    cold = TestClient(build_service(engine, engine.models, ready=lambda: "The first model is being loaded."))
    assert cold.get("/ready").status_code == 503
    assert cold.get("/health").status_code == 200


def test_a_recipe_becomes_a_picture_with_its_recipe(client, engine):
    answer = client.post("/v1/picture", json=RIGHT)
    assert answer.headers["content-type"] == "image/png"
    assert marks_of(answer.content) >= {"words", "signature", "record"}
    with Image.open(io.BytesIO(answer.content)) as picture:
        x, y = brightest(np.asarray(picture))
        assert abs(x - 26) <= 3
        assert abs(y - 30) <= 3
        carried = Recipe.from_json(picture.info["DragGAN recipe"])
    assert carried.edits[0].points[0].target == (26, 30)
    again = client.post("/v1/picture", content=carried.to_json(), headers={"accept": "application/json"}).json()
    assert recipe_from(again["recipe"], engine) == carried
    assert picture_in(again["picture"]).size == (64, 64)


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
def test_a_drag_comes_step_by_step(client, accept):
    slowly = RIGHT | {"settings": {"solver": "adam", "step_size": 0.02, "max_steps": 60}}
    answer = client.post("/v1/drag?previews=64", json=slowly, headers={"accept": accept})
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    values = [json.loads(line) for line in lines]
    assert answer.headers["content-type"].startswith("text/event-stream" if "event" in accept else "application/x-ndj")
    steps = [value["steps"] for value in values]
    assert steps == sorted(steps)
    assert len(values) > 1
    assert picture_in(values[0]["preview"]).size == (64, 64)
    last = values[-1]
    assert last["outcome"] in ("arrived", "max_steps", "stalled")
    assert len(last["recipe"]["edits"]) == 1
    assert picture_in(last["picture"]).size == (64, 64)
    assert marks_of(file_in(last["picture"])) >= {"words", "signature", "record"}


@pytest.mark.parametrize(
    ("outcome", "distances", "lost", "said"),
    [
        (None, [0.2, 4.0], [False, True], {}),
        ("arrived", [0.2, 0.4], [False, False], {"faded": True}),
        ("lost", [0.2, 0.4], [False, True], {"unsure": True}),
        ("lost", [0.2, 4.0], [False, False], {"unsure": False}),
        ("stalled", [0.2, 4.0], [False, False], {}),
    ],
)
def test_a_step_says_of_which_handles_it_is_not_certain_and_whether_all_may_have_arrived(
    outcome, distances, lost, said
):
    update = an_update(outcome, distances=distances, lost=lost, contrast=0.5)
    facts = facts_of(update)
    assert facts["lost"] == lost
    assert {name: facts[name] for name in ("faded", "unsure") if name in facts} == said
    json.dumps(facts)


def test_every_outcome_is_described_wherever_programs_read_of_them():
    root = Path(__file__).parent.parent
    told = [(root / name).read_text("utf-8") for name in ("docs/service.md", "draggan/ui/api.py")]
    told += [(root / "draggan/service/tools.py").read_text("utf-8"), STREAM["description"]]
    assert [word for text in told for word in get_args(Outcome) if not re.search(rf"\b{word}\b", text)] == []


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "this is not a recipe"),
        (b"", 400, "this is not a recipe"),
        (b"[1]", 400, "given as an object"),
        (b'{"model": "dog"}', 404, "There is no model 'dog' here"),
        (b'{"model": "far"}', None, ""),
        (b'{"model": "bump", "sed": 3}', 400, "has no 'sed'"),
        (b'{"model": "bump", "seed": -1}', 400, "seed -1 is not allowed"),
        (b'{"model": "bump", "points": [[1, 2, 900, 4]]}', 400, "outside the picture"),
        (b'{"model": "bump", "points": [[1, 2, 3, 4]], "settings": {"max_steps": 0}}', 400, "max_steps = 0"),
        (b'{"model": "/etc/passwd"}', 404, "There is no model"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(client, body, status, says):
    for route in ("picture", "drag"):
        answer = client.post(f"/v1/{route}", content=body)
        if status is None:
            assert answer.status_code >= 400
            continue
        assert answer.status_code == status
        assert says.lower() in answer.json()["error"].lower()
        assert answer.json()["error"].endswith(".")


def test_too_much_is_refused(engine):
    small = LocalEngine(engine.models, Limits(points=1, steps=10, drags=1))
    client = TestClient(build_service(small, engine.models, small.limits))
    two = RIGHT | {"points": [[1, 2, 3, 4], [5, 6, 7, 8]]}
    assert client.post("/v1/drag", json=two).status_code == 429
    assert client.post("/v1/picture", json=two).status_code == 429
    assert client.post("/v1/drag", json=RIGHT | {"settings": {"max_steps": 100}}).status_code == 429
    assert client.post("/v1/drag?previews=-1", json=RIGHT).status_code == 400


def test_who_stops_listening_stops_the_drag(engine):
    """Over a real connection, as the test client reads every answer to its end."""
    import httpx
    import uvicorn

    service = build_service(engine, engine.models, engine.limits)
    server = uvicorn.Server(uvicorn.Config(service, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.stream("POST", f"http://127.0.0.1:{port}/v1/drag", json=RIGHT | {"settings": ENDLESS}) as answer:
        assert json.loads(next(answer.iter_lines()))["steps"] >= 0
        assert engine.under_way == 1
    deadline = time.monotonic() + 20
    while engine.under_way and time.monotonic() < deadline:
        time.sleep(0.02)
    assert engine.under_way == 0
    server.should_exit = True
    thread.join()


def message_of(data: bytes) -> tuple[dict, Image.Image]:
    length = int.from_bytes(data[:4], "big")
    return json.loads(data[4 : 4 + length]), Image.open(io.BytesIO(data[4 + length :]))


def pulled(socket, way, **begin):
    """Pull along a way, wait for a picture of its last target, settle; the pictures and the last message."""
    socket.send_json({"handles": [list(BUMP)], **begin})
    assert socket.receive_json()["began"] is True
    for number, place in enumerate(way):
        socket.send_json({"targets": [place], "id": number})
    pictures = []
    while not pictures or pictures[-1][0]["id"] != len(way) - 1:
        pictures.append(message_of(socket.receive_bytes()))
    socket.send_json({"settle": True})
    while True:
        message = socket.receive()
        if message.get("text") is not None:
            return pictures, json.loads(message["text"])
        pictures.append(message_of(message["bytes"]))


def test_targets_come_in_and_pictures_go_out(client):
    with client.websocket_connect("/v1/live") as socket:
        recipe = {"model": "bump", "seed": 0}
        pictures, last = pulled(socket, [[24, 32], [30, 36]], recipe=recipe, height=64, quality=90)
        assert last["done"] is True
        assert last["outcome"] in ("arrived", "stalled", "stopped")
        assert marks_of(file_in(last["picture"])) >= {"words", "signature", "record"}
        x, y = brightest(np.asarray(picture_in(last["picture"])))
        assert abs(x - 30) <= 3
        assert abs(y - 36) <= 3
        header, picture = pictures[-1]
        assert picture.size == (64, 64)
        assert set(header) >= {"id", "handles", "targets", "distances", "way", "steps"}
        # Late news of a pull that is over is no error; a second pull goes on from what the first has reached.
        socket.send_json({"targets": [[1, 1]], "id": 9})
        socket.send_json({"handles": [[30, 36]]})
        assert socket.receive_json()["began"] is True
        socket.send_json({"stop": True})
        while "text" not in (message := socket.receive()) or message["text"] is None:
            continue
        assert len(json.loads(message["text"])["recipe"]["edits"]) >= 1


def test_bad_messages_are_told_and_cost_nothing_else(client):
    with client.websocket_connect("/v1/live") as socket:
        for bad, says in (
            ({"handles": [[1, 2]]}, "needs a recipe"),
            ({"recipe": RIGHT, "handles": 3}, "Handles are given as"),
            ({"recipe": {"model": "bump"}, "handles": [[900, 2]]}, "outside the picture"),
            ({"recipe": {"model": "bump"}, "handles": [[1, 2]], "height": "x"}, "not allowed"),
            ([], "given as an object"),
        ):
            socket.send_json(bad)
            assert says in socket.receive_json()["error"]
        socket.send_text("{")
        assert "not a recipe" in socket.receive_json()["error"]
        socket.send_json({"recipe": {"model": "bump"}, "handles": [list(BUMP)]})
        assert socket.receive_json()["began"] is True
        for bad in (
            {"targets": [[900, 2]]},
            {"targets": [[1, 2], [3, 4]]},
            {"targets": "x"},
            {"go": 1},
            {"id": {}},
            {"targets": [[1, 2]], "id": "x" * 65},
        ):
            socket.send_json(bad)
        errors = 0
        while errors < 5:
            message = socket.receive()
            errors += message.get("text") is not None and "error" in json.loads(message["text"])
        socket.send_json({"stop": True})
        while "done" not in json.loads((message := socket.receive()).get("text") or "{}"):
            continue


def test_who_hangs_up_stops_the_pull(client, engine):
    with client.websocket_connect("/v1/live") as socket:
        socket.send_json({"recipe": {"model": "bump"}, "handles": [list(BUMP)]})
        socket.receive_json()
        assert engine.under_way >= 1
    deadline = time.monotonic() + 20
    while engine.under_way and time.monotonic() < deadline:
        time.sleep(0.02)
    assert engine.under_way == 0


class Heard:
    """A drag that notes what it is told."""

    preview_heights, recipe = (64,), SimpleNamespace(image_size=(64, 64))
    update, frames, stopping, notice, edit, config = None, (), False, "", None, None

    def __init__(self) -> None:
        self.all: list[object] = []

    def newer(self, *_: object) -> None:
        """Nothing is ever shown of it."""

    ended = result = reached = preview = __iter__ = newer

    def retarget(self, targets: list[list[float]]) -> None:
        self.all.append(int(targets[0][0]))

    def settle(self) -> None:
        self.all.append("settle")

    def stop(self) -> None:
        self.all.append("stop")


@pytest.mark.parametrize("early", [2, 100])
def test_what_comes_before_a_pull_has_begun_is_heard_in_its_order(engine, early):
    """The newest targets count, and settle is never lost, however many messages come how early."""

    async def scenario() -> list[object]:
        come: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        prepared, answering, answered, shown = (asyncio.Event() for _ in range(4))
        drag = Heard()

        async def send(message: dict[str, object]) -> None:
            if message["type"] == "websocket.send":
                answering.set()
                await answered.wait()

        def say(value: object) -> None:
            come.put_nowait({"type": "websocket.receive", "text": json.dumps(value)})

        async def in_thread(*_: object) -> tuple[Heard, int, int]:
            await prepared.wait()
            return drag, 64, 88

        come.put_nowait({"type": "websocket.connect"})
        live = Live(WebSocket({"type": "websocket"}, come.get, send), engine, Metrics(None), in_thread, "")

        async def show(*_: object) -> None:
            shown.set()
            await asyncio.Event().wait()

        live._show = show
        serving = asyncio.create_task(live.run())
        say({"handles": [[1, 1]]})
        for n in range(early):
            say({"targets": [[n, 1]]})
        if early > 64:
            say({"settle": True})
        while not come.empty():
            await asyncio.sleep(0)
        prepared.set()
        await answering.wait()
        say({"targets": [[early, 1]]})
        say({"settle": True})
        while not come.empty():
            await asyncio.sleep(0)
        answered.set()
        await shown.wait()
        say({"targets": [[early + 1, 1]]})
        come.put_nowait({"type": "websocket.disconnect"})
        while drag.all[-1:] != ["stop"]:
            await asyncio.sleep(0)
        serving.cancel()
        return list(drag.all)

    heard = asyncio.run(asyncio.wait_for(scenario(), 60))
    if early == 2:
        assert heard == [0, 1, 2, "settle", 3, "stop"]
    else:
        assert heard[-6:] == [99, "settle", 100, "settle", 101, "stop"]
        assert len(heard) == 66


def test_what_is_counted(client):
    text = client.get("/metrics").text
    assert 'draggan_requests_total{route="picture",status="200"}' in text
    assert 'draggan_requests_total{route="drag",status="404"}' in text
    assert "draggan_drags_under_way 0.0" in text
    assert 'draggan_drags_total{outcome="arrived"}' in text
    pictures = next(line for line in text.splitlines() if line.startswith("draggan_live_pictures_total"))
    assert float(pictures.split()[1]) > 0
    assert "draggan_live_connections 0.0" in text


# The description, against what is really read.


@pytest.fixture(scope="module")
def description(client):
    return client.get("/v1/openapi.json").json()


def test_the_description_is_whole(description):
    assert description["openapi"].startswith("3.1")
    assert set(description["paths"]) == {"/v1/models", "/v1/picture", "/v1/drag", "/health", "/ready", "/metrics"}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (path, method)
            assert {"200"} <= set(operation["responses"])
            assert all(answer["description"] for answer in operation["responses"].values())
            if method == "post":
                assert operation["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    names = [operation["operationId"] for methods in description["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)


def from_schema(schema: dict) -> st.SearchStrategy:
    """Values that a schema allows: as much of JSON Schema as the description uses."""
    if "oneOf" in schema:
        return st.one_of(*map(from_schema, schema["oneOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if len(kinds) > 1:
        return st.one_of(*(from_schema(schema | {"type": kind}) for kind in kinds))
    low, high = schema.get("minimum", -1e3), schema.get("maximum", 1e3)
    if kinds[0] == "object":
        properties, needed = schema["properties"], set(schema.get("required", ()))
        return st.fixed_dictionaries(
            {name: from_schema(properties[name]) for name in properties if name in needed},
            optional={name: from_schema(properties[name]) for name in properties if name not in needed},
        )
    if kinds[0] == "array":
        most = min(schema.get("maxItems", 3), 3)
        return st.lists(
            from_schema(schema["items"]),
            min_size=schema.get("minItems", 0),
            max_size=max(most, schema.get("minItems", 0)),
        )
    return {
        "null": st.none(),
        "boolean": st.booleans(),
        "string": st.just("bump") | st.text(max_size=20),
        "integer": st.integers(int(low), int(high)),
        "number": st.floats(low, high),
    }[kinds[0]]


def allows(schema: dict, value: object) -> bool:
    """Whether a schema allows a value, as far."""
    if "oneOf" in schema:
        return sum(allows(one, value) for one in schema["oneOf"]) == 1
    if "enum" in schema:
        return value in schema["enum"]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if isinstance(value, dict):
        known = schema.get("properties", {})
        there = "object" in kinds and set(schema.get("required", ())) <= set(value) <= set(known)
        return there and all(allows(known[name], part) for name, part in value.items())
    if isinstance(value, list):
        few = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return "array" in kinds and few and all(allows(schema["items"], part) for part in value)
    if isinstance(value, str):
        long = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        return "string" in kinds and long and re.search(schema.get("pattern", ""), value) is not None
    if value is None or isinstance(value, bool):
        return {None: "null"}.get(value, "boolean") in kinds
    numbers = {"number"} if isinstance(value, float) else {"integer", "number"}
    return bool(numbers & set(kinds)) and schema.get("minimum", value) <= value <= schema.get("maximum", value)


def test_the_description_allows_every_recipe_that_there_can_be():
    defaults = {name: value for name, value in asdict(DragConfig()).items() if name != "space"}
    start, latent = np.zeros((1, 2, 3), np.float32), np.ones((1, 2, 3), np.float32)
    seed = Recipe(model=ModelReference(name="cat"), image_size=(8, 8), start=Seed(seed=7, label=1))
    tuned = ModelReference(name="cat", sha256="ab" * 32, tuning="cd" * 32)
    points = (Point(handle=(1, 2), target=(3, 4), origin=(1, 1), picture=0),)
    mask = Mask(allowed=np.eye(8, dtype=bool), picture=0)
    edit = Edit(points=points, mask=mask, space="w", settings=defaults, recorded=latent)
    pull = replace(edit, by_hand=True)
    exact = RECIPE["oneOf"][1]
    for recipe in (
        seed,
        replace(seed, model=tuned, start=start).then(edit, latent).then(Edit(points=points)).then(pull),
    ):
        value = json.loads(recipe.to_json())
        assert allows(exact, value)
        assert Recipe.from_json(json.dumps(value)).digest == recipe.digest
    assert not allows(exact, value | {"more": 1})
    assert not allows(exact, value | {"results": [None] * 502})


@given(data=st.data())
@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
def test_what_the_description_allows_is_read_or_refused_with_a_sentence(description, engine, data):
    schema = description["paths"]["/v1/picture"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    value = data.draw(from_schema(schema))
    said = ""
    try:
        recipe_from(json.loads(json.dumps(value)), engine)
    except DragGANError as error:
        said = str(error)
    # No word about names: everything that the description names is known.
    assert " has no '" not in said
    assert "there is no setting" not in said


@given(value=st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.sampled_from(["model", "recipe", "seed", "points", "mask", "edits", "start", "size", "settings"]), v), max_leaves=8))  # fmt: skip  # noqa: E501
@settings(max_examples=60)
def test_whatever_is_sent_is_answered(client, value):
    answer = client.post("/v1/picture", content=json.dumps(value))
    assert answer.status_code in (200, 400, 404)


MISSING = {"model": "bump", "seed": 0, "points": [[*BUMP, 60, 60]], "settings": ENDLESS}


def test_a_picture_that_takes_too_long_is_refused_and_not_begun_again():
    engine = LocalEngine(TinyModels(), Limits(seconds=1.0))
    try:
        client = TestClient(build_service(engine, engine.models, engine.limits))
        answer = client.post("/v1/picture", json=MISSING)
        assert answer.status_code == 429
        assert "has used the 1 s that one may take here before all pictures" in answer.json()["error"]
        assert engine.computed() < 2
    finally:
        engine.close()


def test_what_nobody_waits_for_is_not_computed(engine):
    """The engine asks now and then, and a request says whether its connection is there."""
    there = [True]
    recipe = recipe_from(MISSING, engine)

    def wait() -> None:
        with pytest.raises(LimitError, match="it was stopped before all pictures"):
            engine.complete(recipe, visitor="gone", wanted=lambda: there[0])
        there.append(False)

    thread = threading.Thread(target=wait)
    thread.start()
    while not engine.under_way:
        time.sleep(0.01)
    there[0] = False
    thread.join(20)
    assert there[-1] is False
    assert engine.under_way == 0


def test_a_request_tells_whether_its_connection_is_there():
    async def heard(*messages: str) -> list[bool]:
        left = [{"type": kind, "body": b"", "more_body": False} for kind in messages]

        async def receive():
            if not left:
                await asyncio.sleep(60)
            return left.pop(0)

        request = Request({"type": "http", "headers": []}, receive)
        await request.body()
        with _listening(request) as wanted:
            before = wanted()
            await asyncio.sleep(0.1)
            return [before, wanted()]

    assert asyncio.run(heard("http.request")) == [True, True]
    assert asyncio.run(heard("http.request", "http.disconnect")) == [True, False]


def test_the_calls_that_the_documentation_shows_work_as_they_stand():
    root = Path(__file__).parent.parent
    text = "\n".join((root / name).read_text(encoding="utf-8") for name in ("README.md", "docs/service.md"))
    calls = set(re.findall(r"curl (?:-\w+ )?localhost:7860(/\S+) -d '(\{[^']*\})'", text))
    assert {path for path, _ in calls} == {"/v1/picture", "/v1/drag"}
    engine = LocalEngine(CatalogueModels())
    with closing(engine), TestClient(build_service(engine, engine.models)) as client:
        for path, body in calls:
            # As curl sends it.
            answer = client.post(path, content=body, headers={"content-type": "application/x-www-form-urlencoded"})
            assert answer.status_code == 200, answer.text
            if path == "/v1/picture":
                with Image.open(io.BytesIO(answer.content)) as picture:
                    assert picture.size == (256, 256)
            else:
                last = json.loads(answer.text.strip().splitlines()[-1])
                assert last["outcome"] == "arrived"
                assert picture_in(last["picture"]).size == (256, 256)
