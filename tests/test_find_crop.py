"""A model's subject is found on a photo, and nothing where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import draggan
from draggan.checkpoints.store import locate
from draggan.engine.models import file_sha256
from draggan.inversion import Photo, crop_finder
from draggan.inversion.find_crop import CropFinder
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


def test_only_models_with_networks_of_their_own_have_a_finder(finder):
    generator = finder._generator
    assert crop_finder("face", "another file", generator) is None
    assert crop_finder("dog", "", generator) is None
