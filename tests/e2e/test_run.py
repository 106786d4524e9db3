"""``mcp-extproc run``: the command as users start and stop it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import socket
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mcp_extproc.cli.serve import WORKER
from mcp_extproc.run.envoy_binary import find_envoy
from tests.support.gateway import TestClient
from tests.support.processes import ROOT, children_of, free_port, gone, name_of
from tests.support.run_command import RUN, announced, finished, running, write
from tests.support.scripted import ScriptedServer, tool
from tests.support.waiting import PATIENCE, eventually


async def test_serves_an_existing_mcp_servers_file(tmp_path: Path, alpha: ScriptedServer) -> None:
    """All headers, query and path are honoured, variables replaced, and what can't be is said."""
    alpha.pages = [[tool("a"), tool("b"), tool("c")]]
    file = write(tmp_path, {"mcpServers": {"alpha": {
        "type": "http", "url": alpha.url + "/deep?key=${KEY}",
        "headers": {"X-One": "${ONE:-one}", "Authorization": "Bearer ${KEY}"},
        "includeTools": ["a", "b"], "strange": 1,
    }}})  # fmt: skip
    async with running(file, "--port", "0", "--json", KEY="k1") as process:
        ready = await announced(process)
        [server] = ready["servers"]
        assert (server["name"], server["problem"], server["tools"], server["version"]) == (
            "alpha",
            None,
            2,
            "2025-11-25",
        )
        assert ready["status_page"].startswith("http://127.0.0.1:")
        got = alpha.calls("tools/list")[0]
        assert got.path == "/mcp/deep?key=k1"
        assert (got.headers["x-one"], got.headers["authorization"]) == ("one", "Bearer k1")
        children = children_of(process.pid)
        # What workers are forked from has ended.
        assert {name_of(pid) for pid in children} == {"envoy", WORKER}
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            _, err = await process.communicate()
        assert process.returncode == 0
        assert b"strange" in err
        assert b"k1" not in err
        await gone(children)


async def test_the_table_for_people(tmp_path: Path, alpha: ScriptedServer) -> None:
    dead = free_port()
    file = write(tmp_path, {
        "servers": {"alpha": {"url": alpha.url}, "gone": {"url": f"http://127.0.0.1:{dead}/mcp", "prefix": "g"}},
        "virtual_servers": {"few": {"headers": {"x-tenant": "acme"}, "servers": {"alpha": "all"}}},
        "log": {"access": ""}, "telemetry": {"metrics": {}}, "audit": {"file": "audit.jsonl"},
    }, "gateway.yaml")  # fmt: skip
    async with running(file, "--port", "0") as process:
        assert process.stdout is not None
        lines: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while not lines or "Ctrl-C" not in lines[-1]:
                line = await process.stdout.readline()
                assert line, await process.stderr.read() if process.stderr else ""
                lines.append(line.decode())
        text = "".join(lines)
        assert lines[0].split() == ["server", "state", "protocol", "tools", "prefix"]
        assert lines[1].split() == ["alpha", "ready", "2025-11-25", "1", "alpha__"]
        assert "gone" in lines[2]
        assert f"127.0.0.1:{dead} is unreachable (UpstreamConnectionFailure): nothing listens there" in lines[2]
        assert "Serving at http://localhost:" in text
        url = re.search(r"Serving at (\S+)", text)
        assert url is not None
        assert f"Virtual server few at {url[1]}/few with x-tenant: acme\n" in text
        page = re.search(r"Status page at (\S+),", text)
        assert page is not None
        assert f"\nMetrics at {page[1]}metrics, audit in {tmp_path}/audit.jsonl\n" in text
        assert "claude mcp add --transport http gateway http://localhost:" in text
        assert "\x1b" not in text
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0


async def test_a_port_that_is_taken(tmp_path: Path, alpha: ScriptedServer) -> None:
    file = write(tmp_path, {"mcpServers": {"alpha": {"url": alpha.url}}})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = await finished(file, "--port", str(port))
    assert code == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in err
    assert "--port" in err


async def test_an_envoy_that_does_not_start(tmp_path: Path, alpha: ScriptedServer) -> None:
    file = write(tmp_path, {"mcpServers": {"alpha": {"url": alpha.url}}})
    broken = tmp_path / "envoy"
    broken.write_text("#!/bin/sh\necho '[critical][main] no such feature' >&2\nexit 3\n")
    broken.chmod(0o755)
    code, _, err = await finished(file, "--port", "0", "--envoy", str(broken))
    assert code == 1
    assert "Envoy ended at start with exit code 3" in err
    assert "no such feature" in err
    code, _, err = await finished(file, "--envoy", str(tmp_path / "nowhere"))
    assert code == 1
    assert "nowhere" in err


_RBAC = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3"
_NO_POLICY: dict[str, Any] = {"permissions": [], "principals": []}


@pytest.mark.parametrize(
    ("part", "changed", "why"),
    [
        ("lds.json", {"listen": {"tls": {"certificate": "none.pem", "key": "none.pem"}}}, "none.pem"),
        ("cds.json", {"servers": {"alpha": {"url": "https://127.0.0.1:1/mcp", "tls": {"ca": "none.pem"}}}}, "none.pem"),
        (
            "rds-mcp.json",
            {
                "envoy": {
                    "http_filters": [{"name": "rbac", "typed_config": {"@type": f"{_RBAC}.RBAC"}}],
                    "typed_per_filter_config": {
                        "rbac": {"@type": f"{_RBAC}.RBACPerRoute", "rbac": {"rules": {"policies": {"p": _NO_POLICY}}}}
                    },
                },
            },
            "PolicyValidationError.Permissions: value must contain at least 1 item",
        ),
    ],
)
async def test_what_envoy_refuses_stops_the_start(
    tmp_path: Path, alpha: ScriptedServer, part: str, changed: dict[str, Any], why: str
) -> None:
    """It goes on without, and says why only in a warning: a listener without routes would answer 404 to all."""
    (tmp_path / "none.pem").write_text("none")
    whole: dict[str, Any] = {"servers": {"alpha": {"url": alpha.url}}, **changed}
    text = json.dumps(whole).replace("none.pem", str(tmp_path / "none.pem"))
    code, _, err = await finished(write(tmp_path, json.loads(text)), "--port", "0")
    assert code == 1
    assert f"Envoy rejects {part}: " in err
    assert why in err


async def test_a_certificate_that_is_missing(tmp_path: Path) -> None:
    file = write(tmp_path, {"servers": {"alpha": {"url": "https://a.example/mcp", "tls": {"ca": "nowhere/ca.pem"}}}})
    code, _, err = await finished(file, "--port", "0")
    assert code == 2
    assert "servers.alpha.tls.ca: there is no such file" in err


async def test_what_can_not_be_served_stops_the_start(tmp_path: Path) -> None:
    file = write(tmp_path, {"mcpServers": {
        "files": {"type": "websocket", "url": "ws://localhost"}, "old": {"type": "ws", "url": "ws://localhost"},
    }})  # fmt: skip
    code, _, err = await finished(file)
    assert code == 2
    assert "files" in err
    assert "old" in err


@pytest.fixture
def folder() -> Iterator[Path]:
    """For temporary files of a run. Its path is short, as paths of sockets have to be."""
    with tempfile.TemporaryDirectory(prefix="run-") as place:
        yield Path(place)


async def test_envoy_dies(tmp_path: Path, alpha: ScriptedServer, folder: Path) -> None:
    file = write(tmp_path, {"mcpServers": {"alpha": {"url": alpha.url}}})
    async with running(file, "--port", "0", "--json", TMPDIR=str(folder)) as process:
        await announced(process)
        children = children_of(process.pid)
        [envoy] = [pid for pid in children if "envoy" in Path(f"/proc/{pid}/comm").read_text()]
        os.kill(envoy, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            _, err = await process.communicate()
        assert process.returncode == 1
        assert b"Envoy ended with signal SIGKILL: its log does not say why" in err
        await gone(children)


async def test_envoy_crashes(tmp_path: Path, alpha: ScriptedServer, folder: Path) -> None:
    """What it says first is printed, without its stack and dump. Its log stays; the other files of the run do not."""
    file = write(tmp_path, {"mcpServers": {"alpha": {"url": alpha.url}}})
    async with running(file, "--port", "0", "--json", TMPDIR=str(folder)) as process:
        await announced(process)
        [envoy] = [pid for pid in children_of(process.pid) if name_of(pid) == "envoy"]
        os.kill(envoy, signal.SIGABRT)
        async with asyncio.timeout(PATIENCE):
            _, err = await process.communicate()
    assert process.returncode == 1
    _assert_told(err.decode(), "Envoy ended with signal SIGABRT: Caught Aborted", folder)


async def test_envoy_crashes_at_start(tmp_path: Path, alpha: ScriptedServer, folder: Path) -> None:
    """It has too few file descriptors, and aborts."""
    file = write(tmp_path, {"mcpServers": {"alpha": {"url": alpha.url}}})
    envoy = tmp_path / "envoy"
    envoy.write_text(f'#!/bin/sh\nulimit -n 16\nexec {find_envoy()} "$@"\n')
    envoy.chmod(0o755)
    code, _, err = await finished(file, "--port", "0", "--envoy", str(envoy), TMPDIR=str(folder))
    assert code == 1
    _assert_told(err, "Envoy ended at start with signal SIGABRT: assert failure: ", folder)


def _assert_told(err: str, told: str, folder: Path) -> None:
    [error] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert told in error
    assert "Caught Aborted" in error
    assert "#0" not in error
    [kept] = folder.iterdir()
    assert error.endswith(f" (Envoy's log: {kept})")
    assert "[critical][backtrace]" in kept.read_text()


def abstract_sockets_of(pid: int) -> list[str]:
    """Names of a process's abstract Unix sockets (unix(7)), which every user of the machine can connect to."""
    opened = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            opened.add(descriptor.readlink().name)
    lines = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return [line[7] for line in lines if len(line) > 7 and line[7].startswith("@") and f"socket:[{line[6]}]" in opened]


async def test_no_other_user_can_take_the_listening_socket_over(tmp_path: Path, alpha: ScriptedServer) -> None:
    """Envoy's hot restart hands it to whoever connects to an abstract socket; and it leaves a file in /dev/shm."""
    file = write(tmp_path, {"mcpServers": {"alpha": {"url": alpha.url}}})
    async with running(file, "--port", "0", "--json") as process:
        await announced(process)
        children = children_of(process.pid)
        [envoy] = [pid for pid in children if "envoy" in Path(f"/proc/{pid}/comm").read_text()]
        assert {name for pid in (process.pid, *children) for name in abstract_sockets_of(pid)} == set()
        assert "/dev/shm" not in Path(f"/proc/{envoy}/maps").read_text()


async def test_killed_outright_it_leaves_nobody_behind(tmp_path: Path, alpha: ScriptedServer) -> None:
    file = write(tmp_path, {"mcpServers": {"alpha": {"url": alpha.url}}})
    async with running(file, "--port", "0", "--json") as process:
        await announced(process)
        children = children_of(process.pid)
        process.kill()
        await process.wait()
        await gone(children)


async def test_output_and_logs_on_a_full_disk(tmp_path: Path, alpha: ScriptedServer) -> None:
    """It serves, though nobody is told of it, and nothing can be logged."""
    port = free_port()
    file = write(tmp_path, {"mcpServers": {"alpha": {"url": alpha.url}, "left out": {"type": "ws"}}})
    with Path("/dev/full").open("w") as full:
        process = await asyncio.create_subprocess_exec(
            *RUN, str(file), "--port", str(port), cwd=ROOT, stdout=full, stderr=full
        )
    try:
        # The last thing that it does before it would say that it serves.
        await eventually(lambda: alpha.calls("tools/list"), "it asks the server for its tools")
        async with aiohttp.ClientSession() as http:
            client = TestClient(f"http://127.0.0.1:{port}/mcp", http)
            session = await client.initialize()
            for n in range(20):
                assert (await client.call(session, "alpha__echo", id=n)).result
            assert (await client.call(session, "nobody__none", id=21)).error
        assert process.returncode is None
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(PATIENCE):
            await process.wait()


async def test_a_server_that_starts_late_is_told_of(tmp_path: Path) -> None:
    """And of what a script reads, nothing is an access log."""
    ready = tmp_path / "ready"
    command = [sys.executable, "-S", "-E", str(ROOT / "tests" / "support" / "stdio_server.py")]
    file = write(tmp_path, {"servers": {
        "late": {"command": [*command, "when", str(ready)], "discovery_timeout": "2s"},
        "dead": {"command": [*command, "exit", "3"]},
    }}, "gateway.yaml")  # fmt: skip
    async with running(file, "--port", "0", "--json", "--workers", "1") as process:
        announcement = await announced(process)
        assert [server["state"] for server in announcement["servers"]] == ["starting", "failed"]
        assert announcement["servers"][1]["problem"].startswith("ended with exit code 3: cannot start 3")
        ready.touch()
        assert process.stdout is not None
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            joined = json.loads(await process.stdout.readline())["server"]
        assert (joined["name"], joined["state"], joined["problem"]) == ("late", "ready", None)
        async with aiohttp.ClientSession() as http:
            client = TestClient(announcement["url"], http)
            session = await client.initialize()
            assert (await client.call(session, "late__pid")).result
        err = b""
        async with asyncio.timeout(PATIENCE):
            while b'"gen_ai.tool.name":"pid"' not in err:
                assert not process.stderr.at_eof(), err
                err += await process.stderr.read(1 << 16)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            out, _ = await process.communicate()
    assert out == b""


def take_terminal() -> None:
    """Make standard input the controlling terminal, as in a shell's window."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


async def test_a_terminal_that_is_closed_ends_it(tmp_path: Path, alpha: ScriptedServer) -> None:
    """Its SIGHUP is not the one that replaces the workers."""
    file = write(tmp_path, {"mcpServers": {"alpha": {"url": alpha.url}}})
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *RUN, str(file), "--port", "0", "--json", "--workers", "1",
        cwd=ROOT, stdin=slave, stdout=asyncio.subprocess.PIPE, stderr=slave,
        start_new_session=True, preexec_fn=take_terminal,
    )  # fmt: skip
    os.close(slave)
    loop = asyncio.get_running_loop()
    loop.add_reader(master, os.read, master, 1 << 16)  # what nobody reads fills the terminal
    try:
        await announced(process)
        before = children_of(process.pid)
        process.send_signal(signal.SIGHUP)
        await eventually(lambda: children_of(process.pid) - before, "another worker")
        assert process.returncode is None
        children = before | children_of(process.pid)
        loop.remove_reader(master)
        os.close(master)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
        await gone(children)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_request_is_one_line_in_a_terminal(tmp_path: Path, alpha: ScriptedServer) -> None:
    """And what its name holds does nothing to the terminal. Starting and stopping is told once, not by each process."""
    file = write(tmp_path, {"mcpServers": {"alpha": {"url": alpha.url}}})
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *RUN, str(file), "--port", "0", "--workers", "2",
        cwd=ROOT, env={**os.environ, "TERM": "dumb", "COLUMNS": "160"}, stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    shown = bytearray()
    asyncio.get_running_loop().add_reader(master, lambda: shown.extend(os.read(master, 1 << 16)))
    try:
        serving = await eventually(lambda: re.search(rb"Serving at (\S+)\r", shown), "the address")
        assert serving is not None
        async with aiohttp.ClientSession() as http:
            client = TestClient(serving[1].decode(), http)
            session = await client.initialize()
            await client.call(session, "alpha__echo\x1b[31m\u202e")
        await eventually(lambda: b"tools/call" in shown, "the call's line")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
    finally:
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = shown.decode().replace("\r", "").splitlines()
    [call] = [line for line in lines if "tools/call" in line]
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d 200 +\d+ ms  tools/call alpha__echo\\u001b\[31m\\u202e error \w+ \(.*\)", call
    ), call
    assert not [line for line in lines if "{" in line or "info" in line or "warning" in line], lines


async def test_a_terminal_that_nobody_reads_keeps_nothing_waiting(tmp_path: Path, alpha: ScriptedServer) -> None:
    """As after Ctrl-S: calls are answered, and it ends when it is told to."""
    port = free_port()
    file = write(tmp_path, {"servers": {"alpha": {"url": alpha.url}}, "listen": {"port": port}}, "gateway.yaml")
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *RUN, str(file), "--workers", "1", cwd=ROOT, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    try:
        await eventually(lambda: alpha.calls("tools/list"), "it asks the server for its tools")
        async with aiohttp.ClientSession() as http:
            client = TestClient(f"http://127.0.0.1:{port}/mcp", http)
            session = await client.initialize()
            for number in range(300):  # more lines than a terminal holds
                assert (await client.call(session, "alpha__echo", id=number)).result
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
    finally:
        os.close(master)
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("wait_for", ["first child", "second child", "envoy"])
async def test_ctrl_c_during_the_start(tmp_path: Path, alpha: ScriptedServer, wait_for: str) -> None:
    """At any moment, also while Envoy is asked for its version, and while its configuration is rendered."""
    file = write(tmp_path, {"mcpServers": {"alpha": {"url": alpha.url}}})
    async with running(file, "--port", "0", "--json") as process:
        least = 1 if wait_for == "first child" else 2
        children = await eventually(
            lambda: children_of(process.pid),
            f"{least} children",
            until=lambda children: (
                len(children) >= least and (wait_for != "envoy" or "envoy" in map(name_of, children))
            ),
        )
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            _, err = await process.communicate()
        assert process.returncode == 0, err
        await gone(children)
