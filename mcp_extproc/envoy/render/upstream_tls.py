"""TLS for some endpoints of a server's cluster."""

from __future__ import annotations

from pathlib import Path

from mcp_extproc.config import Server
from mcp_extproc.envoy._api.config_cluster_v3 import ClusterTransportSocketMatch
from mcp_extproc.envoy._api.config_core_v3 import TransportSocket
from mcp_extproc.envoy._api.transport_sockets_raw_buffer_v3 import RawBuffer
from mcp_extproc.envoy.render import tls
from mcp_extproc.envoy.render.typed import any_of

REPAIR_MATCH = {"mcp_repair": True}
"""Metadata of the endpoint that is the repair listener, which always uses plaintext."""


def transport_socket_matches(name: str, server: Server, secrets: Path | None) -> list[ClusterTransportSocketMatch]:
    """TLS for the replicas, none for the repair listener."""
    return [_plain_repair(), _tls_replicas(name, server, secrets)] if server.uses_tls else []


def _plain_repair() -> ClusterTransportSocketMatch:
    return ClusterTransportSocketMatch(
        name="repair",
        match=dict(REPAIR_MATCH),
        transport_socket=TransportSocket(name="envoy.transport_sockets.raw_buffer", typed_config=any_of(RawBuffer())),
    )


def _tls_replicas(name: str, server: Server, secrets: Path | None) -> ClusterTransportSocketMatch:
    return ClusterTransportSocketMatch(
        name="tls",
        match={},
        transport_socket=tls.to_server(name, server, secrets),
    )
