"""A transport on a socket, the lean one by default, and an exchange that does only what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from mcp_extproc.address import TcpAddress
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc.certificates import Certificates
from mcp_extproc.extproc.exchange import Processor
from mcp_extproc.extproc.grpcio_transport import GrpcioServer
from mcp_extproc.extproc.http2.transport import Http2Server
from mcp_extproc.extproc.shared import Answers
from tests.support.processes import free_port
from tests.support.waiting import PATIENCE

BODY_BYTES = 8 << 20

PIECE = 64 * 1024


class Echo:
    """Answers each body with itself; a request's headers with a stream of pieces until nobody listens."""

    def __init__(self, counts: Producer) -> None:
        self._counts = counts
        self.decided = True
        self.is_over = False

    def receive(self, raw: bytes) -> Answers:
        request = pb.ProcessingRequest.FromString(raw)
        if request.HasField("request_headers"):
            return self._pieces()
        answer = pb.ProcessingResponse()
        answer.request_body.response.body_mutation.body = request.request_body.body
        return [answer.SerializeToString()]

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        try:
            while self._counts.produced < self._counts.limit:
                self._counts.produced += 1
                yield piece(self._counts.produced).SerializeToString()
        finally:
            self._counts.stopped += 1

    def fail(self) -> list[bytes]:
        return []

    def closed(self) -> None:
        self._counts.closed += 1


class Producer:
    """Makes echoing exchanges, in the place of a processor."""

    def __init__(self, limit: int = 1 << 60) -> None:
        self.limit = limit
        self.produced = 0
        self.stopped = 0
        self.closed = 0

    def opener(self, metadata: Mapping[str, str]) -> Callable[[], Echo]:
        return partial(Echo, self)

    async def waits(self) -> int:
        """Wait until no more is produced for many turns of the loop; how much that is in all."""
        async with asyncio.timeout(PATIENCE):
            still, seen = 0, -1
            while still < 200:
                await asyncio.sleep(0)
                still, seen = (still + 1 if seen == self.produced else 0), self.produced
        return seen


def piece(number: int) -> pb.ProcessingResponse:
    """One event of a stream."""
    answer = pb.ProcessingResponse()
    answer.streamed_immediate_response.body_response.body = number.to_bytes(8, "big") * (PIECE // 8)
    return answer


@asynccontextmanager
async def serving(producer: Producer) -> AsyncIterator[tuple[Http2Server, int]]:
    """A server on the lean transport, and its port."""
    port = free_port()
    server = Http2Server(processor(producer), TcpAddress("127.0.0.1", port), BODY_BYTES)
    await server.start()
    try:
        yield server, port
    finally:
        await server.stop(0)


@asynccontextmanager
async def serving_tls(
    transport: type[Http2Server | GrpcioServer], producer: Producer, tls: Certificates
) -> AsyncIterator[int]:
    """The port of a server with TLS."""
    port = free_port()
    server = transport(processor(producer), TcpAddress("127.0.0.1", port), BODY_BYTES, tls)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


def processor(producer: Producer) -> Processor:
    """A producer has all that a transport asks of a processor."""
    return cast("Processor", cast("Any", producer))
