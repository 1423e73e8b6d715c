"""Points and masks from outside are checked in one place, whoever brings them."""

from __future__ import annotations

import numpy as np
import pytest

from draggan.errors import MaskError, PointError
from draggan.points import check_mask, check_points


@pytest.mark.parametrize("points", [[(0, 0), (63, 31)], np.array([[0, 0], [63, 31]], np.float32), ([0, 0], [63, 31])])
def test_pairs_up_to_the_last_pixel_are_points(points):
    checked = check_points("handle", points, (32, 64))
    assert checked.dtype == np.float64
    assert checked.tolist() == [[0, 0], [63, 31]]


def test_no_points_are_an_empty_list_of_pairs():
    assert check_points("handle", [], (32, 64)).shape == (0, 2)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([(1, 1), (64, 1)], r"target 2 at \(64, 1\) is outside the picture; x goes from 0 to 63, y from 0 to 31"),
        ([(-0.5, 1)], "target 1"),
        ([(float("nan"), 1)], "target 1"),
        ([(float("inf"), 1)], "target 1"),
        ([(1, 2, 3)], "shape"),
        ([1, 2], "shape"),
        ([(1, 2), (3,)], "not numbers"),
        ([("a", "b")], "not numbers"),
        ([(10**400, 1)], "not numbers"),
        ([{}], "not numbers"),
    ],
)
def test_what_is_not_a_point_of_the_picture_is_named(points, says):
    with pytest.raises(PointError, match=says):
        check_points("target", points, (32, 64))


def test_a_mask_is_copied():
    mask = np.zeros((32, 64), bool)
    checked = check_mask(mask, (32, 64))
    mask[:] = True
    assert not checked.any()


@pytest.mark.parametrize("mask", [np.zeros((64, 32), bool), np.zeros((32, 64), np.uint8), None, "mask"])
def test_a_mask_of_another_kind_or_size_is_refused(mask):
    with pytest.raises(MaskError, match=r"must be bool \[32, 64\]"):
        check_mask(mask, (32, 64))
