"""Messages of servers: what the client gets, what is answered here, what is dropped."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_extproc.config.authorization import Authorization
from mcp_extproc.gateway import refusals
from mcp_extproc.gateway.authorization.judging import Sight
from mcp_extproc.gateway.authorization.rules import Rules
from mcp_extproc.gateway.principal import Principal
from mcp_extproc.gateway.relay.server_messages import ANY_TOKEN, Call, Relay, Relayed
from mcp_extproc.mcp import methods
from mcp_extproc.mcp.sessions import UpstreamSession
from tests.unit.gateway.relay.support import CALL, LATEST, Rig, error, notification, request, result, upstream

DROPPED = Relayed()
CLIENTS_ARE_ASKED = [name for name, row in methods.SERVER_REQUESTS.items() if row.client_flag is not None]
ONE: dict[str, Any] = {"b": {}}


@given(
    st.binary(max_size=60) | st.sampled_from([b"[]", b"null", b'{"id":1}', b'{"method":1}', b'{"id":1,"method":null}'])
)
def test_any_bytes_give_an_answer_and_no_exception(text: bytes) -> None:
    rig = Rig()
    for call in (None, CALL):
        assert isinstance(rig.relayed(text, call=call), Relayed)


@pytest.mark.parametrize("text", [b"x", b"[1]", b'{"method":1}', b'{"id":1}', b'{"method":"a","x":"\xff"}', b"{}"])
def test_what_is_no_message_is_dropped(text: bytes) -> None:
    assert Rig().relayed(text) == DROPPED


# -- Responses ------------------------------------------------------------------------------------------------------------


def test_responses_come_only_on_streams_of_calls() -> None:
    assert Rig().relayed(result({}), call=None) == DROPPED
    relayed = Rig().relayed(result({}))
    assert relayed.is_response
    assert json.loads(relayed.down or b"") == result({})


def test_a_response_without_uris_keeps_every_byte() -> None:
    text = b'{ "result" : {"x":1.50, "n":12345678901234567890123} ,"id":1,  "jsonrpc":"2.0"}'
    assert Rig().relayed(text).down == text


URIS: list[tuple[str, Any, Any]] = [
    ("tools/call", {"content": [{"type": "resource_link", "uri": "f:a"}]}, {"content": [{"uri": "bee+f:a"}]}),
    ("tools/call", {"content": [{"resource": {"uri": "ui://v/1"}}]}, {"content": [{"resource": {"uri": "ui://bee/v/1"}}]}),
    ("tools/call", {"_meta": {"ui": {"resourceUri": "ui://v"}}}, {"_meta": {"ui": {"resourceUri": "ui://bee/v"}}}),
    ("prompts/get", {"messages": [{"content": {"resource": {"uri": "f:a"}}}]},
     {"messages": [{"content": {"resource": {"uri": "bee+f:a"}}}]}),
    ("resources/read", {"contents": [{"uri": "f:a/sub"}]}, {"contents": [{"uri": "bee+f:a/sub"}]}),
    ("tools/call", {"structuredContent": {"uri": "f:a"}}, {"structuredContent": {"uri": "f:a"}}),
    ("tools/call", {"content": [{"type": "text", "text": "f:a"}]}, {"content": [{"text": "f:a"}]}),
]  # fmt: skip


def _within(part: Any, whole: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and _within(part[name], whole[name]) for name in part)
    if isinstance(part, list):
        return len(part) == len(whole) and all(map(_within, part, whole))
    return bool(part == whole)


@pytest.mark.parametrize(("method", "given_", "seen"), URIS)
def test_uris_in_results(method: str, given_: Any, seen: Any) -> None:
    got = Rig().down(result(given_), call=Call(method, None))["result"]
    assert _within(seen, got), got
    alone = Rig(servers=ONE).down(result(given_), call=Call(method, None))["result"]
    assert alone == given_


@pytest.mark.parametrize("more", [{}, {"resources": "unprefixed"}, {"servers": {"a": {"prefix": ""}, "b": {}}}])
@pytest.mark.parametrize(
    "uri", ["b+file:///secret", "B+file:///secret", "ui://b/secret", "bee+file:///secret", "ui://bee/secret"]
)
def test_nothing_that_a_server_sends_reads_like_anothers(more: dict[str, Any], uri: str) -> None:
    """Whatever it declares, and whether its own URIs have a prefix or not."""
    rig = Rig(**more)
    silent = UpstreamSession(LATEST, "u1", frozenset({"tools"}))
    link = {"type": "resource_link", "uri": uri, "name": "x"}
    seen = [
        rig.down(result({"content": [link]}), server="a", session=silent)["result"]["content"][0]["uri"],
        rig.down(result({"content": [], "_meta": {"ui": {"resourceUri": uri}}}), server="a", session=silent)["result"][
            "_meta"
        ]["ui"]["resourceUri"],
        rig.down(error(-32002, {"uri": uri}), server="a", session=silent)["error"]["data"]["uri"],
        rig.down(notification("notifications/resources/updated", {"uri": uri}), server="a", session=silent)["params"][
            "uri"
        ],
    ]
    found = [rig.uris.split(one) for one in seen]
    assert all(one is None or one == ("a", uri) for one in found), seen


def test_an_error_that_is_null_is_none() -> None:
    """Beside a result."""
    link = {"type": "resource_link", "uri": "x:", "name": "x"}
    for message in ({"error": None} | result({"content": [link]}), result({"content": [link]}) | {"error": None}):
        assert Rig().down(message)["result"]["content"][0]["uri"] == "bee+x:"


def test_uris_and_elicitations_in_errors() -> None:
    assert Rig().down(error(-32002, {"uri": "f:a"}))["error"]["data"] == {"uri": "bee+f:a"}
    asked = {"mode": "url", "url": "https://x", "elicitationId": "1", "message": "m"}
    data = Rig().down(error(-32042, {"elicitations": [asked]}))["error"]["data"]
    assert data == {"elicitations": [{**asked, "elicitationId": "b:1"}]}
    assert Rig(servers=ONE).down(error(-32042, {"elicitations": [asked]}))["error"]["data"]["elicitations"] == [asked]


def test_an_id_that_looked_like_a_number_is_the_clients_again() -> None:
    assert Rig().down(result({}, id="mcp-extproc:0"))["id"] == "0"


def test_links_become_text_for_clients_at_2025_03_26() -> None:
    link = {"type": "resource_link", "uri": "f:a", "name": "n"}
    text = {"type": "text", "text": "x"}
    got = Rig(version="2025-03-26").down(result({"content": [text, link], "isError": False}))["result"]
    assert got == {"content": [text, {"type": "text", "text": "n: bee+f:a"}], "isError": False}
    got = Rig(version="2025-03-26").down(result({"content": [{**link, "title": "T"}]}))["result"]
    assert got["content"] == [{"type": "text", "text": "T: bee+f:a"}]


# -- Requests -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", [0, 1, "1", "", "x", 2**53 + 1])
def test_ping_is_answered_here(id: Any) -> None:
    for call in (None, CALL):
        assert Rig(flags=frozenset()).up(request(id, "ping"), call=call) == {"jsonrpc": "2.0", "id": id, "result": {}}


def test_ids_are_unique_and_come_back() -> None:
    """Per server, per session with it, and per type; the same request always under the same id."""
    rig = Rig()
    seen: dict[Any, str] = {}
    for server in ("a", "b"):
        for session in ("u1", "u2"):
            for id in (1, "1", 0, "0", 2**53 + 1):
                got = rig.down(request(id, "roots/list"), server=server, session=upstream(session))
                assert isinstance(got["id"], str)
                seen[server, session, json.dumps(id)] = got["id"]
                again = rig.down(request(id, "roots/list"), server=server, session=upstream(session), call=None)
                assert again["id"] == got["id"]
    assert len(set(seen.values())) == len(seen) == 20
    for (server, _, id), sealed in seen.items():
        owner = rig.identifiers.owner("request", "s1", json.dumps(sealed).encode())
        assert owner is not None
        assert (owner.server, owner.raw) == (server, id.encode())
        assert rig.identifiers.owner("request", "s2", json.dumps(sealed).encode()) is None
        assert rig.identifiers.owner("progress", "s1", json.dumps(sealed).encode()) is None


@pytest.mark.parametrize("method", [*CLIENTS_ARE_ASKED, "tasks/get", "tools/call", "x"])
def test_undeclared_is_refused(method: str) -> None:
    got = Rig(flags=frozenset()).up(request("r", method))
    assert (got["id"], got["error"]["code"]) == ("r", -32601)


@pytest.mark.parametrize(
    ("flags", "params", "code"),
    [
        ({"elicitation", "elicitation.form"}, {"message": "m"}, None),
        ({"elicitation", "elicitation.form"}, {"mode": "form"}, None),
        ({"elicitation", "elicitation.form"}, {"mode": "url"}, -32602),
        ({"elicitation", "elicitation.url"}, {"mode": "url"}, None),
        ({"elicitation", "elicitation.url"}, {}, -32602),
        ({"elicitation", "elicitation.form"}, {"mode": None}, -32602),
        ({"roots"}, {}, -32601),
    ],
)
def test_modes_of_elicitation(flags: set[str], params: Any, code: int | None) -> None:
    relayed = Rig(flags=frozenset(flags)).relayed(request(1, "elicitation/create", params))
    assert (relayed.down is not None) == (code is None)
    assert code is None or json.loads(relayed.up or b"")["error"]["code"] == code


def test_tools_in_sampling_need_the_capability() -> None:
    params = {"messages": [], "tools": [{"name": "t"}]}
    assert Rig().down(request(1, "sampling/createMessage", params))["params"] == params
    plain = Rig(flags=frozenset({"sampling"}))
    assert plain.up(request(1, "sampling/createMessage", params))["error"]["code"] == -32602
    assert plain.down(request(1, "sampling/createMessage", {"messages": []}))["params"] == {"messages": []}


def test_an_id_without_measure_is_refused() -> None:
    assert Rig().up(request("x" * 600, "roots/list"))["error"]["code"] == -32600


def test_a_request_keeps_what_is_not_ours() -> None:
    text = b'{"jsonrpc":"2.0","params":{"messages":[ 1.50 ],"x":"\\u0041"},"method":"sampling/createMessage","id":1}'
    down = Rig(servers=ONE).relayed(text).down
    assert down is not None
    sealed = json.loads(down)["id"].encode()
    assert down == text.replace(b'"id":1}', b'"id":"%b"}' % sealed)


@pytest.mark.parametrize("token", [0, "0", 5])
def test_progress_tokens_of_servers_come_back(token: Any) -> None:
    rig = Rig()
    meta = {"x": 1, "progressToken": token}
    got = rig.down(request(1, "sampling/createMessage", {"messages": [], "_meta": meta}))["params"]["_meta"]
    assert got["x"] == 1
    owner = rig.identifiers.owner("progress", "s1", json.dumps(got["progressToken"]).encode())
    assert owner is not None
    assert json.loads(owner.raw) == token
    assert type(json.loads(owner.raw)) is type(token)


# -- Notifications --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tools", "prompts", "resources"])
def test_list_changes_are_for_the_merged_list(kind: str) -> None:
    rig = Rig()
    rig.memory.remember_owners("s1", f"{kind}/list", {"x": "a"}, 100.0)
    assert rig.relayed(notification(f"notifications/{kind}/list_changed")) == Relayed(changed=kind)
    assert rig.memory.owners("s1", f"{kind}/list", 0.0) is None


@pytest.mark.parametrize("wanted", methods.LOG_LEVELS)
def test_log_levels(wanted: str) -> None:
    rig = Rig()
    rig.memory.remember_level("s1", wanted)
    rig.memory.remember_level("s2", "emergency")
    passed = [
        level
        for level in (*methods.LOG_LEVELS, "odd")
        if rig.relayed(notification("notifications/message", {"level": level, "data": 1})).down is not None
    ]
    assert passed == [*methods.LOG_LEVELS[methods.LOG_LEVELS.index(wanted) :], "odd"]


def test_without_a_level_everything_is_told() -> None:
    got = Rig().down(notification("notifications/message", {"level": "debug", "logger": "db", "data": 1}))
    assert got["params"] == {"level": "debug", "logger": "b/db", "data": 1}
    assert Rig().down(notification("notifications/message", {"level": "debug"}))["params"]["logger"] == "b"
    message = notification("notifications/message", {"level": "debug", "logger": "db"})
    assert Rig(servers=ONE).down(message) == message


@pytest.mark.parametrize(
    ("wanted", "told", "passes"),
    [
        (b"0", 0, True),
        (b'"0"', 0, False),
        (b"0", "0", False),
        (b'"x"', "x", True),
        (None, 0, False),
        (ANY_TOKEN, 7, True),
    ],
)
def test_progress_that_nobody_waits_for_is_dropped(wanted: bytes | None, told: Any, passes: bool) -> None:
    message = notification("notifications/progress", {"progressToken": told, "progress": 1})
    relayed = Rig().relayed(message, call=Call("tools/call", wanted))
    assert relayed == (Relayed(down=json.dumps(message).encode()) if passes else DROPPED)


def test_progress_on_a_get_belongs_to_a_running_call() -> None:
    rig = Rig()
    message = notification("notifications/progress", {"progressToken": "t", "progress": 1})
    assert rig.relayed(message, call=None) == DROPPED
    rig.memory.started("s1", b'"t"', 0.0)
    rig.memory.started("s1", b'"t"', 0.0)
    rig.memory.finished("s1", b'"t"')
    assert rig.relayed(message, call=None).down is not None
    rig.memory.finished("s1", b'"t"')
    assert rig.relayed(message, call=None) == DROPPED
    assert rig.relayed(notification("notifications/progress", {"progress": 1}), call=None) == DROPPED


def test_updated() -> None:
    got = Rig().down(notification("notifications/resources/updated", {"uri": "f:a/sub", "x": 1}))
    assert got["params"] == {"uri": "bee+f:a/sub", "x": 1}


def test_cancelled_names_the_request_as_the_client_knows_it() -> None:
    rig = Rig()
    id = rig.down(request("1", "roots/list"))["id"]
    assert rig.down(notification("notifications/cancelled", {"requestId": "1"}))["params"] == {"requestId": id}
    assert rig.down(notification("notifications/cancelled", {"requestId": 1}))["params"]["requestId"] != id
    assert rig.relayed(notification("notifications/cancelled", {"reason": "x"})) == DROPPED


def test_elicitation_complete_is_for_who_knows_urls() -> None:
    message = notification("notifications/elicitation/complete", {"elicitationId": "e"})
    assert Rig().down(message)["params"] == {"elicitationId": "b:e"}
    assert Rig(servers=ONE).down(message) == message
    assert Rig(flags=frozenset({"elicitation", "elicitation.form"})).relayed(message) == DROPPED


def test_tasks_are_not_offered_and_the_unknown_passes() -> None:
    assert Rig().relayed(notification("notifications/tasks/status", {"taskId": "1"})) == DROPPED
    text = b'{"jsonrpc": "2.0", "method": "x/y", "params": [1]}'
    assert Rig().relayed(text).down == text


def test_versions_count_on_both_sides() -> None:
    """A server at 2025-03-26 knows no links: what looks like one stays."""
    link = result({"content": [{"type": "resource_link", "uri": "f:a", "name": "n"}]})
    old = Rig(version="2025-03-26", servers=ONE)
    assert old.down(link, session=upstream(version="2025-03-26")) == link
    assert old.down(link, session=upstream(version=LATEST)) != link


# -- Resources that may not be seen -------------------------------------------------------------------------------------------

ALICE = Principal("token", "https://idp", "alice")


def limited() -> Rig:
    """To a client that may not see everything."""
    rig = Rig()
    authorization = {"default": "allow", "rules": [{"action": "deny", "resources": ["*secret"]}]}
    rules = Rules(Authorization.model_validate(authorization))
    rig.relay = Relay(rig.view, rig.catalog, rig.identifiers, rig.memory, Sight(rules.of(ALICE), ALICE))
    return rig


def test_changes_of_resources_that_may_not_be_seen_are_not_told() -> None:
    rig = limited()
    for call in (None, CALL):
        assert rig.relayed(notification("notifications/resources/updated", {"uri": "f:secret"}), call=call) == DROPPED
        told = rig.down(notification("notifications/resources/updated", {"uri": "f:open"}), call=call)
        assert told["params"]["uri"] == "bee+f:open"
        for params in ({}, {"uri": 7}):
            assert rig.relayed(notification("notifications/resources/updated", params), call=call) == DROPPED
    assert rig.down(notification("notifications/message", {"level": "info", "uri": "f:secret"}))


def test_results_have_nothing_of_resources_that_may_not_be_seen() -> None:
    open_link, secret_link = ({"type": "resource_link", "uri": f"f:{name}", "name": "x"} for name in ("open", "secret"))
    secret = {"type": "resource", "resource": {"uri": "f:secret", "text": "hush"}}
    text = {"type": "text", "text": "f:secret"}
    found = json.loads(
        limited().relayed(result({"content": [secret_link, open_link, text, secret], "x": 1})).down or b""
    )
    assert found["result"] == {"content": [{**open_link, "uri": "bee+f:open"}, text], "x": 1}
    prompt = Call("prompts/get", None)
    messages = [{"role": "user", "content": one} for one in (secret, text, secret_link)]
    found = json.loads(limited().relayed(result({"messages": messages}), call=prompt).down or b"")
    assert found["result"] == {"messages": [{"role": "user", "content": text}]}


def test_a_result_without_hidden_resources_keeps_every_byte() -> None:
    body = b'{ "result" : {"content":[ {"type":"text","text":"uri"} ]} ,"id":1,  "jsonrpc":"2.0"}'
    assert limited().relayed(body).down == body


OPEN, TEXT = "f:open", {"type": "text", "text": "y"}
PLACES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "result": ("tools/call", lambda meta: {"content": [], **meta}),
    "block": ("tools/call", lambda meta: {"content": [{"type": "text", "text": "x", **meta}, TEXT]}),
    "link": ("tools/call", lambda meta: {"content": [{"type": "resource_link", "uri": OPEN, **meta}]}),
    "embedded": ("tools/call", lambda meta: {"content": [{"type": "resource", "resource": {"uri": OPEN, **meta}}]}),
    "prompt": ("prompts/get", lambda meta: {"messages": [], **meta}),
    "message": ("prompts/get", lambda meta: {"messages": [{"role": "user", "content": {**TEXT, **meta}}]}),
    "embedded in a message": (
        "prompts/get",
        lambda meta: {"messages": [{"content": {"type": "resource", "resource": {"uri": OPEN, **meta}}}]},
    ),
}
"""Where a server may name a view, by the method."""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("path", [".".join(path) for path in methods.VIEWS])
def test_a_view_that_may_not_be_seen_is_not_named(path: str, place: str) -> None:
    method, around = PLACES[place]
    call = Call(method, None)

    def with_view(**uri: str) -> dict[str, Any]:
        *outer, _ = path.split(".")
        view: dict[str, Any] = {**uri, "other": 1}
        for name in reversed(outer):
            view = {name: view}
        found: dict[str, Any] = around({"_meta": {**view, "more": {"x": 2}}})
        return found

    def prefixed(found: dict[str, Any]) -> Any:
        return json.loads(json.dumps(found).replace('"f:', '"bee+f:'))

    name = path.split(".")[-1]
    secret, open = with_view(**{name: "f:secret"}), with_view(**{name: "f:open"})
    assert json.loads(limited().relayed(result(secret), call=call).down or b"")["result"] == prefixed(with_view())
    assert limited().down(result(open), call=call)["result"] == prefixed(open)
    assert Rig().down(result(secret), call=call)["result"] == prefixed(secret)
    escaped = json.dumps(result(secret)).encode().replace(b"_meta", b"\\u005fmeta")
    assert b"secret" not in (limited().relayed(escaped, call=call).down or b"secret")


READ, COMPLETE = Call("resources/read", None), Call("completion/complete", None)


@pytest.mark.parametrize(
    ("call", "code", "is_replaced"),
    [
        *((Call(f"resources/{use}", None), code, True)
          for use in ("read", "subscribe", "unsubscribe") for code in (-32002, -32602, 0)),
        (READ, -32603, False), (COMPLETE, -32002, True), (COMPLETE, -32602, False), (CALL, -32002, False),
    ],
)  # fmt: skip
def test_where_resources_are_hidden_one_that_is_not_there_has_the_gateways_words(
    call: Call, code: int, is_replaced: bool
) -> None:
    own = {"code": code, "message": "Unknown resource: f:x", "data": {"uri": "f:x", "hint": "f:y"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "error": own}).encode()
    unknown = refusals.unknown_resource(None)
    told = limited().down(body, call=call)["error"]
    assert (told == {"code": unknown.code, "message": unknown.message}) is is_replaced
    assert Rig().down(body, call=call)["error"]["message"] == own["message"]
