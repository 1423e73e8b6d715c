"""Points and a mask, with mouse, keys and fingers."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from draggan.ui import page as page_module
from draggan.ui.canvas.value import with_canvas
from draggan.ui.handlers import editing
from tests.browser.driving import PATIENCE, at, click, expect, needs_browser, points, pull, status

pytestmark = needs_browser


CORNERS = [(0, 0), (63, 63), (0, 63), (63, 0)]


@pytest.mark.parametrize(
    "window",
    [
        {"width": 1280, "height": 900},
        {"width": 390, "height": 800, "device_scale_factor": 2.5},
        {"width": 1111, "height": 777, "device_scale_factor": 1.25},
    ],
)
def test_clicks_land_on_the_exact_pixels(visit, seen, window):
    page = visit(**window)
    for xy in (*CORNERS, (17, 42), (31, 5)):
        click(page, xy)
    session = seen.until(lambda s: len(s.pairs) == 3)
    assert points(session) == [((0, 0), (63, 63)), ((0, 63), (63, 0)), ((17, 42), (31, 5))]
    status(page, "3 points set")


def test_pull_move_remove_and_keys(visit, seen):
    page = visit()
    pull(page, (10, 20), (40, 22))
    assert points(seen.until(lambda s: s.pairs)) == [((10, 20), (40, 22))]
    pull(page, (40, 22), (50, 50))
    assert points(seen.until(lambda s: s.pairs[0].target != (40, 22))) == [((10, 20), (50, 50))]
    pull(page, (10, 20), (5, 5))
    assert points(seen.until(lambda s: s.pairs[0].handle != (10, 20))) == [((5, 5), (50, 50))]
    # Beyond the border: the border's pixel.
    x, y = at(page, (63, 30))
    page.mouse.move(*at(page, (30, 30)))
    page.mouse.down()
    page.mouse.move(x + 60, y, steps=4)
    page.mouse.up()
    assert points(seen.until(lambda s: len(s.pairs) == 2))[1] == ((30, 30), (63, 30))
    # A click, taken back with Escape; the last pair, with Backspace; brought back with Ctrl+Z.
    click(page, (3, 60))
    status(page, "Now click where point 3 should go")
    page.keyboard.press("Escape")
    status(page, "2 points set")
    page.keyboard.press("Backspace")
    status(page, "1 point set")
    page.keyboard.press("Control+z")
    status(page, "2 points set")
    page.keyboard.press("Control+Shift+Z")
    status(page, "1 point set")
    # Without a mouse: the cross starts in the middle.
    page.focus(".dg-ink")
    for key in ("ArrowRight", "Shift+ArrowDown", "Enter", "ArrowLeft", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    assert points(seen.until(lambda s: len(s.pairs) == 2))[1] == ((33, 42), (31, 42))
    page.click("#dg-clear-points")
    status(page, "Click a point in the picture")
    # Typing is not a shortcut.
    page.focus("#dg-seed input")
    page.keyboard.press("Backspace")
    assert page.locator("#dg-undo").is_enabled()


def test_of_quick_clicks_every_one_counts(visit, monkeypatch):
    page, clicked = visit(), threading.Event()

    def slowly(session, value):
        assert clicked.wait(PATIENCE / 1000)
        time.sleep(0.4)
        return with_canvas(session, value)

    for module in (page_module, editing):
        monkeypatch.setattr(module, "with_canvas", slowly)
    for xy in ((5, 5), (9, 9), (30, 30), (40, 40)):
        click(page, xy)
    # Before an answer to any of them.
    clicked.set()
    status(page, "^2 points set")
    twice = "(id) => { const b = document.querySelector(id); b.click(); b.click(); }"
    # Each edit that was told of is a step: the first click, and the others together.
    page.evaluate(twice, "#dg-undo")
    status(page, "^Click a point in the picture")
    expect(page.locator("#dg-undo")).to_be_disabled()
    page.evaluate(twice, "#dg-redo")
    status(page, "^2 points set")
    page.evaluate(twice, "#dg-remove-last")
    status(page, "^Click a point in the picture")


def test_a_painted_mask_arrives_with_the_right_pixels(visit, seen):
    page = visit()
    page.click("[data-tool=mask]")
    page.locator(".dg-brush input").fill("16")
    expect(page.locator(".dg-brush output")).to_have_text("10 px")
    pull(page, (15, 20), (45, 20))
    mask = seen.until(lambda s: s.mask is not None).mask
    # The discs of diameter 10 along the way.
    y, x = np.mgrid[:64, :64]
    distance = np.hypot(x - np.clip(x, 15, 45), y - 20)
    assert mask[distance < 4.4].all()
    assert not mask[distance > 5.6].any()
    status(page, "Only the bright region may change")
    page.click("[data-tool=erase]")
    pull(page, (45, 20), (31, 20))
    erased = seen.until(lambda s: s.mask is not None and not s.mask[20, 40]).mask
    assert erased[20, 20]
    page.keyboard.press("Control+z")
    assert (seen.until(lambda s: True).mask == erased).all()
    expect(page.locator("#dg-redo")).to_be_enabled()
    page.click("#dg-clear-mask")
    expect(page.locator("#dg-clear-mask")).to_be_disabled()
    status(page, "^Click a point in the picture, then where it should go. Or choose Live and drag.$")


def test_fingers(visit, seen):
    page = visit(390, 800, has_touch=True, is_mobile=True, device_scale_factor=3)
    page.touchscreen.tap(*at(page, (12, 13)))
    page.touchscreen.tap(*at(page, (50, 40)))
    assert points(seen.until(lambda s: s.pairs)) == [((12, 13), (50, 40))]
    # One finger draws and does not scroll the page.
    session = page.context.new_cdp_session(page)
    (x, y), (_, end) = at(page, (30, 10)), at(page, (30, 50))
    path = [[{"x": x, "y": y + (end - y) * k / 5}] for k in range(6)]
    for kind, touches in [("touchStart", path[0]), *(("touchMove", t) for t in path[1:]), ("touchEnd", [])]:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
    assert points(seen.until(lambda s: len(s.pairs) == 2))[1] == ((30, 10), (30, 50))
    assert page.evaluate("window.scrollY") == 0
