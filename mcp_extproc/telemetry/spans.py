"""The spans of an exchange, by the OpenTelemetry conventions for MCP.

One SERVER span towards the client for each request and notification, one CLIENT span for what was asked of a server. Envoy's
own tracer takes no parent from ``_meta`` and knows no error at HTTP 200, so they are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum

import msgspec

from mcp_extproc.mcp.trace_context import Origin, RequestSpans, SpanContext, begin
from mcp_extproc.telemetry import attributes as names
from mcp_extproc.telemetry.attributes import Attributes, known_method, of_operation
from mcp_extproc.telemetry.exchange import Exchange, Peer

NewId = Callable[[int], str]
"""A random id of so many bytes, in hexadecimal digits."""


class Kind(Enum):
    """Whose side a span shows."""

    SERVER = "towards the client"
    CLIENT = "towards the server"


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A span that is over.

    Attributes:
        context: its ids.
        parent: id of its parent, of the same trace.
        parent_is_remote: whether somebody else has that.
        start, end: nanoseconds since the epoch.
    """

    name: str
    kind: Kind
    context: SpanContext
    parent: str | None
    parent_is_remote: bool
    link: SpanContext | None
    start: int
    end: int
    attributes: Attributes

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


def spans_of(exchange: Exchange, tracing: Tracing, new_id: NewId) -> Iterator[Span]:
    """The spans of one exchange; none of one that is not sampled."""
    if not exchange.is_request or exchange.is_left_out:
        return
    ids = exchange.spans or _begun(exchange, tracing, new_id)
    if not ids.own.sampled:
        return
    yield _server_span(exchange, ids)
    if exchange.upstream is not None and exchange.server is not None:
        yield _client_span(exchange, exchange.upstream, ids, ids.onward or new_id(8))


def _begun(exchange: Exchange, tracing: Tracing, new_id: NewId) -> RequestSpans:
    """The spans of a request that was refused before a worker saw it, so that nobody has read its ``_meta``."""
    parent = exchange.header
    own = begin(Origin(parent), new_id(16), new_id(8), tracing.ratio, parent_based=tracing.parent_based)
    return RequestSpans(own, "" if parent is None else parent.span)


def _server_span(exchange: Exchange, ids: RequestSpans) -> Span:
    attributes = of_operation(exchange)
    if exchange.method is None:
        attributes |= {names.HTTP_METHOD: exchange.http_method, names.HTTP_STATUS: exchange.status}
    attributes |= _of_request(exchange) | of_peer(names.CLIENT, exchange.client)
    return Span(
        name=name_of(exchange),
        kind=Kind.SERVER,
        context=ids.own,
        parent=ids.parent or None,
        parent_is_remote=True,
        link=ids.link,
        start=exchange.started,
        end=exchange.started + exchange.duration,
        attributes=attributes,
    )


def _client_span(exchange: Exchange, times: tuple[int, int], ids: RequestSpans, span: str) -> Span:
    attributes = of_operation(exchange) | _of_request(exchange) | of_peer(names.SERVER, exchange.upstream_peer)
    # How Envoy speaks to a server is not in the record.
    attributes.pop(names.PROTOCOL_VERSION, None)
    begin_at, end_at = times
    return Span(
        name=name_of(exchange),
        kind=Kind.CLIENT,
        context=ids.own.child(span),
        parent=ids.own.span,
        parent_is_remote=False,
        link=None,
        start=exchange.started + begin_at,
        end=exchange.started + end_at,
        attributes=attributes,
    )


def name_of(exchange: Exchange) -> str:
    """``{mcp.method.name} {gen_ai.tool.name or gen_ai.prompt.name}``; the HTTP method where nobody read the message. Never a
    URI, nor a method that a client made up."""
    if exchange.method is None:
        return exchange.http_method
    target = exchange.tool or exchange.prompt
    method = known_method(exchange.method)
    return f"{method} {target}" if target else method


def _of_request(exchange: Exchange) -> Attributes:
    texts = ((names.REQUEST_ID, exchange.id), (names.SESSION, exchange.session), (names.URI, exchange.uri))
    return {name: text for name, text in texts if text is not None}


def of_peer(keys: tuple[str, str], peer: Peer | None) -> Attributes:
    """Where somebody is, under the names for its side."""
    if peer is None:
        return {}
    address, port = keys
    if peer.port is None:
        return {address: peer.address, names.TRANSPORT: "unix"}
    return {address: peer.address, port: peer.port, names.TRANSPORT: "tcp"}
