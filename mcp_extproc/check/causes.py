"""Causes of failed connections to servers, and to a service that says who calls, from Envoy's statistics, which are more
precise than its response flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mcp_extproc.envoy.layout import EXTERNAL_CLUSTER, cluster_name
from mcp_extproc.run.envoy_admin import Admin

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


async def causes(admin: Admin, servers: list[str]) -> Mapping[str, str]:
    """The known causes, by server."""
    counted = await admin.stats("^cluster\\.mcp/") or {}
    found = ((server, _first(_CAUSES, counted, cluster_name(server))) for server in servers)
    return {server: cause for server, cause in found if cause is not None}


async def service_cause(admin: Admin, cluster: str) -> str | None:
    """The known cause, if any. ``cluster``: of the service."""
    counted = await admin.stats(f"^cluster\\.{EXTERNAL_CLUSTER}") or {}
    return _first(_CAUSES_AT_SERVICE, counted, cluster)


def _first(causes: Sequence[tuple[str, str]], counted: Mapping[str, str], cluster: str) -> str | None:
    said = (meaning for counter, meaning in causes if counted.get(f"cluster.{cluster}.{counter}", "0") != "0")
    return next(said, None)
