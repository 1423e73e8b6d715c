"""What axe-core finds: ``npm install axe-core``, then DRAGGAN_AXE=node_modules/axe-core/axe.min.js."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.browser.driving import expect, needs_browser

AXE = os.environ.get("DRAGGAN_AXE", "")
pytestmark = [*needs_browser, pytest.mark.skipif(not AXE, reason="axe-core is not here; DRAGGAN_AXE names its file")]

FOUND = """async () => (await axe.run()).violations.filter((v) => ['critical', 'serious'].includes(v.impact))
    .flatMap((v) => v.nodes.map((node) => `${v.id}: ${node.html.slice(0, 150)}`))"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_stands_in_the_way_of_anybody(visit, theme):
    page = visit(1366, 900, f"?__theme={theme}")
    page.click("#dg-preset-0")
    expect(page.locator("#dg-start")).to_be_enabled()
    page.get_by_role("checkbox", name="Point 1 takes part").uncheck()
    for name in ("Your photo", "File options", "Open a model file", "Check a file", "Help", "Responsible"):
        page.get_by_role("button", name=name).first.click()
    page.wait_for_timeout(800)  # until colours have changed
    page.evaluate(Path(AXE).read_text(encoding="utf-8"))
    assert page.evaluate(FOUND) == []
    page.keyboard.press("3")
    assert page.evaluate(FOUND) == []
    page.keyboard.press("?")
    assert page.evaluate(FOUND) == []
