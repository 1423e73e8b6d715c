"""Tools for language models, by the Model Context Protocol (the optional package ``mcp``): make a picture, drag it,
see which marks a file carries.

Pictures come back as pictures, and recipes beside them without latents: short enough to be read, and to be handed back
for the next drag.
"""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from draggan.engine.base import Engine
from draggan.engine.models import Models
from draggan.engine.short_form import edit_from, recipe_from
from draggan.errors import ConfigError, DragGANError, VerifyError
from draggan.recipe import Recipe
from draggan.service.answers import error_of, recipe_value, result_of

__all__ = ["Encode", "Verify", "build_tools"]

# A recipe's picture as a file, drawn in the time of a visitor.
Encode = Callable[[Recipe, str], bytes]
# What marks a file's content carries, as JSON has it.
Verify = Callable[[bytes], dict[str, Any]]

_LONGEST = 32 << 20  # letters of a file in base64

_PATIENCE = 1.0  # seconds between two looks whether anybody waits for the end of a drag
_ABOUT = """Pictures drawn by generative networks, and drags of their content: a point of the picture (a handle) is
moved to another place (its target), and the rest follows as it must for the picture to stay plausible. Make a picture,
look at where things are in it, and drag. Points are x and y in image pixels, from the upper left corner. All pictures
are marked as made by AI; say so when you show them to people."""


def build_tools(
    engine: Engine,
    models: Models,
    encode: Encode,
    verify_content: Verify,
    in_thread: Callable[..., Awaitable[Any]],
    visitor_of: Callable[[Any], str],
    listening: Callable[[Any], AbstractContextManager[Callable[[], bool]]],
) -> Any:
    """A server of the tools (``mcp.server.fastmcp.FastMCP``).

    Args:
        encode: what a picture leaves by.
        verify_content: what looks at a file.
        in_thread: awaits a function in a thread.
        visitor_of: whose budget a request counts in.
        listening: whether somebody still waits for the answer to one.

    Raises:
        ConfigError: the package is missing.
    """
    try:
        fastmcp = importlib.import_module("mcp.server.fastmcp")
        security = importlib.import_module("mcp.server.transport_security")
        types = importlib.import_module("mcp.types")
    except ImportError as error:
        raise ConfigError('--mcp needs the package mcp; install it with `pip install "mcp<2"`') from error
    server = fastmcp.FastMCP(
        "DragGAN",
        instructions=_ABOUT,
        # All that a step needs is in its arguments.
        stateless_http=True,
        json_response=True,
        # The gate before it has looked at names and origins.
        transport_security=security.TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )

    tools = _Tools(engine, models, encode, verify_content, in_thread, visitor_of, listening, types)
    every = (
        *((tools.list_models, "List models"), (tools.make, "Make a picture"), (tools.drag, "Drag points of a picture")),
        (tools.verify, "Check a file for marks of AI"),
    )
    for tool, title in every:
        # The context is found by its annotation, which has to be the package's own class.
        if "context" in tool.__annotations__:
            tool.__annotations__["context"] = fastmcp.Context
        hints = types.ToolAnnotations(title=title, readOnlyHint=True, openWorldHint=False)
        server.tool(title=title, annotations=hints, structured_output=False)(tool)
    return server


@dataclass
class _Tools:
    """The tools; what they stand on is as in `build_tools`. Their docstrings are read by language models."""

    engine: Engine
    models: Models
    encode: Encode
    verify_content: Verify
    in_thread: Callable[..., Awaitable[Any]]
    visitor_of: Callable[[Any], str]
    listening: Callable[[Any], AbstractContextManager[Callable[[], bool]]]
    types: Any  # the module mcp.types

    def _answer(self, facts: dict[str, Any], recipe: Recipe, data: bytes) -> list[Any]:
        facts = facts | {"recipe": recipe_value(recipe, results=False)}
        picture = self.types.ImageContent(type="image", data=base64.b64encode(data).decode(), mimeType="image/png")
        return [picture, self.types.TextContent(type="text", text=json.dumps(facts))]

    async def _refused(self, function: Callable[[], Any]) -> Any:
        try:
            return await self.in_thread(function)
        except Exception as error:  # noqa: BLE001
            # Its sentence is for the model to read; what nobody foresaw is in the log.
            raise DragGANError(error_of(error)[1]) from None

    async def list_models(self) -> str:
        """The models there are: their names, what they draw, and whether they can be used now."""
        return json.dumps([{"name": m.name, "title": m.title, "here": m.here} for m in self.models.listed()])

    async def make(
        self, context: Any, model: str = "cat", seed: int = 0, truncation: float | None = None, label: int | None = None
    ) -> list[Any]:
        """Make a picture. The same model and seed always give the same picture; another seed gives another one.

        Args:
            model: a name that list_models gives, such as "cat", "face" or "car".
            seed: any whole number from 0 on.
            truncation: 0 gives the average picture of the model, 1 its full variety; leave it out for what suits it.
            label: the number of the class, for the few models that have classes.

        Returns:
            The picture, and as JSON its size and its recipe: hand that to drag.
        """

        def made() -> list[Any]:
            value = {"model": model, "seed": seed, "truncation": truncation, "class": label}
            recipe = recipe_from(value, self.engine)
            height, width = recipe.image_size
            return self._answer(
                {"width": width, "height": height}, recipe, self.encode(recipe, self.visitor_of(context))
            )

        return await self._refused(made)

    async def drag(
        self, context: Any, recipe: dict[str, Any], points: list[list[float]], settings: dict[str, Any] | None = None
    ) -> list[Any]:
        """Drag points of a picture: what is at each handle moves to its target. Takes some seconds.

        One to three points do best, a tenth of the width or less apart at first. Handles belong on things that can be
        recognised: a nose, the corner of a mouth, the tip of an ear, a wheel.

        Args:
            recipe: of the picture, as make or drag has given it.
            points: [[handle x, handle y, target x, target y], ...] in image pixels.
            settings: of the drag, such as {"max_steps": 50}; leave it out for what suits the model.

        Returns:
            The picture after the drag, and as JSON: "outcome", where the handles are now, how far they are from their
            targets, "notice" (why it was ended early, if it was), and the recipe for the next drag. Outcomes:
            "arrived": the content is at its target. If "faded" is true, the picture has lost much of its detail:
            choose a nearer target.
            "stalled", "unlikely", "far": this model goes no farther; the picture is the nearest one.
            "lost": the content could be followed no farther; the picture is the nearest in which it could. If
            "unsure" is true, it may have arrived instead: "lost" says of each handle whether that is uncertain.
            "max_steps": the limit of steps was reached; drag again from there to go on.
            "stopped": it was ended before it had arrived.
            "diverged": the steps were too large; set a smaller "step_size".
        """

        def dragged(wanted: Callable[[], bool]) -> list[Any]:
            visitor = self.visitor_of(context)
            before = self.engine.complete(recipe_from(recipe, self.engine), visitor=visitor, wanted=wanted)
            edit = edit_from({"points": points, "settings": settings or {}}, before)
            running = self.engine.drag(before, edit, visitor=visitor)
            try:
                while wanted() and not running.ended(_PATIENCE):
                    pass
            finally:
                running.stop()
            result, reached = result_of(running), running.reached()
            return self._answer(result, reached, self.encode(reached, visitor))

        with self.listening(context) as wanted:
            return await self._refused(lambda: dragged(wanted))

    async def verify(self, file: str) -> str:
        """Say which marks a picture or film carries: whether it says that it is made by AI, and who says so.

        It looks for content credentials (C2PA), for an invisible mark of this server, and for what the file says of
        itself. Nothing is fetched, and the absence of marks does not prove that a picture is not made by AI.

        Args:
            file: the whole content of a PNG, JPEG, WebP, GIF or MP4 in base64, or as a data URL.

        Returns:
            JSON: "outcome" ("from here": made by this server or signed by somebody whom it trusts; "says so": it says
            that it is made by AI, which could not be checked; "changed": signed, and changed since; "nothing": no mark
            says so), and "findings", sentences for people.
        """

        def found() -> str:
            if len(file) > _LONGEST:
                raise VerifyError(f"the file is too large to be checked here; at most {_LONGEST >> 20} MB of text")
            try:
                content = base64.b64decode(file.rpartition(",")[2], validate=True)
            except ValueError as error:
                raise VerifyError("this is not base64; give the content of a file in base64") from error
            return json.dumps(self.verify_content(content))

        return await self._refused(found)
