"""A Space, a container and a notebook, as far as they can be tried where none of them runs."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import yaml

from draggan.cli.app import add_options
from draggan.engine.local import LocalEngine
from draggan.engine.models import CatalogueModels
from draggan.engine.zero import ZeroEngine, lent_gpu
from draggan.recipe import Edit, read_points
from tests.pages import spare_port
from torch_utils.ops.status import reference_only

ROOT = Path(__file__).parent.parent
PATIENCE = 600  # seconds; a busy machine is not a failure


def front_matter() -> dict:
    return yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---")[1])


def requirement(name: str) -> str:
    (line,) = [row for row in (ROOT / "requirements.txt").read_text().splitlines() if row.startswith(name)]
    return line.removeprefix(name)


def is_within(version: str, limits: str) -> bool:
    def numbers(text: str) -> tuple[int, ...]:
        return tuple(map(int, text.split(".")))

    low, high = re.fullmatch(r">=([\d.]+),<([\d.]+)", limits).groups()
    return numbers(low) <= numbers(version) < numbers(high)


def test_the_head_of_the_readme_is_what_a_space_needs():
    settings = front_matter()
    assert settings["sdk"] == "gradio"
    assert is_within(settings["sdk_version"], requirement("gradio"))
    assert is_within(settings["python_version"], ">=3.10,<3.13")
    assert (ROOT / settings["app_file"]).is_file()
    assert len(settings["short_description"]) <= 60
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {settings["colorFrom"], settings["colorTo"]} <= colours


def test_it_starts_as_a_space_does(tmp_path):
    """As the platform runs it: the file of the front matter, a disk that is new, its own proxies before it."""
    port = spare_port()
    environment = {
        **{name: os.environ[name] for name in ("PATH", "LANG", "VIRTUAL_ENV") if name in os.environ},
        **{"HOME": str(tmp_path), "SYSTEM": "spaces", "SPACE_ID": "someone/draggan"},
        **{"SPACE_HOST": "someone-draggan.hf.space", "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": str(port)},
        "GRADIO_ANALYTICS_ENABLED": "0",
    }

    def ask(path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        given = {"Host": "someone-draggan.hf.space", "X-Forwarded-For": "203.0.113.7"} | headers
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, given)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    command = [sys.executable, front_matter()["app_file"]]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as space:
        try:
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline and space.poll() is None:
                try:
                    if ask("/ready")[0] == 200:
                        break
                except OSError:
                    pass
                time.sleep(0.2)
            assert ask("/")[0] == 200
            assert ask("/v1/picture", b'{"model": "cat", "seed": 7}')[1].startswith(b"\x89PNG")
            assert ask("/metrics")[0] == 404, "not for those who come through the platform's proxies"
            many = {"model": "cat", "points": [[1, 2, 3, 4]] * 51}
            status, text = ask("/v1/drag", json.dumps(many).encode())
            assert (status, "points are too many" in text.decode()) == (429, True), "the limits of a public server"
        finally:
            space.terminate()


class FakeSpaces:
    """What the platform's package promises: a decorated function runs in another process, sent there and back."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.orders: list[int] = []

    def GPU(self, duration: int):
        self.asked.append(duration)

        def decorated(function):
            def lent(*args):
                self.orders.append(len(pickle.dumps(args)))
                return pickle.loads(pickle.dumps(function(*pickle.loads(pickle.dumps(args)))))

            return lent

        return decorated


def test_a_drag_on_a_space_that_lends_gpus_is_the_same_and_asks_once(monkeypatch):
    models = CatalogueModels("cpu", "cat")
    spaces, local = FakeSpaces(), LocalEngine(models)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    assert lent_gpu() is spaces
    engine = ZeroEngine(models, lent_gpu())
    assert spaces.asked == [60]
    recipe = engine.begin("cat", seed=7)
    edit = Edit(points=read_points([[156, 156, 128, 156]], recipe.image_size))
    # Another test may be loading compiled operators, which round otherwise.
    with reference_only():
        running, alone = engine.drag(recipe, edit), local.drag(recipe, edit)
        assert running.result().outcome == alone.result().outcome == "arrived"
        assert np.array_equal(running.reached().latent, alone.reached().latent)
        assert len(spaces.orders) == 1, "a loan for the whole drag"
        assert np.array_equal(engine.picture(running.reached()), local.picture(alone.reached()))
        assert len(spaces.orders) == 1, "pictures need none"


def test_elsewhere_nothing_is_lent(monkeypatch):
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert lent_gpu() is None


# The container


def steps() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile with what follows them."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]  # type: ignore[misc]


def test_the_container_is_slim_and_not_roots_and_says_how_it_is():
    names = [name for name, _ in steps()]
    assert set(names) <= {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}
    last = steps()[len(names) - 1 - names[::-1].index("FROM") :]
    assert last[0] == ("FROM", "python:3.12-slim")
    told = dict(last)
    assert told["USER"] == "draggan"
    assert "--uid 1000" in told["RUN"] or any("--uid 1000" in text for _, text in last)
    assert "/health" in told["HEALTHCHECK"]
    assert "pip install" not in " ".join(text for _, text in last), "nothing is built in the image itself"


def test_the_container_starts_with_options_that_there_are():
    parser = argparse.ArgumentParser()
    add_options(parser)
    for command in (json.loads(dict(steps())["CMD"]), compose()["services"]["draggan"]["command"]):
        assert command[:2] == ["draggan", "app"]
        assert parser.parse_args(command[2:]).port == 7860


def test_what_the_container_copies_is_there_and_nothing_else_is_sent():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = [line[1:] for line in lines if line.startswith("!")]
    assert lines[1] == "*"
    assert all((ROOT / name).exists() for name in sent)
    packages = {"draggan", "torch_utils", "dnnlib", "checkpoints"}
    needed = {
        *packages,
        "app.py",
        "pyproject.toml",
        "requirements.txt",
        "LICENSE",
        "RESPONSIBLE_USE.md",
        "docs/package.md",
    }
    assert needed <= set(sent)
    assert not any(fnmatch(name, line) for name in needed for line in lines[2:] if not line.startswith("!"))


def test_the_commands_of_the_health_check_and_of_the_build_can_be_read_by_a_shell():
    for name, text in steps():
        if name == "RUN":
            assert shlex.split(text)
    check = dict(steps())["HEALTHCHECK"]
    assert compile(json.loads(check.split("CMD", 1)[1])[2], "health", "exec")


def compose() -> dict:
    return yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def test_prometheus_asks_the_service_by_a_name_that_it_has():
    services = compose()["services"]
    scrape = yaml.safe_load(compose()["configs"]["prometheus"]["content"])
    (target,) = scrape["scrape_configs"][0]["static_configs"][0]["targets"]
    host = target.split(":")[0]
    assert host in services
    command = services[host]["command"]
    assert command[command.index("--name") + 1] == host
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service["ports"])


def test_the_manifests_start_programs_and_options_that_there_are():
    documents = list(yaml.safe_load_all((ROOT / "examples" / "kubernetes.yaml").read_text(encoding="utf-8")))
    pods = {d["metadata"]["name"]: d["spec"]["template"] for d in documents if d["kind"] == "Deployment"}
    services = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "Service"}
    (page,) = pods["draggan"]["spec"]["containers"]
    start, app = (shlex.split(part) for part in page["args"][0].split("&&"))
    parser = argparse.ArgumentParser()
    add_options(parser)
    assert app[:3] == ["exec", "draggan", "app"]
    options = parser.parse_args(app[3:])
    assert (options.engine, options.replicas, options.replica_cpus) == ("ray:auto", "2-8", 2.0)
    # Asked by the name that it has, on the port that it listens to.
    assert page["readinessProbe"]["httpGet"]["httpHeaders"] == [{"name": "Host", "value": options.name[0]}]
    assert page["readinessProbe"]["httpGet"]["port"] == services["draggan"]["ports"][0]["port"] == options.port
    for command in (start, pods["draggan-ray-worker"]["spec"]["containers"][0]["command"]):
        assert "--address=draggan-ray:6379" in command
    for name, service in (("draggan-ray-head", "draggan-ray"), ("draggan", "draggan")):
        assert services[service]["selector"].items() <= pods[name]["metadata"]["labels"].items()
    assert all(pod["metadata"]["labels"]["ray"] == "yes" for pod in pods.values()), "nobody else reaches Ray"


# The notebook


def test_the_notebook_runs():
    book = json.loads((ROOT / "examples" / "notebook.ipynb").read_text(encoding="utf-8"))
    assert book["nbformat"] == 4
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert cells[0]["source"] == ["%pip install --quiet .."]
    names: dict = {}
    *lines, picture = "".join(cells[1]["source"]).splitlines()
    exec("\n".join(lines), names)
    assert names["step"].outcome == "arrived"
    assert eval(picture, names).size == (384, 384)
    page = compile("".join(cells[2]["source"]), "page", "exec")
    assert "Popen" in page.co_names
