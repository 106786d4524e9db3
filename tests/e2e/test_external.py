"""A service that says who calls, over gRPC and over HTTP: beside other methods, and alone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.e2e.test_policies_authz import cluster, ext_authz
from tests.support.authorization_server import AuthorizationServer
from tests.support.gateway import Answer, TestGateway, access_log_entry
from tests.support.gateway import gateway as start
from tests.support.policy_services import Callers, Verdict, http_authorization
from tests.support.processes import free_port
from tests.support.scripted import ScriptedServer
from tests.support.tls import Authority

pytestmark = pytest.mark.asyncio(loop_scope="module")

INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
KEY = "alice-" + "a" * 20
NAMES = {
    "x-user": "{}",
    "x-groups": "dev, admin",
    "x-scopes": "a b",
    "x-other": "1",
    "mcp-session-id": "theirs",
    "x-mcp-server": "beta",
}
REFUSAL: Mapping[str, str] = {
    "www-authenticate": 'Basic realm="secret"',
    "x-reason": "secret",
    "set-cookie": "a=secret",
    "location": "https://secret.example",
    "x-mcp-error": "secret",
}


def judge(headers: Mapping[str, str]) -> Verdict:
    """By what would be a password."""
    found = re.search(r"^Basic (.*)", headers.get("authorization", "")) or re.search(
        r"session=(\w+)", headers.get("cookie", "")
    )
    match found and found[1]:
        case "alice" | "bob" | "x,Bearer y" as name:
            named = {key: value.format(name) for key, value in NAMES.items()}
            metadata = {"user": {"name": name, "groups": ["dev"]}}
            return Verdict(headers=named, metadata=metadata, on_response=REFUSAL)
        case "empty":
            return Verdict(headers={"x-user": ""}, metadata={"user": {"name": ""}})
        case "nobody":
            return Verdict(metadata={"user": "alice"}, on_response=REFUSAL)
        case "forbidden":
            return Verdict(403, REFUSAL)
        case _:
            return Verdict(401, REFUSAL)


@dataclass
class Stage:
    idp: AuthorizationServer
    callers: Callers
    gateway: TestGateway
    server: ScriptedServer

    async def tried(self, **headers: str) -> Answer:
        return await self.gateway.rpc("initialize", INITIALIZE, **headers)

    async def who(self, **headers: str) -> tuple[str | None, str | None]:
        """Whose request it is, by the access log."""
        agent = f"agent-{os.urandom(8).hex()}"
        answer = await self.tried(user_agent=agent, **headers)
        assert answer.status == 200, answer.body
        entry = await access_log_entry(self.gateway.access_log, {"user_agent": agent})
        return entry.get("enduser.id"), entry.get("mcp.principal.issuer")


@asynccontextmanager
async def running(
    folder: Path,
    over: str,
    external: Mapping[str, Any],
    *,
    envoy: Mapping[str, Any] | None = None,
    authority: Authority | None = None,
    **more: Any,
) -> AsyncIterator[Stage]:
    """``authority``: of the service's certificate, if it uses TLS."""
    keys = folder / "keys.yaml"
    keys.write_text(json.dumps({"alice": KEY}))
    service = Callers(judge, authority=authority)
    async with AuthorizationServer() as idp, ScriptedServer("alpha") as alpha, service.serving() as callers:
        grpc, http = ("", "http://") if authority is None else ("https://", "https://")
        where = {"grpc": f"{grpc}127.0.0.1:{callers.grpc_port}", "http": f"{http}127.0.0.1:{callers.http_port}/check/"}
        trusted = {} if authority is None else {"ca": str(authority.ca)}
        if "oauth" in more:
            issuer = {"issuer": idp.issuer, "audiences": [idp.audience], "jwks": {"uri": f"{idp.issuer}/jwks"}}
            more |= {"oauth": {"issuers": [issuer]}, "api_keys": {"file": str(keys)}}
        # Whatever the machine is busy with.
        section = {"external": {over: where[over], "timeout": "20s", **trusted, **external}, **more}
        servers = {"alpha": {"url": alpha.url, "prefix": ""}}
        async with start(folder, servers, authentication=section, envoy=envoy or {}) as gateway:
            yield Stage(idp, callers, gateway, alpha)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["grpc", "http"])
async def stage(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """All methods that need no certificate."""
    external = {
        "principal_header": "X-User",
        "groups_header": "x-groups",
        "scopes_header": "x-scopes",
        "from": [{"header": "authorization"}, {"cookie": "session"}],
        "request_headers": ["x-forwarded-host"],
    }
    async with running(tmp_path_factory.mktemp("gateway"), request.param, external, oauth=True) as found:
        yield found


GOOD: dict[str, tuple[Mapping[str, str], str]] = {
    "credentials": ({"authorization": "Basic alice"}, "alice"),
    "a cookie": ({"cookie": "a=b; session=bob"}, "bob"),
    "what a client says of itself": ({"authorization": "Basic bob", "x_user": "alice", "x_mcp_external": "0"}, "bob"),
}


@pytest.mark.parametrize("good", GOOD)
async def test_the_service_names_the_caller(stage: Stage, good: str) -> None:
    headers, name = GOOD[good]
    assert await stage.who(**headers) == (name, "external")


BAD: dict[str, Mapping[str, str]] = {
    "refused": {"authorization": "Basic x"},
    "another scheme": {"authorization": "Negotiate alice"},
    "refused cookie": {"cookie": "session=x"},
    "no name": {"authorization": "Basic nobody"},
    "no name, but the client's": {"authorization": "Basic nobody", "x_user": "alice", "x_groups": "admin"},
    "an empty name": {"authorization": "Basic empty"},
    "refused beside a good key": {"authorization": "Basic x", "x_api_key": KEY},
    "good beside a bad key": {"authorization": "Basic alice", "x_api_key": "x" * 20},
    "refused beside a good cookie": {"authorization": "Basic x", "cookie": "session=bob"},
    "only names": {"x_user": "alice"},
    "nothing": {},
}


@pytest.mark.parametrize("bad", BAD)
async def test_whatever_is_wrong_is_refused(stage: Stage, bad: str) -> None:
    received = len(stage.server.received)
    answer = await stage.tried(**BAD[bad])
    assert answer.status == 401, answer.body
    assert answer.error["data"]["status"] == 401
    assert answer.headers["www-authenticate"].startswith("Bearer resource_metadata=")
    assert len(stage.server.received) == received


@pytest.mark.parametrize(("name", "status"), [("x", 401), ("forbidden", 403)])
async def test_nothing_of_a_refusal_reaches_the_client_but_its_status(stage: Stage, name: str, status: int) -> None:
    answer = await stage.tried(authorization=f"Basic {name}")
    assert (answer.status, answer.error["data"]) == (status, {"reason": "authentication_denied", "status": status})
    told = {header.lower(): value for header, value in answer.headers.items()}
    assert told.keys() - {"date", "server", "connection", "transfer-encoding"} == {
        "content-type",
        "www-authenticate",
        "x-mcp-error",
    }
    assert "secret" not in f"{told} {answer.body!r}"


async def test_what_the_service_wants_on_answers_does_not_reach_the_client(stage: Stage) -> None:
    """Whoever answers: the gateway, a server, or Envoy itself. The service is asked all the same."""
    asked = len(stage.callers.asked)
    opened = await stage.tried(authorization="Basic alice")
    session = opened.headers["mcp-session-id"]
    call = {"name": "echo", "arguments": {}}
    called = await stage.gateway.rpc("tools/call", call, mcp_session_id=session, authorization="Basic alice")
    unknown = await stage.gateway.rpc("tools/call", call, mcp_session_id="none", authorization="Basic alice")
    nobody = await stage.tried(authorization="Basic nobody")
    answers = (opened, called, unknown, nobody)
    assert [answer.status for answer in answers] == [200, 200, 404, 401]
    for answer in answers:
        assert not {name.lower() for name in answer.headers} & {"x-reason", "set-cookie", "location"}
        assert "secret" not in f"{answer.headers} {answer.body!r}"
    assert len(stage.callers.asked) == asked + len(answers)


async def test_tokens_are_not_for_the_service(stage: Stage) -> None:
    asked = len(stage.callers.asked)
    assert await stage.who(authorization=f"Bearer {stage.idp.token()}") == ("alice", stage.idp.issuer)
    for bad in ("Bearer alice", "bearer alice", "BEARER alice", "Bearer", f"Bearer {stage.idp.token(aud='other')}"):
        answer = await stage.tried(authorization=bad)
        assert (answer.status, answer.error["data"]["reason"] in ("invalid_token", "authentication_required")) == (
            401,
            True,
        )
    assert len(stage.callers.asked) == asked


async def test_two_credentials_in_one_header_are_none(stage: Stage) -> None:
    """Neither method takes its own and overlooks the other one."""
    good = f"Bearer {stage.idp.token()}"
    for values in (
        (good, "Basic alice"),
        ("Basic alice", good),
        ("Bearer bad", "Basic alice"),
        ("Basic alice", "Bearer bad"),
    ):
        headers = [("authorization", value) for value in values]
        async with stage.gateway.http.post(stage.gateway.url, json={}, headers=headers) as answer:
            assert answer.status == 401, values


async def test_keys_and_tokens_count_first(stage: Stage) -> None:
    assert await stage.who(authorization="Basic bob", x_api_key=KEY) == ("alice", "api_keys")
    assert await stage.who(authorization=f"Bearer {stage.idp.token()}", cookie="session=bob") == (
        "alice",
        stage.idp.issuer,
    )


async def test_a_session_belongs_to_who_opened_it(stage: Stage) -> None:
    session = (await stage.tried(authorization="Basic alice")).headers["mcp-session-id"]
    for headers, status in (
        ({"authorization": "Basic alice"}, 200),
        ({"authorization": "Basic bob"}, 404),
        ({"x_api_key": KEY}, 404),
        ({"authorization": f"Bearer {stage.idp.token()}"}, 404),
    ):
        assert (await stage.gateway.rpc("tools/list", mcp_session_id=session, **headers)).status == status


async def test_what_the_service_gets_and_what_servers_get(stage: Stage) -> None:
    """Only what it needs; and servers nothing of both."""
    opened = await stage.tried(authorization="Basic alice", x_forwarded_host="gw", x_secret="s", x_user="root")
    session = opened.headers["mcp-session-id"]
    path, headers = stage.callers.asked[-1]
    assert (path.removeprefix("/check"), headers["authorization"], headers["x-forwarded-host"]) == (
        "/mcp",
        "Basic alice",
        "gw",
    )
    assert not {"x-secret", "x-user", "x-mcp-external", "mcp-session-id"} & headers.keys()
    call = {"name": "echo", "arguments": {}}
    answer = await stage.gateway.rpc("tools/call", call, mcp_session_id=session, authorization="Basic alice")
    assert answer.status == 200, answer.body
    got = stage.server.received[-1].headers
    assert not {"authorization", "x-user", "x-groups", "x-scopes", "x-other", "x-mcp-external"} & set(got)


async def test_each_message_of_a_batch_is_authenticated(stage: Stage) -> None:
    old = {**INITIALIZE, "protocolVersion": "2025-03-26"}
    session = (await stage.gateway.rpc("initialize", old, authorization="Basic alice")).headers["mcp-session-id"]
    pings = json.dumps([{"jsonrpc": "2.0", "id": id, "method": "ping"} for id in (1, 2)]).encode()
    answer = await stage.gateway.send(pings, mcp_session_id=session, authorization="Basic alice", x_user="root")
    assert json.loads(answer.body) == [{"jsonrpc": "2.0", "id": id, "result": {}} for id in (1, 2)]


@pytest.mark.parametrize("over", ["grpc", "http"])
async def test_alone_it_is_asked_about_every_request(tmp_path: Path, over: str) -> None:
    external = {"principal_header": "x-user", "challenge": 'Basic realm="100%"'}
    async with running(tmp_path, over, external) as stage:
        answer = await stage.tried()
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Basic realm="100%"')
        assert len(stage.callers.asked) == 1
        stage.callers.judge = lambda headers: Verdict(headers={"x-user": "alice"})
        assert await stage.who(authorization="Bearer y") == ("alice", "external")
        assert await stage.who() == ("alice", "external"), "by other things than headers"


IN_METADATA = {
    "grpc": {"principal_metadata": ["user", "name"], "groups_metadata": ["user", "groups"]},
    "http": {"principal_metadata": ["x-user"], "groups_metadata": ["x-groups"], "scopes_metadata": ["x-scopes"]},
}


@pytest.mark.parametrize("over", IN_METADATA)
async def test_metadata_names_the_caller_and_anonymous_callers_bring_nothing(tmp_path: Path, over: str) -> None:
    """What is brought and names nobody is not nothing. Other headers of the service's are not for the request. With a
    certificate of an authority that the system does not know."""
    authority = Authority(tmp_path / "certificates")
    async with running(tmp_path, over, IN_METADATA[over], authority=authority, anonymous=True) as stage:
        assert await stage.who(authorization="Basic alice", x_user="bob") == ("alice", "external")
        assert await stage.who(x_user="bob") == (None, None)
        for name in ("nobody", "empty", "x"):
            assert (await stage.tried(authorization=f"Basic {name}")).status == 401, name
        for bad in ("Bearer y", "Negotiate alice"):
            assert (await stage.tried(authorization=bad)).status == 401


async def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    """Its answers are the gateway's own. Other methods go on."""
    external = {"principal_header": "x-user", "http": f"http://127.0.0.1:{free_port()}"}
    async with running(tmp_path, "http", external, oauth=True) as stage:
        answer = await stage.tried(authorization="Basic alice")
        assert (answer.status, answer.error["data"]["reason"]) == (503, "authentication_unavailable")
        assert answer.headers["retry-after"] == "1"
        assert await stage.who(x_api_key=KEY) == ("alice", "api_keys")


async def test_a_refusal_by_another_service_is_a_policys(tmp_path: Path) -> None:
    async def denies(_: web.Request) -> bool:
        return True

    async with http_authorization(denies) as port:
        uri = {"uri": f"http://127.0.0.1:{port}", "cluster": "authz", "timeout": "20s"}
        envoy = {
            "http_filters": [ext_authz(http_service={"server_uri": uri})],
            "clusters": [cluster(port, http2=False)],
        }
        async with running(tmp_path, "http", {"principal_header": "x-user"}, envoy=envoy) as stage:
            answer = await stage.tried(authorization="Basic alice", x_mcp_external="1")
            assert (answer.status, answer.error["data"]["reason"]) == (200, "denied")
