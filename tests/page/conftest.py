"""A page on small models."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr
import pytest

from draggan.engine.local import LocalEngine
from draggan.session import Session
from draggan.ui.app import build, launch_options
from draggan.ui.layout import Needs, Parts
from draggan.ui.page import Page
from draggan.ui.server.site import Site
from tests.page.driving import Handlers
from tests.pages import TinyModels, serve


@pytest.fixture(scope="module")
def models() -> TinyModels:
    return TinyModels()


@pytest.fixture(scope="module")
def parts(models) -> Parts:
    with gr.Blocks(analytics_enabled=False):
        return Parts(Needs(models=models))


@pytest.fixture
def engine(models) -> Iterator[LocalEngine]:
    engine = LocalEngine(models)
    yield engine
    engine.close()


@pytest.fixture
def do(parts, models, engine) -> Handlers:
    return Handlers(Page(parts, models, engine))


@pytest.fixture
def session(do, parts) -> Session:
    return do.open_page("bump", 0, 0.0)[parts.session]


@pytest.fixture
def distant(models):
    models.forget()
    yield models
    models.forget()


@pytest.fixture(scope="module")
def served():
    models = TinyModels()
    site = Site()
    demo = build(models, drags=3, site=site)
    url = serve(demo, **launch_options(site))
    yield url
    demo.close()
