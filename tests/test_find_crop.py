"""A model's subject is found on a photo, and nothing where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import draggan
from draggan.checkpoints.store import locate
from draggan.engine.models import file_sha256
from draggan.inversion import Crop, Photo, crop_finder, find_crop
from draggan.inversion.find_crop import CropFinder
from draggan.pixels import from_uint8
from draggan.scenes import find_scene
from draggan.scenes.pool import scene_noise


@pytest.fixture(scope="module")
def finder() -> CropFinder:
    return crop_finder("face", file_sha256(locate("face")), draggan.load_generator("face", device="cpu"))


def drawn(scene: str) -> Image.Image:
    scene = find_scene(scene)
    return Image.fromarray(
        scene.render(scene.parameters(scene_noise(scene, 999, 31)[:1]), 256).pictures[0].transpose(1, 2, 0)
    )


def photo(picture: Image.Image | None, x: int = 0, y: int = 0, side: int = 0) -> Photo:
    down, across = np.indices((200, 320))
    pixels = np.stack([across, 255 - down, 90 + 60 * np.sin(across / 20)], -1).clip(0, 255).astype(np.uint8)
    if picture is not None:
        pixels[y : y + side, x : x + side] = np.asarray(picture.resize((side, side)))
    return Photo(pixels=pixels, name="")


def test_a_drawn_face_is_found_where_the_renderer_has_put_it(finder):
    found = finder.find(photo(drawn("face"), 170, 60, 120))
    assert found.is_sure
    assert found.crop.centre == pytest.approx((229.5, 119.5), abs=12)
    assert found.crop.right[0] == pytest.approx(60, rel=0.15)


def test_where_there_is_none_it_is_not_sure(finder):
    assert not finder.find(photo(None)).is_sure
    assert not finder.find(photo(drawn("car"), 100, 40, 140)).is_sure


@pytest.mark.parametrize("size", [(64, 1_000_000), (200, 20_000), (2000, 300)])
def test_a_photo_that_is_too_elongated_is_not_searched(finder, size, monkeypatch):
    monkeypatch.setattr(finder, "_look", lambda photo: pytest.fail("windows were laid over it"))
    found = finder.find(Photo(pixels=np.zeros((*size, 3), np.uint8), name=""))
    assert not found.is_sure
    assert found.crop.centre == pytest.approx(((size[1] - 1) / 2, (size[0] - 1) / 2), abs=1)


def test_a_large_photo_is_searched_small_and_the_crop_is_where_it_is_on_the_large_one(finder):
    small = photo(drawn("face"), 170, 60, 120)
    large = Image.fromarray(small.pixels).resize((3200, 2000), Image.Resampling.BICUBIC)
    found = finder.find(Photo(pixels=np.asarray(large), name=""))
    assert found.is_sure
    assert found.crop.centre == pytest.approx((2295, 1195), abs=120)
    assert found.crop.right[0] == pytest.approx(600, rel=0.15)


def test_only_models_with_networks_of_their_own_have_a_finder(finder):
    generator = finder._generator
    assert crop_finder("face", "another file", generator) is None
    assert crop_finder("dog", "", generator) is None


def test_a_crop_follows_what_moves_and_grows_and_stays_where_nothing_does(finder):
    face, count = drawn("face"), 9
    places = [(40 + 9 * k, 30 + 2 * k, 96 + 2 * k) for k in range(count)]
    first = Crop(centre=(40 + 47.5, 30 + 47.5), right=(48.0, 0.0), down=(0.0, 48.0))
    crops = finder.follow([photo(face, *place) for place in places], first)
    for crop, (x, y, side) in zip(crops, places, strict=True):
        assert crop.centre == pytest.approx((x + (side - 1) / 2, y + (side - 1) / 2), abs=2)
        assert crop.right[0] == pytest.approx(side / 2, rel=0.03)
    still = finder.follow([photo(face, 40, 30, 96)] * 3, first)
    assert all(crop.centre == pytest.approx(first.centre, abs=0.01) for crop in still)


def test_of_a_large_frame_only_what_is_around_the_window_is_looked_at(monkeypatch):
    shapes = []
    monkeypatch.setattr(find_crop, "from_uint8", lambda pixels: shapes.append(pixels.shape) or from_uint8(pixels))
    y, x = np.indices((1216, 2048))
    pixels = np.stack([x / 8, 255 - y / 5, 128 + 100 * np.sin(x / 60)], -1).clip(0, 255).astype(np.uint8)
    whole = find_crop._Pyramid(from_uint8(pixels))
    # Also beyond the edges, where both are mirrored.
    for window in ((1000.0, 600.0, 700.0), (400.5, 300.2, 90.0), (30.0, 1190.0, 500.0), (1000.0, 600.0, 2600.0)):
        windows = np.array([window])
        there = find_crop._cut_out(Photo(pixels=pixels, name=""), windows[0])
        assert float((there - whole.cut(windows, find_crop.INPUT)).abs().mean()) < 0.005
    assert max(max(shape[:2]) for shape in shapes) <= 8 * find_crop.INPUT
