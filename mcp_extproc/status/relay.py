"""Takes the page's requests to the listener for clients, as they are. It adds nothing of its own: what the page may do is what
the token may do that somebody has pasted there.

The page could call the listener itself only if that let its origin in (CORS), which would change who else may call, and would
have to trust the listener's certificate. So its requests pass through here, on this machine, and the listener sees them as it
sees those of any client.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

from mcp_extproc.address import TcpAddress
from mcp_extproc.status.guard import SELF_HEADER
from mcp_extproc.status.known import Way

MAX_REQUEST_BYTES: Final = 4 << 20

MAX_HELD_BYTES: Final = 32 << 20
"""Of all requests together that have no answer yet."""

UPLOAD_SECONDS: Final = 15.0
"""For the body of a request: until it is there, it has its part of what can be held."""

_CONNECT_SECONDS: Final = 5.0
_PIECE: Final = 1 << 16

_ALWAYS: Final = ("accept", "content-type")
"""Headers that go on, besides those that the page names."""

_NEVER: Final = frozenset({
    "connection", "content-length", "cookie", "expect", "host", "keep-alive", "origin", "referer", "te", "trailer",
    "transfer-encoding", "upgrade", SELF_HEADER,
})  # fmt: skip
"""Of the connection, or of the browser."""

_BACK: Final = ("content-type", "mcp-session-id", "mcp-protocol-version", "www-authenticate", "retry-after")
"""Headers that come back."""


class Relay:
    """Takes requests to endpoints, and their answers back."""

    def __init__(self) -> None:
        # Answers are as long as they are, and as late: whoever waits leaves when that is too long.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        self._http = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
        self._held = 0
        """Bytes of requests that have no answer yet."""

    async def close(self) -> None:
        """Take no more."""
        await self._http.close()

    async def take(self, request: web.Request, way: Way) -> web.StreamResponse:
        """Take a request to an endpoint, and its answer back as it comes.

        Args:
            request: the page's; :data:`SELF_HEADER` names the headers that go on.
            way: the endpoint.
        """
        size = request.content_length
        if size is None and request.can_read_body:
            raise web.HTTPLengthRequired(text="A request with a body has a Content-Length.\n")
        if self._held + (size or 0) > MAX_HELD_BYTES:
            raise web.HTTPServiceUnavailable(text="Other requests wait for their answers already.\n")
        self._held += size or 0
        try:
            return await self._taken(request, way)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise web.HTTPBadGateway(
                text=f"The gateway does not answer at {TcpAddress(way.host, way.port)}: {error}"
            ) from None
        finally:
            self._held -= size or 0

    async def _taken(self, request: web.Request, way: Way) -> web.StreamResponse:
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                body = await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout(text=f"The body was not there within {UPLOAD_SECONDS:g} s.\n") from None
        names = [name.strip().lower() for name in request.headers.get(SELF_HEADER, "").split(",")]
        place = urlsplit(way.url)
        # Any name below a wildcard is the endpoint's.
        headers = _onward(request, names) | way.headers | {"host": place.netloc.replace("*", "any", 1)}
        async with self._http.request(
            request.method,
            URL(f"{place.scheme}://{TcpAddress(way.host, way.port)}{place.path}", encoded=True),
            data=body or None,
            headers=headers,
            ssl=_trusting(way),
            allow_redirects=False,
            skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
        ) as answer:
            back = {name: answer.headers[name] for name in _BACK if name in answer.headers}
            response = web.StreamResponse(status=answer.status, headers=back)
            await response.prepare(request)
            async for piece in answer.content.iter_chunked(_PIECE):
                await response.write(piece)
            await response.write_eof()
            return response


def _onward(request: web.Request, names: Sequence[str]) -> dict[str, str]:
    wanted = (*_ALWAYS, *(name for name in names if name not in _NEVER))
    return {name: request.headers[name] for name in wanted if name in request.headers}


def _trusting(way: Way) -> ssl.SSLContext | bool:
    """Only the certificate that the listener has, whatever names are in it. It is read again each time, as it changes."""
    if way.certificate is None:
        return True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=Path(way.certificate).read_text())
    return context
