"""Records as messages of the access log service, read."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_extproc.contract import NAMESPACE, ONWARD_NAMESPACE, RECORD_FACTS, RECORD_KEY, TELEMETRY_NAMESPACE
from mcp_extproc.envoy.render.access_log import FIELDS
from mcp_extproc.mcp.trace_context import SpanContext
from mcp_extproc.telemetry import _pb as pb
from mcp_extproc.telemetry.exchange import Exchange, Peer
from mcp_extproc.telemetry.records import messages
from tests.unit.telemetry.support import CALL, FACTS, SPAN, STARTED, TRACE, note_of, read, record


def test_a_call() -> None:
    assert read() == CALL


def test_a_message_of_the_service() -> None:
    message = pb.StreamAccessLogsMessage()
    message.http_logs.log_entry.extend([record(), record()])
    assert [*messages.read(message.SerializeToString())] == [CALL, CALL]
    assert [*messages.read(b"")] == []


def test_bytes_that_are_no_message() -> None:
    with pytest.raises(messages.Unreadable):
        [*messages.read(b"\xff")]


def test_a_record_of_nothing() -> None:
    assert messages.exchange(pb.HTTPAccessLogEntry()) == Exchange(started=0, duration=0, http_method="_OTHER")


def test_what_a_filter_refused_before_a_worker_saw_it() -> None:
    entry = record({}, {}, status=401, details="jwt_authn_access_denied{Jwt_is_expired}", x_mcp_error="invalid_token")
    entry.request.request_headers["traceparent"] = f"00-{TRACE}-{SPAN}-01"
    entry.request.request_headers["tracestate"] = "v=2"
    common = entry.common_properties
    for field in ("time_to_first_upstream_tx_byte", "time_to_last_upstream_rx_byte", "upstream_remote_address"):
        common.ClearField(field)
    common.downstream_remote_address.pipe.path = "/run/a.sock"
    found = messages.exchange(entry)
    assert (found.method, found.spans, found.upstream, found.upstream_peer) == (None, None, None, None)
    assert (found.reason, found.status, found.rule) == ("invalid_token", 401, "jwt_authn")
    assert found.client == Peer("/run/a.sock")
    assert found.header == SpanContext(TRACE, SPAN, sampled=True, state="v=2")


def test_an_answer_that_never_ended() -> None:
    entry = record()
    entry.common_properties.ClearField("time_to_last_upstream_rx_byte")
    assert messages.exchange(entry).upstream == (5_000_000, 30_000_000)


@pytest.mark.parametrize(
    ("facts", "attribute", "value"),
    [
        ({"id_json": "7"}, "id", "7"),
        ({"id_json": '"a\\nb"'}, "id", "a\nb"),
        ({"id_json": '"broken'}, "id", '"broken'),
        ({"params": {"uri": "file:///a"}}, "uri", "file:///a"),
        ({"params": {"name": "made_up"}}, "asked_for", "made_up"),
        ({"batch": 3}, "batch", 3),
        ({"error_code": "3"}, "code", None),
        ({"error_code": -32602, "error_reason": "unknown_tool"}, "code", -32602),
    ],
)
def test_facts(facts: dict[str, Any], attribute: str, value: object) -> None:
    assert getattr(read(facts), attribute) == value


@pytest.mark.parametrize("text", ["", "{}", note_of(FACTS)[1:], note_of(FACTS).replace("[", "{"), "\x1f" * 9])
def test_a_note_that_is_none_says_nothing(text: str) -> None:
    entry = record()
    entry.common_properties.metadata.filter_metadata[TELEMETRY_NAMESPACE].update({RECORD_KEY: text})
    found = messages.exchange(entry)
    assert (found.method, found.id, found.session, found.spans, found.status) == (None, None, None, None, 200)


def test_envoys_own_answer_is_no_servers() -> None:
    """A rate limit's passes where answers are read, as a server's would."""
    entry = record({**FACTS, "error_reason": "server_error"}, details="local_rate_limited", x_mcp_error="rate_limited")
    assert messages.exchange(entry).reason == "server_error", "a server may send the header, too"
    entry.common_properties.ClearField("time_to_first_upstream_tx_byte")
    found = messages.exchange(entry)
    assert (found.reason, found.verdict, found.rule) == ("rate_limited", "deny", "rate_limit")


def test_a_word_that_a_server_wrote_is_no_word() -> None:
    assert read(x_mcp_error="hunter2").reason is None
    assert read(x_mcp_error="denied").reason == "denied"


def test_details_are_bounded() -> None:
    details = read(details="x" * 10_000).details
    assert details is not None
    assert len(details) == 256


def test_secret_namespaces_are_not_read() -> None:
    entry = record()
    entry.common_properties.metadata.filter_metadata[ONWARD_NAMESPACE].update({"authorization": "hunter2"})
    assert "hunter2" not in repr(messages.exchange(entry))


def test_facts_that_are_looked_at_are_those_of_the_log() -> None:
    """What workers leave out because nobody reads it (metadata_read) has to know of all of them."""
    in_log = {text.partition(f"{NAMESPACE}:")[2].partition(")")[0].partition(":")[0] for text in FIELDS.values()}
    assert set(RECORD_FACTS) <= in_log | {"error_reason"}
    assert CALL.started == STARTED


@pytest.mark.parametrize(
    ("when", "facts", "has_another"),
    [
        ("consented", {"consent": "given"}, True),
        ("consented", {"consent": "timeout", "error_reason": "consent_timeout"}, False),
        ("consented", {}, False),
        ("more", {}, True),
        ("more", {"error_reason": "busy"}, False),
    ],
)
def test_what_passes_once_more_is_one_request(when: str, facts: dict[str, Any], has_another: bool) -> None:
    found = read({**FACTS, **facts}, {"passed_on": when})
    assert (found.has_another, found.is_request) == (has_another, not has_another)
