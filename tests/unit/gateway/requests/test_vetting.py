"""When a call waits for consent, and what a consent lets run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from mcp_extproc.gateway.decision import Ask, Decision, FanOut, Forward, NeedSession, Preview, Reply
from mcp_extproc.gateway.effects import AnswerQuestion, RememberListed, SpendConsent, WithdrawCall
from mcp_extproc.gateway.legs import Failed, Listed, ListLeg, NotifyLeg, Outcome
from mcp_extproc.gateway.relay.identifiers import Asked, Consent, digest_of
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.gateway.requests.vetted import VettedCall
from mcp_extproc.gateway.vetting.question import Verdict
from mcp_extproc.mcp.errors import INTERNAL_ERROR
from tests.unit.gateway.support import NOW, Rig, answer, config, judged, message

FORMS = frozenset({"elicitation", "elicitation.form"})
QUESTION = Asked(b"q" * 16, "w")


class Vetted(Rig):
    """A gateway with entries, and a client that can ask its user."""

    def __init__(self, *entries: dict[str, Any], flags: frozenset[str] = FORMS, **more: Any) -> None:
        super().__init__(config(vetting=list(entries), **more), client_flags=flags)

    def ask(self, body: bytes, request: RequestHead | None = None) -> Ask:
        decision = self.decide(body, request)
        assert isinstance(decision, Ask), decision
        return decision

    def read(self, asked: Ask, request: RequestHead | None = None) -> VettedCall:
        """What the worker that asks makes of it."""
        request = request or self.head()
        return self.gateway.vetted(passed(request, asked), asked.told, asked.forward.body)


def passed(request: RequestHead, asked: Ask) -> RequestHead:
    """The head as it passes the policies."""
    kept = {name: value for name, value in request.headers.items() if name not in asked.forward.remove_headers}
    headers = kept | dict(asked.forward.set_headers)
    return RequestHead(request.method, request.path, headers)


def call(name: str = "a__delete", id: Any = 7, **arguments: Any) -> bytes:
    return message("tools/call", {"name": name, "arguments": arguments}, id)


def again(rig: Rig, call: VettedCall, asked: Asked | None = QUESTION) -> tuple[bytes, RequestHead]:
    """The request that passes once more."""
    leg = call.run(asked)
    return leg.body, RequestHead("POST", leg.path, dict(leg.headers))


def reason(decision: Decision) -> Any:
    assert isinstance(decision, Reply), decision
    return answer(decision)["error"]["data"]["reason"]


def test_a_call_that_matches_is_passed_on_to_be_asked_about() -> None:
    rig = Vetted({"tools": ["delete"], "timeout": "5s"})
    asked = rig.ask(call(path="/x"))
    told = rig.read(asked).told
    assert (told.caller, told.server, told.tool, told.seconds, told.asks) == (rig.session, "a", "delete", 5.0, True)
    shown = dict(asked.forward.set_headers)
    assert (shown["mcp-method"], shown["mcp-name"], shown["x-mcp-server"]) == ("tools/call", "delete", "a")
    assert ":path" not in shown
    assert json.loads(asked.forward.body)["params"] == {"name": "delete", "arguments": {"path": "/x"}}
    assert asked.forward.facts.metadata()["tool"] == "delete"


def test_others_run_as_ever() -> None:
    rig = Vetted({"tools": ["delete"]})
    assert isinstance(rig.decide(call("a__read")), Forward)
    assert isinstance(rig.decide(message("prompts/get", {"name": "a__delete"})), Reply)
    assert isinstance(rig.decide(call("a__read")), Forward)


def test_a_call_that_ran_before_is_no_reason_not_to_ask() -> None:
    """What is kept of calls for the next ones like them does not pass by the question."""
    rig = Vetted({"tools": ["pay"], "when": "request.mcp.params.arguments.amount > 100"})
    for amount in (1, 1, 1000):
        decision = rig.decide(call("a__pay", amount=amount))
        assert isinstance(decision, Ask if amount > 100 else Forward)


def test_consent_runs_the_very_call_once() -> None:
    rig = Vetted({"tools": ["delete"]})
    vetted = rig.read(rig.ask(call(path="/x")))
    body, head = again(rig, vetted)
    assert body == call(path="/x")
    decision = rig.decide(body, head)
    assert isinstance(decision, Forward)
    assert decision.facts.metadata()["consent"] == "given"
    assert decision.effects == (SpendConsent(rig.session, QUESTION.question),)
    assert "x-mcp-consent" in decision.remove_headers
    assert reason(rig.decide(body, head)) == "consent_mismatch"


def test_consent_is_for_nothing_else() -> None:
    rig = Vetted({})
    body, head = again(rig, rig.read(rig.ask(call(path="/x"))))
    for other in (call(path="/y"), call("b__delete", path="/x"), call("a__purge", path="/x"), call(id=8, path="/x")):
        assert reason(rig.decide(other, head)) == "consent_mismatch"
    stranger = Vetted({})
    theirs = RequestHead("POST", head.path, {**head.headers, "mcp-session-id": stranger.token})
    assert reason(stranger.decide(body, theirs)) == "consent_mismatch"
    for made_up in ("", "x", rig.gateway.identifiers.hidden(b"x")):
        forged = RequestHead("POST", head.path, {**head.headers, "x-mcp-consent": made_up})
        assert reason(rig.decide(body, forged)) == "consent_mismatch"
    consent = Consent(digest_of(body), "b", "delete", QUESTION.question)
    elsewhere = rig.gateway.identifiers.consent(rig.session, consent)
    assert reason(rig.decide(body, RequestHead("POST", head.path, {**head.headers, "x-mcp-consent": elsewhere})))
    assert isinstance(rig.decide(body, head), Forward)


def test_bytes_and_ids_stay_as_the_client_wrote_them() -> None:
    rig = Vetted({})
    text = b'{"id": "7", "jsonrpc":"2.0", "params" : {"arguments": {"n": 1.0e2}, "name": "a__delete"},"method":"tools/call"}'
    body, head = again(rig, rig.read(rig.ask(text)))
    assert body == text
    assert isinstance(rig.decide(body, head), Forward)


def test_clients_that_cannot_ask() -> None:
    for flags in (frozenset[str](), frozenset({"elicitation", "elicitation.url"})):
        refused = Vetted({}, flags=flags).decide(call())
        assert reason(refused) == "consent_unavailable"
        assert isinstance(refused, Reply)
        assert (refused.status, refused.facts.consent) == (200, "unavailable")
        run = Vetted({"without_elicitation": "pass"}, flags=flags).decide(call())
        assert isinstance(run, Forward)
        assert run.facts.consent == "passed"


def test_consent_that_is_remembered() -> None:
    rig = Vetted({"tools": ["delete"], "remember": "session"}, {"tools": ["purge"]})
    assert rig.read(rig.ask(call())).told.remembers
    assert not rig.read(rig.ask(call("a__purge"))).told.remembers
    for tool in ("delete", "purge"):
        rig.memory.remember_consent(rig.session, "a", tool)
    decision = rig.decide(call(anything="else"))
    assert isinstance(decision, Forward)
    assert decision.facts.consent == "remembered"
    rig.ask(call("b__delete"))
    rig.ask(call("a__purge"))
    rig.memory.end(rig.session)
    assert not rig.memory.has_consent(rig.session, "a", "delete")


# -- Annotations ----------------------------------------------------------------------------------------------------------


def listing(decision: FanOut, *tools: dict[str, Any]) -> Decision:
    [leg] = decision.legs
    assert isinstance(leg, ListLeg)
    return decision.merge([Listed(leg.server, [msgspec.Raw(json.dumps(tool).encode()) for tool in tools])], NOW)


def test_annotations_are_read_where_they_decide() -> None:
    rig = Vetted({"annotations": {"destructiveHint": True}})
    safe = {"name": "look", "annotations": {"destructiveHint": False}}
    decision = rig.decide(call())
    assert isinstance(decision, FanOut)
    found = listing(decision, {"name": "delete"}, safe)
    assert isinstance(found, Ask)
    [effect] = found.effects
    assert isinstance(effect, RememberListed)
    rig.carry_out(found)
    # From now on it is known; what is not listed is what the specification has it to be.
    assert isinstance(rig.decide(call("a__look")), Forward)
    assert isinstance(rig.decide(call()), Ask)
    assert isinstance(rig.decide(call("a__unknown")), Ask)


def test_a_list_of_the_client_serves_calls() -> None:
    rig = Vetted({"annotations": {"destructiveHint": True}})
    decision = rig.fan_out(message("tools/list"))
    tools = [msgspec.Raw(b'{"name":"look","annotations":{"destructiveHint":false}}')]
    rig.carry_out(decision.merge([Listed("a", tools), Listed("b", [])], NOW))
    assert isinstance(rig.decide(call("a__look")), Forward)


def test_annotations_that_cannot_be_read_are_a_refusal() -> None:
    decision = Vetted({"annotations": {"destructiveHint": True}}).decide(call())
    assert isinstance(decision, FanOut)
    outcomes: Sequence[Outcome] = [Failed("a", "timeout", "took too long")]
    refused = decision.merge(outcomes, NOW)
    assert isinstance(refused, Reply)
    assert answer(refused)["error"]["code"] == INTERNAL_ERROR


def test_untrusted_servers_say_nothing() -> None:
    rig = Vetted({"annotations": {"destructiveHint": True}}, servers={"a": {"untrusted": True}})
    decision = rig.decide(call("a__look"))
    assert isinstance(decision, FanOut)
    assert isinstance(listing(decision, {"name": "look", "annotations": {"destructiveHint": False}}), Ask)


# -- In its place ---------------------------------------------------------------------------------------------------------


def test_rules_come_first() -> None:
    rules = {"default": "allow", "rules": [{"action": "deny", "tools": ["hidden"]}]}
    rig = Vetted({"annotations": {"destructiveHint": True}}, authorization=rules)
    for name, kind in (("hidden", Reply), ("missing", Reply), ("delete", Ask)):
        decision = rig.decide(call(f"a__{name}"))
        assert isinstance(decision, FanOut)
        # One reading serves both.
        assert isinstance(listing(decision, {"name": "hidden"}, {"name": "delete"}), kind)


def test_policies_come_first() -> None:
    rig = Vetted({})
    _, head = rig.shown(call())
    assert isinstance(rig.gateway.foresee(rig.head(), call(), NOW), Preview)
    asked = rig.ask(call(), head)
    assert "consent" not in asked.forward.facts.metadata()
    # Policies judge it once more before it runs, and the consent reaches the visit behind them.
    body, first = again(rig, rig.read(asked, head))
    assert isinstance(rig.gateway.foresee(first, body, NOW), Preview)
    preview = rig.gateway.preview(first, body, NOW)
    assert isinstance(preview, Preview)
    assert isinstance(rig.decide(body, judged(first, preview)), Forward)
    # One that a client made up does not.
    made_up = rig.gateway.preview(rig.head(x_mcp_consent="x"), call(), NOW)
    assert isinstance(made_up, Preview)
    assert "x-mcp-consent" in made_up.remove_headers


def test_a_call_whose_server_is_not_known_before_is_asked_about_behind_the_policies() -> None:
    rig = Vetted({"tools": ["delete"]}, bare_names=True)
    _, head = rig.shown(call("delete"))
    decision = rig.decide(call("delete"), head)
    assert isinstance(decision, FanOut)
    tools = [msgspec.Raw(b'{"name":"delete"}')]
    passed_on = decision.merge([Listed("a", tools), Listed("b", [])], NOW)
    assert isinstance(passed_on, Ask)
    vetted = rig.read(passed_on, head)
    assert not vetted.told.asks
    # It says itself whose it is now, and is asked about then.
    body, first = again(rig, vetted, None)
    preview = rig.gateway.preview(first, body, NOW)
    assert isinstance(preview, Preview)
    asked = rig.decide(body, judged(first, preview))
    assert isinstance(asked, Ask)
    assert rig.read(asked, first).told.asks


def test_at_a_virtual_server_that_a_header_chose() -> None:
    rig = Vetted({}, virtual_servers={"v": {"servers": {"a": "all"}}}, virtual_server_header=True)
    rig.token, rig.session = rig.sealer.seal(rig.state(audience="v"))
    chosen = rig.head(x_mcp_virtualserver="v")
    body, head = again(rig, rig.read(rig.ask(call(), chosen), chosen))
    assert isinstance(rig.decide(body, head), Forward)


# -- Answers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["accept", "decline"])
def test_an_answer_reaches_the_worker_that_asked(action: str) -> None:
    rig = Vetted({})
    id, _ = rig.read(rig.ask(call())).question(QUESTION)
    body = json.dumps({"jsonrpc": "2.0", "id": id, "result": {"action": action}}).encode()
    verdict = Verdict.GIVEN if action == "accept" else Verdict.DECLINED
    reply = rig.reply(body)
    assert (reply.status, reply.body, reply.effects) == (202, b"", (AnswerQuestion(QUESTION, verdict),))
    # Another session's, or another purpose's, means nothing.
    assert Vetted({}).reply(body).effects == ()
    assert rig.reply(body.replace(id.encode(), f"{id}x".encode())).effects == ()


def test_a_cancelled_call_waits_no_more() -> None:
    rig = Vetted({})
    cancelled = rig.fan_out(message("notifications/cancelled", {"requestId": "7"}, id=None))
    assert cancelled.effects == (WithdrawCall(rig.session, b'"7"'),)
    assert all(isinstance(leg, NotifyLeg) for leg in cancelled.legs)
    assert Rig().fan_out(message("notifications/cancelled", {"requestId": "7"}, id=None)).effects == ()


def test_a_session_is_opened_only_with_consent() -> None:
    rig = Vetted({})
    rig.upstreams = {}
    rig.token, rig.session = rig.sealer.seal(rig.state())
    body, head = again(rig, rig.read(rig.ask(call())))
    assert isinstance(rig.decide(body, head), NeedSession)
