"""Where a server sends us: redirects that keep the method (RFC 9110 sections 15.4.8 and 15.4.9), as from ``/mcp`` to
``/mcp/``, and the endpoint for messages that an HTTP+SSE server names."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from urllib.parse import SplitResult, urljoin, urlsplit

STATUSES = (307, 308)

MOST = 3
"""Redirects that are followed for one request."""

_LOCATION = re.compile(r"[\x21-\x7e]{1,4096}")
_PORTS = {"http": 80, "https": 443}


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
