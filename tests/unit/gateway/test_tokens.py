"""Tokens that servers get for callers' own: whose they are, and for how long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mcp_extproc.bounded import Lookups
from mcp_extproc.contract import READS_ALL, READS_KEY
from mcp_extproc.gateway.decision import Decision, FanOut, Forward, NeedToken, Reply
from mcp_extproc.gateway.legs import Failed
from mcp_extproc.gateway.principal import ANONYMOUS, Principal, of_claims
from mcp_extproc.gateway.relay import awaited
from mcp_extproc.gateway.relay.awaited import ID_KEY
from mcp_extproc.gateway.request import RequestHead, Subject, context_of
from mcp_extproc.gateway.tokens import Granted, subject_of
from mcp_extproc.mcp.trace_context import SpanContext
from tests.unit.gateway.support import NOW, Rig, as_reply, config, head, message

EXCHANGE = {
    "token_endpoint": "https://idp.example/token",
    "client_id": "gateway",
    "client_secret": "planted-9fA1",
    "audience": "a",
}
AUTHENTICATION = {
    "anonymous": True,
    "oauth": {"resource": "https://gw.example/mcp", "issuers": [{"issuer": "https://idp.example"}]},
}


def who(subject: str = "alice", **more: Any) -> Principal:
    """Whose token it is, as Envoy verified it."""
    claims = {"iss": "https://idp.example", "sub": subject, "scope": ["read"], "aud": "https://gw.example/mcp", **more}
    return of_claims("token", claims, "sub", "groups")


ALICE, BOB = who(), who("bob")
CALL = message("tools/call", {"name": "a__x"})
LATER = 60.0


def rig() -> Rig:
    return Rig(config({"a": {"credentials": {"token_exchange": EXCHANGE}}, "b": {}}, authentication=AUTHENTICATION))


def of(rig: Rig, who: Principal) -> RequestHead:
    """The head of a request in a session of its own."""
    token, _ = rig.sealer.seal(rig.state(principal=who.key))
    return replace(rig.head(mcp_session_id=token, authorization=f"Bearer {who.subject}s"), principal=who)


def granted(value: str, until: float = NOW + LATER) -> Granted:
    return Granted((("authorization", f"Bearer {value}"),), NOW, until)


def need(decision: Decision) -> NeedToken:
    assert isinstance(decision, NeedToken)
    return decision


def sent(decision: Decision) -> str | None:
    """The token that goes to the server."""
    assert isinstance(decision, Forward)
    return dict(decision.set_headers).get("authorization")


def exchanged(rig: Rig, who: RequestHead, value: str) -> Forward:
    """A call whose token has been got, as whoever gets it does."""
    wanted = need(rig.decide(CALL, who))
    found = granted(value)
    rig.gateway.tokens.keep(wanted.subject, wanted.server, found)
    decision = wanted.resume(found)
    assert isinstance(decision, Forward)
    return decision


def test_it_is_got_once_for_a_caller_and_a_server() -> None:
    found = rig()
    alice = of(found, ALICE)
    wanted = need(found.decide(CALL, alice))
    assert (wanted.server, wanted.subject.token) == ("a", "alices")
    assert sent(exchanged(found, alice, "hers")) == "Bearer hers"
    for _ in range(2):  # the long way, and like the one before
        assert sent(found.decide(CALL, alice)) == "Bearer hers"
    other = found.decide(message("tools/call", {"name": "b__x"}), alice)
    assert sent(other) is None
    assert isinstance(other, Forward)
    assert "authorization" in other.remove_headers


def test_whoever_looks_is_told() -> None:
    """How often one had to be got, and for which request's sake."""
    found, span = rig(), SpanContext("a" * 32, "b" * 16, sampled=True)
    alice = replace(of(found, ALICE), span=span)
    lookups = found.gateway.lookups["exchanged_tokens"]
    assert need(found.decide(CALL, alice)).span == span
    assert lookups == Lookups(hits=0, misses=1)
    exchanged(found, alice, "hers")
    found.decide(CALL, alice)
    assert lookups.misses == 2
    assert lookups.hits > 0


def test_nobody_else_gets_it() -> None:
    found = rig()
    exchanged(found, of(found, ALICE), "hers")
    others = (
        BOB,
        who(scope=["read", "write"]),
        who(client_id="another"),
        who(act={"sub": "an agent"}),
        who(acr="0"),
        who(aud=["https://gw.example/mcp", "https://another.example"]),
        who(iss="https://another.example"),
    )
    for other in others:
        assert need(found.decide(CALL, of(found, other))).server == "a"
    assert sent(exchanged(found, of(found, BOB), "his")) == "Bearer his"
    assert sent(found.decide(CALL, of(found, ALICE))) == "Bearer hers"


def test_the_next_token_of_the_caller_has_it() -> None:
    """One that says the same."""
    found = rig()
    exchanged(found, of(found, who(iat=1, nbf=1, exp=2, jti="a", act={"sub": "x", "iss": "y"})), "hers")
    again = who(act={"iss": "y", "sub": "x"}, exp=4, jti="b", iat=3, nbf=3)
    assert sent(found.decide(CALL, of(found, again))) == "Bearer hers"


def test_another_one_is_got_when_it_expires() -> None:
    found = rig()
    alice = of(found, ALICE)
    exchanged(found, alice, "hers")
    assert sent(found.gateway.decide(alice, CALL, NOW + LATER - 1)) == "Bearer hers"
    later = need(found.gateway.decide(alice, CALL, NOW + LATER))
    assert sent(later.resume(granted("next"))) == "Bearer next"


def test_another_one_is_got_when_the_server_refuses_it() -> None:
    """Not at once: then another one would fare no better. Others keep theirs."""
    found = rig()
    alice, bob = of(found, ALICE), of(found, BOB)
    exchanged(found, alice, "hers")
    exchanged(found, bob, "his")
    whose = need(found.decide(CALL, of(found, who(acr="0")))).subject
    tokens = found.gateway.tokens
    for subject, server, now in (
        (whose, "a", NOW + 30),
        (subject_of(alice), "b", NOW + 30),
        (subject_of(alice), "a", NOW + 1),
    ):
        tokens.refused(subject, server, now)
        assert sent(found.decide(CALL, alice)) == "Bearer hers"
    tokens.refused(subject_of(alice), "a", NOW + 30)
    assert need(found.decide(CALL, alice)).server == "a"
    assert sent(found.decide(CALL, bob)) == "Bearer his"


def test_where_nobody_knows_whose_was_refused_all_are_got_anew() -> None:
    """Once in a while: one caller could cost everybody theirs with each call."""
    tokens = rig().gateway.tokens
    alice = Subject("alice", "hers")

    def is_kept(since: float, refused_at: float) -> bool:
        tokens.keep(alice, "a", Granted((), since, NOW + 3600))
        tokens.refused(None, "a", refused_at)
        return tokens.current(alice, "a", refused_at) is not None

    assert not is_kept(NOW, NOW + 30)
    assert is_kept(NOW + 31, NOW + 60)
    assert is_kept(NOW + 31, NOW + 89)
    assert not is_kept(NOW + 31, NOW + 90)


def test_why_there_is_none_is_said() -> None:
    found = rig()
    failed = Failed("a", "credentials_unavailable", "was not asked: no such audience")
    reply = as_reply(need(found.decide(CALL, of(found, ALICE))).resume(failed))
    assert b"'a' was not asked: no such audience" in reply.body
    assert reply.notes[0].fields["reason"] == "credentials_unavailable"


@pytest.mark.parametrize("who", [ANONYMOUS, Principal("key", "", "alice")])
def test_who_brings_no_token_is_told_so(who: Principal) -> None:
    """Whatever is in the header: only what Envoy has verified is exchanged."""
    found = rig()
    reply = found.decide(CALL, of(found, who))
    assert isinstance(reply, Reply)
    assert b"this caller has none that was verified" in reply.body


@pytest.mark.parametrize("header", ["", "Basic YTpi", "Bearer a, Bearer b", "Bearer ", "bearer a"])
def test_what_is_no_token(header: str) -> None:
    assert subject_of(replace(head(authorization=header), principal=ALICE)) is None


def test_whoever_reads_the_response_has_it() -> None:
    """What a server is sent then, in the session of the call, is the same caller's. Nobody else can read it."""
    found = rig()
    alice = of(found, ALICE)
    forward = exchanged(found, alice, "hers")
    assert forward.response is not None
    assert forward.response.id is not None
    context = context_of(alice, forward.id, forward.carried)
    told: dict[str, Any] = {
        **awaited.told(forward.response),
        READS_KEY: READS_ALL,
        ID_KEY: forward.response.id.decode(),
        **awaited.told_besides(forward.response, (), context),
    }
    assert "hers" not in str(told)
    assert found.gateway.awaited(told).context.carried == {"a": (("authorization", "Bearer hers"),)}


def test_a_session_is_the_same_callers_with_the_next_token() -> None:
    """One that is opened again has the token of the request, and no mark of it."""
    entry = rig().gateway.servers["a"]
    carried = entry.carried_again({"authorization": "Bearer hers"})
    assert carried == (("authorization", "Bearer hers"),)
    assert entry.key_of(carried) == ""


def test_what_is_done_besides_has_the_callers_own() -> None:
    """Sub-requests: whoever sends them exchanges it."""
    found = rig()
    alice = of(found, ALICE)
    lists = found.decide(message("tools/list"), alice)
    assert isinstance(lists, FanOut)
    ending = found.gateway.admit(replace(alice, method="DELETE"), NOW)
    assert isinstance(ending, FanOut)
    for leg in (*lists.legs, *ending.legs):
        assert leg.context.subject == subject_of(alice)
    plain = Rig(config({"a": {}}, authentication=AUTHENTICATION))
    decision = plain.decide(message("tools/list"), of(plain, ALICE))
    assert isinstance(decision, FanOut)
    assert [leg.context.subject for leg in decision.legs] == [None]


def test_nothing_of_it_is_shown() -> None:
    found = rig()
    alice = of(found, ALICE)
    wanted = need(found.decide(CALL, alice))
    forward = exchanged(found, alice, "hers")
    context = context_of(alice, subject=wanted.subject)
    assert "alices" not in f"{wanted!r}{context!r}"
    assert "hers" not in f"{forward!r}{forward.plan!r}{granted('hers')!r}"
