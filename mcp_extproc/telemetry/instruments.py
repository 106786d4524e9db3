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
    "From the start of a session until the client ends it, or until it expires",
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
    "mcp.gateway.sessions.seen_in_5m", Kind.GAUGE, "{session}", (),
    "Sessions with a request in the last five minutes, also those that have ended since",
)  # fmt: skip
AUDIT_WRITTEN: Final = Instrument(
    "mcp.gateway.audit.written", Kind.COUNTER, "{line}", (), "Lines of the audit that are in its file"
)
AUDIT_LOST: Final = Instrument(
    "mcp.gateway.audit.lost", Kind.COUNTER, "{line}", (), "Lines of the audit that could not be written or sent"
)
RECORDS: Final = Instrument("mcp.gateway.records", Kind.COUNTER, "{record}", (), "Records that came from Envoy")
RECORDS_LOST: Final = Instrument(
    "mcp.gateway.records.lost", Kind.COUNTER, "{record}", (), "Records that Envoy made and that never came"
)
SPANS_LOST: Final = Instrument(
    "mcp.gateway.spans.lost", Kind.COUNTER, "{span}", (), "Spans that could not be sent, or found no room"
)

LEGS: Final = Instrument(
    "mcp.gateway.legs", Kind.COUNTER, "{leg}", (names.UPSTREAM, names.LEG, names.ERROR_TYPE),
    "Servers that were asked for the sake of a request that is for several",
)  # fmt: skip
REPAIRS: Final = Instrument(
    "mcp.gateway.repairs", Kind.COUNTER, "{session}", (names.UPSTREAM, names.ERROR_TYPE),
    "Sessions that a server had lost and that were opened again, or could not be",
)  # fmt: skip
CACHE_LOOKUPS: Final = Instrument(
    "mcp.gateway.cache.lookups", Kind.COUNTER, "{lookup}", (names.CACHE, names.RESULT),
    "What was looked for in a worker's cache: `merged_lists`, `exchanged_tokens`; `hit` or `miss`",
)  # fmt: skip
TOKEN_EXCHANGE_DURATION: Final = Instrument(
    "mcp.gateway.token_exchange.duration", Kind.HISTOGRAM, "s", (names.UPSTREAM, names.ERROR_TYPE),
    "Exchanges of a caller's token for one of a server's",
)  # fmt: skip
SESSIONS_EXPIRED: Final = Instrument(
    "mcp.gateway.sessions.expired", Kind.COUNTER, "{session}", (),
    "Sessions that no client ended, noticed five minutes after they had expired, or when they were used again",
)  # fmt: skip
STREAMS: Final = Instrument("mcp.gateway.streams", Kind.GAUGE, "{stream}", (), "Streams (GET) that clients have open")
WORKERS: Final = Instrument(
    "mcp.gateway.workers", Kind.GAUGE, "{process}", (), "Workers that have reported in the last ten seconds"
)
LOOP_LAG: Final = Instrument(
    "mcp.gateway.event_loop.lag", Kind.HISTOGRAM, "s", (), "How late a timer of a worker's was, once a second"
)
MEMORY: Final = Instrument(
    "mcp.gateway.memory",
    Kind.GAUGE,
    "By",
    (names.PROCESS, names.PID),
    "Resident memory of a `worker`, or of the `collector`",
)
WORKER_RESTARTS: Final = Instrument(
    "mcp.gateway.worker.restarts", Kind.COUNTER, "{restart}", (), "Workers that died and were started again"
)
COLLECTOR_RESTARTS: Final = Instrument(
    "mcp.gateway.collector.restarts",
    Kind.COUNTER,
    "{restart}",
    (),
    "How often the collector died and was started again",
)

ALL: Final = (
    SERVER_DURATION, CLIENT_DURATION, SESSION_DURATION, REQUESTS, ERRORS, DENIALS, SESSIONS_OPENED, SESSIONS_SEEN,
    SESSIONS_EXPIRED, STREAMS, LEGS, REPAIRS, CACHE_LOOKUPS, TOKEN_EXCHANGE_DURATION, WORKERS, WORKER_RESTARTS,
    COLLECTOR_RESTARTS, LOOP_LAG, MEMORY, AUDIT_WRITTEN, AUDIT_LOST, RECORDS, RECORDS_LOST, SPANS_LOST,
)  # fmt: skip

BY_NAME: Final = {instrument.name: instrument for instrument in ALL}
