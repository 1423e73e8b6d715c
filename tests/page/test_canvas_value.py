"""What the canvas sends is read as data, and anything else refused."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from draggan.errors import MaskError, PointError
from draggan.ui.canvas.component import frame_url
from draggan.ui.canvas.value import EMPTY, canvas_value, read_canvas, with_canvas
from tests.page.driving import png
from tests.sessions import add_pair


def test_what_a_canvas_sends_comes_back(session):
    mask = np.zeros((64, 64), bool)
    mask[3:9, 60:] = True
    there = add_pair(add_pair(session, (0, 0), (63, 63)), (1.5, 2.25), (3, 4))
    there = there.with_points([(p.handle, p.target) for p in there.pairs], (5, 6), off=[1]).set_mask(mask)
    again = with_canvas(session, canvas_value(there))
    assert [(p.handle, p.target) for p in again.pairs] == [((0, 0), (63, 63)), ((1.5, 2.25), (3, 4))]
    assert again.pending == (5, 6)
    assert again.off == {1}
    assert (again.mask == mask).all()
    assert with_canvas(there, canvas_value(there)) is there


@pytest.mark.parametrize(
    "value",
    [
        {"points": "x"},
        {"points": [[1, 2, 3]]},
        {"points": [[1, 2, 3, "4"]]},
        {"points": [[1, 2, 3, float("nan")]]},
        {"points": [None]},
        {"points": [[0, 0, 64, 0]]},
        {"points": [], "pending": [1]},
        {"points": [[0, 0, 1, 1]], "off": [1]},
        {"points": [[0, 0, 1, 1]], "off": [True]},
        {"points": [[0, 0, 1, 1]], "off": "0"},
        {"points": [], "off": [-1] * 9},
        {"points": [[0, 0, 1, 1]] * 501},
    ],
)
def test_anything_else_is_refused_as_points(session, value):
    with pytest.raises(PointError):
        with_canvas(session, value)


@pytest.mark.parametrize(
    "mask",
    [
        3,
        "",
        "http://example.org/mask.png",
        "data:image/png;base64,!!!!",
        "data:image/png;base64," + base64.b64encode(b"no picture").decode(),
        "data:image/png;base64," + "A" * 100_000,
        png((64, 64))[:-40],
        png((64, 32)),
        png((5000, 5000)),
    ],
)
def test_anything_else_is_refused_as_a_mask(session, mask):
    with pytest.raises(MaskError):
        read_canvas({"points": [], "mask": mask}, session.image_size)


def test_an_empty_canvas_is_no_points(session):
    assert with_canvas(session, None) is session
    assert with_canvas(session, EMPTY) is session
    assert with_canvas(session, {}) is session


def test_previews_are_jpeg_of_the_right_size():
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(0, 255, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    url = frame_url(smooth)
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))))
    assert url.startswith("data:image/jpeg;base64,")
    assert np.abs(back.astype(int) - smooth).mean() < 3
