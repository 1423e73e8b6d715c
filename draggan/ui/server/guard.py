"""The gate that every request passes, before Gradio sees it (an ASGI application around another)."""

from __future__ import annotations

import ipaddress
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qs

import anyio
from starlette.formparsers import MultiPartException

from draggan.config import Limits
from draggan.errors import LimitError
from draggan.sentences import sentence
from draggan.ui import messages
from draggan.ui.server import bodies, origins
from draggan.ui.server.callers import Caller, address_of, is_own_user
from draggan.ui.server.exposure import Exposure
from draggan.ui.server.listeners import Listeners
from draggan.ui.server.rates import Rates
from draggan.ui.server.uploads import Uploads

__all__ = ["Guard"]

log = logging.getLogger(__name__)

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_API = "/gradio_api/"
_CALLS = ("queue/join", "call/", "run/", "api/", "component_server", "cancel")
# Of them those that are answered at once: what a pointer says, and the end of a call.
_AT_ONCE = ("component_server", "cancel")
_EVENT = re.compile(rb'"event_id":\s*"([0-9a-f]{32})"')
# The service's paths; what begins with one of them is no page's.
_SERVICE = ("/v1/", "/mcp", "/health", "/ready", "/metrics")
_DONE = b'"process_completed"'
_UNNAMED_PROXY = ("127.0.0.1", "::1")
# Of a call: what a pointer says comes many times a second, and costs little; the page and what it is made of.
_POINTER, _DOCUMENT = 0.05, 0.5
_DOCUMENTS = ("", "config", "info", "openapi.json")
_PER_CALL = 1_000_000  # bytes of a request that count as one call more
_PATIENCE = 60.0  # seconds in which a request has come whole
_PRIVATE = {"content-security-policy": "frame-ancestors 'self'"}


class Guard:
    """Checks who asks, under which name, for how much, and how often.

    Args:
        app: what answers.
        exposure: who can reach it.
        limits: what they may ask for.
        uploads: account of their files.
        service: what answers programs, at the paths in `_SERVICE`; None: the page alone is served.
        endpoints: how many values each endpoint takes, by its name and by its number: with and without hidden ones.
        why_no_upload: why nothing is taken from a visitor yet, as a sentence; empty: it is.
    """

    def __init__(
        self,
        app: App,
        *,
        exposure: Exposure,
        limits: Limits,
        uploads: Uploads,
        endpoints: Mapping[str | int, tuple[int, ...]],
        service: App | None = None,
        why_no_upload: Callable[[str], str] = lambda visitor: "",
    ) -> None:
        self._service = service
        self._app, self._exposure, self._limits, self._uploads = app, exposure, limits, uploads
        self._endpoints, self._why_no_upload = endpoints, why_no_upload
        self._rates, self._listeners = Rates(limits), Listeners()
        # Events without an answer, each with its visitor, by what a stream would ask for: tab or event.
        self._waiting: dict[str, dict[str, str]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if self._service is not None and path.startswith(_SERVICE):
            await self._serve(self._service, scope, receive, send, headers, path)
            return
        method = scope.get("method", "GET")
        refused = origins.why_not(self._exposure, method, headers)
        if not refused and "access-control-request-method" in headers:
            refused = "other web pages may not use this page"
        if scope["type"] != "http":
            await _hang_up(send, "There is nothing to connect to here.")
            return
        if refused:
            await _refuse(send, 403, refused)
            return
        send = self._without_cross_origin(send)
        route = path[path.index(_API) + len(_API) :].rstrip("/") if _API in path else ""
        caller = self._caller(scope, headers)
        scope.setdefault("state", {})["caller"] = caller
        try:
            if method == "POST" and route == "upload":
                await self._upload(scope, receive, send, caller, headers)
            elif method == "POST" and route.startswith(_CALLS):
                await self._call(scope, receive, send, caller, route)
            elif method == "GET" and route.startswith("heartbeat/"):
                await self._tab(scope, receive, send, caller)
            elif method == "GET" and (route == "queue/data" or route.startswith("call/")):
                await self._listen(scope, receive, send, caller, route)
            else:
                if (route or path.strip("/")) in _DOCUMENTS:
                    self._rates.ask(caller.visitor.strip(), _DOCUMENT)
                await self._app(scope, receive, send)
        except LimitError as error:
            await _refuse(send, 429, sentence(str(error)))

    def _caller(self, scope: Scope, headers: Mapping[str, str]) -> Caller:
        client = scope.get("client")
        address = address_of(client[0]) if client else ""
        visitor = address
        if not self._exposure.public:
            visitor = ""  # one user; tabs share fairly
        elif address in _UNNAMED_PROXY and "x-forwarded-for" not in headers:
            visitor = f"{address} "  # and the tab: see _call
        own = not self._exposure.public and "x-forwarded-for" not in headers and "forwarded" not in headers
        return Caller(visitor=visitor, own_user=own, uploader=visitor.strip(), listeners=self._listeners)

    # The service

    async def _serve(
        self, service: App, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str], path: str
    ) -> None:
        """A request of a program, or of a page that may use the service."""
        is_socket = scope["type"] == "websocket"
        caller = self._caller(scope, headers)
        visitor = caller.visitor = caller.visitor.strip() or "program"
        scope.setdefault("state", {})["caller"] = caller
        origin = headers.get("origin", "")
        friend = origin in self._exposure.origins
        if path == "/metrics" and not _is_near(scope, headers):
            await _refuse(send, 404, "There is nothing here for you.")
            return
        method = scope.get("method", "GET")
        # Any page may open a socket, and read from it: as strict as with what changes something.
        asked = {name: headers[name] for name in headers if not friend or name not in ("origin", "sec-fetch-site")}
        refused = origins.why_not(self._exposure, "POST" if is_socket else method, asked)
        if refused and is_socket:
            await _hang_up(send, refused)
            return
        if "access-control-request-method" in headers and not friend:
            refused = refused or "other web pages may not use this page"
        if refused:
            await _refuse(send, 403, refused)
            return
        send = self._without_cross_origin(_allowing(send, origin) if friend else send)
        if method == "OPTIONS" and friend:
            await _refuse(send, 200, "")
            return
        try:
            if is_socket:
                await self._socket(service, scope, receive, send, visitor)
            elif method == "POST":
                self._rates.call(visitor)
                body = await self._body(receive, send, visitor)
                if body is None:
                    return
                event = secrets.token_hex(16)
                self._rates.begin(visitor, event)
                try:
                    await service(scope, _replayed(body, receive), send)
                finally:
                    self._rates.end(visitor, event)
            else:
                self._rates.ask(visitor, _POINTER if path.startswith(("/v1/", "/mcp")) else 0.0)
                await service(scope, receive, send)
        except LimitError as error:
            await _refuse(send, 429, sentence(str(error)))

    async def _socket(self, service: App, scope: Scope, receive: Receive, send: Send, visitor: str) -> None:
        """A connection that stays open counts as a tab, and what is said on it as a pointer's words."""

        async def counted() -> Message:
            message = await receive()
            if message["type"] != "websocket.receive":
                return message
            said = message.get("text") or message.get("bytes") or b""
            said = said.encode("utf-8", "replace") if isinstance(said, str) else said
            try:
                if len(said) > self._limits.call_bytes:
                    raise LimitError(f"a message may have {self._limits.call_bytes / 1e6:.0f} MB here")
                self._rates.ask(visitor, _POINTER + len(said) / _PER_CALL)
                bodies.check_number(said)
            except (LimitError, ValueError) as error:
                await _hang_up(send, sentence(str(error)))
                return {"type": "websocket.disconnect", "code": 1008}
            return message

        try:
            self._rates.ask(visitor)
            self._rates.open_tab(visitor)
        except LimitError as error:
            await _hang_up(send, sentence(str(error)))
            return
        try:
            await service(scope, counted, send)
        finally:
            self._rates.close_tab(visitor)

    # Calls

    async def _call(self, scope: Scope, receive: Receive, send: Send, caller: Caller, route: str) -> None:
        body = await self._body(receive, send, caller.visitor.strip())
        if body is None:
            return
        try:
            values = bodies.read(body)
        except ValueError as error:
            await _refuse(send, 400, str(error))
            return
        tab = values.get("session_hash") if isinstance(values, dict) else None
        caller.tab = tab if isinstance(tab, str) and len(tab) <= 64 else ""
        if not self._exposure.public or caller.visitor.endswith(" "):
            caller.visitor = caller.tab or caller.visitor.strip()
        name = _name_in(route)
        if name and name not in self._endpoints:
            await _refuse(send, 404, f"There is nothing called '{name[:80]}' here.")
            return
        if wrong := self._why_not(values, name):
            await _refuse(send, 400, wrong)
            return
        if route in _AT_ONCE:
            self._rates.ask(caller.visitor, _POINTER)
        else:
            self._rates.call(caller.visitor)
        if caller.own_user:
            caller.own_user = is_own_user(scope.get("client"), scope.get("server"))
        answer = bytearray()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.body" and len(answer) < 4096:
                answer.extend(message.get("body", b""))
                found = _EVENT.search(answer)
                if found and not caller.event:
                    caller.event = found[1].decode()
                    self._rates.begin(caller.visitor, caller.event)
                    self._wait_for(caller)
            await send(message)

        queued = route.startswith(("queue/join", "call/"))
        await self._app(scope, _replayed(body, receive), watched if queued else send)

    def _wait_for(self, caller: Caller) -> None:
        """Remember whose answer a stream is going to carry."""
        self._waiting.setdefault(caller.tab or caller.event, {})[caller.event] = caller.visitor
        if caller.tab:
            self._waiting.setdefault(caller.event, {})[caller.event] = caller.visitor
        while len(self._waiting) > 20_000:
            del self._waiting[next(iter(self._waiting))]

    async def _body(self, receive: Receive, send: Send, visitor: str) -> bytes | None:
        """The whole body of a request, before anything in it is read; None: it was refused.

        Raises:
            LimitError: too many bytes have come, of it or of others that are on their way.
        """
        body, most = bytearray(), self._limits.call_bytes
        try:
            with anyio.fail_after(_PATIENCE):
                more = True
                while more and len(body) <= most:
                    message = await receive()
                    part = message.get("body", b"")
                    self._rates.come(visitor, len(part))
                    body.extend(part)
                    more = message["type"] != "http.disconnect" and bool(message.get("more_body"))
        except TimeoutError:
            await _refuse(send, 408, f"This request has not come whole within {_PATIENCE:.0f} s.")
            return None
        finally:
            self._rates.come(visitor, -len(body))
        if len(body) > most:
            await _refuse(send, 413, f"A request may have {most / 1e6:.0f} MB here.")
            return None
        if len(body) > _PER_CALL / 10:
            self._rates.ask(visitor, len(body) / _PER_CALL)
        try:
            bodies.check_number(body)
        except ValueError as error:
            await _refuse(send, 400, str(error))
            return None
        return bytes(body)

    def _why_not(self, values: Any, name: str) -> str:
        """What is wrong with the values of a call, as a sentence; empty: nothing that could be seen from here."""
        if not isinstance(values, dict):
            return 'A request looks like {"data": [...]}.'
        for path in bodies.files_in(values):
            if bodies.is_address(path):
                return "Nothing is fetched from other addresses here; download the file and upload it."
            if not self._uploads.holds(Path(path)):
                return "This file was not uploaded here; upload it first."
        data, key = values.get("data"), name or values.get("fn_index")
        allowed = self._endpoints.get(key) if isinstance(key, (str, int)) else None
        if allowed and isinstance(data, list) and len(data) not in allowed:
            return f"This takes {min(allowed)} values, and {len(data)} were given."
        return ""

    # Answers

    async def _listen(self, scope: Scope, receive: Receive, send: Send, caller: Caller, route: str) -> None:
        if route == "queue/data":
            key = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session_hash", [""])[0]
        else:
            key = route.rpartition("/")[2]
        # Read here, so that a place is free again with its answer; such streams are small or pictures.
        scope["headers"] = [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"]

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.body":
                self._answered(key, message.get("body", b""), by_event=route != "queue/data")
            await send(message)

        own = caller.visitor.strip()
        self._rates.open_stream(own)
        with self._listeners.listening(key):
            try:
                await self._app(scope, receive, watched)
            finally:
                self._rates.close_stream(own)
                for event, visitor in self._waiting.pop(key, {}).items():
                    self._rates.end(visitor, event)
                    self._waiting.pop(event, None)

    def _answered(self, key: str, chunk: bytes, *, by_event: bool) -> None:
        """Give back the places of calls that a chunk of a stream has answered."""
        waiting = self._waiting.get(key)
        if not waiting:
            return
        if by_event:
            done = list(waiting) if chunk.startswith((b"event: complete", b"event: error")) else []
        else:
            done = [found[1].decode() for found in _EVENT.finditer(chunk)] if _DONE in chunk else []
        for event in done:
            visitor = waiting.pop(event, None)
            if visitor is not None:
                self._rates.end(visitor, event)
                self._waiting.pop(event, None)

    async def _tab(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        visitor = caller.visitor.strip()
        self._rates.open_tab(visitor)
        try:
            await self._app(scope, receive, send)
        finally:
            self._rates.close_tab(visitor)

    # Files

    async def _upload(
        self, scope: Scope, receive: Receive, send: Send, caller: Caller, headers: Mapping[str, str]
    ) -> None:
        visitor = caller.visitor.strip()
        self._rates.call(visitor)
        if refused := self._why_no_upload(visitor):
            await _refuse(send, 403, refused)
            return
        length = headers.get("content-length", "")
        self._uploads.begin(visitor, int(length) if length.isdecimal() else None)
        done, answer, started, failed, silent = 0, bytearray(), False, "", False

        async def counted() -> Message:
            nonlocal done, failed
            message = await receive()
            # What Gradio takes for a broken form: it removes what it has written.
            if message["type"] == "http.disconnect":
                raise MultiPartException("the upload was cut off")
            more = len(message.get("body", b""))
            try:
                self._uploads.grow(visitor, done, more)
            except LimitError as error:
                failed = sentence(str(error))
                raise MultiPartException(failed) from error
            done += more
            return message

        async def watched(message: Message) -> None:
            nonlocal started, silent
            if message["type"] == "http.response.start":
                silent = bool(failed) or message["status"] >= 500
                started = message["status"] == 200
            elif started:
                answer.extend(message.get("body", b"")[: 1 << 20])
            if not silent:
                await send(message)

        paths: list[str] = []
        try:
            await self._app(scope, counted, watched)
            paths = _paths_in(bytes(answer)) if started else []
        except OSError as error:
            log.warning("an upload could not be written: %s", error)
        finally:
            self._uploads.end(visitor, done, paths)
        if silent:
            await _refuse(send, 413 if failed else 507, failed or messages.NO_ROOM)

    # Headers

    def _without_cross_origin(self, send: Send) -> Send:
        private = [] if self._exposure.public else [(k.encode(), v.encode()) for k, v in _PRIVATE.items()]

        async def stripped(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [
                    pair for pair in message.get("headers", []) if not pair[0].lower().startswith(b"access-control")
                ]
                message["headers"] = [*kept, (b"x-content-type-options", b"nosniff"), *private]
            await send(message)

        return stripped


def _name_in(route: str) -> str:
    """Which endpoint a route calls by its name; empty: it does not."""
    kind, _, name = route.partition("/")
    return name.removeprefix("v2/") if kind in ("call", "run", "api") and name != "predict" else ""


def _paths_in(answer: bytes) -> list[str]:
    try:
        paths = json.loads(answer)
    except ValueError:
        return []
    return [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, and then whatever else comes."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _is_near(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Whether a request comes from this machine or a private network, and not by way of a proxy that says so."""
    client = scope.get("client")
    if not client or "x-forwarded-for" in headers or "forwarded" in headers:
        return False
    try:
        return ipaddress.ip_address(client[0]).is_private
    except ValueError:
        return False


def _allowing(send: Send, origin: str) -> Send:
    """Let a page of that origin read the answer."""
    allowed = {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "content-type, accept",
        "vary": "origin",
    }

    async def allowing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in allowed.items())]
        await send(message)

    return allowing


async def _hang_up(send: Send, sentence: str) -> None:
    """End a WebSocket; one that was not accepted yet is refused with 403."""
    reason = sentence.encode()[:123].decode("utf-8", "ignore")
    await send({"type": "websocket.close", "code": 1008, "reason": reason})


async def _refuse(send: Send, status: int, sentence: str) -> None:
    """Answer with a sentence, where Gradio's page and its clients look for one."""
    body = json.dumps({"detail": sentence, "error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
