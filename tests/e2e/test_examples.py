"""The examples and the documentation's own steps, as a reader would carry them out."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from mcp.client.client import Client
from mcp_types import TextContent

from mcp_extproc.run.envoy_binary import find_envoy
from tests.support.processes import ROOT, children_of, free_port, gone, http_server, interrupt, logs, program
from tests.support.run_command import announced, piped
from tests.support.waiting import PATIENCE, eventually
from tests.unit.test_docs import blocks, with_filters

RUN = [sys.executable, "examples/run.py"]
COMMAND = [sys.executable, "-m", "mcp_extproc"]


@asynccontextmanager
async def running(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """``examples/run.py``, as ``make run`` starts it."""
    async with piped([*RUN, *arguments], {**os.environ, **environment}) as process:
        yield process


async def text_of(client: Client, name: str, **arguments: Any) -> str:
    """The text that a tool answers with."""
    result = await client.call_tool(name, arguments)
    [block] = result.content
    assert isinstance(block, TextContent)
    return block.text


async def test_make_run_serves_until_ctrl_c() -> None:
    """Both sample servers behind one URL; then one Ctrl-C, and no process is left."""
    async with running("--port", "0", "--json") as process:
        ready = await announced(process)
        states = {server["name"]: (server["problem"], server["tools"]) for server in ready["servers"]}
        assert states == {"notes": (None, 3), "dates": (None, 4)}
        async with Client(ready["url"]) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            assert names == [
                "notes__create", "notes__list", "notes__search",
                "date__today", "date__weekday", "date__add_days", "date__days_between",
            ]  # fmt: skip
            created = await client.call_tool("notes__create", {"title": "Milk", "text": "two bottles"})
            assert created.structured_content == {"id": 1, "title": "Milk", "text": "two bottles"}
            found = await client.call_tool("notes__search", {"words": "MILK two"})
            assert found.structured_content == {"result": [created.structured_content]}
            assert (await client.call_tool("notes__search", {"words": "milk three"})).structured_content == {
                "result": []
            }
            assert await text_of(client, "date__weekday", day="2026-11-21") == "Saturday"
            assert "2026-03-01" in await text_of(client, "date__add_days", day="2026-02-28", days=1)
            assert await text_of(client, "date__days_between", start="2026-01-01", end="2026-12-31") == "364"
            with pytest.raises(Exception, match="Unknown tool: notes__delete"):
                await client.call_tool("notes__delete", {"id": 1})
        children = children_of(process.pid)
        assert len(children) >= 4  # two servers, Envoy, a worker
        interrupt(process.pid)
        async with asyncio.timeout(PATIENCE):
            await process.communicate()
        assert process.returncode == 0
        await gone(children)


async def test_the_samples_from_mcp_servers_json_and_the_tools_example() -> None:
    async with running("examples/mcp-servers.json", "--port", "0", "--json") as process:
        ready = await announced(process)
        listing = await asyncio.create_subprocess_exec(
            sys.executable, "examples/tools.py", ready["url"], cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(PATIENCE):
            out, _ = await listing.communicate()
        assert listing.returncode == 0
        lines = out.decode().splitlines()
        assert [line.split()[0] for line in lines] == [
            "notes__create", "notes__list", "notes__search",
            "dates__today", "dates__weekday", "dates__add_days", "dates__days_between",
        ]  # fmt: skip
        assert lines[0].endswith("Write a new note.")


@pytest.mark.parametrize(
    ("file", "names"),
    [
        (
            "mcp-route.yaml",
            ["notes__create", "notes__list", "notes__search",
             "dates__today", "dates__weekday", "dates__add_days", "dates__days_between"],
        ),
        (
            "kuadrant.yaml",
            ["notes_create", "notes_list", "notes_search", "notes_delete", "today", "weekday", "add_days", "days_between"],
        ),
    ],
)  # fmt: skip
async def test_the_samples_as_documents_of_kubernetes(file: str, names: list[str]) -> None:
    """``make run ARGS=examples/…``, with a Gateway's port replaced, and for Kuadrant a virtual server."""
    async with running(f"examples/{file}", "--port", "0", "--json") as process:
        ready = await announced(process)
        assert [server["problem"] for server in ready["servers"]] == [None, None]
        async with Client(ready["url"]) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == names
            [weekday] = [name for name in names if name.endswith("weekday")]
            assert await text_of(client, weekday, day="2026-11-21") == "Saturday"
        if file == "kuadrant.yaml":
            async with Client(f"{ready['url']}/default/reading") as client:
                listed = [tool.name for tool in (await client.list_tools()).tools]
                assert listed == ["notes_list", "notes_search", "weekday"]


async def test_a_port_that_is_taken() -> None:
    """The gateway's or a server's: it says which, and what to change, and ends what had started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, environment, says in (
            (["--port", port], {}, ["127.0.0.1:" + port, "Address already in use", "--port"]),
            (["--port", "0"], {"NOTES_PORT": port}, ["sample server notes", "127.0.0.1:" + port, "NOTES_PORT"]),
        ):
            async with running(*arguments, **environment) as process:
                children: set[int] = set()
                ending = asyncio.create_task(process.wait())

                def ended() -> bool:
                    children.update(children_of(process.pid))  # noqa: B023 - called in this round only
                    return ending.done()  # noqa: B023

                await eventually(ended, "it gives up")
                assert process.stderr is not None
                err = (await process.stderr.read()).decode()
                assert process.returncode == 1
                assert all(word in err for word in says), err
                assert "Traceback" not in err
                assert children
                await gone(children)


async def test_killed_outright_it_leaves_no_server_behind() -> None:
    async with running("--port", "0", "--json") as process:
        await announced(process)
        children = children_of(process.pid)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await gone(children)


@asynccontextmanager
async def attached(folder: Path, filters: list[Any]) -> AsyncIterator[str]:
    """The samples, a worker, and an Envoy of the user's own with more filters: the steps of the README. Yields the URL."""
    ports = {"notes": free_port(), "dates": free_port()}
    port = free_port()
    file = "examples/gateway.yaml"
    with tempfile.TemporaryDirectory(prefix="mcp-") as sockets:
        environment = {f"{name.upper()}_PORT": str(number) for name, number in ports.items()}
        environment["XDG_RUNTIME_DIR"] = sockets
        printing = await asyncio.create_subprocess_exec(
            *COMMAND, "envoy", "bootstrap", file, "--port", str(port),
            cwd=ROOT, env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await printing.communicate()
        configuration = folder / "envoy.json"
        configuration.write_text(json.dumps(with_filters(json.loads(out), filters)))
        async with AsyncExitStack() as running:
            for name, number in ports.items():
                command = [sys.executable, f"examples/servers/{name}.py", "--port", str(number)]
                await running.enter_async_context(http_server(command, number, log=folder / f"{name}.log"))
            log = folder / "worker.log"
            serve = [*COMMAND, "serve", file]
            worker = await running.enter_async_context(program(serve, log=log, environment=environment))
            await logs(worker, log, "serving")
            envoy = [find_envoy(), "-c", str(configuration), "--disable-hot-restart", "--log-level", "warning"]
            await running.enter_async_context(http_server(envoy, port, log=folder / "envoy.log"))
            yield f"http://localhost:{port}/mcp"


async def test_policies_of_the_documentation(tmp_path: Path) -> None:
    """Every filter that the documentation shows, behind the gateway: what it forbids is refused, all else works."""
    filters = [yaml.safe_load(block.text) for block in blocks("yaml envoy-filter")]
    assert [item["name"].rpartition(".")[2] for item in filters] == ["rbac", "local_ratelimit"]
    async with attached(tmp_path, filters) as url, Client(url) as client:
        with pytest.raises(Exception, match="A policy of the gateway refuses this request"):
            await client.call_tool("notes__create", {"title": "a", "text": "b"})
        assert (await client.call_tool("notes__list", {})).structured_content == {"result": []}
        for _ in range(2):
            assert await text_of(client, "date__weekday", day="2026-11-21") == "Saturday"
        with pytest.raises(Exception, match="Too many requests: try again later"):
            await client.call_tool("date__weekday", {"day": "2026-11-21"})
        assert await text_of(client, "date__days_between", start="2026-01-01", end="2026-01-02") == "1"
        # A policy changes no list: it is answered before.
        assert "notes__create" in [tool.name for tool in (await client.list_tools()).tools]
