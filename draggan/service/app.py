"""The routes of the service (an ASGI application): recipes in, pictures out.

    GET  /v1/models        the models there are
    POST /v1/picture       a recipe; its picture
    POST /v1/drag          a recipe; its last edit step by step, as lines or events
         /v1/live          WebSocket: targets in, pictures out (`draggan.service.live`)
    GET  /v1/openapi.json  this, for programs
    GET  /health, /ready, /metrics
         /mcp              tools for language models, where they are wanted (`draggan.service.tools`)

It knows engines and models by their seams only. Who may ask, how often and under which name is for the gate before it:
`draggan.ui.server.guard`, which also says whose budget a request counts in (``scope["state"]["caller"]``).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse

import draggan.service.description as described
from draggan.config import Limits
from draggan.engine.base import Engine, RunningDrag, Update
from draggan.engine.models import Models
from draggan.engine.short_form import recipe_from
from draggan.errors import ConfigError, LimitError, RecipeError
from draggan.export import Provenance, encode_picture
from draggan.provenance.deployment import Deployment, default
from draggan.provenance.verify import verify_bytes
from draggan.recipe import Recipe, parse_json
from draggan.service.answers import data_url, error_of, facts_of, jpeg, line_of, recipe_value, result_of
from draggan.service.live import Live
from draggan.service.metrics import CONTENT_TYPE, EngineCounts, Metrics
from draggan.service.tools import build_tools

__all__ = ["build_service"]

T = TypeVar("T")

_REPORT_EVERY = 0.1  # seconds between two lines of a drag
_LISTENER = 1.0  # seconds between two looks whether anybody waits for an answer that takes long
_PATIENCE = 0.5  # seconds for which a thread waits for a step before it looks whether anybody still listens
_VERIFY = 8.0  # seconds for the search of the invisible mark
_WAIT_TO_VERIFY = 20.0  # seconds
_EXAMPLE = {"model": "cat", "seed": 7, "points": [[156, 156, 128, 156]]}
_PREVIEWS = {
    "name": "previews",
    "in": "query",
    "description": "the height in pixels of a preview in every line, a JPEG data URL; 0: none",
    "schema": {"type": "integer", "minimum": 0, "maximum": 8192, "default": 0},
}


def build_service(
    engine: Engine,
    models: Models,
    limits: Limits | None = None,
    *,
    ready: Callable[[], str] = lambda: "",
    deployment: Deployment | None = None,
    tools: bool = False,
) -> FastAPI:
    """The service.

    Args:
        engine: what draws and drags.
        models: what it offers.
        limits: what visitors may have.
        ready: why it is not ready yet, as a sentence; empty: it is.
        deployment: whose keys, record and rules count for what leaves; None: this process's own.
        tools: also answer language models at /mcp (`draggan.service.tools`).

    Raises:
        ConfigError: tools are wanted, and the package for them is missing.
    """
    answers = _Answers(engine, models, limits or Limits(), ready, deployment)
    server = answers.tools() if tools else None
    # Its application comes first: with it begins the manager that has to run.
    at_tools = [] if server is None else server.streamable_http_app().routes
    service = FastAPI(
        lifespan=None if server is None else _running(server.session_manager.run),
        title="DragGAN",
        summary="Pictures of generative models, and drags of their content.",
        version="1",
        openapi_url="/v1/openapi.json",
        # Their pages fetch scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    errors: dict[int | str, dict[str, Any]] = dict.fromkeys((400, 404, 413, 429, 500, 503), described.ERROR)
    service.get("/v1/models", summary="The models there are")(answers.list_models)
    service.post(
        "/v1/picture",
        summary="The picture that a recipe makes",
        responses={200: described.PICTURE, **errors},
        openapi_extra=described.json_body(described.RECIPE, {"model": "cat", "seed": 7}),
        response_class=Response,
    )(answers.picture)
    service.post(
        "/v1/drag",
        summary="Run the last edit of a recipe, step by step",
        responses={200: described.STREAM, **errors},
        openapi_extra=described.json_body(described.RECIPE, _EXAMPLE) | {"parameters": [_PREVIEWS]},
        response_class=StreamingResponse,
    )(answers.drag)
    service.websocket("/v1/live")(answers.live)
    service.get("/health", summary="Whether this process answers")(answers.health)
    service.get("/ready", summary="Whether it can draw at once", responses={503: described.ERROR})(answers.is_ready)
    service.get("/metrics", summary="Counters in Prometheus' text form", response_class=Response)(answers.counters)
    service.router.routes.extend(at_tools)
    return service


class _Answers:
    """What the service answers at each of its addresses."""

    def __init__(
        self,
        engine: Engine,
        models: Models,
        limits: Limits,
        ready: Callable[[], str],
        deployment: Deployment | None,
    ) -> None:
        self.engine, self.models, self.deployment = engine, models, deployment
        self.why_not_ready = ready
        self.metrics = Metrics(engine if isinstance(engine, EngineCounts) else None)
        # Threads that wait for steps do nothing meanwhile; they must not keep others from having one.
        self.threads = anyio.CapacityLimiter(2 * limits.all_drags + 32)

    async def list_models(self) -> list[dict[str, Any]]:
        """Name, title, whether it can be used now, and at which truncation its pictures look best."""
        started = time.perf_counter()
        listed = [
            {"name": m.name, "title": m.title, "here": m.here, "truncation": m.truncation} for m in self.models.listed()
        ]
        self.metrics.count("models", 200, time.perf_counter() - started)
        return listed

    async def picture(self, request: Request) -> Response:
        """Edits whose result the recipe does not carry are run first."""
        started = time.perf_counter()
        answer = await self._picture(request)
        self.metrics.count("picture", answer.status_code, time.perf_counter() - started)
        return answer

    async def _picture(self, request: Request) -> Response:
        try:
            recipe = await self._completed(request, await self._recipe(request))
            data = await self.in_thread(self._encoded, recipe, _visitor(request))
        except Exception as error:  # noqa: BLE001  # becomes the answer
            return _failed(error)
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse({"picture": data_url(data), "recipe": recipe_value(recipe)})
        return Response(data, media_type="image/png")

    async def drag(self, request: Request) -> Response:
        """A line for every step that is worth one; whoever stops listening stops the drag."""
        started = time.perf_counter()
        try:
            height = _height(request.query_params.get("previews", "0"))
            recipe = await self._recipe(request)
            if not recipe.edits:
                raise RecipeError("there is nothing to drag in this recipe; give points, or ask for its picture")
            before = await self._completed(request, recipe.up_to(len(recipe.edits) - 1))
            edit, visitor = recipe.edits[-1], _visitor(request)
            running = await self.in_thread(lambda: self.engine.drag(before, edit, visitor=visitor))
        except Exception as error:  # noqa: BLE001  # becomes the answer
            answer = _failed(error)
            self.metrics.count("drag", answer.status_code, time.perf_counter() - started)
            return answer
        media_type, line = line_of(request.headers.get("accept", ""))

        async def lines() -> AsyncIterator[str]:
            code = 499  # nobody listened to the end
            try:
                async for value in self._steps(running, height, visitor):
                    code = value.pop("status", code)
                    yield line(value)
            finally:
                running.stop()
                self.metrics.count("drag", code, time.perf_counter() - started)

        return StreamingResponse(lines(), media_type=media_type, headers={"cache-control": "no-store"})

    async def live(self, socket: WebSocket) -> None:
        """Targets in, pictures out."""
        await Live(socket, self.engine, self.metrics, self.in_thread, _visitor(socket), self.deployment).run()

    async def health(self) -> dict[str, str]:
        """It does."""
        return {"status": "up"}

    async def is_ready(self) -> Response:
        """200 once a model is loaded and warm; 503 before."""
        why = self.why_not_ready()
        return JSONResponse({"status": "ready"}) if not why else JSONResponse({"detail": why, "error": why}, 503)

    async def counters(self) -> Response:
        """For those nearby only."""
        return Response(self.metrics.text(), headers={"content-type": CONTENT_TYPE})

    def tools(self) -> Any:
        """The server of the tools for language models, which answer with the same pictures."""
        return build_tools(
            self.engine,
            self.models,
            self._encoded,
            partial(_verified, self.deployment or default(), threading.BoundedSemaphore(2)),
            self.in_thread,
            _visitor_of,
            _listening_of,
        )

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """What a function returns that would keep others waiting here."""
        return await anyio.to_thread.run_sync(partial(function, *args), limiter=self.threads, abandon_on_cancel=False)

    async def _recipe(self, request: Request) -> Recipe:
        body = await request.body()
        return await self.in_thread(lambda: recipe_from(parse_json(body), self.engine))

    async def _completed(self, request: Request, recipe: Recipe) -> Recipe:
        """The recipe with the results of all its edits, as long as somebody waits for them."""
        with _listening(request) as wanted:
            return await self.in_thread(lambda: self.engine.complete(recipe, visitor=_visitor(request), wanted=wanted))

    async def _steps(self, running: RunningDrag, height: int, visitor: str) -> AsyncIterator[dict[str, Any]]:
        """What is known after every step that is due, and the result at last, with a status."""
        update: Update | None = None
        try:
            while True:
                newer = await self.in_thread(running.newer, update, _PATIENCE)
                if (newer is not None and newer.done) or (newer is update and running.ended(0)):
                    break
                if newer is None or newer is update:
                    continue
                update = newer
                facts = facts_of(update)
                if height:
                    facts["preview"] = await self.in_thread(_preview, running, update, height)
                yield facts
                await anyio.sleep(_REPORT_EVERY)
            result = await self.in_thread(result_of, running)
            reached = running.reached()
            data = await self.in_thread(self._encoded, reached, visitor)
            yield result | {"recipe": recipe_value(reached), "picture": data_url(data), "status": 200}
        except Exception as error:  # noqa: BLE001  # the last line says it
            status, sentence = error_of(error)
            yield {"error": sentence, "status": status}

    def _encoded(self, recipe: Recipe, visitor: str) -> bytes:
        """A picture as a file, which says how it came about and that it was made by AI."""
        pixels = self.engine.picture(recipe, visitor=visitor)
        provenance = Provenance(deployment=self.deployment, door="api")
        return encode_picture(pixels, recipe=recipe, provenance=provenance)


def _running(
    beside: Callable[[], AbstractAsyncContextManager[Any]],
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """A lifespan of an application during which something else runs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with beside():
            yield

    return lifespan


def _preview(running: RunningDrag, update: Update, height: int) -> str:
    fitting = [h for h in running.preview_heights if h <= height] or running.preview_heights[:1]
    return data_url(jpeg(running.preview(update, fitting[-1])), "image/jpeg")


def _verified(deployment: Deployment, places: threading.BoundedSemaphore, content: bytes) -> dict[str, Any]:
    """What marks a file carries, as the page says it."""
    if not places.acquire(timeout=_WAIT_TO_VERIFY):
        raise LimitError("other files are being checked; try again in a minute")
    try:
        record = None if deployment.audit is None else deployment.recorded
        report = verify_bytes(content, folder=deployment.folder, record=record, seconds=_VERIFY)
    finally:
        places.release()
    told = report.to_dict()
    return {name: told[name] for name in ("outcome", "kind", "size", "frames", "digital_source_type", "findings")}


@contextmanager
def _listening(request: Request) -> Iterator[Callable[[], bool]]:
    """Says whether somebody still waits for the answer to a request; may be asked from any thread."""
    gone = threading.Event()

    async def watch() -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(_LISTENER)
        gone.set()

    watching = asyncio.create_task(watch())
    try:
        yield lambda: not gone.is_set()
    finally:
        watching.cancel()


def _visitor(connection: Request | WebSocket) -> str:
    """Whose budget it counts in, as the gate says; without a gate all are one."""
    caller = connection.scope.get("state", {}).get("caller")
    return f"{getattr(caller, 'visitor', '')}".strip() or "program"


def _visitor_of(context: Any) -> str:
    """The same of a tool's call."""
    request = context.request_context.request
    return "program" if request is None else _visitor(request)


def _listening_of(context: Any) -> AbstractContextManager[Callable[[], bool]]:
    """Likewise, whether somebody listens."""
    request = context.request_context.request
    return nullcontext(lambda: True) if request is None else _listening(request)


def _height(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 5):
        raise ConfigError(f"previews={text[:20]!r} is not a height in pixels; give 0 to 8192")
    return int(text)


def _failed(error: Exception) -> JSONResponse:
    code, sentence = error_of(error)
    return JSONResponse({"detail": sentence, "error": sentence}, code)
