"""What the worker that decides about a call tells the worker that asks its user: hidden, by Envoy's metadata."""

from __future__ import annotations

import msgspec

from mcp_extproc.gateway.relay.identifiers import Identifiers
from mcp_extproc.mcp.sealing import NotSealed


class NotTold(Exception):
    """No worker of ours has written it."""


class Told(msgspec.Struct, frozen=True, array_like=True):
    """About a call whose user is asked first, or that has to pass Envoy once more for policies to judge it."""

    caller: str
    """Key of the caller."""
    server: str
    tool: str
    """The server's own name."""
    name: bytes
    """JSON text of the tool's name as the client wrote it."""
    seconds: float
    """How long the user has."""
    remembers: bool = False
    """Whether a consent holds for further calls."""
    asks: bool = True
    """Whether the user is asked."""
    mark: tuple[str, str] | None = None
    """A header for the request that passes once more."""
    endpoint: str = ""
    """Name of the endpoint. A header that chose it did not get past policies."""
    holder: str = ""
    """Whose share of what the worker holds it is; empty for the caller's."""
    identity: tuple[tuple[str, str], ...] = ()
    """Headers that say who was proven, of those who were by what the request that passes once more does not have."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Told).decode


def written(identifiers: Identifiers, told: Told) -> str:
    """As metadata."""
    return identifiers.hidden(_encode(told))


def read(identifiers: Identifiers, text: str) -> Told:
    """What was told.

    Raises:
        NotTold: nothing was.
    """
    try:
        return _decode(identifiers.shown(text))
    except (NotSealed, msgspec.DecodeError) as error:
        raise NotTold from error
