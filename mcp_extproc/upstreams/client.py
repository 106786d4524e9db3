"""A small MCP client: JSON-RPC over Streamable HTTP, through Envoy's private listener.

Source: MCP 2025-11-25 basic/transports (client side), basic/lifecycle.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
import orjson
from yarl import URL

from mcp_extproc import __version__
from mcp_extproc.contract import FAILURE_HEADER, SERVER_HEADER
from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.decision import Failed, Headers
from mcp_extproc.mcp import jsontext, transport, versions
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.mcp.sse import EventTooLarge, SseParser
from mcp_extproc.upstreams.address import Address, UnixAddress

CLIENT_INFO = {"name": "mcp-extproc", "version": __version__}

MAX_SESSION_ID_CHARS = 4096
"""Longest ``Mcp-Session-Id`` taken from a server: all of a client's fit into one token in one header."""

_CHUNK = 64 * 1024
_REQUEST_ID = 1
"""Each sub-request has a stream of its own, so its id needs no uniqueness beyond it."""


class UpstreamError(Exception):
    """A sub-request did not work out."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    def failed(self, server: str) -> Failed:
        """The outcome of a leg that ended so."""
        return Failed(server, self.reason, self.message)


class SessionLost(UpstreamError):
    """The server does not know the session any more."""

    def __init__(self) -> None:
        super().__init__("session_lost", "does not know its session any more")


class UpstreamClient:
    """Sends single messages to servers.

    Args:
        address: Envoy's private listener.
        response_bytes: most bytes read of one answer.
    """

    def __init__(self, address: Address, response_bytes: int) -> None:
        self._address = address
        self._response_bytes = response_bytes
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector: aiohttp.BaseConnector
        if isinstance(self._address, UnixAddress):
            connector = aiohttp.UnixConnector(self._address.path, limit=0)
            self._base = "http://mcp-upstreams"
        else:
            connector = aiohttp.TCPConnector(limit=0, use_dns_cache=True)
            self._base = f"http://{self._address}"
        self._http = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),  # each leg has a deadline of its own
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            skip_auto_headers=("User-Agent",),
            headers={"user-agent": f"mcp-extproc/{__version__}"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._http is not None
        await self._http.close()

    async def initialize(
        self, entry: CatalogEntry, version: str, client_capabilities: bytes
    ) -> tuple[UpstreamSession, Mapping[str, Any], str | None]:
        """Open a session with a server and confirm it.

        Returns:
            The session, the server's capabilities as it declared them, and its instructions.

        Raises:
            UpstreamError: the server is unreachable or does not speak MCP.
        """
        params = {
            "protocolVersion": version,
            "capabilities": orjson.Fragment(client_capabilities),
            "clientInfo": CLIENT_INFO,
        }
        body = _request("initialize", params)
        async with self._exchange("POST", entry, None, body) as response:
            result = await self._result(response)
            session_id = response.headers.get("mcp-session-id")
        session, capabilities, instructions = _read_initialize(result, session_id)
        await self.notify(entry, session, b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        return session, capabilities, instructions

    async def request(
        self, entry: CatalogEntry, session: UpstreamSession, method: str, params: Mapping[str, Any]
    ) -> tuple[jsontext.Members, int]:
        """Send a request and wait for its result.

        Returns:
            The members of ``result``, and the size of the answer in bytes.

        Raises:
            SessionLost: the server answers 404, or 400, to a session.
            UpstreamError: no result came.
        """
        async with self._exchange("POST", entry, session, _request(method, params)) as response:
            result = await self._result(response)
        return _object(result, "result"), len(bytes(result))

    async def notify(self, entry: CatalogEntry, session: UpstreamSession, body: bytes) -> None:
        """Send a notification.

        Raises:
            UpstreamError: it was not accepted.
        """
        async with self._exchange("POST", entry, session, body):
            pass

    async def end(self, entry: CatalogEntry, session: UpstreamSession) -> None:
        """End a session. Servers may refuse (405) or have forgotten it (404, 400): both are as good.

        Raises:
            UpstreamError: the server is unreachable.
        """
        if session.id is None:
            return
        try:
            async with self._exchange("DELETE", entry, session, None):
                pass
        except SessionLost:
            pass
        except UpstreamError as error:
            if error.reason != "status":
                raise

    @asynccontextmanager
    async def _exchange(
        self, method: str, entry: CatalogEntry, session: UpstreamSession | None, body: bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._http is not None, "used outside of its context"
        headers = dict(_headers(entry, session, body))
        try:
            # The path is sent as configured, percent-encoding untouched.
            url = URL(self._base + entry.path, encoded=True)
            async with self._http.request(method, url, data=body, headers=headers, allow_redirects=False) as response:
                _check_status(response, session)
                yield response
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError("connect", f"could not be asked ({type(error).__name__})") from error

    async def _result(self, response: aiohttp.ClientResponse) -> msgspec.Raw:
        kind = transport.media_type(response.headers.get("content-type", ""))
        if kind == transport.SSE:
            return await self._result_from_stream(response)
        if response.status != 200 or kind != transport.JSON:
            raise UpstreamError(
                "protocol", f"answered HTTP {response.status} with {kind or 'no content type'}, not with JSON"
            )
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            self._check_size(len(body))
        found = _response_in(bytes(body))
        if found is None:
            raise UpstreamError("protocol", "answered with JSON that is no response to the request")
        return found

    async def _result_from_stream(self, response: aiohttp.ClientResponse) -> msgspec.Raw:
        parser = SseParser(self._response_bytes)
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            self._check_size(size)
            try:
                events = parser.feed(chunk)
            except EventTooLarge:
                self._check_size(self._response_bytes + 1)
            for event in events:
                if event.data and (found := _response_in(event.data)) is not None:
                    return found
        raise UpstreamError("protocol", "ended its stream without an answer")

    def _check_size(self, size: int) -> None:
        if size > self._response_bytes:
            raise UpstreamError("too_large", f"answered with more than {self._response_bytes} bytes")


def _headers(entry: CatalogEntry, session: UpstreamSession | None, body: bytes | None) -> Headers:
    fields: list[tuple[str, str]] = [*entry.headers, (SERVER_HEADER, entry.name)]
    if body is not None:
        fields.append(("content-type", "application/json"))
        fields.append(("accept", "application/json, text/event-stream"))
    if session is not None:
        if session.id is not None:
            fields.append(("mcp-session-id", session.id))
        if versions.defines_version_header(session.version):
            fields.append(("mcp-protocol-version", session.version))
    return tuple(fields)


def _check_status(response: aiohttp.ClientResponse, session: UpstreamSession | None) -> None:
    failure = response.headers.get(FAILURE_HEADER)
    if failure is not None:
        reason = "timeout" if "Timeout" in failure else "connect"
        raise UpstreamError(reason, f"is unreachable ({failure[:100]})")
    # Examples of the TypeScript SDK answer 400 where the specification says 404.
    if response.status in (400, 404) and session is not None and session.id is not None:
        raise SessionLost
    if not 200 <= response.status < 300:
        raise UpstreamError("status", f"answered HTTP {response.status}")


def _request(method: str, params: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": _REQUEST_ID, "method": method, "params": params})


def _response_in(text: bytes) -> msgspec.Raw | None:
    """The ``result`` of our response in a message or (2025-03-26) a batch of messages; ``None`` where it is not there."""
    try:
        text.decode("utf-8")
        batch = msgspec.json.decode(text, type=list[msgspec.Raw]) if text.lstrip()[:1] == b"[" else [msgspec.Raw(text)]
        for message in batch:
            members = jsontext.split(message)
            if "method" in members or "id" not in members or bytes(members["id"]) != str(_REQUEST_ID).encode():
                continue
            if "error" in members:
                raise _error_answer(members["error"])
            if "result" in members:
                return members["result"]
    except (jsontext.NotJson, TypeError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamError("protocol", "answered with something that is no JSON-RPC message") from None
    return None


def _error_answer(raw: msgspec.Raw) -> UpstreamError:
    error = _object(raw, "error")
    code = bytes(error.get("code", msgspec.Raw(b"no code")))[:24].decode(errors="replace")
    text = jsontext.text_of(error["message"]) if "message" in error else None
    return UpstreamError("error", f"answered with error {code}: {(text or 'no message')[:200]}")


def _object(raw: msgspec.Raw, what: str) -> jsontext.Members:
    try:
        return jsontext.split(raw)
    except (TypeError, jsontext.NotJson):
        raise UpstreamError("protocol", f"answered with a {what} that is no object") from None


def _read_initialize(raw: msgspec.Raw, session_id: str | None) -> tuple[UpstreamSession, Mapping[str, Any], str | None]:
    result = _object(raw, "result")
    version = jsontext.text_of(result["protocolVersion"]) if "protocolVersion" in result else None
    if version not in versions.SUPPORTED:
        raise UpstreamError("protocol", f"speaks protocol version {str(version)[:64]}, which is not served here")
    if session_id is not None and (len(session_id) > MAX_SESSION_ID_CHARS or not _visible_ascii(session_id)):
        raise UpstreamError("protocol", "gave a session id that is too long or holds blanks or control characters")
    capabilities = msgspec.json.decode(result.get("capabilities", msgspec.Raw(b"{}")))
    if not isinstance(capabilities, dict):
        raise UpstreamError("protocol", "declared capabilities that are no object")
    instructions = jsontext.text_of(result["instructions"]) if "instructions" in result else None
    session = UpstreamSession(version, session_id, frozenset(str(name) for name in capabilities))
    return session, capabilities, instructions


def _visible_ascii(text: str) -> bool:
    return bool(text) and all("\x21" <= char <= "\x7e" for char in text)
