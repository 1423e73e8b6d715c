"""A click lands on the pixel under it: at every density of the screen, zoomed and moved, for all sizes of pictures."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from draggan.engine.models import Model
from draggan.generators.stylegan2.config import MappingConfig, StyleGAN2Config
from draggan.generators.stylegan2.generator import StyleGAN2Generator
from tests.browser.driving import Page, at, needs_browser, status
from tests.pages import TinyModels

pytestmark = needs_browser

SIZES = [(128, 128), (256, 256), (1024, 1024), (512, 1024)]  # width, height


def thin_stylegan2(width: int, height: int) -> StyleGAN2Generator:
    """A StyleGAN2 of random weights whose pictures are large and cost little: four channels wide."""
    torch.manual_seed(0)
    mapping = MappingConfig(num_layers=1, lr_multiplier=1.0)
    size = {"img_resolution": height, "square": width == height, "channel_base": 4 * height, "channel_max": 4}
    generator = StyleGAN2Generator(StyleGAN2Config(z_dim=8, c_dim=0, w_dim=8, mapping_kwargs=mapping, **size))
    return generator.freeze()


class Sizes(TinyModels):
    """And models of those sizes."""

    def __init__(self) -> None:
        super().__init__()
        self._generators |= {f"{w}x{h}": thin_stylegan2(w, h) for w, h in SIZES}

    def listed(self):
        return [*super().listed(), *(Model(name=f"{w}x{h}", title=f"{w} x {h}") for w, h in SIZES)]


@pytest.fixture(scope="module")
def models() -> Sizes:
    return Sizes()


def open_picture(page: Page, width: int, height: int) -> None:
    """As a person opens saved work."""
    recipe = {"recipe": 1, "model": {"name": f"{width}x{height}"}, "size": [height, width], "start": {"seed": 1}}
    name = f"work-{width}-{height}.json"
    file = {"name": name, "mimeType": "application/json", "buffer": json.dumps(recipe).encode()}
    page.locator(".dg-open input").set_input_files(file)
    status(page, f"^{name} is open again")
    page.wait_for_function(
        "([w, h]) => { const p = document.querySelector('.dg-picture'); return p.width === w && p.height === h; }",
        arg=[width, height],
    )


def zoom_of(page: Page) -> float:
    return float(page.locator(".dg-stage").get_attribute("data-zoom"))


def under(page: Page, xy, size) -> np.ndarray:
    """Where in the picture a place of the screen is, between its pixels."""
    box = page.locator(".dg-picture").bounding_box()
    corner, extent = np.array([box["x"], box["y"]]), np.array([box["width"], box["height"]])
    return (np.array(xy) - corner) / extent * np.array(size) - 0.5


def listed(page: Page) -> np.ndarray:
    """The coordinates of the points, as the list has them."""
    values = page.locator(".dg-points li input[type=number]").evaluate_all("(all) => all.map((f) => Number(f.value))")
    return np.array(values).reshape(-1, 2)


def click_around(page: Page, size) -> None:
    """Clicks all over what is seen of the picture set points where they were."""
    frame = page.locator(".dg-frame").bounding_box()
    places = [(0.13, 0.21), (0.87, 0.34), (0.52, 0.77), (0.29, 0.58)]
    clicks = [(frame["x"] + u * frame["width"], frame["y"] + v * frame["height"]) for u, v in places]
    for place in clicks:
        page.mouse.click(*place)
    page.wait_for_function("document.querySelectorAll('.dg-points li').length === 2")
    off = np.abs(listed(page) - [under(page, place, size) for place in clicks])
    assert off.max() <= 0.5 + 1e-6, (size, off.max())
    page.click("#dg-clear-points")


def click_what_is_seen(page: Page, size) -> None:
    """A pixel that stands out on the screen is clicked where it is seen; and the point has that pixel's coordinates."""
    frame = page.locator(".dg-frame").bounding_box()
    middle = under(page, (frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2), size)
    marked = [tuple(int(v) + by for v in middle) for by in (-3, 2)]
    page.evaluate(
        """(pixels) => {
            const context = document.querySelector('.dg-picture').getContext('2d');
            context.fillStyle = '#fff';
            context.fillRect(pixels[0][0] - 9, pixels[0][1] - 9, 24, 24);
            context.fillStyle = '#f0f';
            for (const [x, y] of pixels) context.fillRect(x, y, 1, 1);
        }""",
        marked,
    )
    dense = page.evaluate("window.devicePixelRatio")
    for pixel in marked:
        x, y = at(page, pixel, size)
        clip = {"x": round(x) - 12, "y": round(y) - 12, "width": 24, "height": 24}
        screen = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")).astype(float)
        green = 255 - screen[..., 1]
        rows, columns = np.nonzero(green > 0.6 * green.max())
        seen = clip["x"] + (columns.mean() + 0.5) / dense, clip["y"] + (rows.mean() + 0.5) / dense
        page.mouse.click(*seen)
    page.wait_for_function("document.querySelectorAll('.dg-points li').length === 1")
    assert listed(page).tolist() == [list(pixel) for pixel in marked]
    page.click("#dg-clear-points")


@pytest.mark.parametrize("density", [1, 1.5, 2])
def test_every_click_lands_within_half_a_pixel(visit, density):
    page = visit(1366, 768, device_scale_factor=density)
    for size in SIZES:
        open_picture(page, *size)
        click_around(page, size)
        # Zoomed by the wheel around a place off the middle, then moved with Space held.
        frame = page.locator(".dg-frame").bounding_box()
        x, y = frame["x"] + 0.37 * frame["width"], frame["y"] + 0.61 * frame["height"]
        page.mouse.move(x, y)
        wanted = 6 * size[0] / frame["width"]
        before, zoom = 0.0, zoom_of(page)
        # Turns that are still under way would zoom on beneath the clicks.
        while zoom < wanted or zoom != before:
            if zoom < wanted:
                page.mouse.wheel(0, -200)
            page.wait_for_timeout(50)
            before, zoom = zoom, zoom_of(page)
        page.keyboard.down(" ")
        page.mouse.down()
        page.mouse.move(x + 31, y - 23, steps=3)
        page.mouse.up()
        page.keyboard.up(" ")
        click_around(page, size)
        click_what_is_seen(page, size)
