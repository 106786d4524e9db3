"""The bridge's HTTP face with real children (tests/support/stdio_server.py)."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mcp_extproc import processes
from mcp_extproc.bridge import child, conversation, peer, pool, server
from mcp_extproc.bridge.child import Child
from mcp_extproc.bridge.messages import read
from mcp_extproc.bridge.server import BridgeServer
from mcp_extproc.bridge.spec import StdioServer, Told
from mcp_extproc.contract import BRIDGE_HEADER, HAS_FAILED, IS_STARTING
from mcp_extproc.mcp.sse import SseParser
from tests.support.processes import children_of, gone, is_alive
from tests.support.waiting import PATIENCE, eventually
from tests.unit.bridge.support import HELD, spec

LATEST = "2025-11-25"


class Stream:
    """Messages of an event stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._parser = SseParser(1 << 22)
        self._read: list[Any] = []

    async def next(self) -> Any:
        """The next message; ``None`` at the end."""
        while not self._read:
            chunk = await self._response.content.readany()
            if not chunk:
                return None
            self._read += [json.loads(event.data) for event in self._parser.feed(chunk) if event.data is not None]
        return self._read.pop(0)


class Client:
    """A client of one server."""

    def __init__(self, http: aiohttp.ClientSession, server: str) -> None:
        self.http = http
        self.url = f"http://localhost/{server}"
        self.session: str | None = None

    @asynccontextmanager
    async def request(self, method: str, message: Any = None, **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
        headers |= {} if self.session is None else {"mcp-session-id": self.session}
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        data = None if message is None else io.BytesIO(text)  # aiohttp warns of large bodies that are plain bytes
        async with self.http.request(method, self.url, data=data, headers=headers) as response:
            yield response

    async def ask(self, method: str, params: Any = None, id: Any = 1) -> Any:
        """The whole message that answers a request, and all before it where it is an event stream."""
        async with self.request("POST", {"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}) as got:
            if method == "initialize" and "mcp-session-id" in got.headers:
                self.session = got.headers["mcp-session-id"]
            if got.content_type == "application/json":
                return await got.json()
            stream, found = Stream(got), []
            while (message := await stream.next()) is not None:
                found.append(message)
            return found

    async def tell(self, message: Any) -> int:
        async with self.request("POST", {"jsonrpc": "2.0", **message}) as got:
            assert await got.read() == b"" or got.status >= 400
            return got.status

    async def initialize(self, capabilities: Any = None) -> Any:
        answer = await self.ask("initialize", {"protocolVersion": LATEST, "capabilities": capabilities or {}})
        await self.tell({"method": "notifications/initialized"}) if self.session else None
        return answer

    async def raw_call(self, tool: str, id: Any = 1, meta: Any = None, **arguments: Any) -> Any:
        params = {"name": tool, "arguments": arguments, **({} if meta is None else {"_meta": meta})}
        return await self.ask("tools/call", params, id)

    async def call(self, tool: str, **arguments: Any) -> Any:
        """What a tool returned."""
        answer = await self.raw_call(tool, **arguments)
        return json.loads(answer["result"]["content"][0]["text"])

    async def delete(self) -> int:
        async with self.request("DELETE") as got:
            return got.status

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Stream]:
        async with self.request("GET") as got:
            assert (got.status, got.content_type) == (200, "text/event-stream")
            assert got.headers["x-accel-buffering"] == "no"
            yield Stream(got)


class Stage:
    """A bridge, and who uses it."""

    def __init__(self, bridge: BridgeServer, http: aiohttp.ClientSession) -> None:
        self.bridge = bridge
        self.http = http

    def client(self, server: str = "s") -> Client:
        return Client(self.http, server)

    async def session(self, server: str = "s", capabilities: Any = None) -> Client:
        client = self.client(server)
        assert "result" in await client.initialize(capabilities)
        return client


@asynccontextmanager
async def serving(directory: Path, servers: Mapping[str, StdioServer], held_bytes: int = HELD) -> AsyncIterator[Stage]:
    processes.adopt_orphans()
    bridge = BridgeServer()
    runner = web.AppRunner(bridge.application(1 << 22), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    path = str(directory / "bridge.sock")
    await web.UnixSite(runner, path).start()
    bridge.apply(Told(dict(servers), held_bytes))
    try:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path, limit=0)) as http:
            yield Stage(bridge, http)
    finally:
        below = children_of(os.getpid())
        await bridge.close()
        await runner.cleanup()
        await gone(below)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with serving(tmp_path, {"s": spec("good")}) as stage:
        yield stage


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [record.__dict__["mcp_fields"] for record in caplog.records if record.getMessage() == event]


# -- All of MCP -----------------------------------------------------------------------------------------------------------


async def test_calls(stage: Stage) -> None:
    client = await stage.session()
    tools = await client.ask("tools/list", id="list")
    assert (tools["id"], len(tools["result"]["tools"]) > 5) == ("list", True)
    echoed = await client.raw_call("echo", id=2**70, meta={"x": "é"}, text="hello\n\u2028")
    assert echoed["id"] == 2**70
    assert json.loads(echoed["result"]["content"][0]["text"]) == {
        "text": "hello\n\u2028",
        "id": 2**70,
        "meta": {"x": "é"},
    }


async def test_line_breaks_between_tokens(stage: Stage) -> None:
    client = await stage.session()
    body = b'{\r\n "jsonrpc": "2.0",\n "id": 1,\n "method":\n"ping"}\n'
    async with client.request("POST", body) as got:
        assert await got.json() == {"jsonrpc": "2.0", "id": 1, "result": {}}


async def test_progress_comes_with_its_call(stage: Stage) -> None:
    client = await stage.session()
    *told, answer = await client.raw_call("steps", id=7, meta={"progressToken": "t"}, count=3)
    assert [one["params"] for one in told] == [{"progressToken": "t", "progress": step} for step in range(3)]
    assert answer["id"] == 7


async def test_what_is_about_no_call(stage: Stage) -> None:
    client = await stage.session()
    async with client.listen() as stream:
        answer = await client.call("say", method="notifications/tools/list_changed", params={})
        assert answer == "said"
        assert (await stream.next())["method"] == "notifications/tools/list_changed"
    await eventually(
        lambda: client.raw_call("say", method="notifications/message", params={"data": 1}),
        "no stream",
        until=lambda got: isinstance(got, list),
    )


@pytest.mark.parametrize("listens", [True, False])
async def test_the_server_asks(stage: Stage, listens: bool) -> None:
    client = await stage.session(capabilities={"sampling": {}})

    async def answer(stream: Stream) -> None:
        question = await stream.next()
        assert (question["id"], question["method"]) == ("question", "sampling/createMessage")
        assert await client.tell({"id": "question", "result": {"heard": True}}) == 202

    if listens:
        async with client.listen() as stream:
            asked, _ = await asyncio.gather(client.call("ask", method="sampling/createMessage"), answer(stream))
        assert asked == {"heard": True}
        return
    params = {"name": "ask", "arguments": {"method": "sampling/createMessage"}}
    async with client.request("POST", {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params}) as got:
        stream = Stream(got)
        await answer(stream)
        assert (await stream.next())["id"] == 5
        assert await stream.next() is None


async def test_a_question_during_a_list_waits_for_the_clients_stream(tmp_path: Path) -> None:
    async with serving(tmp_path, {"s": spec("curious")}) as stage:
        client = await stage.session(capabilities={"roots": {}})
        assert "result" in await client.ask("tools/list")
        async with client.listen() as stream:
            assert (await stream.next())["method"] == "roots/list"
            assert await client.tell({"id": "roots", "result": {"roots": []}}) == 202
            await eventually(
                lambda: client.call("heard"), "the answer", until=lambda heard: heard == {"roots": {"roots": []}}
            )


async def test_a_list_that_waits_for_an_answer(tmp_path: Path) -> None:
    """Of a client that has no other stream."""
    async with serving(tmp_path, {"s": spec("curious first", lent_after=0.01)}) as stage:
        client = await stage.session(capabilities={"roots": {}})
        async with client.request("POST", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}) as got:
            stream = Stream(got)
            assert (await stream.next())["method"] == "roots/list"
            assert await client.tell({"id": "roots", "result": {"roots": []}}) == 202
            assert "result" in await stream.next()


async def test_cancellation(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server stops, and answers nothing, as the specification has it. The response ends."""
    monkeypatch.setattr(pool, "_CANCELLED_SECONDS", 0.01)
    client = await stage.session()
    params = {"name": "until_cancelled", "arguments": {}}
    async with client.request("POST", {"jsonrpc": "2.0", "id": "c", "method": "tools/call", "params": params}) as got:
        stream = Stream(got)
        assert (await stream.next())["params"]["data"] == "waiting"
        assert await client.tell({"method": "notifications/cancelled", "params": {"requestId": "c"}}) == 202
        assert await stream.next() is None
    call = asyncio.ensure_future(client.raw_call("until_cancelled", id="d", quiet=True))
    session = stage.bridge._pools["s"].session(client.session or "")
    assert session is not None
    await eventually(lambda: session.conversation.has_calls, "it is called")
    assert await client.tell({"method": "notifications/cancelled", "params": {"requestId": "d"}}) == 202
    assert await call == []
    assert await client.call("pid") > 0


async def test_the_client_hears_what_the_server_was_told(stage: Stage) -> None:
    client = stage.client()
    answer = await client.initialize({"roots": {"listChanged": True}})
    assert answer["result"]["_meta"]["heard"]["capabilities"] == {"roots": {"listChanged": True}}


# -- Sessions -------------------------------------------------------------------------------------------------------------


async def test_each_session_has_its_child(stage: Stage) -> None:
    one, other = await stage.session(), await stage.session()
    pids = [await client.call("pid") for client in (one, other)]
    assert pids[0] != pids[1]
    assert await one.delete() == 204
    await gone(pids[:1])
    assert is_alive(pids[1])
    assert (await one.ask("ping"))["error"]["message"] == "The session has ended."
    for method in ("POST", "GET", "DELETE"):
        async with one.request(
            method, {"jsonrpc": "2.0", "id": 1, "method": "ping"} if method == "POST" else None
        ) as got:
            assert got.status == 404


async def test_many_sessions_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, {"s": spec("good", most=30)}) as stage:
        clients = await asyncio.gather(*(stage.session() for _ in range(20)))
        pids = await asyncio.gather(*(client.call("pid") for client in clients))
        assert len(set(pids)) == 20
        await asyncio.gather(*(client.delete() for client in clients))
        await gone(pids)


async def test_one_is_ready_for_the_next_session(stage: Stage) -> None:
    [spare] = await eventually(lambda: children_of(os.getpid()), "a spare child", until=lambda pids: len(pids) == 1)
    client = await stage.session()
    assert await client.call("pid") == spare
    await eventually(lambda: children_of(os.getpid()) - {spare}, "another spare child")


async def test_no_more_than_are_allowed(tmp_path: Path) -> None:
    async with serving(tmp_path, {"s": spec("good", most=2), "other": spec("good")}) as stage:
        first, _ = await stage.session(), await stage.session()
        third = stage.client()
        refused = await third.initialize()
        assert refused["error"]["message"] == "The server s has all of its 2 processes in use (max_processes)"
        assert third.session is None
        await stage.session("other")
        pid = await first.call("pid")
        await first.delete()
        await gone([pid])
        assert "result" in await eventually(third.initialize, "room", until=lambda got: "result" in got)


async def test_nobody_uses_it(tmp_path: Path) -> None:
    async with serving(tmp_path, {"s": spec("good", idle_timeout=1.0)}) as stage:
        used, unused = await stage.session(), await stage.session()
        pids = [await client.call("pid") for client in (used, unused)]
        async with used.listen():
            await gone(pids[1:])
            assert is_alive(pids[0])
            assert (await unused.ask("ping"))["error"]["message"] == "The session has ended."
        await gone(pids)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"no json", 400),
        (b"[]", 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', 400),
        (b'{"jsonrpc":"2.0","method":"notifications/initialized"}', 400),
        (b"x" * (5 << 20), 413),
    ],
)
async def test_refused(stage: Stage, body: bytes, status: int) -> None:
    async with stage.client().request("POST", body) as got:
        assert got.status == status


async def test_other_servers_and_methods(stage: Stage) -> None:
    async with stage.client("nobody").request("POST", {"jsonrpc": "2.0", "id": 1, "method": "initialize"}) as got:
        assert got.status == 404
    async with stage.client().request("PUT") as got:
        assert got.status == 405


async def test_a_fault_of_ours(stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Its message is not logged: it may quote anything."""

    async def broken(*_: object) -> None:
        raise ValueError("hush")

    monkeypatch.setattr(pool.Pool, "open", broken)
    async with stage.client().request("POST", {"jsonrpc": "2.0", "id": 1, "method": "initialize"}) as got:
        assert (got.status, (await got.json())["error"]["code"]) == (500, -32603)
    assert logged(caplog, "request_failed") == [{"server": "s"}]
    assert not [record for record in caplog.records if record.name == "aiohttp.server"]


async def test_a_client_that_leaves_is_no_fault(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of ours, or of a server: while something is written to it, and it is not yet known that it is gone."""
    client = await stage.session()
    write = web.StreamResponse.write

    async def left(response: web.StreamResponse, data: bytes) -> None:
        if response.content_type == "text/event-stream":
            raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
        await write(response, data)

    monkeypatch.setattr(web.StreamResponse, "write", left)
    with suppress(aiohttp.ClientError):
        await client.raw_call("steps", meta={"progressToken": 1}, count=1)
    assert (await client.raw_call("pid"))["id"] == 1
    assert not [record for record in caplog.records if record.name == "aiohttp.server"]


# -- One for all ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Stage]:
    async with serving(tmp_path, {"s": spec("good", sharing="shared")}) as stage:
        yield stage


async def test_all_share_one(shared: Stage) -> None:
    clients = await asyncio.gather(*(shared.session(capabilities={"sampling": {}}) for _ in range(5)))
    assert len({client.session for client in clients}) == 5
    assert len(set(await asyncio.gather(*(client.call("pid") for client in clients)))) == 1
    answers = await asyncio.gather(*(
        client.raw_call("steps", id=1, meta={"progressToken": 1}, count=2) for client in clients
    ))  # fmt: skip
    for *told, answer in answers:
        assert [one["params"] for one in told] == [{"progressToken": 1, "progress": step} for step in range(2)]
        assert answer["id"] == 1
    assert (await clients[0].initialize())["result"]["_meta"]["heard"]["capabilities"] == {}


async def test_a_shared_one_asks_nobody(shared: Stage) -> None:
    one, other = await shared.session(), await shared.session()
    assert (await one.call("ask", method="sampling/createMessage"))["code"] == -32601
    assert await one.call("ask", method="ping") == {}
    async with one.listen() as first, other.listen() as second:
        await one.call("say", method="notifications/message", params={"data": "mine"})
        await one.call("say", method="notifications/tools/list_changed", params={})
        for stream in (first, second):
            assert (await stream.next())["method"] == "notifications/tools/list_changed"


async def test_a_shared_one_outlives_sessions_and_is_replaced_when_it_dies(shared: Stage) -> None:
    one, other = await shared.session(), await shared.session()
    pid = await one.call("pid")
    await one.delete()
    assert await other.call("pid") == pid
    failed = await other.raw_call("exit", code=3)
    assert failed["error"]["message"] == "The server s ended with exit code 3: last words."
    again = await eventually(shared.client().initialize, "another child", until=lambda got: "result" in got)
    assert again["result"]["serverInfo"]["name"] == "stdio"


# -- Servers that misbehave -----------------------------------------------------------------------------------------------


async def test_junk_on_standard_output(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tmp_path, {"s": spec("junk")}) as stage:
        client = await stage.session()
        assert await client.call("pid") > 0
    assert [fields["line"] for fields in logged(caplog, "stdout_is_no_message")][:3] == [
        "Listening",
        "{not json}",
        "[1]",
    ]


async def test_no_answer_at_all(tmp_path: Path) -> None:
    async with serving(tmp_path, {"s": spec("mute", start_timeout=0.3, answer_within=0.3)}) as stage:
        answer = await stage.client().initialize()
        assert answer["error"]["message"] == "The server s has not answered within 0.3 s (start_timeout)"


async def test_an_exit_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(tmp_path, {"s": spec("exit", "3")}) as stage:
        answer = await stage.client().initialize()
        assert "ended with exit code 3: cannot start 3" in answer["error"]["message"]
        await eventually(lambda: logged(caplog, "child_ended"), "its end is logged")
        again = await stage.client().initialize()
        assert "it is started again in" in again["error"]["message"]
    assert logged(caplog, "child_ended")[0]["last_lines"] == "cannot start 3"
    assert logged(caplog, "stderr")[0]["line"] == "cannot start 3"


async def test_errors_of_the_bridge_are_told_from_answers_of_servers(stage: Stage) -> None:
    """In a header: all of the body a server could write itself."""
    client = await stage.session()
    for tool, said in (("pid", None), ("exit", HAS_FAILED)):
        params = {"name": tool, "arguments": {"code": 9}}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        async with client.request("POST", message) as got:
            assert ("error" in await got.json(), got.headers.get(BRIDGE_HEADER)) == (said is not None, said)
    async with client.request("POST", {"jsonrpc": "2.0", "id": 1, "method": "ping"}) as got:
        assert got.headers[BRIDGE_HEADER] == HAS_FAILED, "its session has ended"


async def test_an_exit_in_a_call(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    client = await stage.session()
    other = await stage.session()
    async with client.listen() as stream:
        answer = await client.raw_call("exit", id="x", code=9)
        assert (answer["id"], answer["error"]["message"]) == ("x", "The server s ended with exit code 9: last words.")
        assert await stream.next() is None
    assert (await client.ask("ping"))["error"]["message"] == "The session has ended."
    assert await other.call("pid") > 0
    assert {fields["exit"] for fields in logged(caplog, "child_ended")} == {"exit code 9"}


async def test_an_exit_by_a_signal_without_a_name(stage: Stage) -> None:
    client = await stage.session()
    answer = await client.raw_call("signal", number=40)
    assert answer["error"]["message"] == "The server s ended with signal 40."


async def test_a_server_that_writes_no_more(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls would run into their time-outs."""
    monkeypatch.setattr(child, "GRACE_SECONDS", 0.1)
    client = await stage.session()
    answer = await client.raw_call("silence")
    assert answer["error"]["message"] == "The server s has closed its standard output."


async def test_a_server_that_takes_nothing_more(stage: Stage) -> None:
    """It has not heard of the next call: as its session has ended, the call may be sent once more in another one."""
    client = await stage.session()
    running = asyncio.create_task(client.raw_call("shut", id="first"))

    async def told() -> int:
        return await client.tell({"method": "notifications/initialized"})

    await eventually(told, "it takes nothing more", until=(404).__eq__)
    assert (await client.ask("ping", id="next"))["error"]["message"] == "The session has ended."
    assert not running.done()
    running.cancel()


async def test_a_server_that_cannot_be_read(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await stage.session()

    async def broken(*_: object) -> None:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(Child, "_take", broken)
    answer = await client.raw_call("pid")
    assert answer["error"]["message"] == "The server s was ended, as what it wrote could not be read."


async def test_a_server_that_is_late(tmp_path: Path) -> None:
    """Whoever asks first is told; the child goes on starting, and whoever asks the same again gets it."""
    ready = tmp_path / "ready"
    async with serving(tmp_path, {"s": spec("when", str(ready), answer_within=0.1)}) as stage:
        answer = await stage.client().initialize()
        assert answer["error"]["message"] == "The server s is still starting, since 0 s"
        assert "data" not in answer["error"]
        async with stage.client().request("POST", {"jsonrpc": "2.0", "id": 1, "method": "initialize"}) as got:
            assert got.headers[BRIDGE_HEADER] == IS_STARTING
        [pid] = children_of(os.getpid())
        ready.touch()
        client = stage.client()
        await eventually(client.initialize, "it is there", until=lambda got: "result" in got)
        assert await client.call("pid") == pid


async def test_a_late_server_is_started_once(tmp_path: Path) -> None:
    """Others wait for the first one to answer: it may be downloading. It is of whoever asks the same, and of nobody else."""
    ready = tmp_path / "ready"
    async with serving(tmp_path, {"s": spec("when", str(ready), answer_within=0.1)}) as stage:
        await stage.client().initialize({"sampling": {}})
        client = stage.client()
        refused = await client.initialize()
        assert refused["error"]["message"] == "The server s is still starting, since 0 s"
        [late] = children_of(os.getpid())
        ready.touch()
        first = stage.client()
        again = partial(first.initialize, {"sampling": {}})
        await eventually(again, "it is there", until=lambda got: "result" in got)
        assert await first.call("pid") == late
        answer = await eventually(client.initialize, "another one", until=lambda got: "result" in got)
        assert answer["result"]["_meta"]["heard"]["capabilities"] == {}
        assert await client.call("pid") != late


async def test_an_answer_over_the_bound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tmp_path, {"s": spec("good", event_bytes=10_000)}) as stage:
        client = await stage.session()
        answer = await client.raw_call("big", id="b", size=100_000)
        assert answer["id"] == "b"
        assert answer["error"]["message"] == (
            "The server's answer is larger than limits.event_bytes allows: raise it, or have the server answer in parts."
        )
        assert len(await client.call("big", size=5_000)) == 5_000
    assert len(logged(caplog, "stdout_line_too_long")) == 1


async def test_answers_that_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held is bounded: the child has to wait, and then the call fails. Once the others are read, calls work again."""
    monkeypatch.setattr(peer, "ROOM_SECONDS", 0.05)
    size = 5 << 20
    async with serving(tmp_path, {"s": spec("good", event_bytes=size << 1)}, held_bytes=8 * size) as stage:
        client = await stage.session()
        body = {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "big", "arguments": {"size": size}}}
        async with client.request("POST", {**body, "id": 1}) as unread:
            refused = await client.raw_call("big", id=2, size=size + 1000)
            assert refused["id"] == 2
            assert refused["error"]["message"].startswith("The server's answer was not read: the bridge holds as much")
            assert stage.bridge._held.total <= 2 * size
            assert len(json.loads((await unread.json())["result"]["content"][0]["text"])) == size
        assert len(await client.call("big", size=size)) == size
        await eventually(lambda: stage.bridge._held.total, "nothing is held", until=lambda total: total == 0)


async def test_a_child_that_reads_late(tmp_path: Path) -> None:
    """What waits for it is held, until it has read it."""
    go = tmp_path / "go"
    async with serving(tmp_path, {"s": spec("when", str(go), answer_within=0.1)}) as stage:
        client = stage.client()
        await client.ask("initialize", {"protocolVersion": LATEST, "capabilities": {}, "x": "x" * 500_000})
        assert 300_000 < stage.bridge._held.total < 500_000
        go.touch()
        await eventually(lambda: stage.bridge._held.total, "it is read", until=lambda total: total == 0)


async def test_a_request_that_there_is_no_room_for(tmp_path: Path) -> None:
    async with serving(tmp_path, {"s": spec("good")}, held_bytes=1 << 20) as stage:
        client = await stage.session()
        answer = await client.raw_call("echo", text="x" * 300_000)
        assert answer["error"]["message"].startswith("The request was not read: the bridge holds as much as it may")
        assert await client.call("pid") > 0


@asynccontextmanager
async def half_sent(stage: Stage, host: str, path: str, **headers: str) -> AsyncIterator[asyncio.StreamReader]:
    """A request of which 200,000 bytes come, and the rest does not."""
    assert isinstance(stage.http.connector, aiohttp.UnixConnector)
    reader, writer = await asyncio.open_unix_connection(stage.http.connector.path)
    lines = [f"POST {path} HTTP/1.1", f"host: {host}", "content-length: 400000"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + b" " * 200_000)
    try:
        yield reader
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("host", "path", "headers"),
    [
        ("attacker.example", "/s", {}),
        ("localhost", "/nobody", {}),
        ("localhost", "/s", {"mcp-session-id": "nobody's"}),
    ],
    ids=["host", "server", "session"],
)
async def test_nothing_is_held_of_a_request_that_nobody_may_send(
    stage: Stage, host: str, path: str, headers: dict[str, str]
) -> None:
    """It is refused before its body has come."""
    async with half_sent(stage, host, path, **headers) as answer:
        async with asyncio.timeout(PATIENCE):
            assert b" 404 " in await answer.readline()
        assert stage.bridge._held.total == 0


async def test_requests_that_begin_sessions_share_no_room(tmp_path: Path) -> None:
    """Some that do not end leave it to the others."""
    async with (
        serving(tmp_path, {"s": spec("good")}, held_bytes=1 << 20) as stage,
        half_sent(stage, "localhost", "/s"),
    ):
        await eventually(lambda: stage.bridge._held.total, "it is held", until=lambda total: total == 200_000)
        body = {"protocolVersion": LATEST, "capabilities": {}, "x": "x" * 100_000}
        assert "result" in await stage.client().ask("initialize", body)


async def test_a_body_that_does_not_come(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_BODY_SECONDS", 0.05)
    async with half_sent(stage, "localhost", "/s") as answer:
        async with asyncio.timeout(PATIENCE):
            assert b" 408 " in await answer.readline()
        assert stage.bridge._held.total == 0


async def test_a_flood(tmp_path: Path) -> None:
    """Nobody reads it: what waits is bounded, and the others are served."""
    async with serving(tmp_path, {"s": spec("flood", event_bytes=50_000), "other": spec("good")}) as stage:
        flooding = asyncio.ensure_future(stage.client().initialize())
        client = await stage.session("other")
        for _ in range(20):
            assert await client.call("pid") > 0
        member, *_ = stage.bridge._pools["s"]._members
        [theirs] = member.sharing.conversations
        await eventually(lambda: theirs.dropped > 1000, "what is over the bound is dropped")
        assert theirs._waiting_size <= 50_000
        flooding.cancel()


async def test_how_much_was_dropped_is_logged(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each session: its client listens too late, or never."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(conversation, "_MAX_WAITING", 3)
    client = await stage.session()
    [session] = stage.bridge._pools["s"]._sessions.values()
    for message in read(b'{"jsonrpc":"2.0","method":"x"}') or []:
        for _ in range(5):
            await session.member.receive(message)
    await client.delete()
    assert logged(caplog, "messages_dropped") == [{"server": "s", "messages": 2}]


async def test_a_client_that_does_not_read(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has to wait; then the stream is given up, and calls go on."""
    monkeypatch.setattr(pool, "_UNREAD_SECONDS", 0.1)
    monkeypatch.setattr(pool, "_STREAM_BYTES", 1000)
    client = await stage.session()
    async with client.listen():
        for _ in range(40):
            answer = await client.raw_call("say", method="notifications/message", params={"data": "x" * 100_000})
            assert "result" in (answer[-1] if isinstance(answer, list) else answer)
        # What is about no call comes with a call once there is no stream for it.
        assert isinstance(answer, list)


async def test_a_server_that_does_not_read(tmp_path: Path) -> None:
    async with serving(tmp_path, {"s": spec("deaf", request_bytes=1000, answer_within=0.1)}) as stage:
        answers = [
            await stage.client().ask("initialize", {"protocolVersion": LATEST, "capabilities": {}, "x": "x" * 200_000})
            for _ in range(2)
        ]
        assert all("still starting" in answer["error"]["message"] for answer in answers)


async def test_a_stubborn_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "GRACE_SECONDS", 0.1)
    async with serving(tmp_path, {"s": spec("stubborn")}) as stage:
        client = await stage.session()
        pid = await client.call("pid")
        await client.delete()
        await gone([pid])


async def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    async with serving(tmp_path, {"s": spec("good", command=("nonsense",))}) as stage:
        answer = await stage.client().initialize()
        assert "can't be started: the command nonsense was not found" in answer["error"]["message"]


@pytest.mark.parametrize("daemon", [False, True])
async def test_what_a_child_started_ends_with_it(stage: Stage, daemon: bool) -> None:
    client = await stage.session()
    grandchild = await client.call("start", daemon=daemon)
    assert is_alive(grandchild)
    await client.delete()
    await gone([grandchild])


async def test_what_hides_from_us_ends_with_who_started_it(stage: Stage) -> None:
    """It has left the process group, and has nothing of ours in its environment."""
    client = await stage.session()
    grandchild = await client.call("start", daemon=False, hidden=True)
    assert is_alive(grandchild)
    await client.delete()
    await gone([grandchild])


@pytest.mark.parametrize("daemon", [False, True])
async def test_what_a_child_left_behind_ends_too(stage: Stage, daemon: bool) -> None:
    client = await stage.session()
    grandchild = await client.call("start", daemon=daemon)
    await client.raw_call("exit", code=1)
    await gone([grandchild])


@pytest.mark.parametrize("place", ["env", "env_file", "inherit_env"])
async def test_what_it_writes_for_people(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "variables"
    file.write_text("SECRET=hush-hush\n")
    if place == "inherit_env":
        monkeypatch.setenv("SECRET", "hush-hush")
    options = {"env": {"SECRET": "hush-hush"}, "env_file": str(file), "inherit_env": ("SECRET", "ABSENT")}
    async with serving(tmp_path, {"s": spec("good", **{place: options[place]})}) as stage:
        client = await stage.session()
        assert await client.call("whisper", lines=1000) == "whispered"
        failed = await client.raw_call("exit", code=1, words="bad key hush-hush")
        assert failed["error"]["message"].endswith(": bad key [redacted].")
        [ended] = await eventually(lambda: logged(caplog, "child_ended"), "its end")
    lines = [fields["line"] for fields in logged(caplog, "stderr")]
    assert lines[0] == "line 0 [redacted]"
    assert 0 < len(lines) < 200
    assert ended["last_lines"].endswith("line 999 [redacted] | bad key [redacted]")
    assert "hush" not in caplog.text


async def test_a_running_child_keeps_its_secrets_when_the_file_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "variables"
    file.write_text("SECRET=hush-hush\n")
    server = spec("good", "--key", "open-sesame", secret_words=("open-sesame",), env_file=str(file))
    async with serving(tmp_path, {"s": server}) as stage:
        before = await stage.session()
        await eventually(lambda: len(children_of(os.getpid())) == 2, "the next one has the same")
        file.write_text("SECRET=another-one\n")
        await stage.session()
        await eventually(lambda: len(children_of(os.getpid())) == 3, "the next one has another")
        assert await before.call("whisper", lines=1) == "whispered"
        assert (await before.raw_call("exit", code=1, words="open-sesame"))["error"]["message"].endswith(
            ": [redacted]."
        )
    assert "line 0 [redacted]" in [fields["line"] for fields in logged(caplog, "stderr")]
    assert "hush" not in caplog.text
    assert "sesame" not in caplog.text


# -- Its surroundings -----------------------------------------------------------------------------------------------------


async def test_its_environment_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "hush")
    monkeypatch.setenv("WANTED", "yes")
    server = spec("good", "an argument", cwd=str(tmp_path), env={"OWN": "1"}, inherit_env=("WANTED",))
    async with serving(tmp_path, {"s": server}) as stage:
        client = await stage.session()
        assert await client.call("where") == {"cwd": str(tmp_path), "argv": ["good", "an argument"]}
        variables = await client.call("env")
    assert (variables["OWN"], variables["WANTED"], "PATH" in variables) == ("1", "yes", True)
    assert "SECRET_OF_OURS" not in variables


# -- Changes --------------------------------------------------------------------------------------------------------------


async def test_a_change_leaves_the_others_alone(tmp_path: Path) -> None:
    before = {"same": spec("good"), "changed": spec("good"), "removed": spec("good")}
    async with serving(tmp_path, before) as stage:
        clients = {name: await stage.session(name) for name in before}
        pids = {name: await client.call("pid") for name, client in clients.items()}
        stage.bridge.apply(Told({"same": spec("good"), "changed": spec("good", env={"NEW": "1"})}, HELD))
        await gone([pids["changed"], pids["removed"]])
        assert await clients["same"].call("pid") == pids["same"]
        assert (await clients["changed"].ask("ping"))["error"]["message"] == "The session has ended."
        again = await stage.session("changed")
        assert (await again.call("env"))["NEW"] == "1"
        async with clients["removed"].request("POST", {"jsonrpc": "2.0", "id": 1, "method": "ping"}) as got:
            assert got.status == 404


@pytest.mark.parametrize("host", ["localhost:9100", "127.0.0.1:9100", "attacker.example"])
async def test_a_page_in_a_browser_is_not_meant(stage: Stage, host: str) -> None:
    """It has the bridge's own address, or a name that it made lead there; Envoy names the server."""
    client = await stage.session()
    initialize, ping = ({"jsonrpc": "2.0", "id": 1, "method": method} for method in ("initialize", "ping"))
    for method, message in (("POST", initialize), ("POST", ping), ("GET", None), ("DELETE", None)):
        async with client.request(method, message, host=host) as got:
            assert got.status == 404
    assert await client.call("pid")


@pytest.mark.parametrize("then", [{"s": spec("good", env={"NEW": "1"})}, {}], ids=["changed", "removed"])
async def test_a_call_outlives_a_change_of_its_server(stage: Stage, then: dict[str, StdioServer]) -> None:
    client = await stage.session()
    pid = await client.call("pid")
    async with client.listen() as stream:
        call = asyncio.ensure_future(client.call("ask", method="roots/list"))
        assert (await stream.next())["method"] == "roots/list"
        stage.bridge.apply(Told({**then}, HELD))
        assert await stream.next() is None
        assert await client.tell({"id": "question", "result": "still here"}) == 202
        assert await call == "still here"
    await gone([pid])
