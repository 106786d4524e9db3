"""Real clients and real servers: the official Python SDK, and the reference server of the TypeScript SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_asyncio
from mcp.client.client import Client
from mcp_types import TextContent

from tests.e2e.conftest import StartGateway
from tests.support.gateway import TestGateway
from tests.support.npm import node, package
from tests.support.processes import free_port, http_server, sdk_server

Ports = dict[str, int]
Mode = Literal["legacy", "auto"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ports]:
    """Two servers on the Python SDK and ``server-everything`` from npm."""
    logs = tmp_path_factory.mktemp("servers")
    ports = {name: free_port() for name in ("first", "second", "everything")}
    everything = package("@modelcontextprotocol/server-everything") / "dist" / "index.js"
    async with (
        http_server(sdk_server("first", ports["first"]), ports["first"], log=logs / "first.log"),
        http_server(sdk_server("second", ports["second"]), ports["second"], log=logs / "second.log"),
        http_server(
            [node(), str(everything), "streamableHttp"],
            ports["everything"],
            log=logs / "everything.log",
            environment={"PORT": str(ports["everything"])},
        ),
    ):
        yield ports


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(servers: Ports, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TestGateway]:
    from tests.support.gateway import gateway as start

    urls = {name: f"http://localhost:{port}/mcp" for name, port in servers.items()}
    async with start(tmp_path_factory.mktemp("gateway"), urls) as running:
        yield running


pytestmark = pytest.mark.asyncio(loop_scope="module")


def _text(result: Any) -> str:
    [block] = result.content
    assert isinstance(block, TextContent)
    return block.text


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_tools_of_all_servers_appear_as_one(gateway: TestGateway, mode: Mode) -> None:
    """``auto`` probes with server/discover first and falls back on what it is told."""
    async with Client(gateway.url, mode=mode) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names[:4] == ["first__add", "first__repeat", "first__fail", "first__count"]
        assert "second__add" in names
        assert "everything__echo" in names
        assert client.instructions is not None
        assert "Use first with care." in client.instructions
        assert _text(await client.call_tool("first__add", {"a": 2, "b": 3})) == "first: 5"
        assert _text(await client.call_tool("second__add", {"a": 2, "b": 3})) == "second: 5"
        assert _text(await client.call_tool("everything__echo", {"message": "hello"})) == "Echo: hello"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_url_with_a_slash_at_its_end(gateway: TestGateway, mode: Mode) -> None:
    async with Client(f"{gateway.url}/", mode=mode) as client:
        assert _text(await client.call_tool("first__add", {"a": 2, "b": 3})) == "first: 5"


async def test_big_integers_survive(gateway: TestGateway) -> None:
    async with Client(gateway.url, mode="legacy") as client:
        value = {"big": 2**63 + 1, "pi": 3.1415926535, "text": '<"\\\u2028>', "z": 1, "a": [2**53 + 1]}
        result = await client.call_tool("first__repeat", {"value": value})
        assert result.structured_content == {"value": value}


async def test_a_tool_that_fails_is_a_result(gateway: TestGateway) -> None:
    async with Client(gateway.url, mode="legacy") as client:
        result = await client.call_tool("second__fail", {})
        assert result.is_error
        assert "fail" in _text(result)


async def test_progress_reaches_the_caller(gateway: TestGateway) -> None:
    seen: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with Client(gateway.url, mode="legacy") as client:
        result = await client.call_tool("first__count", {"to": 5}, progress_callback=on_progress)
        assert _text(result) == "first counted to 5"
    assert seen == [1, 2, 3, 4, 5]


async def test_an_unknown_tool_is_an_error_and_the_session_goes_on(gateway: TestGateway) -> None:
    async with Client(gateway.url, mode="legacy") as client:
        with pytest.raises(Exception, match="Unknown tool: nobody__x"):
            await client.call_tool("nobody__x", {})
        assert _text(await client.call_tool("first__add", {"a": 1, "b": 1})) == "first: 2"


async def test_many_clients_at_once(gateway: TestGateway) -> None:
    async def one(n: int) -> None:
        async with Client(gateway.url, mode="legacy") as client:
            for name in ("first", "second"):
                assert _text(await client.call_tool(f"{name}__add", {"a": n, "b": 1})) == f"{name}: {n + 1}"

    await asyncio.gather(*(one(n) for n in range(8)))


async def test_a_server_killed_and_started_again(start: StartGateway, tmp_path: Path) -> None:
    """An SDK client survives its server: an error while it is down, then results again, same session."""
    port = free_port()
    command = sdk_server("first", port)
    async with start({"first": f"http://localhost:{port}/mcp"}) as gateway:
        async with http_server(command, port, log=tmp_path / "1.log"):
            client = Client(gateway.url, mode="legacy")
            await client.__aenter__()
            assert _text(await client.call_tool("first__add", {"a": 1, "b": 1})) == "first: 2"
        with pytest.raises(Exception, match="UpstreamConnectionFailure"):
            await client.call_tool("first__add", {"a": 1, "b": 1})
        async with http_server(command, port, log=tmp_path / "2.log"):
            assert _text(await client.call_tool("first__add", {"a": 2, "b": 2})) == "first: 4"
            await client.__aexit__(None, None, None)
