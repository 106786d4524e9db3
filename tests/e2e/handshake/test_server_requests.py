"""Requests of servers to clients, on streams of GETs and of calls: sampling, elicitation, roots, ping."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.e2e.conftest import StartGateway
from tests.support.gateway import TestGateway
from tests.support.scripted import answer
from tests.support.streaming import Channel, Events, StreamingServer, calling, listen, reply, two

EVERYTHING = {"sampling": {"tools": {}}, "elicitation": {"form": {}, "url": {}}, "roots": {"listChanged": True}}
FORM = {"message": "Name?", "requestedSchema": {"type": "object", "properties": {}}}
URL = {"mode": "url", "message": "Log in", "url": "https://example.com/?x=alpha", "elicitationId": "e-1"}


class Both:
    """A client's session with streams of two servers: of a GET each, or of a call each."""

    def __init__(self, gateway: TestGateway, session: str) -> None:
        self.gateway = gateway
        self.session = session
        self.channels: list[Channel] = []
        self.events: list[Events] = []


async def _on_get(stack: AsyncExitStack, both: Both, servers: list[StreamingServer]) -> None:
    events = await stack.enter_async_context(listen(both.gateway, both.session))
    for server in servers:
        both.channels.append(await server.opened())
        both.events.append(events)


async def _on_calls(stack: AsyncExitStack, both: Both, servers: list[StreamingServer]) -> None:
    for server in servers:
        call = calling(both.gateway, both.session, f"{server.name}__stream")
        both.events.append(await stack.enter_async_context(call))
        both.channels.append(await server.called())


WHERE = pytest.mark.parametrize("where", [_on_get, _on_calls], ids=["get", "call"])


@WHERE
async def test_ids_that_collide_find_their_way_back(start: StartGateway, where: Any) -> None:
    """Two servers count alike, and tell ``1`` from ``"1"``. Each answer goes to its server and session, with its own id."""
    async with two(start) as (alpha, beta, gateway), AsyncExitStack() as stack:
        both = Both(gateway, await gateway.initialize(capabilities=EVERYTHING))
        await where(stack, both, [alpha, beta])
        asked: list[tuple[StreamingServer, int | str, Any]] = []
        for id in (1, "1", 0, 9007199254740993):
            for server, channel, events in zip((alpha, beta), both.channels, both.events, strict=True):
                await channel.ask(id, "sampling/createMessage", {"messages": [], "maxTokens": 5})
                message = await events.message()
                assert message["method"] == "sampling/createMessage"
                asked.append((server, id, message["id"]))
        assert len({seen for _, _, seen in asked}) == len(asked)
        for number, (_, _, seen) in enumerate(reversed(asked)):
            members = {"result": {"model": str(number)}} if number % 2 else {"error": {"code": -1, "message": "no"}}
            got = await reply(gateway, both.session, seen, **members)
            assert (got.status, got.body) == (202, b"")
        for server in (alpha, beta):
            posted = await server.answered(4)
            expected = [id for asker, id, _ in reversed(asked) if asker is server]
            assert [post.message["id"] for post in posted] == expected
            assert [type(post.message["id"]) for post in posted] == [type(id) for id in expected]
            assert {"error" in post.message for post in posted} == {server is beta}
            for post in posted:
                assert post.headers["mcp-session-id"] in server.sessions
                assert post.headers["mcp-protocol-version"] == "2025-11-25"
        assert all(post.message.get("error", {"code": -1})["code"] == -1 for post in beta.answers)


@WHERE
async def test_answers_to_nothing_are_dropped(start: StartGateway, where: Any) -> None:
    """Made up, tampered with, or another session's: 202, and no server hears of it."""
    async with two(start) as (alpha, beta, gateway), AsyncExitStack() as stack:
        mine = Both(gateway, await gateway.initialize(capabilities=EVERYTHING))
        other = await gateway.initialize(capabilities=EVERYTHING)
        await where(stack, mine, [alpha])
        await mine.channels[0].ask(1, "roots/list")
        id = (await mine.events[0].message())["id"]
        flipped = id[:-1] + ("A" if id[-1] != "A" else "B")
        for session, forged in (
            (mine.session, 1), (mine.session, "1"), (mine.session, flipped), (mine.session, id + "A"),
            (mine.session, id.swapcase()), (mine.session, "x" * 1000), (other, id),
        ):  # fmt: skip
            got = await reply(gateway, session, forged, result={"roots": []})
            assert (got.status, got.body) == (202, b""), forged
        await reply(gateway, mine.session, id, result={"roots": [{"uri": "file:///mine"}]})
        [post] = await alpha.answered()
        assert post.message["result"] == {"roots": [{"uri": "file:///mine"}]}
        assert not beta.answers


async def test_an_answer_for_a_session_that_is_gone_goes_nowhere(start: StartGateway) -> None:
    """A server that was restarted counts from the start again: the answer to its old request 1 is none to its new one."""
    async with two(start) as (alpha, _, gateway):
        session = await gateway.initialize(capabilities=EVERYTHING)
        async with listen(gateway, session) as events:
            await (await alpha.opened()).ask(1, "roots/list")
            old = (await events.message())["id"]
            await alpha.restart()
            await (await alpha.opened()).ask(1, "roots/list")
            while "id" not in (message := await events.message()):
                assert message["method"].endswith("/list_changed")
            assert message["id"] != old
            assert (await reply(gateway, session, old, result={"roots": [{"uri": "file:///old"}]})).status == 202
            assert (await reply(gateway, session, message["id"], result={"roots": []})).status == 202
            [post] = await alpha.answered()
            assert post.message == {"jsonrpc": "2.0", "id": 1, "result": {"roots": []}}


REFUSED: list[tuple[str, dict[str, Any], str, dict[str, Any] | None, int]] = [
    ("2025-11-25", {}, "sampling/createMessage", {"messages": []}, -32601),
    ("2025-11-25", {}, "elicitation/create", FORM, -32601),
    ("2025-11-25", {}, "roots/list", None, -32601),
    ("2025-11-25", {"elicitation": {}}, "elicitation/create", URL, -32602),
    ("2025-11-25", {"elicitation": {"form": {}}}, "elicitation/create", URL, -32602),
    ("2025-11-25", {"elicitation": {"url": {}}}, "elicitation/create", FORM, -32602),
    ("2025-11-25", {"elicitation": {}}, "elicitation/create", {**FORM, "mode": "smell"}, -32602),
    ("2025-11-25", {"elicitation": {}}, "elicitation/create", {**FORM, "mode": 7}, -32602),
    ("2025-11-25", {"sampling": {}}, "sampling/createMessage", {"messages": [], "tools": []}, -32602),
    ("2025-06-18", {"elicitation": {"url": {}}}, "elicitation/create", URL, -32602),
    ("2025-03-26", {"elicitation": {}}, "elicitation/create", FORM, -32601),
    ("2025-11-25", EVERYTHING, "tasks/get", {"taskId": "1"}, -32601),
    ("2025-11-25", EVERYTHING, "tools/call", {"name": "x"}, -32601),
    ("2025-11-25", EVERYTHING, "made/up", {}, -32601),
]


async def test_nothing_is_asked_of_a_client_that_it_did_not_declare(start: StartGateway) -> None:
    async with two(start) as (alpha, _, gateway):
        for count, (version, capabilities, method, params, code) in enumerate(REFUSED, 1):
            session = await gateway.initialize(version, capabilities)
            async with listen(gateway, session) as events:
                channel = await alpha.opened()
                await channel.ask(f"id {count}", method, params)
                post = (await alpha.answered(count))[-1]
                assert (post.message["id"], post.message["error"]["code"]) == (f"id {count}", code), (version, method)
                assert post.headers["mcp-session-id"] == channel.session
                await channel.log("end")
                assert (await events.message())["params"]["data"] == "end"


async def test_on_the_stream_of_a_call(start: StartGateway) -> None:
    """Also for a client that can be asked for nothing at all."""
    async with two(start) as (alpha, _, gateway):
        session = await gateway.initialize()
        async with calling(gateway, session, "alpha__stream") as events:
            channel = await alpha.called()
            await channel.ask(7, "roots/list")
            [post] = await alpha.answered()
            assert (post.message["id"], post.message["error"]["code"]) == (7, -32601)
            await channel.answer(result={"content": []})
            assert await events.rest() == [{"jsonrpc": "2.0", "id": 1, "result": {"content": []}}]


async def test_what_servers_are_told_of_the_client(start: StartGateway) -> None:
    """As declared, in the words of the version; nothing that the gateway does not carry."""
    rows: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("2025-11-25", EVERYTHING, EVERYTHING),
        ("2025-11-25", {"elicitation": {}}, {"elicitation": {"form": {}}}),
        ("2025-11-25", {"sampling": {"context": {}}, "tasks": {}, "experimental": {"x": {}}}, {"sampling": {}}),
        ("2025-06-18", EVERYTHING, {"sampling": {}, "elicitation": {}, "roots": {"listChanged": True}}),
        ("2025-03-26", EVERYTHING, {"sampling": {}, "roots": {"listChanged": True}}),
    ]
    async with StreamingServer("alpha") as alpha, start({"alpha": alpha.url}) as gateway:
        for version, declared, told in rows:
            await gateway.initialize(version, declared)
            params = alpha.calls("initialize")[-1].message["params"]
            assert (params["protocolVersion"], params["capabilities"]) == (version, told)


@WHERE
async def test_pings_of_servers_are_answered_here(start: StartGateway, where: Any) -> None:
    async with two(start) as (alpha, beta, gateway), AsyncExitStack() as stack:
        both = Both(gateway, await gateway.initialize())
        await where(stack, both, [alpha, beta])
        for server, channel, events in zip((alpha, beta), both.channels, both.events, strict=True):
            await channel.ask("p", "ping")
            [post] = await server.answered()
            assert post.message == {"jsonrpc": "2.0", "id": "p", "result": {}}
            assert post.headers["mcp-session-id"] in server.sessions
            await channel.log("end")
            assert (await events.message())["params"]["data"] == "end"


async def test_pings_of_clients_need_no_server(start: StartGateway) -> None:
    async with two(start) as (alpha, beta, gateway):
        session = await gateway.initialize()
        await alpha.stop()
        await beta.stop()
        assert (await gateway.rpc("ping", mcp_session_id=session)).result == {}


@WHERE
async def test_what_a_client_sees_of_a_request(start: StartGateway, where: Any) -> None:
    """Who asks is said; what is private to the server stays; context of servers is not included; URIs can be read."""
    async with two(start) as (alpha, _, gateway), AsyncExitStack() as stack:
        both = Both(gateway, await gateway.initialize(capabilities=EVERYTHING))
        await where(stack, both, [alpha])
        [channel], [events] = both.channels, both.events
        await channel.ask(1, "elicitation/create", {**FORM, "_meta": {"x/y": 1}})
        assert (await events.message())["params"] == {**FORM, "message": "alpha: Name?", "_meta": {"x/y": 1}}
        await channel.ask(2, "elicitation/create", URL)
        told = {**URL, "message": "alpha: Log in", "elicitationId": "alpha:e-1"}
        assert (await events.message())["params"] == told
        await channel.tell("notifications/elicitation/complete", {"elicitationId": "e-1"})
        assert (await events.message())["params"] == {"elicitationId": "alpha:e-1"}
        link = {"type": "resource_link", "uri": "file:///a", "name": "a"}
        content = {"type": "tool_result", "toolUseId": "t", "content": [link]}
        await channel.ask(3, "sampling/createMessage", {
            "messages": [{"role": "user", "content": [content]}],
            "includeContext": "allServers", "tools": [{"name": "own"}], "maxTokens": 1,
        })  # fmt: skip
        params = (await events.message())["params"]
        assert params["includeContext"] == "none"
        assert params["tools"] == [{"name": "own"}]
        assert params["messages"][0]["content"][0]["content"] == [{**link, "uri": "alpha+file:///a"}]


async def test_one_server_is_not_named(start: StartGateway) -> None:
    async with StreamingServer("alpha") as alpha, start({"alpha": alpha.url}) as gateway:
        async with listen(gateway, await gateway.initialize(capabilities=EVERYTHING)) as events:
            channel = await alpha.opened()
            await channel.ask(1, "elicitation/create", URL)
            assert (await events.message())["params"] == URL
            await channel.log("x")
            assert "logger" not in (await events.message())["params"]


async def test_the_url_that_an_error_asks_for(start: StartGateway) -> None:
    """-32042: code and ``url`` as they are, and the ``elicitationId`` that ``elicitation/complete`` tells later."""
    async with two(start) as (alpha, _, gateway):
        session = await gateway.initialize(capabilities=EVERYTHING)
        asked = {"mode": "url", "elicitationId": "e", "url": "https://example.com/e", "message": "Log in"}
        error = {"code": -32042, "message": "URL elicitation required", "data": {"elicitations": [asked]}}

        async def refuse(request: Any, message: dict[str, Any]) -> Any:
            return answer(message, error=error)

        alpha.on["tools/call"] = refuse
        async with listen(gateway, session) as events:
            channel = await alpha.opened()
            told = (await gateway.call(session, "alpha__echo")).error
            await channel.tell("notifications/elicitation/complete", {"elicitationId": "e"})
            completed = (await events.message())["params"]["elicitationId"]
        assert (told["code"], told["message"]) == (-32042, error["message"])
        assert told["data"]["elicitations"] == [{**asked, "elicitationId": completed}]


async def test_a_client_that_knows_no_urls_hears_of_no_completion(start: StartGateway) -> None:
    async with two(start) as (alpha, _, gateway):
        async with listen(gateway, await gateway.initialize(capabilities={"elicitation": {}})) as events:
            channel = await alpha.opened()
            await channel.tell("notifications/elicitation/complete", {"elicitationId": "e"})
            await channel.log("end")
            assert (await events.message())["params"]["data"] == "end"


@WHERE
async def test_a_server_cancels_its_own_request(start: StartGateway, where: Any) -> None:
    """``cancelled`` names the request by the id under which the client knows it."""
    async with two(start) as (alpha, beta, gateway), AsyncExitStack() as stack:
        both = Both(gateway, await gateway.initialize(capabilities=EVERYTHING))
        await where(stack, both, [alpha, beta])
        for channel, events in zip(both.channels, both.events, strict=True):
            await channel.ask(1, "roots/list")
            id = (await events.message())["id"]
            await channel.tell("notifications/cancelled", {"requestId": 1, "reason": "late"})
            assert (await events.message())["params"] == {"requestId": id, "reason": "late"}


@WHERE
@pytest.mark.parametrize("token", [0, "0"])
async def test_progress_of_a_client(start: StartGateway, where: Any, token: int | str) -> None:
    """A client tells of its progress with a server's request: to that server alone, the token's type kept."""
    async with two(start) as (alpha, beta, gateway), AsyncExitStack() as stack:
        both = Both(gateway, await gateway.initialize(capabilities=EVERYTHING))
        await where(stack, both, [alpha])
        await both.channels[0].ask(1, "sampling/createMessage", {"messages": [], "_meta": {"progressToken": token}})
        seen = (await both.events[0].message())["params"]["_meta"]["progressToken"]
        for session_token in (token, "made up", seen):
            assert await _progress(gateway, both.session, session_token) == 202
        [told_up] = await alpha.until(lambda: alpha.calls("notifications/progress"))
        assert told_up.message["params"] == {"progressToken": token, "progress": 0.5}
        assert type(told_up.message["params"]["progressToken"]) is type(token)
        assert not beta.calls("notifications/progress")


async def _progress(gateway: TestGateway, session: str, token: Any) -> int:
    message = {
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": token, "progress": 0.5},
    }
    return (await gateway.send(json.dumps(message).encode(), mcp_session_id=session)).status
