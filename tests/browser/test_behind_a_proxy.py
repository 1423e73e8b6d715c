"""The page under a path of a proxy, which passes on the name that was asked for or its own: everything works."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest
from PIL import Image

from dnnlib.listening import free_port
from draggan.config import Limits
from draggan.engine.local import LocalEngine
from draggan.ui.app import build, launch_options
from draggan.ui.server.exposure import Exposure
from draggan.ui.server.site import Site
from tests.browser.driving import PATIENCE, agree, needs_browser
from tests.pages import TinyModels
from tests.reverse_proxy import proxied

pytestmark = needs_browser


@pytest.mark.parametrize("keeps_host", [True, False], ids=["keeps the name", "puts its own in its place"])
def test_everything_works_and_saving_never_leaves_the_page(browser, tmp_path, keeps_host):
    # Away from where other servers look for theirs.
    port = free_port("127.0.0.1", None, first=20_000 + os.getpid() % 20_000)
    with ExitStack() as opened:
        address = opened.enter_context(proxied(port, "/tools/draggan", keeps_host=keeps_host))
        # Where the proxy does not say under which name it is asked, the page is told.
        root_path = "/tools/draggan" if keeps_host else address.rstrip("/")
        site = Site(Exposure.of(root_path=root_path, environment={}), Limits(calls_per_minute=100_000))
        models = TinyModels()
        engine = LocalEngine(models, site.limits)
        opened.callback(engine.close)
        demo = build(models, engine, site=site)
        options = launch_options(site) | {"server_port": port, "root_path": root_path, "ssr_mode": False}
        demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **options)
        opened.callback(demo.close)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        elsewhere: list[str] = []
        page.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or elsewhere.append(r.url))
        page.goto(address)
        page.wait_for_function("document.querySelector('.dg-stage')?.dataset.frames")
        page.click("#dg-preset-0")
        page.get_by_text("press Start").first.wait_for()
        page.click("#dg-start")
        page.get_by_text("Arrived after").first.wait_for()
        with page.expect_download() as download:
            page.click("#dg-save")
        download.value.save_as(tmp_path / "saved.png")
        with Image.open(tmp_path / "saved.png") as saved:
            assert saved.size == (64, 64)
        assert page.url == address
        # What a file carries is said at the first save, above the buttons, until it has been read.
        page.locator("#dg-first-save").get_by_role("button", name="OK").click()
        agree(page)
        path = tmp_path / "mine.safetensors"
        path.write_bytes(b"weights")
        page.locator("#dg-upload").locator("xpath=..").locator("input[type=file]").first.set_input_files(path)
        page.wait_for_function("document.querySelector('.dg-picture').width === 16")
        assert elsewhere == []
        page.close()
