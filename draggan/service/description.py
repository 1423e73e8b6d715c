"""What the service says of itself to programs: the schemas of its OpenAPI description.

Requests are read by the recipe's own readers, not by these; tests hold them against each other.
"""

from __future__ import annotations

from typing import Any

from draggan.config import MOST_TRUNCATION, SEEDS, DragConfig, choices, describe, setting_names
from draggan.recipe import MOST_EDITS, MOST_NAME, MOST_POINTS, MOST_SIDE

__all__ = ["ERROR", "PICTURE", "RECIPE", "STREAM", "json_body"]

_NUMBER = {"type": "number"}
_XY = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2, "description": "x and y in image pixels"}
_LATENT = {
    "type": "object",
    "description": "a latent code: little-endian float32, base64; `deflated`: compressed by zlib",
    "required": ["shape"],
    "properties": {
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 3, "maxItems": 3},
        "float32": {"type": "string"},
        "deflated": {"type": "string"},
    },
    "additionalProperties": False,
}
_POINTS = {
    "type": "array",
    "maxItems": MOST_POINTS,
    "description": "handles and targets in image pixels",
    "items": {
        "oneOf": [
            {"type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 4},
            {
                "type": "object",
                "required": ["handle", "target"],
                "properties": {
                    "handle": _XY,
                    "target": _XY,
                    "origin": _XY,
                    "picture": {"type": ["integer", "null"], "minimum": 0},
                },
                "additionalProperties": False,
            },
        ]
    },
}
_RUNS = {
    "type": "object",
    "required": ["runs"],
    "description": "what may change: lengths of stretches row by row, alternately not and may, the first of them not",
    "properties": {
        "runs": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "picture": {"type": ["integer", "null"], "minimum": 0},
    },
    "additionalProperties": False,
}


def _setting(name: str) -> dict[str, Any]:
    facts = describe(DragConfig, name)
    default = facts["default"]
    kind = {int: "integer", float: "number"}.get(type(default), "string")
    unit = f" [{facts['unit']}]" if facts["unit"] else ""
    told = {"type": kind if default is not None else [kind, "null"], "description": f"{facts['help']}{unit}"}
    limits = {"minimum": facts["low"], "maximum": facts["high"], "enum": choices(DragConfig).get(name)}
    return told | {word: value for word, value in limits.items() if value is not None}


_SETTINGS = {
    "type": "object",
    "description": "of the drag; those left out are what suits the model",
    "properties": {name: _setting(name) for name in setting_names()},
    "additionalProperties": False,
}
_SPACE = {"type": "string", "enum": choices(DragConfig)["space"], "default": DragConfig.space}
_SEED = {"type": "integer", "minimum": 0, "maximum": SEEDS - 1}
_TRUNCATION = {"type": "number", "minimum": 0, "maximum": MOST_TRUNCATION}
_CLASS = {"type": ["integer", "null"], "minimum": 0}
_HASH = {"type": ["string", "null"], "pattern": "^([0-9a-f]{64})?$"}
_SHORT = {
    "title": "Recipe in short form",
    "type": "object",
    "required": ["model"],
    "properties": {
        "model": {"type": "string", "description": "a name that /v1/models lists"},
        "seed": _SEED | {"default": 0},
        "truncation": _TRUNCATION | {"type": ["number", "null"], "description": "null: what suits the model"},
        "class": _CLASS,
        "points": _POINTS,
        "mask": {"oneOf": [_RUNS, {"type": "string", "description": "a PNG data URL"}, {"type": "null"}]},
        "space": _SPACE,
        "settings": _SETTINGS,
    },
    "additionalProperties": False,
}
_EXACT = {
    "title": "Recipe",
    "type": "object",
    "required": ["recipe", "model", "size", "start"],
    "properties": {
        "recipe": {"type": "integer", "enum": [1]},
        "model": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": MOST_NAME},
                "sha256": _HASH,
                "tuning": _HASH | {"description": "of a photo: what was changed in the weights to draw it"},
            },
            "additionalProperties": False,
        },
        "size": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1, "maximum": MOST_SIDE},
            "minItems": 2,
            "maxItems": 2,
            "description": "height and width of its pictures",
        },
        "start": {
            "oneOf": [
                {
                    "type": "object",
                    "required": ["seed"],
                    "properties": {"seed": _SEED, "truncation": _TRUNCATION, "class": _CLASS},
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "required": ["latent"],
                    "properties": {"latent": _LATENT},
                    "additionalProperties": False,
                },
            ]
        },
        "edits": {
            "type": "array",
            "maxItems": MOST_EDITS,
            "items": {
                "type": "object",
                "properties": {
                    "points": _POINTS,
                    "mask": {"oneOf": [_RUNS, {"type": "null"}]},
                    "space": _SPACE,
                    "settings": _SETTINGS,
                    "recorded": {"oneOf": [_LATENT, {"type": "null"}]},
                    "by hand": {"type": "boolean"},
                },
                "additionalProperties": False,
            },
        },
        "results": {"type": "array", "maxItems": MOST_EDITS + 1, "items": {"oneOf": [_LATENT, {"type": "null"}]}},
    },
    "additionalProperties": False,
}

RECIPE: dict[str, Any] = {"oneOf": [_SHORT, _EXACT], "description": "how a picture comes to be"}
ERROR: dict[str, Any] = {
    "description": "a sentence that says what was given, what is allowed and what to do",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["detail", "error"],
                "properties": {"detail": {"type": "string"}, "error": {"type": "string"}},
            }
        }
    },
}
PICTURE: dict[str, Any] = {
    "description": "the picture, marked as made by AI, with its recipe in it; for those who accept JSON both apart",
    "content": {
        "image/png": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["picture", "recipe"],
                "properties": {"picture": {"type": "string", "description": "a PNG data URL"}, "recipe": _EXACT},
            }
        },
    },
}
STREAM: dict[str, Any] = {
    "description": "lines of JSON, or server-sent events: what is known after a step as it comes (steps, handles, "
    "targets, distances, way, and lost: of each handle, whether it is uncertain where its content is); at last also "
    "recipe, picture as a PNG data URL, and outcome: arrived (faded: the picture has lost much of its detail); "
    "stalled, unlikely or far (no farther with this model); lost (content could be followed no farther; or, with "
    "unsure true, it may have arrived); max_steps; stopped; diverged. Or error",
    "content": {
        "application/x-ndjson": {"schema": {"type": "string"}},
        "text/event-stream": {"schema": {"type": "string"}},
    },
}


def json_body(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    """The description of a request's body, which is read elsewhere."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}
