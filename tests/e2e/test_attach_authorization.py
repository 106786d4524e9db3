"""The table of rules on a listener that others own, and on the gateway's: lists, uses and batches, behind a real Envoy."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from mcp_extproc.gateway.principal import ANONYMOUS, Principal
from mcp_extproc.mcp import methods
from tests.e2e.test_attach_authentication import PORT, theirs
from tests.support import own_envoy
from tests.support.authorization_server import AuthorizationServer
from tests.support.gateway import Answer
from tests.support.gateway import gateway as start
from tests.support.own_envoy import Browser
from tests.support.scripted import ScriptedServer, fixed
from tests.unit.gateway.requests.test_permission import HAS, LISTS, TABLE, TABLE_RULES, USES

pytestmark = pytest.mark.asyncio(loop_scope="module")

_FIELDS = {"content_type": "application/json", "accept": "application/json, text/event-stream"}
_RESULTS: Mapping[str, dict[str, Any]] = {
    "tools/call": {"content": []},
    "prompts/get": {"messages": []},
    "resources/read": {"contents": []},
    "completion/complete": {"completion": {"values": []}},
}
TABLE_USES = [use for use in USES if use[1] in methods.USED_BY.values() or use[0] == "resources/templates/list"]
"""In the order of the table."""


@dataclass
class Stage:
    idp: AuthorizationServer
    client: Browser

    def headers(self, who: Principal) -> dict[str, str]:
        if who == ANONYMOUS:
            return dict(_FIELDS)
        claims = {**who.claims, "scope": " ".join(sorted(who.scopes)), "groups": sorted(who.groups)}
        return {**_FIELDS, "authorization": f"Bearer {self.idp.token(**claims)}"}

    async def session(self, version: str, **headers: str) -> str:
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
        answer = await self.ask(_message("initialize", params), **headers)
        return answer.headers["mcp-session-id"]

    async def ask(self, message: Any, **headers: str) -> Answer:
        return await self.client.send("/mcp", method="POST", body=json.dumps(message).encode(), **headers)


def _message(method: str, params: Any, id: str = "1") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def _open_listener() -> dict[str, Any]:
    """Theirs, without what they ask of callers."""
    listener: dict[str, Any] = copy.deepcopy(theirs())
    for one in listener["static_resources"]["listeners"]:
        manager = one["filter_chains"][0]["filters"][0]["typed_config"]
        manager["http_filters"] = [item for item in manager["http_filters"] if item["name"] != "their.jwt"]
    return listener


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["own", "attached"])
async def stage(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("gateway")
    async with AsyncExitStack() as stack:
        idp = await stack.enter_async_context(AuthorizationServer(subject="alice"))
        servers = {name: await stack.enter_async_context(ScriptedServer(name)) for name in "ab"}
        for server in servers.values():
            server.capabilities = {"tools": {}, "prompts": {}, "resources": {}, "completions": {}}
            for method, (items, _) in LISTS.items():
                server.on[method] = fixed(result={items: HAS[method]})
            for method, result in _RESULTS.items():
                server.on[method] = fixed(result=result)
        issuer = {"issuer": idp.issuer, "audiences": [idp.audience], "jwks": {"inline": json.dumps(idp.jwks())}}
        sections: dict[str, Any] = {
            "authentication": {"anonymous": True, "oauth": {"issuers": [issuer]}},
            "authorization": {"step_up": True, "rules": TABLE_RULES},
        }
        urls = {name: server.url for name, server in servers.items()}
        if request.param == "own":
            gateway = await stack.enter_async_context(start(folder, urls, **sections))
            port = int(gateway.url.rpartition(":")[2].partition("/")[0])
        else:
            place = await stack.enter_async_context(own_envoy.place(folder, PORT))
            document = {
                "servers": {name: {"url": url} for name, url in urls.items()},
                "log": {"access": ""},
                **sections,
            }
            file = folder / "gateway.yaml"
            file.write_text(json.dumps(document))
            out, _ = await own_envoy.printed(
                place, "envoy", "attach", "--config", str(file), "-", stdin=json.dumps(_open_listener())
            )
            await stack.enter_async_context(own_envoy.worker(place, json.dumps(document)))
            port = place.port(PORT)
            await stack.enter_async_context(own_envoy.envoy(place, place.moved(out), port))
        client = await stack.enter_async_context(own_envoy.browser(port, host="localhost"))
        yield Stage(idp, client)


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25"])
async def test_the_table_of_verdicts(stage: Stage, version: str) -> None:
    for who, *rows in TABLE:
        headers = stage.headers(who)
        headers |= {"mcp_session_id": await stage.session(version, **headers)}
        for server, row in zip("ab", rows, strict=True):
            for (method, use, params), expected in zip(TABLE_USES, row.split("  "), strict=True):
                items, known_by = LISTS[method]
                join = "__" if known_by == "name" else "+"
                names = [f"{server}{join}{entry[known_by]}" for entry in HAS[method]]
                about = (who, server, use)
                listed = (await stage.ask(_message(method, {}), **headers)).json["result"][items]
                shown = {entry[known_by] for entry in listed}
                assert "".join("+" if name in shown else "-" for name in names) == re.sub("[ys]", "+", expected), about
                messages = [_message(use, params(name), name) for name in names]
                assert "".join([_letter((await stage.ask(one, **headers)).json) for one in messages]) == expected, about
                if version == "2025-03-26":
                    batch = await stage.ask(messages, **headers)
                    assert "".join(map(_letter, json.loads(batch.body))) == expected, about


def _letter(answer: Mapping[str, Any]) -> str:
    if "result" in answer:
        return "y"
    return "s" if answer["error"].get("data", {}).get("reason") == "insufficient_scope" else "-"
