"""Fuzz the HTTP/2 connection and the gRPC framing: ``python -m fuzz.http2 --seconds 600``.

Coverage-guided by atheris. No input may crash the connection, keep it busy, or make it hold more than its bounds; and
every frame that it says has to be a good one. Inputs that found something new are kept in ``fuzz/corpus`` with ``--keep``.
The corpus begins with recorded conversations (``--seed-corpus`` writes them anew).

An input is a number of reads: two bytes of length and as many of data, until it is used up.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import struct
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mcp_extproc.extproc.http2", "hpack"]):
    from mcp_extproc.extproc.http2 import frames, grpc
    from mcp_extproc.extproc.http2.connection import (
        Connection,
        ConnectionEnded,
        DataReceived,
        Limits,
        RequestReceived,
        StreamDrained,
        StreamEnded,
        StreamReset,
    )

CORPUS = Path(__file__).parent / "corpus"

MAX_MESSAGE = 1000
MAX_INPUT = 16_384

LIMITS = Limits(streams=4, header_bytes=2000, stream_window=65_535, connection_window=65_535, debts=200)

_CUT = struct.Struct(">H")


def reads(data: bytes) -> Iterator[bytes]:
    """The pieces in which an input arrives."""
    while len(data) > _CUT.size:
        size = _CUT.unpack_from(data)[0]
        yield data[_CUT.size : _CUT.size + size]
        data = data[_CUT.size + size :]


def joined(pieces: list[bytes]) -> bytes:
    """An input that arrives in these pieces."""
    return b"".join(_CUT.pack(len(piece)) + piece for piece in pieces)


class Server:
    """The simplest server there can be: it echoes messages, and checks at each step that all is well."""

    def __init__(self) -> None:
        self.connection = Connection(LIMITS, lambda: 0.0)
        self._messages: dict[int, grpc.Messages] = {}
        self._seen = 0
        self._waiting: deque[DataReceived] = deque()

    def read(self, data: bytes) -> None:
        """Deal with what one read brought."""
        for event in self.connection.receive(data):
            if isinstance(event, RequestReceived):
                self._on_request(event)
            elif isinstance(event, DataReceived):
                self._on_data(event)
            elif isinstance(event, StreamEnded):
                assert event.stream in self._messages or not self.connection.is_open(event.stream)
                self.connection.end_stream(event.stream, grpc.TRAILERS_OK)
            elif isinstance(event, StreamReset):
                del self._messages[event.stream]
                assert not self.connection.is_open(event.stream)
            elif isinstance(event, StreamDrained):
                assert self.connection.pending(event.stream) == 0
            else:
                assert isinstance(event, ConnectionEnded)
                assert self.connection.is_over
        self._check_answers(self.connection.take())
        self._check_bounds()

    def _on_request(self, event: RequestReceived) -> None:
        assert event.stream > self._seen, "streams are new once"
        assert event.headers[":method"]
        assert event.headers[":path"]
        self._seen = event.stream
        self._messages[event.stream] = grpc.Messages(MAX_MESSAGE)
        if timeout := event.headers.get("grpc-timeout"):
            with contextlib.suppress(ValueError):
                assert grpc.timeout(timeout) >= 0
        self.connection.send_headers(event.stream, grpc.HEAD)

    def _on_data(self, event: DataReceived) -> None:
        assert event.data
        assert event.size >= len(event.data)
        # What is dealt with late keeps windows shut for a while.
        self._waiting.append(event)
        if len(self._waiting) > 3:
            late = self._waiting.popleft()
            self.connection.consumed(late.stream, late.size)
        try:
            for message in self._messages[event.stream].feed(event.data):
                assert len(message) <= MAX_MESSAGE
                if message and self.connection.pending(event.stream) < MAX_MESSAGE:
                    self.connection.send_data(event.stream, grpc.message(message * (1 + message[0] % 32)))
        except grpc.GrpcError as error:
            self._messages[event.stream] = grpc.Messages(MAX_MESSAGE)
            self.connection.end_stream(event.stream, grpc.trailers(error.status, error.message))

    def _check_answers(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            upper, lower, kind, flags, stream = frames.read_header(data, position)
            size = upper << 8 | lower
            position += frames.HEADER_BYTES + size
            assert kind in (0, 1, 3, 4, 6, 7, 8), "we do not speak of other things"
            assert size <= max(self.connection._max_frame, frames.SMALLEST_MAX_FRAME)
            assert (stream != 0) == (kind in (frames.DATA, frames.HEADERS, frames.RST_STREAM)) or kind == 8
            assert kind != frames.WINDOW_UPDATE or size == 4
            assert flags in (0, frames.ACK, frames.END_HEADERS, frames.END_HEADERS | frames.END_STREAM)
            if kind == frames.HEADERS:
                assert stream <= self._seen, "answers are for those who asked"
        assert position == len(data)

    def _check_bounds(self) -> None:
        connection = self.connection
        assert len(connection._in) < frames.SMALLEST_MAX_FRAME + frames.HEADER_BYTES
        assert len(connection._streams) <= LIMITS.streams
        assert connection._block_bytes <= LIMITS.header_bytes or len(connection._block) <= 1
        assert len(connection._block) <= LIMITS.debts + 2
        assert len(connection._forgotten) <= 1024
        assert len(connection._known_blocks) <= 256
        assert connection._debts <= LIMITS.debts + 1
        assert connection._receive_window <= LIMITS.connection_window
        for stream in connection._streams.values():
            assert stream.receive_window <= LIMITS.stream_window
            assert stream.pending_bytes == sum(map(len, stream.pending or ())) <= 64 * MAX_MESSAGE
            assert stream.send_window <= frames.MAX_WINDOW
            waits = bool(stream.pending)
            assert not waits or min(stream.send_window, connection._send_window) <= 0, "could be sent"
            assert not (waits and stream.send_window > 0) or stream.id in connection._blocked, "would be forgotten"
        assert set(connection._blocked) <= set(connection._streams)
        if connection._over:
            assert not connection._streams
            assert not connection._in


def one_input(data: bytes) -> None:
    """Let a server hear all of an input, and the same input in one read."""
    pieces = list(reads(data))
    whole = Server()
    server = Server()
    for piece in pieces:
        server.read(piece)
    whole.read(b"".join(pieces))
    if all(len(piece) for piece in pieces) and not server.connection._over:
        assert whole.connection._last_stream == server.connection._last_stream


def conversations() -> dict[str, list[bytes]]:
    """What clients say: each piece is one read."""
    from hpack import Encoder

    request = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/envoy.service.ext_proc.v3.ExternalProcessor/Process"),
        (":authority", "extproc"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", "5S"),
    ]
    table = Encoder()
    first, second = table.encode(request), table.encode(request)
    table.header_table_size = 0
    alone = table.encode(request)
    hello = frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 100, frames.MAX_FRAME_SIZE: 20_000})
    ready = hello + frames.SETTINGS_ACK
    message = grpc.message(b"message" * 20)

    def headers(stream: int, block: bytes, flags: int = frames.END_HEADERS) -> bytes:
        return frames.frame(frames.HEADERS, flags, stream, block)

    def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
        return frames.frame(frames.DATA, flags, stream, payload)

    return {
        "call": [ready, headers(1, alone) + data(1, message), data(1, message), data(1, b"", 1)],
        "table": [
            hello, headers(1, first) + data(1, message, 1), headers(3, second, 5), frames.SETTINGS_ACK, headers(5, alone, 5),
        ],
        "pieces": [
            ready[:7], ready[7:], headers(1, alone)[:20], headers(1, alone)[20:] + data(1, message[:9]),
            data(1, message[9:] + message),
        ],
        "windows": [
            ready, headers(1, alone) + data(1, message * 3), frames.window_update(1, 50), frames.window_update(0, 5000),
            frames.settings({frames.INITIAL_WINDOW_SIZE: 0}), frames.settings({frames.INITIAL_WINDOW_SIZE: 50_000}),
        ],
        "continued": [
            ready + headers(1, alone[:9], 0) + frames.frame(frames.CONTINUATION, 0, 1, alone[9:30]),
            frames.frame(frames.CONTINUATION, 4, 1, alone[30:]), headers(1, b"\0\x01a\x01b", 5),
        ],
        "padded": [
            ready, headers(1, b"\x03" + bytes(5) + alone + bytes(3), 0x2C), data(1, b"\x05" + message + bytes(5), 8),
            data(1, b"\x02\0\0", 9),
        ],
        "resets": [ready, b"".join(headers(n, alone) + frames.rst_stream(n, 8) + data(n, b"x") for n in range(1, 60, 2))],
        "others": [
            ready, frames.frame(frames.PING, 0, 0, b"pingpong"), frames.frame(frames.PRIORITY, 0, 3, bytes(5)),
            frames.frame(0xAA, 1, 0, b"x"), frames.goaway(0, 0, b"bye"), frames.frame(frames.PING, 1, 0, bytes(8)),
        ],
        "refused": [ready, b"".join(headers(n, alone) for n in range(1, 15, 2)), data(13, message), data(1, b"\1" + message)],
        "too-large": [ready, headers(1, alone) + data(1, grpc.message(bytes(MAX_MESSAGE + 1)))],
        "long": [
            ready + headers(1, alone, 0), frames.frame(frames.CONTINUATION, 0, 1, b"\0\x01a\x7f\x80\x02" + bytes(383)) * 4,
            frames.frame(frames.CONTINUATION, 4, 1, b"\0\x01a\x01b"),
        ],
        "upset": [ready, headers(1, alone[:20]), b"GET / HTTP/1.1\r\n\r\n"],
    }  # fmt: skip


def main() -> None:
    """Fuzz for a time; exits with an error where something was found, and the input in a file."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.http2", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1 << 31))
    parser.add_argument("--keep", action="store_true", help="add inputs that reach something new to the corpus")
    parser.add_argument("--seed-corpus", action="store_true", help="write the recorded conversations, and stop")
    parser.add_argument("inputs", nargs="*", type=Path, help="only try these")
    arguments = parser.parse_args()
    if arguments.seed_corpus:
        for name, pieces in conversations().items():
            (CORPUS / name).write_bytes(joined(pieces))
        return
    if arguments.inputs:
        for path in arguments.inputs:
            one_input(path.read_bytes())
        return
    options = [
        f"-max_total_time={arguments.seconds}", f"-seed={arguments.seed}", f"-max_len={MAX_INPUT}", "-timeout=5",
        "-rss_limit_mb=1024", "-print_final_stats=1",
    ]  # fmt: skip
    if arguments.keep:
        options.append(str(CORPUS))  # what is new is written to the first folder
    else:
        options.append("-seed_inputs=" + ",".join(map(str, sorted(CORPUS.iterdir()))))
    atheris.Setup([sys.argv[0], *options], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
