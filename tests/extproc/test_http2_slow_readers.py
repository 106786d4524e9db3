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

    async def fill(self) -> int:
        """Ask for pieces, then send bodies until there is no room for another one. How many that are."""
        self._h2.send_headers(1, REQUEST)
        self._send(pb.ProcessingRequest(request_headers=pb.HttpHeaders()))
        await self.heard()
        count, body = 0, pb.ProcessingRequest(request_body=pb.HttpBody(body=bytes(PIECE)))
        while self.room > 2 * PIECE:
            count += 1
            self._send(body)
            await self.say()
        return count

    def _send(self, request: pb.ProcessingRequest) -> None:
        message, most = grpc.message(request.SerializeToString()), self._h2.max_outbound_frame_size
        for at in range(0, len(message), most):
            self._h2.send_data(1, message[at : at + most])

    @property
    def room(self) -> int:
        """Bytes that may be sent."""
        return self._h2.local_flow_control_window(1)

    async def heard(self) -> None:
        """Wait until the server has heard all, and hear what it said to it."""
        self._h2.ping(b"pingpong")
        await self.say()
        has_heard = False
        async with asyncio.timeout(DEADLINE):
            while not has_heard:
                has_heard = any(isinstance(event, h2.events.PingAckReceived) for event in await self._events())

    async def _events(self) -> list[h2.events.Event]:
        events = self._h2.receive_data(await self._loop.sock_recv(self._socket, 1 << 16))
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                self.got += map(pb.ProcessingResponse.FromString, self._messages.feed(event.data))
            elif isinstance(event, h2.events.StreamEnded):
                self.ended = True
        return events

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
                await self._events()


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


async def test_what_waits_for_an_answer_to_be_read_keeps_its_room() -> None:
    # Bodies behind a message whose answer is not read yet: they wait, and what they take of the window does not come back.
    async with serving(Producer(limit=100)) as (_, port), client(port, window=10) as slow:
        sent = await slow.fill()
        assert sent > 100
        await slow.heard()
        assert slow.room <= 2 * PIECE
        await slow.widen(1000 * PIECE)
        await slow.read(100 + sent)
        await slow.heard()
        assert slow.room > sent * PIECE // 2


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
