"""The whole page in a real Chromium: what a person does with mouse, keys and fingers, and what they see."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from draggan.session import Session
from draggan.ui import build, launch_options
from draggan.ui import page as page_module
from draggan.ui.canvas.value import canvas_value, with_canvas
from draggan.ui.handlers import dragging, editing
from draggan.ui.handlers import models as choosing
from tests.pages import BUMP, TinyModels

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect, Page = sync_api.expect, sync_api.Page

CHROMIUM = os.environ.get("DRAGGAN_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 30_000  # ms

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here; install one or set DRAGGAN_CHROMIUM"),
]


class Seen:
    """The sessions that the page's handlers made of what the canvas sent, the newest last."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []

    def __call__(self, session, value):
        self.sessions.append(with_canvas(session, value))
        return self.sessions[-1]

    def until(self, what) -> Session:
        """Wait for a newest session of which that is true."""
        deadline = time.monotonic() + PATIENCE / 1000
        while not (self.sessions and what(self.sessions[-1])):
            assert time.monotonic() < deadline, [canvas_value(s) for s in self.sessions[-3:]]
            time.sleep(0.02)
        return self.sessions[-1]


@pytest.fixture
def seen(monkeypatch) -> Seen:
    recorder = Seen()
    for module in (page_module, editing):
        monkeypatch.setattr(module, "with_canvas", recorder)
    return recorder


@pytest.fixture(scope="module")
def models() -> TinyModels:
    return TinyModels()


@pytest.fixture(scope="module")
def served(models) -> Iterator[str]:
    demo = build(models, drags=3, local=True)
    _, url, _ = demo.launch(
        prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", ssr_mode=False, **launch_options()
    )
    yield url
    demo.close()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, served):
    """Open the page in a tab of its own; at the end nothing may have gone wrong there, nor left this machine."""
    contexts, wrong = [], []

    def open_page(width: int = 1280, height: int = 900, query: str = "", **kwargs) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **kwargs)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: wrong.append(f"error {error}"))
        page.on("console", lambda line: wrong.append(f"console {line.text}") if line.type == "error" else None)
        page.on(
            "request",
            lambda r: None if r.url.startswith((served, "data:", "blob:")) else wrong.append(f"request {r.url}"),
        )
        page.goto(served + query)
        page.wait_for_function("document.querySelector('.dg-stage')?.dataset.frames")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def at(page: Page, xy: tuple[float, float], size: tuple[int, int] = (64, 64)) -> tuple[float, float]:
    """Where on the screen the middle of a pixel is."""
    box = page.locator(".dg-picture").bounding_box()
    return box["x"] + (xy[0] + 0.5) * box["width"] / size[0], box["y"] + (xy[1] + 0.5) * box["height"] / size[1]


def click(page: Page, xy, size=(64, 64)) -> None:
    page.mouse.click(*at(page, xy, size))


def pull(page: Page, start, end, size=(64, 64)) -> None:
    page.mouse.move(*at(page, start, size))
    page.mouse.down()
    page.mouse.move(*at(page, end, size), steps=6)
    page.mouse.up()


def status(page: Page, pattern: str) -> None:
    expect(page.locator(".dg-status")).to_have_text(re.compile(pattern), timeout=PATIENCE)


def brightest(page: Page) -> tuple[int, int]:
    """The brightest pixel of the picture as it is on the screen."""
    x, y = page.evaluate(
        """() => {
            const c = document.querySelector('.dg-picture');
            const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            const sum = (i) => d[i] + d[i + 1] + d[i + 2];
            let best = 0;
            for (let i = 0; i < d.length; i += 4) if (sum(i) > sum(best)) best = i;
            return [best / 4 % c.width, Math.floor(best / 4 / c.width)];
        }"""
    )
    return x, y


def points(session: Session) -> list:
    return [(pair.handle, pair.target) for pair in session.pairs]


def creep(page: Page) -> None:
    """Set a step size with which a long drag creeps for seconds, without counting as stalled."""
    page.get_by_role("button", name="Advanced").click()
    page.fill("#dg-step-size input", "0.0002")
    page.fill("#dg-max-steps input", "10000")
    page.locator("#dg-max-steps input").blur()


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
    status(page, "Click a point of the picture")
    # Typing is not a shortcut.
    page.focus("#dg-seed input")
    page.keyboard.press("Backspace")
    assert page.locator("#dg-undo").is_enabled()


def test_a_whole_drag_arrives_is_undone_and_saved(visit, tmp_path):
    page = visit()
    assert brightest(page) == BUMP
    before = page.locator(".dg-stage").get_attribute("data-frames")
    click(page, BUMP)
    click(page, (30, 34))
    page.click("#dg-start")
    status(page, "^Arrived after [0-9]+ steps: the handle is within 1 px of its target")
    x, y = brightest(page)
    assert abs(x - 30) <= 1
    assert abs(y - 34) <= 1
    assert int(page.locator(".dg-stage").get_attribute("data-frames")) > int(before)
    with page.expect_download() as download:
        page.click("#dg-save")
    assert download.value.suggested_filename == "bump-seed0-dragged.png"
    download.value.save_as(tmp_path / "saved.png")
    with Image.open(tmp_path / "saved.png") as saved:
        assert "AI-generated" in saved.text["Comment"]
        pixels = np.asarray(saved).astype(int).sum(-1)
        assert np.unravel_index(pixels.argmax(), pixels.shape) == (y, x)
    page.keyboard.press("Control+z")
    status(page, "1 point set")
    page.wait_for_function("document.querySelector('#dg-reset').disabled")
    expect(page.locator("#dg-redo")).to_be_enabled()
    for _ in range(100):
        if brightest(page) == BUMP:
            break
        time.sleep(0.02)
    assert brightest(page) == BUMP


def test_of_quick_clicks_every_one_counts(visit, monkeypatch):
    page = visit()

    def slowly(session, value):
        time.sleep(0.4)
        return with_canvas(session, value)

    for module in (page_module, editing):
        monkeypatch.setattr(module, "with_canvas", slowly)
    for xy in ((5, 5), (9, 9), (30, 30), (40, 40)):
        click(page, xy)
    # Before an answer to any of them.
    status(page, "^2 points set")
    twice = "(id) => { const b = document.querySelector(id); b.click(); b.click(); }"
    # Each edit that was told of is a step: the first click, and the others together.
    page.evaluate(twice, "#dg-undo")
    status(page, "^Click a point of the picture")
    expect(page.locator("#dg-undo")).to_be_disabled()
    page.evaluate(twice, "#dg-redo")
    status(page, "^2 points set")
    page.evaluate(twice, "#dg-remove-last")
    status(page, "^Click a point of the picture")


def test_a_setting_that_was_chosen_outlives_another_picture(visit):
    page = visit()
    page.get_by_role("button", name="Advanced").click()
    page.get_by_label("Second order").check()
    page.click("#dg-random")
    expect(page.locator("#dg-seed input")).not_to_have_value("0")
    page.wait_for_timeout(300)
    assert page.get_by_label("Second order").is_checked()
    page.get_by_role("button", name="Right", exact=True).click()
    status(page, "^Right: press Start")
    page.wait_for_timeout(300)
    assert page.get_by_label("Second order").is_checked()


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
    assert page.evaluate("getComputedStyle(document.querySelector('#dg-random')).pointerEvents") == "none"
    page.keyboard.press("Control+z")
    page.mouse.up()
    status(page, "^There it is")
    assert page.evaluate("getComputedStyle(document.querySelector('#dg-random')).pointerEvents") != "none"
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
        page.click("#dg-gif")
    assert download.value.suggested_filename == "bump-seed0-dragged.gif"
    for _ in range(2):
        page.click("#dg-undo")
        page.wait_for_timeout(300)
    expect(page.locator("#dg-reset")).to_be_disabled()
    for _ in range(100):
        if brightest(page) == BUMP:
            break
        page.wait_for_timeout(50)
    assert brightest(page) == BUMP


def test_pressed_twice_before_the_server_has_answered_nothing_is_held(visit, monkeypatch):
    page, begun = visit(), threading.Event()

    def slowly(*arguments):
        time.sleep(0.5)
        begun.set()
        return begin_pull(*arguments)

    begin_pull = dragging.begin_pull
    monkeypatch.setattr(dragging, "begin_pull", slowly)
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
    assert page.locator("#dg-start").is_disabled()
    assert page.locator("[data-tool=mask]").is_disabled()
    click(page, (5, 5))
    page.keyboard.press("Backspace")
    page.click("#dg-stop")
    status(page, r"^Stopped after [0-9]+ steps?, [0-9.]+ px to go\. Start goes on from here; Undo takes you back\.$")
    expect(page.locator(".dg-status")).to_have_attribute("aria-live", "polite")
    page.click("#dg-start")
    status(page, "^Step ")
    page.keyboard.press("Escape")
    status(page, "^Stopped after ")
    assert len(seen.sessions[-1].pairs) == 1
    assert seen.sessions[-1].pending is None


def test_two_tabs_drag_at_once_and_a_closed_one_ends(visit):
    one, two = visit(), visit()
    for page in (one, two):
        creep(page)
        click(page, BUMP)
        click(page, (60, 60))
    for page in (one, two):
        page.click("#dg-start")
    for page in (one, two):
        status(page, "^Step ")
    assert running() == 2
    one.click("#dg-stop")
    status(one, "^Stopped after ")
    status(two, "^Step ")
    assert running() == 1
    two.close()
    deadline = time.monotonic() + PATIENCE / 1000
    while running():
        assert time.monotonic() < deadline, "the drag of a closed tab still runs"
        time.sleep(0.1)


def running() -> int:
    return sum(thread.name == "drag" for thread in threading.enumerate())


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
    status(page, "^Click a point of the picture, then where it should go. Or choose Live and pull.$")


def test_models_classes_and_seeds(visit):
    page = visit()
    assert not page.locator("#dg-class").is_visible()
    page.click("#dg-model input")
    page.get_by_role("option", name="Three classes").click()
    expect(page.locator("#dg-class")).to_be_visible()
    page.wait_for_function("document.querySelector('.dg-picture').width === 16")
    box = page.locator(".dg-picture").bounding_box()
    assert box["height"] / box["width"] == pytest.approx(2, rel=0.01)
    frames = page.locator(".dg-stage").get_attribute("data-frames")
    page.click("#dg-random")
    page.wait_for_function(f"document.querySelector('.dg-stage').dataset.frames > {frames}")
    assert page.locator("#dg-seed input").input_value() != "0"


def test_what_was_chosen_last_is_shown_though_the_first_is_still_loading(visit, monkeypatch):
    page, loaded = visit(), threading.Event()

    def slowly(models, model, *arguments, **more):
        if model == "tiny":
            assert loaded.wait(PATIENCE / 1000)
        return first_session(models, model, *arguments, **more)

    first_session = choosing.first_session
    monkeypatch.setattr(choosing, "first_session", slowly)
    for title in ("Tiny", "Three classes"):
        page.click("#dg-model input")
        page.get_by_role("option", name=title).click()
    loaded.set()
    page.wait_for_function("document.querySelector('.dg-picture').width === 16")
    expect(page.locator("#dg-model input")).to_have_value("Three classes")


def test_a_download_asks_shows_a_bar_and_can_be_cancelled(visit, models):
    models.forget()
    page = visit()
    page.click("#dg-model input")
    page.get_by_role("option", name="Far away · to download").click()
    expect(page.locator("#dg-terms")).to_contain_text("Size: 2.5 MB")
    expect(page.locator("#dg-terms")).to_contain_text("CC0")
    page.click("#dg-download")
    expect(page.locator("#dg-bar")).to_contain_text("1 of 2.5 MB")
    assert page.locator(".dg-bar div").bounding_box()["width"] > 20
    page.click("#dg-not-now")
    status(page, "cancelled")
    models.more.set()
    page.click("#dg-download")
    page.wait_for_function("document.querySelector('.dg-picture').width === 32")
    expect(page.locator("#dg-offer >> visible=true")).to_have_count(0)
    assert page.input_value("#dg-model input") == "Far away"


def test_a_file_is_opened_by_upload_and_by_path(visit, tmp_path):
    page = visit()
    page.get_by_role("button", name="Open a model file").click()
    with page.expect_file_chooser() as chooser:
        page.click("#dg-upload")
    (tmp_path / "mine.safetensors").write_bytes(b"weights")
    chooser.value.set_files(tmp_path / "mine.safetensors")
    page.wait_for_function("document.querySelector('.dg-picture').width === 16")
    assert page.input_value("#dg-model input") == "mine.safetensors"
    # The opened model is one of this tab's list: its pictures can be chosen, dragged and left again.
    page.click("#dg-model input")
    page.get_by_role("option", name="A bump").click()
    page.wait_for_function("document.querySelector('.dg-picture').width === 64")
    page.click("#dg-model input")
    page.get_by_role("option", name="mine.safetensors").click()
    page.wait_for_function("document.querySelector('.dg-picture').width === 16")
    page.fill("#dg-path textarea, #dg-path input", "/nowhere/notes.txt")
    page.keyboard.press("Enter")
    status(page, "^notes.txt is not a model file.$")


def apart(page: Page, one: str, other: str) -> bool:
    """Whether two parts of the page cover nothing of each other."""
    a, b = (page.locator(part).bounding_box() for part in (one, other))
    beside = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
    return beside or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]


def test_an_error_is_a_sentence_on_the_page_that_covers_nothing(visit):
    page = visit()
    page.click("#dg-start")
    expect(page.get_by_text("There is nothing to drag yet; click a point of the picture")).to_be_visible()
    for part in ("#dg-model", "#dg-seed-row", "#dg-canvas", "#dg-start", "#dg-stop", "#dg-undo"):
        assert apart(page, ".toast-body", part), part
    assert page.locator("#dg-start").is_enabled()


def test_a_wrong_number_is_explained_once_and_put_right(visit):
    page = visit()
    page.fill("#dg-seed input", "1.5")
    page.keyboard.press("Enter")
    status(page, "^Seed 1.5 is not allowed; give a whole number from 0 to 4294967295.$")
    expect(page.locator("#dg-seed input")).to_have_value("0")
    expect(page.get_by_test_id("toast-text")).to_have_count(1)
    page.get_by_test_id("toast-close").click()
    page.get_by_role("button", name="Advanced").click()
    page.fill("#dg-r1 input", "-4")
    page.keyboard.press("Enter")
    status(page, r"^Pulled radius \(r1\) -4 is not allowed; give a number from 0 to 64.$")
    expect(page.locator("#dg-r1 input")).to_have_value("3")
    expect(page.get_by_test_id("toast-text")).to_have_count(1)


def frames(page: Page) -> int:
    return int(page.locator(".dg-stage").get_attribute("data-frames"))


def test_a_seed_is_shown_when_it_is_whole_and_truncation_with_every_key(visit, seen):
    page = visit()
    before = frames(page)
    page.locator("#dg-truncation input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"document.querySelector('.dg-stage').dataset.frames > {before}")
    before = frames(page)
    page.locator("#dg-truncation button").click()
    page.wait_for_function(f"document.querySelector('.dg-stage').dataset.frames > {before}")
    page.locator("#dg-truncation input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"document.querySelector('.dg-stage').dataset.frames > {before + 1}")
    before = frames(page)
    page.fill("#dg-seed input", "")
    page.locator("#dg-seed input").press_sequentially("123")
    page.wait_for_timeout(300)
    assert frames(page) == before, "half a seed is no seed"
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelector('.dg-stage').dataset.frames > {before}")
    click(page, BUMP)
    session = seen.until(lambda s: s.pending is not None)
    assert (session.seed, session.truncation) == (123, 0.05)
    status(page, "^Now click")
    page.click("#dg-undo")
    status(page, "^Click a point")
    page.click("#dg-undo")
    expect(page.locator("#dg-seed input")).to_have_value("0")
    expect(page.locator("#dg-truncation input[type=range]")).to_have_value("0.05")
    page.click("#dg-undo")
    expect(page.locator("#dg-truncation input[type=range]")).to_have_value("0")


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
        status(page, "^1 point set")
        page.wait_for_function(f"document.querySelector('.dg-stage').dataset.frames > {before + 1}")
        assert brightest(page) == there
        expect(page.locator("#dg-seed input")).to_have_value("0")


@pytest.mark.parametrize("width", [1280, 760, 380])
def test_tools_do_not_move_the_picture(visit, width):
    page = visit(width, 900)
    place = page.locator(".dg-picture").bounding_box()
    for tool in ("mask", "erase", "points"):
        page.click(f"[data-tool={tool}]")
        assert page.locator(".dg-picture").bounding_box() == place
        assert page.locator(".dg-brush").is_visible() is (tool != "points")


def test_what_is_offered_by_hand_can_be_closed_and_the_list_is_right_again(visit):
    page = visit()
    page.click("#dg-model input")
    page.get_by_role("option", name="By hand").click()
    expect(page.locator("#dg-terms")).to_contain_text("Get it from a friend.")
    page.click("#dg-not-now")
    expect(page.locator("#dg-model input")).to_have_value("A bump")


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


def test_only_model_files_are_offered_for_upload(visit):
    page = visit()
    page.get_by_role("button", name="Open a model file").click()
    expect(page.locator("#dg-right input[type=file]")).to_have_attribute("accept", re.compile(r"\.safetensors"))


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
