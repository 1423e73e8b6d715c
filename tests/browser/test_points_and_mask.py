"""Points and a mask, with mouse, keys and fingers."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest

from draggan.ui import page as page_module
from draggan.ui.canvas.value import with_canvas
from draggan.ui.handlers import editing
from tests.browser.driving import PATIENCE, Finger, at, click, expect, needs_browser, points, pull, status

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
    page.mouse.move(*at(page, (40, 22)))
    page.mouse.down()
    expect(page.locator(".dg-loupe")).to_be_hidden()
    page.mouse.move(*at(page, (50, 50)), steps=6)
    # A loupe only where pixels are small: here they are not, but a person may want one.
    page.keyboard.down("l")
    page.wait_for_function(MIDDLE, arg=[50, 50])
    page.keyboard.up("l")
    expect(page.locator(".dg-loupe")).to_be_hidden()
    page.mouse.up()
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
    # Redo has sent two pairs, too.
    assert points(seen.until(lambda s: [p.handle for p in s.pairs[1:]] == [(33, 42)]))[1] == ((33, 42), (31, 42))
    page.click("#dg-clear-points")
    status(page, "Click a point in the picture")
    # Typing is not a shortcut.
    page.focus("#dg-seed input")
    page.keyboard.press("Backspace")
    expect(page.locator("#dg-undo")).to_be_enabled()


def test_points_are_edited_like_in_an_editor(visit, seen):
    page = visit()
    ink = page.locator(".dg-ink")
    page.mouse.dblclick(*at(page, (10, 20)))
    status(page, "^Now click where point 1 should go")
    click(page, (40, 22))
    click(page, (10, 50))
    click(page, (40, 52))
    assert points(seen.until(lambda s: len(s.pairs) == 2)) == [((10, 20), (40, 22)), ((10, 50), (40, 52))]
    page.mouse.move(*at(page, (25, 8)))
    expect(ink).to_have_css("cursor", "crosshair")
    page.mouse.move(*at(page, (40, 22)))
    expect(ink).to_have_css("cursor", "move")
    # Clicked once or twice, a dot is selected, and no other point is set.
    page.mouse.dblclick(*at(page, (10, 20)))
    status(page, "^2 points set")
    expect(page.locator(".dg-points li[data-selected]")).to_have_count(1)
    # The selected dot goes by the keys, as one step; then it is deleted, though it is not the last one.
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    assert points(seen.until(lambda s: s.pairs[0].handle != (10, 20)))[0] == ((12, 30), (40, 22))
    page.keyboard.press("Delete")
    assert points(seen.until(lambda s: len(s.pairs) == 1)) == [((10, 50), (40, 52))]
    page.keyboard.press("Control+z")
    status(page, "^2 points set")
    page.keyboard.press("Control+z")
    status(page, "^2 points set")
    expect(page.locator(".dg-points li").nth(0).locator("input[type=number]").nth(1)).to_have_value("20")
    # Clicked once more, and not as a double click: a point that is held where it is; P makes one of another.
    click(page, (25, 8))
    status(page, "^Now click where point 3 should go\\. To hold it")
    page.wait_for_timeout(700)
    click(page, (25, 8))
    assert points(seen.until(lambda s: len(s.pairs) == 3))[2] == ((25, 8), (25, 8))
    page.keyboard.press("Backspace")
    status(page, "^2 points set")
    click(page, (10, 50))
    page.keyboard.press("p")
    assert points(seen.until(lambda s: s.pairs[1].target == (10, 50)))[1] == ((10, 50), (10, 50))
    page.keyboard.press("Control+z")
    # What the keys have moved counts at once: Undo takes that move back, and not what was before it.
    target = page.locator(".dg-points li").nth(1).locator("input[type=number]").nth(2)
    expect(target).to_have_value("40")
    click(page, (40, 52))
    page.keyboard.press("ArrowRight")
    expect(target).to_have_value("41")
    page.keyboard.press("Control+z")
    expect(target).to_have_value("40")
    page.keyboard.press("Control+Shift+z")
    expect(target).to_have_value("41")
    page.keyboard.press("Control+z")
    # The list: exact places, and what deletes one of them.
    fields = page.locator(".dg-points li").nth(1).locator("input[type=number]")
    expect(fields.nth(2)).to_have_value("40")
    fields.nth(2).fill("55")
    fields.nth(2).press("Enter")
    assert points(seen.until(lambda s: s.pairs[1].target[0] == 55))[1] == ((10, 50), (55, 52))
    fields.nth(0).fill("999")
    fields.nth(0).press("Tab")
    expect(fields.nth(0)).to_have_value("63")
    # Off, it stays where it is, grey, and takes no part in the drag; by mouse and by keys. Undo takes that back.
    one, two = (page.get_by_role("checkbox", name=f"Point {n} takes part") for n in (1, 2))
    one.uncheck()
    status(page, "^2 points set, 1 of them switched off\\. Press Start")
    assert seen.until(lambda s: s.off == {0}).active_numbers == (1,)
    two.press("Space")
    status(page, "^All points are switched off")
    expect(page.locator("#dg-start")).to_be_disabled()
    page.wait_for_function(f"({INK})({json.dumps(at(page, (63, 50)))})[0] < 150")
    page.locator(".dg-points .dg-number").nth(1).click()
    page.keyboard.press("o")
    expect(two).to_be_checked()
    expect(page.locator("#dg-start")).to_be_enabled()
    expect(page.locator(".dg-aloud")).to_have_text("Point 2 on")
    seen.until(lambda s: s.off == {0})
    page.keyboard.press("Control+z")
    status(page, "^All points are switched off")
    page.keyboard.press("Control+z")
    expect(two).to_be_checked()
    expect(one).not_to_be_checked()
    page.get_by_role("button", name="Delete point 1").click()
    expect(one).to_be_checked()
    assert seen.until(lambda s: len(s.pairs) == 1).off == frozenset()
    assert points(seen.until(lambda s: len(s.pairs) == 1)) == [((63, 50), (55, 52))]
    page.click("#dg-delete")
    expect(page.locator("#dg-delete")).to_be_disabled()
    expect(page.locator(".dg-points")).to_contain_text("No points yet.")
    expect(page.locator(".dg-points li")).to_have_count(0)


def test_the_sentence_follows_the_tool(visit):
    page = visit()
    page.keyboard.press("2")
    status(page, "^Hold the picture and drag: it follows the pointer\\.$")
    page.click("#dg-preset-0")
    status(page, "^Right: press Start, or hold a point and drag it\\.$")
    page.keyboard.press("3")
    status(page, "^Paint what may change; the rest stays as it is\\.$")
    page.keyboard.press("4")
    status(page, "^There is no paint to erase yet\\. Choose Mask\\.$")
    page.keyboard.press("1")
    status(page, "^Right: press Start, or move the points first\\.$")


def test_live_and_masks_work_by_the_keys_alone(visit, seen):
    page = visit()
    page.focus("[data-tool=points]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("button[data-tool=mask]")).to_have_attribute("aria-checked", "true")
    page.focus(".dg-ink")
    for key in ("ArrowRight", "]", "]", "Enter", "Shift+ArrowRight", "Enter"):
        page.keyboard.press(key)
    mask = seen.until(lambda s: s.mask is not None).mask
    assert mask[32, 33]
    assert mask[32, 43]
    assert not mask[5, 5]
    expect(page.locator(".dg-aloud")).to_have_text("43, 32")
    page.click("#dg-clear-mask")
    seen.until(lambda s: s.mask is None)
    page.keyboard.press("2")
    page.focus(".dg-ink")
    before = page.locator(".dg-stage").get_attribute("data-frames")
    for key in ("Shift+ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowUp", "Enter", "Shift+ArrowRight"):
        page.keyboard.press(key)
    page.wait_for_function(f"document.querySelector('.dg-stage').dataset.frames > {before}")
    page.keyboard.press("Enter")
    status(page, "^(Arrived|As far as|Stopped)")
    page.wait_for_function("document.activeElement.className === 'dg-ink'")
    # A first Enter shows where the next one sets a point; whoever starts by keys goes on by keys.
    page.keyboard.press("1")
    page.focus("#dg-undo")
    page.focus(".dg-ink")
    for key in ("Enter", "Enter", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    seen.until(lambda s: s.pairs)
    page.focus("#dg-start")
    page.keyboard.press("Enter")
    status(page, "^(Arrived|As far as|Stopped)")
    page.wait_for_function("document.activeElement !== document.body")


def test_zoomed_and_moved_every_click_lands_on_its_pixel(visit, seen):
    page = visit(1366, 768, device_scale_factor=1.5)
    label = page.locator("[data-zoom=fit]")
    fitted = label.inner_text()
    picture = page.locator(".dg-picture")
    # Wheels know whole pixels of the screen only.
    x, y = map(round, at(page, (17, 42)))
    page.mouse.move(x, y)
    fit = picture.bounding_box()
    while float(page.locator(".dg-stage").get_attribute("data-zoom")) < 2.5:
        page.mouse.wheel(0, -150)
        page.wait_for_timeout(50)
    page.wait_for_timeout(200)  # what has turned and is not heard of yet
    large = picture.bounding_box()
    for place, corner, extent in ((x, "x", "width"), (y, "y", "height")):
        there = large[corner] + (place - fit[corner]) / fit[extent] * large[extent]
        assert abs(there - place) < 1, "what is under the pointer stays under it"
    click(page, (17, 42))
    click(page, (20, 45))
    assert points(seen.until(lambda s: s.pairs)) == [((17, 42), (20, 45))]
    red, green, blue, _ = page.evaluate(INK, [*at(page, (17, 42))])
    assert red > 150 > 100 > max(green, blue), "the dot is drawn where it is"
    page.keyboard.down(" ")
    pull(page, (17, 42), (12, 42))
    page.keyboard.up(" ")
    assert at(page, (17, 42))[0] < x - 20, "moved with Space held"
    page.mouse.move(*at(page, (30, 30)))
    click(page, (22, 40))
    click(page, (22, 47))
    assert points(seen.until(lambda s: len(s.pairs) == 2))[1] == ((22, 40), (22, 47))
    assert not page.locator(".dg-stage").get_attribute("class").count("dg-busy"), "Space has moved, not started"
    label.click()
    expect(label).to_have_text(fitted)
    label.click()
    expect(label).to_have_text("100 %")
    page.keyboard.press("0")
    expect(label).to_have_text(fitted)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press(" ")
    status(page, "^(Starting|Step|Arrived|As far|Stopped)")


INK = """([x, y]) => {
    const c = document.querySelector('.dg-ink'), r = c.getBoundingClientRect(), by = c.width / r.width;
    const at = [(x - 6 - r.left) * by, (y - r.top) * by].map(Math.round);
    return [...c.getContext('2d').getImageData(...at, 1, 1).data];
}"""


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
    for _ in range(2):
        page.click("#dg-delete")
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
    # The other way round, and back.
    page.keyboard.press("i")
    assert (seen.until(lambda s: s.mask is not None and s.mask[60, 60]).mask == ~erased).all()
    page.click("#dg-invert")
    assert (seen.until(lambda s: not s.mask[60, 60]).mask == erased).all()
    page.keyboard.press("Control+z")
    assert (seen.until(lambda s: True).mask == erased).all()
    expect(page.locator("#dg-redo")).to_be_enabled()
    page.click("#dg-clear-mask")
    expect(page.locator("#dg-clear-mask")).to_be_disabled()
    status(page, "^There is no paint to erase yet. Choose Mask.$")


# Whether the middle of the loupe has the colour of that pixel of the picture.
MIDDLE = """([x, y]) => {
    const [loupe, picture] = ['.dg-loupe', '.dg-picture'].map((name) => document.querySelector(name));
    const colour = (canvas, x, y) => [...canvas.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3);
    const middle = colour(loupe, loupe.width / 2, loupe.height / 2), there = colour(picture, x, y);
    return !loupe.hidden && middle.every((v, k) => Math.abs(v - there[k]) < 4);
}"""


def test_fingers(visit, seen):
    page = visit(390, 800, has_touch=True, is_mobile=True, device_scale_factor=3)
    status(page, "^Tap a point in the picture")
    page.touchscreen.tap(*at(page, (12, 13)))
    status(page, "^Now tap where point 1 should go\\. To hold it in place, tap it again")
    page.touchscreen.tap(*at(page, (50, 40)))
    assert points(seen.until(lambda s: s.pairs)) == [((12, 13), (50, 40))]
    # While a finger is down, a loupe above it shows what it covers.
    loupe, finger = page.locator(".dg-loupe"), Finger(page)
    finger.press(at(page, (20, 40)))
    expect(loupe).to_be_visible()
    assert loupe.bounding_box()["y"] + 116 < at(page, (20, 40))[1] - 20
    for xy in ((21, 40), (24, 44)):
        finger.move(at(page, xy))
    page.wait_for_function(MIDDLE, arg=[24, 44])
    finger.release()
    expect(loupe).to_be_hidden()
    seen.until(lambda s: len(s.pairs) == 2)
    page.keyboard.press("Backspace")
    seen.until(lambda s: len(s.pairs) == 1)
    # One finger draws and does not scroll the page.
    session = page.context.new_cdp_session(page)
    (x, y), (_, end) = at(page, (30, 10)), at(page, (30, 50))
    path = [[{"x": x, "y": y + (end - y) * k / 5}] for k in range(6)]
    for kind, touches in [("touchStart", path[0]), *(("touchMove", t) for t in path[1:]), ("touchEnd", [])]:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
    assert points(seen.until(lambda s: len(s.pairs) == 2))[1] == ((30, 10), (30, 50))
    assert page.evaluate("window.scrollY") == 0
    # Two fingers zoom the picture; they set no point, and so does the first tap after it.
    for kind, apart in [("touchStart", 20), *(("touchMove", d) for d in (40, 60, 80)), ("touchEnd", 0)]:
        touches = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}] if apart else []
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
    page.wait_for_function("Number(document.querySelector('.dg-stage').dataset.zoom) > 2")
    page.touchscreen.tap(*at(page, (30, 20)))
    page.touchscreen.tap(*at(page, (33, 14)))
    assert points(seen.until(lambda s: len(s.pairs) == 3))[2] == ((30, 20), (33, 14))


def test_points_close_beside_each_other_are_set_and_moved_apart_by_a_finger(visit, seen):
    """Sixteen pixels of the screen apart, as two lips are on a phone: less than a finger is wide."""
    page = visit(390, 844, has_touch=True, is_mobile=True, device_scale_factor=2)
    finger = Finger(page)

    def swipe(start, end):
        finger.press(at(page, start))
        finger.move(at(page, end))
        finger.release()

    assert 14 < at(page, (33, 30))[0] - at(page, (30, 30))[0] < 18
    for xy in ((30, 30), (30, 27), (30, 33), (30, 36)):
        page.touchscreen.tap(*at(page, xy))
    lips = [((30, 30), (30, 27)), ((30, 33), (30, 36))]
    assert points(seen.until(lambda s: len(s.pairs) == 2)) == lips
    status(page, r"^2 points set\. Press Start, or tap to add another\. Dots overlap: two fingers zoom in\.$")
    # Pulled out beside the others, and then taken, each by itself.
    swipe((33, 33), (40, 33))
    assert points(seen.until(lambda s: len(s.pairs) == 3)) == [*lips, ((33, 33), (40, 33))]
    swipe((33, 33), (50, 50))
    swipe((30, 36), (30, 60))
    moved = [lips[0], ((30, 33), (30, 60)), ((50, 50), (40, 33))]
    assert points(seen.until(lambda s: s.pairs[1].target == (30, 60))) == moved
    # A tap on a dot sets nothing; once nothing overlaps, nothing is said of it.
    page.touchscreen.tap(*at(page, (30, 30)))
    expect(page.locator(".dg-points li[data-selected]")).to_have_count(1)
    for _ in range(2):
        page.keyboard.press("+")
    status(page, r"^3 points set\. Press Start, or tap to add another\.$")


def test_two_deletes_in_one_tick_are_both_told(visit, seen):
    page = visit()
    for xy in ((10, 20), (40, 22), (10, 50), (40, 52), (10, 35), (40, 37)):
        click(page, xy)
    seen.until(lambda s: len(s.pairs) == 3)
    page.evaluate("() => { const b = document.querySelector('#dg-delete'); b.click(); b.click(); }")
    assert len(seen.until(lambda s: len(s.pairs) < 3).pairs) == 1
    status(page, "^1 point set")
    expect(page.locator(".dg-points li")).to_have_count(1)
