"""Clients of the gateway that do everything which clients do, well and badly."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any

import aiohttp

from tests.extproc.recorded.servers import SLOW_LIST_SECONDS

_JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
_FILLER = "the quick brown fox jumps over the lazy dog "

Headers = Mapping[str, str]


class Agent:
    """One client: one session after the other, one request at a time on its connection.

    Args:
        url: the gateway's endpoint.
        http: with a connection of the agent's own.
        random: decides what it does.
    """

    def __init__(self, url: str, http: aiohttp.ClientSession, random: Random) -> None:
        self._url = url
        self._http = http
        self._random = random
        self._session: dict[str, str] = {}
        self._version = ""
        self._id = 0
        self._kinds: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (36, self._call), (8, self._call_with_events), (6, self._ping), (8, self._list), (4, self._other_request),
            (7, self._notification), (4, self._batch), (9, self._bad_body), (6, self._bad_head), (2, self._new_session),
            (2, self._stream), (3, self._leave), (2, self._leave_a_list), (1, self._lost), (1, self._large),
        ]  # fmt: skip

    async def run(self, turns: int) -> None:
        """Do so many things."""
        weights = [weight for weight, _ in self._kinds]
        await self._initialize()
        assert self._session, "the gateway opens no sessions"
        for _ in range(turns):
            [(_, act)] = self._random.choices(self._kinds, weights)
            await act()

    # -- Requests -------------------------------------------------------------------------------------------------------

    async def _send(
        self, body: bytes | None, method: str = "POST", url: str = "", given: Mapping[str, str | None] | None = None
    ) -> tuple[Headers, bytes]:
        """One request. ``None`` in the place of a header's value leaves it out."""
        usual = _JSON if method == "POST" else {}
        fields = {
            name: value for name, value in {**usual, **self._session, **(given or {})}.items() if value is not None
        }
        skip = {"content-type", "accept", "user-agent"}
        try:
            async with self._http.request(
                method, url or self._url, data=body, headers=fields, skip_auto_headers=skip
            ) as got:
                return got.headers, await got.read()
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError):
            return {}, b""  # a server's stream broke, or a worker was replaced

    def _rpc(self, method: str, params: Any = None, *, notify: bool = False) -> bytes:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        if not notify:
            self._id += 1
            message["id"] = self._random.choice([self._id, self._id, f"id-{self._id}", str(self._id)])
        if params is not None:
            message["params"] = params
        return json.dumps(message).encode()

    def _tool(self, name: str, arguments: Any = None, **meta: Any) -> bytes:
        params = {"name": name, "arguments": arguments or {}, **({"_meta": meta} if meta else {})}
        return self._rpc("tools/call", params)

    async def _initialize(self) -> None:
        self._session = {}
        self._version = self._random.choice(["2025-11-25", "2025-11-25", "2025-06-18", "2025-03-26"])
        capabilities = self._random.choice([{}, {"elicitation": {}, "sampling": {}, "roots": {"listChanged": True}}])
        client = {"name": "agent", "version": "1"}
        params = {"protocolVersion": self._version, "capabilities": capabilities, "clientInfo": client}
        headers, _ = await self._send(self._rpc("initialize", params))
        if token := headers.get("mcp-session-id"):
            self._session = {"mcp-session-id": token}
            if self._version != "2025-03-26":
                self._session["mcp-protocol-version"] = self._version
        await self._send(self._rpc("notifications/initialized", notify=True))

    async def _new_session(self) -> None:
        await self._send(None, "DELETE")
        if self._random.random() < 0.5:
            await self._ping()  # in a session that has ended
        await self._initialize()

    async def _call(self) -> None:
        name = self._random.choice([
            *["alpha__echo"] * 6, *["beta__echo"] * 6, "alpha__big", "alpha__broken", "alpha__html", "gamma__echo",
        ])  # fmt: skip
        await self._send(self._tool(name, {"n": self._random.randrange(10)}))

    async def _call_with_events(self) -> None:
        name = self._random.choice(["alpha__events", "alpha__events", "alpha__asks", "alpha__cut"])
        _, body = await self._send(self._tool(name, progressToken=self._id))
        for line in body.split(b"\n"):
            if line.startswith(b"data:") and b"elicitation/create" in line:
                result = {"jsonrpc": "2.0", "id": json.loads(line[5:])["id"], "result": {"action": "decline"}}
                await self._send(json.dumps(result).encode())

    async def _large(self) -> None:
        size = self._random.choice([60_000] * 9 + [900_000])
        if self._random.random() < 0.2:
            await self._send(self._tool("alpha__big", {"bytes": size}))
        else:
            await self._send(self._tool("beta__echo", {"text": _FILLER * (size // len(_FILLER))}))

    async def _lost(self) -> None:
        await self._send(self._tool("alpha__lose", self._random.choice([{}, {"again": True}])))

    async def _ping(self) -> None:
        await self._send(self._rpc("ping"))

    async def _list(self) -> None:
        await self._send(self._rpc(self._random.choice(["tools/list", "tools/list", "prompts/list", "resources/list"])))

    async def _other_request(self) -> None:
        await self._send(self._rpc(*self._random.choice([
            ("prompts/get", {"name": "alpha__greet"}),
            ("resources/read", {"uri": "file:///readme"}),
            ("resources/subscribe", {"uri": "alpha+file:///readme"}),
            ("completion/complete", {"ref": {"type": "ref/prompt", "name": "alpha__greet"}, "argument": {}}),
            ("logging/setLevel", {"level": self._random.choice(["debug", "error"])}),
        ])))  # fmt: skip

    async def _notification(self) -> None:
        method, params = self._random.choice([
            ("notifications/cancelled", {"requestId": self._id}),
            ("notifications/progress", {"progressToken": "x", "progress": 1}),
            ("notifications/roots/list_changed", {}),
        ])  # fmt: skip
        await self._send(self._rpc(method, params, notify=True))

    async def _batch(self) -> None:
        messages = [self._rpc("ping"), self._tool("beta__echo"), self._rpc("notifications/cancelled", {}, notify=True)]
        await self._send(b"[" + b",".join(messages[: self._random.randint(1, 3)]) + b"]")

    async def _bad_body(self) -> None:
        await self._send(self._random.choice([
            b"", b"{", b"[]", b'"text"', b"\xff\xfe", b"[" * 500, b'{"jsonrpc":"2.0"}',
            b'{"jsonrpc":"1.0","id":1,"method":"ping"}',
            b'{"jsonrpc":"2.0","id":{},"method":"ping"}', self._rpc("no/such"), self._rpc("tools/call", {"name": 1}),
            self._tool("nobody__has"), self._rpc("server/discover"), self._rpc("initialize", {"protocolVersion": 1}),
            self._rpc("initialize", notify=True), self._rpc("logging/setLevel", {"level": "loud"}),
        ]))  # fmt: skip

    async def _bad_head(self) -> None:
        body = self._rpc("ping")
        token = self._session.get("mcp-session-id", "x")
        headers: dict[str, str | None] = self._random.choice([
            {"mcp-session-id": None}, {"mcp-session-id": "x" * 90}, {"mcp-session-id": token[:-4] + "AAAA"},
            {"mcp-protocol-version": "2024-11-05"}, {"mcp-protocol-version": "never"}, {"content-type": "text/plain"},
            {"accept": "text/html"}, {"origin": "https://evil.test"}, {"host": "evil.test"}, {"content-encoding": "gzip"},
            {"x-mcp-server": "alpha", "mcp-name": "forged"}, {"cookie": "a=b; c=d", "authorization": "Bearer b"},
        ])  # fmt: skip
        if self._random.random() < 0.3:
            method = self._random.choice(["PUT", "HEAD", "OPTIONS", "GET", "DELETE"])
            unknown = {"mcp-session-id": "unknown"} if method in ("GET", "DELETE") else {}
            await self._send(None, method, given={**headers, **unknown})
        elif self._random.random() < 0.1:
            await self._send(body, url=self._url + "/else")
        else:
            await self._send(body, given=headers)

    # -- Streams, and clients that leave ----------------------------------------------------------------------------------

    async def _stream(self) -> None:
        """Listen, or resume what never was; then leave."""
        last = self._random.choice(["", "", "last-event-id: unknown\r\n"])
        await self._abandon(f"GET /mcp HTTP/1.1\r\naccept: text/event-stream\r\n{last}", b"", wait=True)

    async def _leave(self) -> None:
        """Leave a call while its server works, or while it answers."""
        name = self._random.choice(["alpha__hang", "alpha__hang", "alpha__events", "beta__echo"])
        await self._abandon("", self._tool(name, progressToken=self._id), wait=name == "alpha__events")

    async def _leave_a_list(self) -> None:
        """Leave a fan-out before its servers answered."""
        await self._abandon("", self._rpc("resources/list"), wait=False)

    async def _abandon(self, head: str, body: bytes, *, wait: bool) -> None:
        host, _, port = self._url.split("/")[2].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        fields = {"host": f"{host}:{port}", **self._session}
        if body:
            head = "POST /mcp HTTP/1.1\r\n"
            fields |= {**_JSON, "content-length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"{head}{lines}\r\n".encode() + body)
        if wait:
            with contextlib.suppress(TimeoutError, OSError):
                await asyncio.wait_for(reader.read(200), 1)
        # Nothing tells when a request has reached its server: sometimes it has not.
        await asyncio.sleep(self._random.random() * SLOW_LIST_SECONDS)
        writer.transport.abort()
