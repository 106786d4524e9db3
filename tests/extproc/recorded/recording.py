"""What Envoy sent to a worker: the bytes as they were read, and what they say, exchange by exchange.

The frames are read with the libraries hyperframe and hpack, so that no mistake of the lean transport's is made here too.
"""

from __future__ import annotations

import lzma
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from hpack import Decoder
from hyperframe.frame import DataFrame, Frame, HeadersFrame, RstStreamFrame

from mcp_extproc.contract import RESPONSE_NAMESPACE
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.gateway.relay.identifiers import Identifiers
from mcp_extproc.mcp.sealing import TextSealer
from mcp_extproc.mcp.sessions import BadToken, Sealer

FILE: Final = Path(__file__).with_name("envoy.msgpack.xz")

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_DICTIONARY_BYTES: Final = 64 << 20
"""The same head comes again from anywhere in the recording."""


class Read(msgspec.Struct, array_like=True, frozen=True):
    """What one read from a connection brought."""

    connection: int
    data: bytes
    """Empty: Envoy closed the connection."""


class Recording(msgspec.Struct, frozen=True):
    """All that is needed to play Envoy's part again."""

    config: dict[str, Any]
    """The gateway's configuration."""
    secret: str
    """Sealed the sessions."""
    clock: float
    """Unix time in seconds at which the recording ended; no session had expired by then."""
    reads: list[Read]
    """In the order in which they happened."""
    drains: dict[int, int]
    """By connection, where its worker said GOAWAY: the read in front of which that was."""


class Key(NamedTuple):
    """Names an exchange."""

    connection: int
    stream: int


@dataclass(frozen=True, slots=True)
class Open:
    """An exchange begins."""

    path: str
    metadata: tuple[tuple[str, str], ...]
    """What Envoy says that it is about: gRPC's metadata with names of ours."""


@dataclass(frozen=True, slots=True)
class Message:
    """Envoy says something."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class End:
    """Envoy says no more."""


@dataclass(frozen=True, slots=True)
class Gone:
    """Envoy gave an exchange up, or closed its connection."""


Step = tuple[Key, Open | Message | End | Gone]


@dataclass(frozen=True, slots=True)
class Script:
    """A recording's bytes with what they say."""

    recording: Recording
    steps: list[list[Step]]
    """Of each read: what is complete with it."""
    resets: list[list[int]]
    """Of each read: where in it RST_STREAM frames begin."""
    sessions: dict[Key, str]
    """Short name of the client's session, or what stands for it where there is none."""
    frames: Counter[str]
    """How many of each kind."""
    kinds: Counter[str]
    """How many messages of each kind; HTTP methods and RPCs besides."""


def save(recording: Recording) -> None:
    """Write the file."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": _DICTIONARY_BYTES}]
    FILE.write_bytes(lzma.compress(msgspec.msgpack.encode(recording), filters=filters))


def load() -> Recording:
    """Read the file."""
    return msgspec.msgpack.decode(lzma.decompress(FILE.read_bytes()), type=Recording)


def script(recording: Recording) -> Script:
    """Read the frames."""
    made = Script(recording, [], [], {}, Counter(), Counter())
    connections: dict[int, _Connection] = {}
    sessions = _Sessions(recording.secret)
    for read in recording.reads:
        connection = connections.setdefault(read.connection, _Connection(read.connection, made, sessions))
        made.steps.append([])
        made.resets.append([])
        connection.read(read.data)
    return made


def frames_in(buffer: bytearray) -> Iterator[tuple[int, Frame]]:
    """The whole frames at the start of a buffer, each with the offset behind it. They are taken out of it at the end."""
    position = 0
    with memoryview(buffer) as view:
        while len(view) - position >= 9:
            frame, length = Frame.parse_frame_header(view[position : position + 9])
            end = position + 9 + length
            if end > len(view):
                break
            frame.parse_body(view[position + 9 : end])
            position = end
            yield position, frame
    del buffer[:position]


class _Sessions:
    """Tells by a token, and by the metadata of a response, whose it is."""

    def __init__(self, secret: str) -> None:
        self._sealer = Sealer(secret)
        self._identifiers = Identifiers(TextSealer(secret))

    def of_token(self, token: str) -> str:
        try:
            return self._sealer.open(token, audience="/mcp", principal="", now=0).id
        except BadToken:
            return token

    def of_response(self, told: str) -> str:
        return str(msgspec.msgpack.decode(self._identifiers.shown(told)[1:])[0])


@dataclass(slots=True)
class _Connection:
    number: int
    script: Script
    sessions: _Sessions
    buffer: bytearray = field(default_factory=bytearray)
    decoder: Decoder = field(default_factory=Decoder)
    heads: dict[bytes, Open] = field(default_factory=dict)
    """By header blocks that stand alone, which Envoy's do once it has read the worker's settings."""
    begun: bool = False
    open: dict[int, bytearray] = field(default_factory=dict)
    """Streams that Envoy has not given up, each with the message that is not complete yet."""

    def read(self, data: bytes) -> None:
        if not data:
            for stream in self.open:
                self._step(stream, Gone())
            self.open.clear()
            return
        self.buffer += data
        skipped = len(self.buffer) - len(data)
        if not self.begun:
            assert self.buffer.startswith(PREFACE), "the first read is too short"
            del self.buffer[: len(PREFACE)]
            skipped -= len(PREFACE)
            self.begun = True
        for end, frame in frames_in(self.buffer):
            kind = type(frame).__name__.removesuffix("Frame")
            self.script.frames[f"{kind} ACK" if "ACK" in frame.flags else kind] += 1
            if isinstance(frame, HeadersFrame):
                self._on_headers(frame)
            elif isinstance(frame, DataFrame):
                self._on_data(frame)
            elif isinstance(frame, RstStreamFrame):
                self.script.resets[-1].append(max(end - 9 - 4 - skipped, 0))
                if self.open.pop(frame.stream_id, None) is not None:
                    self._step(frame.stream_id, Gone())

    def _on_headers(self, frame: HeadersFrame) -> None:
        assert "END_HEADERS" in frame.flags
        head = self.heads.get(frame.data)
        if head is None:
            fields = {str(name): str(value) for name, value in self.decoder.decode(frame.data)}
            ours = ((name, value) for name, value in fields.items() if name.startswith("x-mcp-"))
            head = Open(fields[":path"], tuple(ours))
            if self.decoder.header_table_size == 0:
                self.heads[frame.data] = head
        self.script.kinds[head.path] += 1
        self.open[frame.stream_id] = bytearray()
        self._step(frame.stream_id, head)
        if "END_STREAM" in frame.flags:
            self._step(frame.stream_id, End())

    def _on_data(self, frame: DataFrame) -> None:
        waiting = self.open.get(frame.stream_id)
        if waiting is None:
            return
        waiting += frame.data
        while len(waiting) >= 5 and len(waiting) >= (end := 5 + int.from_bytes(waiting[1:5], "big")):
            assert not waiting[0], "a compressed message"
            self._on_message(frame.stream_id, bytes(waiting[5:end]))
            del waiting[:end]
        if "END_STREAM" in frame.flags:
            self._step(frame.stream_id, End())

    def _on_message(self, stream: int, payload: bytes) -> None:
        self._step(stream, Message(payload))
        key = Key(self.number, stream)
        request = pb.ProcessingRequest.FromString(payload)
        self.script.kinds[request.WhichOneof("request") or "other"] += 1
        if request.HasField("request_headers"):
            head = {field.key: field.raw_value.decode("latin-1") for field in request.request_headers.headers.headers}
            token = head.get("mcp-session-id")
            self.script.sessions[key] = f"none {key}" if token is None else self.sessions.of_token(token)
            self.script.kinds[head[":method"]] += 1
        elif request.HasField("response_headers") and RESPONSE_NAMESPACE in request.metadata_context.filter_metadata:
            told = request.metadata_context.filter_metadata[RESPONSE_NAMESPACE]
            self.script.sessions[key] = self.sessions.of_response(told.fields["of"].string_value)
        else:
            self.script.sessions.setdefault(key, f"none {key}")

    def _step(self, stream: int, step: Open | Message | End | Gone) -> None:
        self.script.steps[-1].append((Key(self.number, stream), step))
