"""Files and the clipboard, as a person gets them."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageChops

from tests.browser.driving import PATIENCE, Page, expect, needs_browser, status
from tests.marks import marks_of

pytestmark = needs_browser

CLIPBOARD = """async () => {
    let item;
    do { [item] = await navigator.clipboard.read(); } while (!item?.types.includes('image/png'));    // it takes a while
    const bytes = new Uint8Array(await (await item.getType('image/png')).arrayBuffer());
    return Array.from(bytes);
}"""


def test_formats_and_looks_are_chosen_and_a_saved_film_opens_again(visit, tmp_path):
    page = visit(1366, 900)
    page.click("#dg-preset-0")
    status(page, "^Right: press Start")
    page.click("#dg-start")
    status(page, "^Arrived")
    page.get_by_role("button", name="File options").click()
    page.get_by_label("JPEG").check()
    page.get_by_label("2 x").check()
    page.get_by_label("Before and after").check()
    expect(page.locator("#dg-save")).to_have_text("Save JPEG")
    with page.expect_download() as download:
        page.keyboard.press("Control+s")  # a checkbox has the focus
    status(page, "^Saved as bump-seed0-before-after.jpg")
    with Image.open(download.value.path()) as picture:
        assert picture.size == (128 + 2 + 128, 128)
    page.locator("#dg-film-format").get_by_label("WebP").check()
    expect(page.locator("#dg-film")).to_have_text("Save WebP")
    with page.expect_download() as download:
        page.click("#dg-film")
    expect(page.locator("#dg-film")).to_be_focused()  # which was off meanwhile
    film = tmp_path / download.value.suggested_filename
    download.value.save_as(film)
    page.click("#dg-random")
    expect(page.locator("#dg-film")).to_be_disabled()
    page.set_input_files("#dg-opener input", film)
    status(page, "is open again: the picture and 1 step to undo")
    expect(page.locator("#dg-film")).to_be_enabled()
    # A reload changes nothing; in a new tab it is as it was chosen last.
    page.reload()
    expect(page.locator("#dg-film")).to_have_text("Save WebP")
    new = page.context.new_page()
    new.goto(page.url)
    expect(new.locator("#dg-save")).to_have_text("Save JPEG")
    new.get_by_role("button", name="File options").click()
    expect(new.get_by_label("2 x")).to_be_checked()
    expect(new.get_by_label("Before and after")).to_be_checked()


def film_in(page: Page) -> tuple[int, float, tuple[int, int]]:
    """Save the film: its frames, seconds and size."""
    with page.expect_download(timeout=3 * PATIENCE) as download:  # eighty frames, drawn and marked
        page.click("#dg-film")
    status(page, "^Saved as ")
    with Image.open(download.value.path()) as film:
        lasting = 0.0
        for number in range(film.n_frames):
            film.seek(number)
            film.load()
            lasting += film.info["duration"] / 1000
        return film.n_frames, lasting, film.size


def picture_in(page: Page) -> Image.Image:
    with page.expect_download() as download:
        page.click("#dg-save")
    status(page, "^Saved as ")
    with Image.open(download.value.path()) as picture:
        return picture.convert("RGB")


def test_sizes_points_speeds_and_the_way_back_are_what_they_are_called(visit):
    page = visit(1366, 900)
    page.click("#dg-preset-0")
    status(page, "^Right: press Start")
    page.click("#dg-start")
    status(page, "^Arrived")
    page.get_by_role("button", name="File options").click()
    plain = picture_in(page)
    for times in (2, 4):
        page.get_by_label(f"{times} x").check()
        assert picture_in(page).size == (64 * times, 64 * times)
    # With the points: another picture where they are, and nowhere else.
    page.get_by_label("1 x").check()
    page.get_by_label("With the points").check()
    dotted = picture_in(page)
    left, top, right, bottom = ImageChops.difference(plain, dotted).point(lambda v: 255 * (v > 40)).getbbox()
    assert left <= 26 < right <= 26 + 16
    assert top <= 30 < bottom <= 30 + 16
    page.locator("#dg-film-format").get_by_label("WebP").check()
    with_points, seconds, size = film_in(page)
    assert size == (64, 64)
    page.get_by_label("With the points").uncheck()
    page.locator("#dg-speed").get_by_label("Fast").check()
    # A film rests at its ends, whatever its speed; the way itself takes 1.6 s at the normal one.
    assert seconds - film_in(page)[1] == pytest.approx(0.8, abs=0.1)
    page.locator("#dg-speed").get_by_label("Slow").check()
    page.get_by_label("2 x").check()
    _, slow, size = film_in(page)
    assert slow - seconds == pytest.approx(1.6, abs=0.1)
    assert size == (128, 128)
    page.locator("#dg-speed").get_by_label("Normal").check()
    page.get_by_label("1 x").check()
    page.get_by_label("Film there and back").check()
    there_and_back, lasting, _ = film_in(page)
    assert there_and_back > 1.8 * with_points
    assert lasting > seconds + 1.2
    # The drag's own pictures alone; of two that look the same, a film has one.
    page.get_by_label("Film there and back").uncheck()
    page.get_by_label("Smooth film").uncheck()
    own = int(page.locator(".dg-film input").get_attribute("max")) + 1
    assert own - 4 <= film_in(page)[0] <= own < with_points


def test_the_picture_goes_to_the_clipboard_marked_or_the_page_says_that_it_cannot(visit):
    page = visit(1366, 900, permissions=["clipboard-read", "clipboard-write"])
    page.keyboard.press("Control+c")
    status(page, "^Copied\\.")
    data = bytes(page.evaluate(CLIPBOARD))
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (64, 64)
    assert marks_of(data) <= {"pixels"}, "browsers put pixels alone on the clipboard"
    page.evaluate("() => { navigator.clipboard.write = () => Promise.reject(new Error('no')); }")
    page.click("#dg-copy")
    status(page, "^This browser does not let the page copy a picture")
