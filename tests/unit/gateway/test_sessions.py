"""Whose session a request belongs to, and what it gets without one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mcp_extproc.gateway.decision import FanOut, Forward, Reply
from mcp_extproc.gateway.effects import EndStreams, NoteExpiry
from mcp_extproc.gateway.legs import CloseLeg, Done, Failed
from mcp_extproc.gateway.principal import ANONYMOUS, Principal
from mcp_extproc.mcp.sessions import Sealer
from tests.unit.gateway.support import LATEST, NOW, SECRET, Rig, answer, as_reply, config, head, message, opened

ALICE, BOB = (Principal("token", "https://idp.example", name) for name in ("alice", "bob"))

NEW = "another secret of the operator, long enough"

BODIES = [
    message("ping"),
    message("tools/list"),
    message("tools/call", {"name": "a__x"}),
    message("unknown"),
    message("notifications/initialized", id=None),
    message("notifications/cancelled", {"requestId": 1}, id=None),
    message("resources/read", {"uri": "a+x:"}),
    message("completion/complete", {}),
    message("logging/setLevel", {"level": "info"}),
    b'{"jsonrpc":"2.0","id":7,"result":{}}',
]


def error_of(reply: Reply) -> tuple[int, int, str]:
    return reply.status, answer(reply)["error"]["code"], reply.facts.metadata()["error_reason"]


@pytest.mark.parametrize("body", BODIES)
def test_a_session_id_is_needed(body: bytes) -> None:
    """400 without one (MCP transports, Session Management)."""
    assert error_of(Rig().reply(body, head())) == (400, -32600, "session_missing")


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("token", ["", "unknown", "A" * 300, "\u0000", "a, b"])
def test_an_unknown_session_id(body: bytes, token: str) -> None:
    """404 (MCP transports, Session Management)."""
    assert error_of(Rig().reply(body, head(mcp_session_id=token))) == (404, -32600, "session_unknown")


def test_the_id_is_echoed_where_there_was_one() -> None:
    """No id but the request's own."""
    for token, status in ((None, 400), ("unknown", 404)):
        request = Rig().reply(message("ping", id="x"), head(mcp_session_id=token))
        other = Rig().reply(message("notifications/initialized", id=None), head(mcp_session_id=token))
        response = Rig().reply(b'{"jsonrpc":"2.0","id":7,"result":{}}', head(mcp_session_id=token))
        assert (request.status, other.status, response.status) == (status, status, status)
        assert answer(request)["id"] == "x"
        assert "id" not in answer(other)
        assert "id" not in answer(response)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"expires": int(NOW)}, "expired"),
        ({"audience": "/other"}, "of another endpoint"),
        ({"principal": "alice"}, "of another principal"),
    ],
)
def test_tokens_that_are_good_for_something_else(changed: dict[str, object], reason: str) -> None:
    """The client is told no more than that there is no session; the operator is."""
    rig = Rig()
    token, session = rig.sealer.seal(rig.state(**changed))
    reply = rig.reply(message("ping"), head(mcp_session_id=token))
    assert reply.effects == ((NoteExpiry(session, LATEST),) if reason == "expired" else ())
    assert (reply.status, reply.facts.metadata()["session_error"]) == (404, reason)
    assert reply.body == rig.reply(message("ping"), head(mcp_session_id="unknown")).body


def test_a_session_is_bound_to_whoever_opened_it() -> None:
    """To the principal of the head, whoever put it there."""
    rig = Rig()
    alice = replace(head(), principal=ALICE)
    opening = rig.decide(message("initialize", {"protocolVersion": LATEST}), alice)
    assert isinstance(opening, FanOut)
    assert {leg.context.principal for leg in opening.legs} == {ALICE.key}
    token = dict(as_reply(opening.merge([opened("a"), opened("b")], NOW)).headers)["mcp-session-id"]
    within = head(mcp_session_id=token)
    assert rig.reply(message("ping"), replace(within, principal=ALICE)).status == 200
    listing = rig.fan_out(message("tools/list"), replace(within, principal=ALICE))
    assert {leg.context.principal for leg in listing.legs} == {ALICE.key}
    by_key = Principal("key", "https://idp.example", "alice")
    elsewhere = Principal("token", "https://other.example", "alice")
    for principal in (ANONYMOUS, BOB, by_key, elsewhere):
        refused = rig.reply(message("ping"), replace(within, principal=principal))
        assert (refused.status, refused.facts.metadata()["session_error"]) == (404, "of another principal")


def test_a_token_of_another_gateway() -> None:
    rig = Rig()
    token, _ = Sealer("another secret").seal(rig.state())
    assert rig.reply(message("ping"), head(mcp_session_id=token)).status == 404


def test_a_token_of_another_replica_with_the_same_secret() -> None:
    rig, replica = Rig(), Rig()
    assert rig.reply(message("ping"), head(mcp_session_id=replica.token)).status == 200


def test_a_token_from_before_the_secret_was_rotated() -> None:
    rotated = Rig(config(session={"secret": NEW, "previous_secrets": [SECRET]}), secret=NEW)
    assert rotated.reply(message("ping"), head(mcp_session_id=Rig().token)).status == 200
    assert Rig().reply(message("ping"), head(mcp_session_id=rotated.token)).status == 404


def test_an_id_sealed_before_the_secret_was_rotated() -> None:
    """A request of a server that is under way then still finds its answer."""
    before = Rig()
    rotated = Rig(config(session={"secret": NEW, "previous_secrets": [SECRET]}), secret=NEW)
    answer_of_client = b'{"jsonrpc":"2.0","id":%b,"result":{}}' % before.own("request", "a", b"1")
    assert isinstance(rotated.decide(answer_of_client, before.head()), FanOut)
    assert as_reply(Rig(secret=NEW).decide(answer_of_client)).status == 202


def test_delete_ends_the_session_here_and_at_every_server() -> None:
    """Whatever the servers reply."""
    rig = Rig()
    other = Rig(memory=rig.memory)
    decision = rig.gateway.admit(rig.head("DELETE"), NOW)
    assert isinstance(decision, FanOut)
    rig.carry_out(decision)
    assert [leg.server for leg in decision.legs if isinstance(leg, CloseLeg)] == ["a", "b"]
    reply = as_reply(decision.merge([Done("a"), Failed("b", "connect", "is unreachable")], NOW))
    assert (reply.status, reply.body, reply.effects) == (204, b"", (EndStreams(rig.session),))
    assert [note.fields["server"] for note in reply.notes] == ["b"]
    for body in BODIES:
        assert rig.reply(body).status == 404
    assert as_reply(rig.gateway.admit(rig.head("DELETE"), NOW)).status == 404
    assert as_reply(rig.get()).status == 404
    # Only this session has ended.
    assert other.reply(message("ping")).status == 200


def test_delete_needs_neither_body_nor_its_headers() -> None:
    rig = Rig()
    request = rig.head("DELETE", accept=None, content_type=None)
    assert isinstance(rig.gateway.admit(request, NOW), FanOut)


def test_sessions_end_by_the_clock_they_are_given() -> None:
    rig = Rig(config(session={"ttl": "1h"}))
    end = rig.state().expires
    late = rig.gateway.decide(rig.head(), message("ping"), float(end))
    assert as_reply(late).status == 404
    assert as_reply(rig.gateway.decide(rig.head(), message("ping"), end - 0.5)).status == 200


def test_no_token_is_printed() -> None:
    rig = Rig()
    reply = rig.reply(message("ping"), head(mcp_session_id=rig.token + "x"))
    assert rig.token not in json.dumps(reply.facts.metadata())
    assert rig.token not in reply.body.decode()


def test_a_head_that_comes_again_is_looked_at_again() -> None:
    """Its caller is kept with it, and nothing that may have changed since."""
    call = message("tools/call", {"name": "a__x", "arguments": {}})
    rig = Rig()
    request = rig.head()
    first, again = (rig.gateway.decide(request, call, NOW) for _ in range(2))
    assert isinstance(first, Forward)
    assert isinstance(again, Forward)
    assert again.plan is first.plan
    # Another worker finds out by itself.
    other = Rig(secret="another secret that is long enough").gateway
    assert as_reply(other.decide(request, call, NOW)).status == 404
    assert isinstance(rig.gateway.decide(request, call, NOW), Forward)
    # The session ends when it has to.
    assert as_reply(rig.gateway.decide(request, call, float(rig.state().expires))).status == 404
    assert isinstance(rig.gateway.decide(request, call, NOW), Forward)
    rig.memory.end(rig.session)
    assert as_reply(rig.gateway.decide(request, call, NOW)).status == 404
