"""An MCP server that means harm to whoever is in front of it: ``python -m tests.chaos.hostile_server KIND PORT``.

Each kind is bounded: in bytes, in events for each stream, or by who asks.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from tests.support.scripted import Handler, ScriptedServer, answer, tool

DID = "/did"
"""Where below its URL it says what it did, and how often."""

_PINGS = 30_000
"""For each stream."""
_LONG_NAME = 60_000
"""Characters."""

_did: Counter[str] = Counter()


def _stream(events: Callable[[], AsyncIterator[bytes]]) -> Callable[[web.Request], Any]:
    """What a GET gets: these events, and then nothing more."""

    async def get(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        async for event in events():
            await response.write(event)
        return response

    return get


def _list(body: bytes) -> Handler:
    """A list that is written once: ``body`` without the id of the request."""

    async def handler(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        _did["lists"] += 1
        text = b'{"jsonrpc":"2.0","id":%s,"result":{"tools":%s}}' % (json.dumps(message["id"]).encode(), body)
        return web.Response(body=text, content_type="application/json")

    return handler


async def _pings() -> AsyncIterator[bytes]:
    for number in range(_PINGS):
        yield b'data: {"jsonrpc":"2.0","id":%d,"method":"ping"}\n\n' % number
        _did["pings"] += 1
    await asyncio.Event().wait()


async def _closes() -> AsyncIterator[bytes]:
    yield b"retry: 0\n\n"
    _did["closed"] += 1


async def _talks() -> AsyncIterator[bytes]:
    """Log messages of 64 KiB for as long as somebody takes them."""
    text = json.dumps({"jsonrpc": "2.0", "method": "notifications/message",
                       "params": {"level": "emergency", "data": "x" * (64 << 10)}}).encode()  # fmt: skip
    while True:
        yield b"data: " + text + b"\n\n"
        _did["bytes"] += len(text)


async def _accept(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
    return answer(message, result={})


def _calm(server: ScriptedServer) -> None:
    """No harm at all: another client's server. It costs as little as it can, so that figures are the gateway's."""

    async def add(request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        numbers = message["params"]["arguments"]
        text = f"calm: {numbers['a'] + numbers['b']}"
        return answer(message, result={"content": [{"type": "text", "text": text}]})

    server.pages = [[tool("add")]]
    server.on["tools/call"] = add


def _quiet(server: ScriptedServer) -> None:
    server.capabilities |= {"resources": {"subscribe": True}, "logging": {}}
    server.on |= {"resources/subscribe": _accept, "logging/setLevel": _accept}


def _pinging(server: ScriptedServer) -> None:
    server.get = _stream(_pings)


def _closing(server: ScriptedServer) -> None:
    server.get = _stream(_closes)


def _talking(server: ScriptedServer) -> None:
    server.capabilities |= {"logging": {}}
    server.get = _stream(_talks)


def _bad_entries(server: ScriptedServer) -> None:
    """Six megabytes of entries that are none."""
    server.on["tools/list"] = _list(b"[" + b"1," * 3_000_000 + b"1]")


def _long_names(server: ScriptedServer) -> None:
    server.on["tools/list"] = _list(json.dumps([tool("a" * _LONG_NAME + str(number)) for number in range(50)]).encode())


def _large_lists(server: ScriptedServer) -> None:
    """Ten megabytes of tools."""
    tools = [tool(f"tool{number}", **{"x-filler": "x" * 10_000}) for number in range(1_000)]
    server.on["tools/list"] = _list(json.dumps(tools).encode())


KINDS: dict[str, Callable[[ScriptedServer], None]] = {
    "calm": _calm,
    "quiet": _quiet,
    "pinging": _pinging,
    "closing": _closing,
    "talking": _talking,
    "bad entries": _bad_entries,
    "long names": _long_names,
    "large lists": _large_lists,
}


class _Forgetful(ScriptedServer):
    """It keeps nothing of what it is sent, which may be gigabytes, and says what it did."""

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.path == f"/mcp{DID}":
            return web.json_response(_did)
        try:
            return await super()._serve(request)
        finally:
            self.received.clear()


async def _main(kind: str, port: int) -> None:
    server = _Forgetful("hostile", port=port)
    KINDS[kind](server)
    async with server:
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
