"""An HTTP request as decisions see it, and what of it travels to every request that is made for its sake."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Final

import msgspec

from mcp_extproc.gateway.principal import ANONYMOUS, Principal
from mcp_extproc.mcp.trace_context import TRACEPARENT, TRACESTATE, SpanContext

Headers = tuple[tuple[str, str], ...]

Carried = Mapping[str, Headers]
"""By server: headers with what it gets of one caller. They hold credentials: never log them."""

NOTHING_CARRIED: Final[Carried] = MappingProxyType({})

_TRACE: Final = {
    TRACEPARENT: re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{1,64})?"),
    TRACESTATE: re.compile(r"[ -~]{1,512}"),
}
"""Headers that travel on, and what they look like: W3C Trace Context, sections 3.2 and 3.3. Baggage goes with
calls alone: it may hold what concerns one server only."""

_ALIKE: Final = ("accept", "mcp-protocol-version")
"""Headers that clients and the gateway mostly write alike."""


class Found:
    """What was found out about a head, for all requests that have the same."""

    __slots__ = ("caller",)

    def __init__(self) -> None:
        self.caller: object = None
        """Who sent it: a client's requests have the same head nearly always, which is read once then."""


@dataclass(frozen=True)
class RequestHead:
    """An HTTP request without its body."""

    method: str
    path: str
    """``:path``, query included."""
    headers: Mapping[str, str]
    """By lower-case name, without pseudo headers but with ``host``; repeated ones joined by a comma."""
    principal: Principal = ANONYMOUS
    """Who sent it, as Envoy proved it."""
    repeated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The single values of the headers that are there more than once. Envoy's policies match each by itself."""
    is_judged: bool = False
    """Whether policies have judged it, by what the headers of ours say of it (:mod:`mcp_extproc.gateway.policy.preview`)."""
    endpoint: str | None = ""
    """Name of the endpoint that Envoy took it for; ``None`` where its route is none of an endpoint."""
    awaits_policies: bool = False
    """Whether policies judge it once it is decided: until then it stays the client's, but for its body."""
    scheme: str = "http"
    """That the client used, as far as Envoy knows."""
    hidden: tuple[str, ...] = ()
    """Names of headers that Envoy has written for the worker. They are among :attr:`names`, so that no server gets them."""
    span: SpanContext | None = None
    """Its own, where that is kept: what :attr:`trace` says then, too."""
    found: Found = field(default_factory=Found, init=False, repr=False, compare=False)
    """What was found out about it before."""

    def within(self, span: SpanContext) -> RequestHead:
        """The same with a span of its own: what is known of it by its headers stays known, of both."""
        # As `dataclasses.replace`, which forgets that.
        new = object.__new__(RequestHead)
        _ = self.form  # kept here, for the next request with this head, and not only by the one that is made
        vars(new).update(vars(self), span=span, trace=span.headers)
        return new

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the headers."""
        return (*self.headers, *self.hidden)

    @cached_property
    def form(self) -> tuple[str | None, ...]:
        """By what two requests differ in what has to be done about their headers: path, accepted types and protocol version,
        as far as these are given once, and the names of all."""
        return (self.path, *map(self._only, _ALIKE), *self.names)

    @cached_property
    def trace(self) -> Headers:
        """Those of the headers that travel on with every request that is made for its sake."""
        return tuple(
            (name, value)
            for name, shape in _TRACE.items()
            if (value := self.headers.get(name)) is not None and shape.fullmatch(value)
        )

    def says(self, name: str, value: str) -> bool:
        """Whether a header need not be set, as the client has sent the same. Known of what :attr:`form` has."""
        return self.path == value if name == ":path" else name in _ALIKE and self._only(name) == value

    def _only(self, name: str) -> str | None:
        return None if name in self.repeated else self.headers.get(name)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose token may be exchanged for one of a server's."""

    key: str
    """What was got for it is kept under this hash, and for nobody else."""
    token: str = field(repr=False)
    """The verified token of the request."""


class RequestContext(msgspec.Struct, frozen=True):
    """For whom and for which request a sub-request is made."""

    headers: Headers = ()
    """Of the client's request, for every sub-request: its trace."""
    principal: str = ""
    """:attr:`mcp_extproc.gateway.principal.Principal.key` of who sent it."""
    request_id: bytes | None = None
    """JSON text of the JSON-RPC id; ``None`` where there is none."""
    carried: Carried = NOTHING_CARRIED
    """What servers get of the caller."""
    subject: Subject | None = None
    """Whose token servers get another one for; ``None`` where no server does, or there is none."""
    span: SpanContext | None = None
    """Of the request, where that is kept."""

    def __repr__(self) -> str:
        # The rest holds credentials.
        return f"RequestContext({self.principal!r}, {self.request_id!r})"

    def below(self, span: SpanContext) -> RequestContext:
        """The same for what is done below a span."""
        headers = tuple((name, span.traceparent if name == TRACEPARENT else value) for name, value in self.headers)
        return msgspec.structs.replace(self, headers=headers, span=span)


NO_CONTEXT: Final = RequestContext()
"""For work that belongs to no request."""


def context_of(
    head: RequestHead,
    request_id: bytes | None = None,
    carried: Carried = NOTHING_CARRIED,
    subject: Subject | None = None,
) -> RequestContext:
    """The context of what is done for a request."""
    return RequestContext(head.trace, head.principal.key, request_id, carried, subject, head.span)
