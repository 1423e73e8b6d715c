"""The gate before the page, asked over the network as browsers, programs and bad neighbours ask."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import select
import socket
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from draggan.config import Limits
from draggan.engine.local import LocalEngine
from draggan.provenance.consent import MODEL
from draggan.ui.app import build, launch_options
from draggan.ui.server import guard
from draggan.ui.server.bodies import files_in
from draggan.ui.server.exposure import Exposure
from draggan.ui.server.site import Site
from draggan.ui.server.uploads import Uploads
from tests.pages import BUMP, TinyModels, serve

PUBLIC = Exposure(public=True, any_address=True)
FAR = [[*BUMP, 62, 62]]
ENDLESS = {"max_steps": 1000, "solver": "adam", "stall_steps": 1000, "stop_distance": 0.1, "step_size": 1e-6}


class Server:
    """A page of its own, and plain requests to it."""

    def __init__(self, site: Site) -> None:
        self.site, models = site, TinyModels()
        self.engine = LocalEngine(models, site.limits)
        self.demo = build(models, self.engine, local=not site.exposure.public, site=site)
        url = serve(self.demo, **launch_options(site))
        self.port = int(url.rstrip("/").rsplit(":", 1)[1])

    def ask(self, method: str, path: str, body: bytes | None = None, source: str = "127.0.0.2", **headers: str):
        """Status, text and headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30, source_address=(source, 0))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        connection.close()
        return answer.status, text, {k.lower(): v for k, v in answer.getheaders()}

    def call(self, name: str, *values, source: str = "127.0.0.2", **headers: str):
        body = json.dumps({"data": list(values)}).encode()
        return self.ask("POST", f"/gradio_api/call/{name}", body, source, Content_Type="application/json", **headers)

    def result(self, name: str, *values, source: str = "127.0.0.2") -> str:
        """What an endpoint says at the end."""
        status, text, _ = self.call(name, *values, source=source)
        if status != 200:
            return text
        return self.ask("GET", f"/gradio_api/call/{name}/{json.loads(text)['event_id']}", source=source)[1]

    def page(self, name: str, *values, source: str = "127.0.0.2", session: str = "", **headers: str) -> str:
        """What a handler of the page says at the end, asked as the page asks."""
        number = next(number for number, fn in self.demo.fns.items() if fn.api_name == name)
        session = session or f"tab{time.monotonic_ns()}"
        body = {"data": list(values), "fn_index": number, "session_hash": session}
        kind = {"Content_Type": "application/json", **headers}
        status, text, _ = self.ask("POST", "/gradio_api/queue/join", json.dumps(body).encode(), source, **kind)
        return text if status != 200 else self.ask("GET", f"/gradio_api/queue/data?session_hash={session}")[1]

    def upload(self, content: bytes, name: str = "mine.safetensors", source: str = "127.0.0.2", **headers: str):
        body = (
            (b'--x\r\nContent-Disposition: form-data; name="files"; filename="' + name.encode() + b'"\r\n\r\n')
            + content
            + b"\r\n--x--\r\n"
        )
        kind = "multipart/form-data; boundary=x"
        return self.ask("POST", "/gradio_api/upload", body, source, Content_Type=kind, **headers)

    def agree(self, source: str = "127.0.0.2") -> str:
        """Agree to what has to be agreed to before an upload, as a program does."""
        return self.result("consent", "model", True, source=source)

    def healthy(self) -> bool:
        return "data:image/png;base64," in self.result("picture", "tiny", 3, 0.7, 0, source="127.0.0.9")


@contextmanager
def serving(exposure: Exposure = PUBLIC, **limits):
    server = Server(Site(exposure, replace(Limits.public() if exposure.public else Limits(), **limits)))
    yield server
    server.demo.close()
    server.engine.close()


@pytest.fixture(scope="module")
def public():
    with serving(calls_per_minute=100_000, all_calls_per_minute=100_000) as server:
        yield server


@pytest.fixture(scope="module")
def local():
    with serving(Exposure()) as server:
        yield server


def test_another_name_gets_nothing_and_another_page_changes_nothing(local):
    assert local.ask("GET", "/")[0] == 200
    for host in ("evil.com", "127.0.0.1.evil.com", f"evil.com:{local.port}"):
        for method, path in (("GET", "/"), ("GET", "/config"), ("POST", "/gradio_api/call/path")):
            status, text, headers = local.ask(method, path, Host=host)
            assert status == 403
            assert "evil.com" in text
            assert not any(name.startswith("access-control") for name in headers)
    for origin in ("http://evil.com", "null", "http://localhost:1"):
        assert local.call("picture", "tiny", 3, 0.7, 0, Origin=origin)[0] == 403
        assert local.upload(b"x", Origin=origin)[0] == 403
        assert local.ask("OPTIONS", "/gradio_api/upload", Origin=origin, Access_Control_Request_Method="POST")[0] == 403
    assert local.call("picture", "tiny", 3, 0.7, 0, Origin=f"http://127.0.0.1:{local.port}")[0] == 200
    _, _, headers = local.ask("GET", "/", Origin="http://evil.com")
    assert not any(name.startswith("access-control") for name in headers)
    assert headers["content-security-policy"] == "frame-ancestors 'self'"


def test_the_path_box_is_the_own_users(local, public, monkeypatch):
    path = (None, "/etc/hostname")
    assert "is not a model file" in local.page("path", *path)
    assert public.call("path", "/etc/hostname")[0] == 404
    # Somebody else on this machine: the connection is not ours.
    monkeypatch.setattr("draggan.ui.server.guard.is_own_user", lambda client, server: False)
    assert "only the user who has started this page" in local.page("path", *path).lower()
    monkeypatch.undo()
    assert "only the user who has started this page" in local.page("path", *path, X_Forwarded_For="10.0.0.1").lower()


def test_a_drag_that_nobody_listens_to_ends():
    with serving(unwatched=1.0) as server:
        for _ in range(4):
            assert server.call("drag", "bump", 0, FAR, 0.0, 0, "", ENDLESS)[0] == 200
        until(lambda: len(server.engine._running) == 4)
        until(lambda: len(server.engine._running) == 0, 15)
        assert server.healthy()


def test_a_drag_that_somebody_listens_to_goes_on():
    with serving(unwatched=1.0) as server:
        _, text, _ = server.call("drag", "bump", 0, FAR, 0.0, 0, "", ENDLESS | {"max_steps": 600})
        said = server.ask("GET", f"/gradio_api/call/drag/{json.loads(text)['event_id']}")[1]
        assert '"max_steps"' in said
        assert said.count("event: generating") > 2


def test_264_posts_shut_nobody_out():
    with serving() as server:
        taken = [server.call("drag", "bump", 0, FAR, 0.0, 0, "", ENDLESS, source="127.0.0.3") for _ in range(264)]
        assert {status for status, _, _ in taken} == {200, 429}
        assert sum(status == 200 for status, _, _ in taken) <= server.site.limits.places
        said = json.loads(next(text for status, text, _ in taken if status == 429))["detail"]
        assert re.search(r"of your calls wait for an answer, and \d+ at once are allowed here", said)
        assert server.healthy()
        server.result("drag", "bump", 0, [[*BUMP, 22, 30]], 0.0, 0, "", {"max_steps": 2})
        _, text, _ = server.call("drag", "bump", 0, FAR, 0.0, 0, "", ENDLESS, source="127.0.0.4")
        assert "event_id" in text


def test_calls_a_minute():
    with serving(calls_per_minute=8) as server:
        said = [server.call("models")[:2] for _ in range(4)]
        assert [status for status, _ in said] == [200, 200, 429, 429]
        assert "8 calls a minute are allowed here for one visitor" in said[-1][1]
        assert server.call("models", source="127.0.0.5")[0] == 200, "others are not concerned"


@pytest.mark.parametrize(
    ("points", "settings", "said"),
    [
        (500, {"r1": 64, "r2": 128, "max_steps": 2}, "500 points are too many here; 50 are allowed"),
        (1, {"max_steps": 10_000}, "10000 steps are too many here; 1000 are allowed"),
    ],
)
def test_the_heaviest_drag_is_refused_before_it_begins(public, points, settings, said):
    many = [[10 + k % 40, 10 + k // 40, 30, 30] for k in range(points)]
    started = time.monotonic()
    assert said in public.result("drag", "bump", 0, many, 0.0, 0, "", settings)
    assert time.monotonic() - started < 3
    assert public.healthy()


FILE = {"path": "https://example.com/x.pkl", "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize(
    ("name", "values", "status", "said"),
    [
        ("picture", (["cat"], 0, None, 0), 200, "A model is given by its name"),
        ("picture", (), 400, "This takes 4 values, and 0 were given."),
        ("picture", ("cat",), 400, "This takes 4 values, and 1 were given."),
        ("drag", ("cat", 0), 400, "This takes 7 values, and 2 were given."),
        ("picture", (FILE, 0, None, 0), 400, "Nothing is fetched from other addresses here"),
        ("upload", (FILE,), 400, "Nothing is fetched from other addresses here"),
        ("upload", (FILE | {"path": "//example.com/x"},), 400, "Nothing is fetched from other addresses here"),
        ("upload", (FILE | {"path": "/etc/passwd"},), 400, "This file was not uploaded here"),
        ("upload", (FILE | {"path": "/tmp/../etc/passwd"},), 400, "This file was not uploaded here"),
        ("upload", ({"a": [{"b": FILE}]},), 400, "Nothing is fetched from other addresses here"),
        ("picture", ("x" * 1_000_000, 0, None, 0), 200, "There is no model 'xxx"),
        ("drag", ("bump", 0, [[10**400, 1, 2, 3]], 0.0, 0, "", None), 200, "point"),
        ("drag", ("bump", 0, FAR, 0.0, 0, "", 5), 200, "ettings"),
        ("drag", ("bump", 0, FAR, 0.0, 0, "", "max_steps"), 200, "ettings"),
        ("drag", ("bump", 0, FAR, 0.0, 0, "", []), 200, "ettings"),
        ("drag", ("bump", 0, FAR, 0.0, 0, "", {"r1": 10**400}), 200, "r1"),
        ("drag", ("bump", 0, FAR, 0.0, 0, "", {"level": "y" * 1_000_000}), 200, "Level"),
        ("drag", ("bump", 0, FAR, 0.0, 0, "data:image/png;base64,AAAA", None), 200, "mask"),
    ],
)
def test_wrong_values_are_refused_in_words(public, name, values, status, said):
    got, text, _ = public.call(name, *values)
    assert got == status, text[:300]
    if got == 200:
        text = public.ask("GET", f"/gradio_api/call/{name}/{json.loads(text)['event_id']}")[1]
    assert said in text
    for bad in ("null}", "Something unexpected", "0x", "Traceback", "/home/", "/tmp/", "/root/", "site-packages"):
        assert bad not in text, text[:500]
    assert len(text) < 2500, len(text)
    assert public.healthy()


@pytest.mark.parametrize(
    "body", [b"{", b"[" * 100_000, b"[]", b"5", b"\xff\xfe", b'{"data": ' + b"[" * 70 + b"]" * 70 + b"}"]
)
def test_what_is_no_call_is_refused_in_words(public, body):
    status, text, _ = public.ask("POST", "/gradio_api/call/picture", body, Content_Type="application/json")
    assert status == 400
    assert json.loads(text)["detail"].endswith(".")
    assert public.healthy()


def test_megabytes_of_input_are_refused():
    with serving(call_bytes=100_000) as server:
        status, text, _ = server.call("picture", "x" * 200_000, 0, None, 0)
        assert status == 413
        assert "A request may have 0 MB here" in text
        assert server.healthy()


def test_millions_of_values_are_not_read(public):
    """Reading three million empty lists takes seconds, in which nobody else is answered."""
    many = b'{"data": [' + b"[]," * 2_600_000 + b"[]]}"
    for path in ("/gradio_api/call/picture", "/v1/picture", "/gradio_api/cancel"):
        status, text, _ = public.ask("POST", path, many, Content_Type="application/json")
        assert status == 400
        assert json.loads(text)["detail"] == "This request has more than 200000 values."
    # Letters are no values.
    assert "There is no model" in public.result("picture", '[,\\",{' * 100_000, 0, None, 0)


def test_millions_of_values_on_a_socket_are_not_read(public):
    with connect(f"ws://127.0.0.1:{public.port}/v1/live", max_size=None) as connection:
        connection.send('{"recipe": [' + "[]," * 250_000 + "[]]}")
        with pytest.raises(ConnectionClosedError) as closed:
            connection.recv(20)
    assert closed.value.rcvd.code == 1008
    assert "more than 200000 values" in closed.value.rcvd.reason
    assert public.healthy()


def test_a_request_that_does_not_come_whole_is_given_up(public, monkeypatch):
    monkeypatch.setattr(guard, "_PATIENCE", 0.3)
    with socket.create_connection(("127.0.0.1", public.port), 20, ("127.0.0.3", 0)) as slow:
        slow.settimeout(20)
        slow.sendall(b"POST /v1/picture HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        answer = slow.recv(4096)
        while b"}" not in answer:
            answer += slow.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"This request has not come whole within" in answer
    assert public.healthy()


def test_what_comes_slowly_or_is_large_counts():
    with serving(call_bytes=100_000, calls_per_minute=1000) as server:
        begun = (
            b"POST /gradio_api/call/picture HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99000\r\n\r\n"
            + b" " * 98_000
        )
        slow = [socket.create_connection(("127.0.0.1", server.port), 20, ("127.0.0.3", 0)) for _ in range(5)]
        for one in slow:
            one.sendall(begun)
        one.settimeout(20)
        ready = select.select(slow, [], [], 20)[0]
        assert [one.recv(12) for one in ready] == [b"HTTP/1.1 429"]
        assert server.healthy()
        for one in slow:
            one.close()
    with serving(calls_per_minute=8) as server:
        # Two megabytes are two calls more, and reading the page is half of one: two may come at once.
        assert server.call("picture", "x" * 2_000_000, 0, None, 0)[0] == 429
        assert server.call("models", source="127.0.0.3")[0] == 200
        said = [server.ask("GET", "/config", source="127.0.0.4")[0] for _ in range(12)]
        assert said[:4] == [200] * 4
        assert 429 in said
        assert server.ask("GET", "/config", source="127.0.0.5")[0] == 200


def test_a_connection_goes_on_whatever_else_waits_for_an_answer(tmp_path):
    """Words in it, and what is answered at once, take no place."""
    limits, heard = Limits.public(), []

    async def service(scope, receive, send):
        heard.append((await receive())["type"])

    uploads = Uploads(tmp_path / "in", tmp_path / "kept", limits)
    gate = guard.Guard(service, exposure=PUBLIC, limits=limits, uploads=uploads, endpoints={}, service=service)
    for number in range(limits.places):
        gate._rates.begin("192.0.2.1", str(number))
    body = {"type": "http.request", "body": b"{}"}
    for kind, method, path, said in (
        ("websocket", "", "/v1/live", {"type": "websocket.receive", "text": "{}"}),
        ("http", "GET", "/v1/models", body),
        ("http", "POST", "/gradio_api/component_server", body),
    ):
        scope = {
            "type": kind,
            "method": method,
            "path": path,
            "headers": [(b"host", b"localhost")],
            "client": ("192.0.2.1", 1),
        }

        async def receive(said=said):
            return said

        async def send(message):
            heard.append(message)

        asyncio.run(gate(scope, receive, send))
        assert heard.pop() == said["type"]
    assert heard == []


def test_open_answers_are_counted():
    with serving(tabs=1, places=2) as server:
        _, text, _ = server.call("drag", "bump", 0, FAR, 0.0, 0, "", ENDLESS, source="127.0.0.3")
        listening = []

        def listen() -> int:
            one = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20, source_address=("127.0.0.3", 0))
            listening.append(one)
            one.request("GET", f"/gradio_api/call/drag/{json.loads(text)['event_id']}")
            return one.getresponse().status

        assert [listen() for _ in range(5)] == [200] * 3 + [429] * 2
        for one in listening:
            one.close()
        assert server.healthy()
        until(lambda: listen() != 429)
        for one in listening:
            one.close()


def test_only_the_queue_calls_handlers(public):
    for path in ("run/picture", "api/picture", "run/drag"):
        body = json.dumps(
            {"data": ["bump", 0, FAR, 0.0, 0, "", ENDLESS][: 7 if "drag" in path else 0] or ["tiny", 0, 0.7, 0]}
        )
        assert public.ask("POST", f"/gradio_api/{path}", body.encode(), Content_Type="application/json")[0] == 404


def test_an_upload_leaves_the_disk_when_it_is_refused_and_survives_when_it_is_used():
    with serving(upload_bytes=1000, uploads=2) as server:
        uploads = server.site.uploads
        server.agree()
        server.agree("127.0.0.5")
        assert '"agreed":true' in server.page("agree", {"agreed": True}, session="mine")
        status, text, _ = server.upload(b"x" * 2000)
        assert status == 413 or status == 429
        assert "A file may have 0 MB here" in text
        path = json.loads(server.upload(b"x" * 500, "bad.pkl")[1])[0]
        file = {"path": path, "orig_name": "bad.pkl", "meta": {"_type": "gradio.FileData"}}
        assert "bad.pkl is not a model file" in server.page("upload", None, file, session="mine")
        assert not Path(path).exists()
        assert uploads._files() == []
        path = json.loads(server.upload(b"x" * 501, "good.safetensors")[1])[0]
        server.page("upload", None, file | {"path": path, "orig_name": "good.safetensors"}, session="mine")
        assert not Path(path).exists()
        assert [place.name for place in uploads._kept] == ["good.safetensors"]
        assert all(place.exists() for place in uploads._kept)
        server.upload(b"x" * 502)
        assert "2 files of yours are kept here" in server.upload(b"x" * 503)[1]
        assert server.upload(b"x" * 504, source="127.0.0.5")[0] == 200
        for file in uploads._waiting:
            file.unlink()


def test_nothing_is_taken_from_somebody_who_has_not_agreed():
    """Neither bytes at the gate nor, where a neighbour behind the same address has agreed, a file in a tab."""
    with serving() as server:
        status, text, _ = server.upload(b"x" * 500, "good.safetensors")
        assert status == 403
        assert "Agree first" in text
        assert not list(server.site.uploads.incoming.rglob("good.safetensors"))
        assert '"agreed": false' in server.result("consent", "model", False)
        assert "there is no text" in server.result("consent", "everything", True).lower()
        assert "deceive about real people" in server.agree()
        assert server.upload(b"x" * 500, source="127.0.0.5")[0] == 403, "another one has agreed"
        path = json.loads(server.upload(b"x" * 501, "good.safetensors")[1])[0]
        file = {"path": path, "orig_name": "good.safetensors", "meta": {"_type": "gradio.FileData"}}
        assert "Agree first, in the page" in server.page("upload", None, file, session="neighbour")
        assert not Path(path).exists()
        # A token of before a reload counts, one that was made up does not, and what was agreed to can be withdrawn.
        token = server.site.consents.agree("before", MODEL, uploader="127.0.0.2")
        assert '"agreed":true' in server.page("agree", {"token": token}, session="after")
        for i, wrong in enumerate((token[:-2] + "zz", token.replace("model", "photo"), "x", 7, None)):
            assert '"agreed":false' in server.page("agree", {"token": wrong}, session=f"forger{i}")
        assert '"agreed":false' in server.page("agree", {"agreed": False}, session="after")
        rows = [row for row in server.site.deployment.audit.rows(last=4) if row.event == "consent"]
        assert {row.facts["text"] for row in rows} == {"model 1"}


def test_a_cut_off_upload_leaves_nothing(public):
    incoming = public.site.uploads.incoming
    incoming.mkdir(parents=True, exist_ok=True)
    before = set(incoming.glob("tmp*"))
    public.agree("127.0.0.1")
    connection = http.client.HTTPConnection("127.0.0.1", public.port, timeout=30)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", "30000000")
    connection.endheaders()
    connection.send(b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.pkl"\r\n\r\n' + b"x" * 3_000_000)
    until(lambda: bool(set(incoming.glob("tmp*")) - before))
    connection.close()
    until(lambda: not list(incoming.glob("tmp*")))
    assert public.healthy()


def test_a_full_disk_is_a_sentence(public, monkeypatch):
    public.agree()
    monkeypatch.setattr(type(public.site.uploads), "_free", lambda self: 0.0)
    status, text, _ = public.upload(b"x" * 100)
    assert status == 429
    assert "The disk of this server is full" in text
    monkeypatch.undo()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gradio.route_utils.NamedTemporaryFile", full)
    status, text, _ = public.upload(b"x" * 100)
    assert status == 507
    assert "The file could not be written" in text
    monkeypatch.undo()
    assert public.healthy()


def test_open_tabs_are_counted():
    with serving(tabs=1) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30, source_address=("127.0.0.6", 0))
        connection.request("GET", "/gradio_api/heartbeat/abc")
        connection.getresponse().read(5)
        status, text, _ = server.ask("GET", "/gradio_api/heartbeat/def", source="127.0.0.6")
        assert status == 429
        assert "1 of your tabs show this page" in text
        connection.sock and connection.close()


def test_requests_leave_nothing_behind_in_their_session(public):
    def ask(name: str, *values) -> None:
        function = next(fn for fn in public.demo.fns.values() if fn.api_name == name)
        given = [*values, *(getattr(block, "value", None) for block in function.inputs[len(values) :])]
        body = json.dumps({"data": given, "fn_index": function._id, "session_hash": "mine"}).encode()
        assert public.ask("POST", "/gradio_api/queue/join", body, Content_Type="application/json")[0] == 200
        assert '"success":true' in public.ask("GET", "/gradio_api/queue/data?session_hash=mine")[1]

    ask("open", "bump", 0, 0.0)
    states = public.demo.app.state_holder
    components = states["mine"].blocks_config.blocks
    count = len(components)
    for x in (24, 26, 28):
        value = {"points": [[*BUMP, x, 30]], "pending": None, "mask": None}
        ask("start", None, value)
        ask("keep", None, None, {"count": 1, "there": []})
        ask("undo", None, value)
    assert len(components) == count
    assert all(component._id == number for number, component in components.items())
    canvas = next(block for block in public.demo.blocks.values() if block.elem_id == "dg-canvas")
    assert components[canvas._id] is canvas, "a picture stays behind with every tab"
    assert not states["mine"].config_values


def test_answers_carry_properties_and_no_addresses_of_memory(public):
    """Gradio takes a property for an event where its name stands in the component's script."""
    function = next(fn for fn in public.demo.fns.values() if fn.api_name == "open")
    given = ["bump", 0, 0.0, None]
    body = json.dumps({"data": given, "fn_index": function._id, "session_hash": "mine"}).encode()
    assert public.ask("POST", "/gradio_api/queue/join", body, Content_Type="application/json")[0] == 200
    answer = public.ask("GET", "/gradio_api/queue/data?session_hash=mine")[1]
    assert '"success":true' in answer
    assert '"kind":"' in answer, "the status line is among what it says"
    assert " at 0x" not in answer
    assert "functools" not in answer
    for block in public.demo.blocks.values():
        if isinstance(block, gr.HTML):
            assert not [name for name in block.props if hasattr(block, name)]


def test_what_appears_and_goes_again_is_sent_as_such(public):
    bar = next(block for block in public.demo.blocks.values() if block.elem_id == "dg-bar")
    tab = public.demo.app.state_holder["a tab with a bar"]
    for visible in (True, True, False, True):
        tab[bar._id] = gr.HTML(visible=visible, render=False)
        assert (tab[bar._id].visible, tab[bar._id]._id) == (visible, bar._id)


def test_sessions_that_remember_nothing_are_forgotten(public, monkeypatch):
    monkeypatch.setattr("draggan.ui.server.session_states._UNUSED", 0.0)
    states = public.demo.app.state_holder
    tab = states["a tab that shows something"]
    tab[next(block._id for block in public.demo.blocks.values() if block.stateful)] = "work"
    assert "data:image/png" in public.result("picture", "tiny", 3, 0.7, 0)
    until(lambda: set(states.session_data) <= {"a tab that shows something", "mine"})
    assert "a tab that shows something" in states


def until(true, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_address_of_an_uploaded_file_may_be_escaped_as_browsers_do_it():
    path, meta = "/tmp/a b 'c'.pkl", {"_type": "gradio.FileData"}
    here = {"path": path, "url": "http://127.0.0.1:7860/file=/tmp/a%20b%20'c'.pkl", "meta": meta}
    assert files_in({"data": [here]}) == [path]
    assert files_in([{**here, "url": "http://example.org/x"}]) == [path, "http://example.org/x"]
