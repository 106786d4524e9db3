"""TLS with both transports: who is let in, and certificates that are replaced while connections are open."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from mcp_extproc.extproc.certificates import Certificates
from mcp_extproc.extproc.grpcio_transport import GrpcioServer
from mcp_extproc.extproc.http2.transport import Http2Server
from tests.extproc.http2rig import Producer, serving_tls
from tests.extproc.test_http2_grpcio import NO_LIMITS, call
from tests.support.rawclient import DEADLINE
from tests.support.tls import Authority, Volume

Transport = type[Http2Server | GrpcioServer]


@pytest.fixture(params=[Http2Server, GrpcioServer], ids=["http2", "grpcio"])
def transport(request: pytest.FixtureRequest) -> Transport:
    given: Transport = request.param
    return given


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority."""
    return Authority(tmp_path_factory.mktemp("stranger"))


def channel(port: int, *files: bytes) -> grpc.aio.Channel:
    """To a server whose authority is the first file, with the key and the certificate that follow it, if any."""
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(*files), options=NO_LIMITS)


async def is_refused(client: grpc.aio.Channel) -> None:
    async with client:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(client, [b"x"])
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def serves(client: grpc.aio.Channel) -> None:
    assert await call(client, [b"x", b"y"]) == [b"x", b"y"]


async def test_client_certificates(transport: Transport, authority: Authority) -> None:
    async with serving_tls(transport, Producer(), authority.server()) as port:
        async with channel(port, *authority.client_files()) as client:
            bodies = [b"x", bytes(1 << 20)]
            assert await call(client, bodies) == bodies


async def test_who_is_not_let_in(transport: Transport, authority: Authority, stranger: Authority) -> None:
    producer = Producer()
    async with serving_tls(transport, producer, authority.server()) as port:
        ca = authority.client_files()[0]
        await is_refused(channel(port, ca))
        await is_refused(channel(port, ca, *stranger.client_files()[1:]))
        await is_refused(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=NO_LIMITS))
        async with channel(port, *authority.client_files()) as client:
            await serves(client)
    assert producer.closed == 1


async def test_clients_without_a_certificate_where_none_is_asked_for(
    transport: Transport, authority: Authority
) -> None:
    async with serving_tls(transport, Producer(), authority.server(asks=False)) as port:
        async with channel(port, authority.client_files()[0]) as client:
            await serves(client)


async def test_it_speaks_h2(transport: Transport, authority: Authority) -> None:
    async with serving_tls(transport, Producer(), authority.server()) as port:
        async with connected(port, authority, ["http/1.1", "h2"]) as (reader, tls):
            assert tls.selected_alpn_protocol() == "h2"
            assert (await reader.readexactly(9))[3] == 4  # SETTINGS


@pytest.mark.parametrize("alpn", [["http/1.1"], []], ids=["http/1.1", "nothing"])
async def test_who_does_not_offer_h2(transport: Transport, authority: Authority, alpn: list[str]) -> None:
    async with serving_tls(transport, Producer(), authority.server()) as port:
        try:
            async with connected(port, authority, alpn) as (reader, _):
                assert await reader.read() == b""
        except OSError:
            pass  # refused in the handshake


async def test_replaced_files(transport: Transport, authority: Authority, stranger: Authority, tmp_path: Path) -> None:
    """New connections get what the files hold then, the clients' authority too. Those that exist go on."""
    volume = Volume(tmp_path)
    volume.put(authority)
    async with serving_tls(transport, Producer(), Certificates(volume.files)) as port:
        async with channel(port, *authority.client_files()) as old:
            await serves(old)
            volume.put(stranger)
            async with channel(port, *stranger.client_files()) as new:
                await serves(new)
                await serves(old)
        await is_refused(channel(port, *authority.client_files()))
        await is_refused(channel(port, stranger.client_files()[0], *authority.client_files()[1:]))


async def test_files_that_are_broken_when_replaced(
    transport: Transport, authority: Authority, stranger: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the files held before stays, and the log says why; once."""
    volume = Volume(tmp_path)
    volume.put(authority)
    async with serving_tls(transport, Producer(), Certificates(volume.files)) as port:
        before = await fingerprint(port, authority)
        volume.put_files(stranger.certificate("server"), authority.key("server"), authority.ca)
        for _ in range(2):
            assert await fingerprint(port, authority) == before
        [entry] = [record for record in caplog.records if record.message == "tls_files_refused"]
        assert entry.levelno == logging.ERROR
        authority.issue("other")
        volume.put_files(authority.certificate("other"), authority.key("other"), authority.ca)
        assert await fingerprint(port, authority) != before


async def test_the_log_says_why_a_client_is_refused(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    async with serving_tls(Http2Server, Producer(), authority.server()) as port:
        await is_refused(channel(port, authority.client_files()[0]))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        async with asyncio.timeout(DEADLINE):
            await reader.read()
        writer.close()
    told = [vars(record)["mcp_fields"]["why"] for record in caplog.records if record.message == "tls_refused"]
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in told
    assert set(told) & {"HTTP_REQUEST", "WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG"}


@asynccontextmanager
async def connected(
    port: int, authority: Authority, alpn: list[str]
) -> AsyncIterator[tuple[asyncio.StreamReader, ssl.SSLObject]]:
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.client(alpn))
        try:
            tls = writer.get_extra_info("ssl_object")
            assert isinstance(tls, ssl.SSLObject)
            yield reader, tls
        finally:
            writer.transport.abort()


async def fingerprint(port: int, authority: Authority) -> str:
    """Of the certificate that a new connection is shown."""
    async with connected(port, authority, ["h2"]) as (_, tls):
        return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()
