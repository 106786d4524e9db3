"""Kubernetes documents behind a real Envoy, and what ``convert`` prints of them: both serve the same."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from click.testing import CliRunner

from mcp_extproc.cli import cli
from mcp_extproc.run.envoy_binary import find_envoy
from tests.support.authorization_server import AuthorizationServer
from tests.support.gateway import Answer, TestClient, TestGateway, gateway_of
from tests.support.policy_services import Callers, Verdict, http_authorization
from tests.support.processes import free_port, http_server
from tests.support.scripted import Handler, ScriptedServer, answer, tool
from tests.support.tls import Authority

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "a-key-of-16-chars-or-more"
TOKEN = "t0ken-of-the-gateway"
AUDIENCE = "https://gw.example/scopes"

ROUTES = """
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: open, namespace: red}
spec:
  parentRefs: [{name: gateway}]
  backendRefs: [{name: tools, group: gateway.envoyproxy.io, kind: Backend}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: tenant, namespace: blue}
spec:
  parentRefs: [{name: gateway}]
  headers: [{name: x-tenant, type: RegularExpression, value: acme|umbrella}]
  backendRefs: [{name: tools, group: gateway.envoyproxy.io, kind: Backend}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: hosts, namespace: blue}
spec:
  parentRefs: [{name: gateway}]
  hostnames: ["*.example"]
  backendRefs:
  - {name: tools, group: gateway.envoyproxy.io, kind: Backend, toolSelector: {include: [look]}}
---
apiVersion: aigateway.envoyproxy.io/v1alpha1
kind: MCPRoute
metadata: {name: keys, namespace: red}
spec:
  parentRefs: [{name: gateway}]
  path: /keys
  backendRefs:
  - name: tools
    group: gateway.envoyproxy.io
    kind: Backend
    securityPolicy: {apiKey: {secretRef: {name: upstream}}}
  securityPolicy:
    apiKeyAuth:
      credentialRefs: [{name: clients}]
      extractFrom: [{headers: [x-api-key]}]
      forwardClientIDHeader: x-client
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: scopes, namespace: blue}
spec:
  parentRefs: [{name: gateway}]
  path: /scopes
  backendRefs:
  - {name: tools, group: gateway.envoyproxy.io, kind: Backend}
  - {name: more, port: 80}
  backendSelector:
    rules:
    - cel: request.mcp.backend in request.auth.jwt.claims.backends
  securityPolicy:
    oauth:
      issuer: ${ISSUER}
      audiences: ["https://gw.example/scopes"]
      protectedResourceMetadata: {resource: "https://gw.example/scopes", scopesSupported: [read, write]}
    authorization:
      rules:
      - source: {jwt: {scopes: [read]}}
        target: {tools: [{backend: tools, tool: look}, {backend: more, tool: look}]}
      - source: {jwt: {scopes: [write]}}
        cel: request.mcp.backend == "tools" && request.mcp.params.arguments.tenant == request.auth.jwt.claims.tenant
        target: {tools: [{backend: tools, tool: change}, {backend: more, tool: change}]}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: tools, namespace: red}
spec: {endpoints: [{ip: {address: 127.0.0.1, port: "${ALPHA}"}}]}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: tools, namespace: blue}
spec: {endpoints: [{ip: {address: 127.0.0.1, port: "${BETA}"}}]}
---
apiVersion: v1
kind: Secret
metadata: {name: clients, namespace: red}
stringData: {robot: a-key-of-16-chars-or-more}
---
apiVersion: v1
kind: Secret
metadata: {name: upstream, namespace: red}
stringData: {apiKey: t0ken-of-the-gateway}
"""

REGISTRATIONS = """
apiVersion: mcp.kuadrant.io/v1
kind: MCPServerRegistration
metadata: {name: alpha}
spec:
  prefix: a_
  targetRef: {name: alpha}
  credentialRef: {name: upstream}
  userSpecificList: Enabled
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: alpha}
spec:
  hostnames: [alpha.mcp.local]
  rules: [{backendRefs: [{name: alpha, port: 80}]}]
---
apiVersion: mcp.kuadrant.io/v1
kind: MCPServerRegistration
metadata: {name: more}
spec: {targetRef: {name: more}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: more}
spec:
  hostnames: [more.mcp.local]
  rules:
  - filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-from, value: gateway}]}}
    backendRefs: [{name: more, port: 80}]
---
apiVersion: mcp.kuadrant.io/v1
kind: MCPVirtualServer
metadata: {name: reading, namespace: team}
spec: {tools: [a_look, look]}
---
apiVersion: v1
kind: Secret
metadata: {name: upstream}
stringData: {token: t0ken-of-the-gateway}
"""


GUARDED = """
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: guarded}
spec:
  parentRefs: [{name: gateway}]
  backendRefs: [{name: more, port: 80}]
  securityPolicy:
    extAuth:
      http:
        backendRefs: [{name: authz, group: gateway.envoyproxy.io, kind: Backend}]
        path: /check
        headersToBackend: [x-user, x-role]
      headersToExtAuth: [x-user]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: tokens}
spec:
  parentRefs: [{name: gateway}]
  path: /scopes
  backendRefs: [{name: alpha, port: 80}]
  securityPolicy:
    oauth:
      issuer: ${ISSUER}
      audiences: ["https://gw.example/scopes"]
      protectedResourceMetadata: {resource: "https://gw.example/scopes"}
    extAuth:
      grpc: {backendRefs: [{name: secured, group: gateway.envoyproxy.io, kind: Backend}]}
      contextExtensions:
      - {name: route, value: tokens}
      - {name: tenant, type: ValueRef, valueRef: {group: "", kind: ConfigMap, name: told, key: tenant}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: told}
data: {tenant: acme}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: MCPRoute
metadata: {name: open}
spec:
  parentRefs: [{name: gateway}]
  path: /open
  backendRefs: [{name: alpha, port: 80, forwardHeaders: [{name: x-role}]}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: authz}
spec: {endpoints: [{ip: {address: 127.0.0.1, port: "${AUTHZ}"}}]}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: secured}
spec:
  endpoints: [{ip: {address: 127.0.0.1, port: "${SECURED}"}}]
  tls: {caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ca}
data: {ca.crt: "${CA}"}
"""


@dataclass
class Stage:
    gateway: TestGateway
    alpha: ScriptedServer
    beta: ScriptedServer
    idp: AuthorizationServer

    async def session(self, path: str = "/mcp", **headers: str) -> Session:
        """A session at one endpoint."""
        url = self.gateway.url.removesuffix("/mcp") + path
        begun = Session(self, url, headers)
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
        begun.id = (await begun.ask("initialize", params)).headers["mcp-session-id"]
        return begun

    def bearer(self, *backends: str, scope: str = "") -> str:
        """An access token of someone who has these backends."""
        return f"Bearer {self.idp.token(backends=backends, scope=scope, tenant='acme')}"


@dataclass
class Session:
    stage: Stage
    url: str
    headers: dict[str, str]
    id: str = ""

    async def ask(self, method: str, params: Any = None) -> Answer:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, **({} if params is None else {"params": params})}
        return await self.stage.gateway.send(
            json.dumps(message).encode(), url=self.url, mcp_session_id=self.id, **self.headers
        )

    async def tools(self) -> list[str]:
        return [entry["name"] for entry in (await self.ask("tools/list")).result["tools"]]

    async def call(self, name: str, **arguments: str) -> Answer:
        return await self.ask("tools/call", {"name": name, "arguments": arguments})

    async def text(self, name: str, **arguments: str) -> str:
        """What a tool says: its server and its own name."""
        [content] = (await self.call(name, **arguments)).result["content"]
        return str(content["text"])


def named(server: ScriptedServer) -> Handler:
    async def called(_: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        text = f"{server.name} {message['params']['name']}"
        return answer(message, result={"content": [{"type": "text", "text": text}]})

    return called


def converted(file: Path, *options: str) -> tuple[Path, dict[str, str]]:
    """What ``convert`` prints of a file, in one beside it, and the variables of its credentials."""
    credentials, folder = file.parent / "gateway.env", file.parent / "converted"
    result = CliRunner().invoke(cli, ["convert", str(file), "--env-file", str(credentials), *options])
    assert result.exit_code == 0, result.output
    folder.mkdir()
    native = folder / "gateway.yaml"
    native.write_text(result.stdout)
    pairs = (line.partition("=") for line in shlex.split(credentials.read_text()))
    return native, {name: value for name, _, value in pairs}


@asynccontextmanager
async def staged(text: str, form: str, folder: Path) -> AsyncIterator[Stage]:
    file = folder / "documents.yaml"
    file.write_text(text)
    with pytest.MonkeyPatch.context() as environment:
        async with (
            ScriptedServer("alpha") as alpha,
            ScriptedServer("beta") as beta,
            AuthorizationServer(audience=AUDIENCE) as idp,
        ):
            for server in (alpha, beta):
                server.pages = [[tool("look"), tool("change")]]
                server.on["tools/call"] = named(server)
            for name, value in (("ALPHA", alpha.port), ("BETA", beta.port), ("ISSUER", idp.issuer)):
                environment.setenv(name, str(value))
            resolve = {"alpha.default": f"127.0.0.1:{alpha.port}"} | {
                f"more.{namespace}": f"127.0.0.1:{beta.port}" for namespace in ("default", "blue")
            }
            if form == "converted":
                file, credentials = converted(file, *(f"--resolve={name}={place}" for name, place in resolve.items()))
                resolve = {}
                for name, value in credentials.items():
                    environment.setenv(name, value)
            async with gateway_of(file, resolve) as gateway:
                yield Stage(gateway, alpha, beta, idp)


FORMS = ("documents", "converted")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FORMS)
async def routes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(ROUTES, request.param, tmp_path_factory.mktemp("routes")) as stage:
        yield stage


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FORMS)
async def registrations(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    async with staged(REGISTRATIONS, request.param, tmp_path_factory.mktemp("registrations")) as stage:
        yield stage


async def test_each_route_has_backends_of_its_own(routes: Stage) -> None:
    """Under one name. A route with a host name has what one with a header would have, too."""
    places: list[tuple[str, str, dict[str, str]]] = [
        ("alpha", "/mcp", {}),
        ("alpha", "/mcp", {"x_tenant": "acme2"}),
        ("beta", "/mcp", {"x_tenant": "acme"}),
        ("beta", "/mcp", {"host": "a.b.example:8443", "x_tenant": "acme"}),
        ("alpha", "/keys", {"x_api_key": KEY}),
    ]
    for server, path, headers in places:
        session = await routes.session(path, **headers)
        tools = ["tools__look"] if "host" in headers else ["tools__look", "tools__change"]
        assert (await session.tools(), await session.text("tools__look")) == (tools, f"{server} look"), (path, headers)
    refused = await session.call("more__look")
    assert refused.error["message"] == "Unknown tool: more__look"


async def test_keys_of_clients_and_of_a_server(routes: Stage) -> None:
    """Both are of one route alone, and a client's key stays here."""
    for headers in ({}, {"x_api_key": "another-key-of-16-chars"}):
        refused = await routes.gateway.send(b"{}", url=routes.gateway.url.removesuffix("/mcp") + "/keys", **headers)
        assert refused.status == 401
    for path, headers, sent in (("/keys", {"x_api_key": KEY}, f"Bearer {TOKEN}"), ("/mcp", {}, None)):
        session = await routes.session(path, **headers)
        await session.text("tools__look")
        received = routes.alpha.calls("tools/call")[-1].headers
        assert received.get("authorization") == sent
        assert (received.get("x-client"), "x-api-key" in received) == ("robot" if headers else None, False)


async def test_scopes_and_conditions(routes: Stage) -> None:
    reader, writer = [
        await routes.session("/scopes", authorization=routes.bearer("tools", "more", scope=scope))
        for scope in ("read", "read write")
    ]
    for name, told in (("tools__look", "beta look"), ("more__look", "beta look"), ("tools__change", "beta change")):
        assert await writer.text(name, tenant="acme") == told
    refused = await reader.call("tools__change", tenant="acme")
    challenge = refused.headers["www-authenticate"]
    assert (refused.status, "insufficient_scope" in challenge, 'scope="read write"' in challenge) == (403, True, True)
    # Neither is for the writer: the condition is about one backend, and the caller's own tenant.
    for name, tenant in (("more__change", "acme"), ("tools__change", "umbrella")):
        assert "not allowed" in (await writer.call(name, tenant=tenant)).error["message"]


async def test_backends_that_are_not_selected_are_not_there(routes: Stage) -> None:
    session = await routes.session("/scopes", authorization=routes.bearer("more", scope="read"))
    assert await session.tools() == ["more__look", "more__change"]
    assert (await session.call("tools__look")).error["message"] == "Unknown tool: tools__look"


async def test_clients_are_told_where_to_log_in(routes: Stage) -> None:
    refused = await routes.gateway.send(b"{}", url=routes.gateway.url.removesuffix("/mcp") + "/scopes")
    [url] = re.findall(r'resource_metadata="([^"]*)"', refused.headers["www-authenticate"])
    metadata = (await routes.gateway.send(None, method="GET", url=url)).json
    assert (refused.status, metadata["resource"], metadata["scopes_supported"]) == (401, AUDIENCE, ["read", "write"])


async def test_registrations_and_a_virtual_server(registrations: Stage) -> None:
    """What the broker alone had as its credential goes to no server, and what callers have only where that is said."""
    everything = await registrations.session()
    assert await everything.tools() == ["a_look", "a_change", "look", "change"]
    assert [await everything.text(name) for name in ("a_look", "change")] == ["alpha look", "beta change"]
    assert registrations.beta.calls("tools/call")[-1].headers["x-from"] == "gateway"
    assert all("authorization" not in one.headers for one in registrations.alpha.received)
    own = await registrations.session(authorization="Bearer users-own")
    assert [await own.text(name) for name in ("a_look", "look")] == ["alpha look", "beta look"]
    received = [server.calls("tools/call")[-1].headers for server in (registrations.alpha, registrations.beta)]
    assert [one.get("authorization") for one in received] == ["Bearer users-own", None]
    for path, headers in (("/mcp", {"x_mcp_virtualserver": "team/reading"}), ("/mcp/team/reading", {})):
        reading = await registrations.session(path, **headers)
        assert await reading.tools() == ["a_look", "look"]
        assert [await reading.text(name) for name in ("a_look", "look")] == ["alpha look", "beta look"]
        assert (await reading.call("a_change")).error["message"] == "Unknown tool: a_change"


async def test_services_that_let_requests_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is asked about its own route: one over HTTP, one over gRPC with TLS, behind tokens."""
    asked: list[tuple[str, str | None]] = []
    authority = Authority(tmp_path / "authority")
    secured = Callers(lambda headers: Verdict(403 if headers.get("x-user") == "eve" else 200), authority=authority)

    async def denies(request: web.Request) -> bool:
        asked.append((request.path, request.headers.get("x-user")))
        return request.headers.get("x-user") != "alice"

    async with (
        http_authorization(denies) as port,
        secured.serving(),
    ):
        for name, value in (("AUTHZ", port), ("SECURED", secured.grpc_port), ("CA", authority.ca.read_text())):
            monkeypatch.setenv(name, str(value))
        async with staged(GUARDED, "converted", tmp_path) as stage:
            await _asked_by_route(stage)
    assert {*asked} == {("/check/mcp", user) for user in ("alice", "bob", None)}
    assert {path for path, _ in secured.asked} == {"/scopes"}
    assert secured.contexts == [{"route": "tokens", "tenant": "acme"}] * len(secured.asked)


async def _asked_by_route(stage: Stage) -> None:
    session = await stage.session(x_user="alice", x_role="admin")
    assert await session.text("more__look") == "beta look"
    [received] = stage.beta.calls("tools/call")
    # The service has looked at one of them, the other one would be its own to say.
    assert (received.headers["x-user"], "x-role" in received.headers) == ("alice", False)
    for user in ("bob", ""):
        session.headers = {"x_user": user}
        assert (await session.call("more__look")).status == 403
    assert len(stage.beta.calls("tools/call")) == 1
    with_token = await stage.session("/scopes", authorization=stage.bearer())
    assert await with_token.text("alpha__look") == "alpha look"
    with_token.headers["x_user"] = "eve"
    assert (await with_token.call("alpha__look")).status == 403
    with_token.headers = {}
    assert (await with_token.call("alpha__look")).status == 401
    url = stage.gateway.url.removesuffix("/mcp")
    told = await stage.gateway.send(None, method="GET", url=f"{url}/.well-known/oauth-protected-resource/scopes")
    assert told.json["resource"] == AUDIENCE
    # Nobody asks about this one, or takes away what clients write.
    session = await stage.session("/open", x_role="admin")
    assert await session.text("alpha__look") == "alpha look"
    assert stage.alpha.calls("tools/call")[-1].headers["x-role"] == "admin"


async def test_envoy_alone(tmp_path: Path) -> None:
    """What ``convert --to envoy-native`` prints serves by itself, with the credentials of its environment."""
    async with ScriptedServer("alpha") as alpha, ScriptedServer("beta") as beta, aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        servers = {"alpha": {"url": alpha.url, "headers": headers}, "beta": {"url": beta.url}}
        file, port = tmp_path / "gateway.yaml", free_port()
        file.write_text(json.dumps({"servers": servers, "listen": {"port": port}}))
        configuration, credentials = converted(file, "--to", "envoy-native")
        assert TOKEN not in configuration.read_text()
        command = [find_envoy(), "-c", str(configuration), "--disable-hot-restart", "--concurrency", "1"]
        async with http_server(command, port, log=tmp_path / "envoy.log", environment=credentials):
            client = TestClient(f"http://127.0.0.1:{port}/mcp", http)
            session = await client.initialize()
            listed = (await client.rpc("tools/list", mcp_session_id=session)).result["tools"]
            assert [one["name"] for one in listed] == ["alpha__echo", "beta__echo"]
            for name in ("alpha__echo", "beta__echo"):
                [content] = (await client.call(session, name, {"a": 1})).result["content"]
                assert json.loads(content["text"]) == ["echo", {"a": 1}]
        assert [one.headers.get("authorization") for one in alpha.calls("tools/call")] == [f"Bearer {TOKEN}"]
        assert [one.headers.get("authorization") for one in beta.calls("tools/call")] == [None]
