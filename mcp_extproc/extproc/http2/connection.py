"""The server's side of one HTTP/2 connection, without I/O: bytes in, events out; calls in, bytes out.

Contract: :meth:`Connection.receive` never raises. Protocol errors of a peer result in a RST_STREAM or a GOAWAY, in events,
and in bytes to send. :class:`Limits` bounds the memory that a peer can use. Header blocks of a peer are independent of each
other (SETTINGS_HEADER_TABLE_SIZE is 0 once acknowledged), so known blocks are not decoded again.

Source: RFC 9113. Not implemented, because gRPC clients can't or need not use it: push, priorities (parsed and ignored),
CONNECT.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import msgspec
from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.extproc.http2 import frames

Headers = Mapping[str, str]
"""Request headers by name, including pseudo-headers; repeated ones joined by a comma."""

Fields = Iterable[tuple[bytes, bytes]]
"""A header block as sent."""

FORGIVEN_PER_SECOND = 100.0

_MAX_KNOWN_BLOCKS = 256
_MAX_KNOWN_BLOCKS_BYTES = MIB
_MAX_KNOWN_BLOCK_BYTES = 2048
"""Limits for a block and its decoded form: a single byte can stand for a whole field."""
_MAX_FORGOTTEN = 1024
_DEFAULT_TABLE = 4096
_NO_TABLE = b"\x20"
"""A table size update to 0 (RFC 7541, section 6.3)."""

_STREAMS_PER_DEBT = 64
"""Streams that can be checked at the cost of a frame."""
_LAST_CALL: Final = b"drainage"
"""Of the ping that follows the announcement of the end."""

_HEADER_BYTES: Final = frames.HEADER_BYTES
_MAX_FRAME: Final = frames.SMALLEST_MAX_FRAME
_read_start: Final = frames.read_start
_start: Final = frames.start
_DATA: Final = frames.DATA
_HEADERS: Final = frames.HEADERS
_END_HEADERS: Final = frames.END_HEADERS
_STREAM_ID: Final = frames.STREAM_ID
_WHOLE_HEADERS: Final = frames.kind_of(frames.HEADERS, frames.END_HEADERS)
_BARE_RESET: Final = frames.kind_of(frames.RST_STREAM, 0)

_LARGE_FRAME = 4096
"""Bytes of a frame of data that is mostly followed by more of the same."""

_REPLENISH_SHARE = 2
"""A window is updated when this fraction of it (one half) is used."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on memory and work caused by a peer.

    Raises:
        ValueError: a window is smaller than what a client may send before it reads our settings, or larger than the
            maximum.
    """

    streams: int = 10_000
    """Concurrent streams."""
    header_bytes: int = 64 * 1024
    """Size of one request's header block, compressed and decoded."""
    stream_window: int = 8 << 20
    """Unread bytes of a stream. A message has to fit."""
    connection_window: int = 64 << 20
    """Unread bytes of all streams together."""
    debts: int = 10_000
    """Burst of frames that cause work without progress (pings, settings, empty frames, resets of what is not open). Response
    headers and the end of a response each reduce the count by one, and time by :data:`FORGIVEN_PER_SECOND`.

    A reset of an open stream is free, though HTTP/2 servers count it elsewhere (CVE-2023-44487): the peer is a proxy that
    resets a stream for each of its clients that leaves, and ending the connection would end everybody's exchanges. Such a
    stream costs a header block, and its work ends with it."""

    def __post_init__(self) -> None:
        for window in (self.stream_window, self.connection_window):
            if not frames.DEFAULT_WINDOW <= window <= frames.MAX_WINDOW:
                raise ValueError(f"a window has {frames.DEFAULT_WINDOW} to {frames.MAX_WINDOW} bytes, not {window}")


class RequestReceived(msgspec.Struct, frozen=True):
    """A new stream."""

    stream: int
    headers: Headers


class DataReceived(msgspec.Struct, frozen=True):
    """Part of a stream's body. Where it is not processed by the time that bytes are taken to be sent, say so
    (:meth:`Connection.hold`)."""

    stream: int
    data: bytes
    size: int
    """Its share of the flow-control windows, padding included."""


class StreamEnded(msgspec.Struct, frozen=True):
    """The client has finished sending on a stream."""

    stream: int


class StreamReset(msgspec.Struct, frozen=True):
    """A stream was reset by the client, or violated the protocol."""

    stream: int
    code: int


class StreamDrained(msgspec.Struct, frozen=True):
    """All waiting data of a stream was sent."""

    stream: int


class ConnectionEnded(msgspec.Struct, frozen=True):
    """The connection violated the protocol. Send the remaining bytes, then close it."""

    code: int
    why: str


Event = RequestReceived | DataReceived | StreamEnded | StreamReset | StreamDrained | ConnectionEnded


class _Broken(Exception):
    """A protocol error of the whole connection."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class _BrokenStream(Exception):
    """A protocol error of one stream."""

    def __init__(self, stream: int, code: int) -> None:
        super().__init__()
        self.stream = stream
        self.code = code


class _Stream:
    """One open stream."""

    # What is not changed is the class's, as most of it is never.
    ended_by_client = False
    held = 0
    """Bytes that were received and not processed yet."""
    pending: deque[memoryview] | None = None
    """Data waiting for a window, once some had to."""
    pending_bytes = 0
    trailers: bytes | None = None
    """Trailers to send after the pending data."""

    def __init__(self, id: int, receive_window: int, send_window: int) -> None:
        self.id = id
        self.receive_window = receive_window
        self.send_window = send_window


class Connection:
    """One connection.

    Args:
        limits: bounds on memory and work caused by the peer.
        clock: monotonic seconds.
    """

    def __init__(self, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits if limits is not None else Limits()
        self._clock = clock
        self._in = b""
        """What came of a frame that is not complete."""
        self._rest = 0
        """Bytes that are still to come of a frame of data whose beginning was handed on, if not 0,"""
        self._rest_of = 0
        """and its stream."""
        self._preface_left = frames.PREFACE
        self._settings_seen = False
        self._settings_acknowledged = False
        self._over = False
        self._draining = False
        self._going_away = False
        self._streams: dict[int, _Stream] = {}
        self._last_stream = 0
        self._forgotten: OrderedDict[int, None] = OrderedDict()
        self._debts = 0.0
        self._debts_at = clock()
        # Header blocks
        self._decoder = Decoder(max_header_list_size=self.limits.header_bytes)
        self._stands_alone = False
        """Whether blocks are independent of a dynamic table, so that the same bytes always mean the same."""
        self._known_blocks: Bounded[bytes, Headers] = Bounded(_MAX_KNOWN_BLOCKS, _MAX_KNOWN_BLOCKS_BYTES)
        self._table_update = b""
        """Prefix of the next header block that we send."""
        self._table_gone = False
        """Whether a block has announced that we use no dynamic table."""
        self._block_stream = 0
        self._block_flags = 0
        self._block: list[bytes] = []
        self._block_bytes = 0
        # Flow control
        self._receive_window = self.limits.connection_window
        self._held = 0
        """Bytes of all streams that were received and not processed yet."""
        self._used_up: dict[int, _Stream] = {}
        """Streams that may have used so much of their windows that these have to be updated."""
        self._replenish_connection = self.limits.connection_window // _REPLENISH_SHARE
        self._replenish_stream = self.limits.stream_window // _REPLENISH_SHARE
        self._low_connection = self.limits.connection_window - self._replenish_connection
        self._low_stream = self.limits.stream_window - self._replenish_stream
        """What is left of a window where so much is used."""
        self._send_window = frames.DEFAULT_WINDOW
        self._initial_send_window = frames.DEFAULT_WINDOW
        self._max_frame = frames.SMALLEST_MAX_FRAME
        self._blocked: dict[int, _Stream] = {}
        """Streams waiting for the connection's window, in turn. Those waiting for their own are not included."""
        self._out: list[bytes | memoryview] = [
            frames.settings({
                frames.HEADER_TABLE_SIZE: 0,
                frames.MAX_CONCURRENT_STREAMS: self.limits.streams,
                frames.INITIAL_WINDOW_SIZE: self.limits.stream_window,
                frames.MAX_HEADER_LIST_SIZE: self.limits.header_bytes,
            }),
        ]  # fmt: skip
        if self.limits.connection_window > frames.DEFAULT_WINDOW:
            self._out.append(frames.window_update(0, self.limits.connection_window - frames.DEFAULT_WINDOW))

    # -- What the transport asks ----------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether the connection can only be closed."""
        return self._over or (self._going_away and not self._streams)

    @property
    def is_broken(self) -> bool:
        """Whether the peer violated the protocol."""
        return self._over

    @property
    def is_greeted(self) -> bool:
        """Whether the client has sent the HTTP/2 preface."""
        return self._settings_seen

    def take(self) -> bytes:
        """The bytes to send now. They are returned once. What was received has been processed by now, but for what is held."""
        return b"".join(self.take_parts())

    def take_parts(self) -> list[bytes | memoryview]:
        """The same in parts, for vectored writes."""
        if self._used_up or self._receive_window <= self._low_connection:
            self._replenish()
        out, self._out = self._out, []
        return out

    def is_open(self, stream: int) -> bool:
        """Whether data can still be sent on a stream."""
        return stream in self._streams

    def pending(self, stream: int) -> int:
        """Bytes of a stream waiting for the peer's window."""
        found = self._streams.get(stream)
        return 0 if found is None else found.pending_bytes

    # -- What the peer sends --------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """Process bytes from the peer."""
        events: list[Event] = []
        if self._over:
            return events
        try:
            self._read(data, events)
        except _Broken as broken:
            self._fail(broken.code, str(broken), events)
        return events

    def _read(self, data: bytes, events: list[Event]) -> None:
        buffer = self._in + data if self._in else data
        position = self._read_preface(buffer) if self._preface_left else 0
        if self._rest:
            position = self._read_rest(buffer, events)
        size = len(buffer)
        streams = self._streams
        # Where the connection has room for all that came and the rest of its last frame, only a stream's window can be
        # exceeded. Where it has not, no window is large enough for the short way.
        least = self._low_stream if size + _MAX_FRAME <= self._receive_window else frames.MAX_WINDOW
        received, last = 0, size - _HEADER_BYTES
        while position <= last:
            more, length, kind, id = _read_start(buffer, position)
            start = position + _HEADER_BYTES
            if length >= _LARGE_FRAME or more:
                if more or length > _MAX_FRAME:
                    raise _Broken(frames.FRAME_SIZE_ERROR, "a frame is larger than allowed")
                stream = None if kind or self._block_stream else streams.get(id)
                if stream is not None and not stream.ended_by_client:
                    before = position
                    if (position := self._read_data(buffer, position, stream, events)) > before:
                        continue
            if (end := start + length) > size:
                break
            position, payload = end, buffer[start:end]
            # Most frames are data of an open stream, whose window is not used up. The other usual ones are next.
            if not kind and (stream := streams.get(id)) is not None and length and not self._block_stream:
                if (window := stream.receive_window - length) > least and not stream.ended_by_client:
                    stream.receive_window = window
                    received += length
                    events.append(DataReceived(id, payload, length))
                    continue
            elif (kind == _WHOLE_HEADERS and self._is_known_request(id, payload, events)) or (
                kind == _BARE_RESET and self._is_known_reset(id, payload, events)
            ):
                continue
            try:
                self._frame(kind >> 8, kind & 0xFF, id & _STREAM_ID, payload, events)
            except _BrokenStream as broken:
                self._reset(broken.stream, broken.code, events)
        self._receive_window -= received
        self._in = buffer[position:] if position < size else b""

    def _read_data(self, buffer: bytes, position: int, stream: _Stream, events: list[Event]) -> int:
        """Hand on frames of data of one stream that follow each other as one piece, which is copied once. Of the last of them
        the rest may be still to come. Returns where they end, or the same position if the first one is none that may be."""
        size, view, id = len(buffer), memoryview(buffer), stream.id
        room = min(stream.receive_window, self._receive_window)
        pieces = []
        while size - position >= _HEADER_BYTES:
            more, length, kind, of = _read_start(buffer, position)
            if of != id or kind or more or not 0 < length <= room or length > _MAX_FRAME:
                break
            room -= length
            start = position + _HEADER_BYTES
            position = start + length
            pieces.append(view[start:position])
        if pieces:
            if position > size:
                self._rest, self._rest_of, position = position - size, id, size
            if data := b"".join(pieces):
                self._use(stream, len(data))
                events.append(DataReceived(id, data, len(data)))
        return position

    def _read_rest(self, buffer: bytes, events: list[Event]) -> int:
        """The same for what is there of the rest of such a frame. There is room for it: no other frame comes in between."""
        id, data = self._rest_of, buffer[: self._rest]
        self._rest -= len(data)
        if (stream := self._streams.get(id)) is None:
            self._receive_window -= len(data)  # it was closed in between
        elif data:
            self._use(stream, len(data))
            events.append(DataReceived(id, data, len(data)))
        return len(data)

    def _read_preface(self, buffer: bytes) -> int:
        wanted = self._preface_left
        seen = buffer[: len(wanted)]
        if not wanted.startswith(seen):
            raise _Broken(frames.PROTOCOL_ERROR, "the client does not speak HTTP/2")
        self._preface_left = wanted[len(seen) :]
        return len(seen)

    def _is_known_request(self, id: int, block: bytes, events: list[Event]) -> bool:
        """Handle a new stream with a known header block. Errors and rare cases are left to :meth:`_frame`, without side
        effects here."""
        # What is kept stands alone.
        headers = self._known_blocks.get(block)
        if headers is None or not self._last_stream < id <= _STREAM_ID or not id & 1:
            return False
        if self._going_away or self._block_stream or len(self._streams) >= self.limits.streams:
            return False
        self._last_stream = id
        self._streams[id] = _Stream(id, self.limits.stream_window, self._initial_send_window)
        events.append(RequestReceived(id, headers))
        return True

    def _is_known_reset(self, id: int, payload: bytes, events: list[Event]) -> bool:
        """The same for the end of an open stream."""
        stream = self._streams.get(id)
        if stream is None or len(payload) != 4 or self._block_stream:
            return False
        self._close(stream)
        events.append(StreamReset(id, frames.read_word(payload, 0)[0]))
        return True

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        if self._block_stream and (kind != frames.CONTINUATION or stream != self._block_stream):
            raise _Broken(frames.PROTOCOL_ERROR, "a header block is interrupted")
        if not self._settings_seen and (kind != frames.SETTINGS or flags & frames.ACK):
            raise _Broken(frames.PROTOCOL_ERROR, "the first frame is no SETTINGS")
        if kind == frames.DATA:
            self._on_data(flags, stream, payload, events)
        elif kind == frames.HEADERS:
            self._on_headers(flags, stream, payload, events)
        elif kind == frames.WINDOW_UPDATE:
            self._on_window_update(stream, payload, events)
        elif kind == frames.RST_STREAM:
            self._on_rst_stream(stream, payload, events)
        elif kind == frames.SETTINGS:
            self._on_settings(flags, stream, payload, events)
        elif kind == frames.PING:
            self._on_ping(flags, stream, payload)
        elif kind == frames.CONTINUATION:
            self._on_continuation(flags, stream, payload, events)
        elif kind == frames.GOAWAY:
            self._on_goaway(stream, payload)
        elif kind == frames.PRIORITY:
            self._on_priority(stream, payload)
        elif kind == frames.PUSH_PROMISE:
            raise _Broken(frames.PROTOCOL_ERROR, "a client pushes")
        else:
            self._owe()  # an extension of HTTP/2 (section 4.1)

    # -- Streams --------------------------------------------------------------------------------------------------------

    def _on_data(self, flags: int, id: int, payload: bytes, events: list[Event]) -> None:
        size = len(payload)
        if id == 0:
            raise _Broken(frames.PROTOCOL_ERROR, "DATA on stream 0")
        if size > self._receive_window:
            raise _Broken(frames.FLOW_CONTROL_ERROR, "more than the connection's window")
        stream = self._streams.get(id)
        if stream is None or stream.ended_by_client:
            self._receive_window -= size
            self._on_late_data(id, size)
            return
        if size > stream.receive_window:
            self._receive_window -= size
            raise _BrokenStream(id, frames.FLOW_CONTROL_ERROR)
        self._use(stream, size)
        data = self._unpadded(payload) if flags & frames.PADDED else payload
        if data:
            events.append(DataReceived(id, data, size))
        if flags & frames.END_STREAM:
            stream.ended_by_client = True
            events.append(StreamEnded(id))
        elif not data:
            self._owe()

    def _on_headers(self, flags: int, id: int, payload: bytes, events: list[Event]) -> None:
        if not id & 1:
            raise _Broken(frames.PROTOCOL_ERROR, "a client's stream has an odd number")
        block = self._unpadded(payload) if flags & frames.PADDED else payload
        if flags & frames.WITH_PRIORITY:
            if len(block) < 5:
                code = frames.FRAME_SIZE_ERROR if len(payload) - len(block) <= 1 else frames.PROTOCOL_ERROR
                raise _Broken(code, "HEADERS too short for its priority")
            block = block[5:]
        if flags & frames.END_HEADERS:
            self._on_block(flags, id, block, events)
        else:
            self._block_stream, self._block_flags = id, flags
            self._block, self._block_bytes = [block], len(block)

    def _on_continuation(self, flags: int, id: int, payload: bytes, events: list[Event]) -> None:
        if not self._block_stream:
            raise _Broken(frames.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._owe()
        self._block.append(payload)
        self._block_bytes += len(payload)
        if self._block_bytes > self.limits.header_bytes:
            raise _Broken(frames.ENHANCE_YOUR_CALM, "a header block is too large")
        if flags & frames.END_HEADERS:
            block, self._block = b"".join(self._block), []
            self._block_stream = 0
            self._on_block(self._block_flags, id, block, events)

    def _on_block(self, flags: int, id: int, block: bytes, events: list[Event]) -> None:
        if id > self._last_stream:
            self._open(flags, id, self._request(block), events)
            return
        fields = self._decode(block)  # Decode even if nobody needs the headers, to keep the decoder's table in sync.
        stream = self._streams.get(id)
        if stream is not None:
            self._on_trailers(stream, flags, fields, events)
        elif id in self._forgotten:
            self._owe()
        else:
            raise _Broken(frames.PROTOCOL_ERROR, "HEADERS on a stream that is over, or was left out")

    def _on_trailers(self, stream: _Stream, flags: int, fields: Fields, events: list[Event]) -> None:
        if stream.ended_by_client:
            raise _BrokenStream(stream.id, frames.STREAM_CLOSED)
        if not flags & frames.END_STREAM or not all(_is_regular(name, value) for name, value in fields):
            raise _BrokenStream(stream.id, frames.PROTOCOL_ERROR)
        stream.ended_by_client = True
        events.append(StreamEnded(stream.id))

    def _open(self, flags: int, id: int, headers: Headers | None, events: list[Event]) -> None:
        self._last_stream = id
        if self._going_away or len(self._streams) >= self.limits.streams:
            raise _BrokenStream(id, frames.REFUSED_STREAM)
        if headers is None:
            raise _BrokenStream(id, frames.PROTOCOL_ERROR)
        stream = _Stream(id, self.limits.stream_window, self._initial_send_window)
        self._streams[id] = stream
        events.append(RequestReceived(id, headers))
        if flags & frames.END_STREAM:
            stream.ended_by_client = True
            events.append(StreamEnded(id))

    def _on_rst_stream(self, id: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 4:
            raise _Broken(frames.FRAME_SIZE_ERROR, "RST_STREAM has four bytes")
        self._not_idle(id)
        stream = self._streams.get(id)
        if stream is None:
            self._owe()
            return
        self._close(stream)
        events.append(StreamReset(id, frames.read_word(payload, 0)[0]))

    def _on_priority(self, id: int, payload: bytes) -> None:
        self._owe()
        if id == 0:
            raise _Broken(frames.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            # Not a stream error, because the stream may be idle, and idle streams can't be reset.
            raise _Broken(frames.FRAME_SIZE_ERROR, "PRIORITY has five bytes")

    def _on_late_data(self, id: int, size: int) -> None:
        """Data for a closed stream. Streams that we reset may still get some (section 5.1), as much as was in transit."""
        self._not_idle(id)
        if id not in self._forgotten:
            raise _BrokenStream(id, frames.STREAM_CLOSED)
        if not size:
            self._owe()

    def _not_idle(self, id: int) -> None:
        if id == 0 or id > self._last_stream or not id & 1:
            raise _Broken(frames.PROTOCOL_ERROR, "a frame for a stream that was never opened")

    def _reset(self, id: int, code: int, events: list[Event]) -> None:
        self._owe()
        stream = self._streams.get(id)
        if stream is not None:
            self._close(stream)
            events.append(StreamReset(id, code))
        self._forget(id)
        self._out.append(frames.rst_stream(id, code))

    def _close(self, stream: _Stream) -> None:
        del self._streams[stream.id]
        if self._blocked:
            self._blocked.pop(stream.id, None)

    def _forget(self, id: int) -> None:
        self._forgotten[id] = None
        if len(self._forgotten) > _MAX_FORGOTTEN:
            self._forgotten.popitem(last=False)

    # -- Header blocks --------------------------------------------------------------------------------------------------

    def _request(self, block: bytes) -> Headers | None:
        """The headers of a request; ``None`` if they are malformed (section 8.1.1)."""
        if not self._stands_alone:
            return _headers(self._decode(block))
        if (known := self._known_blocks.get(block)) is not None:
            return known
        headers = _headers(self._decode(block))
        if headers is not None and max(len(block), _size(headers)) <= _MAX_KNOWN_BLOCK_BYTES:
            self._known_blocks.keep(block, headers, len(block) + _size(headers))
        return headers

    def _decode(self, block: bytes) -> Fields:
        if len(block) > self.limits.header_bytes:
            raise _Broken(frames.ENHANCE_YOUR_CALM, "a header block is too large")
        try:
            fields = self._decoder.decode(block, raw=True)
        except OversizedHeaderListError:
            raise _Broken(frames.ENHANCE_YOUR_CALM, "a header list is too large") from None
        except HPACKError:
            raise _Broken(frames.COMPRESSION_ERROR, "a header block can't be read") from None
        if self._settings_acknowledged:
            self._stands_alone = True  # The decoder accepted the block, so the table size was updated.
        return fields

    def _unpadded(self, payload: bytes) -> bytes:
        if not payload:
            raise _Broken(frames.FRAME_SIZE_ERROR, "a padded frame tells how much it is padded")
        if payload[0] >= len(payload):
            raise _Broken(frames.PROTOCOL_ERROR, "more padding than payload")
        return payload[1 : len(payload) - payload[0]]

    # -- The connection -------------------------------------------------------------------------------------------------

    def _on_settings(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        if stream:
            raise _Broken(frames.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            self._on_settings_ack(payload)
            return
        if len(payload) % 6:
            raise _Broken(frames.FRAME_SIZE_ERROR, "a setting has six bytes")
        self._owe()
        self._settings_seen = True
        initial_window = self._initial_send_window
        for setting, value in frames.read_settings(payload):
            if setting == frames.INITIAL_WINDOW_SIZE:
                if value > frames.MAX_WINDOW:
                    raise _Broken(frames.FLOW_CONTROL_ERROR, "a window is too large")
                initial_window = value
            elif setting == frames.MAX_FRAME_SIZE:
                if not frames.SMALLEST_MAX_FRAME <= value <= frames.LARGEST_MAX_FRAME:
                    raise _Broken(frames.PROTOCOL_ERROR, "a frame size that may not be")
                self._max_frame = value
            elif setting == frames.HEADER_TABLE_SIZE and value < _DEFAULT_TABLE and not self._table_gone:
                # We never use a dynamic table, but have to acknowledge a smaller one (RFC 7541, section 4.2).
                self._table_update, self._table_gone = _NO_TABLE, True
            elif setting == frames.ENABLE_PUSH and value > 1:
                raise _Broken(frames.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        # Before everything that depends on it: the peer applies its old settings until it reads this.
        self._out.append(frames.SETTINGS_ACK)
        if initial_window != self._initial_send_window:
            self._move_windows(initial_window, events)

    def _on_settings_ack(self, payload: bytes) -> None:
        if payload:
            raise _Broken(frames.FRAME_SIZE_ERROR, "an acknowledgement is empty")
        if self._settings_acknowledged:
            raise _Broken(frames.PROTOCOL_ERROR, "settings were acknowledged twice")
        self._settings_acknowledged = True
        # From now on the peer's blocks use the table size that we requested: none.
        self._decoder.max_allowed_table_size = 0

    def _move_windows(self, initial: int, events: list[Event]) -> None:
        """Adjust the windows of all streams to a new initial window (section 6.9.2)."""
        self._owe(len(self._streams) / _STREAMS_PER_DEBT)
        change = initial - self._initial_send_window
        self._initial_send_window = initial
        for stream in self._streams.values():
            stream.send_window += change
            if stream.send_window > frames.MAX_WINDOW:
                raise _Broken(frames.FLOW_CONTROL_ERROR, "a window is too large")
            if stream.pending:
                self._blocked[stream.id] = stream
        self._unblock(events)

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise _Broken(frames.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise _Broken(frames.FRAME_SIZE_ERROR, "PING has eight bytes")
        self._owe()
        if not flags & frames.ACK:
            self._out.append(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif self._draining and payload == _LAST_CALL:
            self.go_away()

    def _on_goaway(self, stream: int, payload: bytes) -> None:
        if stream:
            raise _Broken(frames.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise _Broken(frames.FRAME_SIZE_ERROR, "GOAWAY is too short")
        self._owe()  # The client opens no more streams; the open ones continue.

    def _owe(self, debt: float = 1.0) -> None:
        now = self._clock()
        self._debts = max(self._debts - (now - self._debts_at) * FORGIVEN_PER_SECOND, 0.0) + debt
        self._debts_at = now
        if self._debts > self.limits.debts:
            raise _Broken(frames.ENHANCE_YOUR_CALM, "too many frames that do nothing")

    def _fail(self, code: int, why: str, events: list[Event]) -> None:
        self._over = True
        events.extend(StreamReset(id, code) for id in self._streams)
        self._streams.clear()
        self._used_up.clear()
        self._blocked.clear()
        self._in, self._rest = b"", 0
        self._block = []
        events.append(ConnectionEnded(code, why))
        self._out.append(frames.goaway(self._last_stream, code, why.encode()))

    # -- Flow control ---------------------------------------------------------------------------------------------------

    def hold(self, id: int, size: int) -> None:
        """Received data is processed later. Until :meth:`consumed` its share of the windows is not reused."""
        self._held += size
        if (stream := self._streams.get(id)) is not None:
            stream.held += size

    def consumed(self, id: int, size: int) -> None:
        """Data that was held was processed."""
        self._held -= size
        if (stream := self._streams.get(id)) is not None:
            stream.held -= size

    def _use(self, stream: _Stream, size: int) -> None:
        """Data takes its share of the windows."""
        self._receive_window -= size
        stream.receive_window -= size
        if stream.receive_window <= self._low_stream:
            self._used_up[stream.id] = stream

    def _replenish(self) -> None:
        """Update windows of which half was used by what was processed."""
        read = self.limits.connection_window - self._receive_window - self._held
        if read >= self._replenish_connection:
            self._receive_window += read
            self._out.append(frames.window_update(0, read))
        for id, stream in list(self._used_up.items()):
            if id not in self._streams or stream.ended_by_client:
                del self._used_up[id]
            elif (read := self.limits.stream_window - stream.receive_window - stream.held) >= self._replenish_stream:
                del self._used_up[id]
                stream.receive_window += read
                self._out.append(frames.window_update(id, read))

    def _on_window_update(self, id: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 4:
            raise _Broken(frames.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four bytes")
        increment = frames.read_word(payload, 0)[0] & frames.STREAM_ID
        if id == 0:
            if increment == 0:
                raise _Broken(frames.PROTOCOL_ERROR, "a window is opened by nothing")
            self._send_window += increment
            if self._send_window > frames.MAX_WINDOW:
                raise _Broken(frames.FLOW_CONTROL_ERROR, "the connection's window is too large")
            self._unblock(events)
            return
        self._not_idle(id)
        stream = self._streams.get(id)
        if stream is None:
            return
        if increment == 0:
            raise _BrokenStream(id, frames.PROTOCOL_ERROR)
        stream.send_window += increment
        if stream.send_window > frames.MAX_WINDOW:
            raise _BrokenStream(id, frames.FLOW_CONTROL_ERROR)
        if stream.pending:
            self._send_pending(stream, events)

    def _unblock(self, events: list[Event]) -> None:
        """Use up the connection's window. Streams with remaining data move to the end of the queue, for fairness."""
        while self._blocked and self._send_window > 0:
            self._send_pending(self._blocked.pop(next(iter(self._blocked))), events)

    # -- What we send ---------------------------------------------------------------------------------------------------

    def send_headers(self, id: int, block: bytes) -> None:
        """Begin the response on a stream with a header block (HPACK, without references to the dynamic table)."""
        if id in self._streams:
            self._debts -= 1
            if self._table_update:
                block = self._with_table_update(block)
            self._out += (frames.header(len(block), _HEADERS, _END_HEADERS, id), block)

    def begin(self, id: int, block: bytes, data: bytes, rest: bytes = b"") -> None:
        """:meth:`send_headers` and :meth:`send_data` in one step: most responses are both, and no more. The rest of the data,
        if there is one, goes into the same frame without being copied."""
        stream, size = self._streams.get(id), len(data) + len(rest)
        if stream is None:
            return
        if self._table_update or size > self._max_frame or size > stream.send_window or size > self._send_window:
            self.send_headers(id, block)
            self.send_data(id, data)
            if rest:
                self.send_data(id, rest)
            return
        self._debts -= 1
        stream.send_window -= size
        self._send_window -= size
        self._out += (
            _start(len(block) << 8 | _HEADERS, _END_HEADERS, id), block, _start(size << 8 | _DATA, 0, id), data,
        )  # fmt: skip
        if rest:
            self._out.append(rest)

    def send_data(self, id: int, data: bytes) -> None:
        """Send data when the peer's windows allow."""
        stream = self._streams.get(id)
        if stream is None:
            return
        size = len(data)
        if not stream.pending and size <= stream.send_window and size <= self._send_window and size <= self._max_frame:
            stream.send_window -= size
            self._send_window -= size
            self._out += (_start(size << 8 | _DATA, 0, id), data)
            return
        waits = bool(stream.pending)
        if stream.pending is None:
            stream.pending = deque()
        stream.pending.append(memoryview(data))
        stream.pending_bytes += size
        if not waits:
            self._send_pending(stream)

    def end_stream(self, id: int, block: bytes) -> None:
        """Send trailers after all data, which ends our side of the stream."""
        stream = self._streams.get(id)
        if stream is None:
            return
        stream.trailers = block
        if not stream.pending:
            self._finish(stream)

    def reset_stream(self, id: int, code: int) -> None:
        """Reset a stream."""
        stream = self._streams.get(id)
        if stream is not None:
            self._close(stream)
            self._forget(id)
            self._out.append(frames.rst_stream(id, code))

    def drain(self) -> None:
        """Ask the client to open no more streams. Those that it opened before it heard of that are accepted: none is
        refused, and none has to be sent again. :meth:`go_away` follows once it has heard (RFC 9113 section 6.8)."""
        if not self._draining and not self._going_away and not self._over:
            self._draining = True
            self._out.append(frames.goaway(frames.STREAM_ID, frames.NO_ERROR))
            self._out.append(frames.frame(frames.PING, 0, 0, _LAST_CALL))

    def go_away(self) -> None:
        """Accept no more streams; open ones continue."""
        if not self._going_away and not self._over:
            self._going_away = True
            self._out.append(frames.goaway(self._last_stream, frames.NO_ERROR))

    def _send_pending(self, stream: _Stream, events: list[Event] | None = None) -> None:
        while pending := stream.pending:
            data = pending[0]
            room = min(stream.send_window, self._send_window)
            if room <= 0 and data:
                if stream.send_window > 0:
                    self._blocked[stream.id] = stream
                return
            size = min(len(data), room, self._max_frame)
            stream.send_window -= size
            self._send_window -= size
            stream.pending_bytes -= size
            self._out += (frames.header(size, frames.DATA, 0, stream.id), data[:size])
            if size == len(data):
                pending.popleft()
            else:
                pending[0] = data[size:]
        if events is not None:
            events.append(StreamDrained(stream.id))
        if stream.trailers is not None:
            self._finish(stream)

    def _with_table_update(self, block: bytes) -> bytes:
        update, self._table_update = self._table_update, b""
        return update + block

    def _finish(self, stream: _Stream) -> None:
        assert stream.trailers is not None
        flags = frames.END_HEADERS | frames.END_STREAM
        self._debts -= 1
        block = self._with_table_update(stream.trailers) if self._table_update else stream.trailers
        self._out.append(frames.frame(frames.HEADERS, flags, stream.id, block))
        self._close(stream)
        if stream.ended_by_client:
            return
        # The response is complete; further data from the client is not needed (section 8.1).
        self._forget(stream.id)
        self._out.append(frames.rst_stream(stream.id, frames.NO_ERROR))


_REQUEST_PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path"})
_OF_HTTP_1: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_NAME: Final = re.compile(rb"[\x21-\x39\x3b-\x40\x5b-\x7e]+")
_VALUE: Final = re.compile(rb"(?![ \t])[^\0\r\n]*(?<![ \t])")


def _headers(fields: Fields) -> Headers | None:
    """A request's headers by name, or ``None`` if they are malformed (RFC 9113, sections 8.2 and 8.3)."""
    found: dict[str, str] = {}
    regular = False
    for name, value in fields:
        if name[:1] == b":":
            if regular or name not in _REQUEST_PSEUDO or name.decode() in found or not _VALUE.fullmatch(value):
                return None
        else:
            regular = True
            if not _is_regular(name, value):
                return None
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    if not {":method", ":scheme", ":path"} <= found.keys() or not found[":path"]:
        return None
    return MappingProxyType(found)


def _is_regular(name: bytes, value: bytes) -> bool:
    """Whether a field is allowed in a request after the pseudo-headers, or in trailers."""
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or name in _OF_HTTP_1:
        return False
    return name != b"te" or value == b"trailers"


def _size(headers: Headers) -> int:
    return sum(len(name) + len(value) for name, value in headers.items())
