"""The lean transport and grpcio's client, at their limits."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import grpc
import pytest

from mcp_extproc.extproc import _pb as pb
from tests.extproc.http2rig import Producer, serving
from tests.support.rawclient import DEADLINE
from tests.support.tls import Authority

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


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


async def test_tls_with_client_certificates(authority: Authority) -> None:
    async with serving(Producer(), authority.server()) as (_, port):
        credentials = grpc.ssl_channel_credentials(*authority.client_files())
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=NO_LIMITS) as channel:
            bodies = [b"x", bytes(1 << 20)]
            assert await call(channel, bodies) == bodies


async def test_tls_without_a_client_certificate(authority: Authority) -> None:
    producer = Producer()
    async with serving(producer, authority.server()) as (_, port):
        credentials = grpc.ssl_channel_credentials(authority.client_files()[0])
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=NO_LIMITS) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call(channel, [b"x"])
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert producer.closed == 0


async def test_tls_speaks_h2(authority: Authority, tmp_path: Path) -> None:
    async with serving(Producer(), authority.server()) as (_, port):
        context = authority.client()
        context.set_alpn_protocols(["h2", "http/1.1"])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        tls = writer.get_extra_info("ssl_object")
        assert isinstance(tls, ssl.SSLObject)
        assert tls.selected_alpn_protocol() == "h2"
        async with asyncio.timeout(DEADLINE):
            assert (await reader.readexactly(9))[3] == 4  # SETTINGS
        writer.transport.abort()
