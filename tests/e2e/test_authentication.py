"""Access tokens: what Envoy lets pass, what it answers otherwise, and how clients find out where to log in. With a real
authorization server, and keys of each kind."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import httpx2
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.conftest import StartGateway
from tests.support.authorization_server import AuthorizationServer, new_key
from tests.support.gateway import Answer, TestClient, TestGateway, access_log_entry
from tests.support.gateway import gateway as start
from tests.support.login import Login
from tests.support.processes import free_port
from tests.support.scripted import ScriptedServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
PAGE = "http://localhost:6274"
CLOCK_SKEW = 60
MAX_LIFETIME = 7200


@dataclass
class Stage:
    idp: AuthorizationServer
    gateway: TestGateway
    server: ScriptedServer

    def url(self, path: str) -> str:
        return self.gateway.url.removesuffix("/mcp") + path

    async def try_with(self, token: str, **headers: str) -> Answer:
        return await self.gateway.rpc("initialize", INITIALIZE, authorization=f"Bearer {token}", **headers)

    def challenge(self, error: str = "") -> str:
        where = self.url("/.well-known/oauth-protected-resource/mcp")
        return f'Bearer {error}scope="mcp:read mcp:call", resource_metadata="{where}"'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    port = free_port()
    resource = f"http://localhost:{port}/mcp"
    async with AuthorizationServer(audience=resource) as idp, ScriptedServer("alpha") as alpha:
        oauth = {
            "resource": resource,
            "resource_name": 'The "tools" of 100 %',
            "resource_documentation": "https://docs.example/a%20b",
            "scopes_supported": ["mcp:read", "mcp:call"],
            "max_lifetime": MAX_LIFETIME,
            "issuers": [{"issuer": idp.issuer, "jwks": {"uri": f"{idp.issuer}/jwks", "refresh": 1}}],
        }
        folder = tmp_path_factory.mktemp("gateway")
        servers = {"alpha": {"url": f"http://127.0.0.1:{alpha.port}/mcp", "prefix": ""}}
        async with start(folder, servers, listen={"port": port}, authentication={"oauth": oauth}) as gateway:
            yield Stage(idp, gateway, alpha)


# -- Tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_good_token_passes(stage: Stage, algorithm: str) -> None:
    for scheme in ("Bearer", "bearer"):
        token = stage.idp.token(algorithm)
        answer = await stage.gateway.rpc("initialize", INITIALIZE, authorization=f"{scheme} {token}")
        assert answer.result["serverInfo"]["name"] == "mcp-extproc"
    assert (await stage.try_with(stage.idp.token(algorithm, aud=["other", stage.idp.audience]))).status == 200
    assert (await stage.try_with(stage.idp.token(algorithm, headers={"kid": None}))).status == 200
    # Clocks may differ by 60 s.
    assert (await stage.try_with(stage.idp.token(algorithm, exp=int(time.time()) - 30))).status == 200


def _by_hand(idp: AuthorizationServer, algorithm: str, key: bytes) -> str:
    """A token that no library would make."""

    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims = {"iss": idp.issuer, "sub": "alice", "aud": idp.audience, "exp": int(time.time()) + 60}
    parts = [{"alg": algorithm, "typ": "JWT", "kid": "RS256"}, claims]
    text = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    return f"{text}.{encoded(hmac.digest(key, text.encode(), hashlib.sha256)) if key else ''}"


def _public_pem(idp: AuthorizationServer) -> bytes:
    encoding, format = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return idp.keys["RS256"].public_key().public_bytes(encoding, format)


BAD: dict[str, Callable[[AuthorizationServer], str]] = {
    "expired": lambda idp: idp.token(exp=int(time.time()) - 120),
    "not yet valid": lambda idp: idp.token(nbf=int(time.time()) + 300),
    "no exp": lambda idp: idp.token(exp=None),
    "no sub": lambda idp: idp.token(sub=None),
    "empty sub": lambda idp: idp.token(sub=""),
    "wrong aud": lambda idp: idp.token(aud="https://other.example"),
    "part of aud": lambda idp: idp.token(aud=idp.audience.removesuffix("/mcp")),
    "no aud": lambda idp: idp.token(aud=None),
    "wrong iss": lambda idp: idp.token(iss="https://other.example"),
    "iss with a slash": lambda idp: idp.token(iss=f"{idp.issuer}/"),
    "no iss": lambda idp: idp.token(iss=None),
    "alg none": lambda idp: _by_hand(idp, "none", b""),
    "HS256 with the public key": lambda idp: _by_hand(idp, "HS256", _public_pem(idp)),
    "RS512 under an RSA key": lambda idp: idp.token("RS512", key=idp.keys["RS256"], headers={"kid": "RS256"}),
    "RS512 without kid": lambda idp: idp.token("RS512", key=idp.keys["RS256"], headers={"kid": None}),
    "PS256 under an RSA key": lambda idp: idp.token("PS256", key=idp.keys["RS256"], headers={"kid": "RS256"}),
    "another one's key": lambda idp: idp.token(key=new_key("RS256")),
    "unknown kid": lambda idp: idp.token(key=new_key("RS256"), headers={"kid": "other"}),
    "cut off": lambda idp: idp.token()[:-4],
    "no JWT": lambda _: "opaque",
}


@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_token_is_refused(stage: Stage, bad: str) -> None:
    received = len(stage.server.received)
    answer = await stage.try_with(BAD[bad](stage.idp))
    assert (answer.status, answer.headers["www-authenticate"]) == (401, stage.challenge('error="invalid_token", '))
    assert answer.error["data"] == {"reason": "invalid_token", "status": 401}
    assert len(stage.server.received) == received


async def test_a_claim_that_is_there_twice_proves_nobody(stage: Stage) -> None:
    """One reader might take one of the two, and the next the other one: to Envoy it is no token."""
    key = stage.idp.keys["RS256"]
    assert isinstance(key, rsa.RSAPrivateKey)
    claims = f'"iss": "{stage.idp.issuer}", "aud": "{stage.idp.audience}", "exp": {int(time.time()) + 60}'
    for more, is_good in (('"sub": "alice"', True), ('"sub": "alice", "sub": "bob"', False)):
        parts = ('{"alg": "RS256", "kid": "RS256"}', f"{{{claims}, {more}}}")
        text = ".".join(base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts)
        signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        answer = await stage.try_with(f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}")
        assert answer.status == (200 if is_good else 401), answer.body


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "PUT"])
async def test_without_a_token(stage: Stage, method: str) -> None:
    answer = await stage.gateway.send(b"{}" if method in ("POST", "PUT") else None, method=method)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, stage.challenge())
    assert answer.error["data"] == {"reason": "authentication_required", "status": 401}
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "", "Token x"])
async def test_other_credentials_are_none(stage: Stage, value: str) -> None:
    async with stage.gateway.http.post(stage.gateway.url, json={}, headers={"authorization": value}) as answer:
        assert answer.status == 401


async def test_a_token_counts_in_one_header_only(stage: Stage) -> None:
    good = stage.idp.token()
    http, url = stage.gateway.http, stage.gateway.url
    for values in ((good, "bad"), ("bad", good), (good, good)):
        headers = [("authorization", f"Bearer {value}") for value in values]
        async with http.post(url, json={}, headers=headers) as answer:
            assert answer.status == 401
    async with http.post(f"{url}?access_token={good}", json={}) as answer:
        assert answer.status == 401
    async with http.post(url, json={}, headers={"cookie": f"access_token={good}", "x-jwt": good}) as answer:
        assert answer.status == 401


async def test_no_spelling_of_the_path_gets_around(stage: Stage) -> None:
    request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE})
    host, port = urlsplit(stage.gateway.url).netloc.split(":")
    for target in (
        "/mcp", "/mcp/", "//mcp", "/MCP", "/./mcp", "/x/../mcp", "/mcp?x", "/mcp;x", "/mcp%2f", "/%6dcp", "/mcp%00",
        "/mcp#x", "/mcp/../mcp", "/.well-known/oauth-protected-resource/../../mcp", f"http://{host}:{port}/mcp", "*",
        "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource/%2e%2e/%2e%2e/mcp", "/\\mcp",
    ):  # fmt: skip
        expected = (307,) if target == "/mcp/" else (400, 401, 404)
        assert await _raw(host, int(port), target, request) in expected, target


async def _raw(host: str, port: int, target: str, body: str) -> int:
    """The status of a POST whose target no library would send."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        f"POST {target} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
        f"accept: application/json, text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
    )
    answer = await reader.readline()
    writer.close()
    return int(answer.split(b" ", 2)[1])


async def test_each_message_of_a_batch_is_authenticated(stage: Stage) -> None:
    token = f"Bearer {stage.idp.token()}"
    opened = await stage.gateway.rpc("initialize", {**INITIALIZE, "protocolVersion": "2025-03-26"}, authorization=token)
    session = opened.headers["mcp-session-id"]
    pings = json.dumps([{"jsonrpc": "2.0", "id": id, "method": "ping"} for id in (1, 2)]).encode()
    answer = await stage.gateway.send(pings, mcp_session_id=session, authorization=token)
    assert json.loads(answer.body) == [{"jsonrpc": "2.0", "id": id, "result": {}} for id in (1, 2)]
    assert (await stage.gateway.send(pings, mcp_session_id=session)).status == 401


async def test_no_server_gets_a_token(stage: Stage) -> None:
    token = stage.idp.token()
    session = (await stage.try_with(token)).headers["mcp-session-id"]
    called = await stage.gateway.rpc(
        "tools/call", {"name": "echo", "arguments": {}}, mcp_session_id=session, authorization=f"Bearer {token}"
    )
    assert called.status == 200
    assert stage.server.received
    for request in stage.server.received:
        assert not {"authorization", "x-mcp-claims"} & request.headers.keys()
        assert not [part for part in token.split(".") if part in repr(request)]


JWT = "envoy.filters.http.jwt_authn"
_HTTP = "type.googleapis.com/envoy.extensions.filters.http"


def denying(claim: str, value: str) -> dict[str, object]:
    """A policy on a claim that is a list."""
    listed = {"list_match": {"one_of": {"string_match": {"exact": value}}}}
    matcher = {"filter": JWT, "path": [{"key": "payload"}, {"key": claim}], "value": listed}
    policy = {"permissions": [{"any": True}], "principals": [{"sourced_metadata": {"metadata_matcher": matcher}}]}
    rules = {"action": "DENY", "policies": {"by-claim": policy}}
    return {"name": f"rbac-{claim}", "typed_config": {"@type": f"{_HTTP}.rbac.v3.RBAC", "rules": rules}}


LUA = {"name": "lua", "typed_config": {
    "@type": f"{_HTTP}.lua.v3.Lua",
    "default_source_code": {"inline_string": "function envoy_on_request(h) h:body() end"},
}}  # fmt: skip


@pytest.mark.parametrize("visits", ["none", "one", "two"])
async def test_policies_see_claims_and_servers_do_not(start_own: StartGateway, visits: str) -> None:
    """Whether the worker decides in front of policies, or behind them. Sessions are the token's in each visit, whatever a
    client writes into the header."""
    filters = {"none": [], "one": [denying("scope", "bad")], "two": [denying("scope", "bad"), LUA]}[visits]
    async with AuthorizationServer() as idp, ScriptedServer("alpha") as alpha:
        issuer = {"issuer": idp.issuer, "audiences": [idp.audience], "jwks": {"uri": f"{idp.issuer}/jwks"}}
        claims = base64.urlsafe_b64encode(json.dumps({"iss": idp.issuer, "sub": "root"}).encode()).rstrip(b"=").decode()
        async with start_own(
            {"alpha": {"url": alpha.url, "prefix": ""}},
            authentication={"oauth": {"issuers": [issuer]}},
            envoy={"http_filters": filters},
        ) as gateway:
            good = {"authorization": f"Bearer {idp.token(scope='good better')}", "x_mcp_claims": claims}
            opened = await gateway.rpc("initialize", {**INITIALIZE, "protocolVersion": "2025-03-26"}, **good)
            session = opened.headers["mcp-session-id"]
            echo = {"name": "echo", "arguments": {}}
            for _ in range(2):
                called = await gateway.rpc("tools/call", echo, mcp_session_id=session, user_agent="called", **good)
                assert called.result, called.body
            entry = await access_log_entry(gateway.access_log, {"user_agent": "called"})
            assert (entry["enduser.id"], entry["mcp.principal.issuer"]) == (idp.subject, idp.issuer)
            assert (await gateway.rpc("tools/list", mcp_session_id=session, **good)).result
            batch = json.dumps([{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": echo}]).encode()
            assert "result" in json.loads((await gateway.send(batch, mcp_session_id=session, **good)).body)[0]
            bad = {"authorization": f"Bearer {idp.token(scope='good bad')}"}
            answer = await gateway.rpc("tools/call", echo, mcp_session_id=session, **bad)
            is_denied = "error" in json.loads(answer.body) and answer.error["data"]["reason"] == "denied"
            assert is_denied == (visits != "none")
            assert len(alpha.received) >= 4
            for request in alpha.received:
                assert not {"authorization", "x-mcp-claims"} & request.headers.keys()
                assert claims not in repr(request)


async def test_no_log_has_a_token(stage: Stage) -> None:
    good, bad = stage.idp.token(jti="good"), stage.idp.token(aud="other")
    secrets = [good.split(".")[2], bad.split(".")[2]]
    await stage.try_with(good, user_agent="logged")
    await stage.try_with(bad, user_agent="logged")
    async with stage.gateway.http.post(
        f"{stage.gateway.url}?access_token={good}", json={}, headers={"user-agent": "last"}
    ):
        pass
    entry = await access_log_entry(stage.gateway.access_log, {"user_agent": "last"})
    assert entry["response_code_details"] == "jwt_authn_access_denied{Jwt_is_missing}"
    folder = stage.gateway.access_log.parent
    for log in folder.glob("*.log"):
        assert not any(secret in log.read_text() for secret in secrets), log


# -- Principals -------------------------------------------------------------------------------------------------------


async def test_a_session_belongs_to_its_principal(stage: Stage) -> None:
    """To another one it is what an unknown one is; the next token of the same goes on with it."""
    alice, again = stage.idp.token(), stage.idp.token(scope="more", jti="next", client_id="other")
    bob, other = stage.idp.token(sub="bob"), stage.idp.token("ES256", sub="Alice")
    session = (await stage.try_with(alice)).headers["mcp-session-id"]

    async def listed(token: str, session: str) -> Answer:
        return await stage.gateway.rpc("tools/list", authorization=f"Bearer {token}", mcp_session_id=session)

    for token in (alice, again):
        assert [tool["name"] for tool in (await listed(token, session)).result["tools"]] == ["echo"]
    unknown = await listed(alice, "unknown")
    for token in (bob, other):
        assert (await listed(token, session)).body == unknown.body
        for method in ("GET", "DELETE"):
            refused = await stage.gateway.send(
                None, method=method, authorization=f"Bearer {token}", mcp_session_id=session, accept="text/event-stream"
            )
            assert refused.status == 404
    assert (await listed(alice, session)).status == 200


async def test_the_access_log_names_the_principal(stage: Stage) -> None:
    subject = "logged " + "x" * 300
    session = (await stage.try_with(stage.idp.token(sub=subject))).headers["mcp-session-id"]
    await stage.gateway.rpc(
        "tools/call",
        {"name": "echo", "arguments": {}},
        mcp_session_id=session,
        authorization=f"Bearer {stage.idp.token(sub=subject)}",
        # What a client says of itself.
        x_mcp_principal="mallory",
        x_mcp_client="mallory",
    )
    for method in ("initialize", "tools/call"):
        entry = await access_log_entry(
            stage.gateway.access_log, {"enduser.id": subject[:256], "mcp.method.name": method}
        )
        assert entry["mcp.principal.issuer"] == stage.idp.issuer


async def test_filters_of_others_say_who_calls(start_own: StartGateway) -> None:
    """Sessions, limits and the log go by it, and who is nobody is refused by the worker."""
    header = {"metadata_namespace": "their.filter", "key": "user", "type": "STRING"}
    filter = {
        "name": "their.filter",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
            "request_rules": [{"header": "x-verified", "on_header_present": header, "remove": True}],
        },
    }
    async with ScriptedServer("alpha") as alpha:
        async with start_own(
            {"alpha": f"http://127.0.0.1:{alpha.port}/mcp"},
            envoy={"http_filters_before": [filter]},
            authentication={"existing": {"subject": ["their.filter", "user"]}},
            rate_limits=[{"by": ["principal"], "requests": 3, "per": "hour"}],
        ) as gateway:
            refused = await gateway.rpc("initialize", INITIALIZE)
            assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
            opened = await gateway.rpc("initialize", INITIALIZE, x_verified="alice")
            session = opened.headers["mcp-session-id"]
            assert (await gateway.rpc("ping", mcp_session_id=session, x_verified="alice")).result == {}
            assert (await gateway.rpc("ping", mcp_session_id=session, x_verified="bob")).status == 404
            assert (await gateway.rpc("ping", mcp_session_id=session, x_verified="alice")).result == {}
            limited = await gateway.rpc("ping", mcp_session_id=session, x_verified="alice")
            assert limited.error["data"]["reason"] == "rate_limited"
            await gateway.logged(enduser_id="alice", mcp_method_name="initialize")


# -- Keys -------------------------------------------------------------------------------------------------------------


async def test_new_keys_are_taken_and_a_known_token_outlives_its_key(stage: Stage) -> None:
    """A thread of Envoy remembers verified tokens until their ``exp`` (docs/authentication.md)."""
    idp = stage.idp
    idp.keys["new"] = new_key("RS256")
    known = idp.token(key=idp.keys["new"], headers={"kid": "new"})

    async def tried(token: str, client: TestClient) -> int:
        return (await client.rpc("initialize", INITIALIZE, authorization=f"Bearer {token}")).status

    async with aiohttp.ClientSession() as http, aiohttp.ClientSession() as other:
        # The requests of each stay on one connection, and so with one thread, as long as none is refused.
        client, others = TestClient(stage.gateway.url, http), TestClient(stage.gateway.url, other)
        await eventually(lambda: tried(known, client), "the new key is known", until=lambda status: status == 200)
        soon = int(time.time()) - CLOCK_SKEW + 8
        ending = idp.token(key=idp.keys["new"], headers={"kid": "new"}, exp=soon)
        assert await tried(ending, others) == 200
        del idp.keys["new"]
        signer = new_key("RS256")
        idp.keys["newer"] = signer
        newer = idp.token(key=signer, headers={"kid": "newer"})
        await eventually(lambda: _status(stage, newer), "the newer key is known", until=lambda status: status == 200)
        assert await tried(known, client) == 200
        await eventually(lambda: tried(ending, others), "it ends", until=lambda status: status == 401)
        assert await tried(known, client) == 200, "the other one ended by its exp"
    fresh = idp.token(key=new_key("RS256"), headers={"kid": "new"})
    assert await _status(stage, fresh) == 401


async def test_no_token_is_good_for_longer_than_the_maximum(stage: Stage) -> None:
    """So it bounds for how long one can outlive its key."""
    now = int(time.time())
    assert await _status(stage, stage.idp.token(exp=now + MAX_LIFETIME - 60)) == 200
    answer = await stage.try_with(stage.idp.token(exp=now + MAX_LIFETIME + 600))
    assert (answer.status, answer.error["data"]["reason"]) == (401, "invalid_token")


async def test_keys_stay_while_the_authorization_server_is_down(stage: Stage) -> None:
    asked = len(stage.idp.asked)
    await eventually(lambda: len(stage.idp.asked) > asked, "it is asked every second")
    await stage.idp.stop()
    try:
        assert await _status(stage, stage.idp.token(jti="while it is down")) == 200
    finally:
        await stage.idp.start()


async def _status(stage: Stage, token: str) -> int:
    return (await stage.try_with(token)).status


# -- Where to log in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"])
async def test_the_metadata_of_the_resource(stage: Stage, path: str) -> None:
    """RFC 9728 section 2."""
    async with stage.gateway.http.get(stage.url(path)) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert await answer.json() == {
            "resource": stage.idp.audience,
            "authorization_servers": [stage.idp.issuer],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["mcp:read", "mcp:call"],
            "resource_name": 'The "tools" of 100 %',
            "resource_documentation": "https://docs.example/a%20b",
        }


async def test_clients_of_2025_03_26_find_the_authorization_server(stage: Stage) -> None:
    url = stage.url("/.well-known/oauth-authorization-server")
    async with stage.gateway.http.get(url, headers={"authorization": "Bearer mine"}) as answer:
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "*")
        assert (await answer.json())["registration_endpoint"] == f"{stage.idp.issuer}/register"


async def test_the_challenge_has_the_scheme_and_host_that_the_client_used(stage: Stage) -> None:
    port = urlsplit(stage.gateway.url).port
    answer = await stage.gateway.send(
        b"{}", url=f"http://127.0.0.1:{port}/mcp", host=f"gateway.localhost:{port}", x_forwarded_proto='ftp"'
    )
    where = f"http://gateway.localhost:{port}/.well-known/oauth-protected-resource/mcp"
    assert f'resource_metadata="{where}"' in answer.headers["www-authenticate"]


async def test_pages_may_read_all_of_it(stage: Stage) -> None:
    """The cors filter comes first: preflights have no credentials, and a page sees the challenge."""
    asked = {"origin": PAGE, "access-control-request-method": "POST"}
    wanted = "authorization, content-type, mcp-session-id, mcp-protocol-version, last-event-id"
    headers = {**asked, "access-control-request-headers": wanted}
    async with stage.gateway.http.options(stage.gateway.url, headers=headers) as answer:
        assert answer.status == 200
        allowed = answer.headers["access-control-allow-headers"].replace(" ", "").split(",")
        assert set(allowed) >= set(wanted.split(", "))  # by name: `*` does not cover Authorization
    refused = await stage.gateway.send(b"{}", origin=PAGE)
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, PAGE)
    exposed = set(refused.headers["access-control-expose-headers"].split(", "))
    assert exposed >= {"mcp-session-id", "www-authenticate", "mcp-protocol-version"}
    for path in ("/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server"):
        async with stage.gateway.http.options(stage.url(path), headers=headers) as answer:
            assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, "*")


async def test_a_foreign_page_is_refused_with_a_good_token(stage: Stage) -> None:
    assert (await stage.try_with(stage.idp.token(), origin="https://evil.example")).status == 403


async def test_the_official_client_logs_in(stage: Stage) -> None:
    """Discovery, dynamic registration, PKCE, and a token for this resource, from the first 401 on."""
    login = Login(stage.gateway.url, stage.gateway.http)
    async with httpx2.AsyncClient(auth=login.auth) as http:
        async with Client(streamable_http_client(stage.gateway.url, http_client=http), mode="legacy") as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["echo"]
    assert len(login.redirected) == 1
    assert login.tokens is not None
    assert login.tokens.scope == "mcp:read mcp:call"


async def test_an_issuer_that_is_down_at_the_start(start_own: StartGateway) -> None:
    """The gateway starts, says that it can't verify tokens, and can once the issuer is there."""
    idp = AuthorizationServer()
    oauth = {"issuers": [{"issuer": idp.issuer, "audiences": [idp.audience]}]}
    async with start_own({"alpha": "http://127.0.0.1:1/mcp"}, authentication={"oauth": oauth}) as gateway:

        async def tried() -> Answer:
            return await gateway.rpc("ping", authorization=f"Bearer {idp.token()}")

        answer = await tried()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.error["data"]["reason"] == "keys_unavailable"
        assert "www-authenticate" not in answer.headers
        async with idp:
            await eventually(tried, "tokens are accepted", until=lambda answer: answer.status == 400)
