"""Two principals at one gateway: with what belongs to the other, each is who brings something unknown.

Filters in front say who calls. What a worker holds is in tests/unit/test_stores.py; here it is what clients can do.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.e2e.conftest import StartGateway
from tests.support.gateway import Answer, TestClient, TestGateway
from tests.support.scripted import Received
from tests.support.streaming import StreamingServer, calling, listen, reply, two

VERIFIED = {"metadata_namespace": "their.filter", "key": "user", "type": "STRING"}
FILTER = {
    "name": "their.filter",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
        "request_rules": [{"header": "x-verified", "on_header_present": VERIFIED, "remove": True}],
    },
}
CAPABILITIES = {"sampling": {}, "roots": {"listChanged": True}}


@dataclass
class Stage:
    alpha: StreamingServer
    beta: StreamingServer
    gateway: TestGateway
    alice: TestClient
    bob: TestClient

    async def sessions(self) -> tuple[str, str]:
        return await self.alice.initialize(capabilities=CAPABILITIES), await self.bob.initialize(
            capabilities=CAPABILITIES
        )


@pytest.fixture
async def stage(start: StartGateway) -> AsyncIterator[Stage]:
    configured = {
        "envoy": {"http_filters_before": [FILTER]},
        "authentication": {"existing": {"subject": ["their.filter", "user"]}},
    }
    async with two(start, keeps_events=True, **configured) as (alpha, beta, gateway), _as("alice") as alice:
        async with _as("bob") as bob:
            yield Stage(alpha, beta, gateway, *(TestClient(gateway.url, http) for http in (alice, bob)))


def _as(name: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"x-verified": name})


async def _post(client: TestClient, session: str) -> Answer:
    return await client.rpc("tools/list", mcp_session_id=session)


async def _get(client: TestClient, session: str) -> Answer:
    return await client.send(None, method="GET", accept="text/event-stream", mcp_session_id=session)


async def _delete(client: TestClient, session: str) -> Answer:
    return await client.send(None, method="DELETE", mcp_session_id=session)


async def _batch(client: TestClient, session: str) -> Answer:
    return await client.send(b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', mcp_session_id=session)


Ask = Callable[[TestClient, str], Awaitable[Answer]]


@pytest.mark.parametrize("ask", [_post, _get, _delete, _batch])
async def test_a_session_is_unknown_to_another_one(stage: Stage, ask: Ask) -> None:
    """And goes on, with its stream, whatever others try with it."""
    session = await stage.alice.initialize("2025-03-26", capabilities=CAPABILITIES)
    async with listen(stage.alice, session) as events:
        channel = await stage.alpha.opened()
        tried, unknown = await ask(stage.bob, session), await ask(stage.bob, "unknown")
        assert (tried.status, tried.body) == (404, unknown.body)
        await channel.log("still here")
        assert (await events.message())["params"]["data"] == "still here"
    assert [tool["name"] for tool in (await _post(stage.alice, session)).result["tools"]] == [
        "alpha__echo",
        "beta__echo",
    ]


async def test_a_stream_tells_nobody_else(stage: Stage) -> None:
    """Nor do subscriptions, levels and changes of lists."""
    alices, bobs = await stage.sessions()
    await stage.alice.rpc("logging/setLevel", {"level": "emergency"}, mcp_session_id=alices)
    await stage.alice.rpc("resources/subscribe", {"uri": "alpha+file:///alice"}, mcp_session_id=alices)
    async with listen(stage.alice, alices) as one:
        hers = await stage.alpha.opened()
        async with listen(stage.bob, bobs) as other:
            his = await stage.alpha.opened()
            assert hers.session != his.session
            await hers.tell("notifications/resources/updated", {"uri": "file:///alice"})
            assert (await one.message())["params"] == {"uri": "alpha+file:///alice"}
            await his.log("for bob", level="debug")
            assert (await other.message())["params"]["data"] == "for bob", "her level is not his"
    subscribed = [post.headers["mcp-session-id"] for post in stage.alpha.calls("resources/subscribe")]
    assert subscribed == [hers.session]


async def test_an_event_id_is_good_for_its_owner_only(stage: Stage) -> None:
    alices, bobs = await stage.sessions()
    async with calling(stage.alice, alices, "alpha__stream") as events:
        channel = await stage.alpha.called()
        await channel.log("0")
        await events.message()
        last = events.last_id
    assert last is not None
    await channel.left()
    before = len(stage.alpha.gets)
    for session, status in ((bobs, 405), (alices, 404)):
        tried = await stage.bob.send(
            None, method="GET", accept="text/event-stream", mcp_session_id=session, last_event_id=last
        )
        assert tried.status == status
    assert len(stage.alpha.gets) == before
    await channel.answer(result={"content": []})
    async with listen(stage.alice, alices, last) as rest:
        assert [message["id"] for message in await rest.rest()] == [1]


async def test_what_a_server_asks_one_is_answered_by_nobody_else(stage: Stage) -> None:
    """202, as for what was never asked; so it is with progress on it, and with what cancels a call."""
    alices, bobs = await stage.sessions()
    async with calling(stage.alice, alices, "alpha__stream", id=5) as events:
        channel = await stage.alpha.called()
        params = {"messages": [], "maxTokens": 5, "_meta": {"progressToken": 9}}
        await channel.ask(1, "sampling/createMessage", params)
        asked = await events.message()
        token = asked["params"]["_meta"]["progressToken"]
        progress = {"progressToken": token, "progress": 1}
        for session, status in ((bobs, 202), (alices, 404)):
            assert (await reply(stage.bob, session, asked["id"], result={"model": "bob's"})).status == status
            for method, said in (
                ("notifications/progress", progress), ("notifications/cancelled", {"requestId": 5}),
            ):  # fmt: skip
                assert await _tell(stage.bob, session, method, said) == status
        told = stage.alpha.calls("notifications/cancelled") + stage.alpha.calls("notifications/progress")
        assert channel.session not in {post.headers["mcp-session-id"] for post in told}
        await _tell(stage.alice, alices, "notifications/progress", progress)
        await stage.alpha.until(lambda: _of(stage.alpha, "notifications/progress", channel.session))
        await reply(stage.alice, alices, asked["id"], result={"model": "alice's"})
        [post] = await stage.alpha.answered()
        assert post.message["result"] == {"model": "alice's"}
        await channel.answer(result={"content": []})


async def _tell(client: TestClient, session: str, method: str, params: dict[str, Any]) -> int:
    body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode()
    return (await client.send(body, mcp_session_id=session)).status


def _of(server: StreamingServer, method: str, session: str) -> list[dict[str, Any]]:
    return [post.message["params"] for post in server.calls(method) if post.headers["mcp-session-id"] == session]


async def test_a_session_opened_late_is_of_whom_it_was_opened_for(stage: Stage) -> None:
    """The server restarts. Each gets a session of its own, with what it had set in the one before, and with no other's."""
    alices, bobs = await stage.sessions()
    before = set(stage.alpha.sessions)
    for client, session, name in ((stage.alice, alices, "alice"), (stage.bob, bobs, "bob")):
        await client.rpc("resources/subscribe", {"uri": f"alpha+file:///{name}"}, mcp_session_id=session)
    stage.alpha.sessions.clear()
    stage.alpha.received.clear()
    for client, session in ((stage.alice, alices), (stage.bob, bobs), (stage.alice, alices)):
        assert (await client.call(session, "alpha__echo")).status == 200
    calls = [post.headers["mcp-session-id"] for post in stage.alpha.calls("tools/call")]
    [hers, his, again] = [session for session in calls if session not in before]
    assert hers == again != his
    restored = [
        (post.headers["mcp-session-id"], post.message["params"]["uri"])
        for post in stage.alpha.calls("resources/subscribe")
    ]
    assert restored == [(hers, "file:///alice"), (his, "file:///bob")]


async def test_no_server_hears_who_calls(stage: Stage) -> None:
    """Connections to servers are shared by all: what goes over them is the same for everybody, but for the session."""
    found = []
    for client in (stage.alice, stage.bob):
        stage.alpha.received.clear()
        session = await client.initialize()
        await client.rpc("tools/list", mcp_session_id=session)
        await client.rpc("tools/call", {"name": "alpha__echo"}, mcp_session_id=session, cookie="a=b", x_user="me")
        await _delete(client, session)
        found.append([_but_for_the_session(request) for request in stage.alpha.received])
    assert found[0] == found[1]
    assert "alice" not in repr(found)


def _but_for_the_session(request: Received) -> tuple[str, dict[str, str], dict[str, Any]]:
    own = {"mcp-session-id", "x-mcp-session-key", "x-request-id", "content-length"}
    headers = {name: value for name, value in request.headers.items() if name not in own}
    message = request.message if request.body else {}
    return request.http_method, headers, {name: value for name, value in message.items() if name != "id"}
