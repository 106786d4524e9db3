"""Workers at TCP addresses, one of which nobody listens at: Envoy asks the next one, of its own accord, and once only."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_extproc.envoy.layout import EXTPROC_CLUSTER
from tests.support import own_envoy
from tests.support.own_envoy import Browser
from tests.support.processes import free_port
from tests.support.scripted import ScriptedServer

PORT = 1975
SESSIONS = 16
"""Of which it is certain that Envoy sends some to the address where nobody is."""


def taken_as_well(bootstrap: Any) -> None:
    """Have Envoy find out by the request alone that nobody is there, as before its first health check."""
    [cluster] = [one for one in bootstrap["staticResources"]["clusters"] if one["name"] == EXTPROC_CLUSTER]
    del cluster["healthChecks"], cluster["outlierDetection"]


def without_retries(value: Any) -> None:
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        without_retries(item)
    if isinstance(value, dict) and "grpcService" in value:
        value["grpcService"].pop("retryPolicy", None)


@asynccontextmanager
async def gateway(folder: Path, server: ScriptedServer, *, retries: bool) -> AsyncIterator[Browser]:
    async with own_envoy.place(folder, PORT) as place:
        there, nowhere, port = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", place.port(PORT)
        config = json.dumps(
            {"servers": {"alpha": {"url": server.url}}, "listen": {"port": port}, "log": {"access": ""}}
        )
        file = folder / "gateway.yaml"
        file.write_text(config)
        workers = ("--extproc", there, "--extproc", nowhere)
        out, _ = await own_envoy.printed(place, "envoy", "bootstrap", str(file), *workers)
        bootstrap = json.loads(out)
        taken_as_well(bootstrap)
        if not retries:
            without_retries(bootstrap)
        async with (
            own_envoy.worker(place, config, "worker", "--listen", there),
            own_envoy.envoy(place, json.dumps(bootstrap), port),
            own_envoy.browser(port) as client,
        ):
            yield client


async def statuses(client: Browser) -> set[int]:
    """Of calls in several sessions, each of which Envoy may send to another worker."""
    found = set()
    for number in range(SESSIONS):
        client.session = None
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
        opened = await client.rpc("initialize", hello)
        found.add(opened.status)
        if opened.status == 200:
            client.session = opened.headers["mcp-session-id"]
            found.add((await client.rpc("tools/call", {"name": "alpha__echo", "arguments": {}}, id=number)).status)
    return found


@pytest.mark.parametrize(("retries", "expected"), [(True, {200}), (False, {200, 503})], ids=["as rendered", "without"])
async def test_a_worker_that_is_not_there_costs_no_call(
    tmp_path: Path, alpha: ScriptedServer, *, retries: bool, expected: set[int]
) -> None:
    """The second row shows that it is the retry that does it."""
    async with gateway(tmp_path, alpha, retries=retries) as client:
        assert await statuses(client) == expected
    calls = [call.message["id"] for call in alpha.calls("tools/call")]
    assert len(calls) == len({*calls}), "none was sent twice"
