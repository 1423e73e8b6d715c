"""The service behind the page's gate: under which names, for which pages, how much and how often."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from draggan.config import Limits
from draggan.errors import ConfigError
from draggan.ui.server.exposure import Exposure
from draggan.ui.server.site import Site
from tests.page.test_guard import Server
from tests.pages import BUMP

FRIEND = "https://example.org"
RIGHT = json.dumps({"model": "bump", "points": [[*BUMP, 26, 30]]}).encode()
BEGIN = json.dumps({"recipe": {"model": "bump"}, "handles": [list(BUMP)]})


@pytest.fixture(scope="module")
def public():
    """Anybody can reach it, within narrow limits; one page elsewhere may use it."""
    limits = replace(Limits.public(), calls_per_minute=4 * 40, tabs=2, call_bytes=20_000)
    exposure = Exposure.of(host="0.0.0.0", names=["draw.lan"], origins=[FRIEND + "/"], environment={})
    server = Server(Site(exposure, limits))
    yield server
    server.demo.close()
    server.engine.close()


def live(server, **headers):
    return connect(f"ws://127.0.0.1:{server.port}/v1/live", additional_headers=headers, open_timeout=20)


def test_it_stands_beside_the_page(public):
    assert public.ask("GET", "/")[0] == 200
    status, text, _ = public.ask("GET", "/v1/models")
    assert status == 200
    assert "bump" in text
    assert public.ask("GET", "/health")[0] == 200
    assert public.ask("GET", "/ready")[0] == 503, "nobody has warmed it up"
    public.site.warm.set()
    assert public.ask("GET", "/ready")[0] == 200
    status, text, headers = public.ask("POST", "/v1/drag", RIGHT)
    assert json.loads(text.splitlines()[-1])["outcome"] == "arrived"
    assert headers["x-content-type-options"] == "nosniff"


def test_only_under_its_own_name_and_only_for_its_friends(public):
    assert public.ask("GET", "/v1/models", Host="evil.example")[0] == 403
    assert public.ask("POST", "/v1/picture", RIGHT, Origin="https://evil.example")[0] == 403
    assert public.ask("POST", "/v1/picture", RIGHT, Sec_Fetch_Site="cross-site")[0] == 403
    status, _, headers = public.ask("POST", "/v1/picture", RIGHT, Origin=FRIEND, Sec_Fetch_Site="cross-site")
    assert status == 200
    assert headers["access-control-allow-origin"] == FRIEND
    # The friend's own page has a name of its own; what it asks for must still have one of ours.
    assert public.ask("POST", "/v1/picture", RIGHT, Origin=FRIEND, Host="example.org")[0] == 403
    # A friend of the service is not one of the page.
    assert public.call("picture", "bump", 0, Origin=FRIEND)[0] == 403
    wanted = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type"}
    status, _, headers = public.ask("OPTIONS", "/v1/picture", Origin=FRIEND, **wanted)
    assert status == 200
    assert "POST" in headers["access-control-allow-methods"]
    status, _, headers = public.ask("OPTIONS", "/v1/picture", Origin="https://evil.example", **wanted)
    assert status == 403
    assert "access-control-allow-origin" not in headers


def test_a_socket_is_refused_to_pages_elsewhere(public):
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}):
        with pytest.raises(InvalidStatus, match="403"):
            live(public, **headers)
    wanted = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
    key = {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert public.ask("GET", "/v1/live", Host="evil.example", **wanted, **key)[0] == 403
    with connect(f"ws://127.0.0.1:{public.port}/v1/live", origin=FRIEND) as socket:
        socket.send(BEGIN)
        assert json.loads(socket.recv())["began"] is True
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://127.0.0.1:{public.port}/gradio_api/queue/join")


def live_once_there_is_room(server):
    """The server hears a little later that somebody has gone."""
    for _ in range(200):
        try:
            return live(server)
        except InvalidStatus:
            time.sleep(0.05)
    raise AssertionError("the room of those who have gone stays taken")


def test_open_sockets_and_their_messages_are_limited(public):
    with live_once_there_is_room(public), live_once_there_is_room(public), pytest.raises(InvalidStatus, match="403"):
        live(public)  # as many as tabs
    with live_once_there_is_room(public) as socket:
        socket.send("x" * 20_001)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv()
    assert "may have" in closed.value.rcvd.reason


def test_too_large_and_too_often(public):
    assert public.ask("POST", "/v1/picture", b" " * 20_001)[0] == 413
    answers = [public.ask("POST", "/v1/picture", b"{", source="127.0.0.3")[0] for _ in range(45)]
    assert set(answers) == {400, 429}
    assert public.ask("POST", "/v1/picture", b"{", source="127.0.0.4")[0] == 400, "somebody else may"


def test_counters_are_for_those_nearby(public):
    assert "draggan_requests_total" in public.ask("GET", "/metrics")[1]
    assert public.ask("GET", "/metrics", X_Forwarded_For="8.8.8.8")[0] == 404


def test_an_origin_is_one():
    assert Exposure.of(origins=["HTTPS://Example.org:8443"], environment={}).origins == {"https://example.org:8443"}
    for wrong in ("example.org", "https://example.org/page", "*", "file:///x"):
        with pytest.raises(ConfigError, match="is not the origin of a web page"):
            Exposure.of(origins=[wrong], environment={})
