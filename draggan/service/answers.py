"""What the service answers: errors as sentences with a status, pictures as text, lines of a stream."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from draggan.engine.base import RunningDrag, Update
from draggan.errors import DragGANError, LimitError, ModelNotFound
from draggan.images import over_white
from draggan.recipe import Recipe
from draggan.sentences import presentable, sentence

__all__ = ["data_url", "error_of", "facts_of", "jpeg", "line_of", "ndjson", "recipe_value", "result_of", "server_sent"]

log = logging.getLogger(__name__)


def error_of(error: BaseException) -> tuple[int, str]:
    """The status and the sentence of an error: nothing in it says where things lie on this machine."""
    if isinstance(error, DragGANError):
        status = 429 if isinstance(error, LimitError) else 404 if isinstance(error, ModelNotFound) else 400
        return status, sentence(presentable(str(error)))
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        log.exception("out of memory")
        return 503, "There is not enough memory for this at the moment; try again later, or with a smaller model."
    log.exception("unexpected error in the service")
    return 500, "Something went wrong here that was not foreseen; the server's log says what."


def facts_of(update: Update | None) -> dict[str, Any]:
    """What is known after a step, as JSON has it."""
    if update is None:
        return {"steps": 0}
    facts = {
        "steps": update.index,
        "handles": update.handles.round(3).tolist(),
        "targets": update.targets.round(3).tolist(),
        "distances": update.distances.round(3).tolist(),
        "way": round(update.way, 4),
        "lost": update.lost.tolist(),
    }
    if update.outcome == "arrived":
        return facts | {"faded": update.faded}
    return facts | {"unsure": update.unsure} if update.outcome == "lost" else facts


def result_of(running: RunningDrag) -> dict[str, Any]:
    """How a drag has ended, and why if the engine has ended it; waits for that, and raises what it has failed with."""
    last = running.result()
    facts = facts_of(last) | {"outcome": "stopped" if last is None else last.outcome}
    return facts | {"notice": running.notice} if running.notice else facts


def recipe_value(recipe: Recipe, *, results: bool = True) -> dict[str, Any]:
    """A recipe for others, as JSON has it; ``results``: with the latents that are known."""
    return json.loads(recipe.portable().to_json(results=results))


def data_url(data: bytes, kind: str = "image/png") -> str:
    """A file as text."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def jpeg(pixels: UInt8[np.ndarray, "height width channels"], quality: int = 88) -> bytes:
    """A preview, not a file: it passes by what marks files."""
    buffer = io.BytesIO()
    Image.fromarray(over_white(pixels)).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def ndjson(value: Any) -> str:
    """A line of newline-delimited JSON."""
    return json.dumps(value) + "\n"


def server_sent(value: Any) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(value)}\n\n"


def line_of(accepted: str) -> tuple[str, Callable[[Any], str]]:
    """Media type and form of a stream, by what a client accepts."""
    if "text/event-stream" in accepted:
        return "text/event-stream", server_sent
    return "application/x-ndjson", ndjson
