"""What the gateway found out about a request: facts for the dynamic metadata ``mcp_proxy``, notes for the log.

Facts are a frozen value. Each stage of a decision returns a new one, and :meth:`RequestFacts.metadata` is the one place that
knows how they are spelled (docs/protocol.md, "Metadata").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mcp_extproc.gateway.principal import ANONYMOUS, Principal
from mcp_extproc.mcp import jsontext

Metadata = Mapping[str, Any]
"""Strings, numbers, and one level of nesting: what Envoy's dynamic metadata holds."""

MAX_EXACT_DIGITS: Final = 16
"""Fewer digits than this are a number that every reader of JSON holds exactly (RFC 8259 section 6)."""

NATIVE: Final[Metadata] = {"jsonrpc": "2.0", "is_mcp_request": True, "status": "mcp_ok"}
"""What Envoy's own MCP filter writes about every message that is valid."""


class RequestFacts(msgspec.Struct, frozen=True):
    """What is known of one request. What is not known is ``None``, and is not written."""

    id: bytes | None = None
    """JSON text of the JSON-RPC id."""
    method: str | None = None
    """JSON-RPC method."""
    params: Metadata | None = None
    """Members of the message's ``params`` that are written, each cut to a bounded length."""
    session: str | None = None
    """Short name of the client's session."""
    protocol_version: str | None = None
    client: str | None = None
    """``name/version``, as the client reported it."""
    session_error: str | None = None
    """Why the session is not served; for the log only, never for clients."""
    principal: str | None = None
    """Who the caller is, as Envoy proved it, cut to a bounded length; ``None`` for anonymous ones."""
    issuer: str | None = None
    """Who vouches for it."""
    endpoint: str | None = None
    """The virtual server that the request came in at; ``None`` for the main endpoint."""
    server: str | None = None
    """The server that the request goes to."""
    named: tuple[str, str] | None = None
    """``tool`` or ``prompt``, and its name as the server knows it."""
    batch: int | None = None
    """Messages in the batch."""
    resumes: str | None = None
    """Method of the request whose stream is resumed."""
    consent: str | None = None
    """What became of the question whether the user consents to the call."""
    repair: bool = False
    """Whether Envoy sent the request again, because the server had lost its session."""
    unavailable: tuple[str, ...] = ()
    """Servers that are missing from the answer."""
    error: tuple[int, str] | None = None
    """JSON-RPC error code and reason of a refusal."""
    rule: str | None = None
    """The rule that decided about what is named. Like the next two, for records of the request, and not for policies."""
    passed_on: str | None = None
    """When it passes Envoy once more, and has another record then (:data:`mcp_extproc.contract.PASSED_ON_KEY`)."""
    session_seconds: float | None = None
    """Age of the session that the request ends."""
    native: bool = False
    """Whether the message was read as Envoy's own MCP filter reads it, and its facts are written too."""

    def but(self, **changes: Any) -> RequestFacts:
        """The same facts, some of them changed."""
        return msgspec.structs.replace(self, **changes)

    @property
    def are_ordinary(self) -> bool:
        """Whether they are those of a tool's call, :data:`ORDINARY`, and no other of which the access log has a field, but for
        who calls and where. (The id is that of each request.)"""
        params, named = self.params or {}, self.named or ("", "")
        known = (self.method, self.session, self.protocol_version, self.client, self.server, params.get("name"))
        others = (params.get("uri"), self.batch, self.consent, self.error, self.unavailable or None)
        return named[0] == "tool" and None not in known and others == (None,) * len(others)

    def metadata(self) -> dict[str, Any]:
        """The facts as ``mcp_proxy`` holds them."""
        found: dict[str, Any] = dict(NATIVE) if self.native else {}
        if self.id is not None:
            found |= id_metadata(self.id)
        for name in _PLAIN:
            value = getattr(self, name)
            if value is not None:
                found[name] = value
        if self.named is not None:
            kind, own = self.named
            found[kind] = own
        if self.repair:
            found["repair"] = "session"
        if self.unavailable:
            found["unavailable"] = ",".join(self.unavailable)
        if self.error is not None:
            found["error_code"], found["error_reason"] = self.error
        return found


ORDINARY: Final = ("method", "id_json", "session", "protocol_version", "client", "server", "tool", "params:name")
"""Facts that nearly all calls have that go to a server, as paths in the metadata."""

_PLAIN: Final = (
    "method", "params", "session", "protocol_version", "client", "session_error", "principal", "issuer",
    "endpoint", "server", "batch", "resumes", "consent",
)  # fmt: skip
"""Facts that are written under their own name."""

NOTHING: Final = RequestFacts()


def of_caller(principal: Principal, endpoint: str | None = None) -> RequestFacts:
    """What is known of a request by who sent it, and where it came in."""
    if principal == ANONYMOUS:
        return RequestFacts(endpoint=endpoint) if endpoint else NOTHING
    return RequestFacts(principal=principal.shown, issuer=principal.issuer or None, endpoint=endpoint or None)


def id_metadata(id: bytes) -> dict[str, Any]:
    """A request's id in the metadata: its JSON text, and its value, as a number only where that is exact."""
    value = int(id) if id[:1] != b'"' and len(id) < MAX_EXACT_DIGITS else jsontext.text_of(id)
    return {"id_json": id.decode(), "id": id.decode() if value is None else value}


@dataclass(frozen=True, slots=True)
class Note:
    """Something the operator should find in the log."""

    event: str
    fields: Mapping[str, object]
