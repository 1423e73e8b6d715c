"""The car: a round little toy from coupe to van, seen from three quarters behind to nearly the front."""

from __future__ import annotations

import math

from draggan.scenes.scene import Parameter, Scene

__all__ = ["CAR"]

_SIDE = (
    "front_wheel",
    "rear_wheel",
    "front_contact",
    "rear_contact",
    "windscreen_base",
    "windscreen_top",
    "rear_window_top",
    "rear_window_base",
    "mirror",
    "door_handle",
    "headlight",
    "tail_light",
    "front_bumper",
    "rear_bumper",
)

CAR = Scene(
    name="car",
    index=2,
    # The order is that of Car::Parameter in csrc/car.h. "Unit": half the picture's width, for a car of scale 1. The car
    # drives to the right, so the side at its own right hand is always the near one: landmarks are near_ and far_.
    parameters_table=(
        Parameter("yaw", math.radians(-52), math.radians(72), "radians from the side view, positive shows the front"),
        Parameter("pitch", math.radians(5), math.radians(20), "radians, height of the camera above the ground"),
        Parameter("scale", 0.93, 1.01, "size of the car"),
        Parameter("shift_x", -0.05, 0.05, "units, to the right"),
        Parameter("shift_y", -0.42, -0.34, "units, upwards, of the ground under the car"),
        Parameter("length", 1.42, 1.72, "units"),
        Parameter("width", 0.74, 0.88, "units"),
        Parameter("body_height", 0.43, 0.52, "units, from the ground to the windows, for wheels of 0.175"),
        Parameter("hood", 0.20, 0.36, "length of the hood, as a part of the car's"),
        Parameter("hood_drop", 0.02, 0.12, "units, how much lower the nose is than the windscreen's base"),
        Parameter("trunk", 0.04, 0.24, "length of the trunk, as a part of the car's"),
        Parameter("trunk_drop", 0.0, 0.10, "units, how much lower the tail is than the rear window's base"),
        Parameter("roof_height", 0.25, 0.40, "units, above the windows' base"),
        Parameter("windscreen", 0.10, 0.36, "rake of the windscreen, as a part of the cabin's length"),
        Parameter("rear_window", 0.03, 0.42, "rake of the rear window, likewise: van to coupe"),
        Parameter("ride_height", 0.09, 0.17, "units, under the body"),
        Parameter("wheel_size", 0.150, 0.200, "units, radius"),
        Parameter("front_wheel", 0.0, 1.0, "place of the front wheels, forward to back"),
        Parameter("rear_wheel", 0.0, 1.0, "place of the rear wheels, back to forward"),
        Parameter("rim_size", 0.52, 0.74, "radius of the rim, as a part of the wheel's"),
        Parameter("spokes", 0.0, 1.0, "plain hubcap to open spokes"),
        Parameter("roundness", 0.07, 0.16, "units, radius of the body's edges"),
        Parameter("glass", 0.0, 1.0, "dark to light windows"),
        Parameter("headlight", 0.055, 0.095, "units, radius"),
        Parameter("tail_light", 0.03, 0.075, "units, half their height"),
        Parameter("grille", 0.10, 0.24, "units, half its width"),
        Parameter("paint_hue", 0.0, 1.0, "hue of the paint"),
        Parameter("paint_saturation", 0.0, 0.82, "saturation of the paint; low is white, grey or black", power=0.7),
        Parameter("paint_brightness", 0.12, 0.92, "brightness of the paint", power=0.6),
        Parameter("roof_white", 0.0, 1.0, "roof in the body's colour to white", power=1.5),
        Parameter("back_hue", 0.0, 1.0, "hue of the backdrop and the ground"),
        Parameter("back_saturation", 0.06, 0.36, "saturation of the backdrop"),
        Parameter("back_brightness", 0.60, 0.94, "brightness of the backdrop"),
        Parameter("ground", 0.78, 1.08, "brightness of the ground, as a part of the backdrop's"),
        Parameter("light_x", -0.9, 0.9, "where the light comes from, left to right"),
    ),
    landmarks=(
        *(f"near_{name}" for name in _SIDE),
        *(f"far_{name}" for name in _SIDE),
        "badge",
        "hood",
        "windscreen_base",
        "windscreen_top",
        "roof",
        "rear_window_top",
        "trunk",
    ),
    # The order is that of Car::label.
    parts=(
        "backdrop",
        "body",
        "roof",
        "window",
        "tyre",
        "rim",
        "grille",
        "bumper",
        "headlight",
        "tail_light",
        "mirror",
    ),
)
