"""Calls: what the server gets, and what it never sees."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.gateway.decision import Failed, Forward, NeedSession
from mcp_extproc.gateway.headers import PASSED
from tests.unit.gateway.support import HEADERS, Rig, answer, as_reply, config, head, message, upstream
from tests.unit.mcp.strategies import PROPERTY

SERVERS: dict[str, dict[str, Any]] = {
    "a": {
        "url": "https://a.example/p%20q/mcp?key=hidden",
        "headers": {"Authorization": "Bearer hidden", "X-Team": "t"},
    },
    "b": {"prefix": "bee"},
}
RIG = Rig(config(SERVERS))


def test_what_the_server_gets() -> None:
    forward = RIG.call("a__read", authorization="Bearer client")
    assert forward.set_headers == (
        (":path", "/p%20q/mcp?key=hidden"),
        ("accept", "application/json, text/event-stream"),
        ("content-length", str(len(forward.body))),
        ("mcp-method", "tools/call"),
        ("mcp-name", "read"),
        ("x-mcp-server", "a"),
        ("mcp-session-id", "id of a"),
        ("mcp-protocol-version", "2025-11-25"),
        ("authorization", "Bearer hidden"),
        ("x-team", "t"),
    )
    assert json.loads(forward.body) == {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "read"}}


def test_credentials_are_not_printed() -> None:
    assert "hidden" not in repr(RIG.call("a__read"))
    assert "hidden" not in repr(RIG.gateway.catalog.entries["a"])


@pytest.mark.parametrize("name", ["read", "naïve", "a\r\nx-evil: 1", "a\0b", " a", "=?base64?eA==?=", "bee__x", "__"])
def test_names_of_any_characters_reach_the_server_and_break_no_header(name: str) -> None:
    forward = RIG.call(f"bee__{name}")
    assert json.loads(forward.body)["params"]["name"] == name
    value = dict(forward.set_headers)["mcp-name"]
    assert value.isascii()
    assert value.isprintable()
    assert forward.facts["tool"] == name


def test_only_the_name_is_changed() -> None:
    params = b'{"name":"bee__x", "arguments":{"n":1.50}}'
    body = b'{ "id":9007199254740993,"method":"tools/call","jsonrpc":"2.0","params":' + params + b" }\n"
    assert RIG.forward(body).body == body.replace(b"bee__x", b"x")


def test_a_server_without_prefix_gets_the_very_same_bytes() -> None:
    rig = Rig(config({"only": {"prefix": ""}}))
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\u0061__b"}}'
    assert rig.forward(body).body is body


# -- Headers --------------------------------------------------------------------------------------------------------------

SPOOFED = [
    "authorization", "cookie", "proxy-authorization", "x-mcp-server", "x-mcp-anything", "x-mcp-upstream-failure", "mcp-method",
    "mcp-name", "mcp-param-x", "mcp-session-id", "mcp-protocol-version", "x-envoy-original-path", "x-envoy-retry-on",
    "x-envoy-upstream-rq-timeout-ms", "x-forwarded-for", "x-forwarded-host", "forwarded", "x-real-ip", "origin", "referer",
    "last-event-id", "x-api-key", "accept", "x-anything",
]  # fmt: skip


@pytest.mark.parametrize("name", SPOOFED)
@pytest.mark.parametrize("tool", ["a__read", "bee__read"])
def test_headers_of_the_client_do_not_reach_the_server(name: str, tool: str) -> None:
    """U9, and no spoofed header reaches a route."""
    # A value that each header's own check lets through, and that differs from what the gateway sets.
    sent = {
        "accept": "*/*",
        "mcp-session-id": RIG.token,
        "mcp-protocol-version": "2025-03-26",
        "origin": "http://localhost",
    }
    value = sent.get(name, "client")
    forward = RIG.call(tool, **{name: value})
    assert dict(forward.set_headers).get(name) != value
    assert (name in dict(forward.set_headers)) != (name in forward.remove_headers)


@pytest.mark.parametrize("name", sorted(PASSED - {"host", "content-type", "content-length", "content-encoding"}))
def test_headers_of_the_exchange_pass(name: str) -> None:
    forward = RIG.call("a__read", **{name: "x"})
    assert name not in forward.remove_headers
    assert name not in dict(forward.set_headers)


CHECKED = {*HEADERS, "mcp-session-id", "origin", "content-encoding", "mcp-protocol-version"}
"""These are looked at before anything is forwarded."""

names = st.one_of(st.sampled_from(sorted({*PASSED, *SPOOFED})), st.text("abcmpx-", min_size=1, max_size=12))


@PROPERTY
@given(st.sets(names, max_size=8))
def test_no_header_passes_that_is_not_on_the_list(sent: set[str]) -> None:
    request = RIG.head(**dict.fromkeys(sent - CHECKED, "client"))
    forward = RIG.forward(message("tools/call", {"name": "a__read"}), request)
    ours = dict(forward.set_headers).keys()
    assert set(request.headers) - set(forward.remove_headers) - ours <= PASSED
    assert not ours & set(forward.remove_headers)


@pytest.mark.parametrize(
    ("version", "id", "expected"),
    [
        ("2025-03-26", "s", {"mcp-session-id": "s"}),
        ("2025-06-18", "s", {"mcp-session-id": "s", "mcp-protocol-version": "2025-06-18"}),
        ("2025-11-25", None, {"mcp-protocol-version": "2025-11-25"}),
        ("2025-03-26", None, {}),
    ],
)
def test_the_session_is_the_servers_own(version: str, id: str | None, expected: dict[str, str]) -> None:
    """U3, U4: each server has its version and id, whatever the client has."""
    rig = Rig(upstreams={"a": upstream("a", version, id=id)})
    forward = rig.call("a__x", mcp_protocol_version="2025-11-25")
    ours = dict(forward.set_headers)
    for name in ("mcp-session-id", "mcp-protocol-version"):
        assert ours.get(name) == expected.get(name)
        assert (name in forward.remove_headers) == (name not in expected)


# -- Sessions that have to be opened first --------------------------------------------------------------------------------


def test_a_server_that_was_down_at_initialize_is_asked_now() -> None:
    rig = Rig(upstreams={"a": upstream("a")}, version="2025-06-18")
    decision = rig.decide(message("tools/call", {"name": "b__x"}))
    assert isinstance(decision, NeedSession)
    assert (decision.lost, decision.session.server, decision.session.known) == (None, "b", None)
    assert (decision.session.version, decision.session.client_capabilities) == ("2025-06-18", b"{}")
    forward = decision.resume(upstream("b", "2025-03-26"))
    assert isinstance(forward, Forward)
    assert dict(forward.set_headers)["mcp-session-id"] == "id of b"
    assert json.loads(forward.body)["params"] == {"name": "x"}


def test_a_server_that_is_still_down() -> None:
    """E19: the client gets an error with its id and learns which server, and why."""
    rig = Rig(upstreams={})
    decision = rig.decide(message("tools/call", {"name": "b__x"}))
    assert isinstance(decision, NeedSession)
    reply = as_reply(decision.resume(Failed("b", "timeout", "did not answer within 10 s")))
    error = answer(reply)
    assert (reply.status, error["id"], error["error"]["code"]) == (200, 7, -32603)
    assert "server 'b' did not answer within 10 s" in error["error"]["message"]
    assert (reply.facts["server"], reply.facts["error_reason"]) == ("b", "upstream_unavailable")
    assert reply.notes[0].fields == {"server": "b", "reason": "timeout", "message": "did not answer within 10 s"}


def test_a_session_opened_late_is_used_from_then_on() -> None:
    rig = Rig(upstreams={})
    decision = rig.decide(message("tools/call", {"name": "b__x"}))
    assert isinstance(decision, NeedSession)
    rig.memory.replace("b", decision.session.anchor, upstream("b", id="late"))
    assert dict(rig.call("b__x").set_headers)["mcp-session-id"] == "late"
    assert isinstance(rig.decide(message("tools/call", {"name": "a__x"})), NeedSession)


def test_a_session_opened_late_belongs_to_one_client() -> None:
    rig = Rig(upstreams={})
    decision = rig.decide(message("tools/call", {"name": "b__x"}))
    assert isinstance(decision, NeedSession)
    rig.memory.replace("b", decision.session.anchor, upstream("b", id="late"))
    other = Rig(upstreams={}, memory=rig.memory)
    assert isinstance(other.decide(message("tools/call", {"name": "b__x"})), NeedSession)


def test_a_session_that_was_replaced_is_not_used_again() -> None:
    """E27."""
    rig = Rig()
    rig.memory.replace("a", "id of a", upstream("a", "2025-06-18", id="new"))
    ours = dict(rig.call("a__x").set_headers)
    assert (ours["mcp-session-id"], ours["mcp-protocol-version"]) == ("new", "2025-06-18")


# -- Repair ---------------------------------------------------------------------------------------------------------------


def test_a_request_that_came_back_goes_there_with_a_new_session() -> None:
    """E27: nothing else of it changes."""
    request = head(mcp_session_id="lost", mcp_protocol_version="2025-06-18", x_envoy_attempt_count="2")
    decision = RIG.gateway.repair("a", request)
    assert isinstance(decision, NeedSession)
    assert (decision.session.server, decision.session.anchor, decision.lost) == ("a", "lost", "lost")
    assert decision.session.version == "2025-06-18"
    forward = decision.resume(upstream("a", "2025-06-18", id="new"))
    assert isinstance(forward, Forward)
    assert forward.set_headers == (("mcp-session-id", "new"), ("mcp-protocol-version", "2025-06-18"))
    assert (forward.remove_headers, forward.body, forward.server) == ((), b"", "a")


def test_a_request_without_a_version_header_asks_for_the_version_that_has_none() -> None:
    decision = RIG.gateway.repair("a", head(mcp_session_id="lost", x_envoy_attempt_count="2"))
    assert isinstance(decision, NeedSession)
    assert decision.session.version == "2025-03-26"
    forward = decision.resume(upstream("a", "2025-03-26", id=None))
    assert isinstance(forward, Forward)
    assert set(forward.remove_headers) == {"mcp-session-id", "mcp-protocol-version"}


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp_session_id": "lost"},
        {"mcp_session_id": "lost", "x_envoy_attempt_count": "1"},
        {"x_envoy_attempt_count": "2"},
    ],
)
def test_a_request_that_is_no_retry_is_not_repaired(headers: dict[str, str]) -> None:
    assert as_reply(RIG.gateway.repair("a", head(**headers))).status == 503


def test_a_server_that_can_not_be_repaired() -> None:
    decision = RIG.gateway.repair("a", head(mcp_session_id="lost", x_envoy_attempt_count="2"))
    assert isinstance(decision, NeedSession)
    reply = as_reply(decision.resume(Failed("a", "connect", "is unreachable")))
    assert reply.status == 503
    assert reply.notes[0].fields["server"] == "a"
