"""Virtual servers behind a real Envoy: each is found by its route, and offers what it is configured to, under its names."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from tests.e2e.test_explain import explain
from tests.support.authorization_server import AuthorizationServer
from tests.support.gateway import Answer, TestGateway
from tests.support.gateway import gateway as start
from tests.support.processes import ROOT
from tests.support.run_command import write
from tests.support.scripted import ScriptedServer, answer, fixed, tool
from tests.support.waiting import PATIENCE
from tests.unit.test_docs import blocks

pytestmark = pytest.mark.asyncio(loop_scope="module")

VIRTUAL: dict[str, Any] = {
    "readonly": {
        "instructions": "Only reading.",
        "servers": {
            "alpha": {"tools": ["look"], "prompts": ["short"], "resources": ["file:///open*"]},
            "beta": {"tools": [{"regex": "^look$"}]},
        },
        "rename": {"tools": {"alpha__look": "see"}, "prompts": {"alpha__short": "brief"}},
    },
    "by-host": {"host": "v.example", "servers": {"beta": "all"}},
    "below": {"hosts": ["*.w.example", "w.example"], "servers": {"alpha": {"tools": ["change"]}}},
    "tenant": {"path": "/mcp", "headers": {"x-tenant": "acme"}, "servers": {"beta": {"tools": ["change"]}}},
    "team/streams": {"servers": {"alpha": {"tools": ["change"]}}},
    "streams": {"servers": {"alpha": {"tools": ["drop"]}}, "origins": ["https://app.example"]},
    "nothing": {"instructions": "Nothing here."},
}

ALL_OF = {
    "alpha": ["alpha__look", "alpha__change", "alpha__drop"],
    "beta": ["beta__look", "beta__change", "beta__drop"],
}

_FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
JUDGED: dict[str, dict[str, Any]] = {
    "one visit": {},
    "policies in front": {"http_filters": [{"name": "p", "typed_config": {"@type": f"{_FILTERS}.rbac.v3.RBAC"}}]},
    "two visits": {
        "http_filters": [
            {
                "name": "p",
                "typed_config": {
                    "@type": f"{_FILTERS}.lua.v3.Lua",
                    "default_source_code": {"inline_string": "function envoy_on_request(handle) end"},
                },
            }
        ]
    },
}


@dataclass
class Stage:
    gateway: TestGateway
    alpha: ScriptedServer
    beta: ScriptedServer
    idps: Mapping[str, AuthorizationServer] = field(default_factory=dict)
    """By the virtual server that takes its tokens."""

    async def ask(
        self, where: Mapping[str, str], method: str, params: Any = None, session: str = "", *, id: str = "1"
    ) -> Answer:
        """``where``: a path, and headers that choose an endpoint."""
        url = self.gateway.url.removesuffix("/mcp") + where.get("path", "/mcp")
        headers = {name: value for name, value in where.items() if name != "path"}
        message = {"jsonrpc": "2.0", "id": id, "method": method, **({} if params is None else {"params": params})}
        return await self.gateway.send(json.dumps(message).encode(), url=url, mcp_session_id=session, **headers)

    async def session(self, where: Mapping[str, str], version: str = "2025-11-25") -> str:
        return (await self.begin(where, version)).headers["mcp-session-id"]

    async def begin(self, where: Mapping[str, str], version: str = "2025-11-25") -> Answer:
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
        begun = await self.ask(where, "initialize", params)
        assert begun.result
        return begun

    async def tools(self, where: Mapping[str, str], session: str) -> list[str]:
        listed = await self.ask(where, "tools/list", session=session)
        return [entry["name"] for entry in listed.result["tools"]]

    async def call(self, where: Mapping[str, str], session: str, name: str) -> Answer:
        return await self.ask(where, "tools/call", {"name": name, "arguments": {}}, session)


MAIN: dict[str, str] = {}
READONLY = {"path": "/mcp/readonly"}
PLACES: dict[str, tuple[dict[str, str], list[str]]] = {
    "the main endpoint": (MAIN, [*ALL_OF["alpha"], *ALL_OF["beta"]]),
    "a path": (READONLY, ["see", "beta__look"]),
    "a host": ({"host": "v.example"}, ALL_OF["beta"]),
    "a host with a port, in capitals": ({"host": "V.Example:8443"}, ALL_OF["beta"]),
    "a host below another": ({"host": "a.b.w.example"}, ["alpha__change"]),
    "a further host": ({"host": "w.example."}, ["alpha__change"]),
    "a header": ({"x-tenant": "acme"}, ["beta__change"]),
    "a name with a namespace": ({"path": "/mcp/team/streams"}, ["alpha__change"]),
    "a name like a part of a route's": ({"path": "/mcp/streams"}, ["alpha__drop"]),
    "nothing at all": ({"path": "/mcp/nothing"}, []),
    "a choice": ({"x-mcp-virtualserver": "readonly"}, ["see", "beta__look"]),
    "a choice with a namespace": ({"x-mcp-virtualserver": "team/streams"}, ["alpha__change"]),
    "a choice with a namespace of its own": ({"x-mcp-virtualserver": "ours/readonly"}, ["see", "beta__look"]),
}
places = pytest.mark.parametrize("place", PLACES)


def _resources(name: str) -> dict[str, Any]:
    async def read(_: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        uri = message["params"]["uri"]
        return answer(message, result={"contents": [{"uri": uri, "text": name}]})

    listed = [{"uri": f"file:///{one}", "name": one} for one in ("open", "closed")]
    return {
        "resources/list": fixed(result={"resources": listed}),
        "resources/templates/list": fixed(result={"resourceTemplates": []}),
        "resources/read": read,
        "resources/subscribe": fixed(result={}),
        "prompts/list": fixed(result={"prompts": [{"name": "short"}, {"name": "long"}]}),
        "prompts/get": fixed(result={"messages": []}),
        "completion/complete": fixed(result={"completion": {"values": ["x"]}}),
    }


TEAMS = {"red": "alpha", "blue": "beta"}
"""Virtual servers with issuers and audiences of their own, by name, and what each offers."""


def _of_team(server: str, idp: AuthorizationServer) -> dict[str, Any]:
    issuer = {"issuer": idp.issuer, "audiences": [idp.audience]}
    return {"servers": {server: "all"}, "authentication": {"oauth": {"issuers": [issuer]}}}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=JUDGED)
async def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    everything = {"tools": {}, "prompts": {}, "resources": {"subscribe": True}, "completions": {}}
    async with (
        AsyncExitStack() as stack,
        ScriptedServer("alpha") as alpha,
        ScriptedServer("beta", begins_in_events=True) as beta,
    ):
        for server in (alpha, beta):
            server.capabilities = everything
            server.pages = [[tool("look"), tool("change"), tool("drop")]]
            server.on |= _resources(server.name)
        idps = {
            name: await stack.enter_async_context(AuthorizationServer(audience=f"https://{name}.example"))
            for name in TEAMS
        }
        folder = tmp_path_factory.mktemp("gateway")
        keys = folder / "keys.yaml"
        keys.write_text("robot: 0123456789abcdef0123456789abcdef\n")
        own = {"api_keys": {"file": str(keys), "from": [{"header": "x-key"}]}}
        async with start(
            folder,
            {"alpha": alpha.url, "beta": beta.url},
            virtual_servers={
                **VIRTUAL,
                "keyed": {"servers": {"alpha": "all"}, "authentication": own},
                **{name: _of_team(TEAMS[name], idp) for name, idp in idps.items()},
            },
            virtual_server_header=True,
            envoy=JUDGED[request.param],
            listen={"allowed_hosts": ["gw.example"]},
        ) as gateway:
            yield Stage(gateway, alpha, beta, idps)


@places
async def test_what_is_offered_is_listed_and_called_and_nothing_else(stage: Stage, place: str) -> None:
    where, offered = PLACES[place]
    session = await stage.session(where)
    assert await stage.tools(where, session) == offered
    for name in {*ALL_OF["alpha"], *ALL_OF["beta"], "see"}:
        called = await stage.call(where, session, name)
        if name in offered:
            [content] = called.result["content"]
            own = "look" if name == "see" else name.partition("__")[2]
            assert json.loads(content["text"])[0] == own
        else:
            assert called.error["message"] == f"Unknown tool: {name}", (name, called.body)


@places
async def test_sessions_are_of_one_endpoint(stage: Stage, place: str) -> None:
    where, _ = PLACES[place]
    session = await stage.session(where)
    others = {name: there for name, (there, offered) in PLACES.items() if offered != PLACES[place][1]}
    for other in [*others.values(), *([] if where is MAIN else [MAIN])]:
        for refused in (
            await stage.ask(other, "tools/list", session=session),
            await stage.gateway.send(
                None, method="GET", accept="text/event-stream", mcp_session_id=session, **_as_headers(other),
                url=stage.gateway.url.removesuffix("/mcp") + other.get("path", "/mcp"),
            ),
        ):  # fmt: skip
            assert (refused.status, refused.error["message"].partition(":")[0]) == (404, "Session not found"), other
    assert (await stage.ask(where, "ping", session=session)).result == {}


def _as_headers(where: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in where.items() if name != "path"}


async def test_the_hidden_is_unknown_byte_for_byte(stage: Stage) -> None:
    session = await stage.session(READONLY)

    async def told(method: str, key: str, name: str, **more: Any) -> tuple[int, bytes, dict[str, str]]:
        got = await stage.ask(READONLY, method, {key: name, **more}, session)
        headers = {name: value for name, value in got.headers.items() if name.lower() not in ("date", "content-length")}
        return got.status, got.body.replace(name.encode(), b"?"), headers

    for method, key, hidden, absent in (
        ("tools/call", "name", "alpha__drop", "alpha__none"),
        ("tools/call", "name", "beta__drop", "beta__none"),
        ("tools/call", "name", "alpha__look", "alpha__none"),
        ("prompts/get", "name", "alpha__long", "alpha__none"),
        ("prompts/get", "name", "alpha__short", "alpha__none"),
        ("prompts/get", "name", "beta__short", "beta__none"),
        ("resources/read", "uri", "alpha+file:///closed", "alpha+file:///none"),
        ("resources/read", "uri", "beta+file:///open", "beta+file:///none"),
        ("resources/subscribe", "uri", "alpha+file:///closed", "alpha+file:///none"),
    ):
        before = len(stage.alpha.calls(method)) + len(stage.beta.calls(method))
        assert await told(method, key, hidden) == await told(method, key, absent), (method, hidden)
        assert len(stage.alpha.calls(method)) + len(stage.beta.calls(method)) == before, (method, hidden)


async def test_prompts_and_resources_of_a_virtual_server(stage: Stage) -> None:
    session = await stage.session(READONLY)
    prompts = await stage.ask(READONLY, "prompts/list", session=session)
    assert [one["name"] for one in prompts.result["prompts"]] == ["brief"]
    assert (await stage.ask(READONLY, "prompts/get", {"name": "brief"}, session)).result == {"messages": []}
    assert stage.alpha.calls("prompts/get")[-1].message["params"]["name"] == "short"
    ref = {"ref": {"type": "ref/prompt", "name": "brief"}, "argument": {"name": "a", "value": ""}}
    assert (await stage.ask(READONLY, "completion/complete", ref, session)).result["completion"] == {"values": ["x"]}
    assert stage.alpha.calls("completion/complete")[-1].message["params"]["ref"]["name"] == "short"
    resources = await stage.ask(READONLY, "resources/list", session=session)
    [uri] = [one["uri"] for one in resources.result["resources"]]
    assert uri == "alpha+file:///open"
    assert (await stage.ask(READONLY, "resources/read", {"uri": uri}, session)).result["contents"][0]["text"] == "alpha"


async def test_a_slash_too_many_leads_to_the_same_endpoint(stage: Stage) -> None:
    for where, _ in PLACES.values():
        slash = {**where, "path": where.get("path", "/mcp") + "/"}
        begun, expected = await stage.begin(slash), await stage.begin(where)
        assert (begun.status, begun.result) == (200, expected.result), where
    assert (await stage.ask({"path": "/mcp/none/"}, "ping")).status == 404


async def test_instructions_and_capabilities_are_its_own(stage: Stage) -> None:
    begun = await stage.begin(READONLY)
    assert begun.result["instructions"] == "Only reading."
    begun = await stage.begin({"host": "w.example"})
    assert begun.result["capabilities"] == {"completions": {}, "tools": {"listChanged": True}}
    begun = await stage.begin({"path": "/mcp/nothing"})
    assert (begun.result["instructions"], begun.result["capabilities"]) == ("Nothing here.", {})


async def test_messages_of_a_batch_stay_where_they_came_in(stage: Stage) -> None:
    for where, _ in PLACES.values():
        session = await stage.session(where, "2025-03-26")
        offered = await stage.tools(where, session)
        messages: list[dict[str, Any]] = [
            {"jsonrpc": "2.0", "id": name, "method": "tools/call", "params": {"name": name, "arguments": {}}}
            for name in ("see", "alpha__change", "beta__change")
        ]
        got = await stage.gateway.send(
            json.dumps(messages).encode(),
            url=stage.gateway.url.removesuffix("/mcp") + where.get("path", "/mcp"),
            mcp_session_id=session,
            **_as_headers(where),
        )
        answers = {one["id"]: "result" in one for one in json.loads(got.body)}
        assert answers == {name: name in offered for name in ("see", "alpha__change", "beta__change")}, where


UNKNOWN = "x-mcp-virtualserver names no virtual server of this gateway."
NOTHING_HERE = "Nothing is served here: the MCP endpoint is /mcp."


async def test_a_choice_that_can_not_be(stage: Stage) -> None:
    for name in ("nobody", "", "a/b/c", "readonly, readonly", "team"):
        refused = await stage.ask({"x-mcp-virtualserver": name or " "}, "tools/list")
        assert (refused.status, refused.error["message"]) == (404, UNKNOWN), name
    refused = await stage.ask({"x-mcp-virtualserver": "keyed"}, "tools/list")
    assert refused.status == 400
    assert "authentication of its own" in refused.error["message"]
    url = stage.gateway.url
    fields = [("x-mcp-virtualserver", "readonly")] * 2 + [("accept", "application/json, text/event-stream")]
    async with stage.gateway.http.post(
        url, json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers=fields
    ) as twice:
        assert twice.status == 400
        assert "more than once" in (await twice.json())["error"]["message"]


async def test_what_no_endpoint_has(stage: Stage) -> None:
    for path in ("/mcp/nobody", "/mcp/READONLY", "/mcp/readonly/streams", "/virtual/readonly"):
        refused = await stage.ask({"path": path}, "tools/list")
        assert (refused.status, refused.error["message"]) == (404, NOTHING_HERE), path


async def test_own_authentication_is_not_left_out(stage: Stage) -> None:
    refused = await stage.ask({"path": "/mcp/keyed"}, "tools/list")
    assert refused.status == 401


@pytest.mark.parametrize(("own", "other"), [("red", "blue"), ("blue", "red")])
async def test_a_token_is_for_one_endpoint(stage: Stage, own: str, other: str) -> None:
    """With what it offers; elsewhere the token and the session are nothing, and clients are told where to get another."""
    idp, bearer = stage.idps[other], {name: f"Bearer {stage.idps[name].token()}" for name in TEAMS}
    here = {"path": f"/mcp/{own}", "authorization": bearer[own]}
    there = {"path": f"/mcp/{other}"}
    session = await stage.session(here)
    assert await stage.tools(here, session) == ALL_OF[TEAMS[own]]
    stranger = f"Bearer {stage.idps[own].token(aud=idp.audience)}"
    for wrong in ({}, {"authorization": bearer[own]}, {"authorization": stranger}):
        for refused in (
            await stage.ask({**there, **wrong}, "ping"),
            await stage.ask({**there, **wrong}, "tools/list", session=session),
        ):
            assert refused.status == 401
            [where] = re.findall(r'resource_metadata="([^"]*)"', refused.headers["www-authenticate"])
            assert (
                where == stage.gateway.url.removesuffix("/mcp") + f"/.well-known/oauth-protected-resource/mcp/{other}"
            )
    document = (await stage.gateway.send(None, method="GET", url=where)).json
    assert document["authorization_servers"] == [idp.issuer]
    for elsewhere in ({**there, "authorization": bearer[other]}, MAIN):
        refused = await stage.ask(elsewhere, "tools/list", session=session)
        assert (refused.status, refused.error["message"].partition(":")[0]) == (404, "Session not found")
    assert await stage.tools(here, session) == ALL_OF[TEAMS[own]], "it is still there"


async def test_other_hosts_are_refused_as_ever(stage: Stage) -> None:
    for where in ({"host": "evil.example"}, {"host": "evil.example", "path": "/mcp/readonly"}):
        assert (await stage.ask(where, "ping")).status == 403
    assert (await stage.ask({"host": "gw.example", "path": "/mcp/readonly"}, "ping")).status == 400


async def test_pages_of_its_own(stage: Stage) -> None:
    """Both Envoy, which answers what browsers ask beforehand, and the worker go by the endpoint."""
    asked = {"access-control-request-method": "POST"}
    for path, allowed in (("/mcp", "http://localhost:3000"), ("/mcp/streams", "https://app.example")):
        url = stage.gateway.url.removesuffix("/mcp") + path
        for origin in ("http://localhost:3000", "https://app.example"):
            preflight = await stage.gateway.send(None, method="OPTIONS", url=url, origin=origin, **asked)
            called = await stage.ask({"path": path, "origin": origin}, "ping")
            readable = [answer.headers.get("access-control-allow-origin") for answer in (preflight, called)]
            assert readable == ([origin] * 2 if origin == allowed else [None] * 2), path
            assert called.status == (400 if origin == allowed else 403), "a session is missing, at most"


async def test_the_access_log_names_it(stage: Stage) -> None:
    for where, endpoint, name in ((READONLY, "readonly", "see"), (MAIN, None, "alpha__look")):
        session = await stage.session(where)
        await stage.ask(where, "tools/call", {"name": name, "arguments": {}}, session, id=f"used {endpoint}")
        entry = await stage.gateway.logged(jsonrpc_request_id=f'"used {endpoint}"')
        assert (entry.get("mcp.endpoint"), entry["mcp.server"], entry["gen_ai.tool.name"]) == (
            endpoint,
            "alpha",
            "look",
        )
        await stage.ask(where, "tools/list", id=f"refused {endpoint}")
        entry = await stage.gateway.logged(jsonrpc_request_id=f'"refused {endpoint}"')
        assert (entry.get("mcp.endpoint"), entry["error.type"]) == (endpoint, "session_missing")


# -- The documentation ------------------------------------------------------------------------------------------------------


async def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    """docs/virtual-servers.md, with servers like those in it."""
    [example] = [block for block in blocks("yaml gateway") if block.document.name == "virtual-servers.md"]
    text = example.text
    github = ScriptedServer("github", pages=[[tool("issue_read"), tool("issue_write"), tool("search_code")]])
    dates = ScriptedServer("dates", pages=[[tool("today"), tool("delete_all")]])
    async with github, dates:
        for url, server in (("http://localhost:3001/mcp", github), ("http://localhost:3002/mcp", dates)):
            assert url in text
            text = text.replace(url, server.url)
        document = yaml.safe_load(text)
        async with start(tmp_path, document.pop("servers"), **document) as gateway:
            stage = Stage(gateway, github, dates)
            calendar = {"host": "calendar.example.com"}
            for where, offered in (
                (READONLY, ["read_issue", "github__search_code", "dates__today", "dates__delete_all"]),
                (calendar, ["dates__today"]),
            ):
                session = await stage.session(where)
                assert await stage.tools(where, session) == offered
            assert (await stage.begin(READONLY)).result["instructions"] == "Only reading."


async def test_what_check_and_explain_say(tmp_path: Path) -> None:
    async with ScriptedServer("alpha", pages=[[tool("look"), tool("change")]]) as alpha:
        virtual = {
            "reading": {"servers": {"alpha": {"tools": ["look", "lock"]}}, "rename": {"tools": {"alpha__look": "see"}}},
            "tenant": {"host": "v.example", "headers": {"x-tenant": "acme"}, "servers": {"alpha": "all"}},
        }
        document = {"servers": {"alpha": {"url": alpha.url}}, "virtual_servers": virtual, "log": {"access": ""}}
        file = write(tmp_path, document, "gateway.yaml")
        code, out = await explain(file, "--endpoint", "reading")
        assert code == 0
        assert [line.strip().split(maxsplit=4) for line in out.splitlines()][1:] == [
            ["alpha", "tools", "see", "allowed", "default"],
            ["alpha", "tools", "alpha__change", "hidden", "not offered"],
        ]
        assert await explain(file, "--endpoint", "nobody") == (2, "")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mcp_extproc", "check", str(file),
            cwd=ROOT, env={**os.environ, "COLUMNS": "160"}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            printed = (await process.communicate())[0].decode()
        assert process.returncode == 1
        lines = [line.split() for line in printed.splitlines()]
        assert ["reading", "1", "0", "http://localhost:1975/mcp/reading"] in lines
        assert ["tenant", "2", "0", "http://v.example:1975/mcp", "with", "x-tenant:", "acme"] in lines
        assert "selector_matches_nothing" in printed
        assert "virtual_servers.reading.servers.alpha.tools[1] 'lock' matches none of its tools" in printed
