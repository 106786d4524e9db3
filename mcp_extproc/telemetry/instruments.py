"""Every metric that there is: docs/observability.md has the same table, and a test holds one against the other.

Names, units, buckets and labels of those that begin with ``mcp.server`` and ``mcp.client`` are the OpenTelemetry conventions'
for MCP (open-telemetry/semantic-conventions-genai, docs/gen-ai/mcp.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from mcp_extproc.telemetry import attributes as names

BUCKETS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds, in seconds."""


class Kind(Enum):
    """How values of a metric add up."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, eq=False)
class Instrument:
    """One metric.

    Attributes:
        unit: in UCUM.
        labels: that its series may have; those without a value are absent.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str


_OPERATION: Final = (
    names.METHOD, names.OPERATION, names.TOOL, names.PROMPT, names.UPSTREAM, names.ERROR_TYPE, names.STATUS_CODE,
    names.VERSION, names.PROTOCOL, names.PROTOCOL_VERSION, names.TRANSPORT,
)  # fmt: skip

SERVER_DURATION: Final = Instrument(
    "mcp.server.operation.duration", Kind.HISTOGRAM, "s", _OPERATION,
    "From the request to the last byte of its answer, as clients wait for it",
)  # fmt: skip
CLIENT_DURATION: Final = Instrument(
    "mcp.client.operation.duration", Kind.HISTOGRAM, "s", (*_OPERATION, *names.SERVER),
    "The part of it that a server took",
)  # fmt: skip
SESSION_DURATION: Final = Instrument(
    "mcp.server.session.duration", Kind.HISTOGRAM, "s",
    (names.ERROR_TYPE, names.VERSION, names.PROTOCOL, names.PROTOCOL_VERSION, names.TRANSPORT),
    "From the start of a session until the client ends it",
)  # fmt: skip
REQUESTS: Final = Instrument(
    "mcp.gateway.requests", Kind.COUNTER, "{request}", (names.METHOD, names.TOOL, names.UPSTREAM, names.ENDPOINT),
    "Requests and notifications",
)  # fmt: skip
ERRORS: Final = Instrument(
    "mcp.gateway.errors", Kind.COUNTER, "{request}",
    (names.METHOD, names.TOOL, names.UPSTREAM, names.ENDPOINT, names.ERROR_TYPE),
    "Requests that were answered with an error",
)  # fmt: skip
DENIALS: Final = Instrument(
    "mcp.gateway.denials", Kind.COUNTER, "{request}", (names.RULE, names.METHOD, names.UPSTREAM, names.ENDPOINT),
    "Requests that were denied, by the rule or filter that did it; `rate_limit` among them",
)  # fmt: skip
SESSIONS_OPENED: Final = Instrument(
    "mcp.gateway.sessions.opened", Kind.COUNTER, "{session}", (names.ENDPOINT, names.VERSION), "Sessions that were opened"
)  # fmt: skip
SESSIONS_SEEN: Final = Instrument(
    "mcp.gateway.sessions.seen_in_5m", Kind.GAUGE, "{session}", (), "Sessions with a request in the last five minutes"
)
AUDIT_WRITTEN: Final = Instrument(
    "mcp.gateway.audit.written", Kind.COUNTER, "{line}", (), "Lines of the audit that are in its file"
)
AUDIT_LOST: Final = Instrument(
    "mcp.gateway.audit.lost", Kind.COUNTER, "{line}", (), "Lines of the audit that could not be written"
)
RECORDS: Final = Instrument("mcp.gateway.records", Kind.COUNTER, "{record}", (), "Records that came from Envoy")
RECORDS_LOST: Final = Instrument(
    "mcp.gateway.records.lost", Kind.COUNTER, "{record}", (), "Records that Envoy made and that never came"
)
SPANS_LOST: Final = Instrument(
    "mcp.gateway.spans.lost", Kind.COUNTER, "{span}", (), "Spans that could not be sent, or found no room"
)

ALL: Final = (
    SERVER_DURATION, CLIENT_DURATION, SESSION_DURATION, REQUESTS, ERRORS, DENIALS, SESSIONS_OPENED, SESSIONS_SEEN,
    AUDIT_WRITTEN, AUDIT_LOST, RECORDS, RECORDS_LOST, SPANS_LOST,
)  # fmt: skip
