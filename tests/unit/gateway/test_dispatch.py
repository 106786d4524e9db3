"""One row for each kind of request: what is done with it, and what it is answered."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.gateway.decision import Decision, FanOut, Forward, NeedBody, NeedSession, Reply
from mcp_extproc.gateway.legs import AskLeg, CloseLeg, Done, Failed, ListLeg, NotifyLeg, OpenLeg, Outcome
from mcp_extproc.gateway.principal import Principal
from mcp_extproc.mcp import methods
from mcp_extproc.slices import whole
from tests.support.passes import Passes
from tests.unit.gateway.support import EVERYTHING, NOW, Rig, answer, as_reply, code, config, head, message, upstream
from tests.unit.mcp.strategies import json_texts

RIG = Rig()
RICH = Rig(
    upstreams={name: upstream(name, capabilities=EVERYTHING) for name in "ab"}, client_flags=frozenset({"roots"})
)
"""Servers that offer everything, and a client with roots."""
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "agent", "version": "1"}}


def legs(decision: Decision) -> list[type]:
    return [type(leg) for leg in decision.legs] if isinstance(decision, FanOut) else []


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (message("tools/list"), [ListLeg, ListLeg]),
        (message("tools/list", {}), [ListLeg, ListLeg]),
        (message("prompts/list"), [ListLeg, ListLeg]),
        (message("resources/list"), [ListLeg, ListLeg]),
        (message("resources/templates/list"), [ListLeg, ListLeg]),
        (message("logging/setLevel", {"level": "info"}), [AskLeg, AskLeg]),
        (message("notifications/cancelled", {"requestId": 3}, id=None), [NotifyLeg, NotifyLeg]),
        (message("notifications/roots/list_changed", id=None), [NotifyLeg, NotifyLeg]),
    ],
)
def test_what_every_server_of_the_session_is_asked(body: bytes, asked: list[type]) -> None:
    assert legs(RICH.decide(body)) == asked


@pytest.mark.parametrize(
    ("method", "flag"),
    [
        ("tools/list", "tools"),
        ("prompts/list", "prompts"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resources"),
        ("logging/setLevel", "logging"),
    ],
)
def test_only_servers_with_the_capability_are_asked_and_those_that_may_have_it(method: str, flag: str) -> None:
    """The one that was down at `initialize` may."""
    without = upstream("a", capabilities=sorted({*EVERYTHING} - {flag}))
    rig = Rig(config({name: {} for name in "abc"}), {"a": without, "b": upstream("b", capabilities=(flag,))})
    decision = rig.fan_out(message(method, {"level": "info"} if method == "logging/setLevel" else {}))
    found = [leg for leg in decision.legs if isinstance(leg, ListLeg | AskLeg)]
    assert [(leg.server, leg.capability, leg.method) for leg in found] == [("b", flag, method), ("c", flag, method)]


def test_initialize_asks_every_server() -> None:
    assert legs(RIG.decide(message("initialize", INITIALIZE), head())) == [OpenLeg, OpenLeg]


def test_initialize_within_a_session_opens_another() -> None:
    assert legs(RIG.decide(message("initialize", INITIALIZE), RIG.head())) == [OpenLeg, OpenLeg]


def test_initialize_with_a_session_id_that_is_none_is_told_so() -> None:
    refused = RIG.decide(message("initialize", INITIALIZE), RIG.head(mcp_session_id="anything"))
    assert isinstance(refused, Reply)
    assert refused.status == 404


def test_delete_ends_the_session_with_every_server() -> None:
    """With one DELETE to each (MCP transports, Session Management)."""
    rig = Rig()
    decision = rig.gateway.admit(rig.head("DELETE"), NOW)
    assert not isinstance(decision, NeedBody)
    assert legs(decision) == [CloseLeg, CloseLeg]
    assert isinstance(decision, FanOut)
    reply = decision.merge([], NOW)
    assert isinstance(reply, Reply)
    age = rig.gateway.config.session.ttl - (rig.state().expires - NOW)
    assert reply.facts.session_seconds == age > 0
    assert "session_seconds" not in reply.facts.metadata()


PROMPT, RESOURCE = {"type": "ref/prompt", "name": "b__x"}, {"type": "ref/resource", "uri": "b+x:y{z}"}

# (what a client sends, params as the server gets them)
FORWARDED: list[tuple[bytes, dict[str, Any]]] = [
    (message("tools/call", {"name": "b__x", "arguments": {"n": 1}}), {"name": "x", "arguments": {"n": 1}}),
    (message("prompts/get", {"name": "b__x"}), {"name": "x"}),
    (message("resources/read", {"uri": "b+file:///x"}), {"uri": "file:///x"}),
    (message("resources/read", {"uri": "B+file:///x"}), {"uri": "file:///x"}),
    (message("resources/read", {"uri": "ui://b/view/1"}), {"uri": "ui://view/1"}),
    (message("resources/subscribe", {"uri": "b+x:y"}), {"uri": "x:y"}),
    (message("resources/unsubscribe", {"uri": "b+x:y"}), {"uri": "x:y"}),
    (
        message("completion/complete", {"ref": PROMPT, "argument": {"name": "a", "value": "b__x"}}),
        {"ref": {**PROMPT, "name": "x"}, "argument": {"name": "a", "value": "b__x"}},
    ),
    (
        message("completion/complete", {"ref": RESOURCE, "argument": {}}),
        {"ref": {**RESOURCE, "uri": "x:y{z}"}, "argument": {}},
    ),
]


@pytest.mark.parametrize(("body", "params"), FORWARDED)
def test_what_goes_to_one_server(body: bytes, params: dict[str, Any]) -> None:
    forward = RICH.forward(body)
    assert (forward.server, forward.facts.metadata()["server"]) == ("b", "b")
    assert json.loads(forward.body) == {**json.loads(body), "params": params}


@pytest.mark.parametrize(("body", "params"), FORWARDED)
def test_no_server_gets_what_it_does_not_offer(body: bytes, params: dict[str, Any]) -> None:
    """Nor does the client learn of names that nobody can have."""
    for flags in [(), ("resources",), ("prompts",), ("completions",), ("tools",)]:
        rig = Rig(upstreams={"a": upstream("a", capabilities=EVERYTHING), "b": upstream("b", capabilities=flags)})
        method = json.loads(body)["method"]
        needed = {methods.REQUESTS[method].capability}
        if params.get("ref", {}).get("type") == "ref/prompt":
            needed.add("prompts")
        decision = rig.decide(body)
        assert isinstance(decision, Forward) == (needed <= set(flags)), flags
        if isinstance(decision, Reply):
            assert decision.status == 200
            assert (answer(decision)["id"], code(decision)) in ((7, -32601), (7, -32602))


def test_what_a_server_does_not_offer_is_named() -> None:
    rig = Rig(upstreams={"a": upstream("a"), "b": upstream("b", capabilities=("resources",))})
    reply = rig.reply(message("resources/subscribe", {"uri": "b+x:y"}))
    assert reply.facts.metadata()["error_reason"] == "not_offered"
    assert answer(reply)["error"]["message"] == "Server 'b' does not offer resources/subscribe."


def test_a_server_opened_late_is_asked_only_for_what_it_offers() -> None:
    rig = Rig(upstreams={})
    decision = rig.decide(message("resources/read", {"uri": "b+x:y"}))
    assert isinstance(decision, NeedSession)
    assert code(as_reply(decision.resume(upstream("b", capabilities=("tools",))))) == -32601
    assert isinstance(decision.resume(upstream("b", capabilities=("resources",))), Forward)


@pytest.mark.parametrize(
    "body",
    [
        message("notifications/initialized", id=None),
        message("notifications/initialized", {}, id=None),
        # Unknown notifications, and answers to what was never asked.
        message("notifications/progress", {"progressToken": 1, "progress": 1}, id=None),
        message("notifications/progress", {"progressToken": "none of ours", "progress": 1}, id=None),
        message("notifications/progress", {}, id=None),
        message("notifications/progress", id=None),
        message("notifications/whatever", id=None),
        # Servers were told that this client has no roots.
        message("notifications/roots/list_changed", id=None),
        message("tools/call", {"name": "a__x"}, id=None),
        b'{"jsonrpc":"2.0","id":99,"result":{}}',
        b'{"jsonrpc":"2.0","id":"x","error":{"code":-1,"message":"no"}}',
    ],
)
def test_what_gets_202_and_nothing_else(body: bytes) -> None:
    """Without a single byte of body (MCP transports, Sending Messages)."""
    reply = RIG.reply(body)
    assert (reply.status, reply.body, reply.headers) == (202, b"", ())


# (body, JSON-RPC error code or None for a result, what the message has to name)
ANSWERED: list[tuple[bytes, int | None, str]] = [
    (message("ping"), None, ""),
    (message("ping", {"_meta": {"x": 1}}), None, ""),
    (message("tools/call", {"name": "a__"}), -32602, "a__"),
    (message("tools/call", {"name": "nobody__x"}), -32602, "nobody__x"),
    (message("tools/call", {"name": "x"}), -32602, "x"),
    (message("tools/call", {"name": ""}), -32602, ""),
    (message("tools/call", {"name": 'a\r\n"\0'}), -32602, 'a\r\n"\0'),
    (message("tools/call", {"name": "a__" + "x" * 1022}), -32602, "a__xxx"),
    (message("tools/call", {}), -32602, "params.name"),
    (message("tools/call"), -32602, "params.name"),
    (message("tools/call", {"name": 1}), -32602, "params.name"),
    (message("tools/call", {"name": ["a__x"]}), -32602, "params.name"),
    (message("tools/list", {"cursor": "zzz"}), -32602, "cursor"),
    (message("tools/list", {"cursor": ""}), -32602, "cursor"),
    (message("prompts/list", {"cursor": "zzz"}), -32602, "cursor"),
    (message("resources/list", {"cursor": "zzz"}), -32602, "cursor"),
    (message("resources/templates/list", {"cursor": None}), -32602, "cursor"),
    (message("prompts/get", {"name": "nobody__x"}), -32602, "nobody__x"),
    (message("prompts/get", {"name": "x"}), -32602, "x"),
    (message("prompts/get", {}), -32602, "params.name"),
    (message("resources/read", {"uri": "x:"}), -32002, "to no server"),
    (message("resources/read", {"uri": "nobody+x:"}), -32002, "to no server"),
    (message("resources/read", {"uri": "ui://nobody/x"}), -32002, "to no server"),
    (message("resources/read", {"uri": "b+" + "x" * 8191}), -32002, "to no server"),
    (message("resources/read", {"uri": ["b+x:"]}), -32602, "params.uri"),
    (message("resources/subscribe", {}), -32602, "params.uri"),
    (message("resources/unsubscribe", {"uri": "x:"}), -32002, "to no server"),
    (message("completion/complete", {"ref": {"type": "ref/prompt", "name": "x"}}), -32602, "x"),
    (message("completion/complete", {"ref": {"type": "ref/resource", "uri": "x:"}}), -32002, "to no server"),
    (message("completion/complete", {"ref": {"type": "ref/resource", "name": "b__x"}}), -32602, "params.ref"),
    (message("completion/complete", {"ref": {"type": "ref/tool", "name": "b__x"}}), -32602, "params.ref"),
    (message("completion/complete", {"ref": {"name": "b__x"}}), -32602, "params.ref"),
    (message("completion/complete", {"ref": {"type": "ref/prompt", "name": 1}}), -32602, "params.ref"),
    (message("completion/complete", {"ref": "b__x"}), -32602, "params.ref"),
    (message("completion/complete", {}), -32602, "params.ref"),
    (message("completion/complete"), -32602, "params.ref"),
    (message("logging/setLevel", {"level": "loud"}), -32602, "params.level"),
    (message("logging/setLevel", {"level": 1}), -32602, "params.level"),
    (message("logging/setLevel"), -32602, "params.level"),
    # Methods that do not exist, and those of tasks, which are not offered.
    (message("unknown"), -32601, "unknown"),
    (message("TOOLS/LIST"), -32601, "TOOLS/LIST"),
    (message("server/discover"), -32601, "server/discover"),
    (message("notifications/initialized"), -32601, "notifications/initialized"),
    (message("tasks/get", {"taskId": "1"}), -32601, "tasks/get"),
    (message("tasks/list"), -32601, "tasks/list"),
    (message("sampling/createMessage"), -32601, "sampling/createMessage"),
]


@pytest.mark.parametrize(("body", "code", "named"), ANSWERED, ids=lambda value: str(value)[:90])
def test_answers_to_requests_that_were_read(body: bytes, code: int | None, named: str) -> None:
    """At 200, because anything else ends the session in some clients."""
    reply = RICH.reply(body)
    found = answer(reply)
    assert (reply.status, found["id"], found["jsonrpc"]) == (200, 7, "2.0")
    if code is None:
        assert found["result"] == {}
    else:
        assert found["error"]["code"] == code
        assert named in found["error"]["message"]


def test_no_more_than_a_little_of_a_name_is_repeated() -> None:
    assert len(RIG.reply(message("tools/call", {"name": "x" * 1_000_000})).body) < 500
    assert len(RIG.reply(message("prompts/get", {"name": "x" * 1_000_000})).body) < 500
    assert len(RIG.reply(message("resources/read", {"uri": "x" * 1_000_000})).body) < 500


def test_the_resource_that_was_not_found_is_named() -> None:
    """Server/resources, Error Handling."""
    assert answer(RIG.reply(message("resources/read", {"uri": "x:y"})))["error"]["data"] == {"uri": "x:y"}


@pytest.mark.parametrize("id", ["0", '"0"', "9007199254740993", "-5", '"\\u0061"', '""', "1" * 100])
@pytest.mark.parametrize("method", ["ping", "unknown", "tools/call"])
def test_ids_are_echoed_digit_for_digit(id: str, method: str) -> None:
    """And with their type: `0` and `"0"` are two."""
    body = f'{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}'.encode()
    assert RIG.reply(body).body.startswith(f'{{"jsonrpc":"2.0","id":{id},'.encode())


@pytest.mark.parametrize(
    "params", [None, {}, {"protocolVersion": 1}, {"protocolVersion": None}, {"protocolversion": "x"}]
)
def test_initialize_without_a_version(params: Any) -> None:
    """It gets no session id."""
    reply = RIG.reply(message("initialize", params), head())
    assert json.loads(reply.body)["error"]["code"] in (-32602, -32600)
    assert "mcp-session-id" not in dict(reply.headers)


def test_initialize_with_capabilities_that_are_no_object() -> None:
    reply = RIG.reply(message("initialize", {**INITIALIZE, "capabilities": []}), head())
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (200, -32602)


def test_initialize_as_a_notification() -> None:
    reply = RIG.reply(message("initialize", INITIALIZE, id=None), head())
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (400, -32600)


@pytest.mark.parametrize(
    ("body", "code", "id"),
    [
        (b"{", -32700, None),
        (b"\xef\xbb\xbf" + message("ping"), -32700, None),
        (message("ping", {"a": float("nan")}), -32700, None),
        (b"[" * 500 + b"]" * 500, -32700, None),
        (b"[]", -32600, None),
        (b"[ ]", -32600, None),
        (b"[1,]", -32700, None),
        (message("ping", [1]), -32600, 7),
        (message("ping", id=1.5), -32600, None),
        (message("ping", jsonrpc="1.0"), -32600, 7),
    ],
)
def test_what_is_no_message_gets_400_in_or_out_of_a_session(body: bytes, code: int, id: int | None) -> None:
    """Judged before the session is."""
    for request in (RIG.head(), head(), RIG.head(mcp_session_id="unknown")):
        reply = RIG.reply(body, request)
        found = answer(reply)
        assert (reply.status, found["error"]["code"], found.get("id")) == (400, code, id)


def test_the_depth_of_the_configuration_counts() -> None:
    rig = Rig(config(limits={"json_depth": 8}))
    assert rig.reply(message("ping", {"a": json.loads("[" * 6 + "]" * 6)})).status == 200
    assert rig.reply(message("ping", {"a": json.loads("[" * 7 + "]" * 7)})).status == 400


# -- Messages to servers --------------------------------------------------------------------------------------------------


def told(decision: Decision) -> list[tuple[str, bytes]]:
    """Whom a fan-out tells what."""
    assert isinstance(decision, FanOut), decision
    return [(leg.server, leg.body) for leg in decision.legs if isinstance(leg, NotifyLeg)]


@pytest.mark.parametrize(
    ("sent", "theirs"),
    [
        ("7", "7"),
        ('"x"', '"x"'),
        # As a request with this id was forwarded.
        ('"7"', '"mcp-extproc:7"'),
        ('"\\u0037"', '"mcp-extproc:7"'),
        # What a request with such an id became.
        ('"mcp-extproc:7"', '"mcp-extproc:mcp-extproc:7"'),
    ],
)
def test_a_cancellation_names_the_id_that_servers_know(sent: str, theirs: str) -> None:
    """Each leg has ids of its own."""

    def cancelled(id: str) -> bytes:
        params = f'{{"reason":"r","requestId":{id} }}'
        return f'{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{params}}}'.encode()

    assert told(RIG.decide(cancelled(sent))) == [("a", cancelled(theirs)), ("b", cancelled(theirs))]


@pytest.mark.parametrize(
    "params", [None, {}, {"reason": "x"}, {"requestId": None}, {"requestId": {}}, {"requestId": 1.5}]
)
def test_a_cancellation_of_nothing_is_dropped(params: Any) -> None:
    """Unknown ids are ignored, with 202 (MCP cancellation, Behavior Requirements)."""
    assert RIG.reply(message("notifications/cancelled", params, id=None)).status == 202


@pytest.mark.parametrize("theirs", [b"1", b"0", b'"1"', b"9007199254740993", b'"\\u0041"'])
@pytest.mark.parametrize("members", ['"result": {"n":1.50}', '"error":{"code":-1,"message":"no"}'])
def test_a_clients_answer_goes_to_the_server_that_asked_under_its_own_id(theirs: bytes, members: str) -> None:
    """Digit for digit, and every other byte as the client wrote it."""
    id = RIG.own("request", "b", theirs)
    body = f'{{ "jsonrpc":"2.0","id" : {id.decode()}, {members} }}'.encode()
    decision = RIG.fan_out(body)
    assert told(decision) == [("b", body.replace(id, theirs))]
    reply = as_reply(decision.merge([Failed("b", "connect", "is unreachable")], NOW))
    assert (reply.status, reply.facts.server) == (202, "b")


@pytest.mark.parametrize("token", [b"0", b'"1"', b"1.5"])
def test_progress_goes_to_the_server_that_asked_with_its_own_token(token: bytes) -> None:
    """As it gave it, with its type."""
    sealed = RIG.own("progress", "a", token)
    params = f'{{"progressToken":{sealed.decode()},"progress":1.50}}'
    body = f'{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}'.encode()
    assert told(RIG.decide(body)) == [("a", body.replace(sealed, token))]


@pytest.mark.parametrize("purpose", ["request", "progress"])
def test_what_was_sealed_for_something_else_reaches_no_server(purpose: str) -> None:
    """Nor what was sealed in another session, for a server that is gone, or by a session that a server lost."""
    rig, other = Rig(), Rig()
    other_purpose = {"request": "progress", "progress": "request"}[purpose]
    theirs = [rig.own(other_purpose, "a", b"1"), other.own(purpose, "a", b"1"), rig.own(purpose, "c", b"1")]
    lost = rig.own(purpose, "b", b"1")

    def returned(id: bytes) -> Decision:
        if purpose == "request":
            return rig.decide(b'{"jsonrpc":"2.0","id":%b,"result":{}}' % id)
        return rig.decide(b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b}}' % id)

    assert [as_reply(returned(id)).status for id in theirs] == [202] * 3
    assert [server for server, _ in told(returned(lost))] == ["b"]
    rig.memory.replace("b", "id of b", upstream("b", id="new"))
    assert as_reply(returned(lost)).status == 202


# -- Log levels -----------------------------------------------------------------------------------------------------------


def levels(rig: Rig, level: str, outcomes: list[Outcome]) -> Reply:
    decision = rig.fan_out(message("logging/setLevel", {"level": level}))
    assert [leg.params for leg in decision.legs if isinstance(leg, AskLeg)] == [b'{"level":"%b"}' % level.encode()] * 2
    return as_reply(decision.merge(outcomes, NOW))


@pytest.mark.parametrize("level", methods.LOG_LEVELS)
def test_a_log_level_is_told_to_all_and_remembered(level: str) -> None:
    rig = Rig(upstreams={name: upstream(name, capabilities=("logging",)) for name in "ab"})
    assert answer(levels(rig, level, [Done("a"), Done("b")]))["result"] == {}
    assert rig.memory.level(rig.session) == level
    for name in "ab":
        settings = rig.memory.settings(name, f"id of {name}")
        assert settings is not None
        assert settings.level == level


def test_a_server_that_does_not_take_the_level_is_named() -> None:
    """And if none does, that is an error."""
    rig = Rig(upstreams={name: upstream(name, capabilities=("logging",)) for name in "ab"})
    failed = [Failed(name, "connect", "is unreachable") for name in "ab"]
    reply = levels(rig, "info", [failed[0], Done("b")])
    assert (answer(reply)["result"], reply.facts.metadata()["unavailable"]) == ({}, "a")
    assert [note.fields["server"] for note in reply.notes] == ["a"]
    reply = levels(rig, "info", [*failed])
    assert (reply.status, answer(reply)["id"], code(reply), len(reply.notes)) == (200, 7, -32603, 2)


def test_a_log_level_where_no_server_logs() -> None:
    """It counts for servers that come later."""
    rig = Rig()
    decision = rig.fan_out(message("logging/setLevel", {"level": "error"}))
    assert decision.legs == ()
    assert answer(as_reply(decision.merge([], NOW)))["result"] == {}
    assert rig.memory.level(rig.session) == "error"


# -- Subscriptions --------------------------------------------------------------------------------------------------------


def test_subscriptions_are_remembered_for_a_server_that_loses_them() -> None:
    rig = Rig(upstreams={name: upstream(name, capabilities=EVERYTHING) for name in "ab"})

    def subscribed(server: str) -> list[str]:
        settings = rig.memory.settings(server, f"id of {server}")
        return [] if settings is None else [*settings.subscriptions]

    for uri in ("b+x:1", "b+x:2", "a+x:3"):
        rig.forward(message("resources/subscribe", {"uri": uri}))
    assert (subscribed("a"), subscribed("b")) == (["x:3"], ["x:1", "x:2"])
    rig.forward(message("resources/unsubscribe", {"uri": "b+x:1"}))
    assert subscribed("b") == ["x:2"]


def test_reading_is_not_subscribing() -> None:
    rig = Rig(upstreams={name: upstream(name, capabilities=EVERYTHING) for name in "ab"})
    rig.forward(message("resources/read", {"uri": "b+x:1"}))
    assert rig.memory.settings("b", "id of b") is None


# -- Anything at all ------------------------------------------------------------------------------------------------------

methods_ = st.one_of(
    st.sampled_from([*methods.FROM_CLIENTS]),
    st.text(max_size=5),
)


@given(methods_, json_texts, st.one_of(st.none(), json_texts), st.booleans())
def test_any_message_gets_a_decision(method: str, params: str, id: str | None, in_session: bool) -> None:
    """Whatever the parameters: an answer at a status that is ours to give, and never an exception."""
    id_member = "" if id is None else f'"id":{id},'
    body = f'{{"jsonrpc":"2.0",{id_member}"method":{json.dumps(method)},"params":{params}}}'.encode()
    decision = RICH.decide(body, None if in_session else head())
    if isinstance(decision, Reply):
        assert decision.status in (200, 202, 400)
        assert json.loads(decision.body) if decision.status != 202 else decision.body == b""


@given(st.text(max_size=80))
def test_any_session_id_is_answered(token: str) -> None:
    for verb in ("POST", "GET", "DELETE"):
        request = head(verb, mcp_session_id=token)
        admitted = RIG.gateway.admit(request, NOW)
        if isinstance(admitted, NeedBody):
            admitted = RIG.gateway.decide(request, message("ping"), NOW)
        assert as_reply(admitted).status == 404


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "with blanks"])
@pytest.mark.parametrize("visit", ["decide", "preview"])
def test_no_slice_of_a_large_body_is_more_than_one_pass_over_it(
    separators: tuple[str, str], visit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others run in between, and what is decided is the same."""
    arguments = {f"{number:x}": "x" * 28 for number in range(20_000)}
    parameters = {"name": "a__x", "arguments": arguments}
    call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": parameters}
    body = json.dumps(call, separators=separators).encode()
    decide, deciding = {
        "decide": (RICH.gateway.decide, RICH.gateway.deciding), "preview": (RICH.gateway.preview, RICH.gateway.previewing),
    }[visit]  # fmt: skip
    at_once = decide(RICH.head(), body, NOW)
    decision, slices = (passes := Passes(monkeypatch)).in_slices(deciding(RICH.head(), body, NOW))
    assert type(decision) is type(at_once)
    if isinstance(decision, Forward) and isinstance(at_once, Forward):
        assert decision.body == at_once.body == body.replace(b"a__x", b"x")
    assert passes.tokenized > 0.9 * len(body)
    assert max(slices) <= 1.01 * len(body), "a large part of it, and small ones"


@pytest.mark.parametrize("body", [b"{", b"[" * 200, b"x" * 5000], ids=["no JSON", "too deep", "too large"])
def test_a_refused_body_keeps_its_caller(body: bytes) -> None:
    """For the access log, whether it is read at once or, being large, in slices."""
    rig = Rig(config(limits={"request_bytes": 4096}))
    request = replace(rig.head(), principal=Principal("token", "https://idp.example", "alice"))
    decisions = [
        rig.gateway.decide(request, body, NOW),
        whole(rig.gateway.deciding(request, body, NOW)),
        rig.gateway.preview(request, body, NOW),
        whole(rig.gateway.previewing(request, body, NOW)),
    ]
    for decision in decisions:
        assert isinstance(decision, Reply)
        assert (decision.facts.principal, decision.facts.issuer) == ("alice", "https://idp.example")
