"""API keys, alone and beside access tokens: what is brought and wrong is refused, whatever else is good."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from yarl import URL

from tests.e2e.conftest import StartGateway
from tests.support.authorization_server import AuthorizationServer
from tests.support.gateway import Answer, TestGateway, access_log_entry
from tests.support.gateway import gateway as start
from tests.support.scripted import ScriptedServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
ALICE, BOB, ADA = "alice-" + "a" * 20, "bob-" + "b" * 20, "ada.~+/=-" + "c" * 20
KEYS = {"alice": ALICE, "bob": [BOB, "bob-" + "d" * 20], "Ada Lovelace, 1st": ADA}
SOURCES = [{"header": "X-API-Key"}, {"query": "key"}, {"cookie": "mcp.key"}]


def write(file: Path, text: str) -> None:
    """In its place at once."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


@dataclass
class Stage:
    idp: AuthorizationServer
    gateway: TestGateway
    server: ScriptedServer
    file: Path

    async def tried(self, query: str = "", **headers: str) -> Answer:
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
        return await self.gateway.send(json.dumps(message).encode(), url=self.gateway.url + query, **headers)

    async def who(self, query: str = "", **headers: str) -> tuple[str, str]:
        """Whose request it is, by the access log."""
        agent = f"agent-{os.urandom(8).hex()}"
        answer = await self.tried(query, user_agent=agent, **headers)
        assert answer.status == 200, answer.body
        entry = await access_log_entry(self.gateway.access_log, {"user_agent": agent})
        return entry.get("enduser.id", ""), entry.get("mcp.principal.issuer", "")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("gateway")
    file = folder / "keys.yaml"
    write(file, json.dumps(KEYS))
    async with AuthorizationServer() as idp, ScriptedServer("alpha") as alpha:
        authentication = {
            "api_keys": {"file": str(file), "from": SOURCES},
            "oauth": {
                "issuers": [{"issuer": idp.issuer, "audiences": [idp.audience], "jwks": {"uri": f"{idp.issuer}/jwks"}}]
            },
        }
        servers = {"alpha": {"url": f"http://127.0.0.1:{alpha.port}/mcp", "prefix": ""}}
        async with start(folder, servers, authentication=authentication) as gateway:
            yield Stage(idp, gateway, alpha, file)


GOOD: dict[str, tuple[str, Mapping[str, str], str]] = {
    "header": ("", {"x_api_key": ALICE}, "alice"),
    "second key": ("", {"x_api_key": KEYS["bob"][1]}, "bob"),
    "name with blanks": ("", {"x_api_key": ADA}, "Ada Lovelace, 1st"),
    "query": (f"?a=b&key={ALICE}", {}, "alice"),
    "query, its name encoded": (f"?%6bey={ALICE}", {}, "alice"),
    "cookie": ("", {"cookie": f"a=b; mcp.key={ALICE}; c=d"}, "alice"),
    "header before query": (f"?key={ALICE}", {"x_api_key": BOB}, "bob"),
    "what a client says of itself": ("", {"x_api_key": BOB, "x_mcp_api_key_name": "alice"}, "bob"),
}


@pytest.mark.parametrize("good", GOOD)
async def test_a_good_key_passes(stage: Stage, good: str) -> None:
    query, headers, name = GOOD[good]
    assert await stage.who(query, **headers) == (name, "api_keys")


async def test_who_brings_nothing_is_told_where_a_key_goes(stage: Stage) -> None:
    told = (await stage.tried()).error["message"]
    assert told.endswith(", or an API key in x-api-key or the parameter key or the cookie mcp.key."), told


async def test_a_slash_too_many_leads_to_the_endpoint(stage: Stage) -> None:
    """With method, body and query, and past no filter: what is not good there is refused there."""
    assert (await stage.tried(f"/?a=b%26c&key={ALICE}")).result
    assert (await stage.tried("/", x_api_key=BOB)).result
    assert (await stage.tried("/?key=" + "x" * 20)).status == 401
    assert (await stage.tried("/")).status == 401
    url = URL(f"{stage.gateway.url}/?a=%2F&b", encoded=True)
    async with stage.gateway.http.post(url, json={}, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["location"], await answer.read()) == (307, "../mcp?a=%2F&b", b"")


async def test_a_page_is_sent_on_too(stage: Stage) -> None:
    asked = {"origin": "https://any.example", "access-control-request-method": "POST",
             "access-control-request-headers": "authorization,mcp-session-id"}  # fmt: skip
    async with stage.gateway.http.options(f"{stage.gateway.url}/", headers=asked) as answer:
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, "*")
        assert answer.headers["access-control-allow-methods"] == "POST"
        assert answer.headers["access-control-allow-headers"] == asked["access-control-request-headers"]


BAD: dict[str, tuple[str, Mapping[str, str]]] = {
    "unknown": ("", {"x_api_key": "x" * 20}),
    "empty": ("", {"x_api_key": " "}),
    "part": ("", {"x_api_key": ALICE[:-1]}),
    "longer": ("", {"x_api_key": ALICE + "a"}),
    "upper case": ("", {"x_api_key": ALICE.upper()}),
    "the name": ("", {"x_api_key": "alice"}),
    "unknown in the query": ("?key=" + "x" * 20, {}),
    "empty in the query": ("?key=", {}),
    "unknown cookie": ("", {"cookie": "mcp.key=" + "x" * 20}),
    "wrong header, good query": (f"?key={ALICE}", {"x_api_key": "x" * 20}),
    "as a token": ("", {"authorization": f"Bearer {ALICE}"}),
    "basic": ("", {"authorization": "Basic YWxpY2U6eA=="}),
    "good key, other Authorization": ("", {"x_api_key": ALICE, "authorization": "Basic YWxpY2U6eA=="}),
    "good key, bad token": ("", {"x_api_key": ALICE, "authorization": "Bearer x"}),
    "only names": ("", {"x_mcp_api_key_name": "alice"}),
    "nothing": ("", {}),
}


@pytest.mark.parametrize("bad", BAD)
async def test_whatever_is_wrong_is_refused(stage: Stage, bad: str) -> None:
    query, headers = BAD[bad]
    received = len(stage.server.received)
    answer = await stage.tried(query, **headers)
    assert answer.status == 401, answer.body
    assert "resource_metadata=" in answer.headers["www-authenticate"]
    assert answer.error["data"]["reason"] in ("authentication_required", "invalid_api_key", "invalid_token")
    assert len(stage.server.received) == received


@pytest.mark.parametrize("header", ["x-api-key", "x-mcp-api-key"])
async def test_a_key_counts_in_one_header_only(stage: Stage, header: str) -> None:
    """As a token does. Another reader may take the last one."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
    for values in ((ALICE, BOB), (ALICE, ALICE), (ALICE, "x" * 20), ("x" * 20, ALICE)):
        headers = [(header, value) for value in values] + [("accept", "application/json, text/event-stream")]
        async with stage.gateway.http.post(stage.gateway.url, json=message, headers=headers) as answer:
            assert answer.status == 401
            assert "error" in await answer.json()


@pytest.mark.parametrize("key", [ALICE, ""])
async def test_a_token_beside(stage: Stage, key: str) -> None:
    """A key counts before a token. Each has its sessions: alice by key is not alice by token."""
    brought = {"x_api_key": key} if key else {}
    good, bad = f"Bearer {stage.idp.token()}", f"Bearer {stage.idp.token(aud='other')}"
    assert (await stage.tried(authorization=bad, **brought)).status == 401
    assert (await stage.tried(authorization=good, x_api_key="x" * 20)).status == 401
    issuer = "api_keys" if key else stage.idp.issuer
    assert await stage.who(authorization=good, **brought) == ("alice", issuer)
    session = (await stage.tried(authorization=good, **brought)).headers["mcp-session-id"]

    async def listed(**headers: str) -> int:
        return (await stage.gateway.rpc("tools/list", mcp_session_id=session, **headers)).status

    by_token, by_key = {"authorization": good}, {"x_api_key": ALICE}
    mine, others = (by_key, by_token) if key else (by_token, by_key)
    assert await listed(**mine) == 200
    assert await listed(**others) == 404


async def test_each_message_of_a_batch_is_authenticated(stage: Stage) -> None:
    pings = json.dumps([{"jsonrpc": "2.0", "id": id, "method": "ping"} for id in (1, 2)]).encode()
    for query, headers in (
        ("", {"x_api_key": ALICE}), (f"?key={ALICE}", {}), ("", {"cookie": f"mcp.key={ALICE}"}),
    ):  # fmt: skip
        opened = await stage.gateway.rpc(
            "initialize", {**INITIALIZE, "protocolVersion": "2025-03-26"}, url=stage.gateway.url + query, **headers
        )
        session = opened.headers["mcp-session-id"]
        answer = await stage.gateway.send(pings, url=stage.gateway.url + query, mcp_session_id=session, **headers)
        assert json.loads(answer.body) == [{"jsonrpc": "2.0", "id": id, "result": {}} for id in (1, 2)]


async def test_no_server_and_no_log_has_a_key(stage: Stage) -> None:
    """Also of refused requests; nor Envoy's configuration dump."""
    refused = "refused-" + "y" * 20
    for key in (ALICE, refused):
        for query, headers in (
            ("", {"x_api_key": key}), (f"?key={key}", {}), ("", {"cookie": f"mcp.key={key}"}),
        ):  # fmt: skip
            opened = await stage.tried(query, **headers)
            session = opened.headers.get("mcp-session-id", "none")
            await stage.gateway.rpc(
                "tools/call", {"name": "echo"}, url=stage.gateway.url + query, mcp_session_id=session, **headers
            )
    assert stage.server.calls("tools/call")
    assert not any(key in repr(request) for request in stage.server.received for key in (ALICE, BOB, refused))
    await stage.tried(user_agent="last")
    await access_log_entry(stage.gateway.access_log, {"user_agent": "last"})
    for log in stage.gateway.access_log.parent.glob("*.log"):
        text = log.read_text()
        assert not any(key in text for key in (ALICE, BOB, refused)), log
    dump = await stage.gateway.local.admin("GET", "/config_dump?include_eds") or ""
    assert "mcp_api_key_auth" in dump
    assert ALICE not in dump


async def test_keys_change_without_a_restart(stage: Stage) -> None:
    """New ones are taken, withdrawn ones refused, by the workers and on the connections that there are. What can't be used
    changes nothing."""
    workers = stage.gateway.workers
    eve = "eve-" + "e" * 20

    async def status(key: str) -> int:
        return (await stage.tried(x_api_key=key)).status

    for broken in (
        "",
        "alice",
        '{"alice": "short"}',
        json.dumps({"a": eve, "b": eve}),
        "alice: [",
        '{"": "' + eve + '"}',
    ):
        stage.file.with_name("broken.yaml").write_text(broken)
        write(stage.file, broken)
        write(stage.file, broken)
    assert (await status(ALICE), await status(eve)) == (200, 401)
    write(stage.file, json.dumps({"eve": eve, "bob": BOB}))
    await eventually(lambda: status(eve), "the new key is known", until=lambda found: found == 200)
    assert (await status(ALICE), await status(BOB)) == (401, 200)
    write(stage.file, "{}")
    await eventually(lambda: status(eve), "nobody has a key", until=lambda found: found == 401)
    assert (await stage.tried(authorization=f"Bearer {stage.idp.token()}")).status == 200
    write(stage.file, json.dumps(KEYS))
    await eventually(lambda: status(ALICE), "the keys are back", until=lambda found: found == 200)
    assert stage.gateway.workers == workers


async def test_keys_alone(start_own: StartGateway, tmp_path: Path) -> None:
    """One filter does all of it. There is no authorization server, and clients are sent to none."""
    file = tmp_path / "keys.yaml"
    write(file, json.dumps(KEYS))
    async with ScriptedServer("alpha") as alpha:
        authentication = {"api_keys": {"file": str(file), "from": [{"header": "Authorization"}]}}
        async with start_own({"alpha": alpha.url}, authentication=authentication) as gateway:
            for headers, reason in (
                ({}, "authentication_required"),
                ({"authorization": f"Basic {ALICE}"}, "invalid_api_key"),
                ({"authorization": "Bearer " + "x" * 20}, "invalid_api_key"),
                ({"x_mcp_api_key_name": "alice"}, "authentication_required"),
            ):
                refused = await gateway.rpc("initialize", INITIALIZE, **headers)
                assert (refused.status, refused.error["data"]["reason"]) == (401, reason)
                assert refused.headers["www-authenticate"] == "ApiKey"
            opened = await gateway.rpc("initialize", INITIALIZE, authorization=f"Bearer {ALICE}")
            assert opened.status == 200
            url = gateway.url.replace("/mcp", "/.well-known/oauth-protected-resource")
            assert (await gateway.send(None, method="GET", url=url)).status == 404


async def test_anonymous_beside_keys(start_own: StartGateway, tmp_path: Path) -> None:
    """Who brings nothing may call. What is brought is looked at, and what nobody looks at is refused."""
    file = tmp_path / "keys.yaml"
    write(file, json.dumps(KEYS))
    async with ScriptedServer("alpha") as alpha:
        authentication = {"anonymous": True, "api_keys": {"file": str(file), "from": SOURCES}}
        async with start_own({"alpha": alpha.url}, authentication=authentication) as gateway:
            for query, headers, status in (
                ("", {}, 200),
                ("", {"x_api_key": ALICE}, 200),
                ("", {"x_api_key": ALICE, "authorization": "Bearer x"}, 200),
                ("", {"x_api_key": "x" * 20}, 401),
                ("", {"x_api_key": " "}, 401),
                ("?key=", {}, 401),
                ("", {"cookie": "mcp.key="}, 401),
                ("", {"authorization": "Bearer x"}, 401),
                ("", {"authorization": "Basic x"}, 401),
            ):
                answer = await gateway.rpc("initialize", INITIALIZE, url=gateway.url + query, **headers)
                assert answer.status == status, (query, headers)
            spoofed = await gateway.rpc("initialize", INITIALIZE, x_mcp_api_key_name="alice", user_agent="spoofed")
            assert spoofed.status == 200
            assert "enduser.id" not in await access_log_entry(gateway.access_log, {"user_agent": "spoofed"})
