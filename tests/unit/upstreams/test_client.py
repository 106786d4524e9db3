"""One sub-request: what a server is sent, and what is made of what it answers. Over a real connection, without Envoy."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mcp_extproc.address import TcpAddress
from mcp_extproc.contract import BRIDGE_HEADER, CREDENTIALS_UNAVAILABLE, FAILURE_HEADER, HAS_FAILED, IS_STARTING
from mcp_extproc.gateway.credentials import digest
from mcp_extproc.gateway.legs import NO_ROOM, STARTING, Challenge
from mcp_extproc.gateway.request import RequestContext
from mcp_extproc.held import HeldBytes
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.mcp.trace_context import SpanContext
from mcp_extproc.telemetry.observer import UNOBSERVED, Observer
from mcp_extproc.upstreams import client as client_module
from mcp_extproc.upstreams import pauses
from mcp_extproc.upstreams.client import (
    Initialized,
    NoStream,
    SessionLost,
    StreamBusy,
    UnexpectedStatus,
    UpstreamClient,
    UpstreamError,
)
from mcp_extproc.upstreams.private_listener import http_session
from tests.support.rounds import LEAST, MOST, flooded, lines_parsed
from tests.support.scripted import Handler, Received, ScriptedServer, answer, fixed
from tests.support.waiting import PATIENCE, eventually
from tests.unit.gateway.support import LATEST, catalog_of, config, upstream
from tests.unit.upstreams.fake_client import Told

PATH = "/p%20q?k=%2F"
ENTRY = catalog_of(config({"a": {"url": f"https://a.example{PATH}", "headers": {"X-Key": "v"}}})).entries["a"]
LIST = "tools/list"
REFUSED = ": it refuses the credentials in headers.X-Key, look whether they are still valid"
RESPONSE_BYTES = 2000
LIMITS = config(limits={"response_bytes": RESPONSE_BYTES, "event_bytes": 4000}).limits


@asynccontextmanager
async def asking(
    observer: Observer = UNOBSERVED, **server: Any
) -> AsyncIterator[tuple[UpstreamClient, ScriptedServer]]:
    async with (
        ScriptedServer(**server) as scripted,
        UpstreamClient(TcpAddress("127.0.0.1", scripted.port), LIMITS, observer=observer) as client,
    ):
        yield client, scripted


async def listed(handler: Handler) -> dict[str, Any]:
    """The result of a request that is answered so."""
    async with asking(on={LIST: handler}) as (client, _):
        result = await client.request(ENTRY, upstream("a"), LIST, {})
        return {name: json.loads(bytes(raw)) for name, raw in result.members.items()}


async def failure(ask: Awaitable[object]) -> tuple[str, str]:
    with pytest.raises(UpstreamError) as caught:
        await ask
    return caught.value.reason, caught.value.message


@pytest.mark.parametrize(
    ("said", "told"),
    [('Bearer realm="a"', 'Bearer realm="a"'), (None, ""), ("x" * 5000, ""), ("caf\u00e9", "")],
)
async def test_how_a_server_asks_for_a_login(said: str | None, told: str) -> None:
    """For clients that log in there, and for no others."""
    of_clients = catalog_of(config({"a": {"credentials": {"pass_through": True}}})).entries["a"]

    async def refusing(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=401, headers={} if said is None else {"WWW-Authenticate": said})

    async with asking(on={LIST: refusing}) as (client, _):
        for entry, challenge in ((of_clients, Challenge(401, told)), (ENTRY, None)):
            with pytest.raises(UpstreamError) as caught:
                await client.request(entry, upstream("a"), LIST, {})
            assert caught.value.failed("a").challenge == challenge


# -- Descriptors ----------------------------------------------------------------------------------------------------------


async def test_streams_leave_descriptors_for_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """What clients have open for as long as they like is not to keep others from being served."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4, 4))
    opened = 0

    async def stream(request: web.Request) -> web.StreamResponse:
        nonlocal opened
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        opened += 1
        await asyncio.Event().wait()
        return response

    async with asking(get=stream) as (client, _):
        session = (await client.initialize(ENTRY, "2025-11-25", frozenset())).session

        async def listen() -> None:
            async with client.listen(ENTRY, session, None):
                await asyncio.Event().wait()

        listening = [asyncio.create_task(listen()) for _ in range(6)]
        await eventually(lambda: opened, "as many streams as there may be", until=lambda count: count == 3)
        await asyncio.gather(*(client.request(ENTRY, session, LIST, {}) for _ in range(8)))
        assert opened == 3
        listening[0].cancel()
        await eventually(lambda: opened, "the next stream", until=lambda count: count == 4)
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)


# -- What is sent ---------------------------------------------------------------------------------------------------------

OURS = (
    "x-key",
    "x-mcp-server",
    "content-type",
    "accept",
    "mcp-session-id",
    "mcp-protocol-version",
    "authorization",
    "cookie",
)


async def test_what_a_server_gets_of_the_caller_goes_with_every_request() -> None:
    """And the session that is opened with it is known by it."""
    carried = (("x-token", "of alice"),)
    context = RequestContext(carried={"a": carried, "b": (("x-other", "of bob"),)})
    async with asking() as (client, server):
        found = (await client.initialize(ENTRY, LATEST, frozenset(), context=context)).session
        await client.request(ENTRY, found, LIST, {}, context=context)
        await client.end(ENTRY, found, context=context)
    assert {request.headers.get("x-token") for request in server.received} == {"of alice"}
    assert not any("x-other" in request.headers for request in server.received)
    assert found.carried == digest(carried)


async def test_the_trace_goes_on_to_servers() -> None:
    """In header and ``_meta``, each request with a span of its own; an answer to a server's request is none."""
    own = SpanContext("a" * 32, "b" * 16, sampled=True)
    context, told = RequestContext((("traceparent", own.traceparent),), span=own), Told()
    async with asking(told) as (client, server):
        session = (await client.initialize(ENTRY, LATEST, frozenset(), context=context)).session
        await client.request(ENTRY, session, LIST, {"cursor": "0"}, context=context)
        await client.notify(ENTRY, session, b'{"jsonrpc":"2.0","id":1,"result":{}}', context=context)
        await client.end(ENTRY, session, context=context)
    asked = {sent.method: f"00-{own.trace}-{sent.span}-01" for sent in told.requests}
    assert [*asked] == ["initialize", "notifications/initialized", LIST]
    got = {request.message.get("method"): request for request in server.received if request.body}
    for method, parent in asked.items():
        assert got[method].headers["traceparent"] == parent
    assert got[LIST].message["params"] == {"cursor": "0", "_meta": {"traceparent": asked[LIST]}}
    assert got[None].body == b'{"jsonrpc":"2.0","id":1,"result":{}}'
    assert {sent.parent for sent in told.requests} == {own}


async def test_where_nobody_looks_only_the_header_goes_on() -> None:
    context = RequestContext((("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"),))
    async with asking(stateless=True) as (client, server):
        await client.request(ENTRY, upstream("a"), LIST, {}, context=context)
    [got] = server.received
    assert (got.headers["traceparent"], got.message["params"]) == (context.headers[0][1], {})


async def test_what_a_server_gets_of_the_caller_is_not_repeated() -> None:
    refused = {"error": {"code": -1, "message": "not for t0ken-of-alice, in a 1ong sentence"}}
    context = RequestContext(carried={"a": (("x-token", "t0ken-of-alice"),)})

    async def refuse(_: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"jsonrpc": "2.0", "id": asked["id"], **refused})

    async with asking(on={LIST: refuse}) as (client, _):
        reason, said = await failure(client.request(ENTRY, upstream("a"), LIST, {}, context=context))
    assert (reason, said) == ("error", "answered with error -1: not for [redacted], in a 1ong sentence")


async def test_a_token_that_is_not_there_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Envoy has none for a second after its start. Where it gets none, the error says so."""
    monkeypatch.setattr(client_module, "_TOKEN_PAUSES", (0.001, 0.001))
    without, asked = 2, 0

    async def injected(_: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked <= without:
            return web.Response(status=401, headers={FAILURE_HEADER: CREDENTIALS_UNAVAILABLE}, text="Failed to inject.")
        return answer(message, result={"protocolVersion": LATEST, "capabilities": {}})

    async with asking(stateless=True, on={"initialize": injected}) as (client, _):
        assert (await client.initialize(ENTRY, LATEST, frozenset())).session.version == LATEST
        without = 10
        reason, said = await failure(client.initialize(ENTRY, LATEST, frozenset()))
    assert (reason, asked) == ("credentials_unavailable", 6)
    assert said.startswith("was not asked: Envoy has no token for it")


async def test_initialize_and_what_follows_it() -> None:
    """No session and no version before there are any."""
    async with asking() as (client, server):
        session, instructions, streamed = await client.initialize(
            ENTRY, "2025-06-18", frozenset({"sampling", "sampling.tools"})
        )
    [known] = server.sessions
    assert session == UpstreamSession("2025-06-18", known, frozenset({"tools"}))
    assert (instructions, streamed) == (None, False)
    first, second = server.received
    assert (first.http_method, first.path, second.path) == ("POST", PATH, PATH)
    assert first.message["params"]["protocolVersion"] == "2025-06-18"
    assert first.message["params"]["capabilities"] == {"sampling": {"tools": {}}}
    assert first.message["params"]["clientInfo"]["name"] == "mcp-extproc"
    assert {name: first.headers[name] for name in OURS if name in first.headers} == {
        "x-key": "v",
        "x-mcp-server": "a",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
    }
    assert second.message == {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (second.headers["mcp-session-id"], second.headers["mcp-protocol-version"]) == (known, "2025-06-18")


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        (
            UpstreamSession("2025-11-25", "s", frozenset()),
            {"mcp-session-id": "s", "mcp-protocol-version": "2025-11-25"},
        ),
        (UpstreamSession("2025-03-26", "s", frozenset()), {"mcp-session-id": "s"}),
        (UpstreamSession("2025-06-18", None, frozenset()), {"mcp-protocol-version": "2025-06-18"}),
    ],
)
async def test_every_later_message_carries_session_and_version(
    session: UpstreamSession, expected: dict[str, str]
) -> None:
    """On requests, notifications and DELETE alike."""
    async with asking(on={LIST: fixed(result={})}) as (client, server):
        server.sessions.add("s")
        server.stateless = session.id is None
        await client.request(ENTRY, session, LIST, {})
        await client.notify(ENTRY, session, b'{"jsonrpc":"2.0","method":"notifications/cancelled"}')
        await client.end(ENTRY, session)
    assert len(server.received) == (3 if session.id else 2)
    for received in server.received:
        names = ("mcp-session-id", "mcp-protocol-version")
        assert {name: received.headers[name] for name in names if name in received.headers} == expected
        assert (received.path, received.headers["x-key"], received.headers["x-mcp-server"]) == (PATH, "v", "a")


async def test_a_session_without_an_id_is_not_ended() -> None:
    async with asking() as (client, server):
        await client.end(ENTRY, upstream("a", id=None))
    assert server.received == []


# -- What is answered -----------------------------------------------------------------------------------------------------

# `ID` stands for the request's own id, which is another one each time.
RESULT = '{"jsonrpc":"2.0","id":ID,"result":{"tools":[1.50]}}'


def raw(status: int, content_type: str, text: str) -> Handler:
    """An answer word for word."""

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        answered = text.replace("ID", json.dumps(message.get("id")))
        return web.Response(status=status, headers={"content-type": content_type}, body=answered.encode())

    return handler


def failing_with(error: dict[str, Any], headers: dict[str, str]) -> Handler:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        response = answer(message, error=error)
        response.headers.update(headers)
        return response

    return handler


def stream(*events: str, line_end: str = "\n") -> Handler:
    return raw(200, "text/event-stream", "".join(f"data: {event}\n\n" for event in events).replace("\n", line_end))


def body(text: str) -> Handler:
    return raw(200, "application/json", text)


NOTIFICATION = '{"jsonrpc":"2.0","method":"notifications/message","params":{}}'
REQUEST = '{"jsonrpc":"2.0","id":ID,"method":"ping"}'
OTHER = '{"jsonrpc":"2.0","id":2,"result":{"tools":[]}}'


@pytest.mark.parametrize(
    "handler",
    [
        body(RESULT),
        raw(200, "Application/JSON; charset=utf-8", RESULT),
        body(f" {RESULT}\n"),
        body('{"jsonrpc":"2.0","id":ID,"error":null,"result":{"tools":[1.50]}}'),
        stream('{"jsonrpc":"2.0","id":ID,"result":{"tools":[1.50]},"error":null}'),
        # 2025-03-26 servers answer in batches.
        body(f"[{NOTIFICATION},{RESULT}]"),
        stream(RESULT),
        stream(RESULT, line_end="\r"),
        stream(RESULT, line_end="\r\n"),
        stream("", NOTIFICATION, RESULT),
        # A server's own request may have the id of ours.
        stream(REQUEST, OTHER, RESULT),
        # Without the blank line that closes an event.
        raw(200, "text/event-stream", f"data: {RESULT}"),
        raw(200, "text/event-stream", f"data: {NOTIFICATION}\n\ndata: {RESULT}\n"),
        stream(f"[{NOTIFICATION},{RESULT}]"),
        raw(
            200,
            "text/event-stream; charset=utf-8",
            f": hello\n\nid: 1\nretry: 5\ndata:\n\nevent: x\ndata: {RESULT}\n\n",
        ),
        raw(200, "text/event-stream", '\ufeffdata: {"jsonrpc":"2.0","id":ID,\ndata: "result":{"tools":[1.50]}}\n\n'),
    ],
)
async def test_answers_that_are_understood(handler: Handler) -> None:
    """JSON and event streams, one message or an array, whatever the spelling of the stream."""
    assert await listed(handler) == {"tools": [1.5]}


@flooded
async def test_others_have_their_turn_while_servers_flood(flood: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = config(limits={"response_bytes": 1 << 20}).limits
    handler = raw(200, "text/event-stream", flood.decode() + f"\n\ndata: {RESULT}\n\n")
    async with (
        ScriptedServer(on={LIST: handler}) as server,
        UpstreamClient(TcpAddress("127.0.0.1", server.port), limits) as client,
    ):
        with lines_parsed(monkeypatch) as parsed:
            await asyncio.gather(*(client.request(ENTRY, upstream("a"), LIST, {}) for _ in range(3)))
    assert parsed.total() >= 3 * LEAST
    assert max(parsed.values()) <= MOST


async def test_results_keep_their_bytes_and_tell_their_size() -> None:
    async with asking(on={LIST: body(RESULT)}) as (client, _):
        result = await client.request(ENTRY, upstream("a"), LIST, {})
    assert (bytes(result.members["tools"]), result.size) == (b"[1.50]", len('{"tools":[1.50]}'))


async def test_results_tell_whether_they_came_as_a_stream() -> None:
    for handler, streamed in ((body(RESULT), False), (stream(RESULT), True)):
        async with asking(on={LIST: handler}) as (client, _):
            result = await client.request(ENTRY, upstream("a"), LIST, {})
        assert result.streamed is streamed


async def test_no_two_requests_have_the_same_id() -> None:
    """Nor is one of the client's own, which runs in the same session: texts that no client makes."""
    async with asking(on={LIST: fixed(result={})}) as (first, server):
        async with UpstreamClient(TcpAddress("127.0.0.1", server.port), LIMITS) as second:
            for client in (first, second, first, second):
                await client.request(ENTRY, upstream("a"), LIST, {})
                await client.initialize(ENTRY, LATEST, frozenset())
    ids = [received.message["id"] for received in server.received if "id" in received.message]
    assert len(set(ids)) == len(ids) == 8
    assert all(isinstance(id, str) and id.startswith("mcp-extproc-") for id in ids)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ('{"jsonrpc":"2.0","id":5,"method":"ping"}', {"id": 5, "result": {}}),
        ('{"jsonrpc":"2.0","id":"p","method":"ping","params":{}}', {"id": "p", "result": {}}),
        ('{"jsonrpc":"2.0","id":6,"method":"roots/list"}', {"id": 6, "code": -32601}),
        (NOTIFICATION, None),
    ],
)
async def test_what_a_server_asks_while_it_works_is_answered(asked: str, answered: dict[str, Any] | None) -> None:
    """A ping by this client, and everything else with an error, because nobody is there to be asked."""
    async with asking(on={LIST: stream(asked, RESULT)}) as (client, server):
        server.sessions.add("id of a")
        await client.request(ENTRY, upstream("a"), LIST, {})
    posted = [received for received in server.received if "method" not in received.message]
    assert len(posted) == (answered is not None)
    if answered is not None:
        message = posted[0].message
        assert message["id"] == answered["id"]
        assert message.get("result") == answered.get("result")
        assert message.get("error", {}).get("code") == answered.get("code")
        assert posted[0].headers["mcp-session-id"] == "id of a"


NO_RESPONSE = "answered with JSON that is no response to the request"
NO_MESSAGE = "answered with something that is no JSON-RPC message"


@pytest.mark.parametrize(
    ("handler", "reason", "message"),
    [
        (raw(200, "text/html", "<html>"), "protocol", "answered HTTP 200 with text/html, not with JSON"),
        (raw(202, "application/json", ""), "protocol", "answered HTTP 202 with application/json, not with JSON"),
        (raw(500, "text/html", "<html>secret"), "status", "answered HTTP 500"),
        (raw(401, "application/json", "{}"), "credentials_refused", f"answered HTTP 401{REFUSED}"),
        (raw(302, "text/html", ""), "status", "answered HTTP 302"),
        (body("not JSON"), "protocol", NO_MESSAGE),
        (body(""), "protocol", NO_MESSAGE),
        (body('{"id":ID,"result":NaN}'), "protocol", NO_MESSAGE),
        (body(OTHER), "protocol", NO_RESPONSE),
        (body("[]"), "protocol", NO_RESPONSE),
        (body('{"jsonrpc":"2.0","id":1,"result":{}}'), "protocol", NO_RESPONSE),
        (body('{"jsonrpc":"2.0","result":{}}'), "protocol", NO_RESPONSE),
        (body('{"jsonrpc":"2.0","id":ID}'), "protocol", NO_RESPONSE),
        (body('{"jsonrpc":"2.0","id":ID,"method":"x","result":{}}'), "protocol", NO_RESPONSE),
        (body('{"jsonrpc":"2.0","id":ID,"result":[]}'), "protocol", "answered with a result that is no JSON object"),
        (
            body('{"jsonrpc":"2.0","id":ID,"error":"x"}'),
            "protocol",
            "answered with a JSON-RPC error that is no JSON object",
        ),
        (
            body('{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"no"}}'),
            "error",
            "answered with error -32601: no",
        ),
        (body('{"jsonrpc":"2.0","id":ID,"error":{}}'), "error", "answered with error no code: no message"),
        (stream(NOTIFICATION), "protocol", "ended its stream without an answer"),
        (stream(), "protocol", "ended its stream without an answer"),
        (raw(200, "text/event-stream", f"data: {RESULT[:-1]}"), "protocol", NO_MESSAGE),
        (raw(200, "text/event-stream", ": ka\n\n: ka\n\n"), "protocol", "ended its stream without an answer"),
        (stream("not JSON"), "protocol", NO_MESSAGE),
        (
            body('{"jsonrpc":"2.0","id":ID,"result":{"a":"' + "x" * RESPONSE_BYTES + '"}}'),
            "too_large",
            "more than 2000 bytes",
        ),
        (stream("x" * RESPONSE_BYTES), "too_large", "answered with more than 2000 bytes"),
        (
            raw(200, "text/event-stream", "data: " + "x" * RESPONSE_BYTES),
            "too_large",
            "answered with more than 2000 bytes",
        ),
        (stream(*[NOTIFICATION] * 50, RESULT), "too_large", "answered with more than 2000 bytes"),
    ],
)
async def test_answers_that_are_failures(handler: Handler, reason: str, message: str) -> None:
    """Each with a word for machines and a clause for people, and nothing of the body."""
    found = await failure(listed(handler))
    assert found[0] == reason
    assert message in found[1]
    assert "secret" not in found[1]


@pytest.mark.parametrize(
    ("transport", "headers", "reason"),
    [
        ("sse", {BRIDGE_HEADER: IS_STARTING}, STARTING),
        ("sse", {}, "error"),
        ("streamable_http", {BRIDGE_HEADER: IS_STARTING}, "error"),
    ],
)
async def test_only_the_bridge_says_that_a_program_is_starting(
    transport: str, headers: dict[str, str], reason: str
) -> None:
    """Others would have clients wait for them. What a program behind the bridge writes is the body alone."""
    entry = catalog_of(config({"a": {"url": "https://a.example/sse", "transport": transport}})).entries["a"]
    error = {"code": -32603, "message": "wait", "data": {BRIDGE_HEADER: IS_STARTING}}
    starting = failing_with(error, headers)
    async with asking(on={LIST: starting, "initialize": starting}) as (client, _):
        assert (await failure(client.initialize(entry, LATEST, frozenset())))[0] == reason
        assert (await failure(client.request(entry, upstream("a"), LIST, {})))[0] == reason


@pytest.mark.parametrize(
    ("transport", "message", "clause"),
    [
        ("sse", "The server a ended with exit code 3: no key", "ended with exit code 3: no key"),
        ("sse", "The session has ended.", "The session has ended."),
        ("streamable_http", "The server a is fine", "answered with error -32603: The server a is fine"),
    ],
)
async def test_what_the_bridge_says_is_no_answer_of_the_server(transport: str, message: str, clause: str) -> None:
    """It says so where nothing behind it can write."""
    entry = catalog_of(config({"a": {"url": "https://a.example/sse", "transport": transport}})).entries["a"]
    error = {"code": -32603, "message": message}
    failed = failing_with(error, {BRIDGE_HEADER: HAS_FAILED})
    async with asking(on={LIST: failed, "initialize": failed}) as (client, _):
        assert await failure(client.initialize(entry, LATEST, frozenset())) == ("error", clause)
        assert await failure(client.request(entry, upstream("a"), LIST, {})) == ("error", clause)
    forged = fixed(error={**error, "data": {BRIDGE_HEADER: HAS_FAILED}})
    async with asking(on={LIST: forged}) as (client, _):
        assert await failure(client.request(entry, upstream("a"), LIST, {})) == (
            "error", f"answered with error -32603: {message}",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "headers", "what_to_do"),
    [
        (401, {}, ": it wants credentials, set headers.Authorization"),
        (403, {}, ": it may want credentials, set headers.Authorization"),
        (401, {"Authorization": "Bearer hush"}, ": it refuses the credentials in headers.Authorization"),
        (404, {}, ': is its path right? For HTTP+SSE, set "type": "sse" (in YAML transport: sse)'),
        (405, {}, ': is its path right? For HTTP+SSE, set "type": "sse" (in YAML transport: sse)'),
        (500, {}, ""),
    ],
)
async def test_what_to_do_about_a_server_that_refuses_to_begin(
    status: int, headers: dict[str, str], what_to_do: str
) -> None:
    entry = catalog_of(config({"a": {"url": "https://a.example/mcp", "headers": headers}})).entries["a"]
    refusal = raw(status, "text/html", "<html>")
    kind = "credentials_refused" if status in (401, 403) else "status"
    async with asking(on={LIST: refusal, "initialize": refusal}) as (client, _):
        reason, message = await failure(client.initialize(entry, LATEST, frozenset()))
        assert (reason, message[: len(f"answered HTTP {status}{what_to_do}")]) == (
            kind, f"answered HTTP {status}{what_to_do}",
        )  # fmt: skip
        later, said = await failure(client.request(entry, UpstreamSession(LATEST, None, frozenset()), LIST, {}))
        assert (later, said) == (kind, message if kind != "status" else f"answered HTTP {status}")


@pytest.mark.parametrize("handler", [body, stream])
async def test_more_members_than_a_page_may_have(handler: Callable[[str], Handler]) -> None:
    """Ten times those of an entry. Commas of its texts are none."""
    text = '{"jsonrpc":"2.0","id":ID,"result":{"text":"%s","a":[%s]}}'
    few, many = (handler(text % ("a,[" * 20_000, ",".join(["1"] * count))) for count in (9_000, 11_000))
    limits = config(limits={"json_members": 1000}).limits
    async with ScriptedServer(on={LIST: few, "prompts/list": many}) as server:
        async with UpstreamClient(TcpAddress("127.0.0.1", server.port), limits) as client:
            result = await client.request(ENTRY, upstream("a"), LIST, {})
            assert len(json.loads(bytes(result.members["a"]))) == 9_000
            found = await failure(client.request(ENTRY, upstream("a"), "prompts/list", {}))
    assert found == ("too_large", "answered with more than 10000 members")


@pytest.mark.parametrize("handler", [body, stream])
async def test_an_answer_is_held_until_it_is_given_back(handler: Callable[[str], Handler]) -> None:
    held = HeldBytes(4 << 20)
    async with asking(on={LIST: handler('{"jsonrpc":"2.0","id":ID,"result":{"a":"%s"}}' % ("x" * 1000))}) as (
        client,
        _,
    ):
        with held.holding("a") as holding:
            await client.request(ENTRY, upstream("a"), LIST, {}, holding=holding)
            assert held.total > 1000
            hog = held.holding("a")
            assert hog.reserve(held.share - held.total)
            found = await failure(client.request(ENTRY, upstream("a"), LIST, {}, holding=holding))
            assert found[0] == NO_ROOM
            assert "limits.held_bytes" in found[1]
            hog.release()
    assert held.total == 0


async def test_a_type_that_repeats_a_secret_is_shown_without() -> None:
    """Types are compared in lower case, in which no secret would be found."""
    entry = catalog_of(config({"a": {"url": "https://a.example/mcp", "headers": {"X-Key": "Hush-Hush-3"}}})).entries[
        "a"
    ]
    async with asking(on={LIST: raw(200, "text/Hush-Hush-3", "")}) as (client, _):
        found = await failure(client.request(entry, upstream("a"), LIST, {}))
    assert found == ("protocol", "answered HTTP 200 with text/[redacted], not with JSON")


async def test_what_a_server_says_is_shown_without_secrets_and_controls() -> None:
    """Some servers repeat the credentials that they refuse."""
    entry = catalog_of(
        config(
            {"a": {"url": "https://a.example/mcp?key=k-12345678", "headers": {"Authorization": "Bearer t-12345678"}}}
        )
    ).entries["a"]
    said = "no Bearer t-12345678 at /mcp?key=k-12345678\n\x1b[2J\u202e" + "x" * 1000
    error = {"code": -32000, "message": said}
    shown = "no [redacted] at /mcp?[redacted]\\n\\u001b[2J\\u202exxx"
    async with asking(on={LIST: fixed(error=error), "initialize": fixed(error=error)}) as (client, _):
        for ask in (client.request(entry, upstream("a"), LIST, {}), client.initialize(entry, LATEST, frozenset())):
            with pytest.raises(UpstreamError) as caught:
                await ask
            assert caught.value.message == str(caught.value)
            assert caught.value.message.startswith(f"answered with error -32000: {shown}")
            assert len(caught.value.message) < 350
    async with asking(instructions="use t-12345678") as (client, _):
        assert (await client.initialize(entry, LATEST, frozenset())).instructions == "use [redacted]"


def refusing(status: int, **headers: str) -> Handler:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return handler


@pytest.mark.parametrize("status", [404, 400])
async def test_a_lost_session(status: int) -> None:
    """Some examples answer 400 where the specification says 404."""
    async with asking(on={LIST: refusing(status)}) as (client, _):
        with pytest.raises(SessionLost):
            await client.request(ENTRY, upstream("a"), LIST, {})
        # Without a session none can be lost.
        assert await failure(client.request(ENTRY, upstream("a", id=None), LIST, {})) == (
            "status",
            f"answered HTTP {status}",
        )


@pytest.mark.parametrize(
    ("failed", "reason"),
    [("UpstreamConnectionFailure", "connect"), ("UpstreamRequestTimeout", "timeout"), ("NoHealthyUpstream", "connect")],
)
async def test_failures_that_the_private_listener_reports(failed: str, reason: str) -> None:
    """Not mistaken for an answer of the server, whatever its status."""
    for status in (503, 404, 200):
        async with asking(on={LIST: refusing(status, x_mcp_upstream_failure=failed)}) as (client, _):
            asked = client.request(ENTRY, upstream("a"), LIST, {})
            assert await failure(asked) == (reason, f"is unreachable ({failed})")


async def test_nobody_listens() -> None:
    async with ScriptedServer() as server:
        port = server.port
    async with UpstreamClient(TcpAddress("127.0.0.1", port), LIMITS) as client:
        reason, message = await failure(client.request(ENTRY, upstream("a"), LIST, {}))
    assert reason == "connect"
    assert message.startswith("could not be asked")


@pytest.mark.parametrize("status", [204, 200, 404, 400, 405, 500])
async def test_whatever_a_server_says_to_the_end_of_a_session(status: int) -> None:
    """It may refuse with 405, or not know the session any more (MCP transports, Session Management)."""

    class Ending(ScriptedServer):
        async def _serve(self, request: web.Request) -> web.StreamResponse:
            return web.Response(status=status)

    async with Ending() as server, UpstreamClient(TcpAddress("127.0.0.1", server.port), LIMITS) as client:
        await client.end(ENTRY, upstream("a"))


async def test_a_session_that_is_not_confirmed_is_ended() -> None:
    """Nobody will ever use it."""
    async with asking(on={"notifications/initialized": raw(500, "text/plain", "")}) as (client, server):
        reason, _ = await failure(client.initialize(ENTRY, LATEST, frozenset()))
        assert reason == "status"
        await eventually(lambda: not server.sessions, "the session is ended")
    told, ended = server.received[-2:]
    assert ended.http_method == "DELETE"
    assert ended.headers["mcp-session-id"] == told.headers["mcp-session-id"]


# -- The answer to initialize -----------------------------------------------------------------------------------------------


async def initialized(result: Any, **headers: str) -> Initialized:
    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result}, headers=named)

    async with asking(stateless=True, on={"initialize": handler}) as (client, _):
        return await client.initialize(ENTRY, LATEST, frozenset())


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_the_servers_version_counts(version: str) -> None:
    """It is told in a header from then on (MCP lifecycle, Version Negotiation)."""
    session, _, _ = await initialized({"protocolVersion": version, "capabilities": {}})
    assert session == UpstreamSession(version, None, frozenset())


async def test_an_answer_in_an_event_stream() -> None:
    """Others will come in event streams, too."""
    result = json.dumps({"protocolVersion": LATEST, "capabilities": {}})
    handler = stream(f'{{"jsonrpc":"2.0","id":ID,"result":{result}}}')
    async with asking(stateless=True, on={"initialize": handler}) as (client, _):
        assert (await client.initialize(ENTRY, LATEST, frozenset())).streamed


@pytest.mark.parametrize("version", ["2024-10-07", "2026-07-28", "", 5, None])
async def test_a_version_that_is_not_spoken_here(version: Any) -> None:
    """So there is no session with it (MCP lifecycle, Version Negotiation)."""
    reason, message = await failure(initialized({"protocolVersion": version, "capabilities": {}}))
    assert (reason, "which is not served here" in message) == ("protocol", True)


async def test_what_a_server_declares() -> None:
    result = {
        "protocolVersion": LATEST,
        "capabilities": {"tools": {"listChanged": True}, "resources": {"subscribe": True}, "x": None},
        "instructions": "Do.",
    }
    session, instructions, _ = await initialized(result, mcp_session_id="s")
    flags = frozenset({"tools", "tools.listChanged", "resources", "resources.subscribe", "x"})
    assert session == UpstreamSession(LATEST, "s", flags)
    assert instructions == "Do."


@pytest.mark.parametrize(
    ("result", "headers"),
    [
        ({"protocolVersion": LATEST, "capabilities": []}, {}),
        ({"protocolVersion": LATEST, "capabilities": None}, {}),
        ({"protocolVersion": LATEST}, {"mcp_session_id": "x" * 4097}),
        ({"protocolVersion": LATEST}, {"mcp_session_id": "a b"}),
        ({"protocolVersion": LATEST}, {"mcp_session_id": "\u00e9"}),
        ({"protocolVersion": LATEST}, {"mcp_session_id": ""}),
        ({}, {}),
        ([], {}),
        ("x", {}),
    ],
)
async def test_answers_to_initialize_that_are_refused(result: Any, headers: dict[str, str]) -> None:
    """An id that would not fit into a header, or break one, is not kept."""
    reason, _ = await failure(initialized(result, **headers))
    assert reason == "protocol"


Ask = Callable[[UpstreamClient], Awaitable[object]]


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.initialize(ENTRY, LATEST, frozenset()),
        lambda client: client.notify(ENTRY, upstream("a"), b"{}"),
        lambda client: client.end(ENTRY, upstream("a")),
    ],
    ids=["initialize", "notify", "end"],
)
async def test_a_client_that_can_not_connect_says_so(ask: Ask) -> None:
    async with ScriptedServer() as server:
        port = server.port
    async with UpstreamClient(TcpAddress("127.0.0.1", port), LIMITS) as client:
        assert (await failure(ask(client)))[0] == "connect"


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize(
    "location", ["/elsewhere?k=v", "https://a.example/elsewhere?k=v", "HTTPS://A.example:443/elsewhere?k=v"]
)
async def test_a_redirect_within_the_server_is_followed(status: int, location: str) -> None:
    """As from /mcp to /mcp/."""
    replies = [refusing(status, location=location), body(RESULT)]

    async def next_one(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return await replies.pop(0)(request, message)

    async with asking(on={LIST: next_one}) as (client, server):
        result = await client.request(ENTRY, upstream("a"), LIST, {})
    assert result.members
    assert [received.path for received in server.received] == [PATH, "/elsewhere?k=v"]
    assert server.received[0].body == server.received[1].body


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://b.example/x?key=secret", "https://b.example/x"),
        ("//b.example/x", "https://b.example/x"),
        ("http://a.example/x", "http://a.example/x"),
        ("https://a.example:444/x", "https://a.example:444/x"),
        ("https://user:secret@a.example/x", "https://a.example/x"),
        ("https://a.example:99999/x", "nowhere"),
        ("https://[/", "nowhere"),
        ("", "nowhere"),
        ("/" + "x" * 4096, "nowhere"),
    ],
)
async def test_no_server_sends_a_request_elsewhere(status: int, location: str, target: str) -> None:
    """The configured credentials would go along."""
    async with asking(on={LIST: refusing(status, location=location)}) as (client, server):
        reason, why = await failure(client.request(ENTRY, upstream("a"), LIST, {}))
    assert (reason, why) == ("status", f"answered HTTP {status}, a redirect to {target}, which is not followed")
    assert [received.path for received in server.received] == [PATH]


async def test_redirects_that_do_not_end() -> None:
    async with asking(on={LIST: refusing(307, location=PATH)}) as (client, server):
        assert await failure(client.request(ENTRY, upstream("a"), LIST, {})) == ("status", "answered HTTP 307")
    assert len(server.received) == 4


async def test_a_redirect_that_may_change_the_method_is_not_followed() -> None:
    async with asking(on={LIST: refusing(302, location="/elsewhere")}) as (client, server):
        assert await failure(client.request(ENTRY, upstream("a"), LIST, {})) == ("status", "answered HTTP 302")
    assert [received.path for received in server.received] == [PATH]


# -- Streams ----------------------------------------------------------------------------------------------------------------


class Streaming(ScriptedServer):
    """Answers each GET with the next one of ``gets``: status, content type, body."""

    gets: list[tuple[int, str, str]]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.method != "GET":
            return await super()._serve(request)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received("GET", request.path_qs, headers, b""))
        status, content_type, text = self.gets.pop(0)
        return web.Response(status=status, headers={"content-type": content_type}, body=text.encode())


SSE = "text/event-stream"


@asynccontextmanager
async def streaming(*gets: tuple[int, str, str], **server: Any) -> AsyncIterator[tuple[UpstreamClient, Streaming]]:
    async with (
        Streaming(**server) as scripted,
        UpstreamClient(TcpAddress("127.0.0.1", scripted.port), LIMITS) as client,
    ):
        scripted.gets = [*gets]
        yield client, scripted


@pytest.mark.parametrize("last", [None, "17"])
async def test_a_stream_is_asked_for_with_session_version_and_position(last: str | None) -> None:
    """And uncompressed, because compressors hold events back."""
    async with streaming((200, SSE, "data: {}\n\n")) as (client, server):
        async with client.listen(ENTRY, upstream("a"), last) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == b"data: {}\n\n"
    [received] = server.received
    assert (received.http_method, received.path, received.headers.get("last-event-id")) == ("GET", PATH, last)
    found = {name: received.headers[name] for name in (*OURS, "accept-encoding") if name in received.headers}
    assert found == {
        "x-key": "v",
        "x-mcp-server": "a",
        "accept": SSE,
        "accept-encoding": "identity",
        "mcp-session-id": "id of a",
        "mcp-protocol-version": LATEST,
    }


@pytest.mark.parametrize(
    ("status", "content_type", "kind", "reason"),
    [
        (405, "text/plain", NoStream, "no_stream"),
        (403, "text/plain", NoStream, "no_stream"),
        (200, "application/json", NoStream, "no_stream"),
        (202, SSE, NoStream, "no_stream"),
        # Whether it means the session, only another request can tell.
        (404, "text/plain", NoStream, "no_stream"),
        (400, "text/plain", NoStream, "no_stream"),
        # Another connection holds the stream, or the server is busy: it may have one later.
        (409, "text/plain", StreamBusy, "busy"),
        (429, "text/plain", StreamBusy, "busy"),
        (500, "text/plain", UnexpectedStatus, "status"),
        (302, "text/plain", UnexpectedStatus, "status"),
    ],
)
async def test_gets_without_a_stream(status: int, content_type: str, kind: type[Exception], reason: str) -> None:
    """405 says that there is none (MCP transports, Listening for Messages from the Server)."""
    async with streaming((status, content_type, "")) as (client, _):
        with pytest.raises(UpstreamError) as caught:
            async with client.listen(ENTRY, upstream("a"), None):
                pass
    assert (type(caught.value), caught.value.reason) == (kind, reason)
    if isinstance(caught.value, NoStream):
        assert caught.value.may_mean_session == (status in (400, 404))


PRIMING = "id: {0}\nretry: 1\ndata:\n\n"


async def test_a_result_may_come_on_a_stream_that_goes_on_elsewhere() -> None:
    """SEP-1699: the server closes the stream before it has the answer, and is asked again, from the last event id on."""
    async with streaming((200, SSE, PRIMING.format(2)), (200, SSE, "placeholder"), on={}) as (client, server):

        async def closing(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
            server.gets[1] = (200, SSE, "data: " + RESULT.replace("ID", json.dumps(message["id"])) + "\n\n")
            return web.Response(headers={"content-type": SSE}, body=PRIMING.format(1).encode())

        server.on[LIST] = closing
        result = await client.request(ENTRY, upstream("a"), LIST, {})
    assert bytes(result.members["tools"]) == b"[1.50]"
    gets = [received for received in server.received if received.http_method == "GET"]
    assert [received.headers["last-event-id"] for received in gets] == ["1", "2"]


async def test_a_stream_whose_end_the_server_has_not_noticed_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As servers on the TypeScript SDK do: 409 while they see another connection of the same stream."""
    monkeypatch.setattr(pauses, "SHORTEST_RETRY", 0.01)
    gets = [(409, "text/plain", ""), (200, SSE, "placeholder")]
    async with streaming(*gets, on={}) as (client, server):

        async def closing(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
            server.gets[1] = (200, SSE, "data: " + RESULT.replace("ID", json.dumps(message["id"])) + "\n\n")
            return web.Response(headers={"content-type": SSE}, body=PRIMING.format(1).encode())

        server.on[LIST] = closing
        result = await client.request(ENTRY, upstream("a"), LIST, {})
    assert bytes(result.members["tools"]) == b"[1.50]"
    gets_seen = [received for received in server.received if received.http_method == "GET"]
    assert [received.headers["last-event-id"] for received in gets_seen] == ["1", "1"]


@pytest.mark.parametrize(
    "events",
    [
        "data: {}\n\n",
        "id:\ndata: {}\n\n",
        PRIMING.format(1) + "id:\ndata: {}\n\n",
        # No header can carry them.
        *(PRIMING.format(1) + PRIMING.format(id) for id in ("a\x01b", "a\x7f", "a\tb", "x" * 1025)),
    ],
)
async def test_a_stream_without_a_last_id_is_not_asked_for_again(events: str) -> None:
    async with streaming(on={LIST: raw(200, SSE, events)}) as (client, server):
        assert await failure(client.request(ENTRY, upstream("a"), LIST, {})) == (
            "protocol",
            "ended its stream without an answer",
        )
    assert len(server.received) == 1


@pytest.mark.parametrize("status", [405, 404, 400])
async def test_a_stream_that_does_not_go_on_is_a_failure(status: int) -> None:
    """So that nobody waits for ever; nor is the session given up for it, which other requests use."""
    async with streaming((status, "text/plain", ""), on={LIST: raw(200, SSE, PRIMING.format(1))}) as (client, _):
        reason, _ = await failure(client.request(ENTRY, upstream("a"), LIST, {}))
    assert reason == "no_stream"


async def test_a_request_that_nobody_waits_for_any_more_is_cancelled_at_the_server() -> None:
    """Basic/utilities/cancellation: by the id that the server got."""
    asked, told = asyncio.Event(), asyncio.Event()

    async def hanging(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def cancelled(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        told.set()
        return web.Response(status=202)

    async with asking(on={LIST: hanging, "notifications/cancelled": cancelled}) as (client, server):
        waiting = asyncio.create_task(client.request(ENTRY, upstream("a"), LIST, {}))
        await asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with asyncio.timeout(PATIENCE):
            await told.wait()
    request, cancellation = server.received
    assert cancellation.message["params"]["requestId"] == request.message["id"]
    assert cancellation.headers["mcp-session-id"] == "id of a"


async def test_who_is_cancelled_while_it_leaves_closes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a reload's questions to servers are when the gateway stops."""
    opened, leaving, may_end = [], asyncio.Event(), asyncio.Event()
    tasks = set()

    def recorded(*arguments: Any) -> tuple[aiohttp.ClientSession, str]:
        made = http_session(*arguments)
        opened.append(made[0])
        return made

    async def reluctant() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            leaving.set()
            await may_end.wait()

    async def used() -> None:
        async with UpstreamClient(TcpAddress("127.0.0.1", 1), LIMITS) as client:
            tasks.add(client._tasks.start("reluctant", reluctant()))
            await asyncio.sleep(0)

    monkeypatch.setattr(client_module, "http_session", recorded)
    using = asyncio.create_task(used())
    await leaving.wait()
    using.cancel()
    may_end.set()
    await asyncio.wait({using, *tasks})
    assert using.cancelled()
    assert len(opened) == 2
    assert all(session.closed for session in opened)
