"""What servers get as credentials, through real Envoy: whose it is, when it changes, and where it is not to be found."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import jwt
import pytest
import uvicorn
from aiohttp import web
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer

from tests.e2e.conftest import StartGateway
from tests.support.authorization_server import AuthorizationServer, new_key
from tests.support.gateway import TestClient, gateway_of
from tests.support.login import Login
from tests.support.processes import free_port
from tests.support.run_command import announced, running, write
from tests.support.scripted import ScriptedServer, answer, raw
from tests.support.token_server import CLIENT, TokenServer
from tests.support.waiting import PATIENCE, eventually

OF_CALLERS = {
    "forward": [{"name": "x-alpha-token", "as": "Authorization"}, {"name": "x-tenant"}, {"name": "X-MCP-Toolsets"}],
    "claims": [{"claim": "sub", "header": "x-user"}],
}
PLANTED = "planted-9fA1-secret"
ISSUER = AuthorizationServer(keys={"ES256": new_key("ES256")})
AUTHENTICATION = {
    "anonymous": True,
    "oauth": {
        "resource": ISSUER.audience,
        "issuers": [{"issuer": ISSUER.issuer, "jwks": {"inline": json.dumps(ISSUER.jwks())}}],
    },
}
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
POLICIES = [None, "calls", "all"]


def judging(policies: str | None) -> dict[str, Any]:
    """Without policies, or with one that judges calls, or all requests: what a server gets takes another way in each."""
    if policies is None:
        return {}
    rbac = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
    filters = [{"name": "envoy.filters.http.rbac", "typed_config": {"@type": rbac}}]
    return {"envoy": {"policies": policies, "http_filters": filters}}


def sent(server: ScriptedServer, name: str) -> set[str | None]:
    """What a server got in a header, over all requests so far."""
    return {request.headers.get(name) for request in server.received}


# -- Of callers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policies", POLICIES)
async def test_every_request_for_a_client_has_what_it_sends(
    start: StartGateway, alpha: ScriptedServer, policies: str | None
) -> None:
    """And nothing else of it, nor a claim that it wrote itself, whether Envoy has verified who it is or not."""
    servers = {"alpha": {"url": alpha.url, "credentials": OF_CALLERS}}
    headers = {"x_alpha_token": "Bearer of alice", "x_tenant": "acme", "x_user": "root"}
    headers |= {"x_mcp_toolsets": "issues", "x_mcp_tools": "delete"}
    brought = {"authorization": f"Bearer {ISSUER.token('ES256', sub='alice')}"}
    async with start(servers, authentication=AUTHENTICATION, **judging(policies)) as gateway:
        for more, user in (({}, None), (brought, "alice")):
            alpha.received.clear()
            session = await gateway.initialize(**headers, **more)
            for method, params in (("tools/list", {}), ("tools/call", {"name": "alpha__echo", "arguments": {}})):
                answer = await gateway.rpc(method, params, mcp_session_id=session, **headers, **more)
                assert "result" in answer.json
            await gateway.send(None, method="DELETE", mcp_session_id=session, **headers, **more)
            assert {request.http_method for request in alpha.received} == {"POST", "DELETE"}
            assert sent(alpha, "authorization") == {"Bearer of alice"}
            assert sent(alpha, "x-tenant") == {"acme"}
            assert sent(alpha, "x-mcp-toolsets") == {"issues"}
            assert sent(alpha, "x-mcp-tools") == {None}
            assert sent(alpha, "x-user") == {user}
            assert sent(alpha, "x-alpha-token") == {None}


async def test_two_anonymous_callers_with_two_tokens_never_meet(start: StartGateway, alpha: ScriptedServer) -> None:
    """At once, in the session of one of them and in two: each call has its own token, and a server's session has one."""
    alpha.received.clear()
    servers = {"alpha": {"url": alpha.url, "credentials": {"forward": [{"name": "x-alpha-token"}]}}}

    async def whose(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        token = request.headers.get("x-alpha-token", "")
        return answer(message, result={"content": [{"type": "text", "text": token}]})

    alpha.on["tools/call"] = whose
    async with start(servers) as gateway:
        names = ["alice", "bob"]
        sessions = {name: await gateway.initialize(x_alpha_token=name) for name in names}

        async def call(name: str, session: str) -> tuple[str, str]:
            params = {"name": "alpha__echo", "arguments": {}}
            found = await gateway.rpc("tools/call", params, mcp_session_id=session, x_alpha_token=name)
            return name, found.result["content"][0]["text"]

        # In turns, each with both sessions.
        calls = [call(name, sessions[other]) for _ in range(25) for name in names for other in names]
        for name, got in await asyncio.gather(*calls):
            assert got == name
    tokens: dict[str, set[str]] = {}
    for request in alpha.received:
        if (id := request.headers.get("mcp-session-id")) is not None and request.http_method == "POST":
            tokens.setdefault(id, set()).add(request.headers["x-alpha-token"])
    assert tokens
    assert all(len(found) == 1 for found in tokens.values()), tokens


# -- In files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["header", "query"])
async def test_a_mounted_secret_that_changes(
    start_own: StartGateway, alpha: ScriptedServer, tmp_path: Path, kind: str
) -> None:
    """Written in place, and moved over; no session ends, and no worker is replaced."""
    file = tmp_path / "secret"
    file.write_text(f"{PLANTED}-0\n")
    servers = {"alpha": {"url": alpha.url, "credentials": {kind: {"name": "key", "file": str(file)}}}}
    async with start_own(servers) as gateway:
        session, workers = await gateway.initialize(), gateway.workers

        async def got() -> str | None:
            await gateway.call(session, "alpha__echo")
            last = alpha.calls("tools/call")[-1]
            return last.headers.get("key") if kind == "header" else last.path.partition("?key=")[2]

        assert await got() == f"{PLANTED}-0"
        file.write_text(f"{PLANTED}-in-place\n")
        await eventually(got, "written in place", until=lambda found: found == f"{PLANTED}-in-place")
        new = tmp_path / "new"
        new.write_text(f"{PLANTED}-moved")
        new.replace(file)
        await eventually(got, "moved over", until=lambda found: found == f"{PLANTED}-moved")
        assert gateway.workers == workers


# -- Client credentials -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def tokens() -> AsyncIterator[TokenServer]:
    async with TokenServer(PLANTED, ISSUER, ("alpha",), f"{PLANTED}-token-") as server:
        yield server


def by_client(server: ScriptedServer, tokens: TokenServer, secret: str = PLANTED) -> dict[str, Any]:
    client = {
        "token_endpoint": tokens.url,
        "client_id": CLIENT,
        "client_secret": secret,
        "scopes": ["a"],
        "resource": server.url,
    }
    return {"url": server.url, "credentials": {"client_credentials": client}}


async def test_envoy_gets_a_token(start_own: StartGateway, alpha: ScriptedServer, tokens: TokenServer) -> None:
    """For the gateway's own requests as for calls, also while it has none for a second after its start."""
    async with start_own({"alpha": by_client(alpha, tokens)}) as gateway:
        session = await gateway.initialize()
        assert "result" in (await gateway.call(session, "alpha__echo")).json
    assert all(str(value).startswith(f"Bearer {PLANTED}-token-") for value in sent(alpha, "authorization"))
    assert tokens.asked[-1] == {
        "grant_type": "client_credentials", "client_id": CLIENT, "client_secret": PLANTED, "scope": "a",
        "resource": alpha.url,
    }  # fmt: skip


async def test_a_secret_in_a_file_that_changes(
    alpha: ScriptedServer, beta: ScriptedServer, tokens: TokenServer, tmp_path: Path
) -> None:
    """Written in place: Envoy gets the other one, and with it a token."""
    file = tmp_path / "secret"
    file.write_text("of yesterday\n")
    server = by_client(alpha, tokens)
    del server["credentials"]["client_credentials"]["client_secret"]
    server["credentials"]["client_credentials"]["client_secret_file"] = str(file)
    document = {"servers": {"alpha": server, "beta": {"url": beta.url}}, "listen": {"port": free_port()}}
    async with gateway_of(write(tmp_path, document, "gateway.yaml"), {}) as gateway:
        session = await gateway.initialize()
        assert (
            "was not asked: Envoy has no token for it" in (await gateway.call(session, "alpha__echo")).error["message"]
        )
        file.write_text(f"{PLANTED}\n")
        await eventually(
            lambda: gateway.call(session, "alpha__echo"), "its own secret", until=lambda found: "result" in found.json
        )
    assert [asked["client_secret"] for asked in tokens.asked if asked["client_secret"] != "of yesterday"] == [PLANTED]


async def test_without_a_token_the_server_is_not_asked(
    start_own: StartGateway, alpha: ScriptedServer, beta: ScriptedServer, tokens: TokenServer
) -> None:
    """The error names it, at 200, and others go on."""
    tokens.is_up = False
    async with start_own({"alpha": by_client(alpha, tokens), "beta": beta.url}) as gateway:
        session = await gateway.initialize()
        error = (await gateway.call(session, "alpha__echo")).error
        assert error["code"] == -32603
        assert "'alpha' was not asked: Envoy has no token for it" in error["message"]
        assert "result" in (await gateway.call(session, "beta__echo")).json
        assert alpha.received == []
        tokens.is_up = True
        await eventually(
            lambda: gateway.call(session, "alpha__echo"),
            "a token comes later",
            until=lambda found: "result" in found.json,
        )


# -- Tokens for tokens ------------------------------------------------------------------------------------------------------


def exchanging(server: ScriptedServer, tokens: TokenServer, secret: str = PLANTED) -> dict[str, Any]:
    client = {"token_endpoint": tokens.url, "client_id": CLIENT, "client_secret": secret, "audience": "alpha"}
    return {"url": server.url, "credentials": {"token_exchange": client}}


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {ISSUER.token('ES256', sub=name)}"}


@pytest.mark.parametrize("policies", POLICIES)
async def test_each_principal_has_its_own_token(
    start_own: StartGateway, alpha: ScriptedServer, beta: ScriptedServer, tokens: TokenServer, policies: str | None
) -> None:
    """Under load, with all requests of two principals at once: nothing is mixed, and each token is got once by a worker."""

    async def whose(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return answer(message, result={"content": [{"type": "text", "text": tokens.issued[token].subject}]})

    alpha.on["tools/call"] = whose
    servers = {"alpha": exchanging(alpha, tokens), "beta": beta.url}
    async with start_own(servers, authentication=AUTHENTICATION, **judging(policies)) as gateway:

        async def call(name: str, session: str) -> tuple[str, str]:
            params = {"name": "alpha__echo", "arguments": {}}
            # Each with another token of its own.
            found = await gateway.rpc("tools/call", params, mcp_session_id=session, **bearer(name))
            return name, found.result["content"][0]["text"]

        async def in_a_session(name: str) -> list[tuple[str, str]]:
            session = await gateway.initialize(**bearer(name))
            found = await asyncio.gather(*(call(name, session) for _ in range(25)))
            listed = await gateway.rpc("tools/list", mcp_session_id=session, **bearer(name))
            assert [tool["name"] for tool in listed.result["tools"]] == ["alpha__echo", "beta__echo"]
            await gateway.send(None, method="DELETE", mcp_session_id=session, **bearer(name))
            return found

        calls = await asyncio.gather(*(in_a_session(name) for name in ("alice", "bob") for _ in range(2)))
        assert all(name == whose for found in calls for name, whose in found)
        workers = len(gateway.workers)
    got = Counter(issued.subject for issued in tokens.issued.values())
    assert got.keys() == {"alice", "bob"}
    assert max(got.values()) <= workers
    assert sent(beta, "authorization") == {None}
    subjects: dict[str, set[str]] = {}
    for request in alpha.received:
        token = request.headers["authorization"].removeprefix("Bearer ")
        if (id := request.headers.get("mcp-session-id")) is not None:
            subjects.setdefault(id, set()).add(tokens.issued[token].subject)
    assert len(subjects) == 4
    assert all(len(found) == 1 for found in subjects.values())
    assert "DELETE" in {request.http_method for request in alpha.received}


async def test_a_session_that_is_lost_is_opened_again_with_the_same_callers_token(
    start_own: StartGateway, alpha: ScriptedServer, tokens: TokenServer
) -> None:
    """Which is still the one that was got at first, by each worker that has had a call."""
    async with start_own({"alpha": exchanging(alpha, tokens)}, authentication=AUTHENTICATION) as gateway:
        session = await gateway.initialize(**bearer("alice"))
        alpha.sessions.clear()
        for _ in range(2):
            params = {"name": "alpha__echo", "arguments": {}}
            assert "result" in (await gateway.rpc("tools/call", params, mcp_session_id=session, **bearer("alice"))).json
        workers = len(gateway.workers)
    assert 2 <= len(alpha.calls("initialize")) <= 1 + workers
    assert len(tokens.issued) <= workers
    assert sent(alpha, "authorization") == {f"Bearer {token}" for token in tokens.issued}


async def test_why_a_token_is_not_exchanged(
    start_own: StartGateway, alpha: ScriptedServer, beta: ScriptedServer, tokens: TokenServer
) -> None:
    """The error names server and reason, and other servers go on; nothing secret is in it."""
    tokens.refuses = "mallory"
    servers = {"alpha": exchanging(alpha, tokens), "beta": beta.url}
    async with start_own(servers, authentication=AUTHENTICATION) as gateway:
        refused = "it answered HTTP 400, invalid_request: the token [redacted] is not exchanged"
        for brought, why in ((bearer("mallory"), refused), ({}, "this caller has none that was verified")):
            session = await gateway.initialize(**brought)
            params = {"name": "alpha__echo", "arguments": {}}
            error = (await gateway.rpc("tools/call", params, mcp_session_id=session, **brought)).error
            assert error["code"] == -32603
            assert "'alpha' was not asked: " in error["message"]
            assert why in error["message"]
            params["name"] = "beta__echo"
            assert "result" in (await gateway.rpc("tools/call", params, mcp_session_id=session, **brought)).json
        assert alpha.received == []
        tokens.is_up = False
        session = await gateway.initialize(**bearer("alice"))
        params["name"] = "alpha__echo"
        error = (await gateway.rpc("tools/call", params, mcp_session_id=session, **bearer("alice"))).error
        assert "it answered HTTP 503" in error["message"]
        tokens.is_up = True
        await eventually(
            lambda: gateway.rpc("tools/call", params, mcp_session_id=session, **bearer("alice")),
            "it is asked again after a while",
            until=lambda found: "result" in found.json,
        )


# -- At the server itself ---------------------------------------------------------------------------------------------------


class Verifier:
    """The server's: of tokens for the endpoint's URL."""

    def __init__(self, idp: AuthorizationServer, resource: str) -> None:
        self._idp = idp
        self._resource = resource
        self.has_withdrawn_all = False
        self.asked: list[tuple[str, set[str]]] = []
        """Requests for documents: the path with its query, and names of headers."""

    async def verify_token(self, token: str) -> AccessToken | None:
        key = self._idp.keys["RS256"].public_key()
        try:
            found = jwt.decode(token, key, algorithms=["RS256"], audience=self._resource)
        except jwt.InvalidTokenError:
            return None
        if self.has_withdrawn_all:
            return None
        return AccessToken(token=token, client_id="test", scopes=[], subject=found["sub"])


def talkative(app: Any, asked: list[tuple[str, set[str]]]) -> Any:
    """The server, which says more than documents need, and notes who asks for them."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if not scope.get("path", "").startswith("/.well-known/"):
            await app(scope, receive, send)
            return
        asked.append(
            (f"{scope['path']}?{scope['query_string'].decode()}", {name.decode() for name, _ in scope["headers"]})
        )

        async def with_more(event: Any) -> None:
            if event["type"] == "http.response.start":
                kept = [header for header in event["headers"] if header[0] != b"cache-control"]
                event["headers"] = [
                    *kept,
                    (b"cache-control", b"public"),
                    (b"location", b"/x"),
                    (b"mcp-session-id", b"1"),
                ]
            await send(event)

        await app(scope, receive, with_more)

    return serve


@asynccontextmanager
async def protected(port: int, verifier: Verifier, idp: AuthorizationServer, resource: str) -> AsyncIterator[None]:
    """An MCP server of the official SDK whose clients log in."""
    auth = AuthSettings.model_validate(
        {"issuer_url": idp.issuer, "resource_server_url": resource, "validate_token_resource": False}
    )
    server: MCPServer[Any] = MCPServer("notes", log_level="ERROR", token_verifier=verifier, auth=auth)

    @server.tool()
    def whose() -> str:
        """Whose token it is."""
        found = get_access_token()
        return "" if found is None else found.subject or ""

    serving = uvicorn.Server(
        uvicorn.Config(
            talkative(server.streamable_http_app(), verifier.asked),
            port=port,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
    )
    task = asyncio.create_task(serving._serve())
    try:
        await eventually(lambda: serving.started, "the server serves")
        yield
    finally:
        serving.should_exit = True
        await task


async def test_clients_log_in_at_the_server_itself(start_own: StartGateway) -> None:
    """The official client finds out where, by the server's own challenge and metadata, and the server gets its token. What it
    refuses later is told in the same way."""
    port = free_port()
    servers = {"notes": {"url": f"http://127.0.0.1:{port}/mcp", "credentials": {"pass_through": True}}}
    async with AuthorizationServer(keys={"RS256": new_key("RS256")}) as idp, start_own(servers) as gateway:
        verifier = Verifier(idp, gateway.url)
        async with protected(port, verifier, idp, gateway.url):
            refused = await gateway.rpc("initialize", INITIALIZE)
            assert refused.status == 401
            assert "/.well-known/oauth-protected-resource/mcp" in refused.headers["www-authenticate"]
            login = Login(gateway.url, gateway.http)
            async with httpx2.AsyncClient(auth=login.auth) as http:
                async with Client(streamable_http_client(gateway.url, http_client=http), mode="legacy") as client:
                    [content] = (await client.call_tool("notes__whose", {})).content
                    assert (len(login.redirected), getattr(content, "text", "")) == (1, "alice")
            token = {"authorization": f"Bearer {idp.token(aud=gateway.url)}"}
            session = await gateway.initialize(**token)
            call = {"name": "notes__whose", "arguments": {}}
            assert b'"alice"' in (await gateway.rpc("tools/call", call, mcp_session_id=session, **token)).body
            verifier.has_withdrawn_all = True
            for method, params in (("tools/call", call), ("tools/list", {})):
                refused = await gateway.rpc(method, params, mcp_session_id=session, **token)
                assert (refused.status, 'error="invalid_token"' in refused.headers["www-authenticate"]) == (401, True)
            await documents_only(gateway, verifier)


async def documents_only(gateway: TestClient, server: Verifier) -> None:
    """Who asks for a document tells the server nothing of itself, and gets nothing but the document."""
    server.asked.clear()
    url = gateway.url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp")
    of_client = {
        "authorization": "Bearer a", "proxy_authorization": "Basic a", "cookie": "a=b", "x_api_key": "a", "forwarded": "for=a",
        "x_forwarded_for": "192.0.2.1", "x_forwarded_host": "a.example", "x_envoy_original_path": "/a", "mcp_session_id": "a",
    }  # fmt: skip
    got = await gateway.send(None, method="GET", url=url, mcp_protocol_version="2025-11-25", **of_client)
    assert (got.status, got.json["resource"]) == (200, gateway.url)
    assert (got.headers["cache-control"], got.headers["access-control-allow-origin"]) == ("no-store", "*")
    assert not {"location", "mcp-session-id"} & {name.lower() for name in got.headers}
    [(asked, names)] = server.asked
    assert asked == "/.well-known/oauth-protected-resource/mcp?"
    assert names <= {"host", "accept", "user-agent", "x-request-id", "traceparent", "tracestate"}
    preflight = {"origin": "https://a.example", "access_control_request_method": "GET"}
    preflight["access_control_request_headers"] = "mcp-protocol-version"
    allowed = await gateway.send(None, method="OPTIONS", url=url, **preflight)
    assert (allowed.status, allowed.headers["access-control-allow-headers"]) == (204, "*")
    assert (await gateway.send(None, method="GET", url=f"{url}?a=b")).status == 404
    assert (await gateway.send(b"secret", method="GET", url=url)).status == 413
    assert len(server.asked) == 1


# -- Nowhere else ---------------------------------------------------------------------------------------------------------


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def command_lines() -> Iterator[bytes]:
    """What ``ps`` shows, of all processes whose we are."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.stat().st_uid == os.getuid():
                yield path.read_bytes()
        except OSError:
            continue  # it has ended


async def test_planted_secrets_are_found_nowhere(
    alpha: ScriptedServer, beta: ScriptedServer, tokens: TokenServer, tmp_path: Path
) -> None:
    """Not in logs, errors, config_dump, command lines, or other files than those that only we may read; a server that repeats
    them included."""
    mounted = tmp_path / "mounted"
    mounted.write_text(f"{PLANTED}-file")
    mounted.chmod(0o600)
    client, gamma = tmp_path / "client", exchanging(alpha, tokens)
    client.write_text(PLANTED)
    client.chmod(0o600)
    del gamma["credentials"]["token_exchange"]["client_secret"]
    gamma["credentials"]["token_exchange"]["client_secret_file"] = str(client)
    own = {"name": "x-key", "file": str(mounted), "prefix": "Key "}
    document = {
        "servers": {
            "alpha": by_client(alpha, tokens, "${PLANTED}"),
            "beta": {"url": beta.url, "credentials": {"header": own, "forward": [{"name": "x-token"}]}},
            "gamma": gamma,
        },
        "authentication": AUTHENTICATION,
        "log": {"level": "debug", "access": str(tmp_path / "access.log")},
    }
    brought = bearer("alice")
    planted = re.compile(f"{PLANTED}|{brought['authorization'].rpartition('.')[2]}".encode())
    with tempfile.TemporaryDirectory() as folder:  # the names of sockets are short
        options, environment = ("--port", "0", "--workers", "1", "--json"), {"PLANTED": PLANTED, "TMPDIR": folder}
        async with running(write(tmp_path, document, "gateway.yaml"), *options, **environment) as process:
            url = (await announced(process))["url"]
            async with aiohttp.ClientSession() as http:
                said = await provoked(TestClient(url, http), beta, brought)
            dump = await config_dump(Path(folder))
            assert b"mcp_client_credentials" in dump
            for text in (dump, *said, *command_lines()):
                assert not planted.search(text)
            files = [*files_below(Path(folder)), *files_below(tmp_path)]
            having = {path for path in files if planted.search(path.read_bytes())}
            assert {path.name for path in having} == {"mounted", "client", "mcp-secret-alpha.json"}
            assert {stat.S_IMODE(path.stat().st_mode) for path in having} == {0o600}
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(PATIENCE):
                out, err = await process.communicate()
        assert b"credentials_refused" in err
        assert not planted.search(out + err)


async def provoked(client: TestClient, beta: ScriptedServer, brought: dict[str, str]) -> list[bytes]:
    """What a client gets of servers, also of one that repeats what it got."""
    token = f"{PLANTED}-of-the-caller"
    headers = {"x_token": token, **brought}
    session = await client.initialize(**headers)
    said: list[bytes] = []
    for handler in (None, raw(401, "text/plain", f"{PLANTED}-file {token}")):
        if handler is not None:
            beta.on["tools/call"] = beta.on["tools/list"] = handler
        for name in ("alpha__echo", "gamma__echo", "beta__echo"):
            params: dict[str, Any] = {"name": name, "arguments": {}}
            said.append((await client.rpc("tools/call", params, mcp_session_id=session, **headers)).body)
        said.append((await client.rpc("tools/list", {}, mcp_session_id=session, **headers)).body)
    assert all(b"result" in body for body in said[:3])
    assert b"it refuses the credentials in credentials.header and credentials.forward" in said[-2]
    return said


async def config_dump(folder: Path) -> bytes:
    """Of the Envoy whose sockets are in a folder."""
    [admin] = [path for path in folder.rglob("*admin*") if path.is_socket()]
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(admin))) as http:
        async with http.get("http://localhost/config_dump?include_eds") as response:
            return await response.read()
