"""Whole conversations with hyper-h2, whose state machine raises when the other side breaks a rule."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
from tests.unit.extproc.http2.peer import REQUEST

LIMITS = Limits(streams=6, stream_window=70_000, connection_window=150_000, debts=1_000_000)

_CONTENT = bytes(range(251)) * 1000


def content(start: int, size: int) -> bytes:
    """What is at a place of a body: lost, doubled and swapped bytes all show."""
    return _CONTENT[start % 251 : start % 251 + size]


@dataclass
class Side:
    """One direction of a stream."""

    sent: int = 0
    got: bytearray = field(default_factory=bytearray)
    end_sent: bool = False
    end_seen: bool = False


@dataclass
class Stream:
    """A stream, as the test knows it."""

    up: Side = field(default_factory=Side)
    down: Side = field(default_factory=Side)
    begun: bool = False
    opened: bool = False
    reset: bool = False
    """Given up by either side, for another reason than that the answer is complete."""
    told_to_stop: bool = False
    waiting: deque[int] = field(default_factory=deque)
    """Sizes that the server has not dealt with."""
    drained: int = 0


class Pair:
    """The two sides and the wire between them."""

    def __init__(self, window: int = frames.DEFAULT_WINDOW, frame_bytes: int = frames.SMALLEST_MAX_FRAME) -> None:
        self.server = Connection(LIMITS)
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        codes = h2.settings.SettingCodes
        self.client.local_settings = h2.settings.Settings(
            client=True, initial_values={codes.INITIAL_WINDOW_SIZE: window, codes.MAX_FRAME_SIZE: frame_bytes}
        )
        # hyper-h2 looks at its frame size once in a while only, and one acknowledgement ends all settings that wait
        # for theirs. So the size is fixed, and there is never more than one that waits.
        self.client.max_inbound_frame_size = frame_bytes
        self.client.initiate_connection()
        self.settled = False
        self.up = b""
        self.down = b""
        self.streams: dict[int, Stream] = {}

    def carry(self) -> None:
        """Put on the wire what the sides have to say."""
        self.up += self.client.data_to_send()
        self.down += self.server.take()

    def to_server(self, size: int) -> None:
        """Let some of the wire arrive."""
        self.carry()
        arrived, self.up = self.up[:size], self.up[size:]
        for event in self.server.receive(arrived):
            assert not isinstance(event, ConnectionEnded), event.why
            stream = self.streams[event.stream]
            if isinstance(event, RequestReceived):
                assert dict(event.headers) == dict(REQUEST)
                stream.opened = True
            elif isinstance(event, DataReceived):
                stream.up.got += event.data
                stream.waiting.append(event.size)
                self.server.hold(event.stream, event.size)
            elif isinstance(event, StreamEnded):
                stream.up.end_seen = True
            elif isinstance(event, StreamReset):
                assert stream.reset
            else:
                assert isinstance(event, StreamDrained)
                assert self.server.pending(event.stream) == 0
                stream.drained += 1
        self.carry()

    def to_client(self, size: int) -> None:
        """The other way."""
        self.carry()
        arrived, self.down = self.down[:size], self.down[size:]
        for event in self.client.receive_data(arrived):
            self._on_client_event(event)
        self.carry()

    def _on_client_event(self, event: h2.events.Event) -> None:
        assert not isinstance(event, h2.events.ConnectionTerminated)
        if isinstance(event, h2.events.DataReceived):
            self.streams[event.stream_id].down.got += event.data
        elif isinstance(event, h2.events.SettingsAcknowledged):
            self.settled = True
        elif isinstance(event, h2.events.StreamEnded):
            self.streams[event.stream_id].down.end_seen = True
        elif isinstance(event, h2.events.StreamReset):
            stream = self.streams[event.stream_id]
            assert event.error_code in (frames.NO_ERROR, frames.CANCEL)
            stream.told_to_stop = True
            if event.error_code == frames.CANCEL:
                stream.reset = True
            else:
                assert stream.down.end_seen
        elif isinstance(event, h2.events.TrailersReceived):
            assert ("grpc-status", "0") in [(str(name), str(value)) for name, value in event.headers]

    def may_send(self, number: int) -> bool:
        """Whether the client can say more on a stream."""
        stream = self.streams[number]
        return not (stream.up.end_sent or stream.reset or stream.told_to_stop)

    def may_answer(self, number: int) -> bool:
        """Whether the server can."""
        stream = self.streams[number]
        return stream.begun and not stream.down.end_sent and self.server.is_open(number)


class Conversation(RuleBasedStateMachine):
    """Both sides do whatever they may, in any order, and the wire cuts wherever it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.next = 1

    def pick(self, numbers: Iterator[int], choice: int) -> int | None:
        found = list(numbers)
        return found[choice % len(found)] if found else None

    @initialize(
        window=st.sampled_from([0, 1, 100, 65_535, 1_000_000]), frame_bytes=st.sampled_from([16_384, 16_385, 50_000])
    )
    def start(self, window: int, frame_bytes: int) -> None:
        self.pair = Pair(window, frame_bytes)

    @precondition(lambda self: self.pair.client.open_outbound_streams < LIMITS.streams and self.next < 60)
    @rule(end=st.booleans())
    def open(self, end: bool) -> None:
        self.pair.streams[self.next] = stream = Stream()
        self.pair.client.send_headers(self.next, REQUEST, end_stream=end)
        stream.up.end_sent = end
        self.next += 2

    @rule(
        choice=st.integers(0, 9),
        size=st.sampled_from([0, 1, 5, 1000, 16_384]),
        end=st.booleans(),
        pad=st.sampled_from([None, 0, 9]),
    )
    def speak(self, choice: int, size: int, end: bool, pad: int | None) -> None:
        pair = self.pair
        number = self.pick((number for number in pair.streams if pair.may_send(number)), choice)
        if number is None:
            return
        up = pair.streams[number].up
        extra = 0 if pad is None else pad + 1
        size = min(
            size, pair.client.local_flow_control_window(number) - extra, pair.client.max_outbound_frame_size - extra
        )
        if size < 0:
            return
        pair.client.send_data(number, content(up.sent, size), end_stream=end, pad_length=pad)
        up.sent += size
        up.end_sent = end

    @rule(choice=st.integers(0, 9), trailers=st.booleans())
    def hang_up(self, choice: int, trailers: bool) -> None:
        pair = self.pair
        number = self.pick((number for number in pair.streams if pair.may_send(number)), choice)
        if number is None:
            return
        if trailers:
            pair.client.send_headers(number, [("x-trailer", "y")], end_stream=True)
            pair.streams[number].up.end_sent = True
        else:
            pair.client.reset_stream(number, frames.CANCEL)
            pair.streams[number].reset = True

    @rule(choice=st.integers(0, 9), size=st.sampled_from([1, 5, 1000, 16_384, 16_385, 100_000]))
    def answer(self, choice: int, size: int) -> None:
        pair = self.pair
        numbers = (n for n, s in pair.streams.items() if s.opened and not s.down.end_sent and pair.server.is_open(n))
        number = self.pick(numbers, choice)
        if number is None:
            return
        stream = pair.streams[number]
        if not stream.begun:
            stream.begun = True
            pair.server.send_headers(number, grpc.HEAD)
        pair.server.send_data(number, content(stream.down.sent, size))
        stream.down.sent += size

    @rule(choice=st.integers(0, 9))
    def finish(self, choice: int) -> None:
        pair = self.pair
        number = self.pick((number for number in pair.streams if pair.may_answer(number)), choice)
        if number is not None:
            pair.server.end_stream(number, grpc.TRAILERS_OK)
            pair.streams[number].down.end_sent = True

    @rule(choice=st.integers(0, 9))
    def give_up(self, choice: int) -> None:
        pair = self.pair
        number = self.pick((number for number in pair.streams if pair.may_answer(number)), choice)
        if number is not None:
            pair.server.reset_stream(number, frames.CANCEL)
            pair.streams[number].reset = True

    @rule(choice=st.integers(0, 9))
    def deal(self, choice: int) -> None:
        number = self.pick((number for number, stream in self.pair.streams.items() if stream.waiting), choice)
        if number is not None:
            self.pair.server.consumed(number, self.pair.streams[number].waiting.popleft())

    @rule(size=st.sampled_from([1, 8, 10, 100, 5000, 1_000_000]))
    def arrive_at_server(self, size: int) -> None:
        self.pair.to_server(size)

    @rule(size=st.sampled_from([1, 8, 10, 100, 5000, 1_000_000]))
    def arrive_at_client(self, size: int) -> None:
        self.pair.to_client(size)

    @rule(choice=st.integers(0, 9), size=st.sampled_from([1, 100, 20_000, 200_000]))
    def widen(self, choice: int, size: int) -> None:
        client = self.pair.client
        number = self.pick((n for n, s in self.pair.streams.items() if not s.down.end_seen and not s.reset), choice)
        if client.inbound_flow_control_window < 10_000_000:
            client.increment_flow_control_window(size)
        if number is not None and client.remote_flow_control_window(number) < 10_000_000:
            client.increment_flow_control_window(size, number)

    @precondition(lambda self: self.pair.settled)
    @rule(window=st.sampled_from([0, 1, 100, 65_535, 200_000]))
    def change_windows(self, window: int) -> None:
        self.pair.settled = False
        self.pair.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})

    @rule()
    def ping(self) -> None:
        self.pair.client.ping(b"pingpong")

    @invariant()
    def nothing_is_changed(self) -> None:
        for stream in self.pair.streams.values():
            for side in (stream.up, stream.down):
                assert len(side.got) <= side.sent
        assert len(self.pair.server._streams) <= LIMITS.streams

    def teardown(self) -> None:
        """Let everything arrive and end: what was sent is what was got."""
        pair = self.pair
        for _ in range(200):
            pair.carry()
            if not pair.up and not pair.down and not any(map(pair.server.pending, pair.streams)):
                break
            pair.to_server(1 << 30)
            for number, stream in pair.streams.items():
                while stream.waiting:
                    pair.server.consumed(number, stream.waiting.popleft())
            pair.to_client(1 << 30)
            self._widen_all()
        for number, stream in pair.streams.items():
            for side in (stream.up, stream.down):
                expected = content(0, 0) + b"".join(content(at, 251) for at in range(0, side.sent, 251))
                assert side.got == expected[: len(side.got)]
            if not stream.reset:
                assert len(stream.down.got) == stream.down.sent
                assert stream.down.end_seen == stream.down.end_sent
                if not stream.told_to_stop and not stream.down.end_sent:
                    assert len(stream.up.got) == stream.up.sent
                    assert stream.up.end_seen == stream.up.end_sent
            assert pair.server.pending(number) == 0

    def _widen_all(self) -> None:
        pair = self.pair
        if pair.client.inbound_flow_control_window < 1_000_000:
            pair.client.increment_flow_control_window(1_000_000)
        for number, stream in pair.streams.items():
            if stream.down.end_seen or stream.reset or stream.told_to_stop:
                continue
            if pair.server.pending(number):
                pair.client.increment_flow_control_window(1_000_000, number)


# pytest takes the class apart by itself.
TestConversation = Conversation.TestCase
TestConversation.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    phases=(Phase.explicit, Phase.generate, Phase.target, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.parametrize("size", [0, 1, 16_384, 100_000])
def test_a_thousand_calls_in_a_row(size: int) -> None:
    pair = Pair()
    body = content(0, size)
    for number in range(1, 2001 if size < 100_000 else 201, 2):
        pair.streams[number] = stream = Stream()
        pair.client.send_headers(number, REQUEST)
        pair.to_server(1 << 30)
        at = 0
        while at < size:
            room = min(size - at, pair.client.local_flow_control_window(number), pair.client.max_outbound_frame_size)
            pair.client.send_data(number, body[at : at + room])
            at += room
            pair.to_server(1 << 30)
            while stream.waiting:
                pair.server.consumed(number, stream.waiting.popleft())
            pair.to_client(1 << 30)
        pair.client.end_stream(number)
        pair.to_server(1 << 30)
        assert bytes(stream.up.got) == body
        assert stream.up.end_seen
        pair.server.send_headers(number, grpc.HEAD)
        pair.server.send_data(number, body)
        pair.server.end_stream(number, grpc.TRAILERS_OK)
        while not stream.down.end_seen:
            before = len(stream.down.got)
            pair.to_client(1 << 30)
            if got := len(stream.down.got) - before:
                pair.client.increment_flow_control_window(got)
                if not stream.down.end_seen:
                    pair.client.increment_flow_control_window(got, number)
            pair.to_server(1 << 30)
        assert bytes(stream.down.got) == body
        assert not pair.server.is_open(number)
        del pair.streams[number]
