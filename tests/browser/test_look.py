"""Everything can be seen, read and reached."""

from __future__ import annotations

import pytest

from tests.browser.driving import Page, click, creep, expect, needs_browser, status
from tests.pages import BUMP

pytestmark = needs_browser


def apart(page: Page, one: str, other: str) -> bool:
    """Whether two parts of the page cover nothing of each other."""
    a, b = (page.locator(part).bounding_box() for part in (one, other))
    beside = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
    return beside or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]


def test_an_error_is_a_sentence_on_the_page_that_covers_nothing(visit):
    page = visit()
    page.click("#dg-start")
    expect(page.get_by_text("There is nothing to drag yet; click a point in the picture")).to_be_visible()
    for part in ("#dg-model", "#dg-seed-row", "#dg-canvas", "#dg-start", "#dg-stop", "#dg-undo"):
        assert apart(page, ".toast-body", part), part
    assert page.locator("#dg-start").is_enabled()


@pytest.mark.parametrize("width", [1280, 760, 380])
def test_tools_do_not_move_the_picture(visit, width):
    page = visit(width, 900)
    place = page.locator(".dg-picture").bounding_box()
    for tool in ("mask", "erase", "points"):
        page.click(f"[data-tool={tool}]")
        assert page.locator(".dg-picture").bounding_box() == place
        assert page.locator(".dg-brush").is_visible() is (tool != "points")


def test_a_button_that_does_nothing_does_not_look_as_if(visit):
    page = visit()
    colour = "getComputedStyle(document.querySelector('#dg-stop')).backgroundColor"
    resting = page.evaluate(colour)
    creep(page)
    click(page, BUMP)
    click(page, (60, 60))
    page.click("#dg-start")
    status(page, "^Step ")
    assert page.evaluate(colour) != resting
    page.click("#dg-stop")
    status(page, "^Stopped after ")
    expect(page.locator("#dg-stop")).to_be_disabled()
    page.wait_for_timeout(400)
    assert page.evaluate(colour) == resting


@pytest.mark.parametrize(("width", "query"), [(390, ""), (1280, "?__theme=dark")])
def test_nothing_sticks_out_and_everything_can_be_read(visit, width, query):
    page = visit(width, 800, query)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    contrast = page.evaluate(CONTRAST)
    assert contrast, "nothing was measured"
    assert {what: ratio for what, ratio in contrast.items() if ratio < 4.5} == {}
    footer = "Settings" if width < 640 else "Use via API · Settings"
    assert page.locator("footer").inner_text().split() == footer.split()
    for button in page.locator("#dg-saves button").all():
        assert button.evaluate("(b) => b.scrollWidth <= b.clientWidth"), "its words fit"


# WCAG's contrast ratio of the texts that carry the work, against the first opaque background behind them.
CONTRAST = """() => {
    const parse = (c) => (c.match(/[0-9.]+/g) || []).map(Number);
    const lum = ([r, g, b]) => { const f = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
    const out = {};
    for (const s of ['.dg-status', '#dg-start', '#dg-title h1', '[data-tool=points]', '[data-tool=mask]', '#dg-save']) {
        let e = document.querySelector(s);
        const ink = parse(getComputedStyle(e).color), behind = () => parse(getComputedStyle(e).backgroundColor);
        while (e.parentElement && behind()[3] === 0) e = e.parentElement;
        const paper = behind();
        const [a, b] = [lum(ink), lum(paper)].sort((p, q) => q - p);
        out[s] = Math.round((a + 0.05) / (b + 0.05) * 100) / 100;
    }
    return out;
}"""
