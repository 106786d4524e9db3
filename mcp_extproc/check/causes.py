"""Causes of failed connections to servers, from Envoy's statistics, which are more precise than its response flags."""

from __future__ import annotations

from collections.abc import Mapping

from mcp_extproc.envoy.layout import cluster_name
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


async def causes(admin: Admin, servers: list[str]) -> Mapping[str, str]:
    """The known causes, by server."""
    counted = await admin.stats("^cluster\\.mcp/") or {}
    found = {}
    for server in servers:
        prefix = f"cluster.{cluster_name(server)}."
        for counter, meaning in _CAUSES:
            if counted.get(prefix + counter, "0") != "0":
                found[server] = meaning
                break
    return found
