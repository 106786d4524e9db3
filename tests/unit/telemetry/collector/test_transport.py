"""OTLP on its way, to whoever does not always take it."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from aiohttp import web

from mcp_extproc.telemetry.collector import transport
from mcp_extproc.telemetry.collector.spec import Export
from mcp_extproc.telemetry.collector.transport import TRACES, Transport
from tests.support.processes import free_port


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
    to = Transport(Export(f"http://127.0.0.1:{port}/v1/traces", is_grpc=False, headers={"X-Key": "k"}), TRACES)
    try:
        return await to.send(b"spans"), came
    finally:
        await to.close()
        await runner.cleanup()


@pytest.mark.parametrize(
    ("statuses", "arrived"), [((200,), True), ((503, 200), True), ((400,), False), ((307,), False), ((429, 401), False)]
)
async def test_over_http(statuses: tuple[int, ...], arrived: bool) -> None:
    """Redirections are not followed: headers may have keys in them."""
    assert await over_http(*statuses) == (arrived, [b"spans"] * len(statuses))


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
        to = Transport(Export(url, is_grpc=False, headers={}), TRACES)
        assert await to.send(b"spans")
        await endpoint.left.wait()
        await to.close()
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

    server = grpc.aio.server()
    service, _, method = TRACES[1:].partition("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(take)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    to = Transport(Export(f"http://127.0.0.1:{port}", is_grpc=True, headers={"X-Key": "k"}), TRACES)
    try:
        return await to.send(b"spans"), came
    finally:
        await to.close()
        await server.stop(None)


OK, UNAVAILABLE, DENIED = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(("codes", "arrived"), [((OK,), True), ((UNAVAILABLE, OK), True), ((DENIED,), False)])
async def test_over_grpc(codes: tuple[grpc.StatusCode, ...], arrived: bool) -> None:
    assert await over_grpc(*codes) == (arrived, [b"spans"] * len(codes))


@pytest.mark.parametrize("is_grpc", [False, True])
async def test_nobody_is_there(is_grpc: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "TIMEOUT", 0.1)
    to = Transport(Export(f"http://127.0.0.1:{free_port()}", is_grpc=is_grpc, headers={}), TRACES)
    assert not await to.send(b"spans")
    await to.close()
