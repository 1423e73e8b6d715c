"""What people are asked for: once, in words that can be read, and remembered."""

from __future__ import annotations

from tests.browser.driving import agree, expect, needs_browser

pytestmark = needs_browser


def test_terms_are_shown_once_and_can_be_read_from_the_footer(visit):
    page = visit()
    notice = page.locator(".dg-notice")
    expect(notice).to_contain_text("Nobody's picture without their consent")
    text = page.locator("#dg-responsible-use").get_by_role("heading", name="What is asked of you", exact=True)
    expect(text).to_have_count(0)
    page.locator("#dg-foot").get_by_role("button", name="Responsible use").click()
    expect(text).to_be_in_viewport()
    notice.get_by_role("button", name="OK").click()
    expect(notice).to_be_hidden()
    page.reload()
    page.wait_for_function("document.querySelector('.dg-stage')?.dataset.frames")
    expect(notice).to_be_hidden()


def test_a_file_is_uploaded_only_after_a_tick_which_a_reload_keeps(visit):
    page = visit()
    box = page.locator("#dg-consent").get_by_role("checkbox")
    page.get_by_role("button", name="Open a model file").click()
    expect(page.locator("#dg-consent")).to_contain_text("To upload one: I may use this file")
    expect(page.locator("#dg-upload")).to_have_count(0)
    page.get_by_role("button", name="Open a model file").click()
    agree(page)
    page.reload()
    page.wait_for_function("document.querySelector('.dg-stage')?.dataset.frames")
    page.get_by_role("button", name="Open a model file").click()
    expect(page.locator("#dg-upload")).to_be_visible()
    expect(box).to_be_checked()
    box.uncheck()
    expect(page.locator("#dg-upload")).to_have_count(0)
    page.reload()
    page.wait_for_function("document.querySelector('.dg-stage')?.dataset.frames")
    page.get_by_role("button", name="Open a model file").click()
    expect(box).not_to_be_checked()
