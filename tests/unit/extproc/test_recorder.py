"""What a worker says in the record of a request."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import msgspec
import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import RECORD_KEY, SAMPLED_KEY, TELEMETRY_NAMESPACE
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc.recorder import Begun, Passed, Recorder
from mcp_extproc.gateway.decision import Forward, ForwardPlan
from mcp_extproc.gateway.effects import LearnNames, NoteExpiry
from mcp_extproc.gateway.facts import NOTHING, RequestFacts
from mcp_extproc.gateway.request import Headers, RequestHead
from mcp_extproc.mcp.trace_context import RequestSpans, SpanContext
from mcp_extproc.telemetry.records import worker_note
from mcp_extproc.telemetry.records.worker_note import Kind, More, Note, Who
from tests.unit.mcp.test_trace_context import MESSAGES
from tests.unit.upstreams.fake_client import Told

TRACE, PARENT, LINKED = "a" * 32, "b" * 16, "c" * 16
FIRST, SECOND, THIRD = f"{1:032x}", f"{2:016x}", f"{3:016x}"
"""Ids in the order in which they are made: of a trace, its span, and the one towards the server."""


def recorder(**sections: Any) -> Recorder:
    sections = sections or {"telemetry": {"traces": {"endpoint": "http://localhost:4317"}}}
    config = GatewayConfig.model_validate({"servers": {"a": {"url": "http://a.test/mcp"}}, **sections})
    numbers = count(1)
    return Recorder(
        config, "s" * 32, lambda size: "".join((f"{next(numbers):032x}", *(f"{next(numbers):016x}" for _ in "ab")))
    )


def head(**headers: str) -> RequestHead:
    return RequestHead("POST", "/mcp", {"host": "a", **headers})


def body(meta: Any = None, arguments: Any = None) -> bytes:
    params = {"name": "t", "arguments": arguments or {}} | ({} if meta is None else {"_meta": meta})
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


def forward(text: bytes) -> Forward:
    return Forward(ForwardPlan("a", (), (), NOTHING), text, (("content-length", str(len(text))), ("x-a", "b")))


def changed(passed: Passed) -> tuple[Headers, tuple[str, ...]]:
    """Headers that are set, and those that go."""
    found = pb.HeaderMutation.FromString(passed.headers)
    headers = tuple((each.header.key, each.header.raw_value.decode()) for each in found.set_headers)
    return headers, tuple(found.remove_headers)


def said(serialized: bytes) -> Note:
    """What is in the metadata of a record, and whether it is for Envoy what it is for the collector."""
    found = Struct.FromString(serialized).fields[TELEMETRY_NAMESPACE].struct_value.fields
    note = worker_note.read(found[RECORD_KEY].string_value)
    assert note is not None
    assert note.is_left_out == (SAMPLED_KEY in found and not found[SAMPLED_KEY].bool_value)
    return note


def traceparent(trace: str = TRACE, span: str = PARENT, flags: str = "01") -> str:
    return f"00-{trace}-{span}-{flags}"


def test_a_trace_begins_here() -> None:
    made = recorder()
    begun = made.begin(head(), body())
    assert begun.spans == RequestSpans(SpanContext(FIRST, SECOND, sampled=True), "", THIRD)
    assert begun.span == begun.spans.own, "for what is done for its sake"
    passed = made.passed(begun, forward(body()))
    assert changed(passed) == ((("traceparent", traceparent(FIRST, THIRD)),), ())
    assert json.loads(passed.decision.body) == json.loads(body({"traceparent": traceparent(FIRST, THIRD)}))
    assert passed.decision.own_headers == (("content-length", str(len(passed.decision.body))), ("x-a", "b"))
    assert said(made.metadata(NOTHING, begun)).spans == begun.spans


@given(
    text=MESSAGES,
    own=st.sampled_from([(), (("content-length", "1"),), (("x-a", "b"), ("content-length", "1"))]),
    state=st.booleans(),
    how=st.sampled_from(["none", "hash", "redacted"]),
    facts=st.builds(
        RequestFacts,
        session=st.sampled_from([None, "s"]),
        session_seconds=st.sampled_from([None, 1.5]),
        named=st.sampled_from([None, ("tool", "t")]),
        params=st.sampled_from([None, {"name": "t"}, {"uri": "u"}]),
    ),
    id=st.sampled_from([None, b"1", b'"a"']),
)
def test_what_is_made_of_a_trace_that_begins_here_is_as_of_any_other(
    text: bytes, own: Headers, state: bool, how: str, facts: RequestFacts, id: bytes | None
) -> None:
    traces = {"traces": {"endpoint": "http://localhost:4317"}}
    made = recorder(telemetry=traces, audit={"file": "a", "arguments": how})
    begun = made.begin(head(**({"tracestate": "a=1"} if state else {})), text)
    assert begun.ids or state or b'"_meta"' in text
    general = msgspec.structs.replace(begun, ids=b"", others=begun.spans)
    decision = Forward(ForwardPlan("a", (), (), facts), text, own, id)
    assert made.metadata(facts, begun, id) == made.metadata(facts, general, id)
    if begun.ids:
        assert begun.span is not None
        assert begun.traceparent.decode() == begun.span.traceparent
    one, other = made.passed(begun, decision), made.passed(general, decision)
    assert (one.decision.body, one.decision.own_headers) == (other.decision.body, other.decision.own_headers)
    assert one.headers == other.headers


def test_meta_is_the_parent() -> None:
    made = recorder()
    meta = {"traceparent": traceparent(), "tracestate": "v=1", "baggage": "k=v", "other": 1}
    begun = made.begin(head(traceparent=traceparent("d" * 32, LINKED), tracestate="v=2"), body(meta))
    assert begun.spans is not None
    assert (begun.spans.own.trace, begun.spans.parent) == (TRACE, PARENT)
    assert begun.spans.link == SpanContext("d" * 32, LINKED, sampled=True, state="v=2")
    passed = made.passed(begun, forward(body(meta)))
    headers, _ = changed(passed)
    assert [name for name, _ in headers] == ["traceparent", "tracestate", "baggage"]
    assert json.loads(passed.decision.body)["params"]["_meta"] == {**meta, "traceparent": headers[0][1]}
    spans = said(made.metadata(NOTHING, begun)).spans
    assert spans is not None
    assert (spans.own, spans.parent) == (begun.spans.own, PARENT)
    assert spans.link == SpanContext("d" * 32, LINKED, sampled=True), "a link's state is not told"


def test_a_state_that_is_not_of_the_trace_goes() -> None:
    made = recorder()
    begun = made.begin(head(tracestate="v=2"), body({"traceparent": traceparent()}))
    passed = made.passed(begun, forward(body()))
    headers, removed = changed(passed)
    assert [name for name, _ in headers] == ["traceparent"]
    assert removed == ("tracestate",)


@pytest.mark.parametrize("in_meta", [False, True])
def test_what_is_not_sampled_stays_as_it_is(in_meta: bool) -> None:
    """The parent that stands in ``_meta`` alone goes on in the header."""
    made = recorder()
    context = traceparent(flags="00")
    text = body({"traceparent": context} if in_meta else None)
    begun = made.begin(head(**({} if in_meta else {"traceparent": context})), text)
    passed = made.passed(begun, forward(text))
    assert passed.decision.body == text
    assert changed(passed) == (((("traceparent", context),) if in_meta else ()), ())
    assert begun.span is None
    note = said(made.metadata(NOTHING, begun))
    assert (note.spans, note.is_left_out) == (None, True)


@pytest.mark.parametrize(
    ("traces", "flags", "is_kept"),
    [
        ({}, "01", True),
        ({}, "00", False),
        ({"sample": 0}, "01", True),
        ({"sample": 0, "parent_based": False}, "01", False),
    ],
)
def test_a_request_that_envoy_sends_once_more(traces: dict[str, Any], flags: str, is_kept: bool) -> None:
    """It has the headers that it went on with, and nobody reads its body."""
    made = recorder(telemetry={"traces": {"endpoint": "http://localhost:4317", **traces}})
    before = head(traceparent=traceparent(flags=flags))
    assert made.again(before).span == (SpanContext(TRACE, PARENT, sampled=True) if is_kept else None)
    assert made.again(head()) == head()
    assert recorder(audit={"file": "a"}).again(before) is before


def test_messages_of_batches_come_one_by_one() -> None:
    request = head()
    assert recorder().begin(request, b" [" + body() + b"]") == Begun(request)


@pytest.mark.parametrize(
    "text", [b"{", b"5", b'{"params": 5, "traceparent": 1}', b'{"params": {"_meta": ["traceparent"]}}']
)
def test_what_is_no_request_has_a_span_too(text: bytes) -> None:
    made = recorder()
    begun = made.begin(head(), text)
    assert begun.spans is not None
    assert said(made.metadata(NOTHING, begun)).spans


@pytest.mark.parametrize(
    ("how", "start"), [("none", None), ("hash", "hmac-sha256:"), ("redacted", '{"password":"***"}')]
)
def test_arguments(how: str, start: str | None) -> None:
    made = recorder(audit={"file": "a", "arguments": how})
    text = body(arguments={"password": "hush"})
    begun = made.begin(head(), text)
    found = said(made.metadata(NOTHING, begun)).arguments
    assert found is None if start is None else str(found).startswith(start)
    assert (begun.spans, begun.head) == (None, head()), "nothing else is asked for"
    assert made.passed(begun, forward(text)).decision.body == text


def test_a_session_that_has_expired() -> None:
    told = Told()
    config = GatewayConfig.model_validate({"servers": {"a": {"url": "http://a.test/mcp"}}, "session": {"ttl": "1h"}})
    Recorder(config, "s" * 32, observer=told).apply(NoteExpiry("s", "2025-11-25"))
    assert told.expirations == [("s", "2025-11-25", 3600.0)]


def test_what_the_decision_knows() -> None:
    made = recorder(telemetry={"metrics": {"address": "127.0.0.1:0"}})
    made.apply(LearnNames("tools", [("a", "t")]))
    facts = RequestFacts(
        id=b'"7"', method="tools/call", session="s", protocol_version="v", principal="p", issuer="i", endpoint="e",
        server="a", named=("tool", "t"), rule="r", passed_on="more", params={"name": "a__t"},
    )  # fmt: skip
    kind = Kind("tools/call", "a", "t", None, "e", "v", True, "r", "more")
    assert said(made.metadata(facts, None)) == Note(kind, Who("s", "p", "i"), "7")
    assert said(made.metadata(RequestFacts(session_seconds=1.5), None)).more == More(session_seconds=1.5)
    assert said(made.metadata(RequestFacts(batch=3), None)).kind == Kind(batch=3)
    for other in (("tool", "u"), ("prompt", "t")):
        assert not said(made.metadata(RequestFacts(server="a", named=other), Begun(head()))).kind.is_listed
    assert not said(made.metadata(RequestFacts(server="b", named=("tool", "t")), None)).kind.is_listed
    assert made.metadata(NOTHING, None) == b""


@pytest.mark.parametrize("name", ["a\nb", "a\x1fb", "a\x1d", '"', "\u2028", "ü"])
def test_names_that_strangers_make_up(name: str) -> None:
    """Nothing in them ends a part, or a line."""
    made = recorder()
    facts = RequestFacts(id=json.dumps(name).encode(), method=name, params={"name": name, "uri": name}, principal=name)
    begun = made.begin(head(), body())
    note = said(serialized := made.metadata(facts, begun))
    assert (note.kind.method, note.id, note.who.principal, note.more.asked_for, note.more.uri) == (name,) * 5
    text = Struct.FromString(serialized).fields[TELEMETRY_NAMESPACE].struct_value.fields[RECORD_KEY].string_value
    assert text.count(worker_note.SEPARATOR) == worker_note.PARTS - 1
    assert not {"\n", "\x1d", "\x1e"} & set(text)


def test_a_name_without_end_is_cut() -> None:
    """Its record would be no line that is read."""
    made = recorder(telemetry={"metrics": {"address": "127.0.0.1:0"}})
    note = said(made.metadata(RequestFacts(server="a", named=("tool", "x" * 100_000)), None))
    assert note.kind.tool == "x" * worker_note.MAX_NAME_CHARACTERS


def test_what_is_noted_of_a_plan_is_kept_until_more_is_known() -> None:
    made = recorder(telemetry={"metrics": {"address": "127.0.0.1:0"}})
    facts = RequestFacts(method="tools/call", server="a", named=("tool", "t"))
    for id in (b"1", b"2"):
        note = said(made.metadata(facts, Begun(head()), id))
        assert (note.id, note.kind.is_listed) == (id.decode(), False)
    made.apply(LearnNames("tools", [("a", "t")]))
    assert said(made.metadata(facts, Begun(head()), b"3")).kind.is_listed
    assert said(made.metadata(facts.but(server="b"), Begun(head()), b"3")).kind.server == "b"


def test_random_ids_are_all_different() -> None:
    """Also where those that were made at once are used up, and in different workers."""
    traces = GatewayConfig.model_validate({
        "servers": {"a": {"url": "http://a.test/mcp"}}, "telemetry": {"traces": {"endpoint": "http://localhost:4317"}},
    })  # fmt: skip
    found = [
        begun.ids.decode() for one in (Recorder(traces, "s"), Recorder(traces, "s")) for begun in begun_by(one, 1000)
    ]
    assert len({id for each in found for id in (each[:32], each[32:48], each[48:])}) == 6000
    assert {len(each) for each in found} == {64}


def begun_by(recorder: Recorder, count: int) -> list[Begun]:
    return [recorder.begin(head(), body()) for _ in range(count)]
