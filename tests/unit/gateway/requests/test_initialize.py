"""The answer to `initialize`: the sum of all servers, and a token that says how to reach each."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mcp_extproc import __version__
from mcp_extproc.gateway.decision import FanOut, Reply
from mcp_extproc.gateway.facts import Note
from mcp_extproc.gateway.legs import STARTING, Failed, Opened, OpenLeg, Outcome
from mcp_extproc.mcp.sessions import IN_EVENTS, MAX_TOKEN_CHARS, Session
from tests.unit.gateway.support import NOW, Rig, answer, as_reply, catalog_of, config, head, message, opened, upstream

PARAMS: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"sampling": {}, "roots": {"listChanged": True}, "elicitation": {}},
    "clientInfo": {"name": "agent", "version": "1.2"},
}


def initialize(rig: Rig, **changed: Any) -> FanOut:
    return rig.fan_out(message("initialize", {**PARAMS, **changed}), head())


def merged(rig: Rig, outcomes: Sequence[Outcome], now: float = NOW) -> Reply:
    return as_reply(initialize(rig).merge(outcomes, now))


def token_of(reply: Reply) -> str:
    return dict(reply.headers)["mcp-session-id"]


def session_of(rig: Rig, reply: Reply) -> Session:
    return rig.sealer.open(token_of(reply), audience="/mcp", principal="", now=NOW).session


def streamed(answer: Opened) -> Opened:
    return replace(answer, streamed=True)


def without_session(answer: Opened) -> Opened:
    return replace(answer, session=upstream(answer.server, id=None))


def test_the_answer_of_two_servers() -> None:
    rig = Rig()
    reply = merged(rig, [opened("a", instructions="Do a."), opened("b", instructions="Do b.")])
    assert reply.status == 200
    assert answer(reply) == {
        "jsonrpc": "2.0",
        "id": 7,
        "result": {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "mcp-extproc", "version": __version__},
            "instructions": "# a\n\nDo a.\n\n# b\n\nDo b.",
        },
    }


def test_the_token_holds_what_a_replica_needs() -> None:
    rig = Rig(config(session={"ttl": "1h"}))
    reply = merged(rig, [opened("a"), opened("b")], NOW + 0.9)
    session = session_of(rig, reply)
    assert session == Session(
        audience="/mcp",
        principal="",
        version="2025-11-25",
        expires=int(NOW) + 3600,
        client="agent/1.2",
        client_flags=frozenset({"elicitation", "elicitation.form", "roots", "roots.listChanged", "sampling"}),
        upstreams={"a": upstream("a"), "b": upstream("b")},
        offer=catalog_of(rig.config).checksum,
    )
    # The very token that was given out is served.
    assert rig.reply(message("ping"), head(mcp_session_id=token_of(reply))).status == 200
    assert (
        reply.facts.metadata()["session"]
        == rig.reply(message("ping"), head(mcp_session_id=token_of(reply))).facts.session
    )


@pytest.mark.parametrize(
    ("requested", "version"),
    [("2025-03-26", "2025-03-26"), ("2025-06-18", "2025-06-18"), ("2099-01-01", "2025-11-25"), ("", "2025-11-25")],
)
def test_the_version_is_the_clients_where_it_is_spoken(requested: str, version: str) -> None:
    """And each server is asked for the same."""
    rig = Rig()
    decision = initialize(rig, protocolVersion=requested)
    assert [(leg.server, leg.version) for leg in decision.legs if isinstance(leg, OpenLeg)] == [
        ("a", version),
        ("b", version),
    ]
    reply = as_reply(decision.merge([opened("a"), opened("b")], NOW))
    assert answer(reply)["result"]["protocolVersion"] == session_of(rig, reply).version == version


CLIENT: list[tuple[Any, set[str]]] = [
    ({}, set()),
    (None, set()),
    ({"experimental": {"x": {}}, "tasks": {}}, set()),
    ({"roots": {}}, {"roots"}),
    (PARAMS["capabilities"], {"roots", "roots.listChanged", "sampling", "elicitation", "elicitation.form"}),
]


@pytest.mark.parametrize(("declared", "flags"), CLIENT)
def test_what_the_client_offers_is_told_to_every_server_and_kept(declared: Any, flags: set[str]) -> None:
    rig = Rig()
    decision = (
        initialize(rig, capabilities=declared)
        if declared is not None
        else rig.fan_out(message("initialize", {"protocolVersion": "2025-11-25"}), head())
    )
    assert [leg.client_flags for leg in decision.legs if isinstance(leg, OpenLeg)] == [flags] * 2
    reply = as_reply(decision.merge([opened("a"), opened("b")], NOW))
    assert session_of(rig, reply).client_flags == flags


def test_the_version_with_the_client_says_what_its_capabilities_mean() -> None:
    decision = initialize(Rig(), protocolVersion="2025-03-26")
    assert {leg.client_flags for leg in decision.legs if isinstance(leg, OpenLeg)} == {
        frozenset({"roots", "roots.listChanged", "sampling"})
    }


LISTS = {"listChanged": True}


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ([{"tools": {}}, {}], {"tools": LISTS}),
        ([{"tools": {"listChanged": True}}, {"tools": {}}], {"tools": LISTS}),
        ([{"tools": None}, {}], {"tools": LISTS}),
        (
            [
                {"prompts": {}, "logging": {}, "experimental": {"x": {}}, "tasks": {}},
                {"resources": {"subscribe": True}},
            ],
            {"prompts": LISTS, "logging": {}, "resources": {**LISTS, "subscribe": True}},
        ),
        ([{"resources": {"subscribe": False}}, {"completions": {}}], {"resources": LISTS, "completions": {}}),
        ([{}, {}], {}),
    ],
)
def test_capabilities_are_the_union_of_what_is_really_served(
    declared: list[dict[str, Any]], told: dict[str, Any]
) -> None:
    outcomes = [opened(server, capabilities) for server, capabilities in zip("ab", declared, strict=True)]
    assert answer(merged(Rig(), outcomes))["result"]["capabilities"] == told


def test_a_server_that_is_missing_may_offer_anything_later() -> None:
    """Nothing can be added after `initialize`."""
    reply = merged(Rig(), [Failed("a", "connect", "is unreachable"), opened("b", {})])
    assert answer(reply)["result"]["capabilities"] == {
        "completions": {}, "logging": {}, "prompts": LISTS, "resources": {**LISTS, "subscribe": True}, "tools": LISTS,
    }  # fmt: skip


def test_a_server_that_fails_is_left_out_and_named() -> None:
    """One dead server must not fail the rest."""
    rig = Rig()
    reply = merged(rig, [Failed("a", "timeout", "did not answer within 10 s"), opened("b")], NOW)
    assert answer(reply)["result"]["_meta"]["mcp-extproc/unavailable"] == [
        {"server": "a", "reason": "timeout", "message": "did not answer within 10 s"}
    ]
    assert set(session_of(rig, reply).upstreams) == {"b"}
    assert reply.facts.metadata()["unavailable"] == "a"
    assert [(note.event, note.fields["server"]) for note in reply.notes] == [("upstream_failed", "a")]


def test_all_servers_failing_is_an_error_without_a_session() -> None:
    """It must not look as if there were no servers."""
    reply = merged(Rig(), [Failed("a", "connect", "is unreachable"), Failed("b", "status", "answered HTTP 500")])
    assert (reply.status, answer(reply)["id"], answer(reply)["error"]["code"]) == (200, 7, -32603)
    assert answer(reply)["error"]["message"] == "No answer: server 'a' is unreachable; server 'b' answered HTTP 500."
    assert "mcp-session-id" not in dict(reply.headers)
    assert len(reply.notes) == 2
    assert reply.facts.metadata()["error_reason"] == "upstream_unavailable"


def test_a_session_begins_while_its_only_server_starts() -> None:
    """It joins later: a program may be downloaded first."""
    rig = Rig()
    reply = merged(rig, [Failed("a", STARTING, "is still starting"), Failed("b", "connect", "is unreachable")], NOW)
    assert session_of(rig, reply).upstreams == {}
    result = answer(reply)["result"]
    assert [missing["reason"] for missing in result["_meta"]["mcp-extproc/unavailable"]] == [STARTING, "connect"]
    assert "tools" in result["capabilities"]


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ((None, None), None),
        (("", None), None),
        ((" x \n", None), "# a\n\nx"),
        ((None, "y"), "# b\n\ny"),
        (("x" * 9000, None), "# a\n\n" + "x" * 8192 + " [cut]"),
    ],
)
def test_instructions_stand_under_their_servers_name(
    instructions: tuple[str | None, ...], expected: str | None
) -> None:
    outcomes = [opened(server, instructions=text) for server, text in zip("ab", instructions, strict=True)]
    assert answer(merged(Rig(), outcomes))["result"].get("instructions") == expected


@pytest.mark.parametrize(
    ("info", "client"),
    [
        ({"name": "agent", "version": "1"}, "agent/1"),
        ({"name": "agent"}, "agent"),
        ({"version": "1"}, "1"),
        ({"name": 5, "version": None}, ""),
        ({}, ""),
        (None, ""),
        ([], ""),
        ("agent", ""),
        ({"name": "x" * 500, "version": "1"}, "x" * 128),
    ],
)
def test_the_clients_name_for_logs(info: Any, client: str) -> None:
    assert as_reply(initialize(Rig(), clientInfo=info).merge([opened("a")], NOW)).facts.client == client


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([opened("a"), opened("b")], False),
        ([opened("a"), streamed(opened("b"))], True),
        ([Failed("a", "timeout", "is slow"), streamed(opened("b"))], True),
        ([opened("a"), streamed(without_session(opened("b")))], True),
    ],
)
def test_the_token_tells_envoy_that_answers_will_be_event_streams(outcomes: list[Outcome], *, expected: bool) -> None:
    decision = initialize(Rig())
    for _ in range(20):
        reply = as_reply(decision.merge(outcomes, NOW))
        assert (re.fullmatch(IN_EVENTS, token_of(reply)) is not None) == expected


def test_tokens_differ_and_their_names_tell_them_apart() -> None:
    decision = initialize(Rig())
    first, second = (as_reply(decision.merge([opened("a"), opened("b")], NOW)) for _ in range(2))
    assert token_of(first) != token_of(second)
    assert first.facts.metadata()["session"] != second.facts.metadata()["session"]
    assert json.loads(first.body) == json.loads(second.body)


def test_no_id_of_a_server_is_shown() -> None:
    """Some clients take `Mcp-Session-Id` from any response."""
    reply = merged(Rig(), [opened("a"), opened("b")])
    assert "id of a" not in str(reply)


@pytest.mark.parametrize(("servers", "chars"), [(3, 16_000), (40, 1_300), (1_200, 20)])
def test_what_has_no_room_in_a_token_joins_later(servers: int, chars: int) -> None:
    """A token that is too long would be no session's at the next request. Those with the longest ids make room."""
    names = [f"server-{number}" for number in range(servers)]
    rig = Rig(config({name: {} for name in names}))
    outcomes = [opened(name) for name in names]
    outcomes = [
        replace(each, session=upstream(each.server, id="i" * (chars + 10 * (number == 1))))
        for number, each in enumerate(outcomes)
    ]
    reply = merged(rig, outcomes)
    assert 0.9 * MAX_TOKEN_CHARS - 4 * chars / 3 < len(token_of(reply)) <= MAX_TOKEN_CHARS
    kept = session_of(rig, reply).upstreams
    [note] = reply.notes
    assert note == Note("session_without_room", {"servers": servers - len(kept), "first": "server-1"})
    assert kept.keys() < set(names)
    assert "capabilities" in answer(reply)["result"]


def test_a_token_with_just_enough_room_has_all() -> None:
    rig = Rig()
    full = 0
    for chars in range(18_000, 19_000):
        ids = {"a": "i" * chars, "b": "i" * (chars + 1)}
        reply = merged(rig, [replace(opened(name), session=upstream(name, id=id)) for name, id in ids.items()])
        if len(session_of(rig, reply).upstreams) < 2:
            break
        assert not reply.notes
        full = len(token_of(reply))
    assert MAX_TOKEN_CHARS - 4 < full <= MAX_TOKEN_CHARS
    assert set(session_of(rig, reply).upstreams) == {"a"}
