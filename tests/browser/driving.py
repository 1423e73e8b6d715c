"""What a person does with the page in a browser, and what they see."""

from __future__ import annotations

import os
import re
import shutil
import time

import pytest

from draggan.session import Session
from draggan.ui.canvas.value import canvas_value, with_canvas

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect, Error, Page = sync_api.expect, sync_api.Error, sync_api.Page

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
# What is expected to appear gets as much time as a click does: five seconds are little on a busy machine.
sync_api.expect.set_options(timeout=PATIENCE)

needs_browser = [
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


class Mouse:
    """A hand on a mouse: press, move and release."""

    def __init__(self, page: Page) -> None:
        self._mouse = page.mouse

    def press(self, xy: tuple[float, float]) -> None:
        self._mouse.move(*xy)
        self._mouse.down()

    def move(self, xy: tuple[float, float]) -> None:
        self._mouse.move(*xy)

    def release(self) -> None:
        self._mouse.up()


class Finger:
    """The same on a screen that is touched."""

    def __init__(self, page: Page) -> None:
        self._session = page.context.new_cdp_session(page)

    def _send(self, kind: str, *at: tuple[float, float]) -> None:
        touches = [{"x": x, "y": y} for x, y in at]
        self._session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    def press(self, xy: tuple[float, float]) -> None:
        self._send("touchStart", xy)

    def move(self, xy: tuple[float, float]) -> None:
        self._send("touchMove", xy)

    def release(self) -> None:
        self._send("touchEnd")


def ink_at(page: Page, xy: tuple[float, float], size: tuple[int, int] = (64, 64)) -> list[int]:
    """Red, green, blue and opacity of what is drawn over that pixel of the picture."""
    return page.evaluate(
        """([fx, fy]) => {
            const c = document.querySelector('.dg-ink'), p = document.querySelector('.dg-picture');
            const scale = c.width / c.clientWidth;
            const x = scale * (14 + fx * p.clientWidth), y = scale * (14 + fy * p.clientHeight);
            return [...c.getContext('2d').getImageData(Math.round(x), Math.round(y), 1, 1).data];
        }""",
        [(xy[0] + 0.5) / size[0], (xy[1] + 0.5) / size[1]],
    )


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


def agree(page: Page) -> None:
    """Open what a file is uploaded in, and tick what has to be agreed to first."""
    page.get_by_role("button", name="Open a model file").click()
    page.locator("#dg-consent").get_by_role("checkbox").check()
    page.locator("#dg-upload").wait_for()


def choose_model(page: Page, title: str) -> None:
    """By its title, or its beginning, in the list of models."""
    page.click(".dg-model-button")
    page.locator(".dg-card").filter(has_text=title).first.click()


def good_enough(page: Page) -> None:
    """Press that button as soon as it is there: the photo may be open a moment later, and the button gone."""
    page.wait_for_function(
        """() => {
            const button = document.querySelector('.dg-photo-enough');
            if (!button.hidden) button.click();
            return !button.hidden;
        }"""
    )


def points(session: Session) -> list:
    return [(pair.handle, pair.target) for pair in session.pairs]


def creep(page: Page) -> None:
    """Set a step size with which a long drag creeps for seconds, without counting as stalled."""
    page.click(".dg-expert summary")
    page.fill("#dg-step-size input", "0.0002")
    page.fill("#dg-max-steps input", "10000")
    page.locator("#dg-max-steps input").blur()


def frames(page: Page) -> int:
    return int(page.locator(".dg-stage").get_attribute("data-frames"))
