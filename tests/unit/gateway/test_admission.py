"""Which requests come in at all, judged by their heads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_extproc.gateway.decision import NeedBody
from mcp_extproc.gateway.legs import OpenLeg
from mcp_extproc.gateway.request import RequestHead
from tests.unit.gateway.support import NOW, Rig, as_reply, code, config, head, message

PING = message("ping")
RIG = Rig()


def comes_in(rig: Rig, request: RequestHead) -> bool:
    return isinstance(rig.gateway.admit(request, NOW), NeedBody)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content_type": "application/json; charset=utf-8"},
        {"accept": "text/event-stream, application/json"},
        {"accept": "*/*"},
        {"origin": "http://localhost:3000"},
        {"host": "127.0.0.1:1975"},
        {"host": "[::1]:1975"},
        {"content_length": "100"},
        {"authorization": "Bearer x", "cookie": "a=b"},
    ],
)
def test_ordinary_requests_come_in(headers: dict[str, str]) -> None:
    assert comes_in(RIG, head(**headers))


def test_a_query_is_no_other_path() -> None:
    assert comes_in(RIG, head("POST", "/mcp?x=/other"))


LIMIT = RIG.config.limits.request_bytes

REFUSED: list[tuple[str, str, dict[str, str | None], int, str]] = [
    ("POST", "/", {}, 404, "path"),
    ("POST", "/mcp/", {}, 404, "path"),
    ("POST", "/MCP", {}, 404, "path"),
    ("GET", "/.well-known/oauth-protected-resource", {}, 404, "path"),
    ("DELETE", "/other", {}, 404, "path"),
    # Foreign origins and hosts, on any verb.
    ("POST", "/mcp", {"origin": "https://example.com"}, 403, "origin"),
    ("GET", "/mcp", {"origin": "https://example.com"}, 403, "origin"),
    ("DELETE", "/mcp", {"origin": "https://example.com"}, 403, "origin"),
    ("OPTIONS", "/mcp", {"origin": "https://example.com"}, 403, "origin"),
    ("POST", "/mcp", {"origin": "null"}, 403, "origin"),
    ("POST", "/mcp", {"host": "example.com"}, 403, "host"),
    ("GET", "/mcp", {"host": "example.com"}, 403, "host"),
    ("DELETE", "/mcp", {"host": "example.com"}, 403, "host"),
    ("POST", "/mcp", {"host": None}, 403, "host"),
    ("POST", "/mcp", {"host": "localhost.example.com:1975"}, 403, "host"),
    ("POST", "/mcp", {"host": "evil.com,x.localhost"}, 403, "host"),
    # No stream without a session, and not 404, which would end one.
    ("GET", "/mcp", {}, 405, "no_stream"),
    ("GET", "/mcp", {"last_event_id": "x"}, 405, "no_stream"),
    ("GET", "/mcp", {"accept": "text/event-stream", "mcp_session_id": "unknown"}, 404, "session_unknown"),
    ("GET", "/mcp", {"mcp_session_id": RIG.token, "last_event_id": "none of ours"}, 405, "no_stream"),
    # A GET takes an event stream.
    ("GET", "/mcp", {"accept": "application/json", "mcp_session_id": RIG.token}, 406, "accept"),
    ("GET", "/mcp", {"accept": None, "mcp_session_id": RIG.token}, 406, "accept"),
    # A version that is not served.
    (
        "GET",
        "/mcp",
        {"mcp_protocol_version": "1900-01-01", "mcp_session_id": RIG.token},
        400,
        "unsupported_protocol_version",
    ),
    # Verbs that MCP has no use for.
    ("HEAD", "/mcp", {}, 405, "http_method"),
    ("PUT", "/mcp", {}, 405, "http_method"),
    ("OPTIONS", "/mcp", {}, 405, "http_method"),
    ("post", "/mcp", {}, 405, "http_method"),
    ("X" * 99, "/mcp", {}, 405, "http_method"),
    # A POST brings JSON and takes both kinds of answers.
    ("POST", "/mcp", {"content_type": None}, 415, "content_type"),
    ("POST", "/mcp", {"content_type": "text/plain"}, 415, "content_type"),
    ("POST", "/mcp", {"content_type": "application/json, text/plain"}, 415, "content_type"),
    ("POST", "/mcp", {"content_type": "application/x-www-form-urlencoded"}, 415, "content_type"),
    ("POST", "/mcp", {"content_type": "application/json; charset=utf-7"}, 415, "charset"),
    ("POST", "/mcp", {"content_type": "application/json; charset=UTF-8; charset=utf-16"}, 415, "charset"),
    ("POST", "/mcp", {"content_encoding": "gzip"}, 415, "content_encoding"),
    ("POST", "/mcp", {"content_encoding": "identity"}, 415, "content_encoding"),
    ("POST", "/mcp", {"accept": None}, 406, "accept"),
    ("POST", "/mcp", {"accept": "text/html"}, 406, "accept"),
    ("POST", "/mcp", {"accept": "application/json"}, 406, "accept"),
    ("POST", "/mcp", {"accept": "text/event-stream"}, 406, "accept"),
    ("POST", "/mcp", {"content_length": str(LIMIT + 1)}, 413, "too_large"),
    ("POST", "/mcp", {"content_length": "9" * 5000}, 413, "too_large"),
    # DELETE without a session, and of an unknown one.
    ("DELETE", "/mcp", {}, 400, "session_missing"),
    ("DELETE", "/mcp", {"mcp_session_id": "unknown"}, 404, "session_unknown"),
]


@pytest.mark.parametrize(("method", "path", "headers", "status", "reason"), REFUSED)
def test_refused_requests(method: str, path: str, headers: dict[str, str | None], status: int, reason: str) -> None:
    """Every one with a JSON-RPC error without an id, and with its cause in the metadata."""
    reply = as_reply(RIG.gateway.admit(head(method, path, **headers), NOW))
    assert (reply.status, reply.facts.metadata()["error_reason"]) == (status, reason)
    assert reply.facts.metadata()["error_code"] == code(reply)
    assert "id" not in json.loads(reply.body)
    allowed = {"http_method": "POST, GET, DELETE", "no_stream": "POST, DELETE"}
    assert dict(reply.headers).get("allow") == allowed.get(reason)


@pytest.mark.parametrize("length", [str(LIMIT), "0", "", "x", "-1", "\u00b2", "1.5"])
def test_lengths_that_do_not_refuse_a_body(length: str) -> None:
    assert comes_in(RIG, head(content_length=length))


def test_the_body_itself_is_measured_too() -> None:
    """A body may come without its length, or with a wrong one."""
    rig = Rig(config(limits={"request_bytes": 100}))
    at_limit = PING + b" " * (100 - len(PING))
    assert rig.reply(at_limit).status == 200
    reply = rig.reply(at_limit + b" ")
    assert (reply.status, reply.facts.metadata()["error_reason"]) == (413, "too_large")


def test_a_gateway_for_others_is_called_by_any_name() -> None:
    """Only on a loopback address does a foreign `Host` mean DNS rebinding."""
    rig = Rig(config(listen={"address": "0.0.0.0"}))
    assert comes_in(rig, head(host="gateway.example.com"))
    assert as_reply(rig.gateway.admit(head(origin="https://example.com"), NOW)).status == 403


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_listed_hosts(address: str) -> None:
    """This machine itself is among them on any address."""
    rig = Rig(config(listen={"address": address, "allowed_hosts": ["Host.Docker.Internal"]}))
    assert comes_in(rig, head(host="host.docker.internal:1975"))
    assert comes_in(rig, head(host="localhost:1975"))
    assert as_reply(rig.gateway.admit(head(host="gateway.example.com"), NOW)).status == 403


def test_listed_origins() -> None:
    """They replace the default."""
    rig = Rig(config(origins=["https://app.example.com"]))
    assert comes_in(rig, head(origin="https://app.example.com"))
    assert as_reply(rig.gateway.admit(head(origin="http://localhost"), NOW)).status == 403


def test_another_path() -> None:
    rig = Rig(config(listen={"path": "/tools"}))
    assert comes_in(rig, head("POST", "/tools"))
    reply = as_reply(rig.gateway.admit(head("POST", "/mcp"), NOW))
    assert "/tools" in json.loads(reply.body)["error"]["message"]


# -- Protocol versions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [None, "2025-03-26", "2025-06-18", "2025-11-25"])
def test_a_version_that_is_known_or_missing_is_served(version: str | None) -> None:
    """The session's own version counts."""
    assert RIG.reply(PING, RIG.head(mcp_protocol_version=version)).status == 200


@pytest.mark.parametrize("version", ["1900-01-01", "2024-11-05", "", "2025-06-18, 2025-11-25", "v" * 500])
@pytest.mark.parametrize(
    "body",
    [
        PING,
        message("tools/list"),
        message("notifications/initialized", id=None),
        b'{"jsonrpc":"2.0","id":1,"result":{}}',
    ],
)
def test_a_version_that_is_unknown_gets_400(version: str, body: bytes) -> None:
    """MCP transports, Protocol Version Header."""
    reply = RIG.reply(body, RIG.head(mcp_protocol_version=version))
    assert (reply.status, reply.facts.metadata()["error_reason"]) == (400, "unsupported_protocol_version")
    assert len(reply.body) < 400


@pytest.mark.parametrize("version", ["1900-01-01", "2026-07-28", "2025-03-26", ""])
def test_initialize_ignores_the_version_header(version: str) -> None:
    """The version is what it negotiates."""
    body = message("initialize", {"protocolVersion": "2025-06-18"})
    [leg, _] = RIG.fan_out(body, head(mcp_protocol_version=version)).legs
    assert isinstance(leg, OpenLeg)
    assert leg.version == "2025-06-18"


VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
META = {"_meta": {VERSION_KEY: "2026-07-28"}}


@pytest.mark.parametrize(
    ("body", "headers", "requested"),
    [
        (message("server/discover"), {}, "2026-07-28"),
        (message("server/discover"), {"mcp_protocol_version": "2026-07-28"}, "2026-07-28"),
        (message("server/discover"), {"mcp_protocol_version": "2027-01-01"}, "2027-01-01"),
        (message("server/discover", META), {}, "2026-07-28"),
        (message("subscriptions/listen"), {}, "2026-07-28"),
        (message("tools/list"), {"mcp_protocol_version": "2026-07-28"}, "2026-07-28"),
        (message("tools/list", META), {}, "2026-07-28"),
        (message("tools/call", {"name": "a__x", **META}), {"mcp_session_id": RIG.token}, "2026-07-28"),
        (message("tools/list"), {"mcp_protocol_version": "2026-07-28", "mcp_session_id": RIG.token}, "2026-07-28"),
        (message("initialize", {"protocolVersion": "2025-11-25", **META}), {}, "2026-07-28"),
        (message("x", {"_meta": {VERSION_KEY: "9" * 500}}), {}, "9" * 64),
    ],
)
def test_requests_of_the_version_without_handshake(body: bytes, headers: dict[str, str], requested: str) -> None:
    """Such clients fall back to `initialize` when they are told what is served."""
    reply = RIG.reply(body, head(**headers))
    error = json.loads(reply.body)
    assert (reply.status, error["id"], error["error"]["code"]) == (400, 7, -32022)
    assert error["error"]["data"] == {"supported": ["2025-11-25", "2025-06-18", "2025-03-26"], "requested": requested}
    assert (reply.facts.metadata()["error_code"], reply.facts.metadata()["error_reason"]) == (
        -32022,
        "unsupported_protocol_version",
    )


def test_a_notification_of_that_version_is_refused_without_an_id() -> None:
    reply = RIG.reply(message("notifications/cancelled", META, id=None), head())
    assert (reply.status, code(reply)) == (400, -32022)
    assert "id" not in json.loads(reply.body)


@pytest.mark.parametrize(
    "meta",
    [{"progressToken": 1}, {VERSION_KEY: 5}, {"x": {VERSION_KEY: "y"}}, {"x": VERSION_KEY}, [{VERSION_KEY: "y"}]],
)
def test_other_meta_is_served(meta: Any) -> None:
    assert RIG.reply(message("ping", {"_meta": meta})).status == 200


def test_within_a_session_a_method_of_that_version_is_just_unknown() -> None:
    assert code(RIG.reply(message("server/discover"))) == -32601
