"""The local endpoint where Envoy finds the keys and metadata of authorization servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from mcp_extproc.address import Address, UnixAddress
from mcp_extproc.envoy.layout import KEYS_PATH, METADATA_PATH
from mcp_extproc.run.listening import listen


class KeysEndpoint:
    """A server that only Envoy asks.

    Args:
        address: where it listens.
        keys: the key set of an issuer, by :func:`mcp_extproc.envoy.layout.issuer_key`, or ``None``.
        metadata: its metadata, by the same.
    """

    def __init__(
        self,
        address: Address,
        keys: Callable[[str], Awaitable[bytes | None]],
        metadata: Callable[[str], Awaitable[bytes | None]],
    ) -> None:
        self._address = address
        self._keys = keys
        self._metadata = metadata
        app = web.Application()
        app.router.add_get(KEYS_PATH + "{issuer}", self._answer_keys)
        app.router.add_get(METADATA_PATH + "{issuer}", self._answer_metadata)
        # It is asked every second.
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        """Listen.

        Raises:
            StartError: the address can't be used.
            OSError: the same.
        """
        listening = await listen(self._address)
        try:
            await self._runner.setup()
            await web.SockSite(self._runner, listening).start()
        except BaseException:
            listening.close()
            await self.stop()
            raise

    async def stop(self) -> None:
        """Listen no more."""
        await self._runner.cleanup()
        if isinstance(self._address, UnixAddress):
            Path(self._address.path).unlink(missing_ok=True)

    async def _answer_keys(self, request: web.Request) -> web.Response:
        return _answer(await self._keys(request.match_info["issuer"]), "there are no keys of this issuer yet")

    async def _answer_metadata(self, request: web.Request) -> web.Response:
        found = await self._metadata(request.match_info["issuer"])
        return _answer(found, "the metadata of the authorization server is not there yet: try again")


def _answer(body: bytes | None, absent: str) -> web.Response:
    if body is None:
        return web.json_response({"error": "temporarily_unavailable", "error_description": absent}, status=503)
    return web.Response(body=body, content_type="application/json")
