"""Answers that wait for what else has come: on the lean transport that is all of one read, and nothing after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from mcp_extproc.address import TcpAddress
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc.http2 import grpc
from mcp_extproc.extproc.http2.transport import Http2Server
from mcp_extproc.extproc.shared import Answers, Owed
from tests.extproc.http2rig import BODY_BYTES, Producer, processor
from tests.unit.extproc.http2.peer import REQUEST

ALONE, TOGETHER = (
    pb.ProcessingResponse(response_headers=pb.HeadersResponse()).SerializeToString(),
    pb.ProcessingResponse(response_body=pb.BodyResponse()).SerializeToString(),
)


class Patient:
    """Owes the answer to the first message until there is a second one, or nothing else."""

    def __init__(self) -> None:
        self.is_over = False
        self._owes = False
        self._has_answered = False

    @property
    def decided(self) -> bool:
        return self._has_answered

    def receive(self, raw: bytes) -> Answers | Owed:
        if self._has_answered or self._owes:
            return [] if self._has_answered else self._answer(TOGETHER)
        self._owes = True
        return lambda: self._answer(ALONE) if self._owes else []

    def _answer(self, answer: bytes) -> list[bytes]:
        self._owes, self._has_answered = False, True
        return [answer]

    def fail(self) -> list[bytes]:
        return []

    def closed(self) -> None: ...


class Producing(Producer):
    """Of patient exchanges."""

    def opener(self, metadata: Mapping[str, str]) -> Callable[[], Any]:
        return Patient


class Wire(asyncio.Transport):
    """The worker's end of a connection, and the client at the other one."""

    def __init__(self) -> None:
        super().__init__()
        self._client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._client.initiate_connection()
        self._messages = grpc.Messages(1 << 20)
        self.got: list[bytes] = []
        self.status = ""
        self.link = Http2Server(processor(Producing()), TcpAddress("127.0.0.1", 0), BODY_BYTES).protocol()
        self.link.connection_made(self)
        self._client.send_headers(1, REQUEST)

    def say(self, *, end: bool = False) -> None:
        """A message, which is not sent yet."""
        message = pb.ProcessingRequest(response_body=pb.HttpBody(body=b"x"))
        self._client.send_data(1, grpc.message(message.SerializeToString()), end_stream=end)

    def flush(self) -> None:
        """All that was said comes in one read."""
        self.link.data_received(self._client.data_to_send())

    def write(self, data: bytes | bytearray | memoryview) -> None:
        for event in self._client.receive_data(bytes(data)):
            if isinstance(event, h2.events.DataReceived):
                self.got += self._messages.feed(event.data)
            elif isinstance(event, h2.events.TrailersReceived):
                self.status = dict(event.headers)[b"grpc-status"].decode()

    def is_closing(self) -> bool:
        return False


@pytest.fixture
async def wire() -> Wire:
    return Wire()


async def test_what_has_come_together_is_answered_together(wire: Wire) -> None:
    wire.say()
    wire.say()
    wire.flush()
    assert wire.got == [TOGETHER]


async def test_nothing_else_is_waited_for(wire: Wire) -> None:
    wire.say()
    wire.flush()
    assert wire.got == [ALONE]
    wire.say()
    wire.flush()
    assert wire.got == [ALONE]


async def test_a_stream_that_ends_with_the_read_is_answered_first(wire: Wire) -> None:
    wire.say(end=True)
    wire.flush()
    assert wire.got == [ALONE]
    assert wire.status == "0"
