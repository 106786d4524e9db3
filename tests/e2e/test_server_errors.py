"""Errors of a server's own that come with an HTTP status other than 200: what clients get of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.conftest import StartGateway
from tests.support.codings import CODINGS
from tests.support.h2_front import Http2Front
from tests.support.scripted import Handler, ScriptedServer, raw

ERROR = {"code": -32602, "message": "a is too small", "data": {"least": 12345678901234567890, "of": ["a"]}}


def refusing(status: int, error: Any, id: Any = None, **headers: str) -> Handler:
    async def answer(_: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"jsonrpc": "2.0", "id": id, "error": error}, status=status, headers=headers)

    return answer


def in_coding(coding: str, status: int, error: Any) -> Handler:
    """An error in a compressed body, and more headers about it."""

    async def answer(_: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        body = CODINGS[coding](json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode())
        headers = {"content-type": "application/json", "content-encoding": coding, "content-language": "de"}
        return web.Response(status=status, body=body, headers=headers)

    return answer


Behind = Callable[[], dict[str, Any]]


@pytest.fixture(params=["by itself", "with its request"])
def servers(request: pytest.FixtureRequest, alpha: ScriptedServer, beta: ScriptedServer) -> Behind:
    """Those of a gateway, in both arrangements of the response: the second server has it come along with the request."""
    more = {"beta": beta.url} if request.param == "with its request" else {}
    return lambda: {"alpha": alpha.url, **more}


@pytest.mark.parametrize("policies", ["calls", "all"])
async def test_a_servers_own_error_reaches_the_client(
    start: StartGateway, alpha: ScriptedServer, servers: Behind, policies: str
) -> None:
    """At 200 and with the request's id, whatever its own. The call was sent once, and the session is kept."""
    async with start(servers(), envoy=judging(policies)) as gateway:
        session = await gateway.initialize()
        for sent, status in enumerate((400, 404, 422, 429, 500, 503), 1):
            alpha.on["tools/call"] = refusing(status, ERROR)
            answer = await gateway.call(session, "alpha__echo")
            assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), status
            assert answer.json == {"jsonrpc": "2.0", "id": 1, "error": ERROR}, status
            assert b"12345678901234567890" in answer.body
            assert len(alpha.calls("tools/call")) == sent, status
        assert len(alpha.calls("initialize")) == 1


def judging(policies: str) -> dict[str, Any]:
    rbac = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
    return {
        "policies": policies,
        "http_filters": [{"name": "envoy.filters.http.rbac", "typed_config": {"@type": rbac}}],
    }


async def test_secrets_in_it_are_redacted(start: StartGateway, alpha: ScriptedServer) -> None:
    said = "the token s3cret-\u00e9-token is expired"
    alpha.on["tools/call"] = refusing(400, {"code": -1, "message": said, "data": {"s3cret-\u00e9-token": [said, 1]}})
    server = {"url": alpha.url, "headers": {"x-api-key": "s3cret-\u00e9-token"}}
    async with start({"alpha": server}) as gateway:
        session = await gateway.initialize()
        error = (await gateway.call(session, "alpha__echo")).error
        told = said.replace("s3cret-\u00e9-token", "[redacted]")
        assert error == {"code": -1, "message": told, "data": {"[redacted]": [told, 1]}}


@pytest.mark.parametrize("policies", ["calls", "all"])
async def test_refused_credentials_are_named(
    start: StartGateway, alpha: ScriptedServer, servers: Behind, policies: str
) -> None:
    """Whatever is in the body of a 401 or 403: at 200, with the request's id, and in the words of the log."""
    async with start(servers(), envoy=judging(policies)) as gateway:
        session = await gateway.initialize()
        for status in (401, 403):
            refusals = (
                (refusing(status, ERROR), f" It says: {ERROR['message']}"),
                (raw(status, "text/html", "<h1>no</h1>"), ""),
                (raw(status, "text/plain", ""), ""),
            )
            for handler, own in refusals:
                alpha.on["tools/call"] = handler
                answer = await gateway.call(session, "alpha__echo", id="one")
                assert (answer.status, answer.json["id"], answer.error["code"]) == (200, "one", -32603)
                said = answer.error["message"]
                assert said.startswith(f"No answer: server 'alpha' answered HTTP {status}: it "), said
                assert said.endswith(own), said
                assert "www-authenticate" not in answer.headers


async def test_in_compressed_bodies_it_is_read(start: StartGateway, alpha: ScriptedServer, servers: Behind) -> None:
    """The call is sent once, as for others. Nothing that was said about the body is left."""
    async with start(servers()) as gateway:
        session = await gateway.initialize()
        for coding in CODINGS:
            for status in (400, 404, 500):
                alpha.received.clear()
                alpha.on["tools/call"] = in_coding(coding, status, ERROR)
                answer = await gateway.call(session, "alpha__echo", id="\u00e9\\")
                assert answer.json == {"jsonrpc": "2.0", "id": "\u00e9\\", "error": ERROR}, (coding, status)
                assert not {"content-encoding", "content-language"} & {name.lower() for name in answer.headers}
                assert len(alpha.calls("tools/call")) == 1, (coding, status)
            # One that becomes too large is not read.
            alpha.on["tools/call"] = in_coding(coding, 500, {"code": -1, "message": "m" * 3_000_000})
            assert "answered HTTP 500" in (await gateway.call(session, "alpha__echo")).error["message"]


async def test_behind_http2_trailers_it_is_read(start: StartGateway, alpha: ScriptedServer) -> None:
    async with Http2Front(alpha.url, trailers=[("x-sum", "1")]) as front:
        async with start({"alpha": {"url": f"http://127.0.0.1:{front.port}/mcp", "http2": True}}) as gateway:
            session = await gateway.initialize()
            for status in (400, 404, 500):
                alpha.received.clear()
                alpha.on["tools/call"] = refusing(status, ERROR)
                assert (await gateway.call(session, "alpha__echo")).error == ERROR, status
                assert len(alpha.calls("tools/call")) == 1, status


async def test_it_is_bounded(start: StartGateway, alpha: ScriptedServer) -> None:
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        alpha.on["tools/call"] = refusing(500, {"code": -1, "message": "m" * 5000, "data": "d" * 5000})
        assert (await gateway.call(session, "alpha__echo")).error == {"code": -1, "message": "m" * 1024}
        # Envoy holds a part of the last one only.
        for size in (70_000, 3_000_000):
            alpha.on["tools/call"] = refusing(500, {"code": -1, "message": "m" * size})
            assert "answered HTTP 500" in (await gateway.call(session, "alpha__echo")).error["message"]


NO_ERRORS = (
    "{}",
    "[]",
    "",
    "{",
    '{"error":"no"}',
    '{"error":{"code":"x","message":"y"}}',
    '{"error":{"code":1}}',
    "\u00ff",
)


async def test_what_is_none_is_said_in_the_gateways_words(start: StartGateway, alpha: ScriptedServer) -> None:
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        for body in NO_ERRORS:
            alpha.on["tools/call"] = raw(500, "application/json", body)
            answer = await gateway.call(session, "alpha__echo")
            assert (answer.status, answer.error["code"]) == (200, -32603), body
            assert "answered HTTP 500" in answer.error["message"], body


LOST = (
    (404, {"code": -32001, "message": "Session not found"}),
    (400, {"code": -32000, "message": "Bad Request: No valid session ID provided"}),
    (400, {"code": -32000, "message": "Bad Request: Server not initialized"}),
)
"""As the SDKs say it."""


def saying(status: int, error: Any) -> Handler:
    return refusing(status, error)


def saying_in_brotli(status: int, error: Any) -> Handler:
    return in_coding("br", status, error)


def saying_in_text(status: int, error: Any) -> Handler:
    return raw(status, "text/plain", error["message"])


def once(alpha: ScriptedServer, lost: Handler) -> Handler:
    """The session is lost at the first call."""

    async def called(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        if len(alpha.calls("tools/call")) == 1:
            return await lost(request, message)
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}})

    return called


@pytest.mark.parametrize("saying", [saying, saying_in_brotli, saying_in_text])
@pytest.mark.parametrize(("status", "error"), LOST)
async def test_a_lost_session_is_still_known_as_one(
    start: StartGateway,
    alpha: ScriptedServer,
    status: int,
    error: dict[str, Any],
    saying: Callable[[int, Any], Handler],
) -> None:
    alpha.on["tools/call"] = once(alpha, saying(status, error))
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        assert (await gateway.call(session, "alpha__echo")).result == {"content": []}
        assert len(alpha.calls("initialize")) == 2


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
async def test_a_404_that_says_nothing_is_one(start: StartGateway, alpha: ScriptedServer, kind: str) -> None:
    """So the specification has it."""
    for body in ("", "no", "{}"):
        alpha.received.clear()
        alpha.on["tools/call"] = once(alpha, raw(404, kind, body))
        async with start({"alpha": alpha.url}) as gateway:
            session = await gateway.initialize()
            assert (await gateway.call(session, "alpha__echo")).result == {"content": []}, body
            assert len(alpha.calls("initialize")) == 2, body


async def test_a_400_that_does_not_speak_of_sessions_is_none(
    start: StartGateway, alpha: ScriptedServer, servers: Behind
) -> None:
    """The call is not sent twice, and the session is kept."""
    async with start(servers()) as gateway:
        session = await gateway.initialize()
        for kind, body in (("text/html", "no"), ("text/plain", ""), ("application/json", '{"detail": "no"}')):
            alpha.received.clear()
            alpha.on["tools/call"] = raw(400, kind, body)
            assert "answered HTTP 400" in (await gateway.call(session, "alpha__echo")).error["message"]
            assert len(alpha.received) == 1, kind


@pytest.mark.parametrize(("status", "error"), LOST)
async def test_a_server_that_keeps_saying_so_is_not_quoted(
    start: StartGateway, alpha: ScriptedServer, status: int, error: dict[str, Any]
) -> None:
    """The client's session is not the one that is lost."""
    alpha.on["tools/call"] = refusing(status, error)
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        told = (await gateway.call(session, "alpha__echo")).error
        assert told["code"] == -32603
        assert f"answered HTTP {status}" in told["message"]
        assert len(alpha.calls("tools/call")) == 2


async def test_a_session_that_was_opened_again_survives_an_error(start: StartGateway, alpha: ScriptedServer) -> None:
    """The request was bad, not the session."""

    async def called(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        known = request.headers["mcp-session-id"] in alpha.sessions
        return await (refusing(400, ERROR) if known else saying(*LOST[0]))(request, message)

    alpha.on["tools/call"] = called
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        alpha.sessions.clear()
        for _ in range(2):
            assert (await gateway.call(session, "alpha__echo")).error == ERROR
        assert len(alpha.calls("initialize")) == 2
