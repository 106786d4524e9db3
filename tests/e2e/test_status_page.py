"""The status page in front of a real Envoy: what comes, what it costs while nobody looks, and the way to the endpoint."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import sys
import termios
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from mcp_extproc.status.guard import SELF_HEADER
from tests.e2e.conftest import StartGateway
from tests.e2e.test_attach import shop
from tests.e2e.test_serve import Place, envoy, serving, until_logged
from tests.support.gateway import TestGateway
from tests.support.processes import ROOT, free_port
from tests.support.run_command import announced, piped, running, write
from tests.support.scripted import ScriptedServer, tool
from tests.support.waiting import PATIENCE, eventually

KEY = "k" * 40
TOP = [sys.executable, "-m", "mcp_extproc", "top"]
WRITTEN = "access_logs.grpc_access_log.logs_written"


class Watching:
    """Somebody who looks: the latest of each kind of event, and all calls."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.latest: dict[str, Any] = {}
        self.calls: list[dict[str, Any]] = []

    async def until(self, wanted: Callable[[Watching], Any]) -> Any:
        """What is wanted, as soon as it is there."""
        while not (found := wanted(self) if {"known", "state"} <= self.latest.keys() else None):
            name = (await self._response.content.readline()).decode().strip().removeprefix("event: ")
            data = json.loads((await self._response.content.readline()).removeprefix(b"data: "))
            await self._response.content.readline()
            self.latest[name] = data
            self.calls += data if name == "calls" else []
        return found

    def call(self, **fields: Any) -> dict[str, Any] | None:
        """The first call with these fields."""
        return next((call for call in self.calls if fields.items() <= call.items()), None)


@asynccontextmanager
async def watching(http: aiohttp.ClientSession, url: str) -> AsyncIterator[Watching]:
    async with http.get(f"{url}events") as response:
        yield Watching(response)


async def test_what_goes_on_is_seen_while_somebody_looks(start_own: StartGateway, alpha: ScriptedServer) -> None:
    alpha.pages = [[tool("echo"), tool("delete")]]
    async with start_own(
        {"alpha": alpha.url, "gone": "http://127.0.0.1:9/mcp"},
        status={"address": "127.0.0.1:0"},
        authentication={"api_keys": {"keys": {"bob": KEY}}},
        authorization={"rules": [{"name": "no-deletes", "action": "deny", "tools": ["delete"]}, {"action": "allow"}]},
        rate_limits=[{"match": {"tool": "echo"}, "requests": 2, "per": "hour"}],
    ) as gateway:
        page = gateway.local.status_url
        assert page is not None
        session = await gateway.initialize(x_api_key=KEY)
        calls = {"x_api_key": KEY, "mcp_session_id": session}
        assert (await gateway.rpc("tools/call", {"name": "alpha__echo"}, **calls)).result
        assert not await gateway.local.stat(WRITTEN), "records cost, and nobody looks"
        assert "collector" not in gateway.local.pids

        async with watching(gateway.http, page) as seen:
            await seen.until(
                lambda now: now.latest["state"]["records"] and (now.latest["state"]["envoy"] or {}).get("watches")
            )
            for id, name in enumerate(("alpha__echo", "alpha__echo", "alpha__delete"), 100):
                await gateway.rpc("tools/call", {"name": name}, id=id, **calls)
            await gateway.rpc("tools/list", x_api_key="wrong")
            ran, limited, denied = [await seen.until(partial(Watching.call, id=id)) for id in ("100", "101", "102")]
            stranger = await seen.until(lambda now: now.call(verdict="deny", why="invalid_api_key"))
            servers = await seen.until(lambda now: now.latest["known"]["asked"] and now.latest["known"]["servers"])
            state = seen.latest["state"]
        assert (ran["verdict"], ran["what"], ran["server"], ran["principal"]) == ("allow", "echo", "alpha", "bob")
        assert ran["ms"] >= ran["server_ms"] > 0
        assert (limited["verdict"], limited["rule"]) == ("deny", "rate_limit")
        assert (denied["verdict"], denied["rule"]) == ("deny", "no-deletes")
        assert stranger["principal"] is None
        assert [(one["name"], one["state"], one["tools"]) for one in servers] == [
            ("alpha", "ready", 2),
            ("gone", "failed", None),
        ]
        assert state["envoy"]["clusters"]["mcp/alpha"]["rq_total"] > 0
        assert state["envoy"]["clusters"]["mcp/alpha"]["open"] == []
        assert state["envoy"]["listener"]["cx_active"] > 0
        await _calls_through_the_page(gateway.http, page)


async def _calls_through_the_page(http: aiohttp.ClientSession, page: str) -> None:
    """It has no privilege: what the key may do it does, and without one there is nothing."""

    async def ask(method: str, params: Any, **headers: str) -> tuple[int, Any, str | None]:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        fields |= {SELF_HEADER: ",".join(fields), "content-type": "application/json"}
        fields |= {"accept": "application/json, text/event-stream"}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        async with http.post(f"{page}relay/", data=body.encode(), headers=fields) as response:
            return response.status, await response.json(), response.headers.get("mcp-session-id")

    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "page", "version": "1"}}
    assert (await ask("initialize", hello))[0] == 401
    _, _, session = await ask("initialize", hello, x_api_key=KEY)
    assert session is not None
    _, listed, _ = await ask("tools/list", {}, x_api_key=KEY, mcp_session_id=session)
    assert [one["name"] for one in listed["result"]["tools"]] == ["alpha__echo"]


async def test_without_a_page_there_is_none(start: StartGateway, alpha: ScriptedServer) -> None:
    async with start({"alpha": alpha.url}) as gateway:
        assert gateway.local.status_url is None
        assert await gateway.local.stat(WRITTEN) is None


async def test_a_page_that_comes_and_goes_with_the_configuration(
    start_own: StartGateway, alpha: ScriptedServer
) -> None:
    async with start_own({"alpha": alpha.url}, status={"address": "127.0.0.1:0"}) as gateway:
        file = gateway.access_log.with_name("gateway.yaml")
        written = json.loads(file.read_text())
        file.write_text(json.dumps({**written, "status": {"address": ""}}))
        await eventually(lambda: gateway.local.status_url is None, "no page")
        file.write_text(json.dumps(written))
        page = str(await eventually(lambda: gateway.local.status_url, "a page"))
        async with watching(gateway.http, page) as seen:
            await seen.until(lambda now: (now.latest["state"]["envoy"] or {}).get("watches"))
            session = await gateway.initialize()
            await gateway.call(session, "alpha__echo", id="new")
            await seen.until(lambda now: now.call(id="new"))


async def test_beside_an_envoy_of_others(tmp_path: Path, alpha: ScriptedServer) -> None:
    """Its numbers and its listener are not known, and records come always."""
    page = f"http://127.0.0.1:{free_port()}/"
    status = {"address": page.removeprefix("http://").strip("/")}
    async with shop(tmp_path, {"alpha": {"url": alpha.url}}, status=status) as running, aiohttp.ClientSession() as http:
        await running.client.initialize()
        async with watching(http, page) as seen:
            assert (await running.client.call("alpha__echo")).result
            assert (await seen.until(partial(Watching.call, what="echo")))["server"] == "alpha"
            await seen.until(lambda now: now.latest["known"]["asked"])
            assert (seen.latest["state"]["envoy"], seen.latest["known"]["ways"]) == (None, [])
            assert seen.latest["known"]["servers"][0]["state"] == "ready"


async def test_beside_an_envoy_that_is_told_what_to_do(tmp_path: Path, alpha: ScriptedServer) -> None:
    place = Place(tmp_path, tmp_path / "shared", free_port())
    place.write(alpha=alpha.url)
    document = json.loads(place.file.read_text())
    place.file.write_text(json.dumps({**document, "status": {"address": "127.0.0.1:0"}}))
    async with serving(place), envoy(place) as client:
        page = (await until_logged(place, "ready"))["status_page"]
        async with watching(client.http, page) as seen:
            await seen.until(lambda now: (now.latest["state"]["envoy"] or {}).get("watches"))
            session = await client.initialize()
            await client.call(session, "alpha__echo", id="here")
            await seen.until(partial(Watching.call, id="here"))
            streams = await seen.until(lambda now: now.latest["state"]["workers"])
            assert [one["streams"] for one in streams] == [0]
            [way] = seen.latest["known"]["ways"]
            assert (way["url"], way["port"]) == (f"http://localhost:{place.port}/mcp", place.port)


@asynccontextmanager
async def terminal(url: str) -> AsyncIterator[tuple[Process, bytearray, int]]:
    """`top` in a terminal: the process, what it has drawn, and where keys are pressed."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    # Its size is the terminal's, whatever the one in which the tests run has.
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment["TERM"] = "xterm-256color"
    process = await asyncio.create_subprocess_exec(
        *TOP, url, cwd=ROOT, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    shown, loop = bytearray(), asyncio.get_running_loop()

    def take() -> None:
        try:
            shown.extend(os.read(master, 1 << 16))
        except OSError:  # nobody has the other end any more
            loop.remove_reader(master)

    loop.add_reader(master, take)
    try:
        yield process, shown, master
    finally:
        loop.remove_reader(master)
        os.close(master)
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_top(start_own: StartGateway, alpha: ScriptedServer) -> None:
    alpha.pages = [[tool("echo")]]
    async with start_own({"alpha": alpha.url}, status={"address": "127.0.0.1:0"}) as gateway:
        page = gateway.local.status_url
        assert page is not None
        session = await gateway.initialize()
        for end in ("q", "interrupt"):
            async with terminal(page) as (process, shown, keys):
                await eventually(lambda: b"No calls yet" in shown or b"tools/call" in shown, "it looks")
                await _until_watched(gateway, page)
                await gateway.call(session, f"alpha__{end}\x1b[31m", id=end)
                call = f"alpha__{end}\\u001b[31m".encode()
                await eventually(partial(shown.count, call), "the call")
                os.write(keys, b"q") if end == "q" else process.send_signal(signal.SIGINT)
                async with asyncio.timeout(PATIENCE):
                    assert await process.wait() == 0
        for options in ([], ["--json"]):
            async with piped([*TOP, page, *options], {**os.environ}) as process, asyncio.timeout(PATIENCE):
                out, _ = await process.communicate()
                assert process.returncode == 0
                assert b"\x1b" not in out
                assert b"alpha" in out
        assert json.loads(out)["known"]["servers"][0]["name"] == "alpha"


async def _until_watched(gateway: TestGateway, page: str) -> None:
    """Envoy sends records."""

    async def sends() -> bool:
        async with gateway.http.get(f"{page}state") as response:
            return bool(((await response.json())["state"]["envoy"] or {}).get("watches"))

    await eventually(sends, "Envoy sends records")


async def test_printed_once_servers_are_as_they_were_at_the_start(tmp_path: Path, alpha: ScriptedServer) -> None:
    """Into a pipe nobody looks on, so nobody asks them again."""
    gone = f"http://127.0.0.1:{free_port()}/mcp"
    servers = {"alpha": {"url": alpha.url}, "gone": {"url": gone}, "missing": {"command": "/nonexistent/mcp"}}
    file = write(tmp_path, {"mcpServers": servers})
    async with running(file, "--port", "0", "--json") as process:
        page = (await announced(process))["status_page"]
        async with piped([*TOP, page], {**os.environ, "COLUMNS": "300"}) as asked, asyncio.timeout(PATIENCE):
            out, err = await asked.communicate()
        assert asked.returncode == 0, err
        lines = [" ".join(line.split()) for line in out.decode().splitlines()]
        rows = {line.split()[0]: line for line in lines if line.split()[:1] in (["alpha"], ["gone"], ["missing"])}
        assert rows["alpha"].startswith("alpha ready ")
        assert rows["gone"].startswith("gone failed ")
        assert "onnect" in rows["gone"]
        assert rows["missing"].startswith("missing failed can't be started")
        assert any(line.startswith("Servers as of ") for line in lines)
