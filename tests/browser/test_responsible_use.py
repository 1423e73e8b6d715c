"""What people are asked for: once, in words that can be read, and remembered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draggan.provenance import credentials, watermark
from tests.browser.driving import agree, expect, needs_browser
from tests.test_watermark import drawing

pytestmark = needs_browser


def signs() -> bool:
    """Whether files are signed here: the extra `provenance` is installed."""
    return credentials._library() is not None


def test_terms_are_shown_once_and_can_be_read_from_the_footer(visit):
    page = visit()
    notice = page.locator("#dg-notice .dg-notice")
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


@pytest.mark.parametrize("size", [(1280, 800), (1440, 900), (390, 844)])
def test_what_a_file_carries_is_told_at_the_first_save_and_not_again(visit, size):
    page = visit(*size)
    told = page.locator("#dg-first-save .dg-notice")
    expect(told).to_be_hidden()
    page.locator("#dg-save").scroll_into_view_if_needed()
    buttons = page.locator("#dg-saves button").all()
    places = [part.bounding_box() for part in buttons]
    for _ in range(2):
        with page.expect_download() as download:
            page.click("#dg-save")
        assert download.value.path().stat().st_size
        expect(told).to_be_visible()
    for part, place in zip(buttons, places, strict=True):
        assert part.bounding_box() == pytest.approx(place, abs=2), "nothing has moved from under the pointer"
    # What it stands beside can be pressed.
    page.get_by_role("button", name="Your photo").click(trial=True)
    page.get_by_role("button", name="Open a model file").click(trial=True)
    page.get_by_role("button", name="File options").click(trial=True)
    expect(told).to_contain_text("say it yourself where you share it")
    told.get_by_role("button", name="OK").click()
    expect(told).to_be_hidden()
    page.reload()
    page.wait_for_function("document.querySelector('.dg-stage')?.dataset.frames")
    with page.expect_download() as download:
        page.click("#dg-save")
    assert download.value.path().stat().st_size
    expect(told).to_be_hidden()


def test_a_file_is_checked_in_the_page(visit, tmp_path, monkeypatch):
    """What was saved here, a stranger's picture, a damaged file, words; and a name that is a program."""
    monkeypatch.setattr(watermark, "_SCALES", np.array([1.0]))
    page = visit()
    with page.expect_download() as download:
        page.click("#dg-save")
    ours = tmp_path / "<img src=x onerror=alert(1)>.png"
    download.value.save_as(ours)
    stranger, damaged, words = (tmp_path / name for name in ("stranger.jpg", "damaged.png", "words.png"))
    Image.fromarray(drawing(128)).save(stranger)
    content = bytearray(ours.read_bytes())
    content[-30] ^= 1
    damaged.write_bytes(content)
    words.write_text("words")
    page.get_by_role("button", name="Check a file").click()
    found, said = page.locator("#dg-check dl"), page.locator("#dg-check [role=status]")

    def check(path: Path) -> None:
        page.set_input_files("#dg-check input[type=file]", path)

    check(ours)
    expect(said).to_have_text(ours.name)
    expect(found).to_contain_text("What it says of itself")
    expect(found).to_contain_text("Made here on ")
    expect(found).to_contain_text("This is that very file")
    check(stranger)
    expect(found).to_contain_text("No mark says it was made by AI")
    expect(found).not_to_contain_text("Made here on ")
    check(damaged)
    expect(found).to_contain_text("changed after it was signed" if signs() else "Digital source type")
    check(words)
    expect(said).to_contain_text("words.png is damaged, or is not what its name says")
    expect(found).to_be_empty()


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
