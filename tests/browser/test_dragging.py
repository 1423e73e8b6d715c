"""Drags, by Start and by hand."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.browser.driving import (
    PATIENCE,
    Finger,
    Mouse,
    at,
    brightest,
    click,
    creep,
    expect,
    frames,
    ink_at,
    needs_browser,
    points,
    pull,
    status,
)
from tests.marks import brightest_place
from tests.pages import BUMP

pytestmark = needs_browser


def test_a_whole_drag_arrives_is_undone_and_saved(visit, tmp_path):
    page = visit()
    assert brightest(page) == BUMP
    before = page.locator(".dg-stage").get_attribute("data-frames")
    click(page, BUMP)
    click(page, (30, 34))
    page.click("#dg-start")
    status(page, "^Arrived after [0-9]+ steps: the point is within 1 px of its target")
    x, y = brightest(page)
    assert abs(x - 30) <= 1
    assert abs(y - 34) <= 1
    page.wait_for_function(f"Number(document.querySelector('.dg-stage').dataset.frames) > {before}")
    # Before, held, shows the start; the slider any frame, and Use goes on from there.
    page.focus("#dg-before")
    page.keyboard.down("Enter")
    seen(page, BUMP)
    page.wait_for_timeout(500)  # or it would be a click
    page.keyboard.up("Enter")
    seen(page, (x, y))
    # Clicked, it stays until it is clicked again.
    page.click("#dg-before")
    seen(page, BUMP)
    expect(page.locator("#dg-before")).to_have_attribute("aria-pressed", "true")
    page.click("#dg-before")
    seen(page, (x, y))
    expect(page.locator("#dg-before")).to_have_attribute("aria-pressed", "false")
    film = page.locator(".dg-film input")
    film.focus()
    for _ in range(int(film.get_attribute("max")) // 2):
        page.keyboard.press("ArrowLeft")
    status(page, r"^Picture [0-9]+ of [0-9]+ on the way\. Use goes on from it")
    page.keyboard.press("Escape")
    status(page, "^Arrived after")
    page.keyboard.down("b")
    status(page, "^The original picture\\.$")
    page.keyboard.up("b")
    status(page, "^Arrived after")
    for _ in range(int(film.get_attribute("max")) // 2):
        page.keyboard.press("ArrowLeft")
    # The frames that the keys passed come before the one that is chosen.
    page.wait_for_function("(({ frame, peek }) => peek && frame === peek)(document.querySelector('.dg-stage').dataset)")
    between = brightest(page)
    assert BUMP[0] < between[0] < x
    page.click("#dg-go-on")
    status(page, "^Click a point")
    seen(page, between)
    page.click("#dg-undo")
    # It has arrived, and there is nothing left to start.
    status(page, "^Nothing is left to drag\\. Move a target")
    expect(page.locator("#dg-start")).to_be_disabled()
    seen(page, (x, y))
    with page.expect_download() as download:
        page.click("#dg-save")
    status(page, r"^Saved as bump-seed0-dragged\.png\.$")
    assert download.value.suggested_filename == "bump-seed0-dragged.png"
    download.value.save_as(tmp_path / "saved.png")
    # Saved twice as large; the small one opens again as its work.
    page.get_by_role("button", name="File options").click()
    page.get_by_label("2 x").check()
    with page.expect_download() as large:
        page.click("#dg-save")
    with Image.open(large.value.path()) as twice:
        assert twice.size == (128, 128)
    page.click("#dg-random")
    expect(page.locator("#dg-seed input")).not_to_have_value("0")
    page.set_input_files("#dg-opener input", tmp_path / "saved.png")
    status(page, r"^saved\.png is open again: the picture and 1 step to undo\.$")
    seen(page, (x, y))
    expect(page.locator("#dg-seed input")).to_have_value("0")
    page.evaluate(DROP, "holiday.png")
    status(page, r"^holiday\.png cannot be read as a picture")
    page.evaluate(DROP, "cats.pkl")
    status(page, r"^cats\.pkl is a model file; open it under “Open a model file”\.$")
    with Image.open(tmp_path / "saved.png") as saved:
        assert "AI-generated" in saved.text["Comment"]
        assert brightest_place(saved) == pytest.approx((x, y), abs=2)
    page.keyboard.press("Control+z")
    status(page, "1 point set")
    page.wait_for_function("document.querySelector('#dg-reset').disabled")
    expect(page.locator("#dg-redo")).to_be_enabled()
    seen(page, BUMP)


# A file that is dropped on the picture.
DROP = """(name) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array([137, 80, 78, 71, 1, 2, 3])], name));
    const event = new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true });
    document.querySelector('.dg-ink').dispatchEvent(event);
}"""


def seen(page, place) -> None:
    """Wait until the brightest place of the picture is there."""
    for _ in range(400):
        if max(abs(a - b) for a, b in zip(brightest(page), place, strict=True)) <= 1:
            return
        page.wait_for_timeout(50)
    raise AssertionError((brightest(page), place))


def test_the_picture_follows_the_pointer_and_undo_returns(visit):
    page = visit()
    page.click("[data-tool=pull]")
    page.mouse.move(*at(page, BUMP))
    page.mouse.down()
    for x in range(22, 41):
        page.mouse.move(*at(page, (x, 30)))
        page.wait_for_timeout(20)
    # It follows while the button is held, not only after.
    for _ in range(600):
        if abs(brightest(page)[0] - 40) <= 2:
            break
        page.wait_for_timeout(50)
    assert abs(brightest(page)[0] - 40) <= 2
    expect(page.locator("#dg-random")).to_have_css("pointer-events", "none")
    page.keyboard.press("Control+z")
    page.mouse.up()
    status(page, "^Arrived")
    expect(page.locator("#dg-random")).to_have_css("pointer-events", "auto")
    assert abs(brightest(page)[0] - 40) <= 1
    # Again from there, without moving first; a release outside the picture ends it as well.
    pull(page, (40, 30), (40, 44))
    # The sentence is the same as after the first pull: it says nothing about this one.
    for _ in range(600):
        if abs(brightest(page)[1] - 44) <= 2:
            break
        page.wait_for_timeout(50)
    page.wait_for_function("!document.querySelector('.dg-stage').classList.contains('dg-busy')")
    x, y = brightest(page)
    assert abs(x - 40) <= 2
    assert abs(y - 44) <= 2
    with page.expect_download() as download:
        page.click("#dg-film")
    assert download.value.suggested_filename == "bump-seed0-dragged.mp4"
    for _ in range(2):
        before = frames(page)
        page.click("#dg-undo")
        # Its answer, or the next click would come too early.
        page.wait_for_function(f"document.querySelector('.dg-stage').dataset.frames > {before}")
    expect(page.locator("#dg-reset")).to_be_disabled()
    seen(page, BUMP)


@pytest.mark.parametrize(("finger", "theme"), [(False, "light"), (True, "dark")])
def test_beyond_what_the_model_can_do_the_dot_stays_on_the_content_and_a_line_leads_to_the_pointer(
    visit, models, monkeypatch, finger, theme
):
    first, *others = models.listed()
    quick = replace(first, settings={"solver": "gauss-newton"})
    monkeypatch.setattr(models, "listed", lambda: [quick, *others])
    monkeypatch.setattr(models.load("bump"), "curtain", 40.0)
    page = visit(query=f"?__theme={theme}", has_touch=finger)
    page.click("[data-tool=pull]")
    hand = Finger(page) if finger else Mouse(page)
    hand.press(at(page, BUMP))
    for x in range(22, 51, 4):
        hand.move(at(page, (x, 30)))
        page.wait_for_timeout(30)
    page.wait_for_function("document.querySelector('.dg-stage').dataset.taut === 'true'")
    status(page, r"^As far as it goes: further on, what you hold could no longer be followed\.$")
    ((x, y),) = json.loads(page.locator(".dg-stage").get_attribute("data-handles"))
    bright = brightest(page)
    assert abs(x - bright[0]) <= 3
    assert abs(y - bright[1]) <= 1.5
    assert 33 < x < 40
    page.wait_for_timeout(100)
    red, green, blue, _ = ink_at(page, (x, y))
    assert red > 200 > 100 > max(green, blue), "the dot is on the content"
    line = [ink_at(page, (x + share * (50 - x), y)) for share in np.linspace(0.3, 0.7, 60)]
    amber = [c for c in line if c[3] > 200 and c[0] > 220 and c[2] < 110]
    assert 5 < len(amber) < 50, "the line to the pointer is amber, and broken: it is told without colour too"
    hand.move(at(page, (24, 30)))
    page.wait_for_function("document.querySelector('.dg-stage').dataset.taut === 'false'")
    status(page, "^The picture follows your hand")
    hand.move(at(page, (60, 30)))
    hand.release()
    status(page, r"[0-9]+ % of the way, [0-9.]+ px to go\. Undo takes you back\.$")
    assert abs(brightest(page)[0] - x) <= 3


@pytest.fixture
def stuck(models, monkeypatch):
    """While it is set, no step ends."""
    waits, bump = threading.Event(), models.load("bump")
    features = bump.features

    def slowly(*arguments):
        while waits.is_set():
            time.sleep(0.02)
        return features(*arguments)

    monkeypatch.setattr(bump, "features", slowly)
    yield waits
    waits.clear()


def test_while_no_picture_comes_nobody_is_told_that_it_follows(visit, stuck):
    page, late = visit(), "^Catching up with your hand: pictures take a while just now"
    page.click("[data-tool=pull]")
    page.mouse.move(*at(page, BUMP))
    page.mouse.down()
    page.mouse.move(*at(page, (26, 30)))
    status(page, "^The picture follows your hand")
    there = "Math.abs(JSON.parse(document.querySelector('.dg-stage').dataset.handles ?? 'null')?.[0]?.[0] - 26) < 1"
    page.wait_for_function(there)
    # Nothing is owed to a pointer that rests where the content is.
    stuck.set()
    page.wait_for_timeout(2500)
    status(page, "^The picture follows your hand")
    began = time.monotonic()
    page.mouse.move(*at(page, (40, 30)))
    status(page, late)
    assert time.monotonic() - began < 10
    expect(page.locator(".dg-status")).to_have_attribute("data-kind", "run")
    stuck.clear()
    status(page, "^The picture follows your hand")
    stuck.set()
    page.mouse.move(*at(page, (50, 40)))
    status(page, late)
    page.mouse.up()
    status(page, "^Catching up: pictures take a while just now. Stop or Esc stops it where it is")
    stuck.clear()
    status(page, "^Arrived")


def test_where_the_picture_rests_short_of_the_pointer_none_is_waited_for(visit, models, monkeypatch):
    first, *others = models.listed()
    quick = replace(first, settings={"solver": "gauss-newton"})
    monkeypatch.setattr(models, "listed", lambda: [quick, *others])
    monkeypatch.setattr(models.load("bump"), "curtain", 40.0)
    page = visit()
    page.click("[data-tool=pull]")
    page.mouse.move(*at(page, BUMP))
    page.mouse.down()
    page.mouse.move(*at(page, (50, 30)), steps=10)
    status(page, "^As far as it goes")
    page.wait_for_timeout(3000)
    status(page, "^As far as it goes")
    page.mouse.up()


def test_a_point_that_is_set_can_be_pulled_and_stays(visit, seen):
    page = visit()
    click(page, BUMP)
    click(page, (26, 30))
    page.click("[data-tool=pull]")
    pull(page, (26, 30), (32, 36))
    page.wait_for_function("document.querySelector('.dg-stage').dataset.frames > 2")
    status(page, "^Arrived")
    x, y = brightest(page)
    assert abs(x - 32) <= 1.5
    assert abs(y - 36) <= 1.5
    page.click("[data-tool=points]")
    click(page, (5, 5))
    ((handle, target),) = points(seen.until(lambda session: session.pending is not None))
    assert np.abs(np.array(target) - (32, 36)).max() < 0.2
    assert np.abs(np.array(handle) - (32, 36)).max() < 1.5


def test_pressed_twice_before_the_server_has_answered_nothing_is_held(visit, engine, monkeypatch):
    page, begun = visit(), threading.Event()

    def slowly(*arguments, **more):
        time.sleep(0.5)
        begun.set()
        return live(*arguments, **more)

    live = engine.live
    monkeypatch.setattr(engine, "live", slowly)
    page.click("[data-tool=pull]")
    page.mouse.dblclick(*at(page, BUMP))
    # That the picture follows is said for a moment only, or not at all.
    assert begun.wait(PATIENCE / 1000)
    page.wait_for_timeout(1000)
    # Long before a pointer that says nothing is taken for lost.
    expect(page.locator(".dg-stage")).not_to_have_class(re.compile("dg-busy"), timeout=10_000)


def test_stop_then_start_goes_on_and_nothing_can_be_edited_meanwhile(visit, seen):
    page = visit()
    creep(page)
    click(page, BUMP)
    click(page, (60, 60))
    page.click("#dg-start")
    status(page, r"^Step [0-9]+ · [0-9.]+ px to go · [0-9.]+ steps/s$")
    expect(page.locator(".dg-status")).to_have_attribute("aria-live", "off")
    expect(page.locator("#dg-start")).to_be_disabled()
    expect(page.locator("[data-tool=mask]")).to_be_disabled()
    click(page, (5, 5))
    page.keyboard.press("Backspace")
    page.click("#dg-stop")
    status(page, r"^Stopped after [0-9]+ steps?, [0-9.]+ px to go\. Press Start to continue; Undo takes you back\.$")
    expect(page.locator(".dg-status")).to_have_attribute("aria-live", "polite")
    page.click("#dg-start")
    status(page, "^Step ")
    page.keyboard.press("Escape")
    status(page, "^Stopped after ")
    assert len(seen.sessions[-1].pairs) == 1
    assert seen.sessions[-1].pending is None


def test_two_tabs_drag_at_once_and_a_closed_one_ends(visit, engine):
    one, two = visit(), visit()
    for page in (one, two):
        creep(page)
        click(page, BUMP)
        click(page, (60, 60))
    for page in (one, two):
        page.click("#dg-start")
    for page in (one, two):
        status(page, "^Step ")
    assert len(engine._running) == 2
    one.click("#dg-stop")
    status(one, "^Stopped after ")
    status(two, "^Step ")
    assert len(engine._running) == 1
    two.close()
    deadline = time.monotonic() + PATIENCE / 1000
    while engine._running:
        assert time.monotonic() < deadline, "the drag of a closed tab still runs"
        time.sleep(0.1)


def test_a_slip_after_a_drag_is_undone(visit):
    page = visit()
    page.get_by_role("button", name="Right", exact=True).click()
    status(page, "^Right: press Start")
    page.click("#dg-start")
    status(page, "^Arrived after ")
    there = brightest(page)
    assert abs(there[0] - 26) <= 1
    for slip in ("#dg-random", "#dg-preset-1"):
        before = frames(page)
        page.click(slip)
        page.wait_for_function(f"document.querySelector('.dg-stage').dataset.frames > {before}")
        page.click("#dg-undo")
        status(page, "^Nothing is left to drag")
        page.wait_for_function(f"document.querySelector('.dg-stage').dataset.frames > {before + 1}")
        assert brightest(page) == there
        expect(page.locator("#dg-seed input")).to_have_value("0")
