"""The face scene: deterministic, mirrored, every parameter does something, skin tones even, landmarks in place."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from draggan.scenes import SCENES, Rendering
from draggan.scenes.pool import scene_noise
from tests import scene_helpers
from tests.scene_helpers import compiled  # noqa: F401 - a fixture for all tests here

FACE = SCENES["face"]
ODD = ("yaw", "roll", "shift_x", "gaze_x", "parting", "light_x")  # change sign in the mirror
moved, where, with_values = (
    partial(f, FACE) for f in (scene_helpers.moved, scene_helpers.where, scene_helpers.with_values)
)


def patch(r: Rendering, name: str, i: int = 0) -> np.ndarray:
    """Mean display colour ``[3]``, 0 to 255, of 3 x 3 pixels at a landmark."""
    x, y = np.rint(where(r, name, i)).astype(int)
    return r.pictures[i, :, y - 1 : y + 2, x - 1 : x + 2].mean((1, 2))


def lightness(colour: np.ndarray) -> float:
    """CIE L*, 0 to 100; the renderer's display values are square roots of light."""
    y = float((colour / 255) ** 2 @ [0.2126, 0.7152, 0.0722])
    return 116 * y ** (1 / 3) - 16


@pytest.mark.parametrize("name", [p.name for p in FACE.parameters_table])
def test_every_parameter_changes_the_picture(name: str) -> None:
    entry = FACE.parameters_table[FACE.position(name)]
    base = {"eye_open": 0.8, "yaw": 0.2, "hair_volume": 0.6}
    # Hues come round to where they started.
    ends = (0.2, 0.7) if name.endswith("hue") else (0.0, 1.0)
    values = [entry.low + (entry.high - entry.low) * end for end in ends]
    a, b = FACE.render(np.concatenate([with_values(**{**base, name: v}) for v in values]), 64).pictures.astype(int)
    assert (np.abs(a - b).max(0) > 7).sum() >= 10


def test_every_landmark_is_visible_in_the_middle_and_inside_always() -> None:
    visible = dict(zip(FACE.landmarks, FACE.render(FACE.middle(), 128).visible[0], strict=True))
    assert [name for name, seen in visible.items() if not seen] == []
    size = 16
    points = FACE.render(FACE.parameters(scene_noise(FACE, 2, 0, 128)), size).points
    assert points.min() > -0.5
    assert points.max() < size - 0.5


def test_mirrored_parameters_give_the_mirrored_face() -> None:
    p = FACE.parameters(scene_noise(FACE, 3, 0, 4))
    mirrored = p.copy()
    for name in ODD:
        mirrored[:, FACE.position(name)] *= -1
    a, b = FACE.render(p, 64), FACE.render(mirrored, 64)
    # Normals come from four corners of a cube, which have no mirror: single pixels differ a little.
    assert np.abs(a.pictures.astype(int) - b.pictures[..., ::-1].astype(int)).mean() < 1.5
    other = {"left": "right", "right": "left"}
    swap = [
        FACE.landmarks.index(f"{other[side]}_{rest}") if (side := name.split("_")[0]) in other else i
        for i, (name, rest) in enumerate((name, name.partition("_")[2]) for name in FACE.landmarks)
    ]
    np.testing.assert_allclose(a.points[..., 0], 63 - b.points[:, swap, 0], atol=0.02)
    np.testing.assert_allclose(a.points[..., 1], b.points[:, swap, 1], atol=0.02)
    assert (a.visible == b.visible[:, swap]).mean() > 0.97


def test_features_lie_below_each_other() -> None:
    r = FACE.render(FACE.middle(), 128)
    order = ["head_top", "hairline", "forehead", "left_brow_inner", "left_eye_upper", "left_pupil", "left_eye_lower"]
    order += ["nose_tip", "upper_lip", "lower_lip", "chin"]
    heights = [where(r, name)[1] for name in order]
    assert heights == sorted(heights)


@pytest.mark.parametrize("warm", [-1.0, 0.0, 1.0])
def test_skin_spans_the_human_range_in_even_steps_of_lightness(warm: float) -> None:
    tones = np.linspace(0, 1, 9)
    p = np.concatenate([with_values(skin=t, undertone=warm, back_brightness=0.6) for t in tones])
    r = FACE.render(p, 128)
    values = np.array([lightness(patch(r, "left_cheek", i)) for i in range(len(tones))])
    steps = -np.diff(values)
    assert values[0] > 80
    assert values[-1] < 36
    assert steps.min() > 0.85 * steps.mean()
    assert steps.max() < 1.15 * steps.mean()


def test_skin_is_drawn_evenly() -> None:
    skin = FACE.parameters(scene_noise(FACE, 4, 0, 2000))[:, FACE.position("skin")]
    share = np.histogram(skin, bins=5, range=(0, 1))[0] / len(skin)
    np.testing.assert_allclose(share, 0.2, atol=0.04)


def test_warm_undertones_are_less_rosy() -> None:
    r = FACE.render(np.concatenate([with_values(undertone=u) for u in (-1, 1)]), 128)
    cool, warm = patch(r, "left_jaw", 0), patch(r, "left_jaw", 1)
    assert warm[2] / warm[0] < cool[2] / cool[0]
    assert warm[1] / warm[0] > cool[1] / cool[0]


def test_hair_spans_the_human_range() -> None:
    values = [
        {"hair_lightness": 0.0},
        {"hair_lightness": 1.0},
        {"hair_lightness": 0.5, "hair_warmth": 1.0},
        {"hair_lightness": 1.0, "hair_warmth": -1.0},
    ]
    r = FACE.render(np.concatenate([with_values(**v) for v in values]), 128)
    black, blond, red, white = (patch(r, "head_top", i) for i in range(4))
    assert black.max() < 70
    assert blond[0] > 180
    assert blond[2] < 0.75 * blond[0]
    assert red[1] < 0.65 * red[0]
    assert white.min() > 160
    assert np.ptp(white) < 25


def test_hair_hides_what_it_covers() -> None:
    def seen(name: str, **values: float) -> bool:
        return bool(FACE.render(with_values(**values), 64).visible[0, FACE.landmarks.index(name)])

    assert seen("left_ear", hair_length=-0.5)
    assert not seen("left_ear", hair_length=0.9)
    assert seen("forehead", fringe=0.0)
    assert not seen("forehead", fringe=1.0, brow_height=0.0)


def test_teeth_and_pupils_are_where_they_should_be() -> None:
    r = FACE.render(with_values(eye_open=1.0, gaze_y=0.0, mouth_open=0.8), 128)
    for name in ("left_pupil", "right_pupil"):
        assert patch(r, name).max() < 60
    upper, lower = where(r, "upper_lip"), where(r, "lower_lip")
    x = round(float(upper[0]))
    column = r.pictures[0, :, round(float(upper[1])) : round(float(lower[1])), x]
    assert column.min(0).max() > 170  # something white between red lips


def test_shut_eyes_have_no_white() -> None:
    r = FACE.render(np.concatenate([with_values(eye_open=o, skin=0.8) for o in (0.0, 1.0)]), 128)
    x0, x1 = (round(float(where(r, f"left_eye_{end}", 1)[0])) for end in ("outer", "inner"))
    y0, y1 = (round(float(where(r, f"left_eye_{end}", 1)[1])) for end in ("upper", "lower"))
    shut, wide = (picture[:, y0:y1, x0:x1].min(0).max() for picture in r.pictures)
    assert wide > 180
    assert shut < 130


@pytest.mark.parametrize(
    ("parameter", "landmark", "axis", "sign"),
    [
        ("yaw", "nose_tip", 0, 1),
        ("pitch", "nose_tip", 1, 1),
        ("roll", "head_top", 0, -1),
        ("shift_y", "chin", 1, -1),
        ("head_width", "right_ear", 0, 1),
        ("jaw_width", "right_jaw", 0, 1),
        ("chin", "chin", 1, 1),
        ("eye_gap", "right_pupil", 0, 1),
        ("eye_open", "left_eye_upper", 1, -1),
        ("eye_slant", "left_eye_outer", 1, -1),
        ("gaze_x", "left_pupil", 0, 1),
        ("gaze_y", "left_pupil", 1, -1),
        ("brow_height", "right_brow_outer", 1, -1),
        ("brow_slant", "right_brow_inner", 1, 1),
        ("nose_tip", "nose_tip", 1, -1),
        ("nose_width", "left_nose_wing", 0, -1),
        ("mouth_open", "lower_lip", 1, 1),
        ("smile", "left_mouth", 1, -1),
        ("mouth_width", "right_mouth", 0, 1),
        ("hair_volume", "head_top", 1, -1),
        ("fringe", "hairline", 1, 1),
    ],
)
def test_a_parameter_moves_its_landmark(parameter: str, landmark: str, axis: int, sign: int) -> None:
    assert sign * moved(parameter, landmark)[axis] > 1


def test_weights_point_at_eyes_nose_and_mouth() -> None:
    r = FACE.render(with_values(eye_open=0.9), 128)
    for name in ("left_pupil", "right_pupil", "nose_tip", "upper_lip", "lower_lip"):
        x, y = np.rint(where(r, name)).astype(int)
        assert r.importance[0, y - 1 : y + 2, x - 1 : x + 2].max() > 11, name
    assert r.importance[0, 2, 2] == 0.5
    assert 0.02 < (r.importance > 11).mean() < 0.12


def test_parts_are_where_the_landmarks_are() -> None:
    r = FACE.render(with_values(eye_open=1.0, gaze_x=0.0, gaze_y=0.0, glasses=0.9), 128, segments=True)
    segments = r.segments
    assert segments is not None

    def part(landmark: str, shift: tuple[int, int] = (0, 0)) -> str:
        x, y = np.rint(where(r, landmark)).astype(int) + shift
        return FACE.parts[segments[0, y, x]]

    assert part("left_pupil") == part("right_pupil") == "pupil"
    assert part("nose_tip") == "nose"
    assert "lips" in {part("lower_lip", (0, -1)), part("lower_lip")}
    assert part("left_ear") == "ear"
    assert part("head_top") == "hair"
    assert part("chin") == part("left_cheek") == "skin"
    assert "glasses" in {part("nose_bridge", (0, shift)) for shift in range(-6, 1)}
    assert FACE.parts[segments[0, 126, 64]] == "clothing"
    assert FACE.parts[segments[0, 2, 2]] == "backdrop"


def test_the_iris_goes_where_the_gaze_goes_and_the_face_stays() -> None:
    a, b = (with_values(eye_open=1.0, gaze_x=g, gaze_y=0.0) for g in (-0.2, 0.25))
    names = ("left_pupil", "right_pupil", "nose_tip", "left_mouth", "right_brow_inner")
    marks = [FACE.landmarks.index(name) for name in names]
    before, after = (FACE.render(p, 128).points[0, marks] for p in (a, b))
    y, visible = FACE.flow(a, b, before, 128)
    assert visible.all()
    np.testing.assert_allclose(y[0], after, atol=0.05)
    assert (y[0] - before)[:2, 0].min() > 3
    np.testing.assert_allclose(y[0, 2:], before[2:], atol=0.05)
    # The whole iris moves as the pupil does.
    rim = before[0] + np.array([[2.5, 0.0], [0.0, 2.5], [-1.5, 1.5]])
    moved, visible = FACE.flow(a, b, rim, 128)
    assert visible.all()
    np.testing.assert_allclose(moved[0] - rim, np.repeat((y[0] - before)[:1], 3, 0), atol=0.5)


def test_the_lower_lip_drops_when_the_mouth_opens_and_the_upper_one_stays() -> None:
    a, b = (with_values(mouth_open=value) for value in (0.3, 0.8))
    x = np.stack([where(FACE.render(a, 128), name) for name in ("lower_lip", "upper_lip", "left_pupil", "chin")])
    y, visible = FACE.flow(a, b, x, 128)
    assert visible[0].all()
    lower, upper, pupil, chin = (y[0] - x)[:, 1]
    assert lower > 4
    assert chin > 2
    assert abs(upper) < 2
    assert abs(pupil) < 0.05
