"""A session with an endpoint: ``initialize``, the list of tools, calls.

It declares no capability, so a server that asks the user or the model for something is told that nobody is there.

Source: MCP 2025-11-25 basic/lifecycle, basic/transports (client side).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, NamedTuple, NoReturn, Self

import aiohttp
import msgspec
import orjson

from mcp_extproc import __version__
from mcp_extproc.body import read_at_most
from mcp_extproc.contract import UNAVAILABLE_KEY
from mcp_extproc.mcp import jsontext, methods, versions
from mcp_extproc.mcp.errors import INVALID_PARAMS, METHOD_NOT_FOUND
from mcp_extproc.mcp.jsontext import Members, NotJson
from mcp_extproc.mcp.sse import EventTooLarge, SseParser
from mcp_extproc.mcp.transport import JSON, JSON_OR_SSE, SSE, media_type

MAX_BYTES: Final = 64 << 20
"""Of an answer, of an event, or of all pages of a list."""

MAX_PAGES: Final = 1000
"""Of a list: a server may have no end of them."""

_LEAVING_SECONDS: Final = 2.0
"""For the end of the session."""

_WAIT_SECONDS: Final = 1.0
"""Before a stream is resumed, where the server does not say how long."""
_MIN_WAIT_SECONDS: Final = 0.1


class Failed(Exception):
    """No result came. The message says why."""

    error: Members | None = None
    """The JSON-RPC error, where that is why."""
    status: int | None = None
    """The HTTP status, where that is none of success."""

    @property
    def is_about_the_name(self) -> bool:
        """Whether the endpoint may have meant that there is nothing of this name, by the codes that servers say it with."""
        code = None if self.error is None else self.error.get("code")
        return code is not None and bytes(code) in (b"%d" % INVALID_PARAMS, b"%d" % METHOD_NOT_FOUND)

    def with_hint(self, hint: str) -> Failed:
        """The same, with what else may be why."""
        found = Failed(f"{self}; {hint}")
        found.error, found.status = self.error, self.status
        return found


class Tool(NamedTuple):
    """A tool as the endpoint lists it."""

    name: str
    description: str
    schema: dict[str, Any]
    """Of its arguments; empty where there is none that can be read."""
    raw: msgspec.Raw
    """All of it, as it was written."""


class Session:
    """A session. It begins on entering it and ends on leaving.

    Args:
        url: of the endpoint.
        headers: of each request.
        seconds: most that a request may take.
    """

    def __init__(self, url: str, headers: Sequence[tuple[str, str]], seconds: float) -> None:
        self._url = url
        self._headers = [*headers, ("accept", JSON_OR_SSE)]
        self._seconds = seconds
        self._of_session: list[tuple[str, str]] = []
        self._ids = itertools.count(1)
        self.missing: dict[str, str] = {}
        """Servers that a gateway could not ask for their tools, each with the reason, once these were listed."""

    async def __aenter__(self) -> Self:
        """
        Raises:
            Failed: nobody answers there, or not as an endpoint does.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=min(self._seconds, 10.0))
        self._http = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        try:
            result = await self._initialize()
            version = jsontext.text_in(result, "protocolVersion")
            if version not in versions.OF_SERVERS:
                raise Failed(f"{self._url} speaks none of {', '.join(versions.OF_SERVERS)}")
            if versions.defines_version_header(version):
                self._of_session.append(("mcp-protocol-version", version))
            async with self._in_time():
                await self._notify(methods.INITIALIZED.name)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._of_session and self._of_session[0][0] == "mcp-session-id":
            with contextlib.suppress(Failed, TimeoutError):
                async with asyncio.timeout(_LEAVING_SECONDS), self._exchange("DELETE", None):
                    pass
        await self._http.close()

    async def tools(self) -> list[Tool]:
        """All tools.

        Raises:
            Failed: they could not be read.
        """
        found: list[Tool] = []
        cursor, size = None, 0
        for _ in range(MAX_PAGES):
            result = await self._request(methods.TOOLS_LIST.name, {} if cursor is None else {"cursor": cursor})
            entries = jsontext.elements_of(result["tools"]) if "tools" in result else None
            if entries is None:
                raise Failed(f"{self._url} answered with no list of tools")
            size += sum(map(len, result.values()))
            if size > MAX_BYTES:
                raise Failed(f"{self._url} has more than {MAX_BYTES >> 20} MiB of tools")
            found += [tool for tool in map(_tool, entries) if tool is not None]
            self.missing |= _missing(result)
            cursor = jsontext.text_in(result, "nextCursor")
            if cursor is None:
                return found
        raise Failed(f"{self._url} has more than {MAX_PAGES} pages of tools")

    async def call(self, name: str, arguments: str) -> Members:
        """The result of a call.

        Args:
            name: of the tool.
            arguments: as JSON.

        Raises:
            Failed: there is none.
        """
        return await self._request(
            methods.TOOLS_CALL.name, {"name": name, "arguments": orjson.Fragment(arguments.encode())}
        )

    async def _initialize(self) -> Members:
        client = {"name": "mcp-extproc", "version": __version__}
        params = {"protocolVersion": versions.LATEST, "capabilities": {}, "clientInfo": client}
        return await self._request(methods.INITIALIZE.name, params)

    async def _request(self, method: str, params: object) -> Members:
        id = next(self._ids)
        body = orjson.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
        async with self._in_time():
            message = await self._answer(body, b"%d" % id)
        if "error" in message:
            raise _error_in(message)
        result = jsontext.object_in(message, "result")
        if result is None:
            raise Failed(f"{self._url} answered with neither a result nor an error")
        return result

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except TimeoutError:
            raise Failed(f"{self._url} did not answer within {self._seconds:g} s") from None

    async def _notify(self, method: str) -> None:
        async with self._exchange("POST", orjson.dumps({"jsonrpc": "2.0", "method": method})):
            pass

    async def _answer(self, body: bytes, id: bytes) -> Members:
        async with self._exchange("POST", body) as response:
            session = response.headers.get("mcp-session-id")
            if session is not None and not self._of_session:
                self._of_session = [("mcp-session-id", session)]
            if media_type(response.headers.get("content-type", "")) != SSE:
                return _message(await _read(response))
            found, last, pause = await self._answer_in(response, id)
        while found is None:
            if last is None:
                raise Failed(f"{self._url} ended the stream before the answer")
            # A server may close it, and wants to be asked again (Streamable HTTP, Resumability and Redelivery).
            await asyncio.sleep(max(pause, _MIN_WAIT_SECONDS))
            async with self._exchange("GET", None, last) as response:
                found, last, pause = await self._answer_in(response, id, last, pause)
        return found

    async def _answer_in(
        self, response: aiohttp.ClientResponse, id: bytes, last: str | None = None, pause: float = _WAIT_SECONDS
    ) -> tuple[Members | None, str | None, float]:
        """The answer in a stream, or else the last event's id, and how long to wait before it is resumed."""
        parser = SseParser(MAX_BYTES)
        try:
            async for chunk in response.content.iter_any():
                for event in parser.feed(chunk):
                    last = event.id or last
                    pause = pause if event.retry is None else event.retry / 1000
                    if event.data and (found := await self._take(event.data, id)) is not None:
                        return found, last, pause
        except EventTooLarge as error:
            raise Failed(f"{self._url} sent what is too large: {error}") from None
        return None, last, pause

    async def _take(self, data: bytes, id: bytes) -> Members | None:
        """A message of a stream: the one that is waited for, or ``None``. Requests are answered."""
        message = _message(data)
        if "method" not in message:
            return message if bytes(message.get("id", b"")) == id else None
        if "id" in message:
            is_ping = jsontext.text_in(message, "method") == methods.PING.name
            refused = {"error": {"code": METHOD_NOT_FOUND, "message": "This client is a command, and has no user."}}
            answer = {"jsonrpc": "2.0", "id": message["id"], **({"result": {}} if is_ping else refused)}
            async with self._exchange("POST", msgspec.json.encode(answer)):
                pass
        return None

    @asynccontextmanager
    async def _exchange(
        self, method: str, body: bytes | None, last_event_id: str | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = [*self._headers, *self._of_session]
        if body is not None:
            headers.append(("content-type", JSON))
        if last_event_id is not None:
            headers.append(("last-event-id", last_event_id))
        try:
            async with self._http.request(
                method, self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status >= 300:
                    await self._refuse(response)
                yield response
        except aiohttp.ClientConnectionError as error:
            raise Failed(f"{self._url} can't be reached: {_why(error)}") from None
        except aiohttp.ClientError as error:
            raise Failed(f"{self._url} could not be asked: {error}") from None

    async def _refuse(self, response: aiohttp.ClientResponse) -> NoReturn:
        message = jsontext.object_of(await _read(response))
        where = response.headers.get("location")
        leads = "" if where is None else f", and leads to {where}"
        failed = Failed(f"{self._url} answered HTTP {response.status}{leads}")
        if message is not None and "error" in message:
            failed = _error_in(message, f"HTTP {response.status}: ")
        failed.status = response.status
        raise failed


def _error_in(message: Members, start: str = "") -> Failed:
    """The JSON-RPC error of a message."""
    error = jsontext.object_in(message, "error") or {}
    failed = Failed(
        f"{start}{jsontext.text_in(error, 'message') or 'an error'} ({bytes(error.get('code', b'')).decode()})"
    )
    failed.error = error
    return failed


def _message(text: bytes) -> Members:
    try:
        return jsontext.split(text)
    except (NotJson, TypeError) as error:
        raise Failed(f"the answer is no JSON-RPC message: {error}") from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = await read_at_most(response.content.iter_any(), MAX_BYTES)
    if body is None:
        raise Failed(f"the answer is larger than {MAX_BYTES >> 20} MiB")
    return body


def _tool(raw: msgspec.Raw) -> Tool | None:
    entry = jsontext.object_of(raw)
    name = None if entry is None else jsontext.text_in(entry, "name")
    if entry is None or name is None:
        return None
    schema = None
    with contextlib.suppress(orjson.JSONDecodeError):  # nested too deeply
        schema = orjson.loads(bytes(entry.get("inputSchema", b"null")))
    return Tool(name, jsontext.text_in(entry, "description") or "", schema if isinstance(schema, dict) else {}, raw)


def _missing(result: Members) -> dict[str, str]:
    meta = jsontext.object_in(result, "_meta") or {}
    entries = (jsontext.elements_of(meta[UNAVAILABLE_KEY]) if UNAVAILABLE_KEY in meta else None) or []
    told = [(jsontext.text_at(entry, "server"), jsontext.text_at(entry, "message")) for entry in entries]
    return {server: message for server, message in told if server is not None and message is not None}


def _why(error: aiohttp.ClientConnectionError) -> str:
    cause = getattr(error, "os_error", None)
    if cause is None:
        return str(error) or type(error).__name__
    # asyncio puts words of its own in the place of the system's.
    return os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror or str(error)
