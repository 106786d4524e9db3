"""The answer to a request that goes on to a server: parts of it are kept for the next one like it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format

from mcp_extproc.contract import NAMESPACE, ONWARD_NAMESPACE, RESPONSE_NAMESPACE, VETTING_NAMESPACE
from mcp_extproc.extproc import _pb as pb
from mcp_extproc.extproc import forwarding
from mcp_extproc.extproc.detail import FULL, Detail
from mcp_extproc.extproc.messages import EARLY, mutation_of
from mcp_extproc.gateway.decision import Forward, NeedSession
from mcp_extproc.gateway.request import RequestContext
from mcp_extproc.mcp.trace_context import SpanContext
from mcp_extproc.wire import field, struct_of
from tests.unit.gateway.support import NOW, Rig, config, upstream

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LATER = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"


def metadata(raw: bytes) -> dict[str, dict[str, Any]]:
    answer = pb.ProcessingResponse.FromString(raw)
    return {name: json_format.MessageToDict(value) for name, value in answer.dynamic_metadata.fields.items()}


def body(id: str, meta: str = "") -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"a__x"%b}}' % (id.encode(), meta.encode())


@pytest.mark.parametrize(
    ("id", "value"),
    [
        ("1", 1.0), ("2", 2.0), ("-31", -31.0), ("-0", 0.0), ("12345678901234567", "12345678901234567"),
        ('"one"', "one"), ('"two"', "two"), ('"7"', "7"), (r'"\u00e4"', "\u00e4"), ('"\u00e4"', "\u00e4"), ('""', ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("more", [(), (field(1, b"other"),)], ids=["one namespace", "two"])
def test_the_id_is_written_as_the_client_wrote_it(id: str, value: object, more: tuple[bytes, ...]) -> None:
    rig = Rig()
    for each in ("3", id):  # the second one by what was kept of the first, where their layout is the same
        forward = rig.forward(body(each))
        written = metadata(forwarding.forward(forward, rig.head(), Detail(more)))
    assert (written[NAMESPACE]["id_json"], written[NAMESPACE]["id"]) == (id, value)
    assert written[RESPONSE_NAMESPACE]["id_json"] == id
    assert written.get("other", written[NAMESPACE]).items() >= written[NAMESPACE].items()
    read = rig.gateway.awaited(written[RESPONSE_NAMESPACE])
    assert read.expected.id == id.encode()
    assert read.context == RequestContext(request_id=id.encode())


def test_facts_that_nobody_reads_are_not_written() -> None:
    rig = Rig()
    written = metadata(forwarding.forward(rig.forward(body("1")), rig.head(), Detail(keys=frozenset({"method"}))))
    assert written[NAMESPACE] == {"method": "tools/call"}
    assert written[RESPONSE_NAMESPACE]["id_json"] == "1"


def test_what_is_known_of_one_response_alone() -> None:
    rig = Rig()
    for token, trace in (("p", TRACE), ("q", LATER)):
        head = rig.head(traceparent=trace)
        forward = rig.forward(body("1", f',"_meta":{{"progressToken":"{token}"}}'), head)
        read = rig.gateway.awaited(metadata(forwarding.forward(forward, head))[RESPONSE_NAMESPACE])
        assert read.expected.call.progress_token == f'"{token}"'.encode()
        assert read.context == RequestContext((("traceparent", trace),), request_id=b"1")


def test_what_a_server_gets_of_an_anonymous_caller_is_told_as_well() -> None:
    """What is sent for the call's sake, such as the answer to a server's request, has it too."""
    rig = Rig(config({"a": {"url": "http://a.test/mcp", "credentials": {"forward": [{"name": "x-token"}]}}}))
    head = rig.head(x_token="t1")
    needed = rig.decide(body("1"), head)
    assert isinstance(needed, NeedSession)
    forward = needed.resume(upstream("a"))
    assert isinstance(forward, Forward)
    read = rig.gateway.awaited(metadata(forwarding.forward(forward, head))[RESPONSE_NAMESPACE])
    assert read.context.carried == {"a": (("x-token", "t1"),)}


def test_whoever_reads_the_response_on_the_same_stream_knows_the_rest() -> None:
    rig = Rig()
    written = metadata(forwarding.forward_and_read(rig.forward(body("1")), FULL, EARLY))
    assert written[RESPONSE_NAMESPACE] == {"reads": "here"}
    assert written[NAMESPACE]["early"] is True


def test_what_a_user_is_asked_about_is_told_to_one_filter_alone() -> None:
    rig = Rig()
    for text in ("a", "b"):
        written = metadata(forwarding.ask(rig.forward(body("1")), text))
        assert [*written[VETTING_NAMESPACE].values()] == [text]
        assert written.keys() == {NAMESPACE, VETTING_NAMESPACE}


def test_an_ordinary_call_is_marked_for_the_access_log() -> None:
    """Not one about which a user is asked first, which gets facts that most have not."""
    rig, log_off = Rig(), Detail(is_logged=False)
    forward = rig.forward(body("1"))
    assert metadata(forwarding.forward(forward, rig.head()))[NAMESPACE]["ordinary"] is True
    assert metadata(forwarding.forward_and_read(forward))[NAMESPACE]["ordinary"] is True
    assert "ordinary" not in metadata(forwarding.forward(forward, rig.head(), log_off))[NAMESPACE]
    unread = Detail(keys=frozenset({"method"}))
    assert "ordinary" not in metadata(forwarding.forward(forward, rig.head(), unread))[NAMESPACE]
    assert "ordinary" not in metadata(forwarding.ask(forward, "a"))[NAMESPACE]
    facts = forward.plan.facts.but(named=("prompt", "x"))
    other = msgspec.structs.replace(forward, plan=msgspec.structs.replace(forward.plan, facts=facts))
    assert "ordinary" not in metadata(forwarding.forward(other, rig.head()))[NAMESPACE]


def test_what_goes_on_behind_policies() -> None:
    rig = Rig()
    head = replace(rig.head(), awaits_policies=True)
    decision = rig.gateway.foresee(head, body("1"), NOW)
    assert isinstance(decision, Forward)
    assert metadata(forwarding.forward(decision, head))[ONWARD_NAMESPACE] == dict(decision.plan.onward) != {}


@pytest.mark.parametrize("meta", ["", ',"_meta":{"progressToken":1}'])
def test_a_span_of_which_nothing_but_its_traceparent_is_known_is_told_as_any_other(meta: str) -> None:
    rig, span = Rig(), SpanContext("a" * 32, "b" * 16, sampled=True)
    decision = rig.forward(body("1", meta))
    written = forwarding.forward(decision, rig.head(), traceparent=span.traceparent.encode())
    assert written == forwarding.forward(decision, rig.head(), trace=span.headers)
    assert metadata(written)[RESPONSE_NAMESPACE]["trace"] == f'[["traceparent","{span.traceparent}"]]'


def test_what_is_for_the_record_and_headers_of_one_request_alone() -> None:
    rig = Rig()
    forward = rig.forward(body("1"))
    for text in ("one", "two", ""):
        record = field(1, field(1, b"told") + field(2, field(5, struct_of({"span": text})))) if text else b""
        headers = mutation_of((("traceparent", text),), ("gone",)) if text else b""
        raw = forwarding.forward(forward, rig.head(), FULL, EARLY, record, headers)
        changed = pb.ProcessingResponse.FromString(raw).request_headers.response.header_mutation
        assert metadata(raw).get("told", {}) == ({"span": text} if text else {})
        set_ones = [one.header.raw_value.decode() for one in changed.set_headers if one.header.key == "traceparent"]
        assert (set_ones, "gone" in changed.remove_headers) == ([text] * bool(text), bool(text))
