"""OTLP on its way, to whoever does not always take it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web

from mcp_extproc.extproc.certificates import TlsFiles
from mcp_extproc.telemetry.collector import transport
from mcp_extproc.telemetry.collector.spec import Export, ExportTls
from mcp_extproc.telemetry.collector.transport import LOGS, METRICS, TRACES, Transport
from tests.support.otlp_receiver import Received
from tests.support.otlp_receiver import over_grpc as over_grpc_receiver
from tests.support.otlp_receiver import over_http as over_http_receiver
from tests.support.processes import free_port
from tests.support.tls import Authority, Volume


@asynccontextmanager
async def sending(export: Export, method: str = TRACES) -> AsyncIterator[Transport]:
    to = Transport(export, method, "telemetry.traces")
    try:
        yield to
    finally:
        await to.close()


@asynccontextmanager
async def serving(take: Callable[[bytes, Any], Awaitable[bytes]], path: str = TRACES) -> AsyncIterator[str]:
    """A gRPC server with one method, and its URL."""
    server = grpc.aio.server()
    service, _, method = path[1:].partition("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(take)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def over_http(*statuses: int) -> tuple[bool, list[bytes]]:
    """What becomes of a request that is answered with one status after the other."""
    came, answers = list[bytes](), iter(statuses)

    async def take(request: web.Request) -> web.Response:
        came.append(await request.read())
        assert (request.headers["content-type"], request.headers["X-Key"]) == ("application/x-protobuf", "k")
        return web.Response(status=next(answers), headers={"location": "/v1/traces"})

    application = web.Application()
    application.router.add_post("/v1/traces", take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        export = Export(f"http://127.0.0.1:{port}/v1/traces", is_grpc=False, headers={"X-Key": "k"})
        async with sending(export) as to:
            return await to.send(b"spans"), came
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("statuses", "arrived"), [((200,), True), ((503, 200), True), ((400,), False), ((307,), False), ((429, 401), False)]
)
async def test_over_http(statuses: tuple[int, ...], arrived: bool) -> None:
    """Redirections are not followed: headers may have keys in them."""
    assert await over_http(*statuses) == (arrived, [b"spans"] * len(statuses))


async def test_a_proxy_of_the_environment_is_asked_and_passwords_of_other_programs_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login me password SECRET")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    asked: list[tuple[str, str | None, str | None]] = []

    async def take(request: web.BaseRequest) -> web.Response:
        headers = request.headers
        asked.append((headers["host"], headers.get("authorization"), headers.get("proxy-authorization")))
        return web.Response()

    runner = web.ServerRunner(web.Server(take))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    monkeypatch.setenv("http_proxy", f"http://me:SECRET@127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    try:
        for host in ("receiver.localhost", f"127.0.0.1:{port}"):
            async with sending(Export(f"http://{host}/v1/traces", is_grpc=False, headers={})) as to:
                assert await to.send(b"spans")
    finally:
        await runner.cleanup()
    assert asked == [
        ("receiver.localhost", None, "Basic bWU6U0VDUkVU"), (f"127.0.0.1:{port}", None, None),
    ]  # fmt: skip


class Endpoint:
    """What it sends, and goes on with until it is left."""

    def __init__(self) -> None:
        self.sent = 0
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\nspans")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
        try:
            while not reader.at_eof():
                writer.write(b"x" * (1 << 20))
                await writer.drain()
                self.sent += 1 << 20
        except ConnectionError:
            pass
        finally:
            self.left.set()
            writer.close()


async def test_an_answer_without_end_is_left() -> None:
    endpoint = Endpoint()
    async with await asyncio.start_server(endpoint.serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/traces"
        async with sending(Export(url, is_grpc=False, headers={})) as to:
            assert await to.send(b"spans")
            await endpoint.left.wait()
    assert endpoint.sent < 64 << 20, "what fits into the system's buffers"


async def over_grpc(*codes: grpc.StatusCode) -> tuple[bool, list[bytes]]:
    came, answers = list[bytes](), iter(codes)

    async def take(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        came.append(request)
        assert dict(context.invocation_metadata())["x-key"] == "k"
        code = next(answers)
        if code is not grpc.StatusCode.OK:
            await context.abort(code)
        return b""

    async with serving(take) as url, sending(Export(url, is_grpc=True, headers={"X-Key": "k"})) as to:
        return await to.send(b"spans"), came


OK, UNAVAILABLE, DENIED = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(("codes", "arrived"), [((OK,), True), ((UNAVAILABLE, OK), True), ((DENIED,), False)])
async def test_over_grpc(codes: tuple[grpc.StatusCode, ...], arrived: bool) -> None:
    assert await over_grpc(*codes) == (arrived, [b"spans"] * len(codes))


@pytest.mark.parametrize("is_grpc", [False, True])
async def test_nobody_is_there(is_grpc: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "TIMEOUT", 0.1)
    async with sending(Export(f"http://127.0.0.1:{free_port()}", is_grpc=is_grpc, headers={})) as to:
        assert not await to.send(b"spans")


async def test_a_host_that_is_no_name(caplog: pytest.LogCaptureFixture) -> None:
    async with sending(Export("http://collector..svc:4318", is_grpc=False, headers={})) as to:
        assert not await to.send(b"spans")
    [(event, fields)] = told(caplog)
    assert (event, fields["why"]) == ("otlp_not_sent", "the host, or the proxy's, is no name that can have an address")


# -- What the log has of it -----------------------------------------------------------------------------------------------


def told(caplog: pytest.LogCaptureFixture) -> Sequence[tuple[str, dict[str, Any]]]:
    return [(record.getMessage(), vars(record)["mcp_fields"]) for record in caplog.records]


async def test_a_receiver_that_refuses_is_told_of_once_and_so_is_that_it_takes_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who has written a wrong path has no other way to learn of it. The path itself may have a key in it."""
    caplog.set_level(logging.INFO, "mcp_extproc")
    async with over_http_receiver() as received:
        export = Export(f"{received.url}/k3y/v1/traces", is_grpc=False, headers={"x-key": "secret"})
        async with sending(export) as to:
            assert not await to.send(b"")
            assert not await to.send(b"")
        about = {
            "signal": "traces", "setting": "telemetry.traces", "to": received.url, "protocol": "http/protobuf",
        }  # fmt: skip
        assert told(caplog) == [("otlp_not_sent", {**about, "why": "HTTP 404"})]

    caplog.clear()
    async with over_http_receiver() as received:
        received.status = 400
        async with sending(Export(f"{received.url}/v1/traces", is_grpc=False, headers={})) as to:
            assert not await to.send(b"")
            received.status = 200
            assert await to.send(b"")
            assert await to.send(b"")
        assert [name for name, _ in told(caplog)] == ["otlp_not_sent", "otlp_sent_again"]


@pytest.mark.parametrize("is_grpc", [False, True])
async def test_why_nobody_is_reached(
    is_grpc: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "TIMEOUT", 1)
    caplog.set_level(logging.INFO, "mcp_extproc")
    async with sending(Export(f"http://127.0.0.1:{free_port()}/x", is_grpc=is_grpc, headers={}), LOGS) as to:
        assert not await to.send(b"records")
    [(event, fields)] = told(caplog)
    assert (event, fields["signal"], fields["protocol"]) == (
        "otlp_not_sent", "logs", "grpc" if is_grpc else "http/protobuf",
    )  # fmt: skip
    assert "onnection refused" in fields["why"] or "Connect call failed" in fields["why"]


async def test_the_words_of_a_receiver_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.abort(DENIED, f"unknown key {dict(context.invocation_metadata())['x-key']}")
        return b""

    async with (
        serving(refuse, METRICS) as url,
        sending(Export(url, is_grpc=True, headers={"X-Key": "k3y"}), METRICS) as to,
    ):
        assert not await to.send(b"metrics")
    [(_, fields)] = told(caplog)
    assert fields["why"] == "PERMISSION_DENIED"


async def test_http_at_a_port_for_grpc(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "TIMEOUT", 1)

    async def never(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        raise AssertionError(request, context)

    async with serving(never) as url, sending(Export(f"{url}/v1/traces", is_grpc=False, headers={})) as to:
        assert not await to.send(b"spans")
    [(_, fields)] = told(caplog)
    assert fields["why"] == "what answers there does not speak HTTP/1"


async def test_what_ends_with_the_process_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """Who tries it, sees nothing arrive and presses Ctrl-C is told why, too."""
    async with sending(Export(f"http://127.0.0.1:{free_port()}", is_grpc=False, headers={})) as to:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await to.send(b"spans")
    assert [name for name, _ in told(caplog)] == ["otlp_not_sent"]


# -- TLS ------------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def over_tls(is_grpc: bool, receiver: TlsFiles, ours: ExportTls) -> AsyncIterator[tuple[Received, Transport]]:
    """A receiver, and who sends to it."""
    async with (over_grpc_receiver if is_grpc else over_http_receiver)(receiver) as received:
        url = received.url if is_grpc else f"{received.url}/v1/traces"
        async with sending(Export(url, is_grpc, headers={}, tls=ours)) as to:
            yield received, to


async def arrives(to: Transport) -> bool:
    """Within a second."""
    try:
        async with asyncio.timeout(1):
            return await to.send(b"")
    except TimeoutError:
        return False


@pytest.mark.parametrize("is_grpc", [False, True])
async def test_a_receiver_whose_certificate_is_of_a_private_authority(is_grpc: bool, tmp_path: Path) -> None:
    ours, other = Authority(tmp_path), Authority(tmp_path / "other")
    files = ours.server_files(asks=False)
    async with over_tls(is_grpc, files, ExportTls(str(other.ca), None, None)) as (_, to):
        assert not await arrives(to)
    async with over_tls(is_grpc, files, ExportTls(str(ours.ca), None, None)) as (received, to):
        assert await arrives(to)
        assert len(received.requests) == 1


def of_client(volume: Volume) -> ExportTls:
    files = volume.files
    return ExportTls(str(files.client_ca), str(files.certificate), str(files.key))


async def test_tls_at_a_port_without(caplog: pytest.LogCaptureFixture) -> None:
    async with over_http_receiver() as received:
        url = received.url.replace("http://", "https://")
        async with sending(Export(f"{url}/v1/traces", is_grpc=False, headers={})) as to:
            assert not await arrives(to)
    [(_, fields)] = told(caplog)
    assert "WRONG_VERSION_NUMBER" in fields["why"]


@pytest.mark.parametrize("is_grpc", [False, True])
async def test_a_receiver_that_wants_a_certificate(
    is_grpc: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it takes is read again when it changes, and what can't be used changes nothing."""
    ours, other, volume = Authority(tmp_path), Authority(tmp_path / "other"), Volume(tmp_path / "volume")
    async with over_tls(is_grpc, ours.server_files(), ExportTls(str(ours.ca), None, None)) as (received, to):
        assert not await arrives(to), "without one"
    volume.put_files(other.certificate("client"), other.key("client"), ours.ca)
    async with over_tls(is_grpc, ours.server_files(), of_client(volume)) as (received, to):
        assert not await arrives(to), "with one of somebody else"
        volume.put_files(ours.certificate("client"), ours.key("client"), ours.ca)
        assert await arrives(to)
        caplog.clear()
        volume.put_files(ours.certificate("client"), ours.key("server"), ours.ca)
        assert await arrives(to)
        [(event, fields)] = told(caplog)
        assert event == "tls_files_refused"
        assert fields["why"].endswith("tls.key: the key belongs to another certificate")
        volume.put_files(other.certificate("client"), other.key("client"), ours.ca)
        assert not await arrives(to), "with one that has changed for the worse"
        assert len(received.requests) == 2


@pytest.mark.parametrize("is_grpc", [False, True])
async def test_files_that_are_not_there_yet(is_grpc: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours, volume = Authority(tmp_path), Volume(tmp_path / "volume")
    async with over_tls(is_grpc, ours.server_files(), of_client(volume)) as (_, to):
        assert not await arrives(to)
        [(event, fields)] = told(caplog)
        assert (event, fields["why"]) == ("otlp_not_sent", f"{volume.files.client_ca}: no such file")
        volume.put_files(ours.certificate("client"), ours.key("client"), ours.ca)
        assert await arrives(to)
