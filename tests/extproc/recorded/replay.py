"""Envoy's part played again, from a recording: byte by byte to the lean transport, message by message to grpcio's."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, cast
from urllib.parse import unquote

import grpc
from h2.errors import ErrorCodes
from hpack import Decoder
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, RstStreamFrame

from mcp_extproc.address import UnixAddress
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import messages
from mcp_extproc.extproc.grpcio_transport import GrpcioServer
from mcp_extproc.extproc.http2.transport import Http2Server
from tests.extproc.recorded.recording import End, Gone, Key, Message, Open, Script, Step, frames_in
from tests.extproc.recorded.stage import Stage

_TURNS: Final = 5
"""Of the loop without a word from a worker: more than any work of a stage takes between two."""

_ROOM: Final = 1 << 28
"""Bytes."""

_AT_ONCE: Final = 64
"""Sessions at grpcio."""

_PATIENCE: Final = 100.0
"""Seconds that grpcio may take for everything. Only an answer that never comes takes them."""

Status = tuple[int, str]
"""gRPC's number, and the message."""


@dataclass(slots=True)
class Answers:
    """What an exchange was answered."""

    messages: list[bytes] = field(default_factory=list)
    status: Status | None = None
    """``None`` where Envoy left first."""

    @property
    def one_by_one(self) -> Answers:
        """The same for a head and pieces of a body that come one after the other. Where both are in one read, the lean
        transport may answer them with one message; then Envoy expects no answer to pieces behind them, and drops those."""
        for at, raw in enumerate(self.messages):
            answer = pb.ProcessingResponse.FromString(raw)
            common = answer.response_headers.response
            if common.status == common.CONTINUE_AND_REPLACE and common.body_mutation.body:
                piece = pb.ProcessingResponse(dynamic_metadata=answer.dynamic_metadata)
                piece.response_body.response.body_mutation.CopyFrom(common.body_mutation)
                behind = [piece.SerializeToString(deterministic=True), messages.NOTHING_MORE]
                return Answers([*self.messages[:at], messages.READ_RESPONSE_BODY, *behind], self.status)
        return self


@dataclass(
    slots=True, repr=False
)  # asyncio.run has what comes of its task repeated (CPython issue 96127): a second's work
class Played:
    """What came of a recording."""

    answers: dict[Key, Answers]
    outcome: dict[str, object]
    progress: dict[Key, list[int]] = field(default_factory=dict)
    """How many answers there were after each step; 0 for one that was followed by another one in the same read."""
    frames: Counter[str] = field(default_factory=Counter)
    """Of the lean transport."""
    writes: int = 0
    """Of the lean transport, too."""
    refused: set[Key] = field(default_factory=set)
    """What Envoy began on a connection whose worker had said GOAWAY meanwhile. It begins anew elsewhere."""
    over_early: set[Key] = field(default_factory=set)
    """What the worker ended before Envoy did, as nothing more of it had to be seen."""


def _nothing_yet(script: Script) -> Played:
    return Played({key: Answers() for steps in script.steps for key, _ in steps}, {})


# -- The lean transport -----------------------------------------------------------------------------------------------------


class _Wire(asyncio.Transport):
    """A connection's other end. It reads frames with hyperframe, and each header block with a decoder that knows no other."""

    def __init__(self, number: int, played: Played) -> None:
        super().__init__()
        self._number = number
        self._played = played
        self._in = bytearray()
        self._parts: dict[int, bytearray] = defaultdict(bytearray)
        self._known: dict[bytes, dict[str, str]] = {}
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self._closing
        self._played.writes += 1
        self._in += data
        for _, frame in frames_in(self._in):
            kind = type(frame).__name__.removesuffix("Frame")
            self._played.frames[f"{kind} ACK" if "ACK" in frame.flags else kind] += 1
            if isinstance(frame, DataFrame):
                self._on_data(frame)
            elif isinstance(frame, HeadersFrame):
                self._on_headers(frame)
            elif isinstance(frame, RstStreamFrame):
                self._on_reset(frame)
            elif isinstance(frame, GoAwayFrame):
                assert frame.error_code == ErrorCodes.NO_ERROR, frame

    def _on_data(self, frame: DataFrame) -> None:
        part = self._parts[frame.stream_id]
        part += frame.data
        while len(part) >= 5 and len(part) >= (end := 5 + int.from_bytes(part[1:5], "big")):
            assert not part[0]
            self._answers(frame.stream_id).messages.append(bytes(part[5:end]))
            del part[:end]

    def _on_reset(self, frame: RstStreamFrame) -> None:
        if frame.error_code == ErrorCodes.NO_ERROR:
            # The worker needs nothing more of an exchange that Envoy has not ended (RFC 9113, section 8.1).
            assert self._answers(frame.stream_id).status == (0, "")
            self._played.over_early.add(Key(self._number, frame.stream_id))
        else:
            assert frame.error_code == ErrorCodes.REFUSED_STREAM, frame
            self._played.refused.add(Key(self._number, frame.stream_id))

    def _on_headers(self, frame: HeadersFrame) -> None:
        assert "END_HEADERS" in frame.flags
        fields = self._known.get(frame.data)
        if fields is None:
            fields = self._known[frame.data] = {str(name): str(value) for name, value in Decoder().decode(frame.data)}
        if "END_STREAM" in frame.flags:
            assert not self._parts[frame.stream_id], "a message is cut short"
            status = int(fields["grpc-status"]), unquote(fields.get("grpc-message", ""))
            self._answers(frame.stream_id).status = status
        else:
            assert fields == {":status": "200", "content-type": "application/grpc"}

    def _answers(self, stream: int) -> Answers:
        return self._played.answers[Key(self._number, stream)]

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class _Player:
    """Feeds the lean transport: to each connection a server of its own, which may drain."""

    def __init__(self, script: Script) -> None:
        self.stage = Stage(script.recording)
        self.played = _nothing_yet(script)
        self._drains = sorted((read, connection) for connection, read in script.recording.drains.items())
        self._wires: dict[int, _Wire] = {}
        self._links: dict[int, asyncio.Protocol] = {}
        self._servers: dict[int, Http2Server] = {}
        self._draining: list[asyncio.Task[None]] = []

    def drains(self, read: int) -> bool:
        """Whether a worker said GOAWAY in front of a read."""
        return bool(self._drains) and self._drains[0][0] <= read

    async def drain(self) -> None:
        """Say so."""
        _, connection = self._drains.pop(0)
        self._draining.append(asyncio.get_running_loop().create_task(self._servers[connection].stop(_PATIENCE)))
        await self.settle()

    def feed(self, connection: int, data: bytes) -> None:
        """One read."""
        if not data:
            return
        if connection not in self._links:
            server = Http2Server(self.stage.processor, UnixAddress("/never"), self.stage.body_bytes)
            self._servers[connection] = server
            self._links[connection] = link = server.protocol()
            self._wires[connection] = wire = _Wire(connection, self.played)
            link.connection_made(wire)
            # Envoy made room for the answers that it got. Those here are longer, where it gave something up.
            cast("Any", link).connection._send_window += _ROOM
        if not self._wires[connection].is_closing():
            self._links[connection].data_received(data)

    def is_closed(self, connection: int) -> bool:
        """Whether the worker has closed a connection."""
        wire = self._wires.get(connection)
        return wire is not None and wire.is_closing()

    async def close(self, connection: int) -> None:
        """Envoy closes a connection."""
        self._links.pop(connection).connection_lost(None)
        await self.settle()

    async def settle(self) -> None:
        """Let work end, as far as it does not wait for a client."""
        quiet, seen = 0, self.played.writes
        while quiet < _TURNS:
            await asyncio.sleep(0)
            quiet, seen = (quiet + 1 if seen == self.played.writes else 0), self.played.writes

    async def finish(self) -> Played:
        """Close what Envoy left open."""
        for connection in list(self._links):
            await self.close(connection)
        await asyncio.gather(*self._draining)
        self.played.outcome = self.stage.outcome()
        return self.played


async def on_http2(script: Script) -> Played:
    """Read by read, as recorded."""
    player = _Player(script)
    for number, read in enumerate(script.recording.reads):
        while player.drains(number):
            await player.drain()
        if read.data:
            player.feed(read.connection, read.data)
            await player.settle()
        else:
            await player.close(read.connection)
    return await player.finish()


async def on_http2_patiently(script: Script) -> Played:
    """As recorded, but Envoy gives nothing up before all that it said was answered: then nothing depends on who is faster."""
    player = _Player(script)
    progress: dict[Key, list[int]] = defaultdict(list)
    parts = zip(script.recording.reads, script.resets, script.steps, strict=True)
    for number, (read, resets, steps) in enumerate(parts):
        while player.drains(number):
            await player.drain()
        if player.is_closed(read.connection):
            player.played.refused |= {key for key, step in steps if isinstance(step, Open)}
        start = 0
        for reset in resets:
            player.feed(read.connection, read.data[start:reset])
            await player.settle()
            start = reset
        if read.data:
            player.feed(read.connection, read.data[start:])
            await player.settle()
        else:
            await player.close(read.connection)
        last = {key: index for index, (key, _) in enumerate(steps)}
        for index, (key, _) in enumerate(steps):
            progress[key].append(len(player.played.answers[key].messages) if last[key] == index else 0)
    played = await player.finish()
    played.progress = dict(progress)
    return played


async def on_http2_cut_anew(script: Script, random: Random) -> Played:
    """As patiently, the bytes cut and joined anywhere else."""
    player = _Player(script)
    connection, waiting = 0, b""

    async def say() -> None:
        nonlocal waiting
        for piece in _pieces(waiting, random):
            player.feed(connection, piece)
        waiting = b""
        await player.settle()

    for number, (read, resets) in enumerate(zip(script.recording.reads, script.resets, strict=True)):
        while player.drains(number):
            await say()
            await player.drain()
        if read.connection != connection:
            await say()  # what one connection said before another did stays that way
            connection = read.connection
        start = 0
        for reset in resets:
            waiting += read.data[start:reset]
            start = reset
            await say()
        waiting += read.data[start:]
        if not read.data:
            await say()
            await player.close(connection)
    await say()
    return await player.finish()


def _pieces(data: bytes, random: Random) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        size = random.choice((1, 2, 9, 10, 100, 1000, 20_000))
        yield data[position : position + size]
        position += size


# -- grpcio -----------------------------------------------------------------------------------------------------------------


async def on_grpcio(script: Script, like: Played) -> Played:
    """The same messages, each once those before it in its session were answered as often as the other transport did.

    What Envoy gave up is half-closed here instead, to see that no more answers would have come.
    """
    stage = Stage(script.recording)
    played = _nothing_yet(script)
    with tempfile.TemporaryDirectory(prefix="mcp") as directory:
        address = UnixAddress(f"{directory}/s")
        server = GrpcioServer(stage.processor, address, stage.body_bytes)
        await server.start()
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        try:
            async with grpc.aio.insecure_channel(str(address), options=options) as channel:
                await _Client(channel, script, like, played).play()
        finally:
            await server.stop(0)
    played.outcome = stage.outcome()
    return played


class _Client:
    def __init__(self, channel: grpc.aio.Channel, script: Script, like: Played, played: Played) -> None:
        self._channel = channel
        self._script = script
        self._like = like
        self._progress = {key: iter(progress) for key, progress in like.progress.items()}
        self._played = played
        self._calls: dict[Key, Any] = {}
        self._half_closed: set[Key] = set()
        self._ended: set[Key] = set()
        """Half-closed by Envoy, too: only they have a status that it saw."""

    async def play(self) -> None:
        """Session by session, as only what is said in the same one can change an answer."""
        sessions: dict[str, list[Step]] = defaultdict(list)
        refused = self._like.refused
        for steps in self._script.steps:
            for key, step in steps:
                if key in refused:
                    continue
                sessions[self._script.sessions.get(key, str(key))].append((key, step))
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(steps: list[Step]) -> None:
            async with room:
                for key, step in steps:
                    await self._step(key, step)

        async with asyncio.timeout(_PATIENCE), asyncio.TaskGroup() as group:
            for steps in sessions.values():
                group.create_task(one(steps))

    async def _step(self, key: Key, step: Open | Message | End | Gone) -> None:
        expected = next(self._progress[key])
        if isinstance(step, Open):
            self._calls[key] = self._channel.stream_stream(step.path)(metadata=step.metadata)
            return
        call, answers = self._calls[key], self._played.answers[key]
        if isinstance(step, Message):
            if not (key in self._like.over_early and _is_unread(step.payload)):
                await call.write(step.payload)
        elif key not in self._half_closed:
            self._half_closed.add(key)
            if isinstance(step, End) or key in self._like.over_early:
                self._ended.add(key)
            with contextlib.suppress(asyncio.InvalidStateError):  # the worker was first
                await call.done_writing()
        while len(answers.messages) < expected:
            answer = await call.read()
            assert answer is not grpc.aio.EOF, f"grpcio answers less to {key}"
            answers.messages.append(answer)
        if not isinstance(step, Message) and answers.status is None and not _goes_on(answers):
            # Whatever the other transport did: here is the end, and nothing may come before it.
            status = await self._rest(call, answers)
            if key in self._ended:
                answers.status = status
        if isinstance(step, Gone):
            call.cancel()

    async def _rest(self, call: Any, answers: Answers) -> Status:
        with contextlib.suppress(grpc.aio.AioRpcError):  # its word for any status but OK
            while (answer := await call.read()) is not grpc.aio.EOF:
                answers.messages.append(answer)
        return (await call.code()).value[0], await call.details()


def _is_unread(payload: bytes) -> bool:
    """Whether this may come once an exchange is over: Envoy does not wait for the answer to a response's head."""
    return pb.ProcessingRequest.FromString(payload).WhichOneof("request") in ("response_body", "response_trailers")


def _goes_on(answers: Answers) -> bool:
    """Whether an answer is a stream that has not ended."""
    if not answers.messages:
        return False
    last = pb.ProcessingResponse.FromString(answers.messages[-1])
    return last.HasField("streamed_immediate_response") and not (
        last.streamed_immediate_response.body_response.end_of_stream
    )
