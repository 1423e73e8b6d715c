"""The settings of a drag that the page offers: what there is to say of each, and what is read from them.

Default, range, unit and help of each are in `DragConfig`; the page has a title for it, and plainer words for a few.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

from draggan.config import LEAST_PIXELS, SOLVER_NAMES, DragConfig, at_size, describe, read_setting
from draggan.errors import ConfigError
from draggan.session import Session
from draggan.ui import messages

__all__ = [
    "OF_THE_MODEL",
    "SETTINGS",
    "UP_FRONT",
    "chosen_settings",
    "last_good_values",
    "row_of",
    "shown_settings",
    "without_model_settings",
]

# Besides the latent space, which a session keeps apart.
SETTINGS = (
    *("step_size", "max_steps", "stop_distance", "mask_weight", "r1", "r2", "free_rows"),
    *("solver", "naturalness", "mask_hold", "max_departure"),
)

UP_FRONT = ("naturalness", "space", "mask_hold")
"""Those that everybody may want to choose."""

OF_THE_MODEL = ("step_size", "solver")
"""Those of them that belong to a model: another model brings its own."""

_PIXELS = "px at 512 px"  # the unit of a length that grows with the picture


def row_of(name: str) -> dict[str, Any]:
    """What the page has to say of a setting, and how it is chosen; see `settings_box`."""
    facts = describe(DragConfig, name)
    plain = facts["help"]
    for solver in SOLVER_NAMES:
        plain = plain.replace(f"{solver}:", f"{messages.solver_title(solver)}:")
    plain = messages.HELP_OF.get(name, plain[:1].upper() + plain[1:])
    row: dict[str, Any] = {
        "name": name,
        "title": messages.TITLES[name],
        "help": plain if plain.endswith(".") else plain + ".",
        "kind": "number",
        "unit": "px" if facts["unit"] == _PIXELS else facts["unit"] if len(facts["unit"]) < 8 else "",
        "pixels": facts["unit"] == _PIXELS,
        "low": facts["low"],
        "high": facts["high"],
        "least": LEAST_PIXELS.get(name, 0),
        "front": name in UP_FRONT,
        "only": facts["only"] or "",
        "onlyTitle": messages.solver_title(facts["only"] or ""),
        "choices": [list(choice) for choice in messages.CHOICES.get(name, {}).items()],
        "ends": [],
    }
    if name in messages.ENDS:
        row |= {"kind": "between", "ends": list(messages.ENDS[name])}
    elif row["choices"]:
        row["kind"] = "tick" if name == "mask_hold" else "choice"
    return row


def shown_settings(session: Session, of_model: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting that the page offers, as it was last chosen or else as it suits the model."""
    suited = DragConfig(**of_model)
    return {name: session.settings.get(name, getattr(suited, name)) for name in SETTINGS}


def chosen_settings(session: Session, values: Any) -> Session:
    """The session with these settings, by name; those that are not given stay as they are.

    Raises:
        ConfigError: one of them is not possible; the message calls it as the page does, in the picture's pixels.
    """
    chosen = {}
    for name, value in _sent(values).items():
        try:
            chosen[name] = _read(name, value)
        except ConfigError as error:
            raise ConfigError(_in_words(name, value, error, session)) from error
    if isinstance(values, Mapping) and "space" in values:
        session = session.set_space(values["space"])
    return session.set_settings({**session.settings, **chosen})


def last_good_values(before: Mapping[str, Any], values: Any) -> dict[str, Any]:
    """What the controls should show where some of these values are not possible: in place of those, the ones before."""
    good = dict(before)
    for name, value in _sent(values).items():
        with contextlib.suppress(ConfigError):
            good[name] = _read(name, value)
    return good


def without_model_settings(session: Session) -> Session:
    """The session after a change of model: what the old one needed is forgotten, what a person chose is kept."""
    return session.set_settings({name: value for name, value in session.settings.items() if name not in OF_THE_MODEL})


def _sent(values: Any) -> dict[str, Any]:
    """Settings by name as the page sends them, of those that it offers."""
    values = values if isinstance(values, Mapping) else {}
    return {name: value for name, value in values.items() if name in SETTINGS}


def _read(name: str, value: Any) -> Any:
    """A value in the setting's own type, checked.

    Raises:
        ConfigError: it cannot have this value.
    """
    value = read_setting(name, value)
    DragConfig(**{name: value})
    return value


def _in_words(name: str, value: Any, error: ConfigError, session: Session) -> str:
    """The same in the words of the page."""
    facts = describe(DragConfig, name)
    if facts["unit"] != _PIXELS or not isinstance(value, (int, float)) or not math.isfinite(value):
        return messages.wrong_setting(name, value, str(error))
    shown, low, high = (at_size(length, session.image_size) for length in (value, facts["low"], facts["high"]))
    least = max(low, LEAST_PIXELS.get(name, 0))
    return f"{messages.TITLES[name]} {shown:.4g} px is not allowed; give a number from {least:.4g} to {high:.4g}"
