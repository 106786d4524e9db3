"""The table of verdicts of the gateway's own listener, on one that others own: only the endpoint is authenticated."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.test_api_keys import ALICE, BOB, GOOD, KEYS, SOURCES
from tests.e2e.test_api_keys import BAD as BAD_KEYS
from tests.e2e.test_authentication import BAD as BAD_TOKENS
from tests.e2e.test_external import BAD as BAD_CALLERS
from tests.e2e.test_external import GOOD as GOOD_CALLERS
from tests.e2e.test_external import judge
from tests.support import own_envoy
from tests.support.authorization_server import AuthorizationServer, new_key, public_jwk
from tests.support.gateway import Answer, access_log_entry
from tests.support.own_envoy import Browser
from tests.support.policy_services import Callers
from tests.support.scripted import ScriptedServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

PORT = 8080
INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
_TYPE = "type.googleapis.com/envoy.extensions.filters"
_FILE_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"


def theirs(*access_logs: dict[str, Any]) -> dict[str, Any]:
    """A listener that serves something else, with tokens of its own."""
    key = public_jwk(new_key("ES256"), "theirs")
    keys = {"inline_string": json.dumps({"keys": [key]})}
    provider = {"issuer": "https://theirs.example", "local_jwks": keys, "forward": True}
    manager = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "access_log": list(access_logs),
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "theirs"}}},
        ]}]},
        "http_filters": [
            {"name": "their.jwt", "typed_config": {
                "@type": f"{_TYPE}.http.jwt_authn.v3.JwtAuthentication",
                "providers": {"theirs": provider},
                "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "theirs"}}],
            }},
            {"name": "router", "typed_config": {"@type": f"{_TYPE}.http.router.v3.Router"}},
        ],
    }  # fmt: skip
    address = {"socket_address": {"address": "127.0.0.1", "port_value": PORT}}
    chain = {"filters": [{"name": "hcm", "typed_config": manager}]}
    return {"static_resources": {"listeners": [{"name": "in", "address": address, "filter_chains": [chain]}]}}


def with_keys(text: str, known: Mapping[str, str | Sequence[str]]) -> str:
    """What is printed, with keys in the places that are named."""
    data = json.loads(text)
    credentials = [{"key": key, "client": name} for name, keys in known.items() for key in _several(keys)]
    added = 0
    for listener in data["static_resources"]["listeners"]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        for host in manager["route_config"]["virtual_hosts"]:
            for route in host["routes"]:
                place = route.get("typed_per_filter_config", {}).get("mcp/api_key_auth")
                if route.get("name", "").startswith("mcp/endpoint"):
                    place["config"]["credentials"] = credentials
                    added += 1
    assert added
    return json.dumps(data)


def _several(keys: Sequence[str]) -> Sequence[str]:
    return [keys] if isinstance(keys, str) else keys


@dataclass
class Stage:
    idp: AuthorizationServer
    client: Browser
    server: ScriptedServer
    folder: Path

    async def tried(self, query: str = "", **headers: str) -> Answer:
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
        fields = {"content_type": "application/json", "accept": "application/json, text/event-stream", **headers}
        return await self.client.send(f"/mcp{query}", method="POST", body=json.dumps(message).encode(), **fields)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("attached")
    keys = folder / "keys.yaml"
    keys.write_text(json.dumps(KEYS))
    async with AsyncExitStack() as stack:
        idp = await stack.enter_async_context(AuthorizationServer())
        alpha = await stack.enter_async_context(ScriptedServer("alpha"))
        callers = await stack.enter_async_context(Callers(judge).serving())
        place = await stack.enter_async_context(own_envoy.place(folder, PORT))
        issuer = {"issuer": idp.issuer, "audiences": [idp.audience], "jwks": {"uri": f"{idp.issuer}/jwks"}}
        document = {
            "servers": {"alpha": {"url": alpha.url, "prefix": ""}},
            "log": {"access": ""},
            "authentication": {
                "oauth": {"issuers": [issuer]},
                "api_keys": {"file": str(keys), "from": SOURCES},
                "external": {
                    "grpc": f"127.0.0.1:{callers.grpc_port}",
                    "timeout": "20s",
                    "from": [{"header": "authorization"}, {"cookie": "session"}],
                    "principal_header": "x-user",
                    "groups_header": "x-groups",
                },
            },
        }
        file = folder / "gateway.yaml"
        file.write_text(json.dumps(document))
        arguments = ["envoy", "attach", "--config", str(file), "-", "--without-jwt-authn"]
        out, warned = await own_envoy.printed(place, *arguments, stdin=json.dumps(theirs()))
        assert "what is printed has no keys" in " ".join(warned.split())
        await stack.enter_async_context(own_envoy.worker(place, json.dumps(document)))
        await stack.enter_async_context(own_envoy.envoy(place, place.moved(with_keys(out, KEYS)), place.port(PORT)))
        client = await stack.enter_async_context(own_envoy.browser(place.port(PORT), host="localhost"))
        yield Stage(idp, client, alpha, folder)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_good_token_passes(stage: Stage, algorithm: str) -> None:
    assert (await stage.tried(authorization=f"Bearer {stage.idp.token(algorithm)}")).status == 200


@pytest.mark.parametrize("bad", BAD_TOKENS)
async def test_a_bad_token_is_refused(stage: Stage, bad: str) -> None:
    received = len(stage.server.received)
    answer = await stage.tried(authorization=f"Bearer {BAD_TOKENS[bad](stage.idp)}")
    assert (answer.status, answer.error["data"]["reason"]) == (401, "invalid_token")
    assert 'error="invalid_token", resource_metadata="http://localhost' in answer.headers["www-authenticate"]
    assert len(stage.server.received) == received


@pytest.mark.parametrize("good", GOOD)
async def test_a_good_key_passes(stage: Stage, good: str) -> None:
    query, headers, _ = GOOD[good]
    assert (await stage.tried(query, **headers)).status == 200


@pytest.mark.parametrize("bad", BAD_KEYS)
async def test_a_bad_key_is_refused(stage: Stage, bad: str) -> None:
    query, headers = BAD_KEYS[bad]
    answer = await stage.tried(query, **headers)
    assert (answer.status, "resource_metadata=" in answer.headers["www-authenticate"]) == (401, True)


@pytest.mark.parametrize("good", GOOD_CALLERS)
async def test_whom_the_service_names_passes(stage: Stage, good: str) -> None:
    headers, name = GOOD_CALLERS[good]
    opened = await stage.tried(**headers)
    assert opened.status == 200
    assert not {"set-cookie", "location", "x-reason"} & {header.lower() for header in opened.headers}
    body = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    fields = {"mcp_session_id": opened.headers["mcp-session-id"], "content_type": "application/json", "accept": "*/*"}
    for other in ("alice", "bob"):
        answer = await stage.client.send(
            "/mcp", method="POST", body=body, authorization=f"Basic {other}", x_user=name, **fields
        )
        assert answer.status == (200 if other == name else 404)


@pytest.mark.parametrize("bad", BAD_CALLERS)
async def test_who_is_named_by_no_method_is_refused(stage: Stage, bad: str) -> None:
    received = len(stage.server.received)
    answer = await stage.tried(**BAD_CALLERS[bad])
    assert (answer.status, "resource_metadata=" in answer.headers["www-authenticate"]) == (401, True)
    assert b"secret" not in answer.body
    assert not {"set-cookie", "location", "x-reason"} & {name.lower() for name in answer.headers}
    assert len(stage.server.received) == received


async def test_sessions_belong_to_who_opened_them(stage: Stage) -> None:
    session = (await stage.tried(x_api_key=ALICE)).headers["mcp-session-id"]
    fields = {
        "mcp_session_id": session,
        "content_type": "application/json",
        "accept": "application/json, text/event-stream",
    }
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
    for headers, status in (
        ({"x_api_key": ALICE}, 200),
        ({"x_api_key": BOB}, 404),
        ({"authorization": f"Bearer {stage.idp.token()}"}, 404),
        ({"x_api_key": BOB, "x_mcp_api_key_name": "alice"}, 404),
        ({}, 401),
    ):
        answer = await stage.client.send("/mcp", method="POST", body=body, **fields, **headers)
        assert answer.status == status


async def test_nobody_believes_claims_of_a_client(tmp_path: Path) -> None:
    """Also where the owner has left out what takes the header from requests, or turns the filter off that writes it: who
    brings nothing else is anonymous."""
    async with AsyncExitStack() as stack:
        idp = await stack.enter_async_context(AuthorizationServer())
        alpha = await stack.enter_async_context(ScriptedServer("alpha"))
        place = await stack.enter_async_context(own_envoy.place(tmp_path, PORT))
        issuer = {"issuer": idp.issuer, "audiences": [idp.audience], "jwks": {"uri": f"{idp.issuer}/jwks"}}
        document = {
            "servers": {"alpha": {"url": alpha.url, "prefix": ""}},
            "log": {"access": ""},
            "authentication": {"anonymous": True, "oauth": {"issuers": [issuer]}},
        }
        file, log = tmp_path / "gateway.yaml", tmp_path / "access.log"
        file.write_text(json.dumps(document))
        named = {"agent": "%REQ(user-agent)%", "who": "%DYNAMIC_METADATA(mcp_proxy:principal)%"}
        file_log = {"@type": _FILE_LOG, "path": str(log), "log_format": {"json_format": named}}
        arguments = ["envoy", "attach", "--config", str(file), "-", "--without-jwt-authn"]
        existing = theirs({"name": "log", "typed_config": file_log})
        out = json.loads((await own_envoy.printed(place, *arguments, stdin=json.dumps(existing)))[0])
        [listener] = [item for item in out["static_resources"]["listeners"] if item["name"] == "in"]
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        del manager["early_header_mutation_extensions"]
        await stack.enter_async_context(own_envoy.worker(place, json.dumps(document)))
        text = place.moved(json.dumps(out))
        await stack.enter_async_context(own_envoy.envoy(place, text, place.port(PORT)))
        client = await stack.enter_async_context(own_envoy.browser(place.port(PORT), host="localhost"))
        found = Stage(idp, client, alpha, tmp_path)
        root = base64.urlsafe_b64encode(json.dumps({"iss": idp.issuer, "sub": "root"}).encode()).rstrip(b"=").decode()
        token = f"Bearer {idp.token()}"
        for agent, brought, who in (
            ("nothing", {}, None),
            ("claims", {"x_mcp_claims": root}, None),
            ("token", {"authorization": token}, idp.subject),
        ):
            answer = await found.tried(user_agent=agent, **brought)
            assert answer.status == 200, agent
            assert (await access_log_entry(log, {"agent": agent}))["who"] == who
        # A good token beside made-up claims: whose they are is not known, so they count for nothing.
        both = await found.tried(user_agent="both", authorization=token, x_mcp_claims=root)
        assert (await access_log_entry(log, {"agent": "both"}))["who"] != "root", both.body


async def test_each_message_of_a_batch_is_authenticated(stage: Stage) -> None:
    body = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {**INITIALIZE, "protocolVersion": "2025-03-26"}}
    )
    pings = json.dumps([{"jsonrpc": "2.0", "id": id, "method": "ping"} for id in (1, 2)]).encode()
    fields = {"content_type": "application/json", "accept": "application/json, text/event-stream"}
    for headers in ({"x_api_key": ALICE}, {"authorization": f"Bearer {stage.idp.token()}"}):
        opened = await stage.client.send("/mcp", method="POST", body=body.encode(), **fields, **headers)
        session = opened.headers["mcp-session-id"]
        answer = await stage.client.send("/mcp", method="POST", body=pings, mcp_session_id=session, **fields, **headers)
        assert json.loads(answer.body) == [{"jsonrpc": "2.0", "id": id, "result": {}} for id in (1, 2)]


async def test_everybody_is_told_where_to_log_in(stage: Stage) -> None:
    for path in ("/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"):
        answer = await stage.client.send(path, method="GET")
        assert (answer.status, answer.json["authorization_servers"]) == (200, [stage.idp.issuer])
        assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_slash_too_many_is_theirs_where_they_serve_everything_else(stage: Stage) -> None:
    answer = await stage.client.send("/mcp/", method="POST", body=b"{}", authorization=f"Bearer {stage.idp.token()}")
    assert answer.status == 401
    assert answer.body.startswith(b"Jwt "), "their filter's word"


async def test_what_others_have_is_as_it_was(stage: Stage) -> None:
    """Their filter goes on everywhere else, and none of ours is there."""
    good = f"Bearer {stage.idp.token()}"
    brought: list[dict[str, Any]] = [{}, {"x_api_key": ALICE}, {"authorization": good}]
    for headers in brought:
        answer = await stage.client.send("/other", method="GET", **headers)
        assert answer.status == 401
        assert "resource_metadata" not in answer.headers.get("www-authenticate", "")
