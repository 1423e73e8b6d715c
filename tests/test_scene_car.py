"""The car scene: deterministic, every parameter does something, landmarks lie where their names say."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from draggan.scenes import SCENES, Rendering
from draggan.scenes.pool import scene_noise
from tests import scene_helpers
from tests.scene_helpers import compiled, value_at  # noqa: F401 - `compiled` is a fixture for all tests here

CAR = SCENES["car"]
FRONT, SIDE, REAR = 0.9, 0.0, -0.8  # yaw
moved, where, with_values = (
    partial(f, CAR) for f in (scene_helpers.moved, scene_helpers.where, scene_helpers.with_values)
)


def colour(r: Rendering, name: str, i: int = 0) -> np.ndarray:
    return value_at(r.pictures[i], where(r, name, i)).astype(int)


@pytest.mark.parametrize("name", [p.name for p in CAR.parameters_table])
def test_every_parameter_changes_the_picture(name: str) -> None:
    entry = CAR.parameters_table[CAR.position(name)]
    # White roofs, hues and small parts show on a coloured car, from in front or from behind.
    p = np.concatenate(
        [
            with_values(**{"paint_saturation": 0.6, "yaw": yaw, name: value})
            for yaw in (FRONT, REAR)
            for value in (0.75 * entry.low + 0.25 * entry.high, 0.25 * entry.low + 0.75 * entry.high)
        ]
    )
    a, b, c, d = CAR.render(p, 64).pictures.astype(int)
    changed = (np.abs(a - b).max(0) > 12).sum() + (np.abs(c - d).max(0) > 12).sum()
    assert changed >= 8


def test_seen_from_the_middle_the_near_side_is_visible_and_the_far_wheels_are_not() -> None:
    visible = dict(zip(CAR.landmarks, CAR.render(CAR.middle(), 128).visible[0], strict=True))
    assert [name for name in CAR.landmarks if name.startswith("near_") and not visible[name]] == []
    assert not any(visible[f"far_{end}_{part}"] for end in ("front", "rear") for part in ("wheel", "contact"))
    assert not visible["far_door_handle"]


def test_the_ends_are_visible_from_where_they_should_be() -> None:
    r = CAR.render(np.concatenate([with_values(yaw=FRONT), with_values(yaw=REAR)]), 128)
    front, rear = (dict(zip(CAR.landmarks, v, strict=True)) for v in r.visible)
    for name in ("badge", "far_headlight", "hood", "windscreen_base"):
        assert front[name], name
        assert name == "hood" or not rear[name], name
    for name in ("far_tail_light", "trunk", "rear_window_top"):
        assert rear[name], name
    assert not front["near_tail_light"]


def test_every_scene_shows_its_near_wheels_inside_the_picture() -> None:
    r = CAR.render(CAR.parameters(scene_noise(CAR, 4, 0, 32)), 64)
    for name in ("near_front_wheel", "near_rear_wheel", "near_mirror"):
        assert r.visible[:, CAR.landmarks.index(name)].all(), name
    assert (r.points > -0.5).all()
    assert (r.points < 63.5).all()


@pytest.mark.parametrize("wheel_size", [0.15, 0.20])
def test_wheels_stand_on_the_ground(wheel_size: float) -> None:
    p = with_values(yaw=SIDE, pitch=0.35, wheel_size=wheel_size, ground=1.0, back_brightness=0.9, light_x=0.0)
    r = CAR.render(p, 256)
    grey = r.pictures[0].mean(0)
    for end in ("front", "rear"):
        x, y = np.rint(where(r, f"near_{end}_contact")).astype(int)
        centre = where(r, f"near_{end}_wheel")
        assert abs(centre[0] - x) < 3
        assert grey[y - 3 : y + 1, x].max() < 60, "tyre above the contact"
        # Ground from the next pixel but one, darkest at the tyre and clear of the shadow soon after.
        below = grey[y + 1 : y + 12, x]
        assert below[0] > 100
        assert below[-1] > below[0] + 40
        assert (np.diff(below) > -1).all()


def test_the_car_is_symmetric() -> None:
    values = {"yaw": 0.4, "light_x": 0.5, "shift_x": 0.03}
    mirrored = {"yaw": math.pi - 0.4, "light_x": -0.5, "shift_x": -0.03}
    r = CAR.render(np.concatenate([with_values(**values), with_values(**mirrored)]), 96)
    difference = np.abs(r.pictures[0].astype(int) - r.pictures[1, :, :, ::-1].astype(int))
    assert difference.mean() < 0.2
    assert np.mean(difference > 12) < 0.005  # rounding at edges
    swap = {"near": "far", "far": "near"}
    other = [
        CAR.landmarks.index("_".join((swap.get(first, first), *rest)))
        for first, *rest in (name.split("_") for name in CAR.landmarks)
    ]
    np.testing.assert_allclose(r.points[0], np.array([95, 0]) + r.points[1, other] * [-1, 1], atol=0.3)


@pytest.mark.parametrize(
    ("parameter", "landmark", "axis", "sign"),
    [
        ("shift_x", "roof", 0, 1),
        ("shift_y", "roof", 1, -1),
        ("yaw", "near_headlight", 0, -1),
        ("pitch", "near_front_contact", 1, 1),
        ("scale", "roof", 1, -1),
        ("length", "near_front_bumper", 0, 1),
        ("width", "near_front_wheel", 1, 1),
        ("body_height", "near_windscreen_base", 1, -1),
        ("hood", "windscreen_base", 0, -1),
        ("hood_drop", "hood", 1, 1),
        ("trunk", "near_rear_window_base", 0, 1),
        ("trunk_drop", "trunk", 1, 1),
        ("roof_height", "roof", 1, -1),
        ("windscreen", "near_windscreen_top", 0, -1),
        ("rear_window", "near_rear_window_top", 0, 1),
        ("wheel_size", "near_front_wheel", 1, -1),
        ("ride_height", "near_front_bumper", 1, -1),
        ("front_wheel", "near_front_wheel", 0, -1),
        ("rear_wheel", "near_rear_wheel", 0, 1),
    ],
)
def test_a_parameter_moves_its_landmark(parameter: str, landmark: str, axis: int, sign: int) -> None:
    assert sign * moved(parameter, landmark)[axis] > 1


def test_lights_lie_where_their_landmarks_say() -> None:
    p = CAR.parameters(scene_noise(CAR, 5, 0, 8))
    p[:4, CAR.position("yaw")] = FRONT
    p[4:, CAR.position("yaw")] = REAR
    r = CAR.render(p, 128)
    for i in range(4):
        assert colour(r, "near_headlight", i).min() > 190
        assert colour(r, "badge", i).max() < 70
    for i in range(4, 8):
        red, green, blue = colour(r, "near_tail_light", i)
        assert red > 1.8 * max(green, blue)


def test_paint_has_the_hue_it_is_told() -> None:
    p = np.concatenate([with_values(yaw=SIDE, paint_hue=h / 3, paint_saturation=0.7) for h in range(3)])
    r = CAR.render(p, 64)
    for i in range(3):
        assert value_at(r.pictures[i], where(r, "near_door_handle", i) + np.array([5, 3])).argmax() == i


def test_parts_weigh_more_than_the_backdrop() -> None:
    r = CAR.render(with_values(yaw=FRONT), 128)
    assert r.importance[0, 2, 2] == 0.5

    def weight(name: str) -> float:
        return float(value_at(r.importance[0], where(r, name)))

    assert weight("near_headlight") > weight("near_front_wheel") > weight("badge") > weight("hood") > 2
    assert 11 < r.importance.max() <= 12.1
