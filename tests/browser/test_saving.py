"""Files and the clipboard, as a person gets them."""

from __future__ import annotations

import io

from PIL import Image

from tests.browser.driving import expect, needs_browser, status
from tests.marks import marks_of

pytestmark = needs_browser

CLIPBOARD = """async () => {
    const [item] = await navigator.clipboard.read();
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
    film = tmp_path / download.value.suggested_filename
    download.value.save_as(film)
    page.click("#dg-random")
    expect(page.locator("#dg-film")).to_be_disabled()
    page.set_input_files("#dg-opener input", film)
    status(page, "is open again: the picture and 1 step to undo")
    expect(page.locator("#dg-film")).to_be_enabled()


def test_the_picture_goes_to_the_clipboard_marked_or_the_page_says_that_it_cannot(visit):
    page = visit(1366, 900, permissions=["clipboard-read", "clipboard-write"])
    page.keyboard.press("Control+c")
    status(page, "^Copied\\.")
    page.wait_for_timeout(500)
    data = bytes(page.evaluate(CLIPBOARD))
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (64, 64)
    assert marks_of(data) <= {"pixels"}, "browsers put pixels alone on the clipboard"
    page.evaluate("() => { navigator.clipboard.write = () => Promise.reject(new Error('no')); }")
    page.click("#dg-copy")
    status(page, "^This browser does not let the page copy a picture")
