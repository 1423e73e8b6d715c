"""The face: a friendly drawn head of any skin and hair that turns, looks, talks and smiles."""

from __future__ import annotations

import math

from draggan.scenes.scene import Parameter, Scene

__all__ = ["FACE"]

_SIDE = (
    "eye_outer",
    "eye_inner",
    "eye_upper",
    "eye_lower",
    "pupil",
    "brow_inner",
    "brow_outer",
    "nose_wing",
    "mouth",
    "ear",
    "jaw",
    "cheek",
)

FACE = Scene(
    name="face",
    index=1,
    # The order is that of the enumeration in csrc/face.h. "Unit": half the picture's width, for a head of scale 1.
    parameters_table=(
        Parameter("yaw", math.radians(-32), math.radians(32), "radians, positive turns the face to the right"),
        Parameter("pitch", math.radians(-13), math.radians(13), "radians, positive looks down"),
        Parameter("roll", math.radians(-8), math.radians(8), "radians, positive is anticlockwise"),
        Parameter("scale", 1.13, 1.23, "size of the head"),
        Parameter("shift_x", -0.06, 0.06, "units, to the right"),
        Parameter("shift_y", -0.13, -0.03, "units, upwards"),
        Parameter("head_width", 0.42, 0.50, "units, half the width of the skull"),
        Parameter("jaw_width", 0.30, 0.415, "units, half the width of the jaw"),
        Parameter("chin", 0.0, 1.0, "short to long and strong"),
        Parameter("cheeks", 0.0, 1.0, "slim to plump"),
        Parameter("eye_size", 0.145, 0.185, "units, radius of the eyeball"),
        Parameter("eye_gap", 0.185, 0.225, "units, from the middle to an eye's centre"),
        # Uniform lids would make every second face look tired.
        Parameter("eye_open", 0.0, 1.0, "0 shut, 1 wide open", power=0.6),
        Parameter("eye_slant", -0.14, 0.16, "radians, positive lifts the outer corners"),
        Parameter("gaze_x", -0.36, 0.36, "radians, positive looks right"),
        Parameter("gaze_y", -0.22, 0.22, "radians, positive looks up"),
        Parameter("iris", 0.0, 1.0, "colour of the iris: dark brown, brown, hazel, green, blue, grey"),
        Parameter("brow_height", 0.0, 1.0, "low to raised"),
        Parameter("brow_slant", -1.0, 1.0, "-1 worried, 1 cross"),
        Parameter("brow_thickness", 0.0, 1.0, "thin to bushy"),
        Parameter("nose_size", 0.80, 1.25, "size of the nose"),
        Parameter("nose_width", 0.75, 1.35, "width of the nose, against its size"),
        Parameter("nose_tip", -1.0, 1.0, "hanging to turned up"),
        Parameter("mouth_open", 0.0, 1.0, "0 shut, 1 wide open", power=1.9),
        Parameter("smile", -0.7, 2.9, "curvature of the mouth, per unit", power=0.8),
        Parameter("mouth_width", 0.115, 0.175, "units, half the width of the mouth"),
        Parameter("lip_fullness", 0.0, 1.0, "thin to full"),
        Parameter("lip_colour", 0.0, 1.0, "that of the skin to red"),
        Parameter("ears", 0.75, 1.25, "size of the ears"),
        Parameter("hair_volume", 0.0, 1.0, "bald below 0.06, cropped, then more and more on top"),
        Parameter("hair_length", -1.0, 1.0, "cropped sides at -1, over the ears from 0.1, on the shoulders at 1"),
        Parameter("fringe", 0.0, 1.0, "high hairline to a fringe over the brow"),
        Parameter("parting", -1.0, 1.0, "hair combed to the left or to the right"),
        Parameter("curls", 0.0, 1.0, "straight to curly", power=1.5),
        Parameter("hair_lightness", 0.0, 1.0, "black, dark brown, brown, dark blond, light blond", power=1.2),
        Parameter("hair_warmth", -1.0, 1.0, "below -0.5 more and more grey and white, above 0.5 more and more red"),
        Parameter("skin", 0.0, 1.0, "very light to very dark, even in lightness"),
        Parameter("undertone", -1.0, 1.0, "cool and rosy to warm and olive"),
        Parameter("glasses", 0.0, 1.0, "none up to 0.79, thin frames from 0.80 on"),
        Parameter("cloth_hue", 0.0, 1.0, "hue of the clothing"),
        Parameter("cloth_brightness", 0.15, 0.95, "brightness of the clothing"),
        Parameter("back_hue", 0.0, 1.0, "hue of the backdrop"),
        Parameter("back_brightness", 0.25, 0.92, "brightness of the backdrop"),
        Parameter("light_x", -0.9, 0.9, "where the light comes from, left to right"),
    ),
    landmarks=(
        *(f"left_{name}" for name in _SIDE),
        *(f"right_{name}" for name in _SIDE),
        "nose_bridge",
        "nose_tip",
        "upper_lip",
        "lower_lip",
        "chin",
        "forehead",
        "hairline",
        "head_top",
    ),
    # The order is that of Face::label.
    parts=(
        "backdrop",
        "clothing",
        "skin",
        "ear",
        "nose",
        "brow",
        "lips",
        "mouth",
        "teeth",
        "tongue",
        "eye_white",
        "iris",
        "pupil",
        "hair",
        "glasses",
    ),
)
