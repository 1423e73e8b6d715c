"""The cat: a head of rounded solids that looks, blinks, opens its mouth and comes in many coats."""

from __future__ import annotations

import math

from draggan.scenes.scene import Parameter, Scene

__all__ = ["CAT"]

_SIDE = (
    "ear_tip",
    "ear_inner_base",
    "ear_outer_base",
    "eye_outer",
    "eye_inner",
    "eye_upper",
    "eye_lower",
    "pupil",
    "mouth",
    "cheek",
    "muzzle",
)

CAT = Scene(
    name="cat",
    index=0,
    # The order is that of Cat::Parameter in csrc/cat.h. "Unit": half the picture's width, for a head of scale 1.
    parameters_table=(
        Parameter("yaw", math.radians(-34), math.radians(34), "radians, positive turns the face to the right"),
        Parameter("pitch", math.radians(-13), math.radians(13), "radians, positive looks down"),
        Parameter("roll", math.radians(-6), math.radians(6), "radians, positive is anticlockwise"),
        Parameter("scale", 0.865, 0.935, "size of the head"),
        Parameter("shift_x", -0.06, 0.06, "units, to the right"),
        Parameter("shift_y", -0.17, -0.07, "units, upwards"),
        Parameter("head_width", 0.60, 0.74, "units, half the width"),
        Parameter("cheeks", 0.0, 1.0, "slim to plump"),
        Parameter("ear_size", 0.30, 0.60, "units, length"),
        Parameter("ear_spread", 0.32, 0.46, "units, from the middle to the base"),
        Parameter("ear_tilt", 0.05, 0.60, "radians outwards from upright"),
        Parameter("eye_size", 0.18, 0.24, "units, radius of the eyeball"),
        Parameter("eye_gap", 0.27, 0.33, "units, from the middle to an eye's centre"),
        # Uniform lids would make every second cat look grumpy.
        Parameter("eye_open", 0.03, 1.0, "0 shut, 1 wide open", power=0.5),
        Parameter("eye_slant", -0.16, 0.17, "radians, positive lifts the outer corners"),
        Parameter("pupil", 0.10, 0.46, "half-width of the pupil, as a sine; its half-height is 0.46"),
        Parameter("gaze_x", -0.42, 0.42, "radians, positive looks right"),
        Parameter("gaze_y", -0.30, 0.30, "radians, positive looks up"),
        Parameter("muzzle", 0.85, 1.15, "size of the muzzle"),
        Parameter("nose", 0.8, 1.25, "size of the nose"),
        Parameter("mouth_open", 0.0, 1.0, "0 shut, 1 wide open"),
        Parameter("smile", -1.0, 6.0, "curvature of the mouth, per unit"),
        Parameter("fur_hue", 0.02, 0.105, "hue of the coat, red 0 to yellow 0.17"),
        Parameter("fur_saturation", 0.05, 0.62, "saturation of the coat; low is grey"),
        Parameter("fur_brightness", 0.45, 0.95, "brightness of the coat"),
        Parameter("stripes", 0.0, 1.0, "none to strong"),
        Parameter("white", 0.0, 1.0, "white on muzzle and chest, from the middle of the range a blaze too"),
        Parameter("eye_hue", 0.10, 0.58, "hue of the iris, amber to blue"),
        Parameter("back_hue", 0.0, 1.0, "hue of the backdrop"),
        Parameter("back_saturation", 0.10, 0.42, "saturation of the backdrop"),
        Parameter("back_brightness", 0.5, 0.9, "brightness of the backdrop"),
        Parameter("light_x", -0.9, 0.9, "where the light comes from, left to right"),
    ),
    landmarks=(
        *(f"left_{name}" for name in _SIDE),
        *(f"right_{name}" for name in _SIDE),
        "nose",
        "upper_lip",
        "lower_lip",
        "chin",
        "head_top",
        "forehead",
    ),
    # The order is that of Cat::label.
    parts=(
        "backdrop",
        "body",
        "head",
        "ear",
        "ear_inside",
        "eye_white",
        "iris",
        "pupil",
        "nose",
        "mouth",
        "tongue",
    ),
)
