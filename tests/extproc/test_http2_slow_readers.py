"""Clients that stop reading: whoever produces waits, and memory stays where it is."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
import h2.settings

from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc.http2 import grpc
from mcp_extproc.extproc.http2.transport import MAX_PENDING_BYTES
from tests.extproc.http2rig import PIECE, Producer, piece, serving
from tests.support.rawclient import DEADLINE
from tests.support.waiting import eventually
from tests.unit.extproc.http2.peer import REQUEST

HUGE = (1 << 31) - 1


class Client:
    """Reads only when told."""

    def __init__(self, sock: socket.socket, window: int) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        codes = h2.settings.SettingCodes
        self._h2.local_settings = h2.settings.Settings(client=True, initial_values={codes.INITIAL_WINDOW_SIZE: window})
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(HUGE - 65_535)
        self._messages = grpc.Messages(1 << 20)
        self.got: list[pb.ProcessingResponse] = []
        self.ended = False

    async def order(self, stream: int = 1) -> None:
        """Ask for pieces."""
        request = pb.ProcessingRequest()
        request.request_headers.end_of_stream = True
        self._h2.send_headers(stream, REQUEST)
        self._h2.send_data(stream, grpc.message(request.SerializeToString()), end_stream=True)
        await self.say()

    async def widen(self, size: int) -> None:
        """Open the stream's window."""
        self._h2.increment_flow_control_window(size, 1)
        await self.say()

    async def say(self) -> None:
        await self._loop.sock_sendall(self._socket, self._h2.data_to_send())

    async def read(self, messages: int) -> None:
        """Read until there are so many messages in all, or the stream ended."""
        async with asyncio.timeout(DEADLINE):
            while len(self.got) < messages and not self.ended:
                for event in self._h2.receive_data(await self._loop.sock_recv(self._socket, 1 << 16)):
                    if isinstance(event, h2.events.DataReceived):
                        self.got += map(pb.ProcessingResponse.FromString, self._messages.feed(event.data))
                    elif isinstance(event, h2.events.StreamEnded):
                        self.ended = True


@asynccontextmanager
async def client(port: int, window: int) -> AsyncIterator[Client]:
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        yield Client(sock, window)


def expected(count: int) -> list[pb.ProcessingResponse]:
    return [piece(number + 1) for number in range(count)]


async def test_a_shut_window_makes_the_producer_wait() -> None:
    producer = Producer(limit=100)
    async with serving(producer) as (_, port), client(port, window=10) as slow:
        await slow.order()
        # Each is a little larger than its bytes, so these are the first that are more than may wait.
        most = MAX_PENDING_BYTES // PIECE
        await eventually(lambda: producer.produced, f"{most} pieces", until=lambda count: count >= most)
        assert await producer.waits() == most

        await slow.widen(10 * PIECE)
        await slow.read(9)
        assert most < await producer.waits() <= 10 + most + 1
        await slow.widen(1000 * PIECE)
        await slow.read(1000)
        assert slow.got == expected(100)
        assert slow.ended


async def test_a_full_socket_makes_the_producer_wait() -> None:
    # Windows are open as wide as they go, but nobody reads from the socket.
    producer = Producer(limit=2000)
    async with serving(producer) as (server, port), client(port, window=HUGE) as slow:
        await slow.order()
        await eventually(lambda: producer.produced, "a first piece")
        produced = await producer.waits()
        assert produced < 200
        (link,) = server._links
        assert link._transport is not None
        assert link._transport.get_write_buffer_size() <= MAX_PENDING_BYTES + 2 * PIECE
        assert not link.connection.take()

        await slow.read(2000)
        assert slow.got == expected(2000)


async def test_a_client_that_leaves_ends_the_producer() -> None:
    producer = Producer()
    async with serving(producer) as (server, port):
        async with client(port, window=10) as slow:
            await slow.order()
            await eventually(lambda: producer.produced, "a first piece")
            await producer.waits()
        await eventually(lambda: not server._links, "the connection is closed")
        await eventually(lambda: producer.closed and producer.stopped, "the producer is ended")
    assert (producer.stopped, producer.closed) == (1, 1)
