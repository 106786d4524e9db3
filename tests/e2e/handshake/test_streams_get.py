"""The stream of a GET: all servers' own merged into one."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest

from mcp_extproc.upstreams.merged_stream import BURST_SECONDS
from tests.e2e.conftest import StartGateway
from tests.support.streaming import Event, Events, StreamingServer, listen, reply, two
from tests.support.waiting import eventually

TOOLS = "notifications/tools/list_changed"
RESOURCES = "notifications/resources/list_changed"


async def test_streams_of_servers_open_with_the_clients(start: StartGateway) -> None:
    """Headers come at once, before any event; until a client listens no server is bothered; then each one is."""
    async with two(start) as (alpha, beta, gateway):
        session = await gateway.initialize()
        await gateway.rpc("tools/list", mcp_session_id=session)
        assert not alpha.gets
        async with listen(gateway, session) as events:
            assert (events.status, events.response.headers["content-type"]) == (200, "text/event-stream")
            assert "mcp-session-id" not in events.response.headers
            for server in (alpha, beta):
                await server.opened()
                [get] = server.gets
                assert get.headers["accept"] == "text/event-stream"
                assert get.headers["mcp-session-id"] in server.sessions
                assert get.headers["mcp-protocol-version"] == "2025-11-25"
                assert "last-event-id" not in get.headers


async def test_events_of_two_servers_are_merged(start: StartGateway) -> None:
    async with two(start) as (alpha, beta, gateway):
        session = await gateway.initialize()
        async with listen(gateway, session) as events:
            first, second = await alpha.opened(), await beta.opened()
            for text in ("one", "two"):
                for name, channel in (("alpha", first), ("beta", second)):
                    await channel.log(text)
                    assert (await events.message())["params"] == {"level": "error", "data": text, "logger": name}


async def test_logger_names_the_server(start: StartGateway) -> None:
    async with two(start) as (alpha, _, gateway), listen(gateway, await gateway.initialize()) as events:
        channel = await alpha.opened()
        await channel.tell("notifications/message", {"level": "info", "logger": "db", "data": {"n": 1.50}})
        assert (await events.message())["params"]["logger"] == "alpha/db"


async def test_log_messages_below_the_clients_level_are_dropped(start: StartGateway) -> None:
    """Also where a server ignores the level that it was told."""
    async with two(start) as (alpha, beta, gateway):
        session = await gateway.initialize()
        async with listen(gateway, session) as events:
            channel = await alpha.opened()
            await channel.log("before", "debug")
            assert (await events.message())["params"]["data"] == "before"
            answer = await gateway.rpc("logging/setLevel", {"level": "warning"}, mcp_session_id=session)
            assert answer.result == {}
            for server in (alpha, beta):
                [told] = server.calls("logging/setLevel")
                assert told.message["params"] == {"level": "warning"}
            for level in ("notice", "warning", "debug", "emergency"):
                await channel.log(level, level)
            assert (await events.message())["params"]["data"] == "warning"
            assert (await events.message())["params"]["data"] == "emergency"


async def test_two_streams_and_each_message_on_one(start: StartGateway) -> None:
    """Several GETs are legal (Multiple Connections); an event comes on exactly one of them, and a server sees one GET."""
    async with two(start) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with listen(gateway, session) as older:
            channel = await alpha.opened()
            async with listen(gateway, session) as newer:
                await channel.tell(TOOLS)
                assert (await newer.message())["method"] == TOOLS
                await channel.log("newer")
                assert (await newer.message())["params"]["data"] == "newer"
            assert len(alpha.gets) == 1
            # Once the newer one is gone its messages come here, and none that it had.
            assert await _heard(channel, older) == "older"


async def _heard(channel: Any, events: Events) -> str:
    """Log until it is heard: the gateway may not have noticed yet that the other listener is gone."""
    waiting = asyncio.create_task(events.message())
    while not waiting.done():
        await channel.log("older")
        await asyncio.wait([waiting], timeout=0.05)
    message = await waiting
    assert message["method"] == "notifications/message"
    text: str = message["params"]["data"]
    return text


async def test_list_changes_of_a_burst_are_told_once(start: StartGateway) -> None:
    async with two(start) as (alpha, beta, gateway), listen(gateway, await gateway.initialize()) as events:
        first, second = await alpha.opened(), await beta.opened()
        changed = first.block(json.dumps({"jsonrpc": "2.0", "method": TOOLS}))
        other = first.block(json.dumps({"jsonrpc": "2.0", "method": RESOURCES}))
        await first.write(changed * 10 + other + changed * 10)
        assert [(await events.message())["method"] for _ in range(2)] == [RESOURCES, TOOLS]
        told, began = 0, asyncio.get_running_loop().time()
        for _ in range(20):
            await first.tell(TOOLS)
            await second.log("passed on at once")
            while (await events.message())["method"] == TOOLS:
                told += 1
        # One or two, or as many as a slow machine has time for.
        assert told <= 2 + (asyncio.get_running_loop().time() - began) / BURST_SECONDS


async def test_updates_have_the_uri_that_the_client_sees(start: StartGateway) -> None:
    """The URI may be a sub-resource that stands in no list. Another session's client hears nothing of it."""
    async with two(start) as (alpha, _, gateway):
        session, other = await gateway.initialize(), await gateway.initialize()
        async with listen(gateway, session) as events:
            channel = await alpha.opened()
            async with listen(gateway, other) as others:
                theirs = await alpha.opened()
                asked = {"uri": "alpha+file:///dir"}
                assert (await gateway.rpc("resources/subscribe", asked, mcp_session_id=session)).result == {}
                assert alpha.calls("resources/subscribe")[0].message["params"] == {"uri": "file:///dir"}
                await channel.tell("notifications/resources/updated", {"uri": "file:///dir/a.txt", "_meta": {"x": 1}})
                told = await events.message()
                assert told["params"] == {"uri": "alpha+file:///dir/a.txt", "_meta": {"x": 1}}
                await theirs.log("end")
                assert (await others.message())["params"]["data"] == "end"


async def test_no_response_comes_on_the_stream_of_a_get(start: StartGateway) -> None:
    async with two(start) as (alpha, _, gateway), listen(gateway, await gateway.initialize()) as events:
        channel = await alpha.opened()
        await channel.send({"jsonrpc": "2.0", "id": 1, "result": {"content": []}})
        await channel.send({"jsonrpc": "2.0", "id": "1", "error": {"code": -1, "message": "x"}})
        await channel.log("end")
        assert (await events.message())["params"]["data"] == "end"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_streams_of_every_spelling(start: StartGateway, end: str) -> None:
    """LF, CR, CRLF, a BOM, comments, several ``data`` lines, odd event names, empty data, cut at every byte."""
    lines = (
        ": hello", "", "event: message", 'data: {"jsonrpc": "2.0", "method": "notifications/message",',
        'data:  "params": {"level": "error", "data": "é€😀"}}', "x-unknown: 1", "", ":", "", "data:", "",
        "event: odd", 'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":2}}', "",
    )  # fmt: skip
    text = "\ufeff" + "".join(line + end for line in lines)
    async with two(start) as (alpha, _, gateway), listen(gateway, await gateway.initialize()) as events:
        channel = await alpha.opened()
        for byte in text.encode():
            await channel.write(bytes([byte]))
        assert (await events.message())["params"]["data"] == "é€😀"
        assert (await events.message())["params"]["data"] == 2


async def test_arrays_on_the_stream_of_a_server_at_2025_03_26(start: StartGateway) -> None:
    """Messages on GET streams may be batched there (2025-03-26 transports, Listening for Messages 4)."""
    async with two(start) as (alpha, _, gateway):
        alpha.version = "2025-03-26"
        async with listen(gateway, await gateway.initialize()) as events:
            channel = await alpha.opened()
            logs = [
                {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": number}}
                for number in range(2)
            ]
            await channel.send([*logs, {"jsonrpc": "2.0", "id": 5, "method": "ping"}])
            assert [(await events.message())["params"]["data"] for _ in logs] == [0, 1]
            [pong] = await alpha.answered()
            assert pong.message == {"jsonrpc": "2.0", "id": 5, "result": {}}


async def test_a_server_without_stream_leaves_the_others(start: StartGateway) -> None:
    """405 means: no stream, carry on. A server that refuses otherwise is no worse."""
    async with two(start) as (alpha, beta, gateway):
        for status in (405, 401, 501):
            alpha.get_status = status
            async with listen(gateway, await gateway.initialize()) as events:
                channel = await beta.opened()
                await channel.log("here")
                assert (await events.message())["params"]["data"] == "here"
                await alpha.until(lambda: alpha.gets)


async def test_silence_is_broken_by_comments(start: StartGateway) -> None:
    """Some clients end streams that are silent for ten seconds."""
    async with two(start) as (_, _, gateway), listen(gateway, await gateway.initialize()) as events:
        block = await events.block()
        assert block == Event(None, None, None, b":")


async def test_a_server_that_is_still_busy_is_asked_again(start: StartGateway) -> None:
    """A second GET gets 409 from the SDKs' servers, as long as they have not noticed that the first one is gone."""
    async with two(start) as (alpha, _, gateway):
        session = await gateway.initialize()
        alpha.get_status = 409
        async with listen(gateway, session) as events:
            await alpha.until(lambda: alpha.gets)
            alpha.get_status = 200
            channel = await alpha.opened()
            await channel.log("here")
            assert (await events.message())["params"]["data"] == "here"


async def test_a_client_that_leaves_ends_the_servers_streams(start: StartGateway) -> None:
    async with two(start) as (alpha, beta, gateway):
        session = await gateway.initialize()
        async with listen(gateway, session):
            first, second = await alpha.opened(), await beta.opened()
        await first.left()
        await second.left()
        assert alpha.sessions  # a connection ended, and no session
        async with listen(gateway, session) as events:
            await (await alpha.opened()).log("again")
            assert (await events.message())["params"]["data"] == "again"


async def test_delete_ends_streams_and_leaves_no_session_behind(start: StartGateway) -> None:
    async with two(start) as (alpha, beta, gateway):
        session = await gateway.initialize()
        async with listen(gateway, session) as events, listen(gateway, session) as others:
            first, second = await alpha.opened(), await beta.opened()
            ended = await gateway.send(None, method="DELETE", mcp_session_id=session)
            assert ended.status == 204
            assert await events.event() is None
            assert await others.event() is None
            await first.left()
            await second.left()
        async with listen(gateway, session) as gone:
            assert gone.status == 404
        await _settled(gateway)
        for server in (alpha, beta):
            assert not server.sessions
            assert len(server.gets) == len(server.deletes) == len(server.calls("initialize")) == 1


async def test_delete_while_a_server_is_still_being_reached(start: StartGateway) -> None:
    """A session that is opened only after its client is gone is ended again."""
    async with two(start) as (_, beta, gateway):
        await beta.stop()
        session = await gateway.initialize()
        released = asyncio.Event()

        async def slowly(request: Any, message: dict[str, Any]) -> Any:
            await released.wait()
            return beta._initialize(message)

        beta.on["initialize"] = slowly
        await beta.restart()
        async with listen(gateway, session) as events:
            await beta.until(lambda: beta.calls("initialize"))
            assert (await gateway.send(None, method="DELETE", mcp_session_id=session)).status == 204
            assert await events.event() is None
        released.set()
        await beta.until(lambda: beta.deletes)
        assert not beta.sessions
        assert not beta.gets


async def _settled(gateway: Any) -> None:
    """The worker has no request to a server under way, as Envoy's private listener tells."""
    await eventually(
        lambda: gateway.local.stat("http.mcp_upstreams.downstream_rq_active"),
        "no request under way",
        until=lambda seen: seen == 0,
    )


async def test_a_session_that_expires_ends_its_streams(start: StartGateway) -> None:
    async with two(start, session={"ttl": 3}) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with listen(gateway, session) as events:
            channel = await alpha.opened()
            assert await events.event() is None
            await channel.left()
        async with listen(gateway, session) as gone:
            assert gone.status == 404


async def test_a_worker_told_to_stop_ends_streams_at_once(start_own: StartGateway) -> None:
    """Clients open them again elsewhere, while calls get their time to finish."""
    async with two(start_own) as (alpha, _, gateway), listen(gateway, await gateway.initialize()) as events:
        channel = await alpha.opened()
        await channel.log("before")
        await events.message()
        gateway.signal_workers(signal.SIGTERM)
        assert await events.event() is None
        await channel.left()


@pytest.mark.parametrize("header", [{"accept": "application/json"}, {"accept": "text/html"}])
async def test_a_get_that_takes_no_stream(start: StartGateway, header: dict[str, str]) -> None:
    async with two(start) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with listen(gateway, session, **header) as refused:
            assert refused.status == 406
        assert not alpha.gets


async def test_an_event_over_the_limit_ends_only_its_servers_stream(start: StartGateway) -> None:
    """The server is listened to again, and the others were never left."""
    async with two(start, limits={"event_bytes": 4096}) as (alpha, beta, gateway):
        async with listen(gateway, await gateway.initialize()) as events:
            first, second = await alpha.opened(), await beta.opened()
            await first.log("x" * 5000)
            await first.left()
            await second.log("other")
            assert (await events.message())["params"]["data"] == "other"
            await (await alpha.opened()).log("again")
            assert (await events.message())["params"]["data"] == "again"
            assert len(beta.gets) == 1


async def test_an_event_over_the_limit_is_not_asked_for_again(start: StartGateway) -> None:
    """Resuming after the event before it would bring it once more, for ever."""
    async with two(start, keeps_events=True, limits={"event_bytes": 4096}) as (alpha, _, gateway):
        async with listen(gateway, await gateway.initialize()) as events:
            channel = await alpha.opened()
            await channel.log("before")
            await channel.log("x" * 5000)
            await channel.left()
            again = await alpha.opened()
            await again.log("after")
            assert [(await events.message())["params"]["data"] for _ in range(2)] == ["before", "after"]


async def test_large_events_pass(start: StartGateway) -> None:
    """Larger than any buffer on the way."""
    text = "é" * 1_500_000
    async with two(start) as (alpha, _, gateway), listen(gateway, await gateway.initialize()) as events:
        channel = await alpha.opened()
        await channel.log(text)
        assert (await events.message())["params"]["data"] == text


async def test_a_server_is_asked_back_on_its_own_session(start: StartGateway) -> None:
    """Each client session has sessions of its own with the servers, so nothing is told to the wrong client."""
    async with two(start) as (alpha, _, gateway):
        sessions = [await gateway.initialize(capabilities={"roots": {}}) for _ in range(2)]
        async with listen(gateway, sessions[0]) as one:
            first = await alpha.opened()
            async with listen(gateway, sessions[1]) as two_:
                second = await alpha.opened()
                assert first.session != second.session
                for channel, events, session in ((first, one, sessions[0]), (second, two_, sessions[1])):
                    await channel.ask(1, "roots/list")
                    id = (await events.message())["id"]
                    assert (await reply(gateway, session, id, result={"roots": []})).status == 202
        posted = await alpha.answered(2)
        assert [post.headers["mcp-session-id"] for post in posted] == [first.session, second.session]


async def test_a_stateless_server_is_listened_to_without_session(start: StartGateway) -> None:
    async with StreamingServer("alpha", stateless=True) as alpha, start({"alpha": alpha.url}) as gateway:
        async with listen(gateway, await gateway.initialize()) as events:
            channel = await alpha.opened()
            assert "mcp-session-id" not in alpha.gets[0].headers
            await channel.log("here")
            assert (await events.message())["params"] == {"level": "error", "data": "here"}


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18"])
async def test_the_version_of_each_server_is_told_to_it(start: StartGateway, version: str) -> None:
    """The one that the server chose, on every POST, GET and DELETE after ``initialize`` (which has neither header)."""
    async with two(start) as (alpha, beta, gateway):
        alpha.version = version
        session = await gateway.initialize(capabilities={"roots": {}})
        await gateway.rpc("logging/setLevel", {"level": "info"}, mcp_session_id=session)
        await gateway.call(session, "alpha__echo")
        async with listen(gateway, session) as events:
            await (await alpha.opened()).ask(1, "roots/list")
            await reply(gateway, session, (await events.message())["id"], result={"roots": []})
            await beta.opened()
        await gateway.send(None, method="DELETE", mcp_session_id=session)
        first, second, *others = alpha.received
        assert (first.message["method"], second.message["method"]) == ("initialize", "notifications/initialized")
        assert not {"mcp-session-id", "mcp-protocol-version"} & set(first.headers)
        told = version if version != "2025-03-26" else None  # where the header did not exist
        assert [request.headers.get("mcp-protocol-version") for request in (second, *others)] == [told] * 6
        assert {request.http_method for request in others} == {"POST", "GET", "DELETE"}
        assert {request.headers.get("mcp-protocol-version") for request in beta.received[1:]} == {"2025-11-25"}
