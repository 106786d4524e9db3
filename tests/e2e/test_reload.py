"""The configuration changes while calls go on: with real Envoy, real workers, and the file edited as people do."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp.client.client import Client
from mcp_types import ToolListChangedNotification

from mcp_extproc.run import changes, reload
from mcp_extproc.telemetry import log
from tests.e2e.conftest import StartGateway
from tests.e2e.test_workers import load, until_known, until_served
from tests.support.authorization_server import AuthorizationServer
from tests.support.gateway import TestClient, TestGateway
from tests.support.processes import free_port, http_server, sdk_server
from tests.support.scripted import ScriptedServer, as_event, echo
from tests.support.transports import sockets_are_held
from tests.support.waiting import PATIENCE, eventually

LISTENERS = "listener_manager.lds.update_success"
REPLACED = "listener_manager.listener_modified"

RBAC = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3."
FAULT = {
    "name": "fault",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"},
}
"""A filter that does nothing."""


@pytest.fixture
def start(start_own: StartGateway) -> StartGateway:
    """A gateway of each test's own: they change its configuration."""
    return start_own


class Refusals(logging.Handler):
    """What the gateway's log says of configurations that it did not take."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "config_refused":
            self.reasons.put_nowait(record.__dict__["mcp_fields"]["why"])

    async def next(self) -> str:
        """The reason of the next refusal."""
        async with asyncio.timeout(PATIENCE):
            return await self.reasons.get()


@pytest.fixture
def refusals() -> Iterator[Refusals]:
    handler, logger = Refusals(), log.logger("config")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (changes, reload):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.1)


def edit(directory: Path, servers: Mapping[str, Any], **changes: Any) -> None:
    """Change the configuration file, as an editor does that writes a new file and moves it. ``None`` takes a section out."""
    file = directory / "gateway.yaml"
    sections = {name: {"url": given} if isinstance(given, str) else given for name, given in servers.items()}
    document = json.loads(file.read_text()) | {"servers": sections} | changes
    new = file.with_suffix(".new")
    new.write_text(json.dumps({name: section for name, section in document.items() if section is not None}))
    new.replace(file)


async def serves(gateway: TestGateway, *servers: str) -> None:
    """Until all workers serve these."""
    await eventually(
        lambda: set(gateway.local.config.servers), f"{servers} are served", until=lambda seen: seen == set(servers)
    )


async def clusters(gateway: TestGateway) -> set[str]:
    """What Envoy has."""
    text = await gateway.local.admin("GET", "/clusters") or ""
    return {line.partition("::")[0] for line in text.splitlines()}


async def until_gone(gateway: TestGateway, server: str) -> None:
    """Until Envoy does not know a server any more."""
    await eventually(
        lambda: clusters(gateway), f"Envoy has no {server}", until=lambda known: f"mcp/{server}" not in known
    )


@sockets_are_held
@pytest.mark.parametrize("workers", [1, 2])
async def test_servers_come_and_go_under_load(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer, tmp_path: Path, workers: int
) -> None:
    """No call to another server fails, in either direction, and connections of clients stay as they are."""
    async with start({"alpha": alpha.url}, workers=workers) as gateway:
        session = await gateway.initialize()
        listeners = [await gateway.local.stat(name) for name in (LISTENERS, REPLACED)]
        async with load(gateway) as calls:
            edit(tmp_path, {"alpha": alpha.url, "beta": beta.url})
            await serves(gateway, "alpha", "beta")
            await calls.more(20)
            await until_known(gateway, session, "beta__echo")  # in a session from before
            tools = (await gateway.rpc("tools/list", mcp_session_id=session)).result["tools"]
            assert {tool["name"] for tool in tools} == {"alpha__echo", "beta__echo"}

            edit(tmp_path, {"alpha": alpha.url})
            await serves(gateway, "alpha")
            answer = await until_known(gateway, session, "beta__echo", known=False)
            assert (answer.status, answer.error["code"]) == (200, -32602)
            assert "Unknown tool: beta__echo" in answer.error["message"]
            await until_gone(gateway, "beta")
            await calls.more(20)
        assert calls.failed == []
        assert "mcp/alpha" in await clusters(gateway)
        assert [await gateway.local.stat(name) for name in (LISTENERS, REPLACED)] == listeners


async def test_virtual_servers_come_and_go_and_drop_nobody_s_calls(
    start: StartGateway, alpha: ScriptedServer, tmp_path: Path
) -> None:
    """At the main endpoint, at another one, and at that which is removed meanwhile."""
    one = {"servers": {"alpha": {"tools": ["echo"]}}}
    arrived, release = asyncio.Semaphore(0), asyncio.Event()

    async def slow(request: Any, message: dict[str, Any]) -> Any:
        arrived.release()
        if message["params"]["arguments"]:
            await release.wait()
        return echo(message)

    alpha.on["tools/call"] = slow
    async with start({"alpha": alpha.url}, virtual_servers={"stays": one, "goes": one}) as gateway:
        clients = {name: TestClient(gateway.url + name, gateway.http) for name in ("", "/stays", "/goes", "/comes")}
        sessions = {name: await clients[name].initialize() for name in ("", "/stays", "/goes")}
        held = {"wait": True}
        calls = {
            name: asyncio.create_task(clients[name].call(session, "alpha__echo", held))
            for name, session in sessions.items()
        }
        async with asyncio.timeout(PATIENCE):
            for _ in calls:
                await arrived.acquire()
        edit(tmp_path, {"alpha": alpha.url}, virtual_servers={"stays": one, "comes": one})

        async def there() -> list[bool]:
            asked = [await clients[name].rpc("ping", mcp_session_id="unknown") for name in ("/goes", "/comes")]
            return ["Session not found" in answer.error["message"] for answer in asked]

        await eventually(there, "the one is gone and the other is there", until=lambda seen: seen == [False, True])
        session = await clients["/comes"].initialize()
        assert (await clients["/comes"].call(session, "alpha__echo")).result
        assert (await clients["/stays"].call(sessions["/stays"], "alpha__echo")).result
        release.set()
        for name, call in calls.items():
            assert (await call).result["content"], name
        gone = await clients["/goes"].call(sessions["/goes"], "alpha__echo")
        assert (gone.status, gone.error["code"]) == (404, -32600)


@pytest.mark.parametrize("answers", ["json", "untrusted json", "events"])
async def test_a_call_outlives_its_server_s_removal(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer, tmp_path: Path, answers: str
) -> None:
    """Whether a worker, which does not serve it any more, reads its response or not. Other changes do not wait for it."""
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slow(request: Any, message: dict[str, Any]) -> Any:
        arrived.set()
        await release.wait()
        return as_event(echo(message)) if answers == "events" else echo(message)

    # So its answers are read on streams of their own, at workers that were started after its removal.
    beta.begins_in_events = False
    beta.on["tools/call"] = slow
    async with start({
        "alpha": alpha.url, "beta": {"url": beta.url, "untrusted": answers == "untrusted json"},
    }) as gateway:  # fmt: skip
        session = await gateway.initialize()
        pending = asyncio.create_task(gateway.call(session, "beta__echo"))
        async with asyncio.timeout(PATIENCE):
            await arrived.wait()
        edit(tmp_path, {"alpha": alpha.url})
        await serves(gateway, "alpha")
        edit(tmp_path, {"alpha": alpha.url, "gamma": alpha.url})
        await serves(gateway, "alpha", "gamma")
        await until_known(gateway, session, "gamma__echo")
        edit(tmp_path, {"alpha": alpha.url})
        await serves(gateway, "alpha")
        assert "mcp/beta" in await clusters(gateway)
        release.set()
        answer = json.loads((await pending).body.rpartition(b"data: ")[2])
        assert json.loads(answer["result"]["content"][0]["text"]) == ["echo", {}]
        await until_gone(gateway, "beta")
        await until_gone(gateway, "gamma")


async def test_an_invalid_file_is_refused_and_the_old_one_serves(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer, tmp_path: Path, refusals: Refusals
) -> None:
    """Also by a worker that is started later."""
    async with start({"alpha": alpha.url}, workers=1) as gateway:
        session = await gateway.initialize()
        before = gateway.local.pids
        async with load(gateway) as calls:
            good = (tmp_path / "gateway.yaml").read_text()
            (tmp_path / "gateway.yaml").write_text(good[:-20])
            assert "gateway.yaml" in await refusals.next()
            (tmp_path / "gateway.yaml").write_text(good.replace('"url"', '"uri"'))
            assert "servers.alpha" in await refusals.next()
            await calls.more(20)
        assert calls.failed == []
        assert gateway.local.pids == before

        os.kill(before["worker"], signal.SIGKILL)
        await until_served(gateway, session, "alpha__echo")
        assert gateway.local.pids["worker"] != before["worker"]

        (tmp_path / "gateway.yaml").write_text(good)
        edit(tmp_path, {"alpha": alpha.url, "beta": beta.url})
        await serves(gateway, "alpha", "beta")
        await until_known(gateway, session, "beta__echo")


async def test_what_envoy_refuses_is_taken_back(
    start: StartGateway, alpha: ScriptedServer, beta: ScriptedServer, tmp_path: Path, refusals: Refusals
) -> None:
    """A file that only Envoy reads is missing."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        async with load(gateway) as calls:
            edit(tmp_path, {
                "alpha": alpha.url,
                "beta": {"url": beta.url.replace("http:", "https:"), "tls": {"ca": str(tmp_path / "nowhere.pem")}},
            })  # fmt: skip
            assert "cds.json" in await refusals.next()
            await calls.more(20)
        assert calls.failed == []
        assert set(gateway.local.config.servers) == {"alpha"}
        edit(tmp_path, {"alpha": alpha.url, "beta": beta.url})
        await serves(gateway, "alpha", "beta")
        await until_known(gateway, session, "beta__echo")


@sockets_are_held
async def test_a_change_of_the_listener_loses_no_call(
    start: StartGateway, alpha: ScriptedServer, tmp_path: Path
) -> None:
    """Limits are the listener's: Envoy replaces it, at the same port."""
    async with start({"alpha": alpha.url}) as gateway:
        session = await gateway.initialize()
        large = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"x":"%s"}}}' % (b"x" * 5000)
        assert (await gateway.send(large, mcp_session_id=session)).status == 200
        async with load(gateway) as calls:
            # A timeout of the socket is taken at the next start: another socket could have another port.
            more = {"listen": {"port": 0, "limits": {"unread_timeout": "5s", "max_concurrent_streams": 5}}}
            edit(tmp_path, {"alpha": alpha.url}, limits={"request_bytes": 4096}, **more)
            await eventually(
                lambda: gateway.local.config.limits.request_bytes,
                "the new limit holds",
                until=lambda seen: seen == 4096,
            )
            await calls.more(20)
        assert calls.failed == []
        assert gateway.local.config.listen.limits.unread_timeout == 60
        assert await gateway.local.stat(REPLACED) == 2, "that of clients and that of batches"
        assert (await gateway.send(large, mcp_session_id=session)).status == 413


async def test_clients_are_told_of_servers_that_come_and_go(start: StartGateway, tmp_path: Path) -> None:
    """With SDK servers and the SDK's client, which lists the tools whenever it is told to."""
    ports = {name: free_port() for name in ("first", "second")}
    urls = {name: f"http://localhost:{port}/mcp" for name, port in ports.items()}
    lists: asyncio.Queue[set[str]] = asyncio.Queue()

    async def told(message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            tools = (await client.list_tools(cache_mode="bypass")).tools
            lists.put_nowait({tool.name.partition("__")[0] for tool in tools})

    async def listed(*servers: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while await lists.get() != set(servers):
                pass

    async with (
        http_server(sdk_server("first", ports["first"]), ports["first"], log=tmp_path / "first.log"),
        http_server(sdk_server("second", ports["second"]), ports["second"], log=tmp_path / "second.log"),
        start({"first": urls["first"]}) as gateway,
        Client(gateway.url, mode="legacy", message_handler=told) as client,
    ):
        assert {tool.name.partition("__")[0] for tool in (await client.list_tools()).tools} == {"first"}
        edit(tmp_path, urls)
        await listed("first", "second")
        edit(tmp_path, {"second": urls["second"]})
        await listed("second")
        edit(tmp_path, {"second": {"url": urls["second"], "tools": {"include": ["nothing"]}}})
        await listed()


@sockets_are_held
async def test_the_session_secret_is_rotated_under_load(
    start: StartGateway, alpha: ScriptedServer, tmp_path: Path
) -> None:
    """In the three steps of docs/security.md, with two workers that take each of them one after the other."""
    old, new = "o" * 32, "n" * 32
    steps = (
        {"secret": old, "previous_secrets": [new]},
        {"secret": new, "previous_secrets": [old]},
    )
    async with start({"alpha": alpha.url}, workers=2, session={"secret": old}) as gateway:
        first = await gateway.initialize()
        opened: list[str] = []
        async with load(gateway) as calls:
            for step in steps:
                before = gateway.workers
                edit(tmp_path, {"alpha": alpha.url}, session=step)
                opened += await opened_until_replaced(gateway, before)
                await calls.more(50)
        assert calls.failed == []
        opened += [await gateway.initialize() for _ in range(4)]
        for session in (first, *opened):
            assert (await gateway.call(session, "alpha__echo")).result

        before = gateway.workers
        edit(tmp_path, {"alpha": alpha.url}, session={"secret": new})
        await opened_until_replaced(gateway, before)
        await eventually(
            lambda: gateway.call(first, "alpha__echo"), "it is unknown", until=lambda answer: answer.status == 404
        )
        for session in opened[-4:]:
            assert (await gateway.call(session, "alpha__echo")).result


async def opened_until_replaced(gateway: TestGateway, before: list[int]) -> list[str]:
    """Sessions that were opened, and used at whatever worker, while workers were replaced."""
    opened: list[str] = []

    async def all_new() -> bool:
        opened.append(await gateway.initialize())
        for session in opened[-3:]:
            assert (await gateway.call(session, "alpha__echo")).result
        return not set(before) & set(gateway.workers)

    await eventually(all_new, "all workers are replaced")
    return opened


async def test_authentication_is_added_and_an_issuer_taken_out(
    start: StartGateway, alpha: ScriptedServer, tmp_path: Path
) -> None:
    """Also for connections that were there before, which Envoy serves with the listener that they came to: there the worker
    refuses."""
    servers = {"alpha": f"http://127.0.0.1:{alpha.port}/mcp"}
    async with AuthorizationServer() as first, AuthorizationServer() as second, start(servers) as gateway:

        def issuers(*idps: AuthorizationServer) -> dict[str, Any]:
            return {"oauth": {"issuers": [{"issuer": idp.issuer, "audiences": [idp.audience]} for idp in idps]}}

        async def status(idp: AuthorizationServer | None) -> int:
            headers = {} if idp is None else {"authorization": f"Bearer {idp.token()}"}
            return (await gateway.rpc("ping", **headers)).status

        assert await status(None) == 400  # there is no session
        edit(tmp_path, servers, authentication=issuers(first, second))
        await eventually(lambda: status(None), "nobody may call", until=lambda found: found == 401)
        for idp in (first, second):
            await eventually(partial(status, idp), "tokens are good", until=lambda found: found == 400)
        edit(tmp_path, servers, authentication=issuers(second))
        await eventually(lambda: status(first), "its tokens are bad", until=lambda found: found == 401)
        assert await status(second) == 400
        edit(tmp_path, servers, authentication=None)
        await eventually(lambda: status(None), "everybody may call", until=lambda found: found == 400)


@pytest.mark.parametrize("more", [(), (FAULT,)], ids=["routes change", "the listener changes, too"])
async def test_a_policy_that_reads_another_fact_holds_on_old_connections(
    start: StartGateway, alpha: ScriptedServer, tmp_path: Path, more: tuple[Any, ...]
) -> None:
    """Envoy serves them with the listener that they began with, and with the new routes."""
    denying = {"rules": {"action": "DENY", "policies": {"no": {
        "principals": [{"any": True}],
        "permissions": [{"metadata": {
            "filter": "mcp_proxy", "path": [{"key": "client"}], "value": {"string_match": {"exact": "test/0"}},
        }}],
    }}}}  # fmt: skip
    before = {"http_filters": [{"name": "rbac", "typed_config": {"@type": f"{RBAC}RBAC"}}], "policies": "calls"}
    after = {
        **before,
        "http_filters": [*before["http_filters"], *more],
        "typed_per_filter_config": {"rbac": {"@type": f"{RBAC}RBACPerRoute", "rbac": denying}},
    }
    async with (
        start({"alpha": alpha.url}, envoy=before, log={"access": ""}) as gateway,
        aiohttp.ClientSession() as http,
    ):
        session, old = await gateway.initialize(), TestClient(gateway.url, http)
        assert (await old.call(session, "alpha__echo")).result
        edit(tmp_path, {"alpha": alpha.url}, envoy=after)
        await eventually(
            lambda: gateway.call(session, "alpha__echo"), "the policy is there", until=lambda said: "error" in said.json
        )
        if more:
            await eventually(lambda: gateway.local.stat(REPLACED), "new listeners", until=lambda count: count == 2)
        connections = await gateway.local.stat("http.mcp.downstream_cx_total")
        assert (await old.call(session, "alpha__echo")).error["data"]["reason"] == "denied"
        assert await gateway.local.stat("http.mcp.downstream_cx_total") == connections
