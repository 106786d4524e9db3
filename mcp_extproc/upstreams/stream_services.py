"""What streams of GETs are made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.relay.identifiers import Identifiers
from mcp_extproc.held import HeldBytes
from mcp_extproc.upstreams.client import UpstreamClient
from mcp_extproc.upstreams.fan_out import LegRunner
from mcp_extproc.upstreams.open_streams import OpenStreams
from mcp_extproc.upstreams.turns import Turns
from mcp_extproc.upstreams.unread import Unread


@dataclass(frozen=True, slots=True)
class StreamServices:
    """What all streams of a worker share."""

    client: UpstreamClient
    """Opens servers' streams."""
    legs: LegRunner
    """Opens sessions, and answers servers."""
    entries: Mapping[str, CatalogEntry]
    """The servers."""
    memory: SessionMemory
    """Of sessions."""
    identifiers: Identifiers
    """Seals event ids."""
    clock: Callable[[], float]
    """Unix time in seconds."""
    unread: Unread
    """What Envoy may have of streams that nobody reads."""
    open: OpenStreams
    """How many there are."""
    turns: Turns
    """Who may work on what a server sent."""
    json_members: int
    """Most members of an event."""
    held: HeldBytes
    """Of the worker."""
