"""A page on small models, served, and a browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from draggan.engine.local import LocalEngine
from draggan.ui import page as page_module
from draggan.ui.app import build, launch_options
from draggan.ui.handlers import editing
from draggan.ui.server.site import Site
from tests.browser.driving import CHROMIUM, FLAGS, PATIENCE, Page, Seen, sync_api
from tests.pages import TinyModels, serve


@pytest.fixture
def seen(monkeypatch) -> Seen:
    recorder = Seen()
    for module in (page_module, editing):
        monkeypatch.setattr(module, "with_canvas", recorder)
    return recorder


@pytest.fixture(scope="module")
def models() -> TinyModels:
    return TinyModels()


@pytest.fixture(scope="module")
def engine(models) -> Iterator[LocalEngine]:
    engine = LocalEngine(models)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def served(models, engine) -> Iterator[str]:
    site = Site()
    demo = build(models, engine, drags=3, local=True, site=site)
    url = serve(demo, **launch_options(site))
    yield url
    demo.close()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


CUT_OFF = ("AbortError: signal is aborted", "AbortError: BodyStreamBuffer was aborted", "Connection errored out.")


@pytest.fixture
def visit(browser, served):
    """Open the page in a tab of its own; at the end nothing may have gone wrong there, nor left this machine."""
    contexts, wrong, loads = [], [], []

    def open_page(width: int = 1280, height: int = 900, query: str = "", **kwargs) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **kwargs)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("load", lambda: loads.append(page))
        page.on("pageerror", lambda error: wrong.append(f"error {error}"))
        page.on("console", lambda line: wrong.append(f"console {line.text}") if line.type == "error" else None)
        page.on(
            "request",
            lambda r: None if r.url.startswith((served, "data:", "blob:")) else wrong.append(f"request {r.url}"),
        )
        page.goto(served + query)
        page.wait_for_function("document.querySelector('.dg-stage')?.dataset.frames")
        return page

    yield open_page
    for context in contexts:
        context.close()
    if len(loads) > len(contexts):
        # Gradio tells of a call that leaving a page, or loading it once more, has cut off.
        wrong = [line for line in wrong if not any(words in line for words in CUT_OFF)]
    assert wrong == []
