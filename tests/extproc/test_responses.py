"""Responses that are read, piece by piece, and those that are not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import NoReturn

import pytest

from mcp_extproc.contract import READS_EVENTS, READS_HERE, READS_KEY, RESPONSE_KEY, RESPONSE_NAMESPACE
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.mcp.sse import COMMENT
from tests.extproc import rig as rigs
from tests.extproc.rig import Rig, Transport, call
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import (
    RawExchange,
    ReadPieces,
    error_of,
    header_map,
    is_answer_to_head,
    kind,
    reply_headers,
    response_head,
    rpc,
)

GITHUB = UpstreamSession("2025-11-25", "gh-1", frozenset({"tools", "resources"}))
WEATHER = UpstreamSession("2025-11-25", "w-1", frozenset({"tools"}))


class Response:
    """The response to a forwarded call, on the stream of its request, or on the one that Envoy opens for it."""

    def __init__(
        self, rig: Rig[FakeUpstreams], forwarded: pb.ProcessingResponse, exchange: RawExchange | None = None
    ) -> None:
        self._rig = rig
        self.forwarded = forwarded
        self._exchange = exchange
        self._pieces: ReadPieces | None = None

    @property
    def exchange(self) -> RawExchange:
        assert self._exchange is not None
        return self._exchange

    @property
    def pieces(self) -> ReadPieces:
        if self._pieces is None:
            self._pieces = ReadPieces(self.exchange)
        return self._pieces

    async def head(self, content_type: str, status: str = "200", *, end: bool = False) -> pb.ProcessingResponse:
        """The answer to the response's head, which may be all of it."""
        fields = [(":status", status), ("content-type", content_type)]
        head = pb.ProcessingRequest(response_headers=pb.HttpHeaders(headers=header_map(fields), end_of_stream=end))
        if self._exchange is None:
            self._exchange = await self._rig.response_to(self.forwarded, head)
        else:
            await self._exchange.send(head)
        return await self._exchange.receive()

    async def answer_to_piece(self, body: bytes) -> pb.ProcessingResponse:
        """The next answer after a piece of the body, which may be that to the head."""
        await self.exchange.send(pb.ProcessingRequest(response_body=pb.HttpBody(body=body)))
        return await self.exchange.receive()


async def forwarding(rig: Rig[FakeUpstreams], body: bytes, token: str) -> Response:
    """A request that was forwarded. Its own stream is over, unless the response comes along on it."""
    exchange = await rig.posted(body, rig.fields(mcp_session_id=token))
    answer = await exchange.receive()
    assert kind(answer) == "request_headers"
    if rig.brings_response:
        return Response(rig, answer, exchange)
    assert (await exchange.end()).name == "OK"
    return Response(rig, answer)


@pytest.fixture(params=[False, True], ids=["by itself", "with its request"])
async def rig(transport: Transport, request: pytest.FixtureRequest) -> AsyncIterator[Rig[FakeUpstreams]]:
    """In both arrangements."""
    async with rigs.rig(transport, rigs.fakes) as running:
        running.brings_response = request.param
        yield running


@pytest.fixture
async def forwarded(rig: Rig[FakeUpstreams]) -> Response:
    """A call that was forwarded to a server with resources."""
    return await forwarding(rig, call(), rig.token(github=GITHUB, weather=WEATHER))


async def send_head(response: Response, content_type: str, status: str = "200") -> pb.ProcessingResponse:
    return await response.head(content_type, status)


async def send_piece(response: Response, body: bytes, *, end: bool = False) -> bytes:
    """What the client gets for a piece."""
    return await response.pieces.send(body, end=end)


def is_ordered(answer: pb.ProcessingResponse) -> bool:
    """Whether the body is read; its length is no longer true then. Of JSON the head is kept back, too."""
    assert not answer.HasField("mode_override")
    return answer.HasField("override_message_timeout") or is_answer_to_head(answer)


@pytest.mark.parametrize(
    ("content_type", "status"), [("text/html", "200"), ("application/json", "500"), ("text/event-stream", "404")]
)
async def test_failures_pass(forwarded: Response, content_type: str, status: str) -> None:
    assert not is_ordered(await send_head(forwarded, content_type, status))
    assert (await forwarded.exchange.end()).name == "OK"


async def test_json_of_a_server_without_resources_reads_like_no_other_servers(rig: Rig[FakeUpstreams]) -> None:
    tokens = rig.token(github=GITHUB, weather=WEATHER)
    exchange = await forwarding(rig, call("weather__sun"), tokens)
    link = {"type": "resource_link", "uri": "gh+file:///secret", "name": "a"}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"content": [link]}}).encode()
    assert is_ordered(await send_head(exchange, "application/json"))
    rewritten = json.loads(await send_piece(exchange, body, end=True))
    assert rewritten["result"]["content"][0]["uri"] == "weather+gh+file:///secret"


async def test_json_with_uris_is_rewritten_when_it_is_whole(forwarded: Response) -> None:
    link = {"type": "resource_link", "uri": "file:///a", "name": "a"}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"content": [link], "n": 1}}).encode()
    assert is_ordered(await send_head(forwarded, "application/json; charset=utf-8"))
    assert await send_piece(forwarded, body[:30]) == b""
    rewritten = json.loads(await send_piece(forwarded, body[30:]))
    assert rewritten["result"] == {"content": [{**link, "uri": "gh+file:///a"}], "n": 1}
    assert await send_piece(forwarded, b"", end=True) == b""
    assert (await forwarded.exchange.end()).name == "OK"


async def test_json_is_kept_back_with_its_head(rig: Rig[FakeUpstreams], forwarded: Response) -> None:
    """As long as it is small: until then Envoy has an error for a server that breaks off. It waits for as long as the server
    may be silent, which it is told anew for each piece."""
    for answer in (
        await forwarded.head("application/json"),
        await forwarded.answer_to_piece(b'{"jsonrpc":"2.0","id":1,'),
        await forwarded.answer_to_piece(b'"result":{"a":"'),
    ):
        assert answer.override_message_timeout.ToSeconds() == rig.gateway.config.servers["github"].timeout + 5
        assert kind(answer) is None
    assert is_answer_to_head(await forwarded.answer_to_piece(b"x" * 16 * 1024))
    for _ in range(3):
        assert (await forwarded.exchange.receive()).response_body.response.body_mutation.clear_body
    down = await send_piece(forwarded, b'"}}', end=True)
    assert json.loads(down)["result"] == {"a": "x" * 16 * 1024}
    assert (await forwarded.exchange.end()).name == "OK"


async def test_what_is_kept_back_does_not_pass_unread(rig: Rig[FakeUpstreams], forwarded: Response) -> None:
    """Envoy would let it, if the stream ended with OK."""
    await forwarded.head("application/json")
    assert (await forwarded.exchange.end()).name == "ABORTED"


async def send_trailers(response: Response) -> None:
    trailers = pb.HttpTrailers(trailers=header_map([("x-sum", "1")]))
    await response.exchange.send(pb.ProcessingRequest(response_trailers=trailers))


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
async def test_trailers_after_the_whole_answer(forwarded: Response, content_type: str) -> None:
    """No piece says then that it is the last, and Envoy takes nothing more of the body after them."""
    assert is_ordered(await send_head(forwarded, content_type))
    answer = b'{"jsonrpc":"2.0","id":1,"result":{}}'
    whole = answer if content_type == "application/json" else b"data: " + answer + b"\n\n"
    assert await send_piece(forwarded, whole[:20]) == b""
    assert await send_piece(forwarded, whole[20:]) == whole
    await send_trailers(forwarded)
    assert kind(await forwarded.exchange.receive()) == "response_trailers"
    assert (await forwarded.exchange.end()).name == "OK"


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
async def test_trailers_before_the_whole_answer(forwarded: Response, content_type: str) -> None:
    """The response would look complete otherwise: HTTP 200 without a body."""
    await send_head(forwarded, content_type)
    assert await send_piece(forwarded, b'data: {"jsonrpc"') == b""
    await send_trailers(forwarded)
    instead = (await forwarded.exchange.receive()).immediate_response
    assert (instead.status.code, reply_headers(pb.ProcessingResponse(immediate_response=instead))) == (
        200, {"content-type": content_type},
    )  # fmt: skip
    assert json.loads(instead.body.rpartition(b"data: ")[2])["error"]["code"] == -32603
    assert (await forwarded.exchange.end()).name == "OK"


async def test_events_pass_as_they_come(rig: Rig[FakeUpstreams], forwarded: Response) -> None:
    assert is_ordered(await send_head(forwarded, "text/event-stream"))
    first = b'data: {"jsonrpc":"2.0","method":"notifications/x"}\n\n'
    assert await send_piece(forwarded, first) == first
    assert await send_piece(forwarded, b'data: {"jsonrpc":"2.0","id":1,') == b""
    last = await send_piece(forwarded, b'"result":{}}\n\n', end=True)
    assert last == b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'
    assert rig.counters.value("mcp.response", reading="events") == 1


async def test_a_ping_is_answered_without_the_client(rig: Rig[FakeUpstreams], forwarded: Response) -> None:
    await send_head(forwarded, "text/event-stream")
    assert await send_piece(forwarded, b'data: {"jsonrpc":"2.0","id":7,"method":"ping"}\n\n') == COMMENT
    assert rig.upstreams.posted == [("github", b'{"jsonrpc":"2.0","id":7,"result":{}}')]
    # On behalf of the call whose stream it came on.
    assert [context.request_id for context in rig.upstreams.in_background] == [b"1"]


async def test_answers_that_a_server_does_not_take_are_dropped_and_counted(
    rig: Rig[FakeUpstreams], forwarded: Response, caplog: pytest.LogCaptureFixture
) -> None:
    """Envoy sends a response on as it comes, so nothing here can wait. The log is told once for each response."""
    rig.upstreams.is_full = True
    await send_head(forwarded, "text/event-stream")
    pings = b"".join(b'data: {"jsonrpc":"2.0","id":%d,"method":"ping"}\n\n' % number for number in range(3))
    await send_piece(forwarded, pings)
    await send_piece(forwarded, pings)
    assert rig.counters.value("mcp.answer_dropped", server="github") == 6
    assert [record.getMessage() for record in caplog.records].count("answers_dropped") == 1
    last = await send_piece(forwarded, b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n', end=True)
    assert last == b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'


async def test_a_stream_without_an_answer_ends_with_an_error(forwarded: Response) -> None:
    await send_head(forwarded, "text/event-stream")
    piece = await send_piece(forwarded, b": bye\n\n", end=True)
    error = json.loads(piece.rpartition(b"data: ")[2])
    assert (error["id"], error["error"]["code"]) == (1, -32603)


async def test_a_body_that_is_not_read_is_not_asked_for(forwarded: Response) -> None:
    """Envoy passes it on once the stream is over."""
    await send_head(forwarded, "text/html")
    assert (await forwarded.exchange.code()).name == "OK"


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
async def test_an_answer_without_a_body_is_an_error(rig: Rig[FakeUpstreams], content_type: str) -> None:
    """Envoy says so with the head. The same head may come with a body the next time, and the other way round."""
    token = rig.token(github=GITHUB, weather=WEATHER)
    for _ in range(2):
        with_body = await forwarding(rig, call(), token)
        assert is_ordered(await send_head(with_body, content_type))
        empty = await forwarding(rig, call(), token)
        instead = (await empty.head(content_type, end=True)).immediate_response
        assert (instead.status.code, reply_headers(pb.ProcessingResponse(immediate_response=instead))) == (
            200, {"content-type": content_type},
        )  # fmt: skip
        error = json.loads(instead.body.rpartition(b"data: ")[2])
        assert (error["id"], error["error"]["code"]) == (1, -32603)
        assert (await empty.exchange.end()).name == "OK"


async def test_an_answer_of_envoys_own_in_front_of_us(rig: Rig[FakeUpstreams]) -> None:
    """Where responses come along, so does a denial by a filter that is asked first. The request never came here."""
    exchange = rig.client.exchange()
    head = response_head("403")
    if rig.brings_response:
        head.protocol_config.response_body_mode = pb.ProcessingMode.STREAMED
    await exchange.send(head)
    answer = await exchange.receive()
    assert (kind(answer) == "response_headers") == rig.brings_response
    assert not answer.response_headers.HasField("response")
    if not rig.brings_response:
        assert error_of(answer)["error"]["code"] == -32603
        await exchange.half_close()
    assert (await exchange.code()).name == "OK"


async def test_which_stream_has_the_response_is_told(rig: Rig[FakeUpstreams]) -> None:
    """Envoy opens one for it, or not; an error of its own looks the same."""
    exchange = await rig.posted(call())
    told = (await exchange.receive()).dynamic_metadata.fields[RESPONSE_NAMESPACE].struct_value.fields
    assert told[READS_KEY].string_value == (READS_HERE if rig.brings_response else READS_EVENTS)


async def test_a_stream_that_says_nothing_ends_with_an_error(rig: Rig[FakeUpstreams]) -> None:
    """With OK, Envoy would pass the response on unread."""
    exchange = rig.client.exchange(**{RESPONSE_KEY: "1"})
    await exchange.half_close()
    assert (await exchange.code()).name == "ABORTED"


async def test_a_response_that_nobody_announced_is_not_passed_on(rig: Rig[FakeUpstreams]) -> None:
    exchange = rig.client.exchange(**{RESPONSE_KEY: "1"})
    await exchange.send(response_head())
    assert error_of(await exchange.receive())["error"]["code"] == -32603
    assert (await exchange.end()).name == "OK"


def broken(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("of our own")


async def test_a_bug_answers_the_call(
    rig: Rig[FakeUpstreams], forwarded: Response, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.counters, "add", broken)
    answer = await forwarded.head("text/event-stream")
    assert (error_of(answer)["id"], error_of(answer)["error"]["code"]) == (1, -32603)
    # Envoy did not wait.
    await forwarded.exchange.send(pb.ProcessingRequest(response_body=pb.HttpBody(body=b"data: {}", end_of_stream=True)))
    assert (await forwarded.exchange.end()).name == "OK"


async def test_any_worker_reads_a_response(transport: Transport) -> None:
    """All that it needs comes with it: here to one that knows nothing of the session."""
    async with rigs.rig(transport, rigs.fakes) as rig, rigs.rig(transport, rigs.fakes) as other:
        request = await rig.posted(call(), rig.fields(mcp_session_id=rig.token(github=GITHUB, weather=WEATHER)))
        answer = await request.receive()
        response = Response(other, answer)
        assert is_ordered(await response.head("text/event-stream"))
        link = {"type": "resource_link", "uri": "file:///a", "name": "a"}
        message = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"content": [link]}}).encode()
        assert b'"gh+file:///a"' in await send_piece(response, b"id: 1\ndata: " + message + b"\n\n")
        await send_piece(response, b'data: {"jsonrpc":"2.0","id":7,"method":"ping"}\n\n')
        assert [context.request_id for context in other.upstreams.in_background] == [b"1"]


async def test_of_a_request_that_another_release_forwarded(
    transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    async with rigs.rig(transport, rigs.fakes) as rig:
        response = await forwarding(rig, call(id="q"), rig.token(github=GITHUB, weather=WEATHER))
        fields = response.forwarded.dynamic_metadata.fields[RESPONSE_NAMESPACE].struct_value.fields
        fields["of"].string_value = rig.gateway.identifiers.hidden(b"\x7f\x90")
        answer = error_of(await response.head("text/event-stream"))
        assert (answer["id"], answer["error"]["code"]) == ("q", -32603)
        assert (await response.exchange.end()).name == "OK"
    assert [record.getMessage() for record in caplog.records] == ["response_not_announced"]
    assert all(record.exc_info is None for record in caplog.records)


async def test_of_a_server_that_is_not_served_any_more(transport: Transport) -> None:
    """It was started after the server's removal, while the call went on."""
    body = rpc("tools/call", {"name": "weather__sun", "_meta": {"progressToken": "p"}})
    progress = (
        b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1}}\n\n'
    )
    without = rigs.configuration(servers={"github": rigs.SERVERS["github"]})
    async with rigs.rig(transport, rigs.fakes) as before, rigs.rig(transport, rigs.fakes, without) as after:
        response = await forwarding(before, body, before.token(github=GITHUB, weather=WEATHER))
        elsewhere = Response(after, response.forwarded)
        assert is_ordered(await send_head(elsewhere, "text/event-stream"))
        assert await send_piece(elsewhere, progress) == progress
        last = b'data: {"jsonrpc":"2.0","id":1,"result":{"_meta":{"ui":{"resourceUri":"ui://sun"}}}}\n\n'
        assert await send_piece(elsewhere, last, end=True) == last.replace(b"ui://sun", b"ui://weather/sun")
        assert (await elsewhere.exchange.end()).name == "OK"


async def test_the_end_of_a_request_that_wants_progress(rig: Rig[FakeUpstreams]) -> None:
    """Its own stream ends with the answer; the request is over once its response was read."""
    token = rig.token(github=GITHUB, weather=WEATHER)
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"gh__x","_meta":{"progressToken":"p"}}}'
    response = await forwarding(rig, body, token)
    key = rig.gateway._services.sealer.open(token, audience="/mcp", principal="", now=rigs.NOW).id
    assert rig.gateway.memory.is_running(key, b'"p"')
    await response.head("text/event-stream")
    told = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1}}\n\n'
    assert await send_piece(response, told) == told
    await send_piece(response, b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n', end=True)
    assert rig.gateway.memory.is_running(key, b'"p"')
    assert (await response.exchange.end()).name == "OK"
    assert not rig.gateway.memory.is_running(key, b'"p"')


SUBSCRIBING = UpstreamSession("2025-11-25", "gh-1", frozenset({"resources", "resources.subscribe"}))


@pytest.mark.parametrize(
    ("status", "content_type", "body", "is_kept"),
    [
        ("200", "application/json", b'{"jsonrpc":"2.0","id":1,"result":{}}', True),
        ("200", "application/json", b'{"jsonrpc":"2.0","id":1,"error":{"code":-32002,"message":"no"}}', False),
        ("200", "text/event-stream", b'data: {"jsonrpc":"2.0","id":1,"result":{}}\n\n', True),
        ("200", "text/event-stream", b'data: {"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}\n\n', False),
        ("500", "text/plain", b"", False),
    ],
)
async def test_a_subscription_lasts_if_the_server_agrees(
    rig: Rig[FakeUpstreams], status: str, content_type: str, body: bytes, is_kept: bool
) -> None:
    """Otherwise a server that lost the session would be asked for what it has refused."""
    body_of_request = b'{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"gh+x:1"}}'
    tokens = rig.token(github=SUBSCRIBING, weather=WEATHER)
    exchange = await forwarding(rig, body_of_request, tokens)
    await send_head(exchange, content_type, status)
    if body:
        await send_piece(exchange, body, end=True)
    settings = rig.gateway.memory.settings("github", "gh-1")
    assert settings is not None
    assert [*settings.subscriptions] == (["x:1"] if is_kept else [])


async def test_heads_that_are_remembered_count_for_all_they_hold(rig: Rig[FakeUpstreams]) -> None:
    """By their bytes, which are bounded: each is another one, with nearly as many headers as one that is kept may have."""
    names = {f"x-{'y' * 60}-{number}": "1" for number in range(90)}
    for number in range(40):
        await rig.asked([*rig.fields(), *names.items(), ("x-number", str(number))])
    known = rig.processor.known_heads
    assert 40 * 6_000 * 4 < known.size <= 16 << 20
    assert len(known) == 40
