"""Rules behind a real Envoy: who calls is what it proved, and what rules refuse reaches clients as it was meant."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.authorization_server import AuthorizationServer
from tests.support.gateway import Answer, TestGateway
from tests.support.gateway import gateway as start
from tests.support.processes import free_port
from tests.support.scripted import ScriptedServer, tool

pytestmark = pytest.mark.asyncio(loop_scope="module")

RULES: list[dict[str, Any]] = [
    {"action": "deny", "tools": ["delete_*"], "resources": ["*secret"]},
    {"action": "allow", "principals": {"scopes": ["write"]}},
    {"action": "allow", "principals": {"scopes": ["read"]}, "annotations": {"readOnlyHint": True}},
    {"action": "allow", "resources": ["file:open*"]},
    {
        "action": "allow",
        "tools": ["report"],
        "when": "request.mcp.params.arguments.tenant == request.auth.jwt.claims.tenant",
    },
]


@dataclass
class Stage:
    idp: AuthorizationServer
    gateway: TestGateway
    server: ScriptedServer

    async def session(self, version: str = "2025-11-25") -> str:
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
        answer = await self.gateway.rpc("initialize", params, authorization=self.bearer())
        assert answer.result
        return answer.headers["mcp-session-id"]

    def bearer(self, scope: str = "", **claims: Any) -> str:
        return f"Bearer {self.idp.token(scope=scope, **claims)}"

    async def ask(self, session: str, bearer: str, method: str, params: Any = None) -> Answer:
        return await self.gateway.rpc(method, params, mcp_session_id=session, authorization=bearer)

    async def shown(self, session: str, bearer: str) -> list[str]:
        answer = await self.ask(session, bearer, "tools/list")
        return [entry["name"] for entry in answer.result["tools"]]

    async def call(self, session: str, bearer: str, name: str, arguments: Any = None) -> Answer:
        return await self.ask(session, bearer, "tools/call", {"name": name, "arguments": arguments or {}})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    port = free_port()
    resource = f"http://localhost:{port}/mcp"
    async with AuthorizationServer(audience=resource) as idp, ScriptedServer("alpha") as alpha:
        alpha.capabilities = {"tools": {}, "resources": {}}
        alpha.pages = [
            [
                {**tool("look"), "annotations": {"readOnlyHint": True}},
                tool("change"),
                tool("delete_all"),
                tool("report"),
            ]
        ]
        oauth = {
            "resource": resource,
            "scopes_supported": ["read", "write"],
            "challenge_scopes": ["read"],
            "issuers": [{"issuer": idp.issuer, "jwks": {"uri": f"{idp.issuer}/jwks", "refresh": 1}}],
        }
        async with start(
            tmp_path_factory.mktemp("gateway"),
            {"alpha": {"url": f"http://127.0.0.1:{alpha.port}/mcp"}},
            listen={"port": port},
            authentication={"oauth": oauth, "public_url": f"http://localhost:{port}"},
            authorization={"step_up": True, "rules": RULES},
        ) as gateway:
            yield Stage(idp, gateway, alpha)


async def test_lists_and_calls_agree_for_each_token_of_a_session(stage: Stage) -> None:
    session = await stage.session()
    for scope, usable in (
        ("read", {"look"}),
        ("read write", {"look", "change", "report"}),
        ("write", {"look", "change", "report"}),
    ):
        bearer = stage.bearer(scope)
        shown = await stage.shown(session, bearer)
        assert shown == ["alpha__look", "alpha__change", "alpha__report"]
        for name in ("look", "change", "delete_all", "report"):
            before = len(stage.server.calls("tools/call"))
            answer = await stage.call(session, bearer, f"alpha__{name}")
            is_allowed = "result" in answer.json
            assert is_allowed is (name in usable), (scope, name, answer.body)
            assert len(stage.server.calls("tools/call")) - before == is_allowed


def _told(answer: Answer, name: str) -> tuple[int, bytes, Mapping[str, str]]:
    """All of an answer that does not differ between any two."""
    headers = {key: value for key, value in answer.headers.items() if key.lower() not in ("date", "content-length")}
    return answer.status, answer.body.replace(name.encode(), b"?"), headers


async def test_the_hidden_is_unknown_on_the_wire(stage: Stage) -> None:
    session, bearer = await stage.session(), stage.bearer("read write")
    before = len(stage.server.calls("tools/call"))
    hidden = _told(await stage.call(session, bearer, "alpha__delete_all"), "alpha__delete_all")
    absent = _told(await stage.call(session, bearer, "alpha__nothing_of_it"), "alpha__nothing_of_it")
    assert hidden == absent
    assert len(stage.server.calls("tools/call")) == before


@pytest.mark.parametrize("status", [200, 404])
async def test_a_hidden_uri_is_as_unknown_as_one_that_its_server_does_not_have(stage: Stage, status: int) -> None:
    async def not_there(_: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        error = {"code": -32002, "message": "there is no open-nothing", "data": {"uri": message["params"]["uri"]}}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "error": error}, status=status)

    session, bearer = await stage.session(), stage.bearer()
    stage.server.on["resources/read"] = not_there
    told = [
        await stage.ask(session, bearer, "resources/read", {"uri": f"file:{path}"}) for path in ("secret", "open-no")
    ]
    assert b"file:open-no" in stage.server.calls("resources/read")[-1].body
    assert (told[0].status, told[0].body) == (told[1].status, told[1].body)
    assert told[0].error["code"] == -32002


async def test_scopes_that_are_missing_reach_the_client(stage: Stage) -> None:
    """Who is nobody yet is asked for those that it begins with."""
    refused = await stage.gateway.rpc("initialize", {})
    assert 'Bearer scope="read", resource_metadata=' in refused.headers["www-authenticate"]
    session = await stage.session()
    answer = await stage.call(session, stage.bearer("read"), "alpha__change")
    where = stage.gateway.url.removesuffix("/mcp") + "/.well-known/oauth-protected-resource/mcp"
    assert (answer.status, answer.headers["www-authenticate"]) == (
        403, f'Bearer error="insufficient_scope", scope="read write", resource_metadata="{where}"',
    )  # fmt: skip
    assert answer.json["id"] == 1
    assert answer.error["data"] == {"reason": "insufficient_scope", "scope": "write"}
    metadata = await stage.gateway.send(None, method="GET", url=where)
    assert metadata.json["scopes_supported"] == ["read", "write"]


async def test_messages_of_a_batch_are_judged_one_by_one(stage: Stage) -> None:
    session = await stage.session("2025-03-26")
    names = ("look", "change", "delete_all")
    messages = [
        {"jsonrpc": "2.0", "id": name, "method": "tools/call", "params": {"name": f"alpha__{name}", "arguments": {}}}
        for name in names
    ]
    answer = await stage.gateway.send(
        json.dumps(messages).encode(), mcp_session_id=session, authorization=stage.bearer("read")
    )
    look, change, delete = json.loads(answer.body)
    assert "result" in look
    assert (change["id"], change["error"]["data"]["scope"]) == ("change", "write")
    assert delete["error"]["message"] == "Unknown tool: alpha__delete_all"


async def test_arguments_are_compared_with_claims(stage: Stage) -> None:
    session, bearer = await stage.session(), stage.bearer("none", tenant="acme")
    assert "alpha__report" in await stage.shown(session, bearer)
    assert (await stage.call(session, bearer, "alpha__report", {"tenant": "acme"})).result
    for arguments in ({"tenant": "evil"}, {}, {"tenant": ["acme"]}):
        refused = await stage.call(session, bearer, "alpha__report", arguments)
        assert "result" not in refused.json, refused.body
    doubled = (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"alpha__report",'
        b'"arguments":{"tenant":"evil","tenant":"acme"}}}'
    )
    answer = await stage.gateway.send(doubled, mcp_session_id=session, authorization=bearer)
    assert "result" not in answer.json
