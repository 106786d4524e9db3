"""What a server is sent as credentials, and that what is of one caller serves no other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.contract import READS_ALL, READS_KEY
from mcp_extproc.gateway.credentials import digest
from mcp_extproc.gateway.decision import FanOut, Forward, NeedSession
from mcp_extproc.gateway.legs import Challenge, Failed, Leg, Listed, ListLeg
from mcp_extproc.gateway.principal import Principal
from mcp_extproc.gateway.relay import awaited
from mcp_extproc.gateway.relay.awaited import ID_KEY
from mcp_extproc.gateway.request import RequestHead, context_of
from mcp_extproc.mcp.sessions import UpstreamSession
from tests.unit.gateway.support import (
    HEADERS,
    LATEST,
    NOW,
    Rig,
    as_reply,
    catalog_of,
    config,
    message,
    opened,
    upstream,
)

FORWARD = {"forward": [{"name": "X-Token", "as": "Authorization"}, {"name": "x-tenant"}]}
CLAIMS = {"claims": [{"claim": "sub", "header": "X-User"}, {"claim": "realm.roles", "header": "x-roles"}]}
ALICE = Principal("token", "https://idp.example", "alice", claims={"sub": "alice", "realm": {"roles": ["a", "b"]}})
CALL = message("tools/call", {"name": "a__x"})
LIST = message("tools/list")
INITIALIZE = message("initialize", {"protocolVersion": LATEST})


def of(**credentials: Any) -> GatewayConfig:
    """Two servers, of which the first gets credentials."""
    return config({"a": {"credentials": credentials}, "b": {}})


def sent(forward: Forward) -> dict[str, str]:
    return dict(forward.set_headers)


def begun(rig: Rig, **headers: str) -> RequestHead:
    """The head of a client's further requests, once it has opened a session with both servers."""
    first = RequestHead(
        "POST", "/mcp", {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    )
    fan_out = rig.fan_out(INITIALIZE, first)
    outcomes = [replace(opened(leg.server), session=_opened_by(leg)) for leg in fan_out.legs]
    reply = as_reply(fan_out.merge(outcomes, NOW))
    rig.carry_out(reply)
    return replace(first, headers={**first.headers, "mcp-session-id": dict(reply.headers)["mcp-session-id"]})


def _opened_by(leg: Leg) -> UpstreamSession:
    carried = digest(leg.context.carried.get(leg.server, ()))
    return UpstreamSession(LATEST, f"{leg.server} for {carried}", frozenset({"tools"}), carried)


# -- The gateway's own ----------------------------------------------------------------------------------------------------


def test_a_header() -> None:
    rig = Rig(of(header={"name": "Authorization", "value": "k3y-9fA1", "prefix": "Bearer "}))
    assert sent(rig.call("a__x"))["authorization"] == "Bearer k3y-9fA1"
    assert "authorization" not in sent(rig.call("b__x"))


@pytest.mark.parametrize(
    ("url", "path"),
    [("http://a.example/mcp", "/mcp?key=k%26%20y"), ("http://a.example/mcp?x=1", "/mcp?x=1&key=k%26%20y")],
)
def test_a_parameter_of_the_query(url: str, path: str) -> None:
    rig = Rig(config({"a": {"url": url, "credentials": {"query": {"name": "key", "value": "k& y"}}}, "b": {}}))
    assert sent(rig.call("a__x"))[":path"] == path


@pytest.mark.parametrize("kind", ["header", "query"])
def test_a_secret_of_a_file_is_sent_once_it_is_read(kind: str) -> None:
    rig = Rig(of(**{kind: {"name": "key", "file": "/run/secrets/key"}}))
    entry = rig.gateway.servers["a"]
    assert entry.own.file == "/run/secrets/key"
    assert "key" not in sent(rig.call("a__x"))
    for secret in ("first-secret-1", "other-secret-2"):
        rig.gateway.renew("a", secret)
        forwarded = sent(rig.call("a__x"))
        found = forwarded["key"] if kind == "header" else forwarded[":path"]
        assert found == (secret if kind == "header" else f"/mcp?key={secret}")
    # A server may still repeat the one before.
    assert entry.redact("first-secret-1 and other-secret-2", 100) == "[redacted] and [redacted]"


def test_nothing_of_it_is_shown() -> None:
    rig = Rig(of(header={"name": "key", "value": "k3y-9fA1-secret"}))
    forward, entry = rig.call("a__x"), rig.gateway.servers["a"]
    assert "k3y-9fA1" not in f"{forward!r}{forward.plan!r}{entry!r}{entry.own!r}{rig.config!r}"


def test_a_client_that_logs_in_at_the_server_itself() -> None:
    """The server has its Authorization, and it the server's challenge, at the status of its answer."""
    rig = Rig(config({"a": {"credentials": {"pass_through": True}}}))
    call = rig.forward(CALL, begun(rig, authorization="Bearer t"))
    assert sent(call)["authorization"] == "Bearer t"
    first = RequestHead("POST", "/mcp", HEADERS)
    challenge = 'Bearer resource_metadata="https://a.example/.well-known/oauth-protected-resource"'
    for www_authenticate, headers in ((challenge, {"www-authenticate": challenge}), ("", {})):
        failed = Failed("a", "credentials_refused", "answered HTTP 401", Challenge(401, www_authenticate))
        for fan_out in (rig.fan_out(INITIALIZE, first), rig.fan_out(LIST)):
            reply = as_reply(fan_out.merge([failed], NOW))
            assert (reply.status, dict(reply.headers)) == (401, {"content-type": "application/json", **headers})
            assert reply.facts.error is not None
            assert reply.facts.error[1] == "credentials_refused"


# -- Of the caller --------------------------------------------------------------------------------------------------------


def test_headers_go_on_under_their_new_names() -> None:
    rig = Rig(of(**FORWARD))
    head = begun(rig, x_token="Bearer of alice", x_tenant="acme")
    forward = rig.forward(CALL, head)
    assert {name: sent(forward)[name] for name in ("authorization", "x-tenant")} == {
        "authorization": "Bearer of alice",
        "x-tenant": "acme",
    }
    assert "x-token" in forward.remove_headers
    other = rig.forward(message("tools/call", {"name": "b__x"}), head)
    assert {"x-token", "x-tenant"} <= {*other.remove_headers}
    assert {"authorization", "x-tenant"}.isdisjoint(sent(other))


def test_what_is_not_named_stays() -> None:
    """The client's own header of the server's name among them."""
    rig = Rig(of(**FORWARD))
    forward = rig.forward(CALL, begun(rig, authorization="Bearer of the gateway", cookie="c"))
    assert "authorization" not in sent(forward)
    assert {"authorization", "cookie"} <= {*forward.remove_headers}


def test_claims_are_headers_that_no_client_can_write() -> None:
    rig = Rig(of(**CLAIMS))
    head = rig.head(x_user="root", x_roles="admin", mcp_session_id=None)
    anonymous = rig.forward(CALL, begun(rig, x_user="root", x_roles="admin"))
    assert {"x-user", "x-roles"} <= {*anonymous.remove_headers}
    fan_out = rig.fan_out(INITIALIZE, replace(head, principal=ALICE))
    assert fan_out.legs[0].context.carried == {"a": (("x-user", "alice"), ("x-roles", "a,b"))}


def test_who_has_no_claims_is_told_by_name() -> None:
    rig = Rig(of(**CLAIMS))
    head = replace(rig.head(mcp_session_id=None), principal=Principal("key", "api_keys", "robot"))
    assert rig.fan_out(INITIALIZE, head).legs[0].context.carried == {"a": (("x-user", "robot"),)}


def test_a_call_after_policies_gets_them_there() -> None:
    rig = Rig(of(**FORWARD))
    head = replace(begun(rig, x_token="Bearer of alice"), awaits_policies=True)
    decision = rig.gateway.foresee(head, CALL, NOW)
    assert isinstance(decision, Forward)
    assert dict(decision.plan.onward)["authorization"] == "Bearer of alice"
    assert "authorization" not in sent(decision)


# -- Nobody else's --------------------------------------------------------------------------------------------------------


def test_two_anonymous_callers_with_two_tokens_never_meet() -> None:
    """Each with its own session, and one of them with the session of the other and its own token."""
    rig = Rig(of(**FORWARD))
    alice, bob = begun(rig, x_token="of alice"), begun(rig, x_token="of bob")
    thief = replace(alice, headers={**alice.headers, "x-token": "of bob"})
    first = rig.forward(CALL, alice)
    assert sent(first)["authorization"] == "of alice"
    assert sent(rig.forward(CALL, bob))["authorization"] == "of bob"
    # No session with the server that somebody else's token opened, and no plan of one.
    needed = rig.decide(CALL, thief)
    assert isinstance(needed, NeedSession)
    assert needed.session.known is None
    assert needed.context.carried == {"a": (("authorization", "of bob"),)}
    resumed = needed.resume(upstream("a", id="of the thief"))
    assert isinstance(resumed, Forward)
    assert sent(resumed)["authorization"] == "of bob"
    assert sent(resumed)["mcp-session-id"] == "of the thief"
    assert sent(rig.forward(CALL, alice)) == sent(first)


def test_lists_are_read_and_kept_apart() -> None:
    rig = Rig(of(**FORWARD))
    alice = begun(rig, x_token="of alice")
    bob = replace(alice, headers={**alice.headers, "x-token": "of bob"})
    keys = set()
    for head, name in ((alice, "alice"), (bob, "bob")):
        fan_out = rig.fan_out(LIST, head)
        keys.add(fan_out.caller)
        leg = next(leg for leg in fan_out.legs if leg.server == "a")
        assert isinstance(leg, ListLeg)
        assert leg.context.carried == {"a": (("authorization", f"of {name}"),)}
        assert name not in fan_out.caller, "a hash"
        outcomes = [Listed(leg.server, [msgspec.Raw(b'{"name":"%s"}' % name.encode())]) for leg in fan_out.legs]
        assert name in as_reply(fan_out.merge(outcomes, NOW)).body.decode()
    assert len(keys) == 2


def test_a_server_that_gets_nothing_of_callers_keeps_its_session() -> None:
    """A client whose token is another one each hour has one session with the others all the same."""
    rig = Rig(of(**FORWARD))
    alice = begun(rig, x_token="first")
    later = replace(alice, headers={**alice.headers, "x-token": "second"})
    call = message("tools/call", {"name": "b__x"})
    assert sent(rig.forward(call, later))["mcp-session-id"] == sent(rig.forward(call, alice))["mcp-session-id"]


def test_the_streams_of_two_callers_are_two() -> None:
    rig = Rig(of(**FORWARD))
    alice = replace(begun(rig, x_token="of alice"), method="GET")
    bob = replace(alice, headers={**alice.headers, "x-token": "of bob"})
    keys = {rig.gateway.admit(head, NOW).view.key for head in (alice, bob)}  # type: ignore[union-attr]
    assert len(keys) == 2


def test_a_session_ends_for_all_that_its_client_has_sent() -> None:
    rig = Rig(of(**FORWARD))
    alice = begun(rig, x_token="first")
    later = replace(alice, headers={**alice.headers, "x-token": "second"}, method="DELETE")
    ended = rig.gateway.admit(later, NOW)
    assert isinstance(ended, FanOut)
    rig.carry_out(ended)
    assert as_reply(rig.decide(CALL, alice)).status == 404


def test_the_name_of_a_session_in_metadata_is_the_same_with_any_token() -> None:
    """And nothing of a token is in it."""
    rig = Rig(of(**FORWARD))
    alice = begun(rig, x_token="of alice")
    session = rig.forward(CALL, alice).facts.metadata()["session"]
    other = rig.fan_out(LIST, replace(alice, headers={**alice.headers, "x-token": "of bob"}))
    assert session == as_reply(other.merge([], NOW)).facts.metadata()["session"]


# -- Further requests for its sake -----------------------------------------------------------------------------------------


def test_a_request_that_is_sent_once_more_opens_a_session_with_them() -> None:
    rig = Rig(of(**FORWARD))
    again = RequestHead(
        "POST", "/mcp", {"mcp-session-id": "lost", "authorization": "of alice", "x-envoy-attempt-count": "2"}
    )
    needed = rig.gateway.repair("a", again)
    assert isinstance(needed, NeedSession)
    assert needed.context.carried == {"a": (("authorization", "of alice"),)}
    assert rig.gateway.context_of_repair("b", again).carried == {}


def test_what_reads_a_response_elsewhere_has_them_hidden() -> None:
    rig = Rig(of(**FORWARD))
    forward = rig.forward(CALL, begun(rig, x_token="of alice"))
    assert forward.response is not None
    context = context_of(rig.head(), forward.id, forward.carried)
    told = {
        **awaited.told(forward.response),
        **awaited.told_besides(forward.response, (), context),
        READS_KEY: READS_ALL,
        ID_KEY: "7",
    }
    assert "alice" not in str(told)
    assert rig.gateway.awaited(told).context.carried == {"a": (("authorization", "of alice"),)}
    assert "alice" not in repr(rig.gateway.awaited(told).context)


def test_servers_that_get_nothing_cost_nothing() -> None:
    catalog = catalog_of(config())
    assert catalog.carried(RequestHead("POST", "/mcp", {"authorization": "x"})) == {}
