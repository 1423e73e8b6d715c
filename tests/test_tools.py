"""Tools for language models, asked by the protocol's own client."""

from __future__ import annotations

import base64
import io
import json
import sys
import threading
import time
import traceback
from dataclasses import replace

import pytest
from PIL import Image

from draggan.config import Limits
from draggan.engine.local import LocalEngine
from draggan.engine.models import CatalogueModels
from draggan.errors import ConfigError
from draggan.service.app import build_service
from draggan.ui.app import build, launch_options
from draggan.ui.server.exposure import Exposure
from draggan.ui.server.site import Site
from tests.marks import marks_of
from tests.pages import TinyModels, serve


def test_without_the_package_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp.server.fastmcp", None)
    models = TinyModels()
    with pytest.raises(ConfigError, match='pip install "mcp<2"'):
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
            points = [[156, 156, 128, 156]]
            dragged = await session.call_tool("drag", {"recipe": recipe, "points": points})
            wrong = await session.call_tool("drag", {"recipe": recipe, "points": [[900, 1, 2, 3]]})
            models = await session.call_tool("list_models", {})
            checked = [
                await session.call_tool("verify", {"file": file})
                for file in (dragged.content[0].data, base64.b64encode(plain.getvalue()).decode(), "no base64!")
            ]
            return tools, made, dragged, wrong, models, checked

    plain = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(plain, "PNG")
    try:
        tools, made, dragged, wrong, listed, checked = anyio.run(talk)
    finally:
        server.should_exit = True
        thread.join()
        engine.close()
    assert set(tools) == {"list_models", "make", "drag", "verify"}
    reports = [json.loads(one.content[0].text) for one in checked[:2]]
    assert [report["outcome"] for report in reports] == ["from here", "nothing"]
    assert all(report["findings"] for report in reports)
    assert checked[2].isError
    assert "not base64" in checked[2].content[0].text
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
            assert picture.size == (256, 256)
            assert "DragGAN recipe" in picture.info
    assert wrong.isError
    assert "outside the picture" in wrong.content[0].text


def test_tools_pass_the_gate_of_the_page():
    """A client is served under the page's own name, refused under another or from elsewhere, and held to budgets."""
    mcp = pytest.importorskip("mcp")
    client = pytest.importorskip("mcp.client.streamable_http")
    import anyio

    models = CatalogueModels("cpu", "cat")
    exposure = Exposure.of(host="0.0.0.0", names=["draw.lan"], origins=[], environment={})
    site = Site(exposure, replace(Limits.public(), points=2), tools=True)
    engine = LocalEngine(models, site.limits)
    demo = build(models, engine, local=False, site=site)
    url = serve(demo, **launch_options(site))
    address = f"http://127.0.0.1:{url.rstrip('/').rsplit(':', 1)[1]}/mcp"

    async def talk(**headers: str):
        async with (
            client.streamablehttp_client(address, headers=headers) as (read, write, _),
            mcp.ClientSession(read, write) as session,
        ):
            await session.initialize()
            recipe = {"model": "cat", "seed": 7}
            dragged = await session.call_tool("drag", {"recipe": recipe, "points": [[156, 156, 128, 156]]})
            checked = await session.call_tool("verify", {"file": dragged.content[0].data})
            many = await session.call_tool(
                "drag", {"recipe": recipe, "points": [[140, 140 + k, 128, 156] for k in range(3)]}
            )
            return dragged, checked, many

    try:
        dragged, checked, many = anyio.run(talk)
        named = anyio.run(lambda: talk(Host="draw.lan"))
        for refused in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            with pytest.raises(BaseException) as told:  # noqa: PT011  # a group of the client's own
                anyio.run(lambda refused=refused: talk(**refused))
            assert "403" in "".join(traceback.format_exception(told.value))
    finally:
        demo.close()
        engine.close()
    assert json.loads(dragged.content[1].text)["outcome"] == "arrived"
    assert json.loads(checked.content[0].text)["outcome"] == "from here"
    assert many.isError
    assert "points are too many" in many.content[0].text
    assert not named[0].isError
