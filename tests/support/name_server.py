"""A name server that a test's Envoy asks."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

_HEADER = 12
_ANSWERED = 0x8180
"""Flags: a response, recursion was wanted and is there."""
_A = 1
_TO_THE_QUESTION = 0xC00C
"""Instead of a name: that of the question (RFC 1035, 4.1.4)."""


class NameServer(asyncio.DatagramProtocol):
    """Knows IPv4 addresses of names. Of names that it does not know it says that there are none.

    Args:
        addresses: by name.
        losses: how many queries get no answer before the first one that does.
    """

    def __init__(self, addresses: Mapping[str, Sequence[str]], losses: int) -> None:
        self._addresses = addresses
        self._losses = losses

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, sender: tuple[str | Any, int]) -> None:
        if self._losses:
            self._losses -= 1
            return
        name, question = _question(data)
        [kind] = struct.unpack_from("!H", question, len(question) - 4)
        found = self._addresses.get(name, ()) if kind == _A else ()
        records = b"".join(
            struct.pack("!HHHIH", _TO_THE_QUESTION, _A, 1, 5, 4) + socket.inet_aton(address) for address in found
        )
        head = data[:2] + struct.pack("!HHHHH", _ANSWERED, 1, len(found), 0, 0)
        self._transport.sendto(head + question + records, sender)


def _question(query: bytes) -> tuple[str, bytes]:
    """The name in a query, and the whole question."""
    labels, at = [], _HEADER
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), query[_HEADER : at + 5]


@asynccontextmanager
async def name_server(addresses: Mapping[str, Sequence[str]], *, losses: int = 0) -> AsyncIterator[dict[str, Any]]:
    """A running one, as Envoy's ``typed_dns_resolver_config``. It asks again after a second without an answer."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: NameServer(addresses, losses), local_addr=("127.0.0.1", 0)
    )
    host, port = transport.get_extra_info("sockname")
    kind = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
    try:
        yield {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                "@type": kind,
                "resolvers": [{"socket_address": {"address": host, "port_value": port}}],
                "query_timeout_seconds": 1,
            },
        }
    finally:
        transport.close()
