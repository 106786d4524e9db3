"""Calls whose spans are kept: all that is said of one has the same span."""

from __future__ import annotations

import json

from mcp_extproc.contract import RECORD_KEY, RESPONSE_NAMESPACE, TELEMETRY_NAMESPACE
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc.exchange import Processor
from mcp_extproc.extproc.recorder import Recorder
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.mcp.sessions import Sealer
from mcp_extproc.telemetry.counters import Counters
from mcp_extproc.telemetry.records import worker_note
from tests.extproc.rig import GITHUB, NOW, SECRET, call, configuration, seal
from tests.support.fake_upstreams import FakeStreams, FakeUpstreams
from tests.support.rawclient import body_message, headers_message, request_fields
from tests.support.vetted import vetted_calls


def test_the_response_belongs_to_the_span_of_its_own_call() -> None:
    """Of the first call, and of those that are forwarded like it."""
    config = configuration(telemetry={"traces": {"endpoint": "http://localhost:4317"}})
    gateway, recorder = Gateway(config, SECRET, SessionMemory()), Recorder(config, SECRET)
    processor = Processor(
        gateway, FakeUpstreams(), FakeStreams(), vetted_calls(gateway), Counters(), lambda: NOW, recorder
    )
    token = seal(Sealer(SECRET), upstreams={"github": GITHUB})
    head = headers_message(request_fields(mcp_session_id=token, mcp_protocol_version="2025-11-25"))
    traces = set()
    for number in range(3):
        exchange = processor.exchange()
        exchange.receive(head.SerializeToString())
        answers = exchange.receive(body_message(call(id=number)).SerializeToString())
        assert isinstance(answers, list)
        answer = pb.ProcessingResponse.FromString(*answers)
        told = {key: value.struct_value.fields for key, value in answer.dynamic_metadata.fields.items()}
        note = worker_note.read(told[TELEMETRY_NAMESPACE][RECORD_KEY].string_value)
        assert note is not None
        assert note.spans is not None
        assert json.loads(told[RESPONSE_NAMESPACE]["trace"].string_value) == [
            ["traceparent", note.spans.own.traceparent]
        ]
        common = answer.request_headers.response
        sent = {header.header.key: header.header.raw_value for header in common.header_mutation.set_headers}
        onward = note.spans.own.child(note.spans.onward).traceparent
        assert sent["traceparent"] == onward.encode()
        assert json.loads(common.body_mutation.body)["params"]["_meta"] == {"traceparent": onward}
        traces.add(note.spans.own.trace)
    assert len(traces) == 3
