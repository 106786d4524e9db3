"""A client whose servers are scripts: each says what it answers, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
import orjson

from mcp_extproc.config.model import Limits
from mcp_extproc.gateway.catalog import CatalogEntry
from mcp_extproc.gateway.decision import Decision, NeedSession
from mcp_extproc.gateway.legs import Failed, SessionRef
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.request import NO_CONTEXT, RequestContext
from mcp_extproc.held import HeldBytes, Holding
from mcp_extproc.mcp import jsontext
from mcp_extproc.mcp.capabilities import Flags
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.telemetry.observer import Exchanged, Observer, Sent
from mcp_extproc.upstreams.batch_client import BatchClient
from mcp_extproc.upstreams.client import Initialized, Result, SessionLost, UpstreamClient
from mcp_extproc.upstreams.fan_out import LegRunner
from mcp_extproc.upstreams.open_streams import OpenStreams
from mcp_extproc.upstreams.stream_services import StreamServices
from mcp_extproc.upstreams.turns import Turns
from mcp_extproc.upstreams.unread import Unread
from tests.unit.gateway.relay.support import Rig as RelayRig
from tests.unit.gateway.support import catalog_of, config

Step = UpstreamSession | dict[str, Any] | Exception | asyncio.Event


class FakeClient:
    """Stands in for :class:`UpstreamClient`.

    ``scripts[server]`` are its next steps: a session answers `initialize`, a dict is the next result, an exception is
    raised, and an event is waited for before the step after it. ``asked`` records what every server was sent, and
    ``declared`` with which flags of the client, ``contexts`` for whose sake. Servers in ``streaming``
    answer with an event stream.
    """

    def __init__(self, **scripts: Sequence[Step]) -> None:
        self._scripts = {server: list(steps) for server, steps in scripts.items()}
        self.asked: list[tuple[str, str, object]] = []
        self.declared: list[Flags] = []
        self.contexts: list[RequestContext] = []
        self.streaming: set[str] = set()

    def left(self, server: str) -> int:
        """Steps that were not taken."""
        return len(self._scripts[server])

    async def _next(self, server: str) -> Any:
        while isinstance(step := self._scripts[server].pop(0), asyncio.Event):
            await step.wait()
        if isinstance(step, Exception):
            raise step
        return step

    async def initialize(
        self,
        entry: CatalogEntry,
        version: str,
        client_flags: Flags,
        *,
        context: RequestContext = NO_CONTEXT,
        holding: Holding | None = None,
    ) -> Initialized:
        self.contexts.append(context)
        self.asked.append((entry.name, "initialize", version))
        self.declared.append(client_flags)
        return Initialized(
            await self._next(entry.name), f"How to use {entry.name}", streamed=entry.name in self.streaming
        )

    async def request(
        self,
        entry: CatalogEntry,
        session: UpstreamSession,
        method: str,
        params: object,
        *,
        context: RequestContext = NO_CONTEXT,
        holding: Holding | None = None,
    ) -> Result:
        self.contexts.append(context)
        self.asked.append((entry.name, method, (session.id, orjson.dumps(params).decode())))
        body = orjson.dumps(await self._next(entry.name))
        return Result(jsontext.split(msgspec.Raw(body)), len(body), entry.name in self.streaming)

    async def notify(
        self,
        entry: CatalogEntry,
        session: UpstreamSession,
        body: bytes,
        *,
        context: RequestContext = NO_CONTEXT,
        method: str | None = None,
    ) -> None:
        self.contexts.append(context)
        self.asked.append((entry.name, "notify", (session.id, body)))
        await self._next(entry.name)

    async def end(self, entry: CatalogEntry, session: UpstreamSession, *, context: RequestContext = NO_CONTEXT) -> None:
        self.contexts.append(context)
        self.asked.append((entry.name, "end", session.id))
        await self._next(entry.name)


def stream_services(
    client: UpstreamClient,
    legs: LegRunner,
    memory: SessionMemory,
    relays: RelayRig,
    limits: Limits | None = None,
) -> StreamServices:
    """What streams over a client are made with, at a time that stands still."""
    limits = limits or Limits()
    return StreamServices(
        client, legs, relays.catalog.entries, memory, relays.identifiers, lambda: 0.0,
        Unread(limits.unread_bytes, limits.stream_bytes, 60.0, lambda: 0.0),
        OpenStreams(limits.streams, limits.session_streams),
        Turns(),
        limits.json_members,
        HeldBytes(limits.held_bytes),
    )  # fmt: skip


class Told(Observer):
    """Keeps what it is told."""

    is_on = True

    def __init__(self) -> None:
        self.requests: list[Sent] = []
        self.legs: list[tuple[str, str, str | None]] = []
        self.repairs: list[tuple[str, str | None]] = []
        self.exchanges: list[Exchanged] = []
        self.expirations: list[tuple[str, str | None, float]] = []

    def new_span(self) -> str:
        return f"{len(self.requests) + 1:016x}"

    def sent(self, sent: Sent) -> None:
        self.requests.append(sent)

    def leg(self, server: str, purpose: str, error_type: str | None) -> None:
        self.legs.append((server, purpose, error_type))

    def repaired(self, server: str, error_type: str | None) -> None:
        self.repairs.append((server, error_type))

    def exchanged(self, exchanged: Exchanged) -> None:
        self.exchanges.append(exchanged)

    def expired(self, session: str, version: str | None, seconds: float) -> None:
        self.expirations.append((session, version, seconds))


class Rig:
    """Legs over a fake client, with a memory of their own."""

    def __init__(self, client: FakeClient, limits: Mapping[str, Any] | None = None, **server: Any) -> None:
        self.config = config({name: dict(server) for name in "abc"}, limits=dict(limits or {}))
        self.client = client
        self.memory = SessionMemory()
        entries = catalog_of(self.config).entries
        front = BatchClient(None, self.config.limits)
        self.told = Told()
        self.legs = LegRunner(
            cast("UpstreamClient", client), front, entries, self.memory, self.config.limits, self.told
        )


def page(*names: str, **more: Any) -> dict[str, Any]:
    """A page of `tools/list`."""
    return {"tools": [{"name": name} for name in names], **more}


LOST = SessionLost()


DEADLINE = 60.0
"""Seconds that a leg gets where time is not the subject."""


def need(session: SessionRef, lost: str | None, *, doubtful: bool = False) -> NeedSession:
    def resume(_: UpstreamSession | Failed) -> Decision:
        raise AssertionError("only the session is asked for")

    return NeedSession(session, lost, resume, DEADLINE, NO_CONTEXT, doubtful)
