"""GET: which streams are opened, and what is answered where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_extproc.gateway.legs import SessionRef
from mcp_extproc.gateway.relay.identifiers import Cursor, Position, session_checksum
from mcp_extproc.mcp.sessions import UpstreamSession
from tests.unit.gateway.support import LATEST, NOW, Rig, answer, as_reply, catalog_of, config, upstream


def cursor(server: str, event_id: str = "1") -> Cursor:
    return Cursor(server, session_checksum(upstream(server)), event_id)


def event_id(rig: Rig, method: str, *cursors: Cursor) -> str:
    return rig.gateway.identifiers.event_id(rig.view, Position(method, cursors))


def test_a_fresh_stream_is_every_servers() -> None:
    """Of those too that were down at `initialize`."""
    rig = Rig(
        config({name: {} for name in "abc"}), {name: upstream(name) for name in "ab"}, client_flags=frozenset({"roots"})
    )
    stream = rig.stream()
    known = {"a": upstream("a"), "b": upstream("b"), "c": None}
    assert [(ref.server, ref.known) for ref in stream.sources] == [*known.items()]
    assert all(isinstance(ref, SessionRef) and ref.client_flags == {"roots"} for ref in stream.sources)
    assert (stream.method, dict(stream.cursors), stream.view) == ("", {}, rig.view)
    assert stream.relay.view == rig.view


def test_a_stream_ends_with_its_session() -> None:
    rig = Rig()
    assert rig.stream().expires == rig.state().expires


@pytest.mark.parametrize("version", [None, "2025-03-26", LATEST])
@pytest.mark.parametrize("accept", ["text/event-stream", "*/*", "application/json, text/event-stream"])
def test_ordinary_gets(version: str | None, accept: str) -> None:
    """Agents list more than they need."""
    assert Rig().stream(accept=accept, mcp_protocol_version=version, content_type=None).sources


def test_an_empty_last_event_id_is_none() -> None:
    """WHATWG HTML 9.2.4: browsers send none then."""
    assert dict(Rig().stream(last_event_id="").cursors) == {}


def test_a_stream_of_a_get_goes_on_at_every_server_where_it_was() -> None:
    """And servers that it had nothing of yet begin."""
    rig = Rig()
    stream = rig.stream(last_event_id=event_id(rig, "", cursor("a", "17")))
    assert ([ref.server for ref in stream.sources], dict(stream.cursors)) == (["a", "b"], {"a": cursor("a", "17")})
    assert "resumes" not in stream.facts.metadata()


def test_the_stream_of_a_call_goes_on_at_its_server_only() -> None:
    """A stream replays nothing of another (MCP transports, Resumability and Redelivery)."""
    rig = Rig()
    stream = rig.stream(last_event_id=event_id(rig, "tools/call", cursor("b", "9")))
    assert [ref.server for ref in stream.sources] == ["b"]
    assert (stream.method, stream.cursors["b"], stream.facts.metadata()["resumes"]) == (
        "tools/call",
        cursor("b", "9"),
        "tools/call",
    )


def test_where_a_stream_can_not_go_on_the_answer_is_ready() -> None:
    """405, because 404 would end the session."""
    rig = Rig()
    refused = rig.stream(last_event_id=event_id(rig, "tools/call", cursor("b"))).refused
    assert (refused.status, refused.facts.metadata()["error_reason"], dict(refused.headers)["allow"]) == (
        405,
        "no_stream",
        "POST, DELETE",
    )
    assert "id" not in answer(refused)


@pytest.mark.parametrize("last", ["garbage", "1", "A" * 500, "A" * 20_000, "\u0000", "AAAA, BBBB"])
def test_event_ids_that_are_none_of_ours(last: str) -> None:
    """A fresh stream would hide that messages are lost."""
    reply = as_reply(Rig().get(last_event_id=last))
    assert (reply.status, reply.facts.metadata()["error_reason"]) == (405, "no_stream")
    assert "Last-Event-ID" in answer(reply)["error"]["message"]


def test_event_ids_of_another_session_or_purpose() -> None:
    rig, other = Rig(), Rig()
    sealed = rig.own("request", "a", b"1").decode().strip('"')
    for last in (event_id(other, "", cursor("a")), sealed):
        assert as_reply(rig.get(last_event_id=last)).status == 405


def test_the_stream_of_a_call_whose_server_is_gone() -> None:
    rig = Rig()
    reply = as_reply(rig.get(last_event_id=event_id(rig, "tools/call", cursor("gone"))))
    assert (reply.status, reply.facts.metadata()["error_reason"]) == (405, "no_stream")


def test_a_session_that_ended_or_expired_has_no_stream() -> None:
    """404 on any verb."""
    rig = Rig()
    late = rig.gateway.admit(rig.head("GET"), float(rig.state().expires))
    assert as_reply(late).status == 404
    rig.memory.end(rig.session)
    assert as_reply(rig.gateway.admit(rig.head("GET"), NOW)).status == 404


def test_a_session_of_another_configuration_has_to_list_again() -> None:
    """What its servers have; those that it does not know yet are announced when they are reached."""
    flags = {"a": frozenset({"tools", "logging"}), "gone": frozenset({"prompts", "tools"})}
    rig = Rig(config({"a": {}, "b": {}}), {name: UpstreamSession(LATEST, name, kinds) for name, kinds in flags.items()})

    def changed(offer: int) -> frozenset[str]:
        return rig.stream(mcp_session_id=rig.sealer.seal(rig.state(offer=offer))[0]).changed

    assert changed(catalog_of(rig.config).checksum) == set()
    assert changed(catalog_of(config({"a": {}})).checksum) == {"tools", "prompts"}
    assert changed(0) == set(), "not known"


@pytest.mark.parametrize(
    "other",
    [
        {"servers": {"a": {}}},
        {"servers": {"a": {}, "b": {}, "c": {}}},
        {"servers": {"a": {"prefix": "x"}, "b": {}}},
        {"servers": {"a": {"tools": {"exclude": ["x"]}}, "b": {}}},
        {"servers": {"a": {"url": "http://localhost:1/other"}, "b": {}}},
        {"separator": "-"},
    ],
)
def test_what_makes_another_offer(other: dict[str, Any]) -> None:
    servers = {"servers": {"a": {}, "b": {}}} | other
    one, two = catalog_of(config({"a": {}, "b": {}})), catalog_of(config(**servers))
    assert one.checksum != two.checksum
    assert catalog_of(config({"a": {}, "b": {}}, limits={"list_items": 5})).checksum == one.checksum
