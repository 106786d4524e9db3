"""GETs: answered with a stream in pieces, for as long as the client stays."""

from __future__ import annotations

import asyncio

from mcp_extproc.extproc import _pb as pb
from tests.extproc.rig import Rig
from tests.support.fake_upstreams import FakeStreams, FakeUpstreams
from tests.support.rawclient import DEADLINE, RawExchange, kind, request_fields
from tests.support.waiting import eventually


async def opened(rig: Rig[FakeUpstreams]) -> tuple[RawExchange, asyncio.Queue[bytes | None], FakeStreams]:
    """A stream whose head was answered, and where to put its events."""
    exchange = rig.client.exchange()
    await exchange.send_headers(get(rig), end_of_stream=True)
    streams = rig.processor.streams
    assert isinstance(streams, FakeStreams)
    answer = await exchange.receive()
    while kind(answer) is None:  # it asks for time
        answer = await exchange.receive()
    fields = {h.key: h.raw_value for h in answer.streamed_immediate_response.headers_response.headers.headers}
    assert (fields[":status"], fields["content-type"]) == (b"200", b"text/event-stream")
    async with asyncio.timeout(DEADLINE):
        return exchange, await streams.opened.get(), streams


def get(rig: Rig[FakeUpstreams]) -> list[tuple[str, str | bytes]]:
    return request_fields("GET", accept="text/event-stream", mcp_session_id=rig.token())


async def next_piece(exchange: RawExchange) -> pb.StreamedBodyResponse:
    return (await exchange.receive()).streamed_immediate_response.body_response


async def test_pieces_pass_as_they_come(rig: Rig[FakeUpstreams]) -> None:
    exchange, chunks, streams = await opened(rig)
    for text in (b"data: 1\n\n", b":\n\n"):
        chunks.put_nowait(text)
        assert (await next_piece(exchange)).body == text
    chunks.put_nowait(None)
    assert (await next_piece(exchange)).end_of_stream
    assert (await exchange.end()).name == "OK"
    assert streams.closed == 1


async def test_a_client_that_leaves_ends_its_stream(rig: Rig[FakeUpstreams]) -> None:
    exchange, _, streams = await opened(rig)
    exchange.cancel()
    await eventually(lambda: streams.closed, "the stream is closed")
    await rig.serves()


async def test_what_cannot_be_resumed_is_refused(rig: Rig[FakeUpstreams]) -> None:
    assert isinstance(rig.processor.streams, FakeStreams)
    rig.processor.streams.refuse = True
    exchange = rig.client.exchange()
    await exchange.send_headers(get(rig), end_of_stream=True)
    answer = await exchange.receive()
    while kind(answer) is None:
        answer = await exchange.receive()
    assert answer.immediate_response.status.code == 405


async def test_the_end_of_a_session_ends_its_streams(rig: Rig[FakeUpstreams]) -> None:
    exchange = rig.client.exchange()
    await exchange.send_headers(request_fields("DELETE", mcp_session_id=rig.token()), end_of_stream=True)
    work = await rig.upstreams.next_run()
    work.outcome.set_result([])
    answer = await exchange.receive()
    while kind(answer) is None:
        answer = await exchange.receive()
    assert answer.immediate_response.status.code == 204
    assert isinstance(rig.processor.streams, FakeStreams)
    assert len(rig.processor.streams.ended) == 1
