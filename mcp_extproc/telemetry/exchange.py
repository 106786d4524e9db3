"""One request and what became of it, once it is over: what spans, metrics and the audit are made of."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from mcp_extproc.contract import RESPONSE_METHOD, SERVER_ERROR, SERVER_FAILED, TOOL_ERROR
from mcp_extproc.mcp.errors import INTERNAL_ERROR, INVALID_REQUEST
from mcp_extproc.mcp.trace_context import RequestSpans, SpanContext

CODES: Final = {
    "authentication_denied": INVALID_REQUEST,
    "authentication_required": INVALID_REQUEST,
    "authentication_unavailable": INVALID_REQUEST,
    "credentials_unavailable": INTERNAL_ERROR,
    "denied": INVALID_REQUEST,
    "envoy": INTERNAL_ERROR,
    "invalid_api_key": INVALID_REQUEST,
    "invalid_token": INVALID_REQUEST,
    "keys_unavailable": INVALID_REQUEST,
    "no_worker": INTERNAL_ERROR,
    "overloaded": INTERNAL_ERROR,
    "path": INVALID_REQUEST,
    "rate_limited": INTERNAL_ERROR,
    "refused": INTERNAL_ERROR,
    SERVER_FAILED: INTERNAL_ERROR,
    "too_large": INVALID_REQUEST,
    "too_slow": INVALID_REQUEST,
    "unauthorized": INVALID_REQUEST,
}
"""JSON-RPC codes of the errors that Envoy answers with, by the word that they are marked with."""


def reason_of(reason: str | None, word: str | None, *, was_sent: bool) -> str | None:
    """What an error is.

    Args:
        reason: as a worker found.
        word: in the header of the answer. A server may send one of that name, too: words that Envoy does not know are none.
        was_sent: whether the request went to a server. Otherwise Envoy's own answer was read as a server's would be.
    """
    if word not in CODES:
        word = None
    return word or reason if reason == SERVER_ERROR and not was_sent else reason or word


_DENIALS: Final = frozenset({
    "authentication_denied", "authentication_required", "denied", "host", "insufficient_scope", "invalid_api_key",
    "invalid_token", "not_authorized", "origin", "rate_limited", "refused", "too_many_streams", "unauthorized",
})  # fmt: skip
"""Words of errors by which somebody was refused what others may have."""

_CONSENT: Final = "consent_"
_FAILED_CONSENTS: Final = frozenset({"consent_busy", "consent_failed", "consent_unavailable"})
"""Nobody was asked, or no answer came."""

_BY_SERVER: Final = frozenset({SERVER_ERROR, TOOL_ERROR})

_UNKNOWN: Final = frozenset({"unknown_tool", "unknown_prompt", "unknown_resource"})
"""What is not there, or hidden by a rule."""


MAX_DETAILS: Final = 256
"""Characters of Envoy's details in a record, which may quote what a server wrote."""


def times_at_server(begin: int, end: int | None, duration: int) -> tuple[int, int]:
    """When a request was with a server, from its start.

    Args:
        begin: when it was sent there.
        end: when its answer was there; ``None`` where the server never answered, or not to the end: that took until the end
            of all.
        duration: of all.
    """
    return begin, max(begin, duration if end is None else end)


class Verdict(StrEnum):
    """What the gateway decided."""

    ALLOW = "allow"
    DENY = "deny"
    ERROR = "error"


class Peer(NamedTuple):
    """Somebody's address; of a Unix socket its path, without a port."""

    address: str
    port: int | None = None


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its answer. What is not known is ``None``; texts are as long as Envoy's record has them.

    Attributes:
        started: nanoseconds since the epoch.
        duration: nanoseconds until the last byte of the answer was sent, or the client was gone.
        upstream: when the request was first sent to a server, and when the last byte of its answer came: nanoseconds from the
            start.
        attempts: how often it was sent there.
        http_method: of the request.
        http_version: such as ``2``.
        status: of the answer; 0 if there was none.
        request_bytes, response_bytes: sizes of the bodies.
        request_id: ``X-Request-Id``.
        client: who sent it.
        upstream_peer: who answered it.
        method: the JSON-RPC method.
        id: the JSON-RPC id as plain text.
        session: short name of the session, a hash.
        protocol_version: of the session.
        principal: who the caller is.
        issuer: who vouches for it.
        endpoint: the virtual server.
        server: the server of a call.
        tool, prompt: the name there.
        listed: whether the server lists that name. Others may be made up.
        asked_for: the name that the client asked for, as it wrote it.
        uri: of the resource, as the client sent it.
        batch: messages in the batch.
        consent: what became of the question whether the user consents.
        code: JSON-RPC code of an error.
        reason: what the error is, in a word.
        details: Envoy's word for why the answer is what it is.
        decided_by: the rule that the gateway decided by.
        arguments: what the audit has of the arguments.
        has_another: whether the same request has another record, of the time it passed Envoy once more.
        session_seconds: age of the session that ended with this request.
        spans: ids of its spans, where a worker chose them.
        is_left_out: whether a worker decided that they are not kept.
        header: the trace context of the request's headers, where no worker chose ids.
        kind: those with the same have all the same but numbers, who asks and from where, ids, and texts of the request alone;
            ``None`` where that is not known.
    """

    started: int
    duration: int
    upstream: tuple[int, int] | None = None
    attempts: int = 0
    http_method: str = "POST"
    http_version: str | None = None
    status: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    request_id: str | None = None
    client: Peer | None = None
    upstream_peer: Peer | None = None
    method: str | None = None
    id: str | None = None
    session: str | None = None
    protocol_version: str | None = None
    principal: str | None = None
    issuer: str | None = None
    endpoint: str | None = None
    server: str | None = None
    tool: str | None = None
    prompt: str | None = None
    listed: bool = False
    asked_for: str | None = None
    uri: str | None = None
    batch: int | None = None
    consent: str | None = None
    code: int | None = None
    reason: str | None = None
    details: str | None = None
    decided_by: str | None = None
    arguments: str | None = None
    has_another: bool = False
    session_seconds: float | None = None
    spans: RequestSpans | None = None
    is_left_out: bool = False
    header: SpanContext | None = None
    kind: int | None = None

    @property
    def is_request(self) -> bool:
        """Whether it brought a request or a notification of MCP, or something that was refused as one. Streams (GET) and ends
        of sessions (DELETE) are none; nor are clients' responses, which have no method, or to policies
        :data:`RESPONSE_METHOD`, unless they are refused, as a request that calls itself so is; nor is a batch, whose messages
        have records of their own, nor what has another record."""
        if self.has_another or self.http_method != "POST" or (self.batch is not None and self.reason is None):
            return False
        if self.method is None:
            return self.reason is not None or not 200 <= self.status < 300
        return self.method != RESPONSE_METHOD or self.reason is not None

    @property
    def error_code(self) -> int | None:
        """JSON-RPC code of an error, of Envoy's own too."""
        return CODES.get(self.reason or "") if self.code is None else self.code

    @property
    def error_type(self) -> str | None:
        """What went wrong, by the conventions: ``tool_error``, the JSON-RPC code, or else the reason, or the HTTP status."""
        if self.reason == TOOL_ERROR:
            return TOOL_ERROR
        if (code := self.error_code) is not None:
            return str(code)
        return self.reason or (str(self.status) if self.status >= 400 else None)

    @property
    def verdict(self) -> Verdict:
        """What was decided. What a server made of a call that it got is its own matter."""
        reason = self.reason
        if reason is None:
            return Verdict.ERROR if self.status >= 400 or (self.status == 0 and not self.upstream) else Verdict.ALLOW
        if reason in _BY_SERVER:
            return Verdict.ALLOW
        if reason in _DENIALS or (reason.startswith(_CONSENT) and reason not in _FAILED_CONSENTS):
            return Verdict.DENY
        return Verdict.DENY if reason in _UNKNOWN and self.decided_by is not None else Verdict.ERROR

    @property
    def rule(self) -> str | None:
        """What decided: the rule's name, or the filter that refused it."""
        if self.verdict is not Verdict.DENY:
            return self.decided_by
        if self.reason is not None and self.reason.startswith(_CONSENT):
            return "vetting"
        return _filter_of(self.details or "") or self.decided_by or self.reason


OWN_POLICIES: Final = frozenset({"mcp_algorithm", "mcp_no_principal", "mcp_nobody"})
"""Of RBAC filters that the gateway renders: the word of the error says more, and no operator has written these names."""

_POLICY_START: Final = "rbac_access_denied_matched_policy["
_FILTERS: Final = (
    ("jwt_authn_", "jwt_authn"),
    ("ext_authz_", "ext_authz"),
    ("local_rate_limited", "rate_limit"),
    ("request_rate_limited", "rate_limit"),
)


def _filter_of(details: str) -> str | None:
    """The operator's filter that refused a request, and the policy's name in it."""
    if details.startswith(_POLICY_START):
        policy = details.removeprefix(_POLICY_START).rstrip("]")
        return None if policy in OWN_POLICIES else f"rbac:{policy}"
    return next((name for start, name in _FILTERS if details.startswith(start)), None)
