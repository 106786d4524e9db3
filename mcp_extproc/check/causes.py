"""Causes of failed connections to servers, and to a service that says who calls, from Envoy's statistics, which are more
precise than its response flags."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from mcp_extproc.envoy.layout import EXTERNAL_CLUSTER, cluster_name, token_cluster
from mcp_extproc.gateway.legs import Failed
from mcp_extproc.gateway.relay.outcomes import CREDENTIALS_UNAVAILABLE
from mcp_extproc.run.envoy_admin import Admin
from mcp_extproc.upstreams.probe import Survey

_CAUSES = (
    ("ssl.fail_verify_san", "its certificate is for another name: set `tls.sni`, or another URL"),
    ("ssl.fail_verify_error", "its certificate is not trusted: set `tls.ca` to the file of its CA"),
    ("ssl.fail_verify_no_cert", "it presents no certificate"),
    (
        "ssl.connection_error",
        "the TLS handshake fails: does it use TLS on this port, and does it require a client certificate?",
    ),
    ("upstream_cx_connect_timeout", "no connection within `connect_timeout`: is a firewall in between?"),
    ("upstream_cx_connect_fail", "nothing listens there"),
    ("upstream_cx_none_healthy", "its host name has no address, or its health checks fail"),
)
"""Counters of a cluster, and their meaning; the first that is not zero is the cause."""

_CAUSES_AT_SERVICE = (
    ("ssl.fail_verify_san", "its certificate is for another name"),
    ("ssl.fail_verify_error", "its certificate is not trusted: set `ca` to the file of its CA"),
    ("ssl.fail_verify_no_cert", "it presents no certificate"),
    ("ssl.connection_error", "the TLS handshake fails: does it use TLS on this port?"),
    ("upstream_cx_connect_timeout", "no connection within 5 s: is a firewall in between?"),
    ("upstream_cx_connect_fail", "nothing listens there"),
    ("upstream_cx_none_healthy", "its host name has no address"),
    ("upstream_rq_timeout", "no answer within `timeout`"),
)
"""The same of the service's."""

_CAUSES_AT_TOKEN_ENDPOINT = (
    *((counter, meaning) for counter, meaning in _CAUSES_AT_SERVICE if counter != "upstream_rq_timeout"),
    ("upstream_rq_timeout", "no answer within 10 s"),
    ("upstream_rq_200", "it answers without a token"),
    ("upstream_rq_400", "it answers HTTP 400: are client_id, client_secret, scopes and resource right?"),
    ("upstream_rq_401", "it answers HTTP 401: are client_id and client_secret right, and `basic`?"),
    ("upstream_rq_404", "it answers HTTP 404: is its path right?"),
    ("upstream_rq_4xx", "it answers with an error (HTTP 4xx)"),
    ("upstream_rq_5xx", "it answers with an error (HTTP 5xx)"),
)
"""The same of the ``token_endpoint`` of ``client_credentials``. Envoy's own log is not for people."""

Stats = Callable[[str], Awaitable[Mapping[str, str] | None]]
"""As :meth:`Admin.stats`."""


async def causes(stats: Stats, surveyed: Sequence[Survey]) -> Mapping[str, str]:
    """The known causes, by server: of those that can't be reached, and of those for which Envoy has no token."""
    reasons = {asked.name: asked.opened.reason for asked in surveyed if isinstance(asked.opened, Failed)}
    silent = [name for name, reason in reasons.items() if reason == "connect"]
    without_token = [name for name, reason in reasons.items() if reason == CREDENTIALS_UNAVAILABLE]
    counted = await stats("^cluster\\.mcp(_token)?/") or {} if silent or without_token else {}
    found = {name: _first(_CAUSES, counted, cluster_name(name)) for name in silent}
    found |= {name: _first(_CAUSES_AT_TOKEN_ENDPOINT, counted, token_cluster(name)) for name in without_token}
    return {name: cause for name, cause in found.items() if cause is not None}


async def service_cause(admin: Admin, cluster: str) -> str | None:
    """The known cause, if any. ``cluster``: of the service."""
    counted = await admin.stats(f"^cluster\\.{EXTERNAL_CLUSTER}") or {}
    return _first(_CAUSES_AT_SERVICE, counted, cluster)


def _first(causes: Sequence[tuple[str, str]], counted: Mapping[str, str], cluster: str) -> str | None:
    said = (meaning for counter, meaning in causes if counted.get(f"cluster.{cluster}.{counter}", "0") != "0")
    return next(said, None)
