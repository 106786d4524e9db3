"""What a gateway's status page knows, for programs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

import aiohttp
import orjson

_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 30.0
"""A page that nobody has looked at yet has to start first."""

_SILENCE_SECONDS: Final = 20.0
"""It says something every second."""

_MAX_BYTES: Final = 16 << 20


class NoPage(Exception):
    """There is none, or it does not answer. ``str()`` says why."""


async def now(url: str) -> dict[str, Any]:
    """All that it shows: ``known``, ``state`` and ``calls``.

    Raises:
        NoPage: it does not answer.
    """
    try:
        async with (
            _client() as http,
            asyncio.timeout(_ANSWER_SECONDS),
            http.get(f"{url.rstrip('/')}/state") as response,
        ):
            found = _read(url, response.status, await response.read())
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise NoPage(f"{url} does not answer: {error or type(error).__name__}") from None
    return found


async def events(url: str) -> AsyncGenerator[tuple[str, Any], None]:
    """What it shows, as it changes: names of events and what they say. It ends when the page does.

    Raises:
        NoPage: it does not answer.
    """
    try:
        async with _client() as http, http.get(f"{url.rstrip('/')}/events") as response:
            if response.status != 200 or response.content_type != "text/event-stream":
                raise NoPage(f"{url} is no status page: it answers HTTP {response.status}")
            name = ""
            async for line in response.content:
                if line.startswith(b"event: "):
                    name = line.removeprefix(b"event: ").strip().decode()
                elif line.startswith(b"data: "):
                    yield name, orjson.loads(line.removeprefix(b"data: "))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise NoPage(f"{url} does not answer: {error or type(error).__name__}") from None


def _client() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
    return aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=_MAX_BYTES)


def _read(url: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body) if status == 200 else None
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or not {"known", "state", "calls"} <= found.keys():
        raise NoPage(f"{url} is no status page: it answers HTTP {status}")
    return found
