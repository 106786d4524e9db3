"""Global rate limits with the real service: envoyproxy/ratelimit (built with Go) and Redis (Debian: redis-server)."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import Answer, TestGateway, gateway
from tests.support.golang import built
from tests.support.processes import free_port, http_server
from tests.support.scripted import ScriptedServer, tool

pytestmark = pytest.mark.timeout(900)  # it may have to be built

SOURCE = "github.com/envoyproxy/ratelimit/src/service_cmd@v1.4.1-0.20260122083618-3fb702589d36"

OWN_LIMITS = """\
domain: mcp
descriptors:
- key: method
  value: tools/list
  rate_limit: {unit: day, requests_per_unit: 1}
"""


def program(name: str, hint: str) -> str:
    path = shutil.which(name)
    assert path is not None, f"{name} is missing: {hint}"
    return path


@asynccontextmanager
async def service(folder: Path) -> AsyncIterator[int]:
    """The service with its Redis. Yields its port."""
    redis, port, http, debug = (free_port() for _ in range(4))
    configuration = folder / "runtime" / "limits" / "config"
    configuration.mkdir(parents=True)
    (configuration / "mcp.yaml").write_text(OWN_LIMITS)
    command = [program("redis-server", "apt-get install redis-server"), "--bind", "127.0.0.1", "--save", ""]
    environment = {
        "REDIS_SOCKET_TYPE": "tcp", "REDIS_URL": f"127.0.0.1:{redis}", "USE_STATSD": "false",
        "RUNTIME_ROOT": str(folder / "runtime"), "RUNTIME_SUBDIRECTORY": "limits", "RUNTIME_WATCH_ROOT": "false",
        "HOST": "127.0.0.1", "GRPC_HOST": "127.0.0.1", "DEBUG_HOST": "127.0.0.1",
        "GRPC_PORT": str(port), "PORT": str(http), "DEBUG_PORT": str(debug),
    }  # fmt: skip
    async with AsyncExitStack() as running:
        store = [*command, "--port", str(redis), "--dir", str(folder)]
        await running.enter_async_context(http_server(store, redis, log=folder / "redis.log"))
        log = folder / "ratelimit.log"
        await running.enter_async_context(http_server([built(SOURCE)], port, log=log, environment=environment))
        yield port


def is_limited(answer: Answer, most: int) -> bool:
    if "error" not in answer.json:
        return False
    wait = int(answer.headers["retry-after"])
    assert 0 < wait <= most
    assert (answer.status, answer.json["id"]) == (200, 1)
    assert answer.error["data"] == {"reason": "rate_limited", "status": 429, "retryAfter": wait}
    return True


async def called(gateway: TestGateway, session: str, name: str, count: int) -> list[bool]:
    return [not is_limited(await gateway.call(session, name), 86400) for _ in range(count)]


async def test_two_envoys_and_one_service(tmp_path: Path) -> None:
    """Numbers from the gateway's configuration and from the service's own; all Envoys count together; batches count."""
    limits: list[dict[str, Any]] = [
        {"scope": "global", "by": ["tool"], "requests": 3, "per": "day"},
        {"scope": "global", "by": ["method"]},
        {"scope": "global", "match": {"tool": "slow"}, "by": ["session"], "requests": 1, "per": "day"},
    ]
    async with service(tmp_path) as port, ScriptedServer("alpha", pages=[[tool("echo"), tool("slow")]]) as alpha:
        one, two = tmp_path / "one", tmp_path / "two"
        one.mkdir()
        two.mkdir()
        config: dict[str, Any] = {
            "rate_limits": limits,
            "rate_limit_service": {"address": f"127.0.0.1:{port}", "timeout": "5s"},
        }
        servers = {"alpha": alpha.url}
        async with gateway(one, servers, **config) as first, gateway(two, servers, **config) as second:
            here, there = await first.initialize("2025-03-26"), await second.initialize()
            assert await called(first, here, "alpha__echo", 2) == [True, True]
            assert await called(second, there, "alpha__echo", 2) == [True, False]
            assert await called(first, here, "alpha__echo", 1) == [False]
            assert await called(first, here, "alpha__slow", 2) == [True, False]
            assert await called(second, there, "alpha__slow", 1) == [True]
            assert not is_limited(await first.rpc("tools/list", mcp_session_id=here), 86400)
            assert is_limited(await second.rpc("tools/list", mcp_session_id=there), 86400)
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "alpha__echo"}}
            batch = await first.send(json.dumps([call]).encode(), mcp_session_id=here)
            assert json.loads(batch.body)[0]["error"]["data"]["reason"] == "rate_limited"
            answers = await asyncio.gather(*(second.rpc("ping", mcp_session_id=there) for _ in range(5)))
            assert all(answer.result == {} for answer in answers)
