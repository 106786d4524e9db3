"""Where a server sends us: redirects that keep the method (RFC 9110 sections 15.4.8 and 15.4.9), as from ``/mcp`` to
``/mcp/``, and the endpoint for messages that an HTTP+SSE server names."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

import aiohttp
from yarl import URL

from mcp_extproc.contract import FAILURE_HEADER

STATUSES = (307, 308)

MOST = 3
"""Redirects that are followed for one request."""

_LARGE = 1 << 20

_LOCATION = re.compile(r"[\x21-\x7e]{1,4096}")
_PORTS = {"http": 80, "https": 443}


class LeadsAway(Exception):
    """A server redirects to somewhere that is not its own. ``str()`` is a clause that says so, in part in its words."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes."""

    base: str
    """Start of the URL: the listener of Envoy's that leads to the server."""
    path: str
    """With its query, percent-encoded: it is sent so."""
    origins: AbstractSet[str]
    """Of the server."""


@asynccontextmanager
async def followed(
    http: aiohttp.ClientSession, method: str, target: Target, headers: Mapping[str, str], body: bytes | None
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The response to a request, or to the last of those that it is redirected to within the server.

    Raises:
        LeadsAway: it is redirected elsewhere.
    """
    for path in (found := [target.path]):
        url = URL(target.base + path, encoded=True)
        # aiohttp warns of large bodies that are plain bytes, and is faster with small ones.
        data = body if body is None or len(body) <= _LARGE else io.BytesIO(body)
        async with http.request(method, url, data=data, headers=headers, allow_redirects=False) as response:
            if (further := _further(response, target.origins, path)) is not None and len(found) <= MOST:
                found.append(further)
                continue
            yield response


def _further(response: aiohttp.ClientResponse, origins: AbstractSet[str], path: str) -> str | None:
    """The path that a response redirects to, if it is one of the server that does."""
    if response.status not in STATUSES or FAILURE_HEADER in response.headers:
        return None
    location = response.headers.get("location", "")
    further = path_of(origins, path, location)
    if further is None:
        to = shown(origins, path, location)
        raise LeadsAway(f"answered HTTP {response.status}, a redirect to {to}, which is not followed")
    return further


def path_of(origins: AbstractSet[str], path: str, location: str) -> str | None:
    """The path and query that a location leads to, or ``None`` where it leads away from the server: the configured credentials
    would go along.

    Args:
        origins: of the server.
        path: that was asked for.
        location: in the answer.
    """
    target = _target(origins, path, location)
    if target is None or _origin(target) not in origins:
        return None
    return (target.path or "/") + (f"?{target.query}" if target.query else "")


def shown(origins: AbstractSet[str], path: str, location: str) -> str:
    """Where a location leads, without what may be a credential: its query and user."""
    target = _target(origins, path, location)
    if target is None:
        return "nowhere"
    host = target.netloc.rpartition("@")[2]
    return f"{target.scheme}://{host}{target.path}"[:200]


def _target(origins: AbstractSet[str], path: str, location: str) -> SplitResult | None:
    if not _LOCATION.fullmatch(location):
        return None
    try:
        target = urlsplit(urljoin(f"{min(origins)}{path}", location))
        return target if target.port is None or target.port else None
    except ValueError:
        return None


def _origin(url: SplitResult) -> str | None:
    port = url.port or _PORTS.get(url.scheme)
    host = url.hostname or ""
    if url.username is not None or url.password is not None:
        return None
    return f"{url.scheme}://[{host}]:{port}" if ":" in host else f"{url.scheme}://{host}:{port}"
