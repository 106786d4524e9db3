"""stdio servers behind real Envoy: all of MCP, on the same paths as for any server. How they misbehave:
tests/unit/bridge/test_server.py; how their processes end: test_stdio_processes.py."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.test_stdio_processes import call, works
from tests.support.gateway import TestGateway
from tests.support.gateway import gateway as start_gateway
from tests.support.processes import ROOT, children_of, gone, is_alive
from tests.support.streaming import calling, listen, reply
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVER = [sys.executable, "-S", "-E", str(ROOT / "tests" / "support" / "stdio_server.py")]
CAPABILITIES: dict[str, Any] = {"sampling": {}, "elicitation": {}, "roots": {}}


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Children of ``gated`` start while this is there."""
    return tmp_path_factory.mktemp("gate") / "open"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, gate: Path) -> AsyncIterator[TestGateway]:
    gate.touch()
    servers = {
        "one": {"command": [*SERVER, "good"], "max_processes": 40, "env": {"TOKEN": "hush-hush"}},
        "other": {"command": [*SERVER, "junk"], "tools": {"exclude": ["env"]}, "timeout": "3s"},
        "shared": {"command": [*SERVER, "good"], "sharing": "shared"},
        "idle": {"command": [*SERVER, "good"], "idle_timeout": "200ms"},
        "gated": {"command": [*SERVER, "when", str(gate)], "sharing": "shared", "discovery_timeout": "500ms"},
        "curious": {"command": [*SERVER, "curious"]},
        "missing": {"command": ["nonsense"]},
    }
    async with start_gateway(tmp_path_factory.mktemp("stdio"), servers) as gateway:
        yield gateway


async def test_lists_and_calls(gateway: TestGateway) -> None:
    session = await gateway.initialize()
    listed = (await gateway.rpc("tools/list", mcp_session_id=session)).result
    names = {tool["name"] for tool in listed["tools"]}
    assert {"one__pid", "one__env", "other__pid", "shared__pid"} <= names
    assert "other__env" not in names
    [missing] = listed["_meta"]["mcp-extproc/unavailable"]
    assert missing["server"] == "missing"
    assert "the command nonsense was not found" in missing["message"]
    assert await call(gateway, session, "one__echo", text="é\n") == {"text": "é\n", "id": 1, "meta": None}
    pids = [await call(gateway, session, f"{name}__pid") for name in ("one", "other", "shared")]
    assert len(set(pids)) == 3
    entry = await gateway.logged(mcp_name="one__pid")
    assert (entry["mcp.server"], entry["upstream_cluster"], entry["status"]) == ("one", "mcp/one", 200)


async def test_each_session_has_its_child_until_it_ends(gateway: TestGateway) -> None:
    sessions = [await gateway.initialize() for _ in range(2)]
    pids = [await call(gateway, session, "one__pid") for session in sessions]
    shared = {await call(gateway, session, "shared__pid") for session in sessions}
    assert (len(set(pids)), len(shared)) == (2, 1)
    assert (await gateway.send(None, method="DELETE", mcp_session_id=sessions[0])).status == 204
    await gone(pids[:1])
    assert is_alive(pids[1])


@pytest.mark.parametrize("server", ["one", "shared"])
async def test_a_child_has_no_descriptor_but_its_pipes(gateway: TestGateway, server: str) -> None:
    """Nor a terminal: what the bridge has open (its socket, other children's pipes) is its own."""
    found = await call(gateway, await gateway.initialize(), f"{server}__open_files")
    assert {number: name.split(":")[0] for number, name in found.items()} == dict.fromkeys("012", "pipe")


async def test_progress(gateway: TestGateway) -> None:
    session = await gateway.initialize()
    meta, arguments = {"progressToken": "t"}, {"count": 3}
    for server in ("one", "shared"):
        async with calling(gateway, session, f"{server}__steps", id=9, meta=meta, arguments=arguments) as stream:
            *told, answer = await stream.rest()
        assert [one["params"]["progress"] for one in told] == [0, 1, 2]
        assert {one["params"]["progressToken"] for one in told} == {"t"}
        assert answer["id"] == 9


@pytest.mark.parametrize("method", ["sampling/createMessage", "elicitation/create", "roots/list"])
async def test_the_server_asks_the_client(gateway: TestGateway, method: str) -> None:
    session = await gateway.initialize(capabilities=CAPABILITIES)
    async with calling(gateway, session, "one__ask", id=5, arguments={"method": method}) as stream:
        question = await stream.message()
        assert question["method"] == method
        assert (await reply(gateway, session, question["id"], result={"heard": method})).status == 202
        answer = await stream.message()
    assert (answer["id"], json.loads(answer["result"]["content"][0]["text"])) == (5, {"heard": method})


async def test_a_server_asks_before_the_client_listens(gateway: TestGateway) -> None:
    """As those do that want to know a client's roots when a session begins, while the gateway asks for their lists."""
    session = await gateway.initialize(capabilities=CAPABILITIES)
    assert (await gateway.rpc("tools/list", mcp_session_id=session)).status == 200
    async with listen(gateway, session) as stream:
        while (question := await stream.message()).get("method") != "roots/list":
            pass  # that lists have changed
        assert (await reply(gateway, session, question["id"], result={"roots": []})).status == 202
    await eventually(
        lambda: call(gateway, session, "curious__heard"), "roots", until=lambda heard: heard == {"roots": {"roots": []}}
    )


async def test_a_shared_server_can_ask_nobody(gateway: TestGateway) -> None:
    session = await gateway.initialize(capabilities=CAPABILITIES)
    assert (await call(gateway, session, "shared__ask", method="roots/list"))["code"] == -32601


async def test_notifications_reach_the_clients_stream(gateway: TestGateway) -> None:
    session = await gateway.initialize()
    method = "notifications/tools/list_changed"

    async def talk() -> None:
        while True:
            await gateway.call(session, "one__say", {"method": method, "params": {}})

    async with listen(gateway, session) as stream:
        talking = asyncio.create_task(talk())  # the stream of the server may open a little later
        try:
            assert (await stream.message())["method"] == method
        finally:
            talking.cancel()


async def test_log_messages_come_before_the_result_also_where_the_client_listens(gateway: TestGateway) -> None:
    session = await gateway.initialize()
    arguments = {"method": "notifications/message", "params": {"level": "error", "data": "x"}}
    async with listen(gateway, session), calling(gateway, session, "one__say", arguments=arguments) as stream:
        told, answer = await stream.rest()
    assert (told["method"], told["params"]["logger"]) == ("notifications/message", "one")
    assert answer["id"] == 1


async def test_cancellation(gateway: TestGateway) -> None:
    """It reaches the server, and the session goes on."""
    session = await gateway.initialize()
    async with calling(gateway, session, "one__until_cancelled", id="c") as stream:
        assert (await stream.message())["params"]["data"] == "waiting"
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "c"}}
        assert (await gateway.send(json.dumps(cancel).encode(), mcp_session_id=session)).status == 202
        assert "error" in (await stream.message())
    assert await call(gateway, session, "one__pid") > 0


async def test_an_idle_child_ends_and_its_session_goes_on(gateway: TestGateway) -> None:
    session = await gateway.initialize()
    pid = await call(gateway, session, "idle__pid")
    await gone([pid])
    again = await call(gateway, session, "idle__pid")
    assert again != pid


async def test_a_child_that_dies_in_a_call(gateway: TestGateway) -> None:
    """The call fails; the next one has another child, in the same session. Others notice nothing."""
    session = await gateway.initialize()
    other = await call(gateway, session, "other__pid")
    failed = await gateway.call(session, "one__exit", {"code": 7})
    assert "ended with exit code 7" in failed.error["message"]
    assert await works(gateway, session, "one__pid")
    assert await call(gateway, session, "other__pid") == other


async def test_a_session_s_next_child_is_still_starting(gateway: TestGateway, gate: Path) -> None:
    """The call says so, in the words of a session that begins."""
    session = await gateway.initialize()
    pid = await call(gateway, session, "gated__pid")
    gate.unlink()
    os.kill(pid, signal.SIGKILL)
    await gone({pid})

    async def says() -> str:
        failed = await gateway.call(session, "gated__pid", id="x")
        assert (failed.status, failed.json["id"], failed.error["code"]) == (200, "x", -32603)
        return str(failed.error["message"])

    # A call may be on its way to the child that has just ended.
    still = re.compile(r"No answer: server 'gated' is still starting, since \d+ s\.")
    await eventually(says, "the reason", until=lambda message: still.fullmatch(message) is not None)
    gate.touch()
    assert await works(gateway, session, "gated__pid")


async def test_a_call_that_is_never_answered(gateway: TestGateway) -> None:
    """Timeouts are Envoy's, as for any server."""
    session = await gateway.initialize()
    answer = await gateway.call(session, "other__until_cancelled", {"quiet": True})
    assert answer.error["code"] == -32603


async def test_twenty_sessions_at_once(gateway: TestGateway) -> None:
    sessions = await asyncio.gather(*(gateway.initialize() for _ in range(20)))
    pids = await asyncio.gather(*(call(gateway, session, "one__pid") for session in sessions))
    assert len(set(pids)) == 20
    await asyncio.gather(*(gateway.send(None, method="DELETE", mcp_session_id=session) for session in sessions))
    await gone(pids)


async def test_workers_do_not_matter_to_children(gateway: TestGateway) -> None:
    session = await gateway.initialize()
    pid = await call(gateway, session, "one__pid")
    await gateway.local.restart_workers()
    assert await call(gateway, session, "one__pid") == pid


async def test_the_bridge_dies(gateway: TestGateway) -> None:
    """With its children, and theirs. Another one takes its place, and sessions go on."""
    session = await gateway.initialize()
    before = gateway.local.pids["bridge"]
    left = [await call(gateway, session, "one__start", daemon=daemon) for daemon in (False, True)]
    children = children_of(before)
    assert set(left) <= children
    os.kill(before, signal.SIGKILL)
    await gone(children)
    assert await works(gateway, session, "one__pid")
    assert gateway.local.pids["bridge"] != before
