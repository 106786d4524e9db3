"""Calls: what the server gets, and what it never sees."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.config.model import prefix_of
from mcp_extproc.gateway.decision import FanOut, Forward, NeedBody, NeedSession, Reply
from mcp_extproc.gateway.dispatch import Gateway
from mcp_extproc.gateway.headers import PASSED, left_to_routes
from mcp_extproc.gateway.legs import STARTING, Failed, Listed
from mcp_extproc.gateway.relay.responses import Reading
from mcp_extproc.gateway.request import RequestHead
from mcp_extproc.mcp import methods
from mcp_extproc.mcp.sessions import UpstreamSession
from tests.unit.gateway.support import EVERYTHING, HEADERS, NOW, Rig, answer, as_reply, config, head, message, upstream

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
        ("mcp-method", "tools/call"),
        ("mcp-name", "read"),
        ("x-mcp-server", "a"),
        ("mcp-session-id", "id of a"),
        ("mcp-protocol-version", "2025-11-25"),
        # The response may be an event stream, whose ids are read.
        ("accept-encoding", "identity"),
        ("authorization", "Bearer hidden"),
        ("x-team", "t"),
    )
    assert json.loads(forward.body) == {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "read"}}


SAME = RIG.head(mcp_protocol_version="2025-11-25")


@pytest.mark.parametrize(
    ("name", "value", "other"),
    [
        (":path", "/mcp", replace(SAME, path="/mcp?a=b")),
        ("accept", HEADERS["accept"], RIG.head(accept="text/event-stream, application/json")),
        ("accept", HEADERS["accept"], replace(SAME, repeated={"accept": ("application/json", "text/event-stream")})),
        ("mcp-protocol-version", "2025-11-25", RIG.head(mcp_protocol_version="2025-06-18")),
    ],
)
def test_a_header_is_set_unless_the_client_has_sent_the_same(name: str, value: str, other: RequestHead) -> None:
    """Whatever was forwarded before. It costs Envoy less not to set it."""
    call = message("tools/call", {"name": "bee__read"})
    forwards = [RIG.forward(call, head) for head in (other, SAME, other, SAME)]
    assert [dict(forward.set_headers).get(name) for forward in forwards] == [value, None, value, None]
    assert not [forward for forward in forwards if name in forward.remove_headers]


def test_credentials_are_not_printed() -> None:
    assert "hidden" not in repr(RIG.call("a__read"))
    assert "hidden" not in repr(RIG.gateway.servers["a"])


@pytest.mark.parametrize("name", ["read", "naïve", "a b", "=?base64?eA==?=", "bee__x", "__"])
def test_names_of_any_characters_reach_the_server_and_break_no_header(name: str) -> None:
    forward = RIG.call(f"bee__{name}")
    assert json.loads(forward.body)["params"]["name"] == name
    value = dict(forward.set_headers)["mcp-name"]
    assert value.isascii()
    assert value.isprintable()
    assert forward.facts.metadata()["tool"] == name


@pytest.mark.parametrize("name", ["a\r\nx-evil: 1", "a\0b", " a", "a ", "a\u200b", "a\ufeff", "x" * 1021])
def test_names_that_a_server_may_take_for_others_are_unknown(name: str) -> None:
    assert answer(RIG.reply(message("tools/call", {"name": f"bee__{name}"})))["error"]["code"] == -32602


@pytest.mark.parametrize("method", ["resources/read", "resources/subscribe", "completion/complete"])
@pytest.mark.parametrize("uri", ["a+x:y\n", " a+x:y", "a+x:\0y", "a+x:\u200by"])
def test_uris_that_a_server_may_take_for_others_are_unknown(method: str, uri: str) -> None:
    """Parsers of URLs drop control characters, and blanks at the ends."""
    params = {"ref": {"type": "ref/resource", "uri": uri}} if method == "completion/complete" else {"uri": uri}
    assert answer(RIG.reply(message(method, params)))["error"]["code"] in (-32602, -32002)


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
    "last-event-id", "x-api-key", "accept", "x-anything", "x-mcp-client-capabilities",
]  # fmt: skip


@pytest.mark.parametrize("name", SPOOFED)
@pytest.mark.parametrize("tool", ["a__read", "bee__read"])
def test_headers_of_the_client_do_not_reach_the_server(name: str, tool: str) -> None:
    """Not the client's token (MCP authorization), and no spoofed header reaches a route."""
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
    gone = {*forward.remove_headers, *left_to_routes(())}
    assert (name in dict(forward.set_headers)) != (name in gone)


@pytest.mark.parametrize("name", sorted(PASSED - {"host", "content-type", "content-length", "content-encoding"}))
def test_headers_of_the_exchange_pass(name: str) -> None:
    # The client's accept-encoding counts where JSON is not read.
    forward = Rig(ONE, STATELESS).call("a__read", **{name: "x"})
    assert name not in forward.remove_headers
    assert name not in dict(forward.set_headers)


CHECKED = {*HEADERS, "mcp-session-id", "origin", "content-encoding", "mcp-protocol-version"}
"""These are looked at before anything is forwarded."""

names = st.one_of(st.sampled_from(sorted({*PASSED, *SPOOFED})), st.text("abcmpx-", min_size=1, max_size=12))


@given(st.sets(names, max_size=8))
def test_no_header_passes_that_is_not_on_the_list(sent: set[str]) -> None:
    request = RIG.head(**dict.fromkeys(sent - CHECKED, "client"))
    forward = RIG.forward(message("tools/call", {"name": "a__read"}), request)
    ours = dict(forward.set_headers).keys()
    gone = {*forward.remove_headers, *left_to_routes(())}
    assert set(request.headers) - gone - ours <= PASSED | {"accept"}
    assert request.headers["accept"] == HEADERS["accept"]
    assert not ours & gone


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
    """Each server has its version and id, whatever the client has."""
    rig = Rig(upstreams={"a": upstream("a", version, id=id)})
    request = rig.head(mcp_protocol_version="2025-11-25")
    forward = rig.forward(message("tools/call", {"name": "a__x"}), request)
    ours = dict(forward.set_headers)
    for name in ("mcp-session-id", "mcp-protocol-version"):
        is_same = name in expected and request.says(name, expected[name])
        assert ours.get(name) == (None if is_same else expected.get(name))
        assert (name in forward.remove_headers) == (name not in expected)


# -- What the client can be asked for ---------------------------------------------------------------------------------------

ASKABLE = frozenset({"elicitation", "elicitation.form", "elicitation.url", "roots"})


@pytest.mark.parametrize(
    ("version", "declared"),
    [
        ("2025-11-25", {"elicitation": {"form": {}, "url": {}}, "roots": {}}),
        # Before 2025-11-25 elicitation has no modes.
        ("2025-06-18", {"elicitation": {}, "roots": {}}),
    ],
)
def test_what_was_declared_goes_along_for_a_repair(version: str, declared: dict[str, Any]) -> None:
    rig = Rig(upstreams={"a": upstream("a", version)}, client_flags=ASKABLE)
    header = dict(rig.call("a__x").set_headers)["x-mcp-client-capabilities"]
    assert json.loads(header) == declared
    named = {"mcp_session_id": "lost", "mcp_protocol_version": version, "x_mcp_client_capabilities": header}
    request = head(x_envoy_attempt_count="2", **named)
    decision = rig.gateway.repair("a", request)
    assert isinstance(decision, NeedSession)
    expected = ASKABLE if version == "2025-11-25" else ASKABLE - {"elicitation.url"}
    assert decision.session.client_flags == expected


@pytest.mark.parametrize("header", ["", "x", "[]", "null", '{"roots":', "{}"])
def test_a_repair_whose_header_says_nothing_declares_nothing(header: str) -> None:
    request = head(mcp_session_id="lost", x_envoy_attempt_count="2", x_mcp_client_capabilities=header)
    decision = RIG.gateway.repair("a", request)
    assert isinstance(decision, NeedSession)
    assert decision.session.client_flags == frozenset()


# -- Tasks ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["{}", '{"ttl":60000}', "null"])
def test_a_task_is_taken_out_of_a_call(task: str) -> None:
    """Tasks are not offered, so the server is asked for the plain result."""
    call = '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{%s"name":"a__x","arguments":{"task":1.50}}}'
    body = RIG.forward((call % f'"task":{task},').encode()).body
    assert body == (call % "").replace("a__x", "x").encode()


# -- Ids and progress tokens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "theirs"),
    [
        ("7", "7"),
        ('"a"', '"a"'),
        ('"7"', '"mcp-extproc:7"'),
        ('" -7"', '"mcp-extproc: -7"'),
        ('"mcp-extproc:7"', '"mcp-extproc:mcp-extproc:7"'),
        ("9007199254740993", "9007199254740993"),
    ],
)
def test_ids_at_the_server(id: str, theirs: str) -> None:
    """`0` and `"0"` at once stay two requests for servers that know streams by the text of the id."""
    forward = RIG.forward(f'{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"a__x"}}}}'.encode())
    assert forward.body == f'{{"jsonrpc":"2.0","id":{theirs},"method":"tools/call","params":{{"name":"x"}}}}'.encode()


@pytest.mark.parametrize("token", [b"0", b'"0"', b"1.5", b'"\\u0041"'])
def test_a_request_that_wants_progress_says_so_to_the_exchange(token: bytes) -> None:
    """By the token as the client wrote it, and no byte of it is changed."""
    body = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"_meta":{"progressToken":%b},"name":"x"}}' % token
    rig = Rig(config({"a": {"prefix": ""}}))
    forward = rig.forward(body)
    assert forward.body is body
    assert forward.progress == (rig.session, token)


@pytest.mark.parametrize("meta", [None, {}, {"x": 1}, [], "x"])
def test_a_request_that_wants_no_progress(meta: Any) -> None:
    assert RIG.forward(message("tools/call", {"name": "a__x", "_meta": meta})).progress is None


# -- Responses that have to be read ------------------------------------------------------------------------------------------

STATELESS = {"a": upstream("a", id=None)}
ONE = config({"a": {}})
RESOURCES = ("resources", "tools")

# (what it takes, whether the response is looked at, whether JSON is read)
TOOLS_ONLY = {name: upstream(name, id=None) for name in "ab"}
WITH_RESOURCES = {"b": upstream("b", id=None, capabilities=("tools", "resources"))}

READ: list[tuple[str, dict[str, Any], bool, bool]] = [
    ("a server without sessions", {"config": ONE, "upstreams": STATELESS}, False, False),
    ("events have ids", {"config": ONE}, True, False),
    (
        "the client can be asked",
        {"config": ONE, "upstreams": STATELESS, "client_flags": frozenset({"roots"})},
        True,
        False,
    ),
    # What a server writes must not read like another's, whatever it declares, and whatever is rewritten of its own.
    ("several servers", {"upstreams": {**TOOLS_ONLY, **WITH_RESOURCES}}, True, True),
    (
        "several servers, unprefixed",
        {"config": config(resources="unprefixed"), "upstreams": {**TOOLS_ONLY, **WITH_RESOURCES}},
        True,
        True,
    ),
    (
        "a server without prefix",
        {"config": config({"a": {"prefix": ""}, "b": {}}), "upstreams": {**TOOLS_ONLY, **WITH_RESOURCES}},
        True,
        True,
    ),
    # Where no server has resources, no URI leads anywhere.
    ("several servers without resources", {"upstreams": TOOLS_ONLY}, False, False),
    (
        "a server that is not trusted",
        {"config": config({"a": {"untrusted": True}}), "upstreams": STATELESS},
        True,
        True,
    ),
    ("a server that is not there yet", {"upstreams": {"a": TOOLS_ONLY["a"]}}, True, True),
    (
        "ids of elicitations",
        {"upstreams": {name: upstream(name, id=None) for name in "ab"}, "client_flags": ASKABLE},
        True,
        True,
    ),
    (
        "ids of elicitations of one server",
        {"config": ONE, "upstreams": STATELESS, "client_flags": ASKABLE},
        True,
        False,
    ),
    (
        "links to resources",
        {"config": ONE, "upstreams": {"a": upstream("a", "2025-06-18", id=None)}, "version": "2025-03-26"},
        True,
        True,
    ),
    (
        "a server as old as the client",
        {"config": ONE, "upstreams": {"a": upstream("a", "2025-03-26", id=None)}, "version": "2025-03-26"},
        False,
        False,
    ),
]


@pytest.mark.parametrize(("rig", "plain", "read"), [row[1:] for row in READ], ids=[row[0] for row in READ])
def test_which_responses_are_read(rig: dict[str, Any], plain: bool, read: bool) -> None:
    """All event streams; most JSON passes. What is likely to be read is not to be compressed."""
    rig_ = Rig(**rig)
    tool = "x" if prefix_of("a", rig_.config.servers["a"]) == "" else "a__x"
    forward = rig_.call(tool, accept_encoding="gzip")
    assert (dict(forward.set_headers).get("accept-encoding") == "identity") == plain
    assert "accept-encoding" not in forward.remove_headers
    assert forward.response is not None
    assert forward.response.reading("200", "text/event-stream") is Reading.EVENTS
    assert forward.response.reading("200", "application/json") is (Reading.WHOLE if read else Reading.PASS)


@pytest.mark.parametrize(
    ("id", "reading"), [('"7"', Reading.WHOLE), ('"mcp-extproc:7"', Reading.WHOLE), ("7", Reading.PASS)]
)
def test_an_id_that_was_changed_is_looked_for_in_json_too(id: str, reading: Reading) -> None:
    """The client gets back the one that it sent."""
    rig = Rig(ONE)
    body = f'{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"a__x"}}}}'.encode()
    response = rig.forward(body).response
    assert response is not None
    assert response.reading("200", "application/json") is reading


@pytest.mark.parametrize(("id", "compresses"), [('"7"', False), ('"mcp-extproc:7"', False), ("7", True)])
def test_the_server_does_not_compress_what_its_id_is_put_back_in(id: str, compresses: bool) -> None:
    """Others share the plan and pass compressed."""
    rig = Rig(upstreams={"a": upstream("a", id=None), "b": upstream("b")})
    for id_, compressed in (("7", True), (id, compresses), ("7", True)):
        body = f'{{"jsonrpc":"2.0","id":{id_},"method":"tools/call","params":{{"name":"a__x"}}}}'.encode()
        forward = rig.forward(body)
        assert ("accept-encoding" not in dict(forward.set_headers)) is compressed


versions_ = st.sampled_from(["2025-03-26", "2025-06-18", "2025-11-25"])
flags_ = st.frozensets(st.sampled_from(sorted(ASKABLE)), max_size=2)
upstreams_ = st.builds(
    UpstreamSession,
    versions_,
    st.sampled_from([None, None, "1"]),
    st.frozensets(st.sampled_from(EVERYTHING), min_size=3),
)
ids_ = st.sampled_from([7, "7", "a", "mcp-extproc:7"])
bodies_ = st.builds(
    lambda server, row, own: message(row[0], json.loads(json.dumps(row[1]).replace("SERVER", server)), own),
    st.sampled_from("ab"),
    st.sampled_from([
        ("tools/call", {"name": "SERVER__x"}),
        ("prompts/get", {"name": "SERVER__x"}),
        ("resources/read", {"uri": "SERVER+x:"}),
        ("resources/subscribe", {"uri": "SERVER+x:"}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "SERVER__x"}}),
    ]),
    ids_,
)  # fmt: skip


@given(
    st.sampled_from([{"a": {}}, {"a": {}, "b": {}}, {"a": {"prefix": ""}, "b": {}}, {"a": {"prefix": ""}}]),
    st.sampled_from(["prefixed", "unprefixed"]),
    st.dictionaries(st.sampled_from(["a", "b", "gone"]), upstreams_, max_size=3),
    versions_,
    flags_,
    upstreams_,
    bodies_,
)
def test_an_id_that_was_changed_has_the_response_read(
    servers: dict[str, Any],
    resources: str,
    upstreams: dict[str, UpstreamSession],
    version: str,
    flags: frozenset[str],
    late: UpstreamSession,
    body: bytes,
) -> None:
    """Also for sessions that are opened late or replace a lost one, and for a token from before the configuration changed."""
    rig = Rig(config(servers, resources=resources), upstreams, version=version, client_flags=flags)
    for server, known in upstreams.items():
        if known.id is not None:
            rig.memory.replace(server, known.id, late)
    decision = rig.decide(body)
    if isinstance(decision, FanOut):
        listed = [Listed(leg.server, [msgspec.Raw(b'{"uri":"%b+x:"}' % leg.server.encode())]) for leg in decision.legs]
        decision = decision.merge(listed, NOW)
    if isinstance(decision, NeedSession):
        decision = decision.resume(late)
    if isinstance(decision, Forward):
        assert json.loads(decision.body)["id"] == json.loads(body)["id"] or decision.response is not None


# -- Sessions that have to be opened first --------------------------------------------------------------------------------


def test_a_server_that_was_down_at_initialize_is_asked_now() -> None:
    rig = Rig(upstreams={"a": upstream("a")}, version="2025-06-18")
    decision = rig.decide(message("tools/call", {"name": "b__x"}))
    assert isinstance(decision, NeedSession)
    assert (decision.lost, decision.session.server, decision.session.known) == (None, "b", None)
    assert (decision.session.version, decision.session.client_flags) == ("2025-06-18", frozenset())
    forward = decision.resume(upstream("b", "2025-03-26"))
    assert isinstance(forward, Forward)
    assert dict(forward.set_headers)["mcp-session-id"] == "id of b"
    assert json.loads(forward.body)["params"] == {"name": "x"}


def test_a_server_that_is_still_down() -> None:
    """The client gets an error with its id and learns which server, and why."""
    rig = Rig(upstreams={})
    decision = rig.decide(message("tools/call", {"name": "b__x"}))
    assert isinstance(decision, NeedSession)
    reply = as_reply(decision.resume(Failed("b", "timeout", "did not answer within 10 s")))
    error = answer(reply)
    assert (reply.status, error["id"], error["error"]["code"]) == (200, 7, -32603)
    assert "server 'b' did not answer within 10 s" in error["error"]["message"]
    assert (reply.facts.metadata()["server"], reply.facts.metadata()["error_reason"]) == ("b", "upstream_unavailable")
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
    """Whoever still has it is sent to the newer one."""
    rig = Rig()
    rig.memory.replace("a", "id of a", upstream("a", "2025-06-18", id="new"))
    ours = dict(rig.call("a__x").set_headers)
    assert (ours["mcp-session-id"], ours["mcp-protocol-version"]) == ("new", "2025-06-18")


# -- Repair ---------------------------------------------------------------------------------------------------------------


def test_a_request_that_came_back_goes_there_with_a_new_session() -> None:
    """Nothing else of it changes."""
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
    reply = as_reply(RIG.gateway.repair("a", head(**headers)))
    assert (reply.status, told(reply)) == (503, "No answer: server 'a' is down.")


def told(reply: Reply) -> str:
    """What a reply to a repair says. The client's id is not known there."""
    assert reply.headers[0] == ("content-type", "application/json")
    message = json.loads(reply.body)
    assert message.keys() == {"jsonrpc", "error"}
    assert message["error"]["code"] == -32603
    return str(message["error"]["message"])


def test_of_a_server_that_was_removed() -> None:
    reply = as_reply(RIG.gateway.repair("x", head(mcp_session_id="lost", x_envoy_attempt_count="2")))
    assert (reply.status, told(reply)) == (503, "No answer: server 'x' is not served any more.")


FAILING_OVER = Rig(config({"a": {"retries": {}}, "b": {"sticky_sessions": True}}))


def test_where_connections_are_retried_a_session_is_not_lost_yet() -> None:
    """What came back may be a call whose connection could not be made."""
    request = head(mcp_session_id="here", mcp_protocol_version="2025-11-25", x_envoy_attempt_count="2")
    decision = FAILING_OVER.gateway.repair("a", request)
    assert isinstance(decision, NeedSession)
    assert (decision.lost, decision.doubtful) == ("here", True)
    again = RIG.gateway.repair("a", request)
    assert isinstance(again, NeedSession)
    assert not again.doubtful


@pytest.mark.parametrize(("id", "doubtful"), [("MTI3LjAuMC4xOjgw;UV:YQ==", True), ("from before", False)])
def test_a_sticky_session_without_a_replica_is_opened_again(id: str, doubtful: bool) -> None:
    decision = FAILING_OVER.gateway.repair("b", head(mcp_session_id=id, x_envoy_attempt_count="2"))
    assert isinstance(decision, NeedSession)
    assert decision.doubtful == doubtful


def test_where_connections_are_retried_a_call_without_a_session_goes_on() -> None:
    forward = FAILING_OVER.gateway.repair("a", head(x_envoy_attempt_count="2"))
    assert isinstance(forward, Forward)
    assert (forward.set_headers, forward.remove_headers, forward.body) == ((), (), b"")
    assert as_reply(FAILING_OVER.gateway.repair("a", head(x_envoy_attempt_count="1"))).status == 503


def test_what_is_no_repair_says_so_as_envoy_would() -> None:
    """On the private listener of sub-requests this header means that no server was reached."""
    reply = as_reply(FAILING_OVER.gateway.repair("a", head(mcp_session_id="here")))
    assert ("x-mcp-upstream-failure", "NoHealthyUpstream") in reply.headers


def test_a_server_that_can_not_be_repaired() -> None:
    decision = RIG.gateway.repair("a", head(mcp_session_id="lost", x_envoy_attempt_count="2"))
    assert isinstance(decision, NeedSession)
    reply = as_reply(decision.resume(Failed("a", STARTING, "is still starting")))
    assert (reply.status, told(reply)) == (503, "No answer: server 'a' is still starting.")
    assert reply.notes[0].fields["server"] == "a"


KINDS = st.sampled_from(["a__read", "bee__read", "a__", "nobody__x", "read"])
METAS = st.sampled_from([
    None,
    {},
    {"progressToken": 5},
    {"progressToken": "5"},
    {"io.modelcontextprotocol/protocolVersion": "2026-07-28"},
    {"progressToken": 1, "PROGRESSTOKEN": 2},
])  # fmt: skip
REQUEST_HEADERS = st.sampled_from([
    {},
    {"mcp_protocol_version": "2025-11-25"},
    {"mcp_protocol_version": "2026-07-28"},
    {"mcp_protocol_version": "1"},
    {"authorization": "Bearer x"},
    {"mcp_session_id": None},
    {"mcp_session_id": "none of ours"},
])  # fmt: skip


@given(st.lists(st.tuples(
    st.sampled_from(["tools/call", "prompts/get", "tools/list"]), KINDS, METAS, REQUEST_HEADERS,
    st.booleans(), st.sampled_from([7, "7", "x"]), st.sampled_from(["known", "late", "none", "ended"]),
), min_size=2, max_size=8))  # fmt: skip
def test_a_call_is_forwarded_like_the_first_of_its_kind(rows: list[Any]) -> None:
    """What was kept of the calls before changes nothing."""
    rig = Rig(config(SERVERS), {"a": upstream("a", capabilities=("tools", "prompts")), "b": upstream("b")})
    for method, name, meta, sent, task, id, memory in rows:
        params = {"name": name, "_meta": meta, **({"task": {}} if task else {})}
        if meta is None:
            del params["_meta"]
        if memory == "late":
            rig.memory.replace("a", "id of a", upstream("a", id="later"))
        elif memory == "none":
            rig.memory.forget("a", "id of a")
        elif memory == "ended":
            rig.memory.end(rig.session)
        body, request = message(method, params, id), rig.head(**sent)
        fresh = Gateway(rig.config, rig.secret, rig.memory)
        found, expected = (
            gateway.decide(request, body, NOW) if isinstance(gateway.admit(request, NOW), NeedBody) else None
            for gateway in (rig.gateway, fresh)
        )
        assert _as_values(found) == _as_values(expected)


@pytest.mark.parametrize("member", sorted({*methods.GUARDED_PARAMS, "somethingElse"} - {"name"}))
@pytest.mark.parametrize("values", [("x:1", None), (None, "x:1"), ("x:1", "x:2")])
@pytest.mark.parametrize("method", ["tools/call", "prompts/get"])
def test_no_member_of_a_call_shows_in_the_next_one(
    method: str, values: tuple[str | None, str | None], member: str
) -> None:
    """Neither in what policies and the log see of it, nor at the server."""
    rig = Rig(config(SERVERS), {"a": upstream("a", capabilities=("tools", "prompts")), "b": upstream("b")})
    bodies = [
        message(method, {"name": "a__read", **({} if value is None else {member: value})}, id)
        for id, value in zip((1, 2), values, strict=True)
    ]
    decisions = [rig.gateway.decide(rig.head(), body, NOW) for body in bodies]
    fresh = Gateway(rig.config, rig.secret, rig.memory).decide(rig.head(), bodies[1], NOW)
    assert _as_values(decisions[1]) == _as_values(fresh)
    if isinstance(fresh, Forward) and isinstance(decisions[1], Forward):
        assert decisions[1].facts.metadata() == fresh.facts.metadata()


@pytest.mark.parametrize("way", ["tools/call", "resources/read"])
@pytest.mark.parametrize("length", [1022, 1023, 5000])
def test_a_progress_token_is_whole_or_refused(way: str, length: int) -> None:
    """A part of it would be another token, for which the client does not wait."""
    named = {"tools/call": {"name": "a__read"}, "resources/read": {"uri": "a+x:"}}[way]
    rig = Rig(config(SERVERS), {"a": upstream("a", capabilities=EVERYTHING), "b": upstream("b")})
    for _ in range(2):  # The second one is forwarded like the first.
        decision = rig.decide(message(way, {**named, "_meta": {"progressToken": "t" * length}}))
        if length + len('""') <= 1024:
            assert isinstance(decision, Forward)
            assert decision.progress is not None
            assert decision.progress[1] == b'"%b"' % (b"t" * length)
        else:
            assert answer(as_reply(decision))["error"]["code"] == -32602


def _as_values(decision: Any) -> Any:
    if not isinstance(decision, Forward):
        return getattr(decision, "facts", None), getattr(decision, "body", None), type(decision)
    response = decision.response
    return (
        decision.server, decision.set_headers, decision.remove_headers, decision.body, decision.facts, decision.progress,
        None if response is None else (response.server, response.session, response.call, response.id, response.reads_json),
    )  # fmt: skip
