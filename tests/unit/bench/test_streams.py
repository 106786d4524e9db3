"""From memory and CPU to figures per stream; and the upstream's streams without a network."""

from __future__ import annotations

import io
from dataclasses import replace

import orjson
import pytest
from rich.console import Console

from bench.http1 import Message
from bench.report import print_streams, stream_rows
from bench.streams import Round, StreamOutcome
from bench.upstream import STREAM, Server

OUTCOME = StreamOutcome(
    streams=100,
    start={"worker": 1_000_000, "envoy": 2_000_000},
    before={"worker": 1_204_800, "envoy": 2_000_000},
    rounds=[
        Round(open={"worker": 7_348_800, "envoy": 12_240_000}, closed={"worker": 7_000_000, "envoy": 12_000_000}),
        Round(open={"worker": 9_900_000, "envoy": 12_900_000}, closed={"worker": 7_100_000, "envoy": 12_100_000}),
    ],
    idle_seconds=10.0,
    idle_cpu={"worker": 0.5, "envoy": 0.1},
    heartbeats=200,
)


def test_figures_per_stream() -> None:
    """Of the first round: later ones use memory again."""
    assert OUTCOME.bytes_per_session() == {"worker": 2048, "envoy": 0}
    assert OUTCOME.bytes_per_stream() == {"worker": 61_440, "envoy": 102_400}
    assert OUTCOME.idle_cpu_per_stream() == pytest.approx({"worker": 500e-6, "envoy": 100e-6})


def test_the_report_has_every_round() -> None:
    written = io.StringIO()
    print_streams(Console(file=written, width=130), [OUTCOME])
    text = written.getvalue()
    for figure in ("2.0 [", "60.0 [", "100.0 [", "500.0 [", "200 heartbeats", "7 [7, 7]", "10 [10, 10]", "13 [13, 13]"):
        assert figure in text


def test_the_spread_is_that_of_gateways() -> None:
    other = replace(OUTCOME, before={"worker": 1_307_200, "envoy": 2_000_000})
    assert stream_rows([OUTCOME, other])[0][:2] == ("worker", "2.5 [2.0, 3.0]")


def _request(method: bytes, path: bytes = b"/mcp", session: bytes = b"", body: bytes = b"") -> Message:
    return Message(b"%s %s HTTP/1.1\r\nmcp-session-id: %s" % (method, path, session), body)


def _session(server: Server) -> bytes:
    params = {"protocolVersion": "2025-11-25"}
    body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    head = _plain(server, _request(b"POST", body=body)).partition(b"mcp-session-id: ")[2]
    return head.partition(b"\r\n")[0]


def _plain(server: Server, request: Message) -> bytes:
    answer = server.answer(request)
    assert isinstance(answer, bytes)
    return answer


def test_only_sessions_get_streams() -> None:
    server = Server()
    assert _plain(server, _request(b"GET", session=b"bench-0")).startswith(b"HTTP/1.1 404 ")
    session, other = _session(server), _session(server)
    assert server.answer(_request(b"GET", session=session)) is STREAM
    assert _plain(server, _request(b"DELETE", session=session)).startswith(b"HTTP/1.1 204 ")
    assert _plain(server, _request(b"GET", session=session)).startswith(b"HTTP/1.1 404 ")
    # A session that ended does not free its name for the next one.
    assert _session(server) not in (session, other)
