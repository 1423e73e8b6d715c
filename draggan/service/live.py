"""``/v1/live``: a WebSocket on which targets come in and pictures go out, for as long as somebody pulls.

The client begins with JSON::

    {"recipe": RECIPE, "handles": [[x, y], ...], "mask": ..., "space": "w+", "settings": {...},
     "height": 128, "quality": 88}

RECIPE is exact or in short form, and may be left out when the connection has pulled before: then it goes on from what
that has reached. The answer is ``{"began": true, "size": [height, width], "heights": [...]}``. From then on the client
sends ``{"targets": [[x, y], ...], "id": 12}`` as often as it likes, the newest counts; and at last ``{"settle": true}``
(the drag goes to its end at the newest targets) or ``{"stop": true}`` (it ends where it is).

Every picture is one binary message: four bytes, big-endian, the length of a JSON header; the header,
``{"id": ..., "steps": ..., "handles": ..., "targets": ..., "distances": ..., "way": ..., "lost": ...}``; a JPEG. ``id``
is that of the targets that the picture was made for. A slow client gets fewer pictures, never late ones. At the end
comes ``{"done": true, "outcome": ..., "handles": ..., "recipe": RECIPE, "picture": PNG data URL}``, and the client may
begin again. What goes wrong comes as ``{"error": SENTENCE}``. What comes before the answer to the first message waits,
and is heard in its order; of more than 64 messages the oldest targets go, never a ``settle`` or ``stop``.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import WebSocket, WebSocketDisconnect

from draggan.engine.base import Engine, LiveDrag, Update
from draggan.engine.short_form import edit_from, recipe_from
from draggan.errors import LimitError, PointError, RecipeError
from draggan.export import Provenance, encode_picture
from draggan.provenance.deployment import Deployment
from draggan.recipe import MOST_CHARACTERS, Recipe, parse_json, read_object
from draggan.service.answers import data_url, error_of, facts_of, jpeg, recipe_value, result_of
from draggan.service.metrics import Metrics

__all__ = ["Live"]

_BEGIN = ("recipe", "handles", "mask", "space", "settings", "height", "quality")
_DURING = ("targets", "id", "settle", "stop")
_WAITING = 64  # messages that wait for a pull to begin
_LONGEST = 1 << 20  # characters of a message that only moves targets
_LONGEST_ID = 64  # characters
_PATIENCE = 0.5  # seconds for which a thread waits for a step
_REMEMBERED = 256  # targets whose picture may still come


class Live:
    """One connection.

    Args:
        socket: not accepted yet.
        engine: what drags.
        metrics: where pictures and lags are counted.
        in_thread: awaits a function in a thread.
        visitor: whose budget it counts in.
        deployment: as for `build_service`.
    """

    def __init__(
        self,
        socket: WebSocket,
        engine: Engine,
        metrics: Metrics,
        in_thread: Callable[..., Awaitable[Any]],
        visitor: str,
        deployment: Deployment | None = None,
    ) -> None:
        self._socket, self._engine, self._metrics = socket, engine, metrics
        self._in_thread, self._visitor, self._deployment = in_thread, visitor, deployment
        self._reached: Recipe | None = None
        self._current: _Pull | None = None
        self._waiting = _Waiting()

    async def run(self) -> None:
        """Serve it until the client goes."""
        await self._socket.accept()
        self._metrics.live.inc()
        reading = asyncio.create_task(self._read())
        try:
            with suppress(WebSocketDisconnect):
                while (text := await self._waiting.next()) is not None:
                    await self._pull(text)
        finally:
            self._metrics.live.dec()
            reading.cancel()

    async def _read(self) -> None:
        """Take what the client sends, as fast as it comes."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                if self._current is not None:
                    self._current.drag.stop()
                self._waiting.end()
                return
            text = message.get("text") or ""
            if self._current is not None:
                await self._hear(self._current, text)
            elif not self._waiting.add(text):
                await self._tell(LimitError("too many messages wait here; send the next one after the answer"))

    async def _hear(self, pull: _Pull, text: str) -> None:
        try:
            pull.hear(text)
        except Exception as error:  # noqa: BLE001  # told; the pull goes on as it was
            await self._tell(error)

    async def _tell(self, error: Exception) -> None:
        with suppress(WebSocketDisconnect):
            await self._send({"error": error_of(error)[1]})

    async def _pull(self, text: str) -> None:
        """One pull, from its first message to its end."""
        try:
            value = parse_json(text)
            if isinstance(value, dict) and value and set(value) <= set(_DURING):
                return  # meant for a pull that was over when it came
            drag, height, quality = await self._in_thread(self._begun, value)
        except Exception as error:  # noqa: BLE001  # becomes the answer
            await self._send({"error": error_of(error)[1]})
            return
        pull = _Pull(drag)
        try:
            size = list(drag.recipe.image_size)
            await self._send({"began": True, "size": size, "heights": list(drag.preview_heights)})
            # What has come meanwhile, in its order; what comes while it is heard stands behind it.
            while (early := self._waiting.at_once()) is not None:
                await self._hear(pull, early)
            if self._waiting.has_ended:
                return
            # Nothing waits, and nothing was awaited since: what comes from now on is heard at once.
            self._current = pull
            await self._show(pull, height, quality)
        finally:
            self._current = None
            drag.stop()

    def _begun(self, value: Any) -> tuple[LiveDrag, int, int]:
        """Read the first message and take hold of the picture."""
        value = read_object("a live drag", value, needed=("handles",), known=_BEGIN)
        if value.get("recipe") is not None:
            recipe = recipe_from(value["recipe"], self._engine)
        elif self._reached is not None:
            recipe = self._reached
        else:
            raise RecipeError("the first pull of a connection needs a recipe to begin with")
        handles = value["handles"]
        if not isinstance(handles, list):
            raise PointError("handles are given as [[x, y], ...] in image pixels")
        given = {name: value[name] for name in ("mask", "space", "settings") if value.get(name) is not None}
        recipe = self._engine.complete(recipe, visitor=self._visitor)
        edit = edit_from(given | {"points": [[handle, handle] for handle in handles]}, recipe)
        height = _whole(value.get("height"), "height", 1, 8192, 8192)
        quality = _whole(value.get("quality"), "quality", 1, 100, 88)
        # Last: whoever begins it has to stop it.
        drag = self._engine.live(recipe, edit, visitor=self._visitor)
        fitting = [h for h in drag.preview_heights if h <= height] or drag.preview_heights[:1]
        return drag, fitting[-1], quality

    async def _show(self, pull: _Pull, height: int, quality: int) -> None:
        """Send the newest picture whenever the client has taken the one before, and the result at last."""
        shown: Update | None = None
        try:
            while True:
                update = await self._in_thread(pull.drag.newer, shown, _PATIENCE)
                if update is None or update is shown:
                    if pull.drag.ended(0):
                        break
                    continue
                shown = update
                if update.index > 0:
                    frame = await self._in_thread(_frame, pull, update, height, quality)
                    await self._send(frame)
                    self._metrics.pictures.inc()
                    if (lag := pull.lag(update)) is not None:
                        self._metrics.lag.observe(lag)
                if update.done:
                    break
            result = await self._in_thread(self._result, pull.drag)
        except WebSocketDisconnect:
            raise
        except Exception as error:  # noqa: BLE001  # the last message says it
            result = {"error": error_of(error)[1]}
        await self._send(result)

    def _result(self, drag: LiveDrag) -> dict[str, Any]:
        result = result_of(drag) | {"done": True}
        self._reached = reached = drag.reached()
        pixels = self._engine.picture(reached, visitor=self._visitor)
        provenance = Provenance(deployment=self._deployment, door="api")
        data = encode_picture(pixels, recipe=reached, provenance=provenance)
        return result | {"recipe": recipe_value(reached), "picture": data_url(data)}

    async def _send(self, value: dict[str, Any] | bytes) -> None:
        try:
            if isinstance(value, bytes):
                await self._socket.send_bytes(value)
            else:
                await self._socket.send_text(json.dumps(value))
        except RuntimeError as error:  # Starlette's word for one who has gone meanwhile
            raise WebSocketDisconnect(1006) from error


@dataclass(frozen=True)
class _Message:
    text: str
    moves: bool  # targets, and does nothing else


class _Waiting:
    """What has come and was not for a pull under way."""

    def __init__(self) -> None:
        self._messages: deque[_Message] = deque()
        self._something = asyncio.Event()
        self.has_ended = False  # the client has gone

    def add(self, text: str) -> bool:
        """Let a message wait. Where there are too many the oldest that moves targets goes; False: there is none."""
        if len(text) + sum(len(message.text) for message in self._messages) > MOST_CHARACTERS:
            return False
        if len(self._messages) >= _WAITING:
            oldest = next((message for message in self._messages if message.moves), None)
            if oldest is None:
                return False
            self._messages.remove(oldest)
        self._messages.append(_Message(text, _only_moves(text)))
        self._something.set()
        return True

    def end(self) -> None:
        """Nothing more comes, and nobody waits for answers."""
        self._messages.clear()
        self.has_ended = True
        self._something.set()

    def at_once(self) -> str | None:
        """The message that has waited longest; None: none waits."""
        return self._messages.popleft().text if self._messages else None

    async def next(self) -> str | None:
        """The same, once there is one; None: nothing comes any more."""
        while not self._messages and not self.has_ended:
            self._something.clear()
            await self._something.wait()
        return self.at_once()


def _only_moves(text: str) -> bool:
    try:
        value = parse_json(text, _LONGEST)
    except RecipeError:
        return False
    return isinstance(value, dict) and "targets" in value and not value.get("settle") and not value.get("stop")


class _Pull:
    """A drag, and which targets were asked for when."""

    def __init__(self, drag: LiveDrag) -> None:
        self.drag = drag
        self._asked: OrderedDict[bytes, tuple[Any, float]] = OrderedDict()

    def hear(self, text: str) -> None:
        """A message of the client's."""
        value = read_object("a message", parse_json(text, _LONGEST), needed=(), known=_DURING)
        if value.get("targets") is not None:
            targets, number = value["targets"], value.get("id")
            if not isinstance(targets, list):
                raise PointError("targets are given as [[x, y], ...] in image pixels")
            # It is remembered, and sent back with every picture.
            if number is not None and not (isinstance(number, (int, float, str)) and len(str(number)) <= _LONGEST_ID):
                raise RecipeError(f"the id of targets is a number or a text of at most {_LONGEST_ID} characters")
            self.drag.retarget(targets)
            self._asked[_key(targets)] = (number, time.perf_counter())
            self._asked.move_to_end(_key(targets))
            while len(self._asked) > _REMEMBERED:
                self._asked.popitem(last=False)
        if value.get("stop"):
            self.drag.stop()
        elif value.get("settle"):
            self.drag.settle()

    def number(self, update: Update) -> Any:
        """The id of the targets that an update was made for."""
        asked = self._asked.get(_key(update.targets))
        return None if asked is None else asked[0]

    def lag(self, update: Update) -> float | None:
        """Seconds since those targets came, the first time that this is asked for them."""
        key = _key(update.targets)
        asked = self._asked.get(key)
        if asked is None or np.isnan(asked[1]):
            return None
        self._asked[key] = (asked[0], float("nan"))
        return time.perf_counter() - asked[1]


def _key(targets: Any) -> bytes:
    return np.asarray(targets, np.float32).tobytes()


def _frame(pull: _Pull, update: Update, height: int, quality: int) -> bytes:
    header = json.dumps(facts_of(update) | {"id": pull.number(update)}).encode()
    return len(header).to_bytes(4, "big") + header + jpeg(pull.drag.preview(update, height), quality)


def _whole(value: Any, name: str, low: int, high: int, default: int) -> int:
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RecipeError(f"{name} = {value!r:.40} is not allowed; give a whole number from {low} to {high}")
    return value
