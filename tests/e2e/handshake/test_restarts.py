"""Servers that restart, or come late: invisible to clients, but for what they are told has changed."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.conftest import StartGateway
from tests.support.gateway import TestGateway
from tests.support.scripted import hang
from tests.support.streaming import Channel, Events, StreamingServer, listen, two


async def _changes(events: Events, channel: Channel) -> list[str]:
    """What is told until a message of this stream arrives."""
    told: list[str] = []
    waiting = asyncio.create_task(_until_log(events, told))
    while not waiting.done():
        # Changes are told a moment later than what is passed on.
        await channel.log("end")
        await asyncio.wait([waiting], timeout=0.05)
    await waiting
    return told


async def _until_log(events: Events, told: list[str]) -> None:
    while not told or not told[-1].startswith("tools"):
        message = await events.message()
        if message["method"] != "notifications/message":
            told.append(message["method"].removeprefix("notifications/"))


async def test_a_restarted_servers_stream_is_opened_again(start: StartGateway) -> None:
    """404: it is initialized afresh, without session id; settings are restored, the client hears that lists may be
    new; the other server's stream is never touched."""
    async with two(start) as (alpha, beta, gateway):
        session = await gateway.initialize(capabilities={"roots": {"listChanged": True}})
        await gateway.rpc("logging/setLevel", {"level": "error"}, mcp_session_id=session)
        for uri in ("file:///a", "file:///b", "file:///c"):
            await gateway.rpc("resources/subscribe", {"uri": f"alpha+{uri}"}, mcp_session_id=session)
        await gateway.rpc("resources/unsubscribe", {"uri": "alpha+file:///b"}, mcp_session_id=session)
        async with listen(gateway, session) as events:
            await alpha.opened()
            other = await beta.opened()
            alpha.received.clear()
            await alpha.restart()
            channel = await alpha.opened()
            [again] = alpha.calls("initialize")
            assert "mcp-session-id" not in again.headers
            assert again.message["params"]["capabilities"] == {"roots": {"listChanged": True}}
            assert [level.message["params"] for level in alpha.calls("logging/setLevel")] == [{"level": "error"}]
            uris = [post.message["params"]["uri"] for post in alpha.calls("resources/subscribe")]
            assert uris == ["file:///a", "file:///c"]
            restored = alpha.calls("logging/setLevel") + alpha.calls("resources/subscribe")
            assert {post.headers["mcp-session-id"] for post in restored} == {channel.session}
            assert await _changes(events, channel) == ["resources/list_changed", "tools/list_changed"]
            await other.log("still here")
            while (message := await events.message())["params"]["data"] != "still here":
                assert message["params"]["logger"] == "alpha"
        assert len(beta.gets) == len(beta.calls("initialize")) == 1


async def test_as_often_as_it_restarts(start: StartGateway) -> None:
    async with two(start) as (alpha, _, gateway):
        async with listen(gateway, await gateway.initialize()) as events:
            await alpha.opened()
            for number in range(3):
                await alpha.restart()
                channel = await alpha.opened()
                await channel.log(str(number))
                while (message := await events.message())["method"] != "notifications/message":
                    continue
                assert message["params"]["data"] == str(number)
            assert len(alpha.calls("initialize")) == 4


async def test_a_call_that_finds_the_server_again_brings_its_stream_back(start: StartGateway) -> None:
    """However long the pause until the next attempt: what the call is about may need the stream."""
    async with two(start) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with listen(gateway, session) as events:
            channel = await alpha.opened()
            await channel.prime(retry=60_000)
            await channel.log("now the pause is known")
            await events.message()
            await alpha.restart()
            await gateway.call(session, "alpha__echo")
            channel = await alpha.opened()
            await channel.log("back")
            while (await events.message())["params"].get("data") != "back":
                pass


@pytest.mark.parametrize("status", [404, 400])
async def test_a_call_is_replayed_once(start: StartGateway, status: int) -> None:
    """400, as some examples answer, is treated alike. Settings are restored before the call is; the stream follows."""
    async with two(start) as (alpha, beta, gateway):
        alpha.lost_status = status
        session = await gateway.initialize()
        await gateway.rpc("logging/setLevel", {"level": "error"}, mcp_session_id=session)
        before = len(beta.received)
        alpha.sessions.clear()
        alpha.received.clear()
        assert (await gateway.call(session, "alpha__echo", {"n": 1})).status == 200
        methods = [post.message["method"] for post in alpha.received if post.http_method == "POST"]
        assert methods == [
            "tools/call", "initialize", "notifications/initialized", "logging/setLevel", "tools/call",
        ]  # fmt: skip
        lost, replayed = alpha.calls("tools/call")
        assert lost.body == replayed.body
        assert lost.headers["mcp-session-id"] != replayed.headers["mcp-session-id"]
        async with listen(gateway, session):
            channel = await alpha.opened()
            assert channel.session == replayed.headers["mcp-session-id"]
            assert len(alpha.calls("initialize")) == 1
            await beta.opened()
        assert [request.http_method for request in beta.received[before:]] == ["GET"]


async def test_a_list_is_asked_for_again(start: StartGateway) -> None:
    async with two(start) as (alpha, beta, gateway):
        session = await gateway.initialize()
        alpha.sessions.clear()
        tools = (await gateway.rpc("tools/list", mcp_session_id=session)).result["tools"]
        assert [tool["name"] for tool in tools] == ["alpha__echo", "beta__echo"]
        assert (len(alpha.calls("tools/list")), len(beta.calls("tools/list"))) == (2, 1)


async def test_a_server_without_its_old_session_at_delete(start: StartGateway) -> None:
    """What it answers does not matter; and the session that replaced the lost one is ended as well."""
    async with two(start) as (alpha, beta, gateway):
        session = await gateway.initialize()
        alpha.sessions.clear()
        await gateway.call(session, "alpha__echo")
        assert alpha.sessions
        beta.sessions.clear()
        assert (await gateway.send(None, method="DELETE", mcp_session_id=session)).status == 204
        assert not alpha.sessions
        assert len(beta.deletes) == 1


async def test_a_server_that_comes_late_joins(start: StartGateway) -> None:
    """Down at ``initialize``: when it comes the client hears of new lists, and it is told what the client asked meanwhile."""
    async with two(start) as (alpha, beta, gateway):
        await beta.stop()
        session = await gateway.initialize()
        await gateway.rpc("logging/setLevel", {"level": "error"}, mcp_session_id=session)
        async with listen(gateway, session) as events:
            await alpha.opened()
            await beta.restart()
            channel = await beta.opened()
            assert await _changes(events, channel) == ["resources/list_changed", "tools/list_changed"]
            assert [level.message["params"] for level in beta.calls("logging/setLevel")] == [{"level": "error"}]
            tools = (await gateway.rpc("tools/list", mcp_session_id=session)).result["tools"]
            assert [tool["name"] for tool in tools] == ["alpha__echo", "beta__echo"]
        assert len(beta.calls("initialize")) == 1
        assert len(alpha.gets) == 1


async def test_a_server_that_comes_late_without_a_stream(start: StartGateway) -> None:
    """It answers its GET with 405, and the client hears of it all the same."""
    async with two(start) as (alpha, beta, gateway):
        beta.get_status = 405
        await beta.stop()
        async with listen(gateway, await gateway.initialize()) as events:
            channel = await alpha.opened()
            await beta.restart()
            assert await _changes(events, channel) == ["resources/list_changed", "tools/list_changed"]


async def test_a_server_that_only_dropped_the_connection(start: StartGateway) -> None:
    """Its session lives: nothing is initialized, and nothing said to have changed."""
    async with two(start) as (alpha, _, gateway):
        async with listen(gateway, await gateway.initialize()) as events:
            for ending in (Channel.hang_up, _cut):
                channel = await alpha.opened()
                await ending(channel)
            await (await alpha.opened()).log("end")
            assert (await events.message())["params"]["data"] == "end"
            assert len(alpha.calls("initialize")) == 1


async def _cut(channel: Channel) -> None:
    channel.cut()


async def test_a_server_that_dropped_a_stream_that_it_keeps(start: StartGateway) -> None:
    """What it says meanwhile is not lost: the gateway resumes, after the time that the server named."""
    async with two(start, keeps_events=True) as (alpha, _, gateway):
        async with listen(gateway, await gateway.initialize()) as events:
            channel = await alpha.opened()
            await channel.write(channel.block('{"jsonrpc":"2.0","method":"a/b"}', retry=10))
            assert (await events.message())["method"] == "a/b"
            channel.cut()
            await channel.left()
            await channel.log("missed")
            assert (await events.message())["params"]["data"] == "missed"
            assert alpha.gets[-1].headers["last-event-id"] == f"{channel.name}/0"


@pytest.mark.parametrize("status", [404, 400])
async def test_a_server_without_streams_keeps_its_session(start: StartGateway, status: int) -> None:
    """It says to every GET what others say to lost sessions. What the client does in the session goes on."""
    async with two(start) as (alpha, beta, gateway):
        alpha.get_status = status
        session = await gateway.initialize()
        for _ in range(2):
            asked = len(alpha.calls("ping"))
            async with listen(gateway, session):
                channel = await beta.opened()
                await alpha.until(lambda: len(alpha.calls("ping")) > asked)  # noqa: B023 - awaited here
            await channel.left()
        assert (await gateway.rpc("tools/list", mcp_session_id=session)).status == 200
        assert len(alpha.calls("initialize")) == len(alpha.sessions) == 1


async def test_a_request_that_takes_too_long_is_cancelled(start: StartGateway) -> None:
    """The gateway's own: it stops waiting, and says so to the server. ``initialize`` is never cancelled."""
    async with StreamingServer("alpha") as alpha:
        server = {"url": alpha.url, "discovery_timeout": 2}
        async with start({"alpha": server}) as gateway:
            session = await gateway.initialize()
            alpha.on["tools/list"] = hang
            assert (await gateway.rpc("tools/list", mcp_session_id=session)).error["code"] == -32603
            [cancelled] = await alpha.until(lambda: alpha.calls("notifications/cancelled"))
            [asked] = alpha.calls("tools/list")
            assert cancelled.message["params"]["requestId"] == asked.message["id"]
            assert cancelled.headers["mcp-session-id"] in alpha.sessions
            alpha.on["initialize"] = hang
            await _fails_to_initialize(gateway)
            del alpha.on["tools/list"], alpha.on["initialize"]
            assert (await gateway.rpc("tools/list", mcp_session_id=session)).status == 200
            assert len(alpha.calls("notifications/cancelled")) == 1


async def _fails_to_initialize(gateway: TestGateway) -> None:
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
    answer = await gateway.rpc("initialize", params)
    assert answer.error["code"] == -32603
