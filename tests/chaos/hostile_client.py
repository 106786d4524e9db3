"""A client that means harm: ``python -m tests.chaos.hostile_client KIND URL LEAST``. It ends by itself, and says what it did.

Each kind does its worst for :data:`SECONDS`, and takes whatever answer it gets. Where that is not enough for the least that it
has to do, a JSON object of names and numbers, it goes on, but no longer than :data:`MOST_SECONDS`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from urllib.parse import urlsplit

import aiohttp
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import H2Error

from tests.chaos import connections as held
from tests.chaos import unread_streams as unread
from tests.chaos.load import message_in
from tests.support.gateway import ACCEPT, Answer, TestClient
from tests.support.streaming import calling
from tests.support.waiting import eventually

SECONDS = 4.0
MOST_SECONDS = 180.0

_LOST = (OSError, EOFError, aiohttp.ClientError, H2Error, AssertionError)
"""Whatever becomes of an attack: it goes on."""


class Attacker:
    """The client, and what it got.

    Args:
        url: of the gateway.
        http: for its requests.
    """

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.port = urlsplit(url).port or 80
        self.client = TestClient(url, http)
        self.did: Counter[str] = Counter()
        """How often it got which answer, or kept what."""

    async def repeat(self, at_a_time: int, act: Callable[[str], Awaitable[Answer]]) -> None:
        """Send something again and again, in so many sessions at once."""

        async def one() -> None:
            session = await self.client.initialize()
            while True:
                self.did["sent"] += 1
                try:
                    self.did[f"HTTP {(await act(session)).status}"] += 1
                except _LOST as error:
                    self.did[type(error).__name__] += 1

        await asyncio.gather(*(one() for _ in range(at_a_time)))

    async def keep(self, count: int, act: Callable[[], Awaitable[None]]) -> None:
        """Begin something that lasts so often, and keep all of it."""

        async def one() -> None:
            try:
                await act()
                self.did["kept"] += 1
            except _LOST as error:
                self.did[type(error).__name__] += 1

        await asyncio.gather(*(one() for _ in range(count)))
        await asyncio.Event().wait()


def _call(name: str, arguments: object) -> bytes:
    return json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    ).encode()


async def lists(attacker: Attacker) -> None:
    """Asks for the lists, ten at a time."""
    await attacker.repeat(10, lambda session: attacker.client.rpc("tools/list", mcp_session_id=session))


async def many_lists(attacker: Attacker) -> None:
    """Asks for the lists, forty at a time."""
    await attacker.repeat(40, lambda session: attacker.client.rpc("tools/list", mcp_session_id=session))


async def long_names(attacker: Attacker) -> None:
    """Calls names of 60 kB, which an expression of the operator's is matched with."""
    body = _call("hostile__" + "a" * 60_000 + "!", {})
    await attacker.repeat(10, lambda session: attacker.client.send(body, mcp_session_id=session))


async def too_many_members(attacker: Attacker) -> None:
    """Sends bodies as large as they may be, of as many members as fit in."""
    await _bodies(attacker, {f"{number:x}": 0 for number in range(350_000)})


async def large_bodies(attacker: Attacker) -> None:
    """Sends bodies as large as they may be, of about as many members as they may have."""
    await _bodies(attacker, {f"{number:x}": "x" * 28 for number in range(99_000)})


async def _bodies(attacker: Attacker, arguments: object) -> None:
    body = _call("hostile__echo", arguments)
    assert 3 << 20 < len(body) <= 4 << 20
    await attacker.repeat(2, lambda session: attacker.client.send(body, mcp_session_id=session))


async def memories(attacker: Attacker) -> None:
    """Has the worker remember what it can: subscriptions, heads of requests, names, and new sessions for it."""

    async def one(session: str) -> Answer:
        client, word = attacker.client, os.urandom(8).hex()
        headers = {f"x_{word}_{number}": "x" * 1000 for number in range(40)}
        await client.rpc("resources/subscribe", {"uri": f"hostile+file:///{word}{'x' * 900}"}, mcp_session_id=session)
        await client.rpc("tools/call", {"name": f"hostile__{word}", "arguments": {}}, mcp_session_id=session, **headers)
        return await client.rpc("initialize", {"protocolVersion": "2025-11-25", "capabilities": {},
                                               "clientInfo": {"name": word, "version": "0"}})  # fmt: skip

    await attacker.repeat(20, one)


async def streams(attacker: Attacker) -> None:
    """Opens a hundred streams, and reads them."""
    async with AsyncExitStack() as stack:

        async def one() -> None:
            await stack.enter_async_context(_stream(attacker, await attacker.client.initialize()))

        await attacker.keep(100, one)


@asynccontextmanager
async def _stream(attacker: Attacker, session: str) -> AsyncIterator[None]:
    """The stream of a session, which is read, for the time of the block."""
    fields = {"accept": "text/event-stream", "mcp-session-id": session}
    async with attacker.client.http.get(attacker.url, headers=fields) as response:
        assert response.status == 200
        reader = asyncio.create_task(_read(response))
        try:
            yield
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


async def unread_streams(attacker: Attacker) -> None:
    """Opens a thousand streams with much to say, and reads none of them."""
    async with AsyncExitStack() as stack:
        for _ in range(20):
            flood = await stack.enter_async_context(unread.flood("127.0.0.1", attacker.port, 50, sessions=5))
            attacker.did.update({f"HTTP {status}": count for status, count in flood.statuses.items()})
        await asyncio.Event().wait()


async def connections(attacker: Attacker) -> None:
    """Opens 2,000 connections that say nothing, and 200 that send a body slowly."""
    async with (
        held.flood("127.0.0.1", attacker.port, 2_000, held.IDLE),
        held.flood("127.0.0.1", attacker.port, 200, held.BODY),
    ):
        attacker.did["connections"] += 2_200
        await asyncio.Event().wait()


async def resets(attacker: Attacker) -> None:
    """Begins requests over HTTP/2, and resets each at once (CVE-2023-44487)."""
    session = await attacker.client.initialize()
    body = _call("hostile__echo", {})

    async def one() -> None:
        parts = urlsplit(attacker.url)
        reader, writer = await asyncio.open_connection("127.0.0.1", attacker.port)
        connection = H2Connection(H2Configuration(header_encoding="utf-8"))
        connection.initiate_connection()
        fields = [(":method", "POST"), (":scheme", "http"), (":authority", parts.netloc), (":path", parts.path),
                  ("accept", ACCEPT), ("content-type", "application/json"), ("mcp-session-id", session)]  # fmt: skip
        try:
            for stream in range(1, 100_001, 2):
                connection.send_headers(stream, fields)
                connection.send_data(stream, body, end_stream=True)
                connection.reset_stream(stream, ErrorCodes.CANCEL)
                writer.write(connection.data_to_send())
                await writer.drain()
                attacker.did["reset"] += 1
                if reader.at_eof():
                    break
        finally:
            writer.close()

    async def again() -> None:
        while True:
            with suppress(*_LOST):  # the gateway closes it, or its window is used up
                await one()
            attacker.did["connections"] += 1

    await asyncio.gather(*(again() for _ in range(5)))


async def killed_children(attacker: Attacker) -> None:
    """Has calls of ten sessions at a time run in children of a stdio server, and kills these."""

    async def one(session: str) -> Answer:
        pid = await attacker.client.call(session, "hostile__pid")
        if (message := message_in(pid)) is not None and "result" in message:
            await _kill_in_a_call(attacker, session, int(message["result"]["content"][0]["text"]))
        return pid

    await attacker.repeat(10, one)


async def _kill_in_a_call(attacker: Attacker, session: str, pid: int) -> None:
    async with calling(attacker.client, session, "hostile__wait") as stream:
        assert (await stream.message())["params"]["data"] == "waiting"
        os.kill(pid, signal.SIGKILL)
        assert "ended with signal SIGKILL" in (await stream.message())["error"]["message"]
        attacker.did["killed"] += 1


async def hungry_children(attacker: Attacker) -> None:
    """Has the child of a stdio server take memory, again and again."""
    await _harm(attacker, 1, "eat", {"size": 512 << 20})


async def messages_of_children(attacker: Attacker) -> None:
    """Has ten children of a stdio server write notifications for as long as the attack lasts, and reads them."""
    await _harm(attacker, 10, "flood", {"kind": "messages", "seconds": SECONDS})


async def junk_of_children(attacker: Attacker) -> None:
    """Has ten of them write what is no message."""
    await _harm(attacker, 10, "flood", {"kind": "junk", "seconds": SECONDS})


async def lines_of_children(attacker: Attacker) -> None:
    """Has ten of them write a line without end each."""
    await _harm(attacker, 10, "flood", {"kind": "line", "seconds": SECONDS})


async def _harm(attacker: Attacker, at_a_time: int, tool: str, arguments: object) -> None:
    """Call a tool that does harm, and returns how many bytes of it, while the streams of all sessions are read."""
    async with AsyncExitStack() as stack:

        async def one(session: str) -> Answer:
            if session not in listening:
                listening.add(session)
                await stack.enter_async_context(_stream(attacker, session))
            answer = await attacker.client.call(session, f"hostile__{tool}", arguments)
            message = message_in(answer)
            assert message is not None
            assert "result" in message, message
            attacker.did["bytes"] += int(message["result"]["content"][0]["text"])
            return answer

        listening: set[str] = set()
        await attacker.repeat(at_a_time, one)


async def _read(response: aiohttp.ClientResponse) -> None:
    async for _ in response.content.iter_any():
        pass


KINDS: dict[str, Callable[[Attacker], Awaitable[None]]] = {
    attack.__name__: attack
    for attack in (
        lists, many_lists, long_names, too_many_members, large_bodies, memories, streams, unread_streams, connections, resets,
        killed_children, hungry_children, messages_of_children, junk_of_children, lines_of_children,
    )
}  # fmt: skip


async def _main(kind: str, url: str, least: Mapping[str, int]) -> None:
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as http:
        attacker = Attacker(url, http)
        attacking = asyncio.ensure_future(KINDS[kind](attacker))
        await asyncio.wait([attacking], timeout=SECONDS)
        try:
            await eventually(
                lambda: attacker.did, f"at least {least}", seconds=MOST_SECONDS - SECONDS,
                until=lambda did: attacking.done() or did >= Counter(least),
            )  # fmt: skip
        finally:
            attacking.cancel()
            with suppress(asyncio.CancelledError):
                await attacking
    print(json.dumps(attacker.did), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
