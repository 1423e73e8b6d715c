"""Work comes back: after a reload, after a crash of the server, in the tab that it was done in; and what is said."""

from __future__ import annotations

import re
import time
from contextlib import suppress

import pytest

from tests.browser.driving import PATIENCE, Error, Page, click, creep, expect, needs_browser, pull, status
from tests.browser.serving import Server

pytestmark = needs_browser

_PIXELS = """() => {
    const c = document.querySelector('.dg-picture');
    return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].join();
}"""
_WORKS = """() => new Promise((good) => {
    const request = indexedDB.open(`draggan ${location.pathname}`);
    request.onsuccess = () => {
        const all = request.result.transaction('works').objectStore('works').getAll();
        all.onsuccess = () => { request.result.close(); good(all.result); };
    };
})"""
_SPOIL = """(change) => new Promise((good) => {
    const request = indexedDB.open(`draggan ${location.pathname}`);
    request.onsuccess = () => {
        const transaction = request.result.transaction('works', 'readwrite'), works = transaction.objectStore('works');
        works.openCursor().onsuccess = ({ target: { result: cursor } }) => {
            if (!cursor) return;
            const [from, to] = change;
            cursor.update({ ...cursor.value, outline: cursor.value.outline.replace(from, to) });
            cursor.continue();
        };
        transaction.oncomplete = () => { request.result.close(); good(); };
    };
})"""

_OLD_THUMBNAILS = """() => {
    const work = sessionStorage.getItem('draggan-tab'), old = 'data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=';
    const all = Array.from({ length: 5000 }, (_, number) => [number, old]);
    sessionStorage.setItem('draggan-thumbs', JSON.stringify({ work, all }));
}"""


def pixels(page: Page) -> str:
    return page.evaluate(_PIXELS)


def kept(page: Page, moments: int) -> None:
    """Wait until the browser has written a state with so many steps to undo."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not any(work["outline"] and len(_past(work["outline"])) == moments for work in page.evaluate(_WORKS)):
        assert time.monotonic() < deadline, page.evaluate(_WORKS)
        time.sleep(0.05)


def _past(outline: str) -> list[str]:
    return re.findall(r'"[^"]+"', re.search(r'"past":\[([^\]]*)\]', outline)[1])


def drag(page: Page) -> str:
    """A drag that arrives; returns its picture."""
    pull(page, (20, 30), (26, 30))
    status(page, r"^1 point set")
    page.click("#dg-start")
    status(page, r"^Arrived after")
    kept(page, 2)
    return pixels(page)


def shown(page: Page) -> None:
    page.wait_for_function("document.querySelector('.dg-stage')?.dataset.frames")


def again(page: Page) -> None:
    """Load it anew. A tab that has noticed a new server does that itself, and one load ends another."""
    with suppress(Error):  # it is loading already
        page.evaluate("window.isOld = true")
    try:
        page.reload()
    except Error as error:
        if not any(words in str(error) for words in ("ERR_ABORTED", "Not attached to an active page")):
            raise
    page.wait_for_function("!window.isOld && document.querySelector('.dg-stage')?.dataset.frames", timeout=PATIENCE)


def undo(page: Page) -> None:
    expect(page.locator("#dg-undo")).to_be_enabled(timeout=PATIENCE)
    page.click("#dg-undo")


def note(page: Page, pattern: str) -> None:
    expect(page.locator(".dg-kept span")).to_have_text(re.compile(pattern), timeout=PATIENCE)


def test_a_reload_brings_everything_back(visit, seen):
    page = visit()
    start = pixels(page)
    moved = drag(page)
    assert moved != start
    page.get_by_role("radio", name="Mask").click()
    pull(page, (10, 10), (40, 40))
    status(page, r"Only the bright region may change")
    kept(page, 3)
    mask = seen.sessions[-1].mask
    again(page)
    status(page, r"^Your work is back: the picture, 1 point, the mask and 3 steps to undo\.$")
    assert pixels(page) == moved
    page.get_by_role("radio", name="Points").click()
    click(page, (50, 50))
    assert (seen.until(lambda session: session.pending == (50, 50)).mask == mask).all()
    for _ in range(4):
        undo(page)
        page.wait_for_timeout(300)
    status(page, r"^Click a point")
    assert pixels(page) == start


def test_controls_come_back_as_they_were_used(visit):
    page = visit()
    page.fill("#dg-seed input", "5")
    page.locator("#dg-seed input").press("Enter")
    kept(page, 1)
    page.click(".dg-expert summary")
    page.fill("#dg-max-steps input", "7")
    page.get_by_label("Whole picture", exact=True).click()
    pull(page, (20, 30), (60, 60))
    status(page, r"^1 point set")
    page.click("#dg-start")
    status(page, r"limit of 7 steps|^Stopped|^No more")
    kept(page, 3)
    again(page)
    status(page, r"^Your work is back")
    page.click(".dg-expert summary")
    expect(page.locator("#dg-seed input")).to_have_value("5")
    expect(page.locator("#dg-max-steps input")).to_have_value("7")
    expect(page.get_by_label("Whole picture", exact=True)).to_be_checked()


def test_what_was_drawn_and_never_heard_of_is_back_too(visit):
    page = visit()
    pull(page, (20, 30), (26, 30))
    status(page, r"^1 point set")
    kept(page, 1)
    unanswered = []
    page.route("**/queue/join*", lambda route: unanswered.append(route))
    click(page, (40, 40))
    page.wait_for_timeout(300)
    page.unroute("**/queue/join*")
    again(page)
    # Old Playwrights complain of what nobody ever says anything to.
    for route in unanswered:
        with suppress(Error):
            route.abort()
    status(page, r"^Your work is back: the picture, 2 points and 2 steps to undo\.$")


def test_work_that_the_page_was_never_told_of_is_not_written_over(visit):
    page = visit()
    pull(page, (20, 30), (26, 30))
    status(page, r"^1 point set")
    kept(page, 1)
    lost = []

    def lose(route) -> None:
        if lost or "outline" not in (route.request.post_data or ""):
            route.continue_()
        else:
            lost.append(route)

    page.route("**/queue/join*", lose)
    page.reload()
    deadline = time.monotonic() + PATIENCE / 1000
    while not lost:
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)
    page.click("#dg-random")
    note(page, r"^Your last work could not be shown this time, and stays kept\.")
    page.locator(".dg-kept button", has_text="Try again").click()
    status(page, r"^Your work is back: the picture, 1 point and 1 step to undo\.$")
    with suppress(Error):
        lost[0].abort()


def test_tabs_do_not_touch_each_other_and_a_closed_one_is_on_offer(visit):
    first = visit()
    moved = drag(first)
    second = first.context.new_page()
    second.goto(first.url)
    shown(second)
    status(second, r"^Click a point")
    pull(second, (40, 40), (50, 40))
    status(second, r"^1 point set")
    kept(second, 1)
    assert len(first.evaluate(_WORKS)) == 2
    for page, words in ((first, "1 point and 2 steps"), (second, "1 point and 1 step ")):
        again(page)
        status(page, rf"^Your work is back: the picture, {words}")
    assert pixels(first) == moved
    expect(second.locator(".dg-kept")).to_be_hidden()
    first.close()
    third = second.context.new_page()
    third.goto(second.url)
    shown(third)
    note(third, r"^Work of a closed tab is kept in this browser")
    third.locator(".dg-kept button", has_text="Continue").click()
    status(third, r"^Your work is back: the picture, 1 point and 2 steps")
    assert pixels(third) == moved


def test_a_duplicated_tab_goes_on_by_itself(visit):
    first = visit()
    drag(first)
    name = first.evaluate("sessionStorage.getItem('draggan-tab')")
    copy = first.context.new_page()
    copy.add_init_script(f"sessionStorage.getItem('draggan-tab') || sessionStorage.setItem('draggan-tab', '{name}')")
    copy.goto(first.url)
    status(copy, r"^Your work is back")
    assert copy.evaluate("sessionStorage.getItem('draggan-tab')") != name
    undo(copy)
    kept(copy, 1)
    kept(first, 2)


def test_spoiled_work_is_refused_and_the_page_begins_anew(visit):
    page = visit()
    drag(page)
    page.evaluate(_SPOIL, ['"space":"w+"', '"space":"<img src=x onerror=alert(1)>${6*7}"'])
    page.evaluate(_OLD_THUMBNAILS)
    again(page)
    status(page, r"cannot be used, so this is a new start\. .*'<img src=x onerror=alert\(1\)>\$\{6\*7\}'")
    # Whatever its number, the new picture has its own thumbnail.
    expect(page.locator(".dg-story img")).to_have_attribute("src", re.compile("^data:image/jpeg"))
    pull(page, (20, 30), (26, 30))
    status(page, r"^1 point set")
    kept(page, 1)
    again(page)
    status(page, r"^Your work is back: the picture, 1 point and 1 step to undo")


def test_where_nothing_can_be_kept_work_goes_on_and_leaving_asks(browser, served):
    context = browser.new_context()
    context.add_init_script("Object.defineProperty(window, 'indexedDB', { get() { throw new Error('blocked'); } })")
    page = context.new_page()
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.goto(served)
    shown(page)
    note(page, r"^This browser keeps nothing for this page")
    again(page)
    assert asked == [], "there is nothing to lose yet"
    pull(page, (20, 30), (26, 30))
    status(page, r"^1 point set")
    page.click("#dg-start")
    status(page, r"^Arrived after")
    again(page)
    assert asked == ["beforeunload"]
    status(page, r"^Click a point")
    context.close()


def test_a_full_disk_is_said_and_work_goes_on(visit):
    page = visit()
    full = "throw new DOMException('full', 'QuotaExceededError');"
    page.evaluate(f"() => {{ IDBObjectStore.prototype.put = () => {{ {full} }}; }}")
    pull(page, (20, 30), (26, 30))
    note(page, r"^This browser keeps nothing for this page")
    page.click("#dg-start")
    status(page, r"^Arrived after")
    # Where writing fails for another reason, no other work makes room for it.
    failed = page.evaluate(FAILING)
    assert failed == ["InvalidStateError", 1]


FAILING = """async () => {
    let tries = 0;
    IDBObjectStore.prototype.put = () => { tries += 1; throw new DOMException('closed', 'InvalidStateError'); };
    try { await window.dragganStorage.write('{}', {}, []); } catch (error) { return [error.name, tries]; }
}"""


def test_a_reload_does_not_ask_where_the_work_is_kept_and_start_stays_off(visit):
    page = visit()
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    drag(page)
    page.wait_for_timeout(500)
    again(page)
    status(page, r"^Your work is back")
    assert asked == []
    # Nothing is left to drag, as before.
    expect(page.locator("#dg-start")).to_be_disabled()
    click(page, (50, 50))
    click(page, (40, 50))
    expect(page.locator("#dg-start")).to_be_enabled()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.kill()


@pytest.fixture
def tab(browser, server):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(server.url)
    shown(page)
    yield page
    context.close()


def test_a_crash_in_a_drag_loses_nothing(tab, server):
    moved = drag(tab)
    tab.click("#dg-clear-points")
    status(tab, r"^Click a point")
    creep(tab)
    pull(tab, (26, 30), (62, 62))
    status(tab, r"^1 point set")
    tab.click("#dg-start")
    status(tab, r"^Step \d+")
    kept(tab, 5)  # and what the drag has reached
    server.kill()
    tab.wait_for_timeout(1500)
    returned = server.start()
    status(tab, r"^Your work is back: the picture, 1 point and 5 steps to undo\.$")
    assert time.monotonic() - returned < 5
    undo(tab)
    status(tab, r"^1 point set")
    for _ in range(2):
        undo(tab)
        tab.wait_for_timeout(500)
    kept(tab, 2)
    assert pixels(tab) == moved
    server.kill()
    server.start()
    again(tab)
    status(tab, r"^Your work is back: the picture, 1 point and 2 steps to undo\.$")
    assert pixels(tab) == moved


def test_an_idle_tab_notices_by_itself_that_the_server_has_come_back(tab, server):
    moved = drag(tab)
    tab.wait_for_timeout(500)
    server.kill()
    status(tab, "^The server does not answer")
    returned = server.start()
    status(tab, r"^Your work is back: the picture, 1 point and 2 steps to undo\.$")
    assert time.monotonic() - returned < 10
    assert pixels(tab) == moved


def test_work_on_a_file_that_is_gone_waits_for_it(tab, server, tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"anything")
    tab.get_by_role("button", name="Open a model file").click()
    tab.fill("#dg-path textarea, #dg-path input", str(path))
    tab.locator("#dg-path textarea, #dg-path input").press("Enter")
    expect(tab.locator(".dg-model-button span")).to_have_text("mine.safetensors", timeout=PATIENCE)
    pull(tab, (3, 3), (9, 9), (16, 16))
    status(tab, r"^1 point set")
    kept(tab, 2)
    mine = pixels(tab)
    server.kill()
    server.start()
    again(tab)
    note(tab, r"^Your last work needs mine\.safetensors, which is not here as it was\. It stays kept")
    status(tab, r"^Click a point")
    again(tab)
    note(tab, r"^Your last work needs mine\.safetensors")
    tab.get_by_role("button", name="Open a model file").click()
    tab.fill("#dg-path textarea, #dg-path input", str(path))
    tab.locator("#dg-path textarea, #dg-path input").press("Enter")
    status(tab, r"^Your work is back: the picture, 1 point and")
    assert pixels(tab) == mine
