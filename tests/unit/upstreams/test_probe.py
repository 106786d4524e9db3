"""What servers are found to be. With real ones: tests/e2e/test_check.py, tests/e2e/test_run.py."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from mcp_extproc.address import TcpAddress
from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import BRIDGE_HEADER, HAS_FAILED, IS_STARTING
from mcp_extproc.upstreams.probe import probe, probe_started
from tests.support.scripted import ScriptedServer, answer, hang
from tests.unit.gateway.support import config

CONFIG = config({"a": {"url": "https://a.example/sse", "transport": "sse"}})
STARTING = {"code": -32603, "message": "The server a is still starting, since 8 s"}


class Bridge:
    """Says a few times that a server is starting."""

    def __init__(self, times: int, then: dict[str, Any] | None = None) -> None:
        self.server = ScriptedServer(on={"initialize": self.initialize})
        self._left = times
        self._then = then

    async def initialize(self, _: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        self._left -= 1
        if self._left < 0 and self._then is None:
            return self.server._initialize(message)
        is_starting = self._left >= 0
        response = answer(message, error=STARTING if is_starting else self._then)
        response.headers[BRIDGE_HEADER] = IS_STARTING if is_starting else HAS_FAILED
        return response


async def test_a_server_that_is_starting_is_asked_again_until_it_has_started() -> None:
    async with Bridge(3).server as server:
        at = TcpAddress("127.0.0.1", server.port)
        [first] = await probe(CONFIG, at)
        assert (first.state, first.problem, first.tools) == ("starting", "is still starting, since 8 s", None)
        started = await probe_started(CONFIG, at, "a")
        assert (started.state, started.problem, started.tools) == ("ready", None, 1)


async def test_one_that_fails_then_says_why() -> None:
    failed = {"code": -32603, "message": "The server a ended with exit code 1: no key"}
    async with Bridge(2, failed).server as server:
        at = TcpAddress("127.0.0.1", server.port)
        started = await probe_started(CONFIG, at, "a")
        assert (started.state, started.problem) == ("failed", "ended with exit code 1: no key")


@pytest.mark.parametrize(
    ("server", "state"), [({"command": ["x"]}, "starting"), ({"url": "http://a.example/mcp"}, "failed")]
)
async def test_a_bridge_that_is_late_itself_is_no_failure_of_the_server(server: dict[str, Any], state: str) -> None:
    slow = GatewayConfig.model_validate({"servers": {"a": {**server, "discovery_timeout": "10ms"}}})
    async with ScriptedServer(on={"initialize": hang}) as bridge:
        [asked] = await probe(slow, TcpAddress("127.0.0.1", bridge.port))
        assert (asked.state, asked.problem) == (state, "did not answer within 0.01 s")


async def test_nobody_waits_longer_than_its_time_for_a_start() -> None:
    hasty = GatewayConfig.model_validate({"servers": {"a": {"command": ["x"], "start_timeout": "1ms"}}})
    async with Bridge(1_000_000).server as server:
        started = await probe_started(hasty, TcpAddress("127.0.0.1", server.port), "a")
        assert (started.state, started.problem) == ("starting", "is still starting, since 8 s")


OF_CALLERS = {"forward": [{"name": "x-key", "as": "Authorization"}]}


@pytest.mark.parametrize(
    ("credentials", "refused", "state", "said"),
    [
        (
            OF_CALLERS,
            "initialize",
            "unknown",
            "wants what it gets of callers (credentials.forward), and here nobody calls",
        ),
        (
            OF_CALLERS,
            "tools/list",
            "unknown",
            "wants what it gets of callers (credentials.forward), and here nobody calls",
        ),
        ({"pass_through": True}, "initialize", "unknown", "answered HTTP 401: clients log in at it themselves"),
        ({**OF_CALLERS, "query": {"name": "k", "value": "v"}}, "initialize", "failed", "it refuses the credentials in"),
    ],
)
async def test_who_refuses_a_request_of_nobody_has_not_failed(
    credentials: dict[str, Any], refused: str, state: str, said: str
) -> None:
    async def refuse(_: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=401)

    asking = config({"a": {"url": "http://a.example/mcp", "credentials": credentials}})
    async with ScriptedServer(on={refused: refuse}) as server:
        [asked] = await probe(asking, TcpAddress("127.0.0.1", server.port))
        assert asked.state == state
        assert said in (asked.problem or "")
