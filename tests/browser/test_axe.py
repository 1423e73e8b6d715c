"""What axe-core finds: ``npm install axe-core``, then DRAGGAN_AXE=node_modules/axe-core/axe.min.js."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser.driving import Page, choose_model, click, expect, good_enough, needs_browser

AXE = os.environ.get("DRAGGAN_AXE", "")
pytestmark = [*needs_browser, pytest.mark.skipif(not AXE, reason="axe-core is not here; DRAGGAN_AXE names its file")]

FOUND = """async () => (await axe.run()).violations.filter((v) => ['critical', 'serious'].includes(v.impact))
    .flatMap((v) => v.nodes.map((node) => `${v.id}: ${node.html.slice(0, 150)}`))"""


def nothing_found(page: Page) -> None:
    """Once colours that change slowly have changed."""
    deadline = time.monotonic() + 10
    while found := page.evaluate(FOUND):
        assert time.monotonic() < deadline, found
        page.wait_for_timeout(300)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_stands_in_the_way_of_anybody(visit, theme, tmp_path):
    page = visit(1366, 900, f"?__theme={theme}")
    page.click("#dg-preset-0")
    expect(page.locator("#dg-start")).to_be_enabled()
    page.get_by_role("checkbox", name="Point 1 takes part").uncheck()
    for name in ("Your photo", "File options", "Open a model file", "Check a file", "Help", "Responsible"):
        page.get_by_role("button", name=name).first.click()
    page.evaluate(Path(AXE).read_text(encoding="utf-8"))
    nothing_found(page)
    page.keyboard.press("3")
    nothing_found(page)
    page.keyboard.press("?")
    nothing_found(page)
    page.get_by_role("button", name="Close", exact=True).click()
    # A photo: while it is framed, while a face is clicked, and when it is the picture that is dragged.
    choose_model(page, "Tiny")
    expect(page.locator("#dg-preset-0")).to_be_hidden()
    page.locator("#dg-photo-consent").get_by_role("checkbox").check()
    y, x = np.indices((90, 120))
    photo = tmp_path / "a.png"
    Image.fromarray(np.stack([2 * x, 2 * y, x + y], -1).astype(np.uint8)).save(photo)
    page.set_input_files(".dg-photo input", photo)
    page.wait_for_function("document.querySelector('.dg-photo-pair img').src.startsWith('data:image/jpeg')")
    nothing_found(page)
    page.click("[data-way=face]")
    nothing_found(page)
    page.click("[data-way=box]")
    page.click(".dg-photo-open")
    good_enough(page)
    expect(page.locator("#dg-status")).to_contain_text("Your photo is open")
    page.keyboard.press("1")
    click(page, (5, 5), (32, 32))
    click(page, (20, 20), (32, 32))
    page.locator(".dg-story img").nth(1).wait_for()
    nothing_found(page)
