"""Pass-through: what is told of a request that nobody changes, and which requests can't be told of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_extproc.config import GatewayConfig
from mcp_extproc.gateway.policy.inspect import Pass, ReadBody, Refusal, by_body, by_head, is_whole
from mcp_extproc.gateway.request import RequestHead

LIMIT = 4096
NAME = "x" * 1025


def config(mode: str = "reject_no_mcp", **sections: Any) -> GatewayConfig:
    limits = {"request_bytes": LIMIT, "json_depth": 20}
    return GatewayConfig.model_validate({"pass_through": {"traffic_mode": mode}, "limits": limits, **sections})


def post(**headers: str) -> RequestHead:
    fields = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return RequestHead("POST", "", {name: value for name, value in fields.items() if value})


def rpc(method: str, params: Any = None, **members: Any) -> bytes:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, **members}
    return json.dumps(message if params is None else {**message, "params": params}).encode()


def read(
    body: bytes, head: RequestHead | None = None, *, whole: bool = True, mode: str = "reject_no_mcp"
) -> Pass | Refusal:
    return by_body(head or post(), body, whole=whole, config=config(mode))


def told(body: bytes, head: RequestHead | None = None) -> dict[str, Any]:
    """The facts of a message that can be read, without those that all messages have."""
    decision = read(body, head)
    assert isinstance(decision, Pass), decision
    assert decision.is_mcp
    facts = dict(decision.facts)
    common = {name: facts.pop(name) for name in ("jsonrpc", "is_mcp_request", "status", "http_method")}
    assert common == {"jsonrpc": "2.0", "is_mcp_request": True, "status": "mcp_ok", "http_method": "POST"}
    assert "passthrough_reason" not in facts
    return facts


def headers_of(body: bytes) -> dict[str, str]:
    decision = read(body)
    assert isinstance(decision, Pass)
    return dict(decision.set_headers)


# -- What is told ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "facts", "headers"),
    [
        (
            rpc("tools/call", {"name": "issue_read", "arguments": {"a": 1}}),
            {"method": "tools/call", "params": {"name": "issue_read"}, "tool": "issue_read", "id": 1, "id_json": "1"},
            {"mcp-method": "tools/call", "mcp-name": "issue_read", "x-mcp-request-id": "1"},
        ),
        (
            rpc("prompts/get", {"name": "naïve"}, id="7"),
            {"method": "prompts/get", "params": {"name": "naïve"}, "prompt": "naïve", "id": "7", "id_json": '"7"'},
            {"mcp-method": "prompts/get", "mcp-name": "=?base64?bmHDr3Zl?=", "x-mcp-request-id": '"7"'},
        ),
        (
            rpc("resources/read", {"uri": "file:///a"}),
            {"method": "resources/read", "params": {"uri": "file:///a"}, "id": 1, "id_json": "1"},
            {"mcp-method": "resources/read", "mcp-name": "file:///a", "x-mcp-request-id": "1"},
        ),
        (
            rpc("completion/complete", {"ref": {"type": "ref/prompt", "name": "p"}}),
            {
                "method": "completion/complete",
                "params": {"ref": {"type": "ref/prompt", "name": "p"}},
                "id": 1,
                "id_json": "1",
            },
            {"mcp-method": "completion/complete", "x-mcp-request-id": "1"},
        ),
        (
            b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
            {"method": "notifications/initialized"},
            {"mcp-method": "notifications/initialized"},
        ),
        # A call without an id is a call to some servers.
        (
            b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"t"}}',
            {"method": "tools/call", "params": {"name": "t"}, "tool": "t"},
            {"mcp-method": "tools/call", "mcp-name": "t"},
        ),
        (
            b'{"jsonrpc":"2.0","id":12345678901234567890,"result":{}}',
            {"method": "__jsonrpc_response", "id": "12345678901234567890", "id_json": "12345678901234567890"},
            {"x-mcp-request-id": "12345678901234567890"},
        ),
        # Of methods that nobody knows, the method only.
        (
            rpc("acme/do", {"name": "n"}),
            {"method": "acme/do", "id": 1, "id_json": "1"},
            {"mcp-method": "acme/do", "x-mcp-request-id": "1"},
        ),
    ],
)
def test_messages(body: bytes, facts: dict[str, Any], headers: dict[str, str]) -> None:
    assert told(body) == facts
    assert headers_of(body) == headers


def test_blanks_escapes_and_numbers_are_read_as_they_are_meant() -> None:
    body = b' \n{ "id" : 1e0 ,'
    assert isinstance(read(body), Refusal)
    body = (
        b'\t{ "method" : "tools\\/call", "params":{ "n\\u0061me" : "t\\u00e4" }, "jsonrpc":"2\\u002e0" ,"id":-0 }\r\n'
    )
    assert told(body) == {"method": "tools/call", "params": {"name": "tä"}, "tool": "tä", "id": 0, "id_json": "-0"}


def test_the_session_is_told_by_a_short_name() -> None:
    one, again = (told(rpc("ping"), post(mcp_session_id="their-session")) for _ in range(2))
    other = told(rpc("ping"), post(mcp_session_id="their-sessioN"))
    assert one["session"] == again["session"] != other["session"]
    assert len(one["session"]) == 16
    assert "their" not in str(one)


@pytest.mark.parametrize(
    ("header", "version"), [("2025-11-25", "2025-11-25"), ("2031-01-01", "2031-01-01"), ("x\r\ny", None)]
)
def test_the_version_is_told_where_it_is_one(header: str, version: str | None) -> None:
    assert told(rpc("ping"), post(mcp_protocol_version=header)).get("protocol_version") == version


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_what_has_no_body_passes(method: str) -> None:
    decision = by_head(RequestHead(method, "", {"mcp-session-id": "s"}), has_body=False, config=config())
    assert isinstance(decision, Pass)
    assert not decision.is_mcp
    # As of Envoy's filter, which tells nothing of them: no policy on `method` is about them.
    assert set(decision.facts) == {"http_method", "session"}
    assert decision.facts["http_method"] == method


def test_headers_that_clients_sent_are_removed_in_both_spellings() -> None:
    decision = read(rpc("tools/call", {"name": "t"}))
    assert isinstance(decision, Pass)
    assert set(decision.remove_headers) == {
        "x-mcp-server", "mcp_method", "mcp_name", "x_mcp_request_id", "x_mcp_server",
    }  # fmt: skip
    passed = by_head(RequestHead("GET", "", {}), has_body=False, config=config())
    assert isinstance(passed, Pass)
    assert {"mcp-method", "mcp-name", "x-mcp-request-id", "x-mcp-server"} < set(passed.remove_headers)


# -- What can't be told ---------------------------------------------------------------------------------------------------

BODIES = [
    (b"", 400, -32700, "mcp_parse_error"),
    (b"hello", 400, -32700, "mcp_parse_error"),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping"', 400, -32700, "mcp_parse_error"),
    (rpc("ping") + b" x", 400, -32700, "mcp_parse_error"),
    (rpc("ping") + rpc("ping"), 400, -32700, "mcp_parse_error"),
    (b"\xef\xbb\xbf" + rpc("ping"), 400, -32700, "mcp_parse_error"),
    (rpc("tools/call").decode().encode("utf-16"), 400, -32700, "mcp_parse_error"),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\xff"}}', 400, -32700, "mcp_parse_error"),
    (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\ud800"}}', 400, -32700, "mcp_parse_error"),
    (rpc("ping", {"x": json.loads("[" * 30 + "]" * 30)}), 400, -32700, "mcp_parse_error"),
    (b"1", 400, -32600, "mcp_not_jsonrpc"),
    (b"{}", 400, -32600, "mcp_not_jsonrpc"),
    (b'{"id":1,"method":"ping"}', 400, -32600, "mcp_not_jsonrpc"),
    (rpc("ping", jsonrpc="1.0"), 400, -32600, "mcp_not_jsonrpc"),
    (rpc("ping", id=None), 400, -32600, "mcp_not_jsonrpc"),
    (rpc("ping", id=1.5), 400, -32600, "mcp_not_jsonrpc"),
    (rpc("ping", id={}), 400, -32600, "mcp_not_jsonrpc"),
    (rpc("ping", result={}), 400, -32600, "mcp_not_jsonrpc"),
    (rpc("tools call"), 400, -32600, "mcp_not_jsonrpc"),
    (rpc("ping", [1]), 400, -32600, "mcp_not_jsonrpc"),
    (rpc("ping", 1), 400, -32600, "mcp_not_jsonrpc"),
    (rpc("tools/call", {"name": "a", "Name": "b"}), 400, -32600, "mcp_not_jsonrpc"),
    (rpc("ping", Method="tools/call"), 400, -32600, "mcp_not_jsonrpc"),
    (rpc("completion/complete", {"ref": {"type": "ref/prompt", "Type": "x"}}), 400, -32600, "mcp_not_jsonrpc"),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}', 400, -32600, "mcp_duplicate_keys"),
    (b'{"jsonrpc":"2.0","id":1,"method":"ping","\\u006dethod":"x/y"}', 400, -32600, "mcp_duplicate_keys"),
    (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', 400, -32600, "mcp_duplicate_keys"),
    (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}',
        400, -32600, "mcp_duplicate_keys",
    ),
    (
        b'{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"a","name":"b"}}}',
        400, -32600, "mcp_duplicate_keys",
    ),
    (
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"clientInfo":{"name":"a","name":"b"}}}',
        400, -32600, "mcp_duplicate_keys",
    ),
    (b"[]", 400, -32600, "mcp_batch"),
    (b"[1]", 400, -32600, "mcp_batch"),
    (b" [" + rpc("ping") + b"]", 400, -32600, "mcp_batch"),
    (rpc("tools/call"), 200, -32602, "mcp_invalid_params"),
    (rpc("tools/call", {"name": 5}), 200, -32602, "mcp_invalid_params"),
    (rpc("tools/call", {"name": ["delete"]}), 200, -32602, "mcp_invalid_params"),
    (rpc("prompts/get", {}), 200, -32602, "mcp_invalid_params"),
    (rpc("resources/read", {"uri": None}), 200, -32602, "mcp_invalid_params"),
    (rpc("completion/complete", {"ref": "x"}), 200, -32602, "mcp_invalid_params"),
    # Metadata would hold the beginning of it only.
    (rpc("tools/call", {"name": NAME}), 200, -32602, "mcp_invalid_params"),
    (rpc("resources/read", {"uri": NAME}), 200, -32602, "mcp_invalid_params"),
    (rpc("completion/complete", {"ref": {"type": "ref/prompt", "name": NAME}}), 200, -32602, "mcp_invalid_params"),
    (rpc("tools/call", {"name": "x "}), 200, -32602, "mcp_invalid_params"),
    (rpc("prompts/get", {"name": "x\0"}), 200, -32602, "mcp_invalid_params"),
    (rpc("resources/read", {"uri": "x:y\n"}), 200, -32602, "mcp_invalid_params"),
    (rpc("completion/complete", {"ref": {"type": "ref/prompt", "name": "x\u200b"}}), 200, -32602, "mcp_invalid_params"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "code", "word"), BODIES)
def test_bodies_that_are_refused(body: bytes, status: int, code: int, word: str) -> None:
    decision = read(body)
    assert isinstance(decision, Refusal)
    error = json.loads(decision.reply.body)
    assert (decision.reply.status, error["error"]["code"]) == (status, code)
    assert dict(decision.reply.headers)["content-type"] == "application/json"
    assert (decision.facts["is_mcp_request"], decision.facts["status"]) == (False, word)
    assert "method" not in decision.facts
    assert error.get("id") == (1 if decision.facts.get("id") is not None else None)


@pytest.mark.parametrize(("body", "status", "code", "word"), BODIES)
def test_bodies_that_pass_unread(body: bytes, status: int, code: int, word: str) -> None:
    decision = read(body, mode="pass_through")
    assert isinstance(decision, Pass)
    # Nothing of what could be read is told: it may be only half of the truth.
    assert decision.facts == {
        "http_method": "POST", "is_mcp_request": False, "status": "mcp_ok", "passthrough_reason": word,
    }  # fmt: skip
    assert decision.set_headers == ()
    assert not decision.is_mcp


HEADS: list[tuple[str, dict[str, str], bool, int, str]] = [
    ("POST", {"content-type": "text/plain"}, True, 415, "mcp_content_type"),
    ("POST", {}, True, 415, "mcp_content_type"),
    ("POST", {"content-type": "application/json, text/plain"}, True, 415, "mcp_content_type"),
    ("POST", {"content-type": "application/json; charset=utf-7"}, True, 415, "mcp_charset"),
    ("POST", {"content-type": "application/json; Charset=UTF-16"}, True, 415, "mcp_charset"),
    ("POST", {"content-type": "application/json; charset*=us-ascii''utf-7"}, True, 415, "mcp_charset"),
    ("POST", {"content-type": "application/json; charset=utf-8; charset=utf-7"}, True, 415, "mcp_charset"),
    ("POST", {"content-type": "application/json", "content-encoding": "gzip"}, True, 415, "mcp_content_encoding"),
    ("POST", {"content-type": "application/json", "content-length": f"{LIMIT + 1}"}, True, 413, "mcp_body_too_large"),
    ("GET", {"accept": "text/event-stream"}, True, 400, "mcp_http_body"),
    ("DELETE", {}, True, 400, "mcp_http_body"),
    ("PUT", {"content-type": "application/json"}, True, 405, "mcp_http_method"),
    ("PATCH", {"content-type": "application/json"}, True, 405, "mcp_http_method"),
    ("CONNECT", {}, True, 405, "mcp_http_method"),
    ("post", {"content-type": "application/json"}, True, 405, "mcp_http_method"),
]


@pytest.mark.parametrize(("method", "headers", "has_body", "status", "word"), HEADS)
def test_heads_that_are_refused(method: str, headers: dict[str, str], has_body: bool, status: int, word: str) -> None:
    decision = by_head(RequestHead(method, "", headers), has_body=has_body, config=config())
    assert isinstance(decision, Refusal)
    assert (decision.reply.status, decision.facts["status"]) == (status, word)
    assert "error" in json.loads(decision.reply.body)
    passed = by_head(RequestHead(method, "", headers), has_body=has_body, config=config("pass_through"))
    assert isinstance(passed, Pass)
    assert (passed.facts["is_mcp_request"], passed.facts["passthrough_reason"]) == (False, word)


@pytest.mark.parametrize(
    ("headers", "fits"),
    [({}, False), ({"content-length": str(LIMIT)}, True), ({"content-length": "x"}, False), ({"accept": "*/*"}, False)],
)
def test_bodies_that_are_read(headers: dict[str, str], fits: bool) -> None:
    """Whatever the client accepts, and with ``charset=utf-8`` as well."""
    for content_type in ("application/json", 'Application/JSON; charset="utf-8"', "application/json;charset=UTF-8;v=1"):
        head = RequestHead("POST", "", {"content-type": content_type, **headers})
        assert by_head(head, has_body=True, config=config()) == ReadBody(fits=fits)


@pytest.mark.parametrize("mode", ["reject_no_mcp", "pass_through"])
@pytest.mark.parametrize(("body", "whole"), [(rpc("ping"), False), (rpc("ping", {"x": "y" * LIMIT}), True)])
def test_bodies_that_are_not_held_whole(body: bytes, whole: bool, mode: str) -> None:
    """A part may be valid by itself, and mean something else than the whole. Nor can Envoy let it pass."""
    decision = read(body, whole=whole, mode=mode)
    assert isinstance(decision, Refusal)
    assert (decision.reply.status, decision.facts["status"]) == (413, "mcp_body_too_large")
    assert decision.facts["is_exceeding_limit"] is True


def test_a_larger_body_that_says_so_passes() -> None:
    """It need not be held."""
    passed = by_head(post(content_length=str(LIMIT + 1)), has_body=True, config=config("pass_through"))
    assert isinstance(passed, Pass)
    assert passed.facts["is_exceeding_limit"] is True


@pytest.mark.parametrize(
    ("length", "ends", "whole"), [("", True, True), ("", False, False), ("3", False, True), ("4", False, False)]
)
def test_the_end_of_a_body(length: str, ends: bool, whole: bool) -> None:
    assert is_whole(post(content_length=length), b"abc", ends=ends) is whole
