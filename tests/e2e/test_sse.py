"""HTTP+SSE (2024-11-05) servers behind real Envoy, on the official SDK's transport."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from mcp import MCPError
from mcp.client.client import Client
from mcp_types import ElicitRequestParams, ElicitResult, TextContent

from tests.e2e.test_check import check
from tests.support.gateway import TestGateway, access_log_entry
from tests.support.gateway import gateway as start
from tests.support.processes import free_port, http_server
from tests.support.run_command import announced, running, write
from tests.support.tls import Authority
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Stage:
    """Two servers, one with TLS, and a gateway in front of both."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._authority = Authority(folder / "tls")
        self.port, self.tls_port = free_port(), free_port()
        self._server = AsyncExitStack()

    async def start(self) -> None:
        self._stack.push_async_callback(self._server.aclose)
        await self.start_server()
        files = [str(self._authority.certificate("server")), str(self._authority.key("server"))]
        await self._stack.enter_async_context(
            http_server(_server("safe", self.tls_port, *files), self.tls_port, log=self._folder / "safe.log")
        )
        servers = {
            "old": {"url": f"http://localhost:{self.port}/sse", "transport": "sse"},
            "safe": {
                "endpoints": [f"127.0.0.1:{self.tls_port}"], "transport": "sse", "headers": {"x-key": "hush-hush"},
                "tls": {"ca": str(self._authority.ca)}, "health_check": {}, "outlier_detection": {},
                "circuit_breakers": {"max_connections": 100},
            },
        }  # fmt: skip
        self.gateway = await self._stack.enter_async_context(start(self._folder, servers))

    async def start_server(self) -> None:
        """The one without TLS."""
        log = self._folder / "old.log"
        await self._server.enter_async_context(http_server(_server("old", self.port), self.port, log=log))

    async def stop_server(self) -> None:
        """End it."""
        await self._server.aclose()


def _server(name: str, port: int, *tls: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.sse_server", name, str(port), *tls]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        stage = Stage(tmp_path_factory.mktemp("sse"), stack)
        await stage.start()
        yield stage


@pytest.fixture
def gateway(stage: Stage) -> TestGateway:
    return stage.gateway


def _text(result: Any) -> str:
    [block] = result.content
    assert isinstance(block, TextContent)
    return block.text


async def _connections(client: Client) -> int:
    return int(_text(await client.call_tool("old__connections", {})))


async def test_tools_are_listed_and_called(gateway: TestGateway) -> None:
    async with Client(gateway.url, mode="legacy") as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert {"old__add", "safe__add"} <= {*names}
        assert client.instructions is not None
        assert "I am old." in client.instructions
        assert _text(await client.call_tool("old__add", {"a": 2, "b": 3})) == "old: 5"


async def test_tls_and_credentials_reach_the_server(gateway: TestGateway) -> None:
    async with Client(gateway.url, mode="legacy") as client:
        assert _text(await client.call_tool("safe__received", {"header": "x-key"})) == "hush-hush"
        assert _text(await client.call_tool("safe__received", {"header": "x-mcp-server"})) == "None"
        assert _text(await client.call_tool("safe__received", {"header": "x-mcp-connection"})) == "None"


async def test_the_clients_trace_reaches_the_server(gateway: TestGateway) -> None:
    sent = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b", "baggage": "c=d",
        "accept-language": "cy",
    }  # fmt: skip
    session = await gateway.initialize()

    async def received(header: str) -> str:
        params = {"name": "old__received", "arguments": {"header": header}}
        fields = {name.replace("-", "_"): value for name, value in sent.items()}
        answer = await gateway.rpc("tools/call", params, mcp_session_id=session, **fields)
        return str(answer.result["content"][0]["text"])

    assert {header: await received(header) for header in sent} == sent
    id = await received("x-request-id")
    assert (await access_log_entry(gateway.access_log, {"request_id": id}))["mcp.name"] == "old__received"


async def test_progress_reaches_its_call(gateway: TestGateway) -> None:
    steps = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, total, message))

    async with Client(gateway.url, mode="legacy") as client:
        result = await client.call_tool("old__count", {"to": 5}, progress_callback=progress)
        assert _text(result) == "old counted to 5"
    assert steps == [(step, 5, f"step {step}") for step in range(1, 6)]


async def test_the_server_asks_the_client(gateway: TestGateway) -> None:
    async def answer(context: Any, params: ElicitRequestParams) -> ElicitResult:
        assert params.message == "old: Really?"
        return ElicitResult(action="accept", content={"ok": True})

    async with Client(gateway.url, mode="legacy", elicitation_callback=answer) as client:
        assert _text(await client.call_tool("old__confirm", {})) == "old: accept"


async def test_each_session_has_a_connection_which_ends_with_it(gateway: TestGateway) -> None:
    async with Client(gateway.url, mode="legacy") as first:
        before = await _connections(first)
        async with Client(gateway.url, mode="legacy") as second:
            assert await _connections(second) == before + 1
        await eventually(lambda: _connections(first), "one connection less", until=lambda seen: seen == before)


async def test_calls_of_many_sessions_at_once(gateway: TestGateway) -> None:
    async def call(number: int) -> str:
        async with Client(gateway.url, mode="legacy") as client:
            return _text(await client.call_tool("old__add", {"a": number, "b": 0}))

    assert await asyncio.gather(*map(call, range(10))) == [f"old: {number}" for number in range(10)]


async def test_a_server_without_a_type_is_served_as_what_it_speaks(stage: Stage, tmp_path: Path) -> None:
    """A reload keeps what was found, and finds what is new."""
    entries: dict[str, Any] = {"old": {"url": f"http://localhost:{stage.port}/sse"}}
    file = write(tmp_path, {"mcpServers": entries})
    async with running(file, "--port", "0", "--json", "--workers", "1") as process:
        ready = await announced(process)
        assert [(server["tools"], server["problem"]) for server in ready["servers"]] == [(6, None)]
        write(tmp_path, {"mcpServers": {**entries, "again": {"url": f"http://127.0.0.1:{stage.port}/sse"}}})

        async def servers() -> set[str]:
            async with Client(ready["url"], mode="legacy") as client:
                return {tool.name.partition("__")[0] for tool in (await client.list_tools()).tools}

        await eventually(servers, "both servers", until=lambda seen: seen == {"old", "again"})


async def test_replicas_without_a_type_are_served_as_what_they_speak_though_one_is_down(
    stage: Stage, tmp_path: Path
) -> None:
    places = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{stage.port}", f"127.0.0.1:{free_port()}"]
    server = {
        "endpoints": places,
        "path": "/sse",
        "transport": "auto",
    }
    file = write(tmp_path, {"servers": {"old": server}}, "gateway.yaml")
    async with running(file, "--port", "0", "--json", "--workers", "1") as process:
        ready = await announced(process)

        async def sum_() -> str:
            try:
                async with Client(ready["url"], mode="legacy") as client:
                    names = {tool.name for tool in (await client.list_tools()).tools}
                    return _text(await client.call_tool("old__add", {"a": 1, "b": 2})) if names else ""
            except* MCPError:  # of a replica that is not there; from within a task of the client's
                pass
            return ""

        await eventually(sum_, "a connection to the replica that is there", until=lambda text: text == "old: 3")


async def test_check_finds_what_a_server_speaks(stage: Stage, tmp_path: Path) -> None:
    file = write(tmp_path, {"mcpServers": {"old": {"url": f"http://localhost:{stage.port}/sse"}}})
    code, out, _ = await check(file, "--json")
    assert code == 0
    assert json.loads(out)["servers"][0]["tools"] == 6


async def test_a_restart_of_the_server_fails_running_calls_alone(stage: Stage, gateway: TestGateway) -> None:
    session = await gateway.initialize()
    other = await gateway.initialize()
    running = asyncio.create_task(gateway.call(session, "old__wait"))
    await eventually(
        lambda: gateway.local.stat("cluster.mcp/old.upstream_rq_active"), "a running call", until=lambda count: count
    )
    await stage.stop_server()
    error = (await running).error
    assert error["message"].startswith("The server old has ")
    await stage.start_server()
    for id in (session, other):
        assert (await gateway.call(id, "old__add", {"a": 1, "b": 1})).result["content"][0]["text"] == "old: 2"


async def test_a_server_that_is_not_there_is_named(stage: Stage, gateway: TestGateway) -> None:
    await stage.stop_server()
    answer = await gateway.rpc("initialize", {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"},
    })  # fmt: skip
    assert '"server":"old","reason":"error","message":"is unreachable' in answer.body.decode()
    await stage.start_server()
