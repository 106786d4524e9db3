"""A server at a name that Envoy looks up, which may have several addresses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support import own_envoy
from tests.support.gateway import TestClient
from tests.support.name_server import name_server
from tests.support.processes import free_port
from tests.support.scripted import ScriptedServer
from tests.support.streaming import StreamingServer, listen


@asynccontextmanager
async def served(folder: Path, servers: Mapping[str, Any], resolver: Mapping[str, Any]) -> AsyncIterator[TestClient]:
    """A gateway whose Envoy looks names up at a name server."""
    port = free_port()
    config = json.dumps({"listen": {"port": port}, "servers": servers, "log": {"access": ""}})
    file = folder / "bootstrap.yaml"
    file.write_text(config)
    async with own_envoy.place(folder) as place:
        printed, _ = await own_envoy.printed(place, "envoy", "bootstrap", str(file))
        bootstrap = json.dumps({**json.loads(printed), "typed_dns_resolver_config": resolver})
        async with (
            own_envoy.worker(place, config),
            own_envoy.envoy(place, bootstrap, port),
            aiohttp.ClientSession() as http,
        ):
            yield TestClient(f"http://127.0.0.1:{port}/mcp", http)


@asynccontextmanager
async def replicas(**options: Any) -> AsyncIterator[list[ScriptedServer]]:
    """One server at two addresses."""
    async with ScriptedServer("alpha", **options) as first:
        async with ScriptedServer("alpha", port=first.port, address="127.0.0.2", **options) as second:
            yield [first, second]


NAMES = {"alpha.internal": ("127.0.0.1", "127.0.0.2"), "beta.internal": ("127.0.0.1",)}


def at_name(server: ScriptedServer, **config: Any) -> dict[str, Any]:
    return {"url": f"http://{server.name}.internal:{server.port}/mcp", **config}


async def test_lost_sessions_are_repaired(tmp_path: Path) -> None:
    """In calls, in lists, and of the stream. Envoy waits for the names: their first queries are lost, and yet the first client
    finds both servers."""
    async with (
        replicas(sessions=set()) as alphas,
        StreamingServer("beta") as beta,
        name_server(NAMES, losses=4) as resolver,
        served(tmp_path, {"alpha": at_name(alphas[0]), "beta": at_name(beta)}, resolver) as client,
    ):
        session = await client.initialize()
        assert [_opened(alphas), _opened([beta])] == [1, 1]
        for losses in range(1, 5):
            alphas[0].sessions.clear()
            answer = await client.call(session, "alpha__echo", {"n": losses, "text": "x" * 1_000_000})
            assert f'"n": {losses}' in answer.result["content"][0]["text"]
            assert _opened(alphas) == 1 + losses
            # The next call goes straight to the new session.
            before = sum(len(alpha.received) for alpha in alphas)
            assert (await client.call(session, "alpha__echo")).result
            assert sum(len(alpha.received) for alpha in alphas) == before + 1
        assert all(alpha.calls("tools/call") for alpha in alphas)
        alphas[0].sessions.clear()
        listed = (await client.rpc("tools/list", mcp_session_id=session)).result
        assert [entry["name"] for entry in listed["tools"]] == ["alpha__echo", "beta__echo"]
        assert _opened(alphas) == 6
        async with listen(client, session) as events:
            channel = await beta.opened()
            beta.sessions.clear()
            channel.cut()
            channel = await beta.opened()
            assert channel.session in beta.sessions
            await channel.log("again")
            # Its lists may be others since.
            while (message := await events.message())["method"] != "notifications/message":
                assert message["method"].endswith("/list_changed")
            assert message["params"]["data"] == "again"


def _opened(servers: Sequence[ScriptedServer]) -> int:
    """How many sessions."""
    return sum(len(server.calls("initialize")) for server in servers)


async def test_sticky_sessions(tmp_path: Path) -> None:
    """With all else that could keep Envoy from the repair listener: its own address is nobody's."""
    options = {
        "sticky_sessions": True, "retries": {}, "keepalive": {}, "outlier_detection": {},
        "health_check": {"interval": "100ms", "timeout": "30s"},
    }  # fmt: skip
    async with (
        replicas() as alphas,
        name_server(NAMES) as resolver,
        served(tmp_path, {"alpha": at_name(alphas[0], **options)}, resolver) as client,
    ):
        sessions = [await client.initialize() for _ in range(4)]
        homes = [await _home(client, alphas, session) for session in sessions]
        assert len(set(homes)) == 2
        assert [await _home(client, alphas, session) for session in sessions] == homes
        # What each has forgotten is opened again, anywhere; then it stays there.
        for alpha in alphas:
            alpha.sessions.clear()
        for session in sessions:
            home = await _home(client, alphas, session)
            assert [await _home(client, alphas, session) for _ in range(3)] == [home] * 3
        assert _opened(alphas) == 8
        await alphas[1].stop()
        assert {await _home(client, alphas, session) for session in sessions} == {0}


async def _home(client: TestClient, servers: Sequence[ScriptedServer], session: str) -> int:
    """The one that knew a session's call."""
    before = [_answered(server) for server in servers]
    assert (await client.call(session, "alpha__echo")).result
    [home] = [n for n, server in enumerate(servers) if _answered(server) > before[n]]
    return home


def _answered(server: ScriptedServer) -> int:
    return len([call for call in server.calls("tools/call") if call.headers["mcp-session-id"] in server.sessions])
