"""Who can reach the page, and by which names; whose request it is."""

from __future__ import annotations

import os

import pytest

from draggan.ui.server.callers import address_of, is_own_user
from draggan.ui.server.exposure import Exposure, host_name
from draggan.ui.server.listeners import Listeners
from draggan.ui.server.origins import why_not

LOCAL = Exposure.of(environment={})
LISTENING = Exposure.of(listen=True, names=["draw.lan"], environment={})
BEHIND = Exposure.of(root_path="/draggan", environment={})
NAMED = Exposure.of(root_path="https://example.org/draggan", environment={})
SPACE = Exposure.of(host="0.0.0.0", environment={"SPACE_ID": "a/b", "SPACE_HOST": "a-b.hf.space"})
SHARED = Exposure.of(share=True, environment={})


def test_what_counts_as_public():
    assert not LOCAL.public
    assert not Exposure.of(host="[::1]", environment={}).public
    assert not Exposure.of(host="127.0.0.3", environment={}).public
    for exposure in (LISTENING, BEHIND, NAMED, SPACE, SHARED):
        assert exposure.public
    for name, value in (
        ("GRADIO_ROOT_PATH", "/x"),
        ("SPACE_ID", "a/b"),
        ("GRADIO_SHARE", "True"),
        ("GRADIO_SERVER_NAME", "0.0.0.0"),
    ):
        assert Exposure.of(environment={name: value}).public, name
    assert Exposure.of(host="192.168.1.5", environment={}).public


@pytest.mark.parametrize(
    ("exposure", "host", "good"),
    [
        (LOCAL, "127.0.0.1:7860", True),
        (LOCAL, "localhost:7860", True),
        (LOCAL, "LOCALHOST.", True),
        (LOCAL, "[::1]:7860", True),
        (LOCAL, "evil.com", False),
        (LOCAL, "evil.com:7860", False),
        (LOCAL, "127.0.0.1.evil.com", False),
        (LOCAL, "localhost.evil.com", False),
        (LOCAL, "evil.com@127.0.0.1", True),  # a name and a password before the address: it is the address
        (LOCAL, "127.0.0.1@evil.com", False),
        (LOCAL, "192.168.1.5", False),
        (LOCAL, "", False),
        (LOCAL, "[", False),
        (LISTENING, "192.168.1.5:7860", True),
        (LISTENING, "draw.lan", True),
        (LISTENING, "evil.com", False),
        (LISTENING, "a.gradio.live", False),
        (BEHIND, "example.org", True),
        (BEHIND, "127.0.0.1:7860", True),
        (NAMED, "example.org", True),
        (NAMED, "evil.com", False),
        (SPACE, "a-b.hf.space", True),
        (SHARED, "4a1b.gradio.live", True),
        (SHARED, "evil.com", False),
    ],
)
def test_names_that_are_served(exposure, host, good):
    assert exposure.serves(host) is good
    assert bool(why_not(exposure, "GET", {"host": host})) is not good


@pytest.mark.parametrize(
    ("exposure", "headers", "good"),
    [
        (LOCAL, {}, True),  # a program
        (LOCAL, {"origin": "http://127.0.0.1:7860"}, True),
        (LOCAL, {"origin": "http://evil.com"}, False),
        (LOCAL, {"origin": "null"}, False),
        (LOCAL, {"origin": "http://localhost:3000"}, False),  # another program of this machine
        (LOCAL, {"origin": "http://127.0.0.1:3000"}, False),
        (LOCAL, {"origin": "http://127.0.0.1.evil.com:7860"}, False),
        (LOCAL, {"origin": "http://evil.com", "sec-fetch-site": "cross-site"}, False),
        (LOCAL, {"origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-site"}, False),
        (LOCAL, {"origin": "http://evil.com", "x-forwarded-host": "evil.org"}, False),
        # A proxy that puts its own address in place of the name: the browser knows what it asked for.
        (BEHIND, {"origin": "https://example.org", "sec-fetch-site": "same-origin"}, True),
        (BEHIND, {"origin": "https://example.org", "x-forwarded-host": "example.org"}, True),
        (BEHIND, {"origin": "https://example.org"}, False),
        (NAMED, {"origin": "https://example.org"}, True),
        (NAMED, {"origin": "https://evil.com"}, False),
    ],
)
def test_what_another_page_sends_is_refused(exposure, headers, good):
    host = {"host": "127.0.0.1:7860"}
    assert bool(why_not(exposure, "POST", host | headers)) is not good
    assert not why_not(exposure, "GET", host | headers), "links to the page work"


def test_the_sentence_says_what_to_do():
    assert "--name" in why_not(LOCAL, "GET", {"host": "evil.com"})
    assert "--root-path" in why_not(LOCAL, "POST", {"host": "localhost", "origin": "http://evil.com"})
    assert len(why_not(LOCAL, "GET", {"host": "e" * 100_000})) < 400


def test_host_names():
    assert host_name("https://Example.ORG:8443/x") == "example.org"
    assert host_name("[fe80::1]:80") == "fe80::1"
    assert host_name("http://[") == ""


def test_one_address_is_a_household():
    assert address_of("2001:db8::1") == address_of("2001:db8::ffff:1")
    assert address_of("2001:db8::1") != address_of("2001:db8:1::1")
    assert address_of("::ffff:192.0.2.1") == "192.0.2.1"


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="the system does not say whose a connection is")
def test_whose_a_connection_is(served):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", int(served.rstrip("/").rsplit(":", 1)[1]))
    connection.connect()
    client = connection.sock.getsockname()
    assert is_own_user(client, connection.sock.getpeername())
    connection.close()
    assert not is_own_user((client[0], 1), None)
    assert not is_own_user(None, None)


def test_nobody_listens():
    now = [0.0]
    listeners = Listeners(lambda: now[0])
    now[0] = 5.0
    assert listeners.unheard(("a", "b"), 0.0) == 5.0
    with listeners.listening("a"):
        now[0] = 9.0
        assert listeners.unheard(("a", "b"), 0.0) == 0.0
    now[0] = 12.0
    assert listeners.unheard(("a", ""), 0.0) == 3.0
    assert listeners.unheard(("c",), 11.0) == 1.0
