"""Envoy's resilience options as configuration sections, under Envoy's names. Options that are not set are not rendered."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mcp_extproc.config.base import Model
from mcp_extproc.config.values import Seconds, Size, WholeNumber

MAX_COUNT = 2**32 - 1
"""Maximum of a ``uint32`` in Envoy's configuration."""

_STATUSES = re.compile(r"([1-5]\d\d)(?:-([1-5]\d\d))?")
_PATH = re.compile(r"/[\x21-\x22\x24-\x7e]*")


def _statuses(value: str) -> str:
    match = _STATUSES.fullmatch(value)
    if match is None or int(match[2] or match[1]) < int(match[1]):
        raise ValueError("expected an HTTP status or a range of them, such as 200 or 200-299")
    return value


def _path(value: str) -> str:
    if not _PATH.fullmatch(value):
        raise ValueError("expected an absolute path such as /health")
    return value


def _text(value: object) -> object:
    # In YAML, 200 is a number.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Statuses = Annotated[str, BeforeValidator(_text), AfterValidator(_statuses)]
HttpPath = Annotated[str, AfterValidator(_path)]

LoadBalancing = Literal["round_robin", "least_request", "random", "ring_hash"]


class Dns(Model):
    """Resolution of the server's host names (`STRICT_DNS`): each address is a replica."""

    refresh_rate: Seconds = Field(default=5.0, ge=0.001)
    """Time between two DNS queries."""

    failure_refresh_rate: Seconds | None = Field(default=None, ge=0.001)
    """Time until the next query after a failed one. Default: `refresh_rate`."""

    respect_ttl: bool = False
    """Query again when the record's TTL has expired, instead of after `refresh_rate`."""

    lookup_family: Literal["v4_preferred", "v6_preferred", "v4_only", "v6_only", "all"] = "v4_preferred"
    """Address families to use. `all`: both."""


class HealthCheck(Model):
    """Active health checks. Without `path`, a check opens a TCP connection (with TLS, it includes the handshake): many MCP
    servers offer nothing else that works without a session."""

    path: HttpPath | None = None
    """Path of an HTTP check (GET). It appears in Envoy's configuration: no secrets in it. Default: a TCP check."""

    expected_statuses: tuple[Statuses, ...] = ("200",)
    """HTTP statuses, or ranges such as `200-499`, that count as healthy."""

    interval: Seconds = Field(default=5.0, ge=0.001)
    """Time between two checks of a replica."""

    timeout: Seconds = Field(default=1.0, ge=0.001)
    """Deadline of a check."""

    unhealthy_threshold: WholeNumber = Field(default=2, ge=1, le=1000)
    """Consecutive failed checks after which a replica gets no requests."""

    healthy_threshold: WholeNumber = Field(default=1, ge=1, le=1000)
    """Consecutive passed checks after which it gets requests again."""


class OutlierDetection(Model):
    """Passive health checks: a replica that fails requests is ejected for a while."""

    consecutive_5xx: WholeNumber = Field(default=5, ge=0, le=MAX_COUNT)
    """Consecutive 5xx responses that eject a replica. 0: never."""

    consecutive_gateway_failure: WholeNumber = Field(default=0, ge=0, le=MAX_COUNT)
    """Consecutive 502, 503 or 504 responses that eject it. 0: never."""

    consecutive_local_origin_failure: WholeNumber = Field(default=3, ge=0, le=MAX_COUNT)
    """Consecutive connections that failed, broke or timed out that eject it. 0: never."""

    interval: Seconds = Field(default=1.0, ge=0.001)
    """Time between two checks for replicas whose ejection has ended."""

    base_ejection_time: Seconds = Field(default=30.0, ge=0.001)
    """Duration of the first ejection. The nth lasts n times as long."""

    max_ejection_time: Seconds = Field(default=300.0, ge=0.001)
    """Maximum duration of an ejection."""

    max_ejection_percent: WholeNumber = Field(default=100, ge=1, le=100)
    """Maximum share of replicas that are ejected at a time, in percent. With all of them ejected, calls fail immediately."""

    @model_validator(mode="after")
    def _times(self) -> OutlierDetection:
        if self.max_ejection_time < self.base_ejection_time:
            raise ValueError("max_ejection_time is shorter than base_ejection_time")
        return self


class CircuitBreakers(Model):
    """Limits for each Envoy, over all replicas of the server. A request above one fails immediately. An open GET stream counts
    as one request."""

    max_connections: WholeNumber | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Maximum number of connections. Default: no limit. A request waits until one is available."""

    max_pending_requests: WholeNumber | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Maximum number of requests waiting for a connection, as the first request on each does. Default: no limit."""

    max_requests: WholeNumber | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Maximum number of concurrent requests, streams included. Default: no limit."""

    max_retries: WholeNumber = Field(default=1024, ge=1, le=MAX_COUNT)
    """Maximum number of concurrent retries, including those that repair lost sessions."""


class Retries(Model):
    """Retries of requests that are known to have had no effect. Calls: after a failed connection attempt or a stream that the
    server refused. `initialize` and lists: also after 503 and broken connections."""

    num_retries: WholeNumber = Field(default=2, ge=1, le=10)
    """Maximum number of retries at each step of a request (docs/resilience.md, "Retries")."""

    base_interval: Seconds = Field(default=0.025, ge=0.001)
    """Maximum back-off before the first retry. It doubles with each retry."""

    max_interval: Seconds = Field(default=0.25, ge=0.001)
    """Maximum back-off."""

    @model_validator(mode="after")
    def _intervals(self) -> Retries:
        if self.max_interval < self.base_interval:
            raise ValueError("max_interval is shorter than base_interval")
        return self


class Keepalive(Model):
    """Probes on idle connections to the server, so that firewalls keep them open and dead ones are detected."""

    probes: WholeNumber = Field(default=3, ge=1, le=1000)
    """TCP: unanswered probes after which a connection is closed."""

    time: Seconds = Field(default=60.0, ge=1)
    """TCP: idle time before the first probe, in whole seconds."""

    interval: Seconds = Field(default=10.0, ge=1)
    """TCP: time between two probes, in whole seconds."""

    http2_interval: Seconds | None = Field(default=None, ge=0.001)
    """HTTP/2: time between two PINGs. Default: no PINGs."""

    http2_timeout: Seconds = Field(default=5.0, ge=0.001)
    """HTTP/2: deadline of the answer to a PING."""


class ListenLimits(Model):
    """Limits of the listener for clients."""

    max_request_headers_kb: WholeNumber | None = Field(default=None, ge=1, le=8192)
    """Maximum size of request headers, in KiB. Above it: 431. Default: 60."""

    max_headers_count: WholeNumber | None = Field(default=None, ge=1, le=100_000)
    """Maximum number of request headers. Above it: 431 (HTTP/2: the stream is reset). Default: 100."""

    per_connection_buffer_limit_bytes: Size | None = None
    """Bytes that Envoy buffers for each connection before it stops reading. Default: 1MiB."""

    idle_timeout: Seconds = Field(default=300.0, ge=0.001)
    """Idle time after which a connection without a request is closed."""

    request_headers_timeout: Seconds = Field(default=15.0, ge=0.001)
    """Deadline of a request's headers, from their first byte on, and of a TLS handshake. After it: 408, or the connection is
    closed."""

    request_timeout: Seconds = Field(default=60.0, ge=0.001)
    """Deadline of a whole request, body included. After it: 408."""

    unread_timeout: Seconds = Field(default=60.0, ge=1)
    """How long a client may take nothing of what is sent to it. Then its connection is closed. Over HTTP/2, where a connection
    may be read and an answer not, the answer is reset so long after its end. A change takes a restart."""

    max_concurrent_streams: WholeNumber = Field(default=100, ge=1, le=2**31 - 1)
    """Maximum number of concurrent requests of an HTTP/2 connection. Clients wait, or open another."""

    max_connection_duration: Seconds | None = Field(default=None, ge=0.001)
    """Age at which a connection is closed; its requests and streams get 5 s to finish. Default: no limit."""

    max_requests_per_connection: WholeNumber | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Requests after which a connection is closed. Default: no limit."""


class Overload(Model):
    """Envoy's overload manager, which applies to the whole Envoy process."""

    max_active_downstream_connections: WholeNumber = Field(default=10_000, ge=1, le=MAX_COUNT)
    """Maximum number of client connections. Further ones are closed immediately. Each takes a file descriptor, as does each
    connection to a server."""

    max_heap_size_bytes: Size | None = None
    """Envoy's heap. From 85 % of it on, HTTP/2 requests that hold more than 1 MiB are reset, the largest first; at 90 %
    connections are closed after their request, at 95 % requests get 503, at 98 % no connections are accepted. Default: no
    limit."""
