"""The spans of an exchange, by the OpenTelemetry conventions for MCP.

One SERVER span towards the client for each request and notification, one CLIENT span for what was asked of a server. Envoy's
own tracer takes no parent from ``_meta`` and knows no error at HTTP 200, so they are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from functools import lru_cache

import msgspec

from mcp_extproc.mcp.trace_context import Origin, RequestSpans, SpanContext, begin
from mcp_extproc.telemetry import attributes as names
from mcp_extproc.telemetry.attributes import Attributes, known_method, of_operation
from mcp_extproc.telemetry.exchange import Exchange, Peer

Pairs = tuple[tuple[str, str | int], ...]
"""Names and values of attributes."""

NewId = Callable[[int], str]
"""A random id of so many bytes, in hexadecimal digits."""


class Kind(Enum):
    """Whose side a span shows."""

    SERVER = "towards the client"
    CLIENT = "towards the server"


class Shared(msgspec.Struct, frozen=True, cache_hash=True):
    """What the spans of a kind have in common."""

    name: str
    kind: Kind
    attributes: Pairs


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A span that is over.

    Attributes:
        shared: with others.
        context: its ids.
        parent: id of its parent, of the same trace.
        parent_is_remote: whether somebody else has that.
        start, end: nanoseconds since the epoch.
        who: attributes that say for whom, and from where: all requests of a connection have the same.
        of_request: those of this request alone.
    """

    shared: Shared
    context: SpanContext
    parent: str | None
    parent_is_remote: bool
    link: SpanContext | None
    start: int
    end: int
    who: Pairs = ()
    of_request: Pairs = ()

    @property
    def name(self) -> str:
        """See :class:`Shared`."""
        return self.shared.name

    @property
    def kind(self) -> Kind:
        """See :class:`Shared`."""
        return self.shared.kind

    @property
    def attributes(self) -> Attributes:
        """All of them."""
        return dict((*self.shared.attributes, *self.who, *self.of_request))

    @property
    def failed(self) -> bool:
        """By the conventions, wherever there is an ``error.type``."""
        return names.ERROR_TYPE in self.attributes


class Tracing(msgspec.Struct, frozen=True):
    """How requests are sampled that no worker saw.

    Attributes:
        ratio: part of the traces that is kept.
        parent_based: whether the caller's decision counts.
    """

    ratio: float
    parent_based: bool


class Shapes(msgspec.Struct, frozen=True):
    """What the spans of exchanges of a kind have in common; ``None`` where they have no such span."""

    server: Shared | None
    client: Shared | None


def shapes_of(exchange: Exchange) -> Shapes:
    """Those of an exchange, and of all others of its kind."""
    if not exchange.is_request:
        return Shapes(None, None)
    name, attributes = name_of(exchange), of_operation(exchange)
    at_server = attributes | of_peer(names.SERVER, exchange.upstream_peer)
    at_server.pop(names.PROTOCOL_VERSION, None)  # how Envoy speaks to a server is not in the record
    if exchange.method is None:
        attributes |= {names.HTTP_METHOD: exchange.http_method, names.HTTP_STATUS: exchange.status}
    was_asked = exchange.upstream is not None and exchange.server is not None
    return Shapes(
        Shared(name, Kind.SERVER, tuple(attributes.items())),
        Shared(name, Kind.CLIENT, tuple(at_server.items())) if was_asked else None,
    )


def spans_of(exchange: Exchange, tracing: Tracing, new_id: NewId, shapes: Shapes | None = None) -> Iterator[Span]:
    """The spans of one exchange; none of one that is not sampled.

    Args:
        exchange: that is over.
        tracing: how it is sampled if no worker saw it.
        new_id: of spans.
        shapes: of its kind, if they are known.
    """
    shapes = shapes or shapes_of(exchange)
    if shapes.server is None or exchange.is_left_out:
        return
    ids = exchange.spans or _begun(exchange, tracing, new_id)
    if not ids.own.sampled:
        return
    of_request = _of_request(exchange)
    yield _server_span(exchange, ids, shapes.server, of_request)
    if shapes.client is not None and exchange.upstream is not None:
        start, end = (exchange.started + time for time in exchange.upstream)
        id, asks = ids.onward or new_id(8), who(exchange.session, None)
        yield client_span(shapes.client, ids.own, id, start, end, asks, of_request)


def _begun(exchange: Exchange, tracing: Tracing, new_id: NewId) -> RequestSpans:
    """The spans of a request that was refused before a worker saw it, so that nobody has read its ``_meta``."""
    parent = exchange.header
    own = begin(Origin(parent), new_id(16), new_id(8), tracing.ratio, parent_based=tracing.parent_based)
    return RequestSpans(own, "" if parent is None else parent.span)


def _server_span(exchange: Exchange, ids: RequestSpans, shared: Shared, of_request: Pairs) -> Span:
    return Span(
        shared=shared,
        context=ids.own,
        parent=ids.parent or None,
        parent_is_remote=True,
        link=ids.link,
        start=exchange.started,
        end=exchange.started + exchange.duration,
        who=who(exchange.session, exchange.client),
        of_request=of_request,
    )


def client_span(
    shared: Shared, parent: SpanContext, id: str, start: int, end: int, who: Pairs = (), of_request: Pairs = ()
) -> Span:
    """A span of what was asked of a server, or of somebody else, for the sake of a request.

    Args:
        shared: with others.
        parent: the request's own span.
        id: of this one.
        start, end: nanoseconds since the epoch.
        who, of_request: further attributes.
    """
    return Span(
        shared=shared,
        context=parent.child(id),
        parent=parent.span,
        parent_is_remote=False,
        link=None,
        start=start,
        end=end,
        who=who,
        of_request=of_request,
    )


def name_of(exchange: Exchange) -> str:
    """``{mcp.method.name} {gen_ai.tool.name or gen_ai.prompt.name}``; the HTTP method where nobody read the message. Never a
    URI, nor a method that a client made up."""
    if exchange.method is None:
        return exchange.http_method
    target = exchange.tool or exchange.prompt
    method = known_method(exchange.method)
    return f"{method} {target}" if target else method


def _of_request(exchange: Exchange) -> Pairs:
    id = () if exchange.id is None else ((names.REQUEST_ID, exchange.id),)
    return id if exchange.uri is None else (*id, (names.URI, exchange.uri))


@lru_cache(maxsize=4096)
def who(session: str | None, client: Peer | None) -> Pairs:
    """Attributes that say for whom a span is, and from where."""
    found = {} if session is None else {names.SESSION: session}
    return tuple((found | of_peer(names.CLIENT, client)).items())


def of_peer(keys: tuple[str, str], peer: Peer | None) -> Attributes:
    """Where somebody is, under the names for its side."""
    if peer is None:
        return {}
    address, port = keys
    if peer.port is None:
        return {address: peer.address, names.TRANSPORT: "unix"}
    return {address: peer.address, port: peer.port, names.TRANSPORT: "tcp"}
