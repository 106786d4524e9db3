"""The lean transport and grpcio's client, at their limits."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from mcp_extproc.extproc import _pb as pb
from tests.extproc.http2rig import Producer, serving
from tests.support.rawclient import DEADLINE

NO_LIMITS: list[tuple[str, int]] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]

SMALL_WINDOWS = [
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1024),
    ("grpc.http2.max_frame_size", 16_384),
]


async def call(channel: grpc.aio.Channel, bodies: list[bytes]) -> list[bytes]:
    """An exchange that says one thing after the other's answer, and ends well."""
    stream = channel.stream_stream(
        pb.PROCESS_PATH,
        request_serializer=pb.ProcessingRequest.SerializeToString,
        response_deserializer=pb.ProcessingResponse.FromString,
    )()
    answers = []
    async with asyncio.timeout(DEADLINE * 2):
        for body in bodies:
            request = pb.ProcessingRequest()
            request.request_body.body = body
            await stream.write(request)
            answers.append((await stream.read()).request_body.response.body_mutation.body)
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
    return answers


@pytest.mark.parametrize("options", [[], SMALL_WINDOWS], ids=["windows", "small windows"])
async def test_two_hundred_streams_at_once(options: list[tuple[str, int]]) -> None:
    producer = Producer()
    async with serving(producer) as (_, port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=NO_LIMITS + options) as channel:

            async def one(number: int) -> None:
                bodies = [f"{number}.{turn}.".encode() * 500 for turn in range(4)]
                assert await call(channel, bodies) == bodies

            await asyncio.gather(*(one(number) for number in range(200)))
    assert producer.closed == 200


@pytest.mark.parametrize("options", [[], SMALL_WINDOWS], ids=["windows", "small windows"])
async def test_large_messages(options: list[tuple[str, int]]) -> None:
    # Several times the connection's window in all, so it has to be given back.
    bodies = [bytes([number]) * (4 << 20) for number in range(6)]
    async with serving(Producer()) as (_, port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=NO_LIMITS + options) as channel:
            answers = await asyncio.gather(*(call(channel, bodies) for _ in range(3)))
    assert all(answer == bodies for answer in answers)


async def test_messages_that_are_too_large_leave_the_connection_well() -> None:
    too_large = bytes(9 << 20)
    async with serving(Producer()) as (_, port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=NO_LIMITS) as channel:
            for _ in range(12):
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await call(channel, [too_large])
                assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await call(channel, [b"well"]) == [b"well"]


async def test_compressed_messages_are_refused() -> None:
    async with serving(Producer()) as (_, port):
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=NO_LIMITS, compression=grpc.Compression.Gzip
        ) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call(channel, [b"x" * 10_000])
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert raised.value.details() == "compressed messages are not read"


async def test_deadlines() -> None:
    producer = Producer()
    async with serving(producer) as (_, port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=NO_LIMITS) as channel:
            stream = channel.stream_stream(pb.PROCESS_PATH)(timeout=0.05)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stream.read()
            assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert await call(channel, [b"well"]) == [b"well"]
    assert producer.closed == 2
