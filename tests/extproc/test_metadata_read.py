"""What a worker writes into the metadata: what is read at the place where the exchange comes from, and nothing less."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from mcp_extproc.contract import ACT_ROUTE, JUDGE_ROUTE, METADATA_KEY, NAMESPACE, ROUTES_REMOVE
from mcp_extproc.gateway.headers import left_to_routes
from tests.extproc.rig import Rig, Transport, call, configuration, fakes, rig
from tests.support.documented import METADATA_KEYS
from tests.support.fake_upstreams import FakeUpstreams
from tests.support.rawclient import Fields, removed_headers, rpc

NATIVE = "envoy.filters.http.mcp"

CALL = call(id=7)
REQUESTS: dict[str, tuple[bytes, str | None]] = {
    "a call": (CALL, None),
    "a call with a long id": (call(id="7" * 40), None),
    "a refusal": (call("nobody__knows"), None),
    "an answer": (rpc("ping"), None),
    "a preview": (CALL, f"{JUDGE_ROUTE}endpoint"),
    "a preview of a refusal": (call("nobody__knows"), f"{JUDGE_ROUTE}endpoint"),
    "a judged call": (CALL, f"{ACT_ROUTE}github"),
}
OURS = {"shown", "answered", "forwarded"}
"""What the gateway's own routes and errors go by. It is always written."""


async def written(
    running: Rig[FakeUpstreams], token: str, body: bytes, route: str | None = None, said: str | None = None
) -> dict[str, Any]:
    """All namespaces of the answer to a request, from a filter that says this about what is read."""
    exchange = running.client.exchange(**({} if said is None else {METADATA_KEY: said}))
    fields: Fields = running.fields(mcp_session_id=token)
    if route is not None and route.startswith(ACT_ROUTE):
        shown = {"mcp_method": "tools/call", "mcp_name": "issue_read", "x_mcp_server": "github"}
        fields = running.fields(mcp_session_id=token, **shown)
    await exchange.send_headers(fields, route=route)
    if route is not None and route.startswith(JUDGE_ROUTE):
        await exchange.receive()
    await exchange.send_body(body)
    answer = await exchange.receive()
    assert (await exchange.end()).name == "OK"
    found: dict[str, Any] = json_format.MessageToDict(answer.dynamic_metadata)
    return {name: found[name] for name in (NAMESPACE, NATIVE) if name in found}


@pytest.mark.parametrize("request_of", REQUESTS)
async def test_each_key_is_written_where_it_is_read(rig: Rig[FakeUpstreams], request_of: str) -> None:
    """By the listener or by its routes, and with the value that it has otherwise."""
    token = rig.token()
    body, route = REQUESTS[request_of]
    whole = (await written(rig, token, body, route))[NAMESPACE]
    for key in {name.partition(".")[0] for name in METADATA_KEYS} - OURS:
        for said in (f"{key};server", f"server,unheard-of;{key}"):
            found = (await written(rig, token, body, route, said))[NAMESPACE]
            assert found == {name: value for name, value in whole.items() if name in {key, "server"} | OURS}, said


@pytest.mark.parametrize("said", ["", ";", "method", "method;", "method;-", "-"])
async def test_who_does_not_say_all_gets_all(rig: Rig[FakeUpstreams], said: str) -> None:
    token = rig.token()
    assert await written(rig, token, CALL, said=said) == await written(rig, token, CALL)


async def test_exchanges_of_an_old_and_a_new_listener(rig: Rig[FakeUpstreams]) -> None:
    """They alternate on one connection, and so do requests that are alike."""
    token = rig.token()
    for _ in range(2):
        assert set((await written(rig, token, CALL, said="method;server"))[NAMESPACE]) == {"method", "server"}
        assert set((await written(rig, token, CALL, said="method;server,client"))[NAMESPACE]) == {
            "method",
            "server",
            "client",
        }
        assert {"id", "id_json", "params", "tool"} < set((await written(rig, token, CALL))[NAMESPACE])


async def test_more_kinds_of_listeners_than_there_are_get_all(rig: Rig[FakeUpstreams]) -> None:
    """Nothing grows with what is said, and nobody gets less than they read."""
    token = rig.token()
    for number in range(100):
        found = (await written(rig, token, CALL, said=f"key{number};client"))[NAMESPACE]
        assert "client" in found
    assert found == (await written(rig, token, CALL))[NAMESPACE]


async def test_all_namespaces_have_the_same(transport: Transport) -> None:
    async with rig(transport, fakes, configuration(metadata={"namespaces": [NATIVE]})) as running:
        both = await written(running, running.token(), CALL, said="method,status;server")
        assert both[NAMESPACE] == both[NATIVE] == {"method": "tools/call", "status": "mcp_ok", "server": "github"}
        assert {"jsonrpc", "is_mcp_request", "status"} < set((await written(running, running.token(), CALL))[NATIVE])


async def test_attack_what_no_route_removes_is_removed_by_the_worker(rig: Rig[FakeUpstreams]) -> None:
    """A table of routes says that it does. One of an earlier release does not, nor does one of which nothing is known."""
    fields = [*rig.fields(), ("x-forwarded-for", "10.0.0.1")]
    left = set(left_to_routes(()))
    for said, removed in (
        (None, left),
        ("method;server", left),
        (f"{ROUTES_REMOVE};-", left),
        (f"method;{ROUTES_REMOVE},server", set()),
    ):
        exchange = rig.client.exchange(**({} if said is None else {METADATA_KEY: said}))
        await exchange.send_headers(fields)
        await exchange.send_body(CALL)
        assert removed_headers(await exchange.receive()) & left == removed, said
