"""``mcp-extproc serve`` beside an Envoy of its own: kept workers, and the configuration that it writes for Envoy."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from mcp_extproc.address import UnixAddress
from mcp_extproc.run.envoy_admin import Admin
from mcp_extproc.run.envoy_binary import find_envoy
from mcp_extproc.run.standalone import StandaloneGateway
from tests.e2e.test_workers import load, until_known, until_served, workers_of
from tests.support.gateway import TestGateway
from tests.support.processes import ROOT, children_of, comes_up, entries, free_port, gone, is_alive, logs, program
from tests.support.scripted import ScriptedServer
from tests.support.transports import sockets_are_held
from tests.support.waiting import PATIENCE, eventually

SERVE = [sys.executable, "-m", "mcp_extproc", "serve"]


@dataclass
class Place:
    """Where both meet: a directory that both see, as a shared volume of two containers."""

    directory: Path
    shared: Path
    port: int

    @property
    def file(self) -> Path:
        return self.directory / "gateway.yaml"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def write(self, **servers: str) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({
            "servers": {name: {"url": url} for name, url in servers.items()},
            "listen": {"port": self.port},
            "session": {"secret": "s" * 32},
            "log": {"access": "", "format": "json"},
        }))  # fmt: skip
        new.replace(self.file)

    async def stat(self, name: str) -> int | None:
        return await Admin(UnixAddress(str(self.shared / "admin.sock"))).stat(name)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, tmp_path / "shared", free_port())


@asynccontextmanager
async def serving(place: Place, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The gateway, ready."""
    log = place.directory / "serve.log"
    command = [*SERVE, str(place.file), "--envoy-config", str(place.shared), *options]
    async with program(command, log=log) as process:
        await logs(process, log, '"ready"')
        yield process


@asynccontextmanager
async def envoy(place: Place) -> AsyncIterator[TestGateway]:
    """Envoy, once it serves, and a client of it."""
    command = [find_envoy(), "-c", str(place.shared / "envoy.json"), "--disable-hot-restart", "--log-level", "error"]
    log = place.directory / "envoy.log"
    async with (
        program(command, log=log) as process,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        client = TestGateway(cast("StandaloneGateway", place), http, place.directory / "access.log")
        await comes_up(process, log, lambda: answers(client), "Envoy serves")
        yield client


async def answers(client: TestGateway) -> bool:
    try:
        return (await client.rpc("ping")).status == 400  # no session
    except aiohttp.ClientError:
        return False


def logged(place: Place, event: str) -> list[dict[str, Any]]:
    return [entry for entry in entries(place.directory / "serve.log") if entry["event"] == event]


async def until_logged(place: Place, event: str, times: int = 1) -> dict[str, Any]:
    found = await eventually(
        lambda: logged(place, event), f"{event}, {times} x", until=lambda found: len(found) >= times
    )
    return found[times - 1]


def addresses(kind: str, workers: int) -> Sequence[str]:
    if kind == "unix":
        return ("--workers", str(workers))
    listen = [part for _ in range(workers) for part in ("--listen", f"127.0.0.1:{free_port()}")]
    return ["--transport", "http2", *listen]  # the other one can't inherit sockets


@pytest.mark.parametrize("kind", [pytest.param("unix", marks=sockets_are_held), "tcp"])
@pytest.mark.parametrize("workers", [1, 2])
async def test_servers_come_and_go_and_workers_are_replaced_under_load(
    place: Place, alpha: ScriptedServer, beta: ScriptedServer, kind: str, workers: int
) -> None:
    place.write(alpha=alpha.url)
    async with serving(place, *addresses(kind, workers)) as process, envoy(place) as client:
        before = workers_of(process.pid)
        assert len(before) == workers
        session = await client.initialize()
        async with load(client) as calls:
            place.write(alpha=alpha.url, beta=beta.url)
            told = await until_logged(place, "config_reloaded")
            assert (told["added"], told["removed"], told["changed"]) == ("beta", "", "")
            await until_known(client, session, "beta__echo")
            process.send_signal(signal.SIGHUP)
            await until_logged(place, "workers_replaced")
            await calls.more(20)
            place.write(alpha=alpha.url)
            assert (await until_logged(place, "config_reloaded", 2))["removed"] == "beta"
            answer = await until_known(client, session, "beta__echo", known=False)
            assert answer.error["code"] == -32602
            await calls.more(20)
        assert calls.failed == []
        await gone(before)
        await eventually(
            lambda: len(workers_of(process.pid)), "no other worker is left", until=lambda count: count == workers
        )
        children = children_of(process.pid)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
        await gone(children)
        left = {path.name for path in place.shared.iterdir()}
        assert not [name for name in left if name.startswith((".", "extproc-"))], left


async def test_envoy_goes_on_while_the_gateway_is_killed_and_started_again(place: Place, alpha: ScriptedServer) -> None:
    """Its files stay as they are; sessions go on, as the secret is configured."""
    place.write(alpha=alpha.url)
    async with serving(place, "--workers", "2") as process:
        async with envoy(place) as client:
            session = await client.initialize()
            written = {path: path.stat().st_mtime_ns for path in place.shared.glob("*.json")}
            assert len(written) == 7
            children = children_of(process.pid)
            process.kill()
            await process.wait()
            await gone(children)
            answer = await client.call(session, "alpha__echo")
            assert (answer.status, answer.error["code"]) == (503, -32603)
            async with serving(place, "--workers", "2"):
                await until_served(client, session, "alpha__echo")
                assert {path: path.stat().st_mtime_ns for path in place.shared.glob("*.json")} == written


@pytest.mark.parametrize("kind", [pytest.param("unix", marks=sockets_are_held), "tcp"])
async def test_a_worker_that_is_killed_comes_back(place: Place, alpha: ScriptedServer, kind: str) -> None:
    """What comes meanwhile waits for it: nobody closes the socket."""
    place.write(alpha=alpha.url)
    async with serving(place, *addresses(kind, 1)) as process, envoy(place) as client:
        session = await client.initialize()
        [worker] = workers_of(process.pid)
        os.kill(worker, signal.SIGKILL)
        await until_logged(place, "worker_died")

        async def waits() -> bool:
            answer = await client.call(session, "alpha__echo")
            assert answer.status in (200, 504), answer  # 504: as long as Envoy waits
            return answer.status == 200

        await eventually(waits, "another worker answers")
        assert not is_alive(worker)


async def test_grpcio_at_a_tcp_address(place: Place, alpha: ScriptedServer) -> None:
    """Its workers listen there beside each other: they are replaced, come back, and nobody else gets in."""
    place.write(alpha=alpha.url)
    there = ("--transport", "grpcio", "--listen", f"127.0.0.1:{free_port()}")
    async with serving(place, *there) as process, envoy(place) as client:
        session = await client.initialize()
        first = workers_of(process.pid)
        process.send_signal(signal.SIGHUP)
        await until_logged(place, "workers_replaced")
        await gone(first)
        await until_served(client, session, "alpha__echo")
        [second] = workers_of(process.pid)
        os.kill(second, signal.SIGKILL)
        await until_logged(place, "worker_died")
        await until_served(client, session, "alpha__echo")
        code, _, err = await serve_once(place, *there, "--envoy-config", str(place.directory / "other"))
        assert (code, "Address already in use" in err) == (1, True)


@pytest.mark.parametrize(("transport", "command"), [("http2", "serve"), ("grpcio", "worker")])
async def test_what_workers_are(place: Place, alpha: ScriptedServer, transport: str, command: str) -> None:
    """Forks of what the supervisor has read; but programs of their own where they use gRPC, which does not survive a fork."""
    place.write(alpha=alpha.url)
    async with serving(place, "--workers", "2", "--transport", transport) as process:
        workers = workers_of(process.pid)
        assert len(workers) == 2
        for worker in workers:
            words = Path(f"/proc/{worker}/cmdline").read_text().split("\0")
            assert words[words.index("mcp_extproc") + 1] == command


async def test_nothing_reaches_a_server_before_a_worker_is_ready(place: Place, alpha: ScriptedServer) -> None:
    """Also where there is one worker only, whose health nobody checks: what comes before that waits for it."""
    place.write(alpha=alpha.url)
    async with serving(place, "--workers", "1"):
        pass
    command = [find_envoy(), "-c", str(place.shared / "envoy.json"), "--disable-hot-restart", "--log-level", "error"]
    async with program(command, log=place.directory / "envoy.log"), aiohttp.ClientSession() as http:
        client = TestGateway(cast("StandaloneGateway", place), http, place.directory / "access.log")
        await eventually(
            lambda: place.stat("listener_manager.workers_started"), "Envoy's threads run", until=lambda seen: seen == 1
        )
        statuses = [(await client.rpc("ping")).status]
        assert statuses == [503]

        async def until_another() -> None:
            while statuses[-1] in (503, 504):
                statuses.append((await client.rpc("ping")).status)

        asking = asyncio.create_task(until_another())
        async with serving(place, "--workers", "1"), asyncio.timeout(PATIENCE):
            await asking
        # Then the worker's own answer (there is no session), and no other on the way to it.
        assert {503, 400} <= set(statuses) <= {503, 504, 400}
        assert alpha.received == []


async def test_an_address_that_is_taken(place: Place, alpha: ScriptedServer) -> None:
    place.write(alpha=alpha.url)
    code, _, err = await serve_once(
        place, "--listen", f"127.0.0.1:{alpha.port}", "--listen", f"127.0.0.1:{free_port()}"
    )
    assert code == 1
    assert f"cannot listen on 127.0.0.1:{alpha.port}: Address already in use" in err


@pytest.mark.parametrize("options", [[], ["--workers", "2"], ["--workers", "1", "--envoy-config"]])
async def test_a_second_one_in_the_same_directory(place: Place, alpha: ScriptedServer, options: list[str]) -> None:
    """It is refused, and the first one goes on with its sockets and the files of its Envoy."""
    place.write(alpha=alpha.url)
    async with serving(place, "--workers", "1") as process:
        before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in place.shared.iterdir()}
        place.write(beta=alpha.url)
        directory = [] if options[-1:] == ["--envoy-config"] else ["--directory"]
        code, _, err = await serve_once(place, *options, *directory, str(place.shared))
        assert code == 1
        assert f"unix:{place.shared}/extproc-0.sock: another process listens there. Stop it" in " ".join(err.split())
        await until_logged(place, "config_reloaded")
        after = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in place.shared.iterdir()}
        assert before.keys() == after.keys()
        assert process.returncode is None
    # What is left of one that was killed is in nobody's way.
    stale = place.shared / "extproc-0.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stale))
        left.listen()
    async with serving(place, "--workers", "1"):
        pass
    assert not stale.exists()


async def test_workers_and_addresses_that_do_not_match(place: Place, alpha: ScriptedServer) -> None:
    place.write(alpha=alpha.url)
    code, _, err = await serve_once(place, "--workers", "2", "--listen", f"unix:{place.directory}/one.sock")
    assert code == 2
    assert "2 workers at 1 addresses" in err


async def test_a_directory_with_too_long_a_name(place: Place, alpha: ScriptedServer) -> None:
    place.write(alpha=alpha.url)
    code, _, err = await serve_once(place, "--workers", "1", "--directory", str(place.directory / ("x" * 90)))
    assert code == 2
    assert "--directory" in err
    assert "at most 107 bytes" in err


async def serve_once(place: Place, *options: str) -> tuple[int, str, str]:
    """Exit code and output of a `serve` that ends by itself."""
    process = await asyncio.create_subprocess_exec(
        *SERVE, str(place.file), *options, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
