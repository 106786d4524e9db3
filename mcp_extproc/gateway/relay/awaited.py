"""A response that has to be read, on its way to whoever reads it.

Envoy sends a response on an ext_proc stream of its own, which any worker may get. So what is known of it travels with the
request, in dynamic metadata that Envoy forwards to the response's stream and that clients can't write
(:data:`mcp_extproc.contract.RESPONSE_NAMESPACE`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from mcp_extproc.bounded import MIB, Bounded
from mcp_extproc.config import Limits
from mcp_extproc.contract import READS_ALL, READS_KEY
from mcp_extproc.gateway.authorization.judging import NOBODY, NOTHING_ALLOWED, Sight, sight_of_kind
from mcp_extproc.gateway.authorization.rules import CallerKind
from mcp_extproc.gateway.effects import Effects, Unsubscribe
from mcp_extproc.gateway.endpoints import Endpoints
from mcp_extproc.gateway.legs import SessionRef
from mcp_extproc.gateway.memory import SessionMemory
from mcp_extproc.gateway.relay.identifiers import ClientView, Identifiers
from mcp_extproc.gateway.relay.responses import Expected
from mcp_extproc.gateway.relay.server_messages import Call, Naming, Relay
from mcp_extproc.gateway.request import NOTHING_CARRIED, Headers, RequestContext
from mcp_extproc.mcp.capabilities import Flags
from mcp_extproc.mcp.sealing import NotSealed
from mcp_extproc.mcp.sessions import UpstreamSession
from mcp_extproc.mcp.uris import Uris

_MAX_KINDS = 8192
_MAX_KINDS_BYTES = 32 * MIB

_VERSION: Final = b"\x01"
"""First byte of what is hidden. During an upgrade, the worker that reads a response may be of another release than the one
that forwarded the request. Fields are added at the end, with a default; any other change is another version."""

_KIND: Final = "of"
ID_KEY: Final = "id_json"
"""JSON text of the request's id."""
_TOKEN: Final = "token"  # noqa: S105 - a key
_UNDO: Final = "undo"
TRACE_KEY: Final = "trace"
PRINCIPAL_KEY: Final = "principal"
_CARRIED: Final = "carried"


class _Kind(msgspec.Struct, frozen=True, array_like=True):
    """What the responses to all requests of one plan have in common."""

    key: str
    version: str
    flags: Flags
    server: str
    session: UpstreamSession
    method: str
    path: str
    """Of the endpoint."""
    several: bool
    word: str
    """Before the server's URIs."""
    stays: bool
    """Whether its URIs stay as it wrote them. This and the three before are for a worker that does not serve it any more:
    running calls outlive the removal of their server."""
    rules: int = 0
    """Checksum of what :attr:`caller` belongs to."""
    caller: CallerKind | None = None
    """What the caller is to rules."""
    endpoint: str = ""
    """Name of the endpoint."""


@dataclass(frozen=True, slots=True)
class _FormerNaming:
    """Of a server that is not served any more."""

    endpoint: str
    path: str
    several: bool
    uris: Uris
    checksum: int = 0


_encode = msgspec.msgpack.Encoder().encode
_read_kind = msgspec.msgpack.Decoder(_Kind).decode
_read_hidden_pairs = msgspec.msgpack.Decoder(tuple[tuple[str, str], ...]).decode
_read_pairs = msgspec.json.Decoder(tuple[tuple[str, str], ...]).decode


class NotAnnounced(ValueError):
    """Metadata that this worker can't read: of another release, written with another secret, or none at all."""


class Awaited(msgspec.Struct, frozen=True):
    """A response to come, as the worker that reads it needs it."""

    expected: Expected
    undoing: Effects
    """They take back what the request changed, where the server refuses it."""
    context: RequestContext
    """Of the request."""


def told(expected: Expected) -> dict[str, str]:
    """What the responses to all requests of one plan have in common, as metadata."""
    view, naming, server = expected.relay.view, expected.relay.naming, expected.server
    sight = expected.relay.sight
    by_rules = () if sight is None and not naming.endpoint else (naming.checksum, None if sight is None else sight.kind)
    kind = _Kind(
        view.key, view.version, view.flags, server, expected.session, expected.call.method,
        naming.path, naming.several, naming.uris.word(server), naming.uris.stays(server),
        *by_rules, *((naming.endpoint,) if naming.endpoint else ()),
    )  # fmt: skip
    # It names the session with the server, which is as good as a password.
    return {_KIND: expected.identifiers.hidden(_VERSION + _encode(kind))}


def told_besides(expected: Expected, undoing: Effects, context: RequestContext) -> dict[str, str]:
    """What is known of some responses alone, as metadata. :data:`READS_KEY` and :data:`ID_KEY` come to it."""
    found = {}
    if expected.call.progress_token is not None:
        found[_TOKEN] = expected.call.progress_token.decode()
    undone = [(effect.session.anchor, effect.uri) for effect in undoing if isinstance(effect, Unsubscribe)]
    if undone:
        found[_UNDO] = expected.identifiers.hidden(_VERSION + _encode(undone))
    if context.headers:
        found[TRACE_KEY] = text_of(context.headers)
    if context.principal:
        found[PRINCIPAL_KEY] = context.principal
    if carried := context.carried.get(expected.server):
        found[_CARRIED] = expected.identifiers.hidden(_VERSION + _encode(carried))
    return found


def text_of(trace: Headers) -> str:
    """The trace of a request, under :data:`TRACE_KEY`."""
    return msgspec.json.encode(trace).decode()


class Readers:
    """Makes of the metadata what reads a response.

    Args:
        endpoints: that are served.
        limits: of what is held.
        identifiers: seal ids.
        memory: of this worker.
    """

    def __init__(self, endpoints: Endpoints, limits: Limits, identifiers: Identifiers, memory: SessionMemory) -> None:
        self._endpoints = endpoints
        self._limits = limits
        self._identifiers = identifiers
        self._memory = memory
        self._kinds: Bounded[str, tuple[_Kind, Relay]] = Bounded(_MAX_KINDS, _MAX_KINDS_BYTES)

    def awaited(self, told: Mapping[str, str]) -> Awaited:
        """The response that this metadata is about.

        Raises:
            NotAnnounced: this worker can't read it.
        """
        try:
            return self._awaited(told)
        except NotSealed as error:
            raise NotAnnounced(f"what is told of it is {error}") from None
        except msgspec.DecodeError as error:
            raise NotAnnounced(f"what is told of it is of another layout: {error}") from None

    def _awaited(self, told: Mapping[str, str]) -> Awaited:
        if _KIND not in told or READS_KEY not in told:
            raise NotAnnounced("nothing is told of it")
        kind, relay = self._kind(told[_KIND])
        id, token = told.get(ID_KEY), told.get(_TOKEN)
        expected = Expected(
            relay,
            self._identifiers,
            kind.server,
            kind.session,
            Call(kind.method, None if token is None else token.encode(), None if id is None else id.encode()),
            told[READS_KEY] == READS_ALL,
            self._limits.response_bytes,
            self._limits.event_bytes,
            self._limits.json_members,
        )
        undoing = tuple(
            Unsubscribe(SessionRef(kind.server, anchor, None, kind.version, kind.flags), uri)
            for anchor, uri in self._undone(told)
        )
        trace = _read_pairs(told[TRACE_KEY]) if TRACE_KEY in told else ()
        carried = {kind.server: self._pairs(told[_CARRIED])} if _CARRIED in told else NOTHING_CARRIED
        return Awaited(expected, undoing, RequestContext(trace, told.get(PRINCIPAL_KEY, ""), expected.id, carried))

    def _undone(self, told: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        return self._pairs(told[_UNDO]) if _UNDO in told else ()

    def _pairs(self, text: str) -> tuple[tuple[str, str], ...]:
        return _read_hidden_pairs(self._shown(text))

    def _shown(self, text: str) -> bytes:
        blob = self._identifiers.shown(text)
        if blob[:1] != _VERSION:
            raise NotAnnounced("what is told of it is of another version")
        return blob[1:]

    def _kind(self, text: str) -> tuple[_Kind, Relay]:
        known = self._kinds.get(text)
        if known is None:
            kind = _read_kind(self._shown(text))
            view = ClientView(kind.key, kind.version, kind.flags)
            relay = Relay(view, self._naming(kind), self._identifiers, self._memory, self._sight(kind))
            known = kind, relay
            self._kinds.keep(text, known, 1024 + 4 * len(text))
        return known

    def _sight(self, kind: _Kind) -> Sight | None:
        """Which resources the caller may see, as far as is known here. Nothing where it was judged by other rules."""
        served = self._endpoints.named(kind.endpoint)
        if served is None:
            # A virtual server that is gone. Everything may be seen of the main endpoint, or it had told what the caller is.
            return None if kind.caller is None else sight_of_kind(NOTHING_ALLOWED, NOBODY)
        if served.rules is None:
            return None
        if kind.caller is None or kind.rules != served.catalog.checksum:
            return sight_of_kind(NOTHING_ALLOWED, NOBODY)
        return sight_of_kind(served.rules, kind.caller)

    def _naming(self, kind: _Kind) -> Naming:
        served = self._endpoints.named(kind.endpoint)
        if served is not None and kind.server in served.catalog.entries:
            return served.catalog
        uris = Uris({}, untouched=False) if served is None else served.catalog.uris
        former = uris.with_former(kind.server, kind.word, stays=kind.stays)
        return _FormerNaming(kind.endpoint, kind.path, kind.several, former)
