"""``python app.py`` in a process of its own, in surroundings that people have: it starts, or says why not, at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from dnnlib.errors import ListenError
from dnnlib.listening import free_port
from draggan.cli import serving

ROOT = Path(__file__).resolve().parents[2]


def start(*options: str, **environment: str) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("GRADIO_")}
    return subprocess.Popen(
        [sys.executable, "app.py", *options],
        cwd=ROOT,
        env=clean | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell runs in the background ignores Ctrl-C, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def address_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("The page is at http://"), (line, process.stderr and process.stderr.read())
    return line.split()[4]


def test_proxies_of_the_environment_do_not_matter_and_sigterm_leaves_nothing(tmp_path):
    proxies = dict.fromkeys(("all_proxy", "ALL_PROXY"), "socks5://127.0.0.1:9")
    proxies |= {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    process = start(**proxies, GRADIO_TEMP_DIR=str(tmp_path))
    try:
        address_of(process)
        assert [path.name.startswith("draggan-run-") for path in tmp_path.iterdir()] == [True]
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0
        assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()


def test_what_a_killed_one_leaves_goes_with_the_next_start(tmp_path):
    first = start(GRADIO_TEMP_DIR=str(tmp_path))
    address_of(first)
    first.kill()
    first.wait()
    (left,) = tmp_path.iterdir()
    second = start(GRADIO_TEMP_DIR=str(tmp_path))
    try:
        address_of(second)
        assert not left.exists()
        # While the first pictures are computed: that must neither hold it up nor look like a crash.
        second.send_signal(signal.SIGINT)
        assert second.wait(90) == 130
        assert list(tmp_path.iterdir()) == []
        assert second.stderr is not None
        assert second.stderr.read() == "app.py: interrupted\n"
    finally:
        second.kill()


def test_whoever_is_in_a_hurry_ends_it_all_the_same(tmp_path):
    process = start(GRADIO_TEMP_DIR=str(tmp_path))
    try:
        address_of(process)
        for _ in range(5):
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        assert process.wait(90) == 130
        assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()


def test_what_a_page_has_started_ends_with_it(monkeypatch):
    ended = []
    tunnel = types.SimpleNamespace(kill=lambda: ended.append("tunnel"))
    monkeypatch.setitem(sys.modules, "gradio.tunneling", types.SimpleNamespace(CURRENT_TUNNELS=[tunnel]))
    compiler = types.SimpleNamespace(stop_children=lambda: ended.append("compiler"))
    monkeypatch.setitem(sys.modules, "torch_utils.ops.build", compiler)
    serving._end_children()
    assert sorted(ended) == ["compiler", "tunnel"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "99999"], "there is no port 99999; choose one from 1 to 65535"),
        (["--port", "-1"], "there is no port -1"),
        (["--host", "192.0.2.1"], "this machine does not have the address 192.0.2.1"),
        (["--host", "no.such.name.invalid"], "there is no address 'no.such.name.invalid'"),
    ],
)
def test_a_place_that_cannot_be_had_is_one_sentence_at_once(options, said):
    process = start(*options)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert said in errors


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(ListenError, match=f"port {port} is in use; choose another one"):
            free_port("127.0.0.1", port)
        assert free_port("127.0.0.1", None, first=port) > port
        assert time.monotonic() - began < 1
    assert free_port("localhost", None)


def test_ports_that_need_rights():
    if os.geteuid() == 0:
        pytest.skip("the superuser may have any")
    with pytest.raises(ListenError, match="needs rights"):
        free_port("127.0.0.1", 80)
