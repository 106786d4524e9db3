"""A client of Envoy's admin interface."""

from __future__ import annotations

import re
from collections.abc import Mapping

import aiohttp

from mcp_extproc.address import Address, UnixAddress

_TIMEOUT = aiohttp.ClientTimeout(total=2)


class Admin:
    """A client of one Envoy's admin interface.

    Args:
        address: of the interface.
    """

    def __init__(self, address: Address) -> None:
        self._address = address

    async def ask(self, method: str, path: str) -> str | None:
        """The response body; ``None`` if Envoy does not respond, or not with 200."""
        address = self._address
        connector = aiohttp.UnixConnector(address.path) if isinstance(address, UnixAddress) else aiohttp.TCPConnector()
        origin = "http://admin" if isinstance(address, UnixAddress) else f"http://{address}"
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as http,
                http.request(method, f"{origin}{path}") as response,
            ):
                return await response.text() if response.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    async def stats(self, pattern: str) -> Mapping[str, str] | None:
        """Envoy's statistics by name; ``None`` if it does not respond.

        Args:
            pattern: a regular expression that matches anywhere in a name.
        """
        text = await self.ask("GET", f"/stats?filter={pattern}")
        if text is None:
            return None
        pairs = (line.rpartition(": ") for line in text.splitlines())
        return {name: value.strip('"') for name, _, value in pairs}

    async def stat(self, name: str) -> int | None:
        """One counter or gauge; ``None`` if Envoy does not respond, or has no statistic of this name."""
        found = await self.stats(f"^{re.escape(name)}$")
        return int(found[name]) if found and name in found else None
