"""``app.py``: its options, and what it says."""

from __future__ import annotations

import argparse
import re

import gradio as gr
import httpx
import pytest

from draggan.checkpoints import catalogue
from draggan.cli import app
from draggan.cli.serving import launch
from draggan.ui.app import build, launch_options
from draggan.ui.server.site import Site
from tests.pages import TinyModels, spare_port


def parsed(arguments):
    parser = argparse.ArgumentParser()
    app.add_options(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("arguments", "local"),
    [
        ([], True),
        (["--host", "localhost"], True),
        (["--host", "192.168.1.5"], False),
        (["--listen"], False),
        (["--share"], False),
        (["--root-path", "/draggan"], False),
    ],
)
def test_only_loopback_is_local(arguments, local, monkeypatch):
    for name in ("GRADIO_SERVER_NAME", "GRADIO_ROOT_PATH", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    assert app.exposure_of(parsed(arguments)).public is not local
    for name, value in (("GRADIO_SERVER_NAME", "0.0.0.0"), ("GRADIO_ROOT_PATH", "/x"), ("SPACE_ID", "a/b")):
        with monkeypatch.context() as environment:
            environment.setenv(name, value)
            assert app.exposure_of(parsed([])).public


def test_nothing_is_shared_recorded_or_fetched_unless_asked():

    args = parsed([])
    assert (args.host, args.listen, args.share) == (None, False, False)
    options = launch_options(Site())
    assert options.get("run_history", False) is False
    assert "http" not in "".join(options["theme"]._font_css)
    assert build(TinyModels()).analytics_enabled is False


def test_a_page_starts_on_a_machine_that_is_too_busy_to_answer_its_own_question(monkeypatch):
    monkeypatch.setattr("gradio.networking.url_ok", lambda url: False)
    demo, site = build(TinyModels()), Site()
    try:
        url, _ = launch(demo, site.exposure, spare_port(), **launch_options(site))
        assert httpx.get(url).status_code == 200
    finally:
        demo.close()


def test_app_explains_a_wrong_model(capsys):

    assert app.main(["--model", "no-such-model"]) == 1
    said = capsys.readouterr().err
    assert "'no-such-model' is neither a listed model nor a file" in said
    assert "Traceback" not in said


@pytest.fixture
def app_on_tiny_models(monkeypatch):
    from torch_utils.ops import library

    monkeypatch.setattr("draggan.engine.models.CatalogueModels", lambda device, model, downloads: TinyModels())
    monkeypatch.setattr(library, "build_in_background", lambda: None)
    monkeypatch.setattr("draggan.ui.warmup.warm_up", lambda engine, models: None)
    monkeypatch.setattr(gr.Blocks, "block_thread", gr.Blocks.close)
    return app


def test_app_says_where_the_page_is_and_nothing_else(app_on_tiny_models, capsys):
    assert app_on_tiny_models.main([]) == 0
    captured = capsys.readouterr()
    assert re.fullmatch(r"The page is at http://127\.0\.0\.1:\d+/? \(Ctrl\+C ends it\)\.", captured.out.splitlines()[0])
    assert "share" not in captured.out


def test_app_explains_a_port_that_is_taken(app_on_tiny_models, served, capsys):
    port = served.rstrip("/").rsplit(":", 1)[1]
    assert app_on_tiny_models.main(["--port", port]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"app.py: port {port} is in use; choose another one with --port")


def test_app_asks_before_it_downloads(app_on_tiny_models, capsys, monkeypatch):
    monkeypatch.setattr(catalogue.ModelEntry, "download_size", lambda self: 364_000_000)
    assert app_on_tiny_models.main(["--model", "lions-512"]) == 1
    said = capsys.readouterr().err
    for fact in ("364.0 MB", "storage.googleapis.com", "Apache-2.0 according", "add --yes"):
        assert fact in said


def test_programs_are_told_what_every_parameter_is_with_an_example_that_works():
    endpoints = build(TinyModels()).get_api_info()["named_endpoints"]
    assert sorted(endpoints) == ["/consent", "/drag", "/models", "/picture"], "internal handlers are hidden"
    for endpoint in endpoints.values():
        assert endpoint["description"]
        for parameter in endpoint["parameters"]:
            name, words = parameter["label"].split(": ", 1)
            assert name == parameter["parameter_name"]
            assert len(words) > 10
            assert parameter["example_input"] != "..."
    example = {
        parameter["parameter_name"]: parameter["example_input"] for parameter in endpoints["/drag"]["parameters"]
    }
    assert (example["model"], example["points"]) == ("bump", [[20, 30, 26, 30]])
