"""The prototype that answers out of a table."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench import floor
from bench.steps import Steps
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import messages
from mcp_extproc.extproc.exchange import Processor
from mcp_extproc.telemetry.counters import Counters
from tests.support.fake_upstreams import FakeStreams, FakeUpstreams
from tests.support.rawclient import headers_message, request_fields
from tests.support.vetted import vetted_calls
from tests.unit.gateway.support import NOW, Rig, message


def processor(kind: type[Processor], rig: Rig) -> Processor:
    return kind(rig.gateway, FakeUpstreams(), FakeStreams(), vetted_calls(rig.gateway), Counters(), lambda: NOW)


def call(id: int, **arguments: object) -> bytes:
    called = {"name": "a__x", "arguments": {"text": str(id), **arguments}}
    body = message("tools/call", called, id=id).replace(b": ", b":")
    return pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=True)).SerializeToString()


def answers(processor: Processor, head: bytes, body: bytes) -> list[bytes]:
    exchange = processor.exchange()
    found = [exchange.receive(raw) for raw in (head, body)]
    assert exchange.decided
    exchange.closed()
    return [answer for each in found if isinstance(each, list) for answer in each]


def test_calls_like_another_get_the_answer_that_they_would_get(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(floor, "_STEPS_FILE", str(tmp_path / "steps"))
    rig = Rig()
    head = headers_message(request_fields(mcp_session_id=rig.token, mcp_protocol_version="2025-11-25"))
    raw = head.SerializeToString()
    prototype, real = processor(floor.Floor, rig), processor(Processor, rig)
    for id in (100_000_001, 100_000_002, 100_000_003):
        assert answers(prototype, raw, call(id)) == answers(real, raw, call(id))
        assert answers(prototype, raw, call(id, events=100)) == answers(real, raw, call(id, events=100))
    assert prototype.counters.value("mcp.forwarded", server="a") > 100, "the first one was measured, repeatedly"
    steps, *_ = [msgspec.json.decode(line, type=Steps) for line in (tmp_path / "steps").read_bytes().splitlines()]
    assert steps.reading > 0
    assert steps.relaying == 0


def test_a_response_passes_unread() -> None:
    rig = Rig()
    head = headers_message(request_fields(mcp_session_id=rig.token, mcp_protocol_version="2025-11-25"))
    head.protocol_config.response_body_mode = pb.ProcessingMode.STREAMED
    raw, prototype = head.SerializeToString(), processor(floor.Floor, rig)
    answers(prototype, raw, call(100_000_001))
    exchange = prototype.exchange()
    exchange.receive(raw)
    exchange.receive(call(100_000_002))
    response = pb.ProcessingRequest(response_headers=pb.HttpHeaders()).SerializeToString()
    piece = pb.ProcessingRequest(response_body=pb.HttpBody(body=b"data: no JSON\n\n")).SerializeToString()
    assert exchange.receive(response) == [messages.READ_RESPONSE_BODY]
    assert exchange.receive(piece) == [messages.GO_ON["response_body"]]


def test_calls_of_another_size_get_another_answer() -> None:
    rig = Rig()
    head = headers_message(request_fields(mcp_session_id=rig.token, mcp_protocol_version="2025-11-25"))
    raw = head.SerializeToString()
    prototype, real = processor(floor.Floor, rig), processor(Processor, rig)
    for id in (100_000_001, 100_000_002):
        for content in ("", "x" * 65_536):
            assert answers(prototype, raw, call(id, content=content)) == answers(real, raw, call(id, content=content))
    assert prototype.counters.value("mcp.forwarded", server="a") == 2, "one of each size was decided"
