"""A recipe as another program, or a person, may give it: in its exact form, or in a few words.

In a few words, everything but the model may be left out::

    {"model": "cat", "seed": 7, "truncation": 0.7, "class": null,
     "points": [[156, 156, 128, 156]], "mask": {"runs": [...]}, "space": "w+", "settings": {"max_steps": 100}}

A mask may also be a PNG data URL. Without points it is the picture of the seed.
"""

from __future__ import annotations

from typing import Any

from draggan.engine.base import Engine
from draggan.errors import ModelNotFound, RecipeError
from draggan.images import read_mask
from draggan.recipe import Edit, Mask, Recipe, read_edit, read_object

__all__ = ["edit_from", "recipe_from"]

_EDIT = ("points", "mask", "space", "settings")
_START = ("seed", "truncation", "class")


def recipe_from(value: Any, engine: Engine) -> Recipe:
    """The recipe that a JSON value means.

    Args:
        value: as `draggan.recipe.parse_json` gives it.
        engine: knows the models, their sizes and what suits them.

    Raises:
        RecipeError: neither a recipe nor a short form.
        DragGANError: a part of it cannot be used, or there is no such model.
    """
    if isinstance(value, dict) and "recipe" in value:
        return Recipe.from_values(value)
    value = read_object("a recipe in short form", value, needed=("model",), known=(*_START, *_EDIT))
    model, truncation = value["model"], value.get("truncation")
    if not isinstance(model, str):
        raise ModelNotFound("a model is given by its name, as a text")
    recipe = engine.begin(model, seed=value.get("seed", 0), truncation=truncation, label=value.get("class"))
    given = {name: value[name] for name in _EDIT if value.get(name) is not None}
    if not given:
        return recipe
    if not given.get("points"):
        raise RecipeError(f"there is {', '.join(given)} but no points; give [[handle x, handle y, target x, target y]]")
    return recipe.then(edit_from(given, recipe))


def edit_from(value: Any, recipe: Recipe) -> Edit:
    """An edit in the JSON form of a recipe, whose mask may also be a PNG data URL.

    Args:
        recipe: of the picture that it begins with.
    """
    mask = value.get("mask") if isinstance(value, dict) else None
    if isinstance(mask, str):
        value = {name: part for name, part in value.items() if name != "mask"}
    edit = read_edit(value, len(recipe.edits), recipe.image_size)
    if not isinstance(mask, str):
        return edit
    if not mask.startswith("data:"):
        raise RecipeError('a mask is given as {"runs": [...]} or as a PNG data URL')
    allowed = read_mask(mask, recipe.image_size)
    return Edit(points=edit.points, mask=Mask(allowed=allowed), space=edit.space, settings=edit.settings)
