"""The history as a strip of pictures, with branches."""

from __future__ import annotations

import time

from tests.browser.driving import PATIENCE, Page, brightest, click, expect, needs_browser, status
from tests.pages import BUMP

pytestmark = needs_browser


def drag_to(page: Page, start, end) -> None:
    page.keyboard.press("Escape")
    click(page, start)
    status(page, "^Now click where")
    click(page, end)
    status(page, "set\\. Press Start")
    page.click("#dg-start")
    status(page, "^Arrived")


def shows(page: Page, xy) -> None:
    page.wait_for_timeout(100)
    for _ in range(400):
        there = brightest(page)
        if abs(there[0] - xy[0]) <= 2 and abs(there[1] - xy[1]) <= 2:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{there} is not {xy}")


def test_every_picture_can_be_gone_to_also_on_a_way_that_was_left(visit):
    page = visit()
    pictures = page.locator(".dg-story li > button:first-child")
    expect(pictures).to_have_count(1)
    drag_to(page, BUMP, (28, 30))
    expect(pictures).to_have_count(2)
    expect(page.locator(".dg-story img")).to_have_count(2)
    page.click("#dg-undo")
    shows(page, BUMP)
    expect(page.locator(".dg-story [data-kind=ahead]")).to_have_count(1)
    page.click("#dg-clear-points")
    status(page, "^Click a point in the picture")
    drag_to(page, BUMP, (20, 38))
    expect(pictures).to_have_count(3)
    other_way = page.locator(".dg-story [data-kind=branch]")
    expect(other_way).to_have_count(1)
    other_way.click()
    shows(page, (28, 30))
    expect(page.locator(".dg-story [data-kind=branch]")).to_have_count(0)
    expect(page.locator(".dg-story [aria-current]")).to_have_count(1)
    # Back to the first one, and on to the last: as undo and redo would.
    pictures.first.click()
    shows(page, BUMP)
    pictures.last.click()
    shows(page, (20, 38))
    expect(page.locator(".dg-story img")).to_have_count(3)
    colours = page.evaluate(THUMBS)
    assert len(set(colours)) == 3, "each shows its own picture"
    expect(page.locator(".dg-story-label")).to_have_text(["#0", "from 1", "from 1"])
    # By keys; Undo puts it back with its thumbnail, Redo deletes it again, and a reload changes nothing.
    pictures.first.focus()
    page.keyboard.press("ArrowRight")
    expect(pictures.nth(1)).to_be_focused()
    page.keyboard.press("Delete")
    status(page, "^Deleted from the history\\. Undo brings it back")
    expect(pictures).to_have_count(2)
    expect(page.locator(".dg-story b")).to_have_text(["1", "3"])
    page.keyboard.press("Control+z")
    status(page, "in the history again")
    expect(page.locator(".dg-story img")).to_have_count(3)
    assert page.evaluate(THUMBS) == colours
    since = page.evaluate("Date.now()")
    page.keyboard.press("Control+Shift+z")
    status(page, "^Deleted from the history")
    expect(pictures).to_have_count(2)
    left = page.evaluate(THUMBS)
    kept_pictures(page, 2, since)
    page.reload()
    page.wait_for_function("document.querySelector('.dg-stage')?.dataset.frames")
    expect(page.locator(".dg-story img")).to_have_count(2)
    assert page.evaluate(THUMBS) == left
    shows(page, (20, 38))
    pictures.first.click()
    shows(page, BUMP)
    # However many works it has, its rows are in line.
    for count in range(3, 9):
        page.click("#dg-random")
        expect(pictures).to_have_count(count)
    first_of_rows = page.evaluate(FIRST_OF_ROWS)
    assert len(first_of_rows) > 1
    assert len(set(first_of_rows)) == 1


FIRST_OF_ROWS = """() => {
    const rows = Map.groupBy(document.querySelectorAll('.dg-story li'), (item) => item.offsetTop);
    return [...rows.values()].map(([first]) => first.offsetLeft);
}"""


def kept_pictures(page: Page, count: int, since: float) -> None:
    """Wait until the browser has written a history with so many pictures since then."""
    # Not wait_for_function: a promise is true, whatever will come of it.
    deadline = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(KEPT, [count, since]):
        assert time.monotonic() < deadline, count
        page.wait_for_timeout(50)


KEPT = """async ([count, since]) => {
    const request = indexedDB.open(`draggan ${location.pathname}`);
    await new Promise((good) => { request.onsuccess = good; });
    const there = request.result.transaction(['works', 'pieces']);
    const store = there.objectStore('pieces').getAll(), works = there.objectStore('works').getAll();
    await new Promise((good) => { there.oncomplete = good; });
    request.result.close();
    if (!works.result.some(({ outline, at }) => outline && at >= since)) return false;
    const seen = store.result.map((text) => /"seen":(\\d+)/.exec(text)?.[1]).filter(Boolean);
    return new Set(seen).size === count;
}"""
THUMBS = "() => [...document.querySelectorAll('.dg-story img')].map((image) => image.src)"
