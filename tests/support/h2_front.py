"""An HTTP/2 server in front of a scripted one, which counts what it sees of the protocol."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, PingReceived, RequestReceived, StreamEnded, TrailersReceived

_OF_HTTP_1 = {"connection", "transfer-encoding", "keep-alive", "date", "server"}


@dataclass
class Http2Front:
    """Passes requests on to a server that speaks HTTP/1.1.

    Args:
        url: of that server.
        tls: how to be spoken to; plain HTTP/2 with prior knowledge by default.
    """

    url: str
    tls: ssl.SSLContext | None = None
    refuse: int = 0
    """So many of the next streams are refused (REFUSED_STREAM)."""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    """Of each answer."""
    received_trailers: list[tuple[str, str]] = field(default_factory=list)
    """Of all requests."""
    pings: int = 0
    requests: int = 0
    alpn: list[str | None] = field(default_factory=list)
    """Of each connection."""

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        found: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        self.alpn.append(found.selected_alpn_protocol() if found is not None else None)
        connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        heads: dict[int, list[tuple[str, str]]] = {}
        bodies: dict[int, bytearray] = defaultdict(bytearray)
        writer.write(connection.data_to_send())
        try:
            while data := await reader.read(65536):
                for event in connection.receive_data(data):
                    self._note(event, connection, heads, bodies)
                    if isinstance(event, StreamEnded) and event.stream_id in heads:
                        answering = self._answer(
                            connection, writer, event.stream_id, heads.pop(event.stream_id), bodies[event.stream_id]
                        )
                        passing = asyncio.get_running_loop().create_task(answering)
                        self._tasks.add(passing)
                writer.write(connection.data_to_send())
        except OSError:
            pass
        finally:
            writer.close()

    def _note(
        self,
        event: Event,
        connection: H2Connection,
        heads: dict[int, list[tuple[str, str]]],
        bodies: dict[int, bytearray],
    ) -> None:
        match event:
            case RequestReceived(stream_id=int() as stream):
                self.requests += 1
                if self.refuse:
                    self.refuse -= 1
                    connection.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
                else:
                    heads[stream] = [(str(name), str(value)) for name, value in event.headers or ()]
            case DataReceived(stream_id=int() as stream):
                bodies[stream] += event.data or b""
                connection.acknowledge_received_data(event.flow_controlled_length or 0, stream)
            case TrailersReceived():
                self.received_trailers += [(str(name), str(value)) for name, value in event.headers or ()]
            case PingReceived():
                self.pings += 1

    async def _answer(
        self,
        connection: H2Connection,
        writer: asyncio.StreamWriter,
        stream: int,
        head: list[tuple[str, str]],
        body: bytes | bytearray,
    ) -> None:
        fields: dict[str, Any] = dict(head)
        headers = {name: value for name, value in fields.items() if not name.startswith(":")}
        async with self._http.request(fields[":method"], self.url, data=bytes(body), headers=headers) as got:
            answer = await got.read()
            passed = [(k.lower(), v) for k, v in got.headers.items() if k.lower() not in _OF_HTTP_1]
        connection.send_headers(stream, [(":status", str(got.status)), *passed])
        connection.send_data(stream, answer, end_stream=not self.trailers)
        if self.trailers:
            connection.send_headers(stream, self.trailers, end_stream=True)
        writer.write(connection.data_to_send())
