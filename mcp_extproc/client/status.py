"""What a gateway's status page knows, for programs.

Whoever is at the URL may be somebody else by now, or a gateway of another version: what comes is checked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, Final, NamedTuple, NotRequired, TypedDict

import aiohttp
import msgspec
from msgspec import Meta

from mcp_extproc.body import read_at_most

_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 30.0
"""A page that nobody has looked at yet has to start first."""

_SILENCE_SECONDS: Final = 20.0
"""It says something every second."""

_MAX_BYTES: Final = 16 << 20
"""Of an answer, or of an event."""

Count = Annotated[int, Meta(ge=0)]
Time = Annotated[float, Meta(ge=0, lt=1e11)]
"""Seconds since the epoch."""


class NoPage(Exception):
    """There is none, or it does not answer. ``str()`` says why."""


# What it shows, as far as it is used here.


class Way(TypedDict):
    """An endpoint."""

    url: str


class Server(TypedDict):
    """An MCP server."""

    name: str
    cluster: str
    state: str | None
    version: str | None
    tools: Count | None
    problem: str | None


class Known(TypedDict):
    """The gateway."""

    file: str
    ways: list[Way]
    servers: list[Server]
    asked: Time | None


class Quantiles(TypedDict):
    """Durations in milliseconds, as far as Envoy knows any."""

    p50: NotRequired[float]
    p95: NotRequired[float]


class Tally(TypedDict):
    """What calls add up to. Durations are in milliseconds."""

    p50: float | None
    p95: float | None
    calls: Count
    errors: Count
    denied: Count
    course: list[Count | None]


class Tool(Tally):
    """A tool that was called."""

    server: str
    tool: str


class Denial(TypedDict):
    """By what calls were denied, and the last one of them."""

    rule: str
    count: Count
    last: Time
    what: str | None
    method: str | None
    principal: str | None


class Cluster(TypedDict):
    """What Envoy counts of a server."""

    open: list[str]
    rq_total: NotRequired[Count]
    rq_5xx: NotRequired[Count]
    rq_timeout: NotRequired[Count]
    cx_connect_fail: NotRequired[Count]
    time: NotRequired[Quantiles]


class Envoy(TypedDict):
    """What Envoy counts."""

    clusters: dict[str, Cluster]


class Board(TypedDict):
    """What has come by."""

    total: Tally
    tools: list[Tool]
    denials: list[Denial]
    sessions: list[Any]
    sessions_seen: Count


class State(TypedDict):
    """How it is now."""

    now: Time
    records: bool
    envoy: Envoy | None
    servers: dict[str, Tally | None]
    board: Board


class Call(TypedDict):
    """A request that is over."""

    time: Time
    verdict: str
    error: str | None
    what: str | None
    method: str | None
    http: str
    server: str | None
    principal: str | None
    ms: float
    rule: str | None
    why: str | None


class Shown(TypedDict):
    """All of it."""

    known: Known | None
    state: State
    calls: list[Call]


class Answer(NamedTuple):
    """What it answers at once: read, and as JSON on one line."""

    shown: Shown
    text: str


_EVENTS: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    "known": msgspec.json.Decoder(Known),
    "begin": msgspec.json.Decoder(dict[str, Any]),
    "state": msgspec.json.Decoder(State),
    "calls": msgspec.json.Decoder(list[Call]),
}


async def now(url: str) -> Answer:
    """All that it shows.

    Raises:
        NoPage: it does not answer.
    """
    try:
        async with (
            _client() as http,
            asyncio.timeout(_ANSWER_SECONDS),
            _get(http, f"{url.rstrip('/')}/state") as response,
        ):
            body = await _read(url, response)
            if response.status != 200:
                raise NoPage(f"{url} is no status page: it answers HTTP {response.status}")
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise NoPage(f"{url} does not answer: {error or type(error).__name__}") from None
    try:
        return Answer(msgspec.json.decode(body, type=Shown), msgspec.json.format(body, indent=-1).decode())
    except (ValueError, RecursionError) as error:
        raise _is_another(url, error) from None


async def events(url: str) -> AsyncGenerator[tuple[str, Any], None]:
    """What it shows, as it changes: names of events and what they say. It ends when the page does.

    Raises:
        NoPage: it does not answer.
    """
    try:
        async with _client() as http, _get(http, f"{url.rstrip('/')}/events") as response:
            if response.status != 200 or response.content_type != "text/event-stream":
                raise NoPage(f"{url} is no status page: it answers HTTP {response.status}")
            name = ""
            async for line in response.content:
                if line.startswith(b"event: "):
                    name = line.removeprefix(b"event: ").strip().decode(errors="replace")
                elif line.startswith(b"data: ") and (decoder := _EVENTS.get(name)) is not None:
                    yield name, _decoded(url, decoder, line.removeprefix(b"data: "))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise NoPage(f"{url} does not answer: {error or type(error).__name__}") from None


def _client() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
    return aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=_MAX_BYTES // 2)


def _get(http: aiohttp.ClientSession, url: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    return http.get(url, allow_redirects=False)


async def _read(url: str, response: aiohttp.ClientResponse) -> bytes:
    body = await read_at_most(response.content.iter_any(), _MAX_BYTES)
    if body is None:
        raise NoPage(f"{url} is no status page: its answer is larger than {_MAX_BYTES >> 20} MiB")
    return body


def _decoded(url: str, decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise _is_another(url, error) from None


def _is_another(url: str, error: Exception) -> NoPage:
    return NoPage(f"{url} is no status page, or one of another version: {error}")
