"""Proxies of the environment, through which servers of others are asked."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_of(url: str) -> str | None:
    """The URL of the one for a URL, if there is one. With aiohttp's own ``trust_env`` a ``.netrc`` would apply too, whose
    default password goes to any host."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
