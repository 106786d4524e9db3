"""ext_proc over the lean HTTP/2 connection, on asyncio.

Immediate decisions are sent from within ``data_received``: no task, no queue, and one write for all responses to one read.
Only work that has to wait gets a task.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol, cast

from grpc_health.v1 import health_pb2

from mcp_extproc.address import Address, UnixAddress
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc.certificates import Certificates
from mcp_extproc.extproc.exchange import Processor
from mcp_extproc.extproc.exchanges import AnyExchange, opener_for
from mcp_extproc.extproc.http2 import grpc
from mcp_extproc.extproc.http2.connection import (
    Connection,
    ConnectionEnded,
    DataReceived,
    Headers,
    Limits,
    RequestReceived,
    StreamDrained,
    StreamEnded,
    StreamReset,
)
from mcp_extproc.extproc.messages import Unreadable
from mcp_extproc.extproc.shared import Owed
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log

MESSAGE_OVERHEAD = 256 * 1024
"""Headroom in a gRPC message for headers and metadata besides a body."""

MAX_PENDING_BYTES = 256 * 1024
"""Bytes of one stream not read by the peer. Above it, producers wait."""

IDLE_SECONDS = 3600.0
"""Seconds after which a connection without streams is closed."""

GREETING_SECONDS = 10.0
"""Seconds for a new connection to send the HTTP/2 preface."""

LEAVING_SECONDS = 1.0
"""Seconds for a peer to close a connection that accepts no more streams, before we do."""

_WORTH_JOINING = 32 * 1024
"""Size below which copying into one buffer is cheaper than a vectored write."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICES = frozenset({"", pb.SERVICE_NAME})

_MAX_KNOWN = 64
"""Kinds of streams of a connection: Envoy has a dozen."""

_LOG = log.logger("http2")


class Http2Server:
    """Serves exchanges at one address.

    Args:
        processor: creates exchanges.
        address: where to listen, or a listening socket.
        body_bytes: maximum size of a body that Envoy sends in one message.
        tls: for TLS, on TCP.
    """

    def __init__(
        self,
        processor: Processor,
        address: Address | socket.socket,
        body_bytes: int,
        tls: Certificates | None = None,
    ) -> None:
        self.processor = processor
        self.message_bytes = body_bytes + MESSAGE_OVERHEAD
        self.limits = Limits(stream_window=max(self.message_bytes + 64 * 1024, 1 << 20))
        self.is_serving = True
        self.tasks = Tasks(_LOG)
        """Answers that take time. Each ends with its call."""
        self._address = address
        self._tls = tls
        self._links: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._all_gone = asyncio.Event()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address can't be used.
        """
        loop = asyncio.get_running_loop()
        try:
            if isinstance(self._address, UnixAddress):
                self._server = await loop.create_unix_server(self.protocol, self._address.path, backlog=1024)
            elif isinstance(self._address, socket.socket) and self._address.family == socket.AF_UNIX:
                self._server = await loop.create_unix_server(self.protocol, sock=self._address, backlog=1024)
            elif isinstance(self._address, socket.socket):
                self._server = await loop.create_server(
                    self.protocol, sock=self._address, backlog=1024, **self._secured()
                )
            else:
                host, port = self._address.host, self._address.port
                self._server = await loop.create_server(self.protocol, host, port, backlog=1024, **self._secured())
        except OSError as error:
            raise OSError(f"cannot listen on {self._address}: {error.strerror or error}") from None

    def _secured(self) -> dict[str, Any]:
        """Arguments for a server with TLS, if configured."""
        if self._tls is None:
            return {}
        return {
            "ssl": self._tls.context(),
            "ssl_handshake_timeout": GREETING_SECONDS,
            "ssl_shutdown_timeout": LEAVING_SECONDS,
        }

    def protocol(self) -> asyncio.Protocol:
        """The protocol of a new connection. For tests, and for other ways to listen."""
        return _Connection(self)

    async def stop(self, grace: float) -> None:
        """Stop: report NOT_SERVING by gRPC health, accept no new exchanges, and give running ones ``grace`` seconds to
        finish."""
        self.is_serving = False
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in list(self._links):
            link.drain()
        if self._links and grace > 0:
            try:
                async with asyncio.timeout(grace):
                    await self._gone()
            except TimeoutError:
                pass
        for link in list(self._links):
            link.end()
        await self._gone()
        await self.tasks.close()

    async def _gone(self) -> None:
        while self._links:
            self._all_gone.clear()
            await self._all_gone.wait()

    def joined(self, link: _Connection) -> None:
        """Register a new connection."""
        self._links.add(link)

    def left(self, link: _Connection) -> None:
        """Remove a closed connection."""
        self._links.discard(link)
        if not self._links:
            self._all_gone.set()


class _Call(Protocol):
    """One gRPC call, driven by its connection."""

    started: bool
    """Whether headers were sent."""

    def data(self, event: DataReceived) -> None: ...

    def ended(self) -> None: ...

    def gone(self) -> None: ...

    def drain(self) -> None: ...


class _Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: Http2Server) -> None:
        self.server = server
        self.message_bytes = server.message_bytes
        self.connection = Connection(server.limits)
        self.loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, _Call] = {}
        self.unsettled: list[tuple[_Process, Owed]] = []
        """Calls with answers that wait until all that has come was received."""
        self._flushing = False
        self._reading = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._drained: dict[int, asyncio.Event] = {}
        self._deadlines: dict[int, asyncio.TimerHandle] = {}
        self._known: dict[int, tuple[Headers, Callable[[int], _Call] | None]] = {}
        """By identity of headers, which are kept so that no others get the same: what begins calls with them."""
        self._idle: asyncio.TimerHandle | None = None
        self._greeting: asyncio.TimerHandle | None = None
        self._leaving: asyncio.TimerHandle | None = None

    # -- asyncio ----------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not, by name.
        self.server.joined(self)
        if not _speaks_h2(transport):
            log.event(_LOG, logging.WARNING, "connection_refused", {"why": "the client does not offer h2 (ALPN)"})
            self._transport.abort()
            return
        if not self.server.is_serving:
            self.connection.go_away()
        self._watch_idle()
        self._greeting = self.loop.call_later(GREETING_SECONDS, self._end_if_mute)
        self.flush()

    def data_received(self, data: bytes) -> None:
        self._reading = True
        calls = self._calls
        try:
            for event in self.connection.receive(data):
                if isinstance(event, DataReceived):
                    if (call := calls.get(event.stream)) is not None:
                        try:
                            call.data(event)
                        except grpc.GrpcError as error:
                            self._give_up(event.stream, error.status, error.message)
                elif isinstance(event, RequestReceived):
                    self._on_request(event.stream, event.headers)
                elif isinstance(event, StreamReset):
                    self._on_reset(event.stream)
                else:
                    self._on_end(event)
        finally:
            self._reading = False
        self.send()

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._writable.set()
        for timer in (self._idle, self._greeting, self._leaving):
            if timer is not None:
                timer.cancel()
        for stream, call in list(self._calls.items()):
            self._forget(stream)
            call.gone()
        self._known.clear()
        self.server.left(self)

    def pause_writing(self) -> None:
        # The peer does not read: stop reading from it and writing to it.
        self._writable.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._writable.set()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # -- Events -----------------------------------------------------------------------------------------------------------

    def _on_request(self, stream: int, headers: Headers) -> None:
        # Envoy's streams have few kinds of headers, and each is the same object every time.
        known = self._known.get(id(headers))
        if known is None or known[0] is not headers:
            known = headers, self._opener(headers)
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[id(headers)] = known
        opener = known[1]
        if opener is None:
            self._refuse(stream, headers)
            return
        self._calls[stream] = opener(stream)
        if (timeout := headers.get("grpc-timeout")) is not None:
            self._limit_time(stream, timeout)

    def _opener(self, headers: Headers) -> Callable[[int], _Call] | None:
        """What begins calls with these headers; ``None`` for what is none of ours."""
        if not _is_grpc(headers):
            return None
        match headers[":path"]:
            case pb.PROCESS_PATH:
                return partial(_Process, self, opener_for(self.server.processor, headers))
            case "/grpc.health.v1.Health/Check":
                return partial(_Check, self)
            case "/grpc.health.v1.Health/Watch":
                return partial(_Watch, self)
        return None

    def _refuse(self, stream: int, headers: Headers) -> None:
        if _is_grpc(headers):
            self.finish(stream, grpc.UNIMPLEMENTED, f"no such method: {headers[':path'][:256]}")
        else:
            self.connection.end_stream(stream, grpc.NOT_GRPC)

    def _limit_time(self, stream: int, timeout: str) -> None:
        try:
            seconds = grpc.timeout(timeout)
        except ValueError:
            self._give_up(stream, grpc.INTERNAL, "grpc-timeout can't be read")
            return
        self._deadlines[stream] = self.loop.call_later(
            seconds, self._give_up, stream, grpc.DEADLINE_EXCEEDED, "the deadline has expired"
        )

    def _give_up(self, stream: int, status: int, why: str) -> None:
        call = self._calls.get(stream)
        if call is not None:
            self.finish(stream, status, why)
            call.gone()

    def _on_reset(self, stream: int) -> None:
        if (call := self._forget(stream)) is not None:
            call.gone()

    def _on_end(self, event: StreamEnded | StreamDrained | ConnectionEnded) -> None:
        if isinstance(event, StreamDrained):
            if (drained := self._drained.get(event.stream)) is not None:
                drained.set()
        elif isinstance(event, ConnectionEnded):
            log.event(_LOG, logging.WARNING, "connection_refused", {"why": event.why, "code": event.code})
        elif (call := self._calls.get(event.stream)) is not None:
            call.ended()

    # -- Calls ------------------------------------------------------------------------------------------------------------

    def finish(self, stream: int, status: int, why: str = "") -> None:
        """End a call with a status and forget it."""
        call = self._calls.get(stream)
        block = grpc.TRAILERS_OK if status == grpc.OK else grpc.trailers(status, why)
        if call is None or not call.started:
            block = grpc.HEAD + block
        self.connection.end_stream(stream, block)
        self._forget(stream)
        self.flush()

    def _forget(self, stream: int) -> _Call | None:
        """Whatever ends a call has it forgotten; the call, unless it was."""
        call = self._calls.pop(stream, None)
        if self._deadlines and (deadline := self._deadlines.pop(stream, None)) is not None:
            deadline.cancel()
        if self._drained and (drained := self._drained.get(stream)) is not None:
            drained.set()
        return call

    def consumed(self, event: DataReceived) -> None:
        """Data that had to wait was processed."""
        self.connection.consumed(event.stream, event.size)
        self.flush()

    def settle(self) -> None:
        """Have calls answer what waited for the end of a read."""
        unsettled, self.unsettled = self.unsettled, []
        for call, owed in unsettled:
            call.settle(owed)

    def flush(self) -> None:
        """Send pending bytes; at the end of a read, or of this iteration of the loop."""
        if not self._reading and not self._flushing:
            self._flushing = True
            self.loop.call_soon(self.send)

    def send(self) -> None:
        """Send pending bytes now."""
        self._flushing = False
        if self.unsettled:
            self.settle()
        transport = self._transport
        if transport is None:
            return
        if parts := self.connection.take_parts():
            if sum(map(len, parts)) < _WORTH_JOINING:
                transport.write(b"".join(parts))
            else:
                transport.writelines(parts)
        if self.connection.is_broken:
            transport.close()
        elif self.connection.is_over and self._leaving is None:
            # The peer closes first: requests that it sent before it got the GOAWAY have to be refused, not to hit a
            # closed socket.
            self._leaving = self.loop.call_later(LEAVING_SECONDS, transport.close)

    async def writable(self, stream: int) -> None:
        """Wait until the peer has read enough of a stream."""
        if self.connection.pending(stream) > MAX_PENDING_BYTES and stream in self._calls:
            drained = self._drained[stream] = asyncio.Event()
            try:
                await drained.wait()
            finally:
                del self._drained[stream]
        await self._writable.wait()

    # -- The end ----------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Accept no more calls than the peer has made before it hears of this."""
        self.connection.drain()
        for call in list(self._calls.values()):
            call.drain()
        self.flush()

    def end(self) -> None:
        """End all calls and the connection."""
        for stream in list(self._calls):
            self._give_up(stream, grpc.UNAVAILABLE, "the worker ends")
        self.send()
        if self._transport is not None:
            self._transport.close()

    def _end_if_mute(self) -> None:
        if not self.connection.is_greeted and self._transport is not None:
            self._transport.abort()

    def _watch_idle(self) -> None:
        self._idle = self.loop.call_later(IDLE_SECONDS, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if self._calls:
            self._watch_idle()
            return
        self.connection.drain()
        self.flush()


def _is_grpc(headers: Headers) -> bool:
    return headers[":method"] == "POST" and headers.get("content-type", "").startswith("application/grpc")


def _speaks_h2(transport: asyncio.BaseTransport) -> bool:
    """Whether HTTP/2 was negotiated, if TLS is used (RFC 9113 section 3.2)."""
    tls = transport.get_extra_info("ssl_object")
    return tls is None or tls.selected_alpn_protocol() == "h2"


class _Process:
    """``Process``: one HTTP exchange."""

    # What is not changed is the class's, as most of it is never.
    _pieces: grpc.Messages | None = None
    """Of a message that is not complete, once there was one."""
    _queue: deque[bytes] | None = None
    """Messages that have to wait, once one had to."""
    _task: asyncio.Task[None] | None = None
    _ended = False
    _gone = False
    _closed = False
    started = False

    def __init__(self, link: _Connection, begin: Callable[[], AnyExchange], stream: int) -> None:
        self._link = link
        self._stream = stream
        self._exchange = begin()

    def data(self, event: DataReceived) -> None:
        link = self._link
        if self._pieces is None and (message := grpc.whole(event.data, link.message_bytes)) is not None:
            if self._task is None and not self._queue:
                self._receive(message)
                if self._exchange.is_over:
                    self._go_on()
                return
            messages = [message]
        else:
            if self._pieces is None:
                self._pieces = grpc.Messages(link.message_bytes)
            messages = self._pieces.feed(event.data)
        self._wait(event, messages)

    def _wait(self, event: DataReceived, messages: list[bytes]) -> None:
        """Take messages in turn, once the answers to the one before were taken."""
        if self._queue is None:
            self._queue = deque()
        if self._task is not None:
            # Read later, so that a client that does not wait for responses fills its window instead of our memory.
            self._link.connection.hold(event.stream, event.size)
            self._task.add_done_callback(lambda _: self._link.consumed(event))
        self._queue += messages
        self._go_on()

    def ended(self) -> None:
        if self._pieces is not None and not self._pieces.is_empty:
            self._close(grpc.INTERNAL, "the last message is cut off")
            if self._task is not None:
                self._task.cancel()
            return
        self._ended = True
        self._go_on()

    def gone(self) -> None:
        self._gone = True
        if self._task is not None:
            # Not left to the task itself: if it is cancelled before its first step, it never runs.
            self._task.add_done_callback(lambda _: self._end_exchange())
            self._task.cancel()
        else:
            self._end_exchange()

    def drain(self) -> None:
        pass  # It may finish.

    def _go_on(self) -> None:
        while self._queue and self._task is None and not self._gone and not self._exchange.is_over:
            self._receive(self._queue.popleft())
        if self._task is None and not self._gone and (self._exchange.is_over or (self._ended and not self._queue)):
            self._finish()

    def _receive(self, message: bytes) -> None:
        try:
            answers = self._exchange.receive(message)
        except Unreadable as error:
            self._close(grpc.INTERNAL, str(error))
            return
        except Exception:  # noqa: BLE001 - answered and logged
            self._failed()
            return
        if isinstance(answers, list):
            for answer in answers:
                self._send(answer)
        elif callable(answers):
            self._link.unsettled.append((self, answers))
        else:
            self._task = self._link.server.tasks.start("answer", self._work(answers), on_failure=self._give_up)

    def settle(self, owed: Owed) -> None:
        """Send answers that waited for what else has come."""
        if not self._gone:
            for answer in owed():
                self._send(answer)

    async def _work(self, answers: AsyncGenerator[bytes, None]) -> None:
        link = self._link
        try:
            async with aclosing(answers):
                async for answer in answers:
                    self._send(answer)
                    link.send()
                    # Let other tasks run, and give the peer time, even if the next response is ready.
                    await asyncio.sleep(0)
                    await link.writable(self._stream)
        except asyncio.CancelledError:
            if not self._gone:
                # Cancelled by the gateway, not by Envoy.
                self._close(grpc.UNAVAILABLE, "the exchange was cancelled")
        except Exception:  # noqa: BLE001 - answered and logged
            self._failed()
        finally:
            self._task = None
            if not self._gone:
                self._go_on()
            link.flush()

    def _failed(self) -> None:
        # A bug in the gateway, limited to this exchange.
        _LOG.exception("exchange_failed")
        failure = self._exchange.fail()
        for answer in failure:
            self._send(answer)
        if not failure:
            self._close(grpc.INTERNAL, "the exchange failed; the gateway's log says why")

    def _give_up(self) -> None:
        """Even handling the failure failed: the stream must not stay open."""
        if not self._gone:
            self._close(grpc.INTERNAL, "the exchange failed; the gateway's log says why")

    def _finish(self) -> None:
        self._link.settle()
        if not self._exchange.decided:
            # Ending with OK would let the request pass unprocessed.
            self._close(grpc.ABORTED, "the exchange ended before it was decided")
        else:
            self._close(grpc.OK, "")

    def _close(self, status: int, why: str) -> None:
        self._link.finish(self._stream, status, why)
        self._gone = True
        self._queue = None
        self._end_exchange()

    def _end_exchange(self) -> None:
        if not self._closed:
            self._closed = True
            self._exchange.closed()

    def _send(self, answer: bytes) -> None:
        connection = self._link.connection
        if len(answer) < _WORTH_JOINING:
            first, rest = grpc.message(answer), b""
        else:
            first, rest = grpc.prefix(len(answer)), answer
        if not self.started:
            self.started = True
            connection.begin(self._stream, grpc.HEAD, first, rest)
            return
        connection.send_data(self._stream, first)
        if rest:
            connection.send_data(self._stream, rest)


class _Unary:
    """A unary call."""

    def __init__(self, link: _Connection, stream: int) -> None:
        self._link = link
        self._stream = stream
        self._messages = grpc.Messages(4096)
        self._known = False
        self.started = False

    def data(self, event: DataReceived) -> None:
        for message in self._messages.feed(event.data):
            try:
                service = health_pb2.HealthCheckRequest.FromString(message).service
            except Exception:  # noqa: BLE001 - whatever the library raises for bytes that are no message
                raise grpc.GrpcError(grpc.INTERNAL, "a message can't be read") from None
            self._asked(service)

    def ended(self) -> None: ...

    def gone(self) -> None: ...

    def drain(self) -> None: ...

    def _asked(self, service: str) -> None:
        raise NotImplementedError

    def _tell(self) -> None:
        status = _SERVING if self._link.server.is_serving else _NOT_SERVING
        if not self.started:
            self.started = True
            self._link.connection.send_headers(self._stream, grpc.HEAD)
        payload = health_pb2.HealthCheckResponse(status=status).SerializeToString()
        self._link.connection.send_data(self._stream, grpc.message(payload))


class _Check(_Unary):
    """``Health/Check``."""

    def ended(self) -> None:
        self._link.finish(self._stream, grpc.INTERNAL, "a request is missing")

    def _asked(self, service: str) -> None:
        if service not in _SERVICES:
            self._link.finish(self._stream, grpc.NOT_FOUND, "no such service")
            return
        self._tell()
        self._link.finish(self._stream, grpc.OK)


class _Watch(_Unary):
    """``Health/Watch``: the current state, and its changes."""

    def _asked(self, service: str) -> None:
        self._known = service in _SERVICES
        if self._known:
            self._tell()
            if not self._link.server.is_serving:
                self.drain()
            return
        # A watch of an unknown service stays open and reports that.
        self.started = True
        self._link.connection.send_headers(self._stream, grpc.HEAD)
        unknown = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        self._link.connection.send_data(self._stream, grpc.message(unknown.SerializeToString()))

    def drain(self) -> None:
        if self._known:
            self._tell()
        self._link.finish(self._stream, grpc.UNAVAILABLE, "the worker ends")
