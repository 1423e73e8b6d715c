"""Everything can be seen, read and reached."""

from __future__ import annotations

import pytest

from draggan.errors import LimitError
from tests.browser.driving import Page, click, creep, expect, needs_browser, status
from tests.pages import BUMP

pytestmark = needs_browser


def apart(page: Page, one: str, other: str) -> bool:
    """Whether two parts of the page cover nothing of each other."""
    a, b = (page.locator(part).bounding_box() for part in (one, other))
    beside = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
    return beside or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]


def box(page: Page, part: str) -> dict[str, float]:
    return page.locator(part).bounding_box()


def test_what_is_said_moves_nothing_and_start_waits_for_something_to_start(visit):
    page = visit()
    expect(page.locator("#dg-start")).to_be_disabled()
    place = box(page, "#dg-start")
    click(page, BUMP)
    status(page, "^Now click where point 1 should go")
    expect(page.locator("#dg-start")).to_be_disabled()
    click(page, (30, 34))
    expect(page.locator("#dg-start")).to_be_enabled()
    page.click("#dg-start")
    status(page, "^Arrived")
    assert box(page, "#dg-start") == place
    said = "The longest sentence there is. " * 12
    page.evaluate("(text) => { document.querySelector('.dg-status').textContent = text; }", said)
    assert box(page, "#dg-start") == place
    page.evaluate("document.querySelector('.dg-status').textContent = ''")
    assert box(page, "#dg-start") == place


def test_an_error_is_said_once_and_covers_nothing(visit, engine, monkeypatch):
    page = visit()
    click(page, BUMP)
    click(page, (30, 34))

    def refuse(*args, **more):
        raise LimitError("too many drags run here; try again in a minute")

    monkeypatch.setattr(engine, "drag", refuse)
    page.click("#dg-start")
    expect(page.get_by_text("Too many drags run here; try again in a minute.")).to_have_count(1)
    for part in ("#dg-model", "#dg-seed-row", "#dg-canvas", "#dg-start", "#dg-stop", "#dg-undo"):
        assert apart(page, ".toast-body", part), part
    expect(page.locator("#dg-start")).to_be_enabled()


SIZES = [(1440, 900), (1366, 768), (1280, 720), (1024, 768), (820, 1180), (390, 844), (844, 390)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_picture_tools_undo_and_start_are_in_the_window(visit, width, height):
    page = visit(width, height, has_touch=width < 900)
    for part in (".dg-tools", ".dg-stage", "#dg-undo", "#dg-redo", "#dg-reset", "#dg-start", "#dg-stop", ".dg-status"):
        there = box(page, part)
        assert there["x"] >= 0, part
        assert there["y"] >= 0, part
        assert there["x"] + there["width"] <= width, part
        assert there["y"] + there["height"] <= height, part
    assert box(page, ".dg-stage")["width"] >= min(340, 0.42 * width)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    labels = page.locator("#dg-left button:visible, #dg-saves button")
    sticks_out = "(all) => all.filter((b) => b.scrollWidth > b.clientWidth).map((b) => b.textContent)"
    assert labels.evaluate_all(sticks_out) == [], "its words fit"
    if width < 900:
        # An example is chosen further down: the picture comes back into sight, or has never left it.
        page.locator("#dg-preset-0").scroll_into_view_if_needed()
        page.locator("#dg-preset-0").tap()
        status(page, "^Right")
        page.wait_for_function(SIGHT)
        page.evaluate("window.scrollTo(0, 0)")
        page.locator("button[data-tool=mask]").tap()
        expect(page.locator("button[data-tool=mask]")).to_have_css("background-color", CHOSEN)
        expect(page.locator(".dg-brush")).to_contain_text("Brush")
        expect(page.locator(".dg-brush span")).to_be_visible()
    if width > 900:
        page.click(".dg-expert summary")
        page.mouse.move(width - 200, height - 100)
        page.mouse.wheel(0, 600)
        page.wait_for_function("window.scrollY > 200")
        assert box(page, ".dg-stage")["y"] >= 0, "the picture stays while settings are tried"


SIGHT = """() => {
    const { top, bottom } = document.querySelector('.dg-picture').getBoundingClientRect();
    return top >= 0 && bottom <= window.innerHeight;
}"""
CHOSEN = "rgb(79, 70, 229)"  # of a tool, also under the pointer that has chosen it


@pytest.mark.parametrize("width", [1280, 760, 380])
def test_tools_do_not_move_the_picture(visit, width):
    page = visit(width, 900)
    place = page.locator(".dg-picture").bounding_box()
    for tool in ("mask", "erase", "points"):
        page.click(f"[data-tool={tool}]")
        assert page.locator(".dg-picture").bounding_box() == place
        assert page.locator(".dg-brush").is_visible() is (tool != "points")


def test_a_button_that_does_nothing_does_not_look_as_if(visit):
    page = visit()
    stop = page.locator("#dg-stop")
    resting = stop.evaluate("(button) => getComputedStyle(button).backgroundColor")
    creep(page)
    click(page, BUMP)
    click(page, (60, 60))
    page.click("#dg-start")
    status(page, "^Step ")
    expect(stop).not_to_have_css("background-color", resting)  # waits: the colour changes slowly, and after the words
    page.click("#dg-stop")
    status(page, "^Stopped after ")
    expect(stop).to_be_disabled()
    expect(stop).to_have_css("background-color", resting)


@pytest.mark.parametrize(("width", "query"), [(390, ""), (1280, "?__theme=dark")])
def test_nothing_sticks_out_and_everything_can_be_read(visit, width, query):
    page = visit(width, 800, query)
    page.click("#dg-preset-0")
    expect(page.locator("#dg-start")).to_be_enabled()
    page.wait_for_timeout(500)  # until its colours have changed
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    contrast = page.evaluate(CONTRAST)
    assert contrast, "nothing was measured"
    assert {what: ratio for what, ratio in contrast.items() if ratio < 4.5} == {}
    footer = "Settings" if width < 640 else "Use via API · Settings"
    assert page.locator("footer").inner_text().split() == footer.split()
    for button in page.locator("#dg-saves button").all():
        assert button.evaluate("(b) => b.scrollWidth <= b.clientWidth"), "its words fit"


def test_a_film_of_the_page_in_use_comes_when_it_is_asked_for(visit):
    page = visit()
    page.get_by_role("button", name="Help").click()
    watch, film = page.locator("#dg-help-film button"), page.locator("#dg-help-film img")
    expect(film).to_be_hidden()
    watch.click()
    page.wait_for_function("document.querySelector('#dg-help-film img').naturalWidth > 100")
    expect(film).to_be_visible()
    watch.click()
    expect(film).to_be_hidden()


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


SMALL = """() => {
    const around = '#dg-left button, .dg-brush input, .dg-film input, #dg-saves button, #dg-notice button';
    const buttons = '#dg-presets button, .dg-starts-head button, .dg-recommended button, .dg-points .dg-away';
    const settings = '#dg-seed input, #dg-truncation :is(.reset-button, input[type=number]), #dg-reset-settings';
    const seen = [...document.querySelectorAll(`${around}, ${buttons}, ${settings}`)];
    return seen.map((part) => [part, part.getBoundingClientRect().height])
        .filter(([, height]) => height && height < 40)
        .map(([part, height]) => `${part.id || part.className || part.textContent} ${height}`);
}"""


@pytest.mark.parametrize(("width", "height"), [(360, 640), (360, 740), (390, 844), (844, 390), (1024, 768)])
def test_fingers_find_what_they_press(visit, width, height):
    page = visit(width, height, has_touch=True, is_mobile=True)
    page.locator(".dg-expert summary").tap()
    page.evaluate("window.scrollTo(0, 0)")
    for tool in ("mask", "points"):
        page.locator(f"button[data-tool={tool}]").tap()
        assert page.evaluate(SMALL) == [], tool
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for part in ("#dg-undo", ".dg-tools", ".dg-stage", ".dg-bar-below", "#dg-start", "#dg-status .dg-status"):
        there = box(page, part)
        assert there["y"] >= 0, part
        assert there["y"] + there["height"] <= height, "what is higher for fingers pushes nothing out of sight"
    reset, around = (box(page, f"#dg-truncation {part}") for part in (".reset-button", ".tab-like-container"))
    assert around["y"] <= reset["y"] + 1
    assert reset["y"] + reset["height"] <= around["y"] + around["height"] + 2, "nothing of it is cut off"
    words = page.locator(".dg-open").first
    assert words.evaluate("(part) => part.scrollWidth <= part.clientWidth")


def test_what_ends_the_page_ends_where_its_columns_do(visit):
    for size in ((1280, 800), (1440, 900), (1920, 1080)):
        page = visit(*size)
        right, foot = (box(page, part) for part in ("#dg-right", "#dg-foot .dg-terms-link"))
        assert foot["x"] + foot["width"] == pytest.approx(right["x"] + right["width"], abs=2), size
