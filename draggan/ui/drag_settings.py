"""The settings of a drag that the page offers: their controls, and what is read from them.

Default, range, unit and help of each are in `DragConfig`; the page has only a title for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from draggan.config import SOLVER_NAMES, DragConfig, describe
from draggan.errors import ConfigError
from draggan.session import Session
from draggan.ui import messages

__all__ = [
    "OF_THE_MODEL",
    "SETTINGS",
    "UP_FRONT",
    "chosen_settings",
    "control",
    "last_good_values",
    "shown_settings",
    "without_model_settings",
]

# Besides the latent space, which has a place of its own.
SETTINGS = (
    *("step_size", "max_steps", "stop_distance", "mask_weight", "r1", "r2", "free_rows"),
    *("solver", "naturalness", "mask_hold", "max_departure"),
)

UP_FRONT = ("naturalness", "mask_hold")
"""Those of them that everybody may want to choose."""

OF_THE_MODEL = ("step_size", "solver")
"""Those of them that belong to a model: another model brings its own."""


def control(name: str) -> gr.Number | gr.Slider | gr.Radio:
    """The control of a setting."""
    facts = describe(DragConfig, name)
    for solver in SOLVER_NAMES:
        facts["help"] = facts["help"].replace(f"{solver}:", f"{messages.solver_title(solver)}:")
    facts["help"] = facts["help"][:1].upper() + facts["help"][1:]
    look: dict[str, Any] = {"label": messages.TITLES[name], "elem_id": f"dg-{name.replace('_', '-')}", "min_width": 160}
    look["render"] = False  # the page renders it where it belongs
    if name == "solver":
        choices = [(messages.solver_title(solver), solver) for solver in SOLVER_NAMES]
        return gr.Radio(choices, value=facts["default"], **look)
    if name in messages.CHOICES:
        titles = messages.CHOICES[name]
        return gr.Radio([(titles[value], value) for value in titles], value=facts["default"], **look)
    if (facts["low"], facts["high"]) == (0, 1):
        return gr.Slider(0, 1, facts["default"], step=0.05, info=facts["help"], **look)
    whole = isinstance(facts["default"], int)
    # A number of steps needs no more than its sentence.
    unit = f" [{facts['unit']}]" if facts["unit"] and not whole else ""
    # The arrows of a number's box: halves of its order of magnitude.
    step = 1 if whole else 10 ** math.floor(math.log10(facts["default"])) / 2
    # No minimum, maximum or precision: Gradio would refuse or round a value before we can say why.
    return gr.Number(facts["default"], info=facts["help"] + unit, step=step, **look)


def shown_settings(session: Session, of_model: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting that the page offers, as it was last chosen or else as it suits the model."""
    suited = DragConfig(**of_model)
    return {name: session.settings.get(name, getattr(suited, name)) for name in SETTINGS}


def chosen_settings(session: Session, values: Sequence[float | None]) -> Session:
    """The session with these settings.

    Raises:
        ConfigError: one of them is not possible; the message calls it as the page does.
    """
    if len(values) != len(SETTINGS):
        raise ConfigError(f"{len(values)} settings were given; they are {', '.join(SETTINGS)}")
    numbers = _numbers(values)
    for name, value in numbers.items():
        if (error := _refusal(name, value)) is not None:
            raise ConfigError(messages.wrong_setting(name, value, str(error))) from error
    return session.set_settings(numbers)


def last_good_values(before: Mapping[str, Any], values: Sequence[float | None]) -> dict[str, Any]:
    """What the controls should show where some of these values are not possible: in place of those, the ones before."""
    if len(values) != len(SETTINGS):
        return {}
    return {name: value if _refusal(name, value) is None else before[name] for name, value in _numbers(values).items()}


def without_model_settings(session: Session) -> Session:
    """The session after a change of model: what the old one needed is forgotten, what a person chose is kept."""
    return session.set_settings({name: value for name, value in session.settings.items() if name not in OF_THE_MODEL})


def _numbers(values: Sequence[float | None]) -> dict[str, Any]:
    """Settings by name as the page sends them; JavaScript knows no whole numbers."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() and _is_whole(name) else value
        for name, value in zip(SETTINGS, values, strict=True)
    }


def _refusal(name: str, value: Any) -> ConfigError | None:
    """Why a setting cannot have this value; None: it can."""
    try:
        DragConfig(**{name: value})
    except ConfigError as error:
        return error
    return None


def _is_whole(name: str) -> bool:
    return isinstance(describe(DragConfig, name)["default"], int)
