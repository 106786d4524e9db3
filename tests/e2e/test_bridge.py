"""stdio servers behind ``serve``: with its own bridge, and with one that runs elsewhere (``mcp-extproc bridge``)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_serve import Place, envoy, serving, until_logged
from tests.e2e.test_stdio_processes import call, entry, named
from tests.support.gateway import TestGateway
from tests.support.processes import children_of, free_port, gone, logs, program
from tests.support.scripted import ScriptedServer
from tests.support.waiting import PATIENCE, eventually

SECRET = "SECRET_OF_SESSIONS"
OF_BRIDGE = "SECRET_OF_BRIDGE"
BRIDGE = [sys.executable, "-m", "mcp_extproc", "bridge"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, tmp_path / "shared", free_port())


def write(place: Place, **servers: Any) -> None:
    """Configure servers: URLs, or stdio servers."""
    new = place.file.with_suffix(".new")
    new.write_text(json.dumps({
        "servers": {name: _native(server) for name, server in servers.items()},
        "listen": {"port": place.port},
        "session": {"secret": f"${{{SECRET}}}"},
        "log": {"access": "", "format": "json"},
    }))  # fmt: skip
    new.replace(place.file)


def _native(server: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(server, str):
        return {"url": server}
    return {
        "command": [server["command"], *server["args"]],
        **{key: server[key] for key in server.keys() - {"command", "args"}},
    }


@dataclass
class Elsewhere:
    """A bridge of its own, which can be killed and started again. It has no value for what is the gateway's alone, and one for
    what is its own."""

    place: Place
    listen: str
    address: str
    """For Envoy."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        log = self.place.directory / "bridge.log"
        command = ["env", "-u", SECRET, f"{OF_BRIDGE}=hush", *BRIDGE, str(self.place.file), "--listen", self.listen]
        async with program(command, log=log) as process:
            await logs(process, log, '"ready"')
            yield process


@pytest.fixture(params=["unix", "tcp"])
def elsewhere(place: Place, request: pytest.FixtureRequest) -> Elsewhere:
    """At a path, and at a port of a host that goes by a name."""
    if request.param == "unix":
        return at_path(place)
    port = free_port()
    return Elsewhere(place, f"127.0.0.1:{port}", f"bridge.localhost:{port}")


def at_path(place: Place) -> Elsewhere:
    address = f"unix:{place.directory}/b.sock"
    return Elsewhere(place, address, address)


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "s" * 32)


async def pid_of(client: TestGateway, session: str, server: str) -> int:
    return int(await call(client, session, f"{server}__pid"))


async def works(client: TestGateway, session: str | None, server: str) -> int:
    """The child's process id, as soon as calls are answered: of one session, or of new ones."""

    async def called() -> Any:
        return (await client.call(session or await client.initialize(), f"{server}__pid")).json

    return _pid(await eventually(called, f"calls to {server} work", until=lambda answer: "result" in answer))


def _pid(answer: Any) -> int:
    return int(json.loads(answer["result"]["content"][0]["text"]))


async def test_a_bridge_of_its_own(place: Place, alpha: ScriptedServer) -> None:
    """Children come and go with the configuration, survive the workers, and end with the gateway."""
    write(place, local=entry("good"), alpha=alpha.url)
    async with serving(place, "--workers", "2") as process, envoy(place) as client:
        session = await client.initialize()
        first = await pid_of(client, session, "local")
        assert first in children_of(process.pid)
        process.send_signal(signal.SIGHUP)
        await until_logged(place, "workers_replaced")
        assert await pid_of(client, session, "local") == first
        write(place, local=entry("good"), more=entry("good"), alpha=alpha.url)
        await until_logged(place, "config_reloaded")
        second = await works(client, None, "more")
        write(place, local=entry("good"), alpha=alpha.url)
        await gone([second])
        assert await pid_of(client, session, "local") == first
        [bridge] = named(children_of(process.pid), "bridge-process")
        os.kill(bridge, signal.SIGKILL)
        await gone([bridge, first])
        assert await works(client, session, "local") != first
        everything = children_of(process.pid)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
        await gone(everything)
        assert not (place.shared / "bridge.sock").exists()


async def test_a_bridge_elsewhere(place: Place, elsewhere: Elsewhere, alpha: ScriptedServer) -> None:
    """The gateway starts nothing, and is not given what only the bridge needs. Both follow the file, each by itself."""
    local = entry("good", env={"KEY": f"${{{OF_BRIDGE}}}"})
    write(place, local=local, alpha=alpha.url)
    async with (
        elsewhere.running() as bridge,
        serving(place, "--workers", "1", "--bridge", elsewhere.address) as process,
        envoy(place) as client,
    ):
        session = await client.initialize()
        first = await works(client, session, "local")
        assert first in children_of(bridge.pid)
        assert not named(children_of(process.pid), "bridge-process")
        write(place, local=local, more=entry("good"), alpha=alpha.url)
        await until_logged(place, "config_reloaded")
        second = await works(client, None, "more")
        assert second in children_of(bridge.pid)
        write(place, local=local, alpha=alpha.url)
        await gone([second])
        await until_logged(place, "config_reloaded", 2)
        assert await pid_of(client, session, "local") == first
        bridge.send_signal(signal.SIGHUP)
        await eventually(lambda: _told(place), "the bridge has looked again", until=lambda told: told >= 3)
        assert await pid_of(client, session, "local") == first
        await _ends(bridge, signal.SIGTERM, code=0)
        answer = (await client.call(session, "alpha__echo", {"text": "hi"})).json
        assert "result" in answer, answer


def _told(place: Place) -> int:
    return (place.directory / "bridge.log").read_text().count('"config_reloaded"')


async def _ends(process: asyncio.subprocess.Process, number: signal.Signals, code: int) -> None:
    everything = children_of(process.pid)
    assert everything
    process.send_signal(number)
    async with asyncio.timeout(PATIENCE):
        assert await process.wait() == code
    await gone(everything)


async def test_a_bridge_elsewhere_that_is_killed(place: Place, elsewhere: Elsewhere, alpha: ScriptedServer) -> None:
    """Calls fail and name the server; other servers' go on; and with the next bridge the same session works."""
    write(place, local=entry("good"), alpha=alpha.url)
    async with serving(place, "--bridge", elsewhere.address), envoy(place) as client:
        async with elsewhere.running() as bridge:
            session = await client.initialize()
            first = await works(client, session, "local")
            assert first in children_of(bridge.pid)
            left = (await client.call(session, "local__start", {"daemon": True})).result["content"][0]["text"]
            await _ends(bridge, signal.SIGKILL, code=-signal.SIGKILL)
            await gone([first, int(left)])
        refused = await client.call(session, "local__pid")
        assert refused.status == 200
        assert "local" in refused.error["message"]
        assert "result" in (await client.call(session, "alpha__echo", {"text": "hi"})).json
        later = await client.initialize()
        async with elsewhere.running():
            assert await works(client, session, "local") != first
            assert await works(client, later, "local")


async def test_a_bridge_that_has_nothing_to_do_yet(place: Place, alpha: ScriptedServer) -> None:
    """It waits for the first stdio server, and a wrong file changes nothing."""
    address = f"unix:{place.directory}/b.sock"
    write(place, alpha=alpha.url)
    log = place.directory / "bridge.log"
    async with at_path(place).running() as bridge:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mcp_extproc", "health", "--bridge", address, "--timeout", "30"
        )
        assert await process.wait() == 0
        write(place, alpha=alpha.url, local={"command": "${NOT_SET_ANYWHERE}", "args": []})
        await logs(bridge, log, "the environment variable NOT_SET_ANYWHERE is not set")
        write(place, alpha=alpha.url, local=entry("good"), absent={"command": "nonsense", "args": []})
        await logs(bridge, log, '"config_reloaded"')
        await logs(bridge, log, "the command nonsense was not found")
        assert Path(f"{place.directory}/b.sock").stat().st_mode & 0o777 == 0o600
        await _ends(bridge, signal.SIGTERM, code=0)
        assert not Path(f"{place.directory}/b.sock").exists()
