"""Authorization servers: their metadata and keys, fetched outside of requests, and served to Envoy at a local endpoint.

So new keys need no new configuration of Envoy's, and an authorization server that is down takes nothing along: what was
fetched last stays.

Source: RFC 8414 section 3, OpenID Connect Discovery 1.0 section 4, MCP 2025-11-25 basic/authorization (Authorization Server
Metadata Discovery).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import aiohttp
import orjson

from mcp_extproc.address import Address
from mcp_extproc.body import read_at_most
from mcp_extproc.config import GatewayConfig
from mcp_extproc.config.authentication import Jwks, safe_url
from mcp_extproc.config.endpoint import endpoints
from mcp_extproc.config.jwks import MAX_BYTES, usable_keys
from mcp_extproc.envoy.layout import issuer_key
from mcp_extproc.file_signature import file_signature
from mcp_extproc.proxies import proxy_of
from mcp_extproc.tasks import Tasks
from mcp_extproc.telemetry import log

if TYPE_CHECKING:
    from mcp_extproc.run.keys_endpoint import KeysEndpoint

FETCH_SECONDS = 4.0
"""Deadline of each answer of an authorization server."""

RETRY_SECONDS = (1.0, 2.0, 4.0, 6.0)
"""Before the next attempt, by how often it failed in a row. The last request of the attempt before may have taken all of its
time: with it, an issuer is asked at least every 10 s."""

FILE_SECONDS = 1.0
"""Between two looks at a file."""

_WAIT_SECONDS = 8.0
"""For which Envoy is kept waiting for the first attempt. Its listener starts meanwhile without clients."""

_LOG = log.logger("authentication")


_Part = Literal["keys", "metadata"]
"""Of what an authorization server has."""

_WITHOUT: Final[Mapping[_Part, str]] = {
    "keys": "its tokens are refused until then",
    "metadata": "clients do not get it from the gateway until then",
}
"""What follows if there was nothing before."""


class Unusable(Exception):
    """What an authorization server, or a file, has is not there or can't be used. ``str()`` says why, without its content."""


@dataclass(frozen=True)
class _Wanted:
    """What is to be known of one issuer."""

    issuer: str
    jwks: Jwks | None
    algorithms: tuple[str, ...]
    refresh: float

    @property
    def key(self) -> str:
        """Of the issuer, at the endpoint."""
        return issuer_key(self.issuer, self.algorithms)


@dataclass
class _Known:
    """What is known of it."""

    keys: bytes | None = None
    keys_tried: asyncio.Event = field(default_factory=asyncio.Event)
    metadata: bytes | None = None
    metadata_tried: asyncio.Event = field(default_factory=asyncio.Event)
    jwks_uri: str | None = None
    """As the metadata names it."""
    problems: dict[_Part, str] = field(default_factory=dict)
    """Why something can't be had, as it was logged."""
    tasks: tuple[asyncio.Task[None], ...] = ()


class AuthorizationServers:
    """What the issuers of a configuration have, and the endpoint for it.

    Args:
        address: where Envoy asks; ``None`` for an Envoy that does not.
    """

    def __init__(self, address: Address | None) -> None:
        self._address = address
        self._issuers: dict[_Wanted, _Known] = {}
        self._tasks = Tasks(_LOG)
        self._http: aiohttp.ClientSession | None = None
        self._endpoint: KeysEndpoint | None = None

    async def serve(self, config: GatewayConfig) -> None:
        """Have what a configuration needs, from now on. What is known of unchanged issuers stays.

        Raises:
            StartError: the endpoint's address can't be used.
            OSError: the same.
        """
        wanted = list(dict.fromkeys(_wanted(config)))
        if self._address is None or (not wanted and self._endpoint is None):
            return
        if self._endpoint is None:
            await self._listen(self._address)
        for gone in [one for one in self._issuers if one not in wanted]:
            for task in self._issuers.pop(gone).tasks:
                task.cancel()
        for one in wanted:
            if one not in self._issuers:
                self._issuers[one] = known = _Known()
                known.tasks = tuple(self._begin(one, known))

    async def stop(self) -> None:
        """Fetch and serve no more."""
        # Each of them, also where whoever stops is cancelled meanwhile.
        async with AsyncExitStack() as stopping:
            if self._endpoint is not None:
                stopping.push_async_callback(self._endpoint.stop)
            if self._http is not None:
                stopping.push_async_callback(self._http.close)
            stopping.push_async_callback(self._tasks.close)

    # -- Served ---------------------------------------------------------------------------------------------------------

    async def _listen(self, address: Address) -> None:
        # Most gateways need none of it.
        from mcp_extproc.run.keys_endpoint import KeysEndpoint

        endpoint = KeysEndpoint(address, self._keys, self._metadata)
        await endpoint.start()
        self._endpoint = endpoint
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=FETCH_SECONDS),
            headers={"accept": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def _keys(self, name: str) -> bytes | None:
        known = self._known(name)
        if known is None:
            return None
        await _tried(known.keys_tried)
        return known.keys

    async def _metadata(self, name: str) -> bytes | None:
        known = self._known(name)
        if known is None:
            return None
        await _tried(known.metadata_tried)
        return known.metadata

    def _known(self, name: str) -> _Known | None:
        return next((known for wanted, known in self._issuers.items() if wanted.key == name), None)

    # -- Fetched --------------------------------------------------------------------------------------------------------

    def _begin(self, wanted: _Wanted, known: _Known) -> Iterator[asyncio.Task[None]]:
        keep, jwks = partial(self._tasks.keep, issuer=wanted.issuer), wanted.jwks
        if jwks is None or jwks.uri is not None:
            yield keep("fetch_keys", partial(self._keep, wanted, known, "keys", self._fetch_keys, known.keys_tried))
        elif jwks.file is not None:
            yield keep("read_keys", partial(self._watch, wanted, known, Path(jwks.file)))
        else:
            assert jwks.inline is not None
            known.keys = usable_keys(jwks.inline, wanted.algorithms).encode()
            known.keys_tried.set()
        if jwks is not None:
            fetch = partial(self._keep, wanted, known, "metadata", self._fetch_metadata, known.metadata_tried)
            yield keep("fetch_metadata", fetch)

    async def _keep(self, wanted: _Wanted, known: _Known, part: _Part, fetch: Any, tried: asyncio.Event) -> None:
        """Fetch again and again; what was fetched last stays while that fails."""
        failures = 0
        while True:
            try:
                await fetch(wanted, known)
            except Unusable as error:
                failures += 1
                pause = retry_after(failures, wanted.refresh)
                _complain(wanted, known, part, str(error))
            else:
                _is_available(wanted, known, part)
                failures, pause = 0, wanted.refresh
            tried.set()
            await asyncio.sleep(pause)

    async def _fetch_keys(self, wanted: _Wanted, known: _Known) -> None:
        if wanted.jwks is not None:
            assert wanted.jwks.uri is not None
            uri = wanted.jwks.uri
        else:
            uri = await self._found_by_metadata(wanted, known)
        known.keys = _served(await self._get(uri, "keys"), wanted.algorithms, f"the keys at {_shown(uri)}")

    async def _found_by_metadata(self, wanted: _Wanted, known: _Known) -> str:
        """Where the keys are, by the metadata of now or before."""
        try:
            await self._fetch_metadata(wanted, known)
        except Unusable as error:
            if known.jwks_uri is None:
                raise
            _complain(wanted, known, "metadata", str(error))
        else:
            _is_available(wanted, known, "metadata")
        finally:
            known.metadata_tried.set()
        if known.jwks_uri is None:
            raise Unusable("its metadata has no jwks_uri")
        return known.jwks_uri

    async def _fetch_metadata(self, wanted: _Wanted, known: _Known) -> None:
        problems = []
        for url in metadata_urls(wanted.issuer):
            try:
                text = await self._get(url, "metadata")
                known.jwks_uri = _checked(text, wanted.issuer, url)
            except Unusable as error:
                problems.append(str(error))
                continue
            known.metadata = text
            return
        raise Unusable("; ".join(problems))

    async def _get(self, url: str, what: str) -> bytes:
        assert self._http is not None
        shown = _shown(url)
        try:
            # A redirect could lead from https to http.
            async with self._http.get(url, allow_redirects=False, proxy=proxy_of(url)) as response:
                if response.status != 200:
                    raise Unusable(f"{shown} answered HTTP {response.status}")
                text = await read_at_most(response.content.iter_any(), MAX_BYTES)
        except TimeoutError:
            raise Unusable(f"{shown} did not answer within {FETCH_SECONDS:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: a host that can't be a name
            raise Unusable(f"{shown} can't be reached ({type(error).__name__})") from None
        if text is None:
            raise Unusable(f"the {what} at {shown} are larger than {MAX_BYTES} bytes")
        return text

    async def _watch(self, wanted: _Wanted, known: _Known, path: Path) -> None:
        """Read a file whenever it changes."""
        before: Hashable = object()
        while True:
            now = file_signature(path)
            if now != before:
                before = now
                try:
                    known.keys = _served(_text_of(path), wanted.algorithms, f"the file {path}")
                except Unusable as error:
                    _complain(wanted, known, "keys", str(error))
                else:
                    known.problems.pop("keys", None)
                    log.event(_LOG, logging.INFO, "keys_read", {"issuer": wanted.issuer, "file": str(path)})
            known.keys_tried.set()
            await asyncio.sleep(FILE_SECONDS)


def retry_after(failures: int, refresh: float) -> float:
    """Seconds to wait after so many failures in a row. ``refresh``: as long as after a success, at most."""
    return min(RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1], refresh)


def metadata_urls(issuer: str) -> list[str]:
    """Where an issuer's metadata may be, in the order in which it is looked for.

    >>> metadata_urls("https://idp.example/tenant")[0]
    'https://idp.example/.well-known/oauth-authorization-server/tenant'
    """
    parts = urlsplit(issuer)
    root, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    urls = [f"{root}/.well-known/{name}{path}" for name in ("oauth-authorization-server", "openid-configuration")]
    return [*urls, *([f"{root}{path}/.well-known/openid-configuration"] if path else [])]


def _wanted(config: GatewayConfig) -> Iterator[_Wanted]:
    for endpoint in endpoints(config):
        oauth = None if endpoint.authentication is None else endpoint.authentication.oauth
        if oauth is not None:
            for one in oauth.issuers:
                yield _Wanted(one.issuer, one.jwks, oauth.algorithms, one.refresh)


def _checked(text: bytes, issuer: str, url: str) -> str | None:
    """Check metadata. Returns where the keys are.

    Raises:
        Unusable: it is another one's (RFC 8414 section 3.3), or none.
    """
    shown = _shown(url)
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError:
        data = None
    if not isinstance(data, Mapping):
        raise Unusable(f"the metadata at {shown} is no JSON object")
    if data.get("issuer") != issuer:
        raise Unusable(f"the metadata at {shown} is of another issuer (RFC 8414 section 3.3): correct the issuer")
    if data.get("jwks_uri") is None:
        return None
    try:
        return safe_url(data["jwks_uri"], issuer)
    except ValueError as error:
        raise Unusable(f"jwks_uri in the metadata at {shown}: {error}") from None


def _served(text: bytes, algorithms: tuple[str, ...], where: str) -> bytes:
    try:
        return usable_keys(text, algorithms).encode()
    except ValueError as error:
        raise Unusable(f"{where}: {error}") from None


def _text_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unusable(f"the file {path} can't be read: {error.strerror}") from None


def _complain(wanted: _Wanted, known: _Known, part: _Part, why: str) -> None:
    """Once, and not every ten seconds."""
    if known.problems.get(part) == why:
        return
    known.problems[part] = why
    has_before = (known.keys if part == "keys" else known.metadata) is not None
    effect = f"the {part} before stay" if has_before else _WITHOUT[part]
    log.event(_LOG, logging.WARNING, "authorization_server_unavailable", {
        "issuer": wanted.issuer, "part": part, "why": why, "effect": effect,
    })  # fmt: skip


def _is_available(wanted: _Wanted, known: _Known, part: _Part) -> None:
    if known.problems.pop(part, None) is not None:
        log.event(_LOG, logging.INFO, "authorization_server_available", {"issuer": wanted.issuer, "part": part})


def _shown(url: str) -> str:
    """Without the query, which may hold a key."""
    return url.partition("?")[0]


async def _tried(event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            await event.wait()
    except TimeoutError:
        return
