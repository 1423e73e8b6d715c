"""Tools for language models, asked by the protocol's own client."""

from __future__ import annotations

import base64
import io
import json
import sys
import threading
import time

import pytest
from PIL import Image

from draggan.engine.local import LocalEngine
from draggan.engine.models import CatalogueModels
from draggan.errors import ConfigError
from draggan.service.app import build_service
from tests.marks import marks_of
from tests.pages import TinyModels


def test_without_the_package_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp.server.fastmcp", None)
    models = TinyModels()
    with pytest.raises(ConfigError, match="pip install mcp"):
        build_service(LocalEngine(models), models, tools=True)


def test_a_language_model_makes_a_cat_and_turns_its_head():
    mcp = pytest.importorskip("mcp")
    client = pytest.importorskip("mcp.client.streamable_http")
    import anyio
    import uvicorn

    models = CatalogueModels("cpu", "cat")
    engine = LocalEngine(models)
    server = uvicorn.Server(uvicorn.Config(build_service(engine, models, tools=True), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    async def talk():
        async with (
            client.streamablehttp_client(f"http://127.0.0.1:{port}/mcp") as (read, write, _),
            mcp.ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            made = await session.call_tool("make", {"model": "cat", "seed": 7})
            recipe = json.loads(made.content[1].text)["recipe"]
            points = [[78, 78, 64, 78]]
            dragged = await session.call_tool("drag", {"recipe": recipe, "points": points})
            wrong = await session.call_tool("drag", {"recipe": recipe, "points": [[900, 1, 2, 3]]})
            models = await session.call_tool("list_models", {})
            return tools, made, dragged, wrong, models

    try:
        tools, made, dragged, wrong, listed = anyio.run(talk)
    finally:
        server.should_exit = True
        thread.join()
        engine.close()
    assert set(tools) == {"list_models", "make", "drag"}
    assert set(tools["drag"].inputSchema["required"]) == {"recipe", "points"}
    assert set(tools["make"].inputSchema["properties"]) == {"model", "seed", "truncation", "label"}
    assert all(len(tool.description) > 60 for tool in tools.values())
    assert any(model["name"] == "cat" and model["here"] for model in json.loads(listed.content[0].text))
    facts = json.loads(dragged.content[1].text)
    assert facts["outcome"] == "arrived"
    assert len(facts["recipe"]["edits"]) == 1
    assert "float32" not in dragged.content[1].text, "short enough to be read"
    for answer in (made, dragged):
        data = base64.b64decode(answer.content[0].data)
        assert marks_of(data) == {"words", "pixels", "signature", "record"}
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.size == (128, 128)
            assert "DragGAN recipe" in picture.info
    assert wrong.isError
    assert "outside the picture" in wrong.content[0].text
