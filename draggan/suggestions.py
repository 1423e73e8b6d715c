"""What suits a model: settings of a drag and truncation, as its entry in the list says or else as usual.

The list of models (`draggan.checkpoints.catalogue`) holds what was found out about each model and nothing else; what it
leaves open is `DragConfig`'s own default, or `TRUNCATION`. The page, the command line and Python all ask here.
"""

from __future__ import annotations

import os
from typing import Any

from draggan.checkpoints.catalogue import ModelEntry, listed_entry
from draggan.config import DragConfig

__all__ = ["TRUNCATION", "settings_of", "suggested_config", "suggested_truncation", "truncation_of"]

# Most models look best here: fewer failures than at 1, more variety than at 0.
TRUNCATION = 0.7


def suggested_config(model: str | os.PathLike[str], **settings: Any) -> DragConfig:
    """Settings of a drag that suit a model; ``settings`` go before what its entry says.

    Args:
        model: as for `load_generator`: a registry name, a path or an https address. One that is not listed has the
            usual settings.

    Raises:
        ConfigError: a setting is outside its range.
    """
    return DragConfig(**(settings_of(listed_entry(model)) | settings))


def suggested_truncation(model: str | os.PathLike[str]) -> float:
    """Truncation psi at which a model's pictures look best, as far as known; ``model`` as for `suggested_config`."""
    return truncation_of(listed_entry(model))


def settings_of(entry: ModelEntry | None) -> dict[str, Any]:
    """The settings of a drag that an entry of the list of models sets; all others are as usual."""
    if entry is None:
        return {}
    said = {"step_size": entry.step_size, "solver": entry.solver or None, "level": entry.level or None}
    return {name: value for name, value in said.items() if value is not None}


def truncation_of(entry: ModelEntry | None) -> float:
    """Where the pictures of an entry's model look best."""
    return TRUNCATION if entry is None or entry.truncation is None else entry.truncation
