"""A DENY on any documented fact denies, in each layout: with the filter put in by hand, and with one that is configured."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from mcp_extproc.contract import METADATA_KEY
from tests.e2e.conftest import StartGateway
from tests.support import own_envoy
from tests.support.documented import METADATA_KEYS
from tests.support.gateway import Answer
from tests.support.own_envoy import Browser, Place
from tests.support.scripted import ScriptedServer
from tests.support.waiting import PATIENCE

PORT = 1975

CALLS = {
    "method", "id", "id_json", "params.name", "server", "tool", "session", "protocol_version", "client", "principal", "issuer",
}  # fmt: skip
"""What a policy behind the gateway knows of a call of a tool."""

PROMPTS = {"prompt"}
READS = {"params.uri"}

JUDGED = {"shown", "jsonrpc", "is_mcp_request", "status"}
"""What it knows besides where it judges requests before they are processed."""

EARLY = {"early"}
"""And where one pass does for a call. Fragments have two."""

AT_VIRTUAL_SERVERS = {"endpoint"}
"""And of a call that comes in at one."""

OF_STREAMS = {"resumes"}
"""And of a GET, where it judges requests before they are processed."""

NO_REQUEST = {
    # Of answers of the gateway's, which no filter behind it sees, and of servers' answers.
    "answered", "batch", "error_code", "error_reason", "flags", "session_error", "unavailable",
    # On the private listener, and once policies have judged.
    "repair", "forwarded",
    # What became of the question whether the user consents, most of it once policies have judged.
    "consent",
    # With pass-through alone, whose filter is another one and always writes all.
    "passthrough_reason", "is_exceeding_limit", "http_method",
    # Where there is an access log, for its format alone.
    "ordinary",
}  # fmt: skip
"""What no policy can judge a request by."""

RBAC = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}
PRINCIPALS = {
    "name": "principals",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
        "metadata": [{"metadata_namespace": "theirs", "value": {"user": "alice"}}],
    },
}
"""Stands for a filter that authenticates."""

CONFIG = {
    "listen": {"port": PORT},
    "log": {"access": ""},
    "authentication": {"existing": {"subject": ["theirs", "user"], "issuer": ["theirs", "user"]}},
}


def test_each_documented_key_has_its_place_here() -> None:
    places = [CALLS, PROMPTS, READS, JUDGED, EARLY, AT_VIRTUAL_SERVERS, OF_STREAMS, NO_REQUEST]
    assert set().union(*places) == METADATA_KEYS
    assert sum(map(len, places)) == len(METADATA_KEYS)


def denying(*keys: str) -> dict[str, Any]:
    """Denies requests by one fact, whatever it is: the one that they ask for by name."""
    policies = {
        key: {
            "principals": [{"any": True}],
            "permissions": [{"and_rules": {"rules": [
                {"header": {"name": "mcp-name", "string_match": {"safe_regex": {"regex": f"(file:///)?{re.escape(key)}"}}}},
                {"metadata": {
                    "filter": "mcp_proxy",
                    "path": [{"key": part} for part in key.split(".")],
                    "value": {"present_match": True},
                }},
            ]}}],
        }
        for key in keys
    }  # fmt: skip
    return {"name": "rbac", "typed_config": {"@type": RBAC, "rules": {"action": "DENY", "policies": policies}}}


def about(key: str) -> tuple[str, dict[str, Any]]:
    """A request that has this fact, and asks for what is called so."""
    if key in PROMPTS:
        return "prompts/get", {"name": f"alpha__{key}"}
    if key in READS:
        return "resources/read", {"uri": f"file:///{key}"}
    return "tools/call", {"name": f"alpha__{key}", "arguments": {}}


async def assert_denied(ask: Callable[[str, Any], Awaitable[Answer]], *keys: str) -> None:
    """Each of them denies what has it, and nothing is denied without."""
    for key in keys:
        answer = await ask(*about(key))
        assert answer.json.get("error", {}).get("data", {}).get("reason") == "denied", (key, answer.body)
    assert (await ask(*about("nothing"))).result


# -- By hand, in front of an Envoy of one's own ---------------------------------------------------------------------------


def existing(port: int, *filters: Any) -> dict[str, Any]:
    """An Envoy that serves nothing."""
    host = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 404}}]}
    manager = {
        "@type": MANAGER,
        "stat_prefix": "clients",
        "route_config": {"name": "clients", "virtual_hosts": [host]},
        "http_filters": [PRINCIPALS, *filters, ROUTER],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"static_resources": {"listeners": [{"name": "clients", "address": address, "filter_chains": [chain]}]}}


def manager_of(bootstrap: Any, listener: str) -> Any:
    resources = bootstrap.get("static_resources") or bootstrap["staticResources"]
    [found] = [one for one in resources["listeners"] if one["name"] == listener]
    chains = found.get("filter_chains") or found["filterChains"]
    return chains[0]["filters"][0].get("typed_config") or chains[0]["filters"][0]["typedConfig"]


def edit(manager: Any) -> None:
    """Put a DENY in front of the router."""
    filters = manager.get("http_filters") or manager["httpFilters"]
    filters.insert(-1, denying(*CALLS, *PROMPTS, *READS))


async def by_bootstrap(place: Place, file: Path) -> str:
    out, _ = await own_envoy.printed(place, "envoy", "bootstrap", str(file), "--port", str(place.port(PORT)))
    whole = json.loads(out)
    manager = manager_of(whole, "mcp")
    manager["httpFilters"].insert(0, PRINCIPALS)
    edit(manager)
    return json.dumps(whole)


async def by_attach(place: Place, file: Path) -> str:
    before = json.dumps(existing(place.port(PORT)))
    out, _ = await own_envoy.printed(place, "envoy", "attach", "--config", str(file), "-", stdin=before)
    whole = json.loads(out)
    edit(manager_of(whole, "clients"))
    return json.dumps(whole)


async def by_fragments(place: Place, file: Path) -> str:
    """Each list at the place that its comment names, and the DENY between both passes."""
    return await fragments(place, file, denying(*CALLS, *PROMPTS, *READS, *JUDGED))


async def fragments(place: Place, file: Path, deny: dict[str, Any]) -> str:
    out, _ = await own_envoy.printed(place, "envoy", "fragments", "--config", str(file))
    assert METADATA_KEY not in out
    parts = yaml.safe_load(out)
    whole = existing(place.port(PORT))
    manager = manager_of(whole, "clients")
    judging, deciding = parts["http_filters"], parts["last_http_filters"]
    manager["http_filters"] = [*parts["first_http_filters"], PRINCIPALS, *judging, deny, *deciding, ROUTER]
    host = manager["route_config"]["virtual_hosts"][0]
    host["routes"][:0] = parts["routes"]
    manager["local_reply_config"] = {"mappers": parts["local_reply_mappers"]}
    whole["static_resources"]["listeners"] += parts["listeners"]
    whole["static_resources"]["clusters"] = parts["clusters"]
    return json.dumps(whole)


@asynccontextmanager
async def envoy_with(folder: Path, url: str, layout: Any) -> AsyncIterator[Browser]:
    async with own_envoy.place(folder, PORT) as place:
        config = json.dumps({**CONFIG, "servers": {"alpha": {"url": url}}})
        file = folder / "gateway.yaml"
        file.write_text(config)
        text = await layout(place, file)
        assert METADATA_KEY not in text
        async with (
            own_envoy.worker(place, config),
            own_envoy.envoy(place, text, place.port(PORT)),
            own_envoy.browser(place.port(PORT)) as client,
        ):
            yield client


@asynccontextmanager
async def everything() -> AsyncIterator[ScriptedServer]:
    capabilities: dict[str, Any] = {"tools": {}, "prompts": {}, "resources": {}}
    async with ScriptedServer("alpha", capabilities=capabilities) as server:
        yield server


@pytest.mark.parametrize("layout", [by_bootstrap, by_attach, by_fragments])
async def test_by_hand(tmp_path: Path, layout: Any) -> None:
    async with everything() as alpha, envoy_with(tmp_path, alpha.url, layout) as client:
        await client.initialize()
        await assert_denied(client.rpc, *CALLS, *PROMPTS, *READS, *(JUDGED if layout is by_fragments else ()))


def denying_streams_that_resume() -> dict[str, Any]:
    """Whatever they resume. Requests of other methods have the name of what they ask for."""
    path = [{"key": key} for key in OF_STREAMS]
    said = {"metadata": {"filter": "mcp_proxy", "path": path, "value": {"present_match": True}}}
    policy = {"principals": [{"any": True}], "permissions": [said]}
    return {"name": "rbac", "typed_config": {"@type": RBAC, "rules": {"action": "DENY", "policies": {"no": policy}}}}


async def an_event(_: web.Request, message: dict[str, Any]) -> web.StreamResponse:
    """The answer to a call, with an id."""
    body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}})
    return web.Response(text=f"id: 1\ndata: {body}\n\n", content_type="text/event-stream")


def last_event(answer: Answer) -> str:
    found = re.findall(r"^id: *(\S+)$", answer.body.decode(), re.MULTILINE)
    assert found, answer.body
    return str(found[-1])


async def test_streams_that_resume_by_hand(tmp_path: Path) -> None:
    """Only where there are two passes does a policy see them: elsewhere the worker has answered before."""

    async def layout(place: Place, file: Path) -> str:
        return await fragments(place, file, denying_streams_that_resume())

    async with everything() as alpha, envoy_with(tmp_path, alpha.url, layout) as client:
        alpha.on["tools/call"] = an_event
        await client.initialize()
        last = last_event(await client.call("alpha__echo"))
        async with asyncio.timeout(PATIENCE):
            denied = await client.send(
                "/mcp", accept="text/event-stream", mcp_session_id=str(client.session), last_event_id=last
            )
        assert denied.status == 403
        async with client.stream() as lines:
            assert lines is not None


# -- With an Envoy of ours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policies", ["all", "calls"])
async def test_with_a_configured_filter(start: StartGateway, policies: str) -> None:
    keys = {*CALLS, *PROMPTS, *READS, *((*JUDGED, *EARLY) if policies == "all" else ())}
    filters = {"http_filters_before": [PRINCIPALS], "http_filters": [denying(*keys)], "policies": policies}
    async with (
        everything() as alpha,
        start({"alpha": alpha.url}, envoy=filters, authentication=CONFIG["authentication"]) as gateway,
    ):
        await assert_denied(partial(gateway.rpc, mcp_session_id=await gateway.initialize()), *keys)


async def test_streams_that_resume_with_a_configured_filter(start: StartGateway) -> None:
    """No other stream is denied."""
    filters = {"http_filters": [denying_streams_that_resume()], "policies": "all"}
    async with everything() as alpha, start({"alpha": alpha.url}, envoy=filters) as gateway:
        alpha.on["tools/call"] = an_event
        session = await gateway.initialize()
        fields = {"accept": "text/event-stream", "mcp-session-id": session}
        last = last_event(await gateway.call(session, "alpha__echo"))
        for more, status in (({"last-event-id": last}, 403), ({}, 200)):
            async with gateway.http.get(gateway.url, headers={**fields, **more}) as answer:
                assert answer.status == status


@pytest.mark.parametrize("policies", ["all", "calls"])
async def test_at_a_virtual_server(start: StartGateway, policies: str) -> None:
    """Elsewhere there is no such fact."""
    filters = {"http_filters": [denying(*AT_VIRTUAL_SERVERS)], "policies": policies}
    virtual = {"v": {"servers": {"alpha": "all"}}}
    async with everything() as alpha, start({"alpha": alpha.url}, envoy=filters, virtual_servers=virtual) as gateway:
        there = f"{gateway.url}/v"

        async def ask(method: str, params: Any, session: str = "") -> Answer:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            return await gateway.send(json.dumps(body).encode(), url=there, mcp_session_id=session)

        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
        session = (await ask("initialize", params)).headers["mcp-session-id"]
        await assert_denied(partial(ask, session=session), *AT_VIRTUAL_SERVERS)
        main = await gateway.initialize()
        assert (await gateway.rpc(*about("endpoint"), mcp_session_id=main)).result
