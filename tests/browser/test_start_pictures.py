"""Pictures to start with, and favourites."""

from __future__ import annotations

from tests.browser.driving import expect, needs_browser, pull, status
from tests.pages import BUMP

pytestmark = needs_browser


def test_a_person_starts_with_a_picture_and_comes_back_to_a_favourite(visit):
    page = visit(1366, 768)
    pictures = page.locator(".dg-suggested img")
    expect(pictures).to_have_count(6)
    page.locator(".dg-suggested button").nth(2).click()
    expect(page.locator("#dg-seed input")).to_have_value("3")
    expect(page.locator(".dg-suggested [aria-current]")).to_have_attribute("aria-label", "Start with seed 3")
    page.click(".dg-more")
    expect(page.get_by_label("Start with seed 12")).to_be_visible()
    heart, favourites = page.locator(".dg-heart"), page.locator(".dg-favourites li")
    heart.click()
    expect(favourites).to_have_count(1)
    expect(heart).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".dg-starts-said")).to_have_text("Kept as a favourite in this browser: A bump, seed 3.")
    page.click("#dg-undo")
    expect(page.locator("#dg-seed input")).to_have_value("0")
    expect(heart).to_have_attribute("aria-pressed", "false")
    page.click("#dg-redo")
    expect(heart).to_have_attribute("aria-pressed", "true")
    heart.click()
    expect(favourites).to_have_count(0)
    heart.click()
    expect(favourites).to_have_count(1)
    page.reload()
    expect(favourites).to_have_count(1)
    page.wait_for_function("document.querySelector('.dg-stage')?.dataset.frames")
    # By keys alone.
    page.get_by_label("Open A bump, seed 3").focus()
    page.keyboard.press("Enter")
    status(page, "^A bump, seed 3 is open again")
    expect(page.locator("#dg-seed input")).to_have_value("3")
    page.click("#dg-undo")
    status(page, "^Click a point")
    page.get_by_label("Remove A bump, seed 3 from the favourites").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".dg-favourites")).to_be_hidden()
    expect(heart).to_be_focused()
    # Of a drag, while its beginning is looked at: the picture is that of now, as what opens again is.
    pull(page, BUMP, (28, 30))
    status(page, "set\\. Press Start")
    page.click("#dg-start")
    status(page, "^Arrived")
    small = page.locator(".dg-favourites img")
    page.locator(".dg-film input").fill("0")
    expect(page.locator(".dg-stage")).to_have_attribute("data-peek", "0")
    heart.click()
    expect(small).to_have_count(1)
    expect(page.locator(".dg-stage")).to_have_attribute("data-peek", "")
    looked_back = small.get_attribute("src")
    heart.click()
    expect(favourites).to_have_count(0)
    heart.click()
    expect(small).to_have_count(1)
    assert small.get_attribute("src") == looked_back
