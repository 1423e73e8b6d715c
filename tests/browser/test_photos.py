"""A photo of one's own, from choosing it to saving it back."""

from __future__ import annotations

import io
import time

import numpy as np
from PIL import Image

from draggan.inversion import Crop
from draggan.session_file import read_session_file
from draggan.ui.finders import CropFinders
from tests.browser.driving import PATIENCE, choose_model, click, expect, good_enough, needs_browser, status

pytestmark = needs_browser

_PIXELS = """() => {
    const c = document.querySelector('.dg-picture');
    return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].join();
}"""
_ARE = f"(wanted) => ({_PIXELS})() === wanted"
_IS_KEPT = """(name) => new Promise((good) => {
    const request = indexedDB.open(`draggan ${location.pathname}`);
    request.onsuccess = () => {
        const all = request.result.transaction('pieces').objectStore('pieces').getAllKeys();
        all.onsuccess = () => { request.result.close(); good(all.result.some(([, piece]) => piece.startsWith(name))); };
    };
})"""


def test_a_photo_is_chosen_framed_opened_dragged_saved_and_opened_again(visit, engine, tmp_path, monkeypatch):
    found = Crop(centre=(60.0, 60.0), right=(20.0, 0.0), down=(0.0, 20.0))
    monkeypatch.setattr(CropFinders, "find", lambda self, *_: (True, found))
    y, x = np.indices((120, 180))
    pixels = np.stack([120 + 100 * np.sin(x / 9), 120 + 100 * np.cos(y / 7), 60 + x], -1).clip(0, 255)
    photo = tmp_path / "<img src=x onerror=alert(1)>.png"
    Image.fromarray(pixels.astype(np.uint8)).save(photo)
    page = visit(1366, 900)
    choose_model(page, "Tiny")
    expect(page.locator("#dg-preset-0")).to_be_hidden()
    # Dropped on the page, it is said where photos are opened, and that is where one comes to.
    page.set_input_files("#dg-opener input", photo)
    status(page, "to drag a photo of your own, open it under “Your photo”")
    said = page.locator(".dg-photo-said")
    expect(said).to_contain_text("has not been uploaded yet. Tick the box above")
    # Before that nothing of it is sent; then it goes on by itself.
    asked = []
    page.on("request", lambda request: asked.append(request.post_data or ""))
    page.set_input_files(".dg-photo input", {"name": "a.png", "mimeType": "image/png", "buffer": b"nonsense"})
    expect(said).to_contain_text("a.png has not been uploaded yet")
    page.wait_for_timeout(300)
    assert not any("photo_sent" in body or "a.png" in body for body in asked)
    page.locator("#dg-photo-consent").get_by_role("checkbox").check()
    expect(said).to_contain_text("a.png is not a picture that can be read")
    page.set_input_files("#dg-opener input", photo)
    cut = page.locator(".dg-photo-pair img").first
    page.wait_for_function("document.querySelector('.dg-photo-pair img').src.startsWith('data:image/jpeg')")
    first = cut.get_attribute("src")
    # Where the model sees its subject is one click away; the frame is put there.
    expect(page.locator(".dg-photo-expected")).to_contain_text("Opening takes about")
    page.click(".dg-photo-found")
    expect(page.locator(".dg-photo-found")).to_be_hidden()
    expect(page.locator(".dg-photo-frame polygon").last).to_have_attribute(
        "points", "40.5,40.5 80.5,40.5 80.5,80.5 40.5,80.5"
    )
    page.wait_for_function("(was) => document.querySelector('.dg-photo-pair img').src !== was", arg=first)
    first = cut.get_attribute("src")
    # The frame is moved by the mouse, and by the keys; what the model would see follows.
    svg = page.locator(".dg-photo-frame svg")
    svg.scroll_into_view_if_needed()
    place = svg.bounding_box()
    middle = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 40, middle[1], steps=3)
    page.mouse.up()
    page.wait_for_function("(was) => document.querySelector('.dg-photo-pair img').src !== was", arg=first)
    second = cut.get_attribute("src")
    svg.focus()
    page.keyboard.press("Shift+-")
    page.keyboard.press("-")
    page.wait_for_function("(was) => document.querySelector('.dg-photo-pair img').src !== was", arg=second)
    page.click("[data-way=face]")
    expect(page.locator(".dg-photo-open")).to_be_disabled()
    for across, down in ((0.4, 0.4), (0.6, 0.4), (0.5, 0.65)):
        svg.click(position={"x": across * place["width"], "y": down * place["height"]})
    expect(page.locator(".dg-photo-open")).to_be_enabled()
    page.click("[data-way=box]")
    page.click(".dg-photo-open")
    good_enough(page)
    status(page, "^Your photo is open as far as it had got")
    expect(page.locator("#dg-undo")).to_be_enabled()
    size = page.evaluate("() => { const c = document.querySelector('.dg-picture'); return [c.width, c.height]; }")
    click(page, (4, 4), size)
    click(page, (9, 7), size)
    status(page, "^1 point set")
    page.click("#dg-start")
    status(page, "^(Arrived|As far|Stopped|What was|Further|The point)")
    # The whole photo, which Save writes, can be seen.
    for _ in range(2):
        page.click("#dg-whole")
        page.wait_for_function("document.querySelector('.dg-whole[open] img')?.naturalWidth === 180")
        page.keyboard.press("Escape")
        expect(page.locator(".dg-whole[open]")).to_have_count(0)
    with page.expect_download() as download:
        page.click("#dg-save")
    data = download.value.path().read_bytes()
    with Image.open(io.BytesIO(data)) as whole:
        assert whole.size == (180, 120)
        changed = np.abs(np.asarray(whole).astype(int) - pixels.astype(np.uint8))[:, :8].mean()
    assert changed < 6, "outside the frame nothing but the invisible mark is new"
    assert page.locator("img[src=x]").count() == 0
    # The work as a file: opened in another browser it is the same picture, and goes on.
    shown = page.evaluate(_PIXELS)
    with page.expect_download() as download:
        page.click("#dg-save-session")
    work = tmp_path / download.value.suggested_filename
    work.write_bytes(download.value.path().read_bytes())
    assert work.name.endswith("-photo-dragged.draggan")
    status(page, "keep it as you would the photo")
    (digest,) = read_session_file(work).tunings
    other = visit(1366, 900)
    other.set_input_files("#dg-opener input", work)
    status(other, "agree to the sentence under “Your photo” first")
    other.get_by_role("button", name="Your photo").click()
    other.locator("#dg-photo-consent").get_by_role("checkbox").check()
    expect(other.locator("#dg-photo-consent").get_by_role("checkbox")).to_be_enabled()
    other.set_input_files("#dg-opener input", work)
    status(other, "is open again: the picture and")
    other.wait_for_function(_ARE, arg=shown)
    click(other, (12, 12), size)
    click(other, (9, 12), size)
    status(other, "^2 points set")
    other.click("#dg-start")
    status(other, "^(Arrived|As far|Stopped|What was|Further|The point)")
    # A server that has forgotten the weights gets them back from the browser.
    deadline = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(_IS_KEPT, f"photo-{digest}-"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    engine.forget_tuning(digest)
    page.reload()
    status(page, "^Your work is back")
    page.wait_for_function(_ARE, arg=shown)
