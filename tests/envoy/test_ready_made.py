"""The files in the folder ``envoy``: each is current, runs as it is but for ports and folders, shows what its name says."""

from __future__ import annotations

import re
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.envoy import ready_made
from tests.envoy.ready_made import FOLDER, NAMES, render
from tests.support import own_envoy
from tests.support.gateway import Answer
from tests.support.own_envoy import Browser, Place
from tests.support.policy_services import Authorization, RateLimits
from tests.support.processes import free_port
from tests.support.scripted import ScriptedServer, tool
from tests.support.waiting import eventually

SERVERS = {3001: "notes", 3002: "dates"}
ADMIN = 9901


@pytest.mark.parametrize("name", NAMES)
def test_it_is_current(name: str) -> None:
    assert (FOLDER / f"{name}.yaml").read_text() == render(name), (
        "run `python -m tests.envoy.ready_made`, read the diff"
    )


def test_the_index_names_each_file() -> None:
    index = (FOLDER / "README.md").read_text()
    named = {target for target in re.findall(r"\]\(([^)#]+)\)", index) if "/" not in target}
    assert named == {path.name for path in FOLDER.iterdir()} - {"README.md"}


@dataclass
class Running:
    """One of the configurations, with what it needs."""

    place: Place
    client: Browser
    servers: dict[int, ScriptedServer]
    workers: list[Any]

    def received(self, port: int) -> int:
        """How many calls came to the server that stands at a port."""
        return len(self.servers[port].calls("tools/call"))


@asynccontextmanager
async def running(
    name: str,
    folder: Path,
    *,
    port: int = 1975,
    host: str = "localhost",
    path: str = "/mcp",
    tls: bool = False,
    **known: int,
) -> AsyncIterator[Running]:
    """Envoy, workers and servers for one file. ``known`` names the ports that services of the test have."""
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(own_envoy.place(folder, port, ADMIN))
        place.ports |= {int(number.removeprefix("at_")): actual for number, actual in known.items()}
        servers = {}
        for number, called in SERVERS.items():
            server = ScriptedServer(called, pages=[[tool("create"), tool("list")]])
            servers[number] = await stack.enter_async_context(server)
            place.ports[number] = server.port
        if name == "tls":
            place.ports[3001] = await servers[3001].also_with_tls(own_envoy.certified(place))
        gateway = place.moved((FOLDER / f"{name}.gateway.yaml").read_text())
        workers = []
        for number in range(ready_made.WORKERS.get(name, 1)):
            listen = f"unix:{place.sockets}/extproc-{number}.sock"
            workers.append(await stack.enter_async_context(
                own_envoy.worker(place, gateway, f"worker-{number}", "--listen", listen)
            ))  # fmt: skip
        text = place.moved((FOLDER / f"{name}.yaml").read_text())
        await stack.enter_async_context(own_envoy.envoy(place, text, place.port(port)))
        context = own_envoy.trusting(place) if tls else None
        client = await stack.enter_async_context(
            own_envoy.browser(place.port(port), tls=context, host=place.moved(host))
        )
        await client.initialize(path=path)
        yield Running(place, client, servers, workers)


def reason(answer: Answer) -> str:
    """Why a call was refused: a JSON-RPC error that the client's SDK shows."""
    assert (answer.status, answer.json["id"]) == (200, 1), answer.body
    found: str = answer.error["data"]["reason"]
    return found


async def test_standalone(tmp_path: Path) -> None:
    """Both servers behind one endpoint, and nothing else there."""
    async with running("standalone", tmp_path) as found:
        listed = (await found.client.rpc("tools/list")).result["tools"]
        assert [item["name"] for item in listed] == ["notes__create", "notes__list", "dates__create", "dates__list"]
        assert '["list", {"a": 1}]' in (await found.client.call("dates__list", {"a": 1})).body.decode().replace(
            '\\"', '"'
        )
        assert (found.received(3001), found.received(3002)) == (0, 1)
        assert (await found.client.send("/")).status == 404


async def test_attached(tmp_path: Path) -> None:
    """MCP beside a website on one listener: the website's own filters, formats of errors and routes are as they were."""
    web = free_port()
    async with (
        own_envoy.website(web) as site,
        running(
            "attached",
            tmp_path,
            port=8443,
            host="api.example.com",
            tls=True,
            at_8000=web,
            at_8080=free_port(),
        ) as found,
    ):
        assert "result" in (await found.client.call("notes__list")).json
        assert (await found.client.send("/page")).json["path"] == "/page"
        assert (await found.client.send("/mcp", host="www.example.com")).json["problem"] == (
            "nothing to do with the protocol\n"
        )
        assert reason(await found.client.call("notes__delete")) == "denied"
        assert reason(await found.client.call("notes__list", x_banned="1")) == "denied"
        assert (found.received(3001), len(site.paths)) == (1, 1)


async def test_rbac(tmp_path: Path) -> None:
    """Calls of safe tools pass, others are denied, and lists leave these out."""
    async with running("rbac", tmp_path) as found:
        assert "result" in (await found.client.call("notes__list")).json
        assert "result" in (await found.client.call("dates__create")).json
        assert reason(await found.client.call("notes__create")) == "denied"
        assert reason(await found.client.call("notes__create", mcp_name="list", x_mcp_server="dates")) == "denied"
        listed = {tool["name"] for tool in (await found.client.rpc("tools/list")).result["tools"]}
        assert listed == {"notes__list", "dates__create", "dates__list"}
        assert (found.received(3001), found.received(3002)) == (1, 1)


async def test_ext_authz(tmp_path: Path) -> None:
    """The service is told method, server and tool, and its verdict counts."""

    def denies(facts: dict[str, Any], headers: dict[str, str]) -> int:
        return 403 if (facts.get("server"), facts.get("tool")) == ("notes", "create") else 0

    async with (
        Authorization(denies).serving() as service,
        running("ext-authz", tmp_path, at_9191=service.port) as found,
    ):
        assert reason(await found.client.call("notes__create")) == "denied"
        assert "result" in (await found.client.call("dates__create")).json
        asked = [facts for facts, _ in service.asked if facts.get("method") == "tools/call"]
        assert [(facts["server"], facts["tool"], facts["params"]) for facts in asked] == [
            ("notes", "create", {"name": "notes__create"}), ("dates", "create", {"name": "dates__create"}),
        ]  # fmt: skip
        assert (found.received(3001), found.received(3002)) == (0, 1)


async def test_local_rate_limit(tmp_path: Path) -> None:
    """Two notes a minute in each session; other tools, and other sessions, are not concerned."""
    async with running("local-rate-limit", tmp_path) as found:
        for _ in range(2):
            assert "result" in (await found.client.call("notes__create")).json
        refused = await found.client.call("notes__create")
        assert reason(refused) == "rate_limited"
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert "result" in (await found.client.call("notes__list")).json
        assert "result" in (await found.client.call("dates__create")).json
        await found.client.rpc("ping")
        found.client.session = None
        await found.client.initialize()
        assert "result" in (await found.client.call("notes__create")).json
        assert found.received(3001) == 4


async def test_global_rate_limit(tmp_path: Path) -> None:
    """The service counts, by what the gateway found in the request."""
    async with (
        RateLimits(clock=lambda: 7200.0).serving() as service,
        running("global-rate-limit", tmp_path, at_8081=service.port) as found,
    ):
        for _ in range(2):
            assert "result" in (await found.client.call("notes__create")).json
        refused = await found.client.call("notes__create")
        assert reason(refused) == "rate_limited"
        assert int(refused.headers["retry-after"]) > 0
        assert "result" in (await found.client.call("dates__create")).json
        assert (found.received(3001), found.received(3002)) == (2, 1)
        assert service.asked


async def test_tls(tmp_path: Path) -> None:
    """Clients and the first server speak TLS, and nobody else is spoken to."""
    async with running("tls", tmp_path, port=8443, tls=True) as found:
        assert "result" in (await found.client.call("notes__list")).json
        assert "result" in (await found.client.call("dates__list")).json
        with pytest.raises(aiohttp.ClientError):
            async with own_envoy.browser(found.place.port(8443)) as plain:
                await plain.send("/mcp")


async def test_replicas(tmp_path: Path) -> None:
    """A session stays at the replica that opened it, whichever worker decides, and when one of the workers is gone."""
    async with running("replicas", tmp_path) as found:
        owners = []
        for _ in range(6):
            found.client.session = None
            await found.client.initialize()
            before = {port: found.received(port) for port in SERVERS}
            for _ in range(4):
                assert "result" in (await found.client.call("notes__list")).json
            [owner] = [port for port in SERVERS if found.received(port) == before[port] + 4]
            owners.append(owner)
            assert len(found.servers[owner].calls("initialize")) >= 1
        assert set(owners) == set(SERVERS)
        found.workers[0].send_signal(signal.SIGKILL)
        await found.workers[0].wait()

        async def is_served() -> bool:
            return "result" in (await found.client.call("notes__list")).json

        # What Envoy sent on a connection whose end it had not noticed yet may have been read: it is not repeated.
        await eventually(is_served, "a call is served without that worker")
        calls = found.received(owners[-1])
        for _ in range(4):
            assert "result" in (await found.client.call("notes__list")).json
        assert found.received(owners[-1]) == calls + 4


async def test_pass_through(tmp_path: Path) -> None:
    """Servers behind their own routes keep their names and sessions, and each route's policy sees what calls are about."""
    async with running("pass-through", tmp_path, path="/notes/mcp") as found:
        client, notes = found.client, found.servers[3001]
        assert client.session in notes.sessions
        listed = (await client.rpc("tools/list", path="/notes/mcp")).result["tools"]
        assert [item["name"] for item in listed] == ["create", "list"]
        assert "result" in (await client.call("list", path="/notes/mcp")).json
        assert reason(await client.call("create", path="/notes/mcp")) == "denied"
        unreadable = await client.send("/notes/mcp", method="POST", body=b"{", content_type="application/json")
        assert unreadable.status == 400
        await client.initialize(path="/dates/mcp")
        assert "result" in (await client.call("create", path="/dates/mcp")).json
        assert reason(await client.call("delete_all", path="/dates/mcp")) == "denied"
        assert (await client.send("/healthz")).body == b"ok\n"
        assert (found.received(3001), found.received(3002)) == (1, 1)


async def test_egress(tmp_path: Path) -> None:
    """Servers are found by their host, this machine's without TLS and others with it only, and a policy sees what calls are
    about. What can't be read does not pass, nor does what is for other ports of this machine, Envoy's own among them."""
    async with running("egress", tmp_path, port=3128, host="localhost:3001") as found:
        notes, dates = found.servers[3001], found.servers[3002]
        assert found.client.session in notes.sessions
        assert "result" in (await found.client.call("list")).json
        assert reason(await found.client.call("create")) == "denied"
        assert (await found.client.call("list", host=f"127.0.0.1:{notes.port}")).status == 503
        for port in (found.place.port(ADMIN), found.place.port(3128), dates.port):
            for host in (f"localhost:{port}", f"LOCALHOST:{port}"):
                assert (await found.client.send("/config_dump", host=host)).status == 404
                assert (await found.client.rpc("ping", host=host)).status == 404
        assert dates.received == []
        assert stat.S_IMODE((found.place.sockets / "admin.sock").stat().st_mode) == 0o600
        elsewhere = await dates.also_with_tls(own_envoy.certified(found.place))
        await found.client.initialize(host=f"127.0.0.1:{elsewhere}")
        assert "result" in (await found.client.call("list", host=f"127.0.0.1:{elsewhere}")).json
        assert reason(await found.client.call("create", host=f"127.0.0.1:{elsewhere}")) == "denied"
        proxy = f"http://localhost:{found.place.port(3128)}"
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list"}}
        headers = {"mcp-session-id": found.client.session or ""}
        async with aiohttp.ClientSession(headers=headers) as agent:
            async with agent.post(f"http://127.0.0.1:{elsewhere}/mcp", json=call, proxy=proxy) as answer:
                assert "result" in await answer.json(content_type=None)
            with pytest.raises(aiohttp.ClientHttpProxyError, match="404"):
                await agent.post(f"https://127.0.0.1:{elsewhere}/mcp", json=call, proxy=proxy)
        assert (found.received(3001), found.received(3002)) == (1, 2)
