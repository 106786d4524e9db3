"""Envoy's resilience as sections of the configuration. Keys have Envoy's names; what is not configured is not rendered."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mcp_extproc.config.base import Model
from mcp_extproc.config.values import Seconds, Size, WholeNumber

MAX_COUNT = 2**32 - 1
"""Largest count that Envoy's configuration can hold."""

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
    # YAML reads 200 as a number.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Statuses = Annotated[str, BeforeValidator(_text), AfterValidator(_statuses)]
HttpPath = Annotated[str, AfterValidator(_path)]

LoadBalancing = Literal["round_robin", "least_request", "random", "ring_hash"]


class Dns(Model):
    """How Envoy resolves the server's host names (`STRICT_DNS`): each address is a replica."""

    refresh_rate: Seconds = Field(default=5.0, ge=0.001)
    """Time between two look-ups."""

    failure_refresh_rate: Seconds | None = Field(default=None, ge=0.001)
    """Time until the next one after a look-up that failed. Default: `refresh_rate`."""

    respect_ttl: bool = False
    """Look up again when the answer's TTL has passed, instead of after `refresh_rate`."""

    lookup_family: Literal["v4_preferred", "v6_preferred", "v4_only", "v6_only", "all"] = "v4_preferred"
    """Which addresses are used. `all`: those of both families."""


class HealthCheck(Model):
    """Active health checks. Without `path` a check opens a TCP connection (with TLS: its handshake too): many MCP servers have
    nothing else that could be asked without a session."""

    path: HttpPath | None = None
    """Path of an HTTP check (GET). It stands in Envoy's configuration: no keys in it. Default: a TCP check."""

    expected_statuses: tuple[Statuses, ...] = ("200",)
    """HTTP statuses, or ranges of them such as `200-499`, that mean well."""

    interval: Seconds = Field(default=5.0, ge=0.001)
    """Time between two checks of a replica."""

    timeout: Seconds = Field(default=1.0, ge=0.001)
    """How long a check may take."""

    unhealthy_threshold: WholeNumber = Field(default=2, ge=1, le=1000)
    """Failed checks in a row after which a replica gets no requests."""

    healthy_threshold: WholeNumber = Field(default=1, ge=1, le=1000)
    """Passed checks in a row after which it gets them again."""


class OutlierDetection(Model):
    """Passive health checks: a replica that fails requests gets none for a while."""

    consecutive_5xx: WholeNumber = Field(default=5, ge=0, le=MAX_COUNT)
    """Answers with 5xx in a row that eject a replica. 0: never."""

    consecutive_gateway_failure: WholeNumber = Field(default=0, ge=0, le=MAX_COUNT)
    """Answers with 502, 503 or 504 in a row that eject it. 0: never."""

    consecutive_local_origin_failure: WholeNumber = Field(default=3, ge=0, le=MAX_COUNT)
    """Connections in a row that could not be made, broke, or timed out, and eject it. 0: never."""

    interval: Seconds = Field(default=1.0, ge=0.001)
    """Time between two looks at who may come back."""

    base_ejection_time: Seconds = Field(default=30.0, ge=0.001)
    """How long the first ejection lasts. The second lasts twice as long, and so on."""

    max_ejection_time: Seconds = Field(default=300.0, ge=0.001)
    """Longest ejection."""

    max_ejection_percent: WholeNumber = Field(default=100, ge=1, le=100)
    """Most replicas that are ejected at a time. With all of them ejected, calls fail at once."""

    @model_validator(mode="after")
    def _times(self) -> OutlierDetection:
        if self.max_ejection_time < self.base_ejection_time:
            raise ValueError("max_ejection_time is shorter than base_ejection_time")
        return self


class CircuitBreakers(Model):
    """Limits on what each Envoy holds open to all replicas together. Above one, a request fails at once. The stream of a GET
    counts as one request for as long as it is open."""

    max_connections: WholeNumber | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Most connections. Default: no limit. A request that finds none waits for one."""

    max_pending_requests: WholeNumber | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Most requests that wait for a connection, which every first one does. Default: no limit."""

    max_requests: WholeNumber | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Most requests at a time, streams included. Default: no limit."""

    max_retries: WholeNumber = Field(default=1024, ge=1, le=MAX_COUNT)
    """Most retries at a time, those that repair lost sessions included."""


class Retries(Model):
    """Retries of what is known to have had no effect. Calls: after a connection that could not be made, or a stream that the
    server refused. `initialize` and lists: after 503 and broken connections as well."""

    num_retries: WholeNumber = Field(default=2, ge=1, le=10)
    """Most retries of one request, on each of the ways that it takes (docs/resilience.md, "Retries")."""

    base_interval: Seconds = Field(default=0.025, ge=0.001)
    """Back-off before the first retry, at most. It doubles with each."""

    max_interval: Seconds = Field(default=0.25, ge=0.001)
    """Longest back-off."""

    @model_validator(mode="after")
    def _intervals(self) -> Retries:
        if self.max_interval < self.base_interval:
            raise ValueError("max_interval is shorter than base_interval")
        return self


class Keepalive(Model):
    """Probes on idle connections to the server, so that firewalls keep them and dead ones are found."""

    probes: WholeNumber = Field(default=3, ge=1, le=1000)
    """TCP: unanswered probes after which a connection is dead."""

    time: Seconds = Field(default=60.0, ge=1)
    """TCP: silence before the first probe, in whole seconds."""

    interval: Seconds = Field(default=10.0, ge=1)
    """TCP: time between two probes, in whole seconds."""

    http2_interval: Seconds | None = Field(default=None, ge=0.001)
    """HTTP/2: time between two PINGs. Default: none are sent."""

    http2_timeout: Seconds = Field(default=5.0, ge=0.001)
    """HTTP/2: how long the answer to a PING may take."""


class ListenTls(Model):
    """TLS to clients."""

    certificate: str = Field(min_length=1)
    """File of the PEM certificate chain."""

    key: str = Field(min_length=1)
    """File of its PEM private key."""

    client_ca: str | None = Field(default=None, min_length=1)
    """File of PEM certificates. With it, clients have to present a certificate that one of these signed."""

    alpn: tuple[Literal["h2", "http/1.1"], ...] = ("h2", "http/1.1")
    """Protocols offered (ALPN), the preferred one first."""


class ListenLimits(Model):
    """Limits of the clients' listener. What is not given is Envoy's default."""

    max_request_headers_kb: WholeNumber | None = Field(default=None, ge=1, le=8192)
    """Largest head of a request, in KiB. Above it: 431. Default: 60."""

    max_headers_count: WholeNumber | None = Field(default=None, ge=1, le=100_000)
    """Most headers of a request. Above it: 431 (HTTP/2: the stream is reset). Default: 100."""

    per_connection_buffer_limit_bytes: Size | None = None
    """What Envoy holds for each connection before it stops reading. Default: 1MiB."""

    idle_timeout: Seconds | None = Field(default=None, ge=0.001)
    """How long a connection without requests is kept. Default: 1h."""

    max_connection_duration: Seconds | None = Field(default=None, ge=0.001)
    """Age at which a connection is closed; running requests get 5 s to finish, streams too. Default: none."""

    max_requests_per_connection: WholeNumber | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Requests after which a connection is closed. Default: no limit."""


class Overload(Model):
    """Envoy's overload manager: what it refuses before it breaks. It is for the whole Envoy."""

    max_active_downstream_connections: WholeNumber | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Most connections of clients at a time. Further ones are closed at once. Default: no limit."""

    max_heap_size_bytes: Size | None = None
    """Memory of Envoy. At 90 % of it connections end after their request, at 95 % requests get 503, at 98 % no connections are
    accepted. Default: no limit."""
