"""TLS for some endpoints of a server's cluster."""

from __future__ import annotations

from envoy_data_plane.envoy.config.cluster.v3 import ClusterTransportSocketMatch
from envoy_data_plane.envoy.config.core.v3 import TransportSocket
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer.v3 import RawBuffer
from envoy_data_plane.google.protobuf import Struct

from mcp_extproc.config import Server
from mcp_extproc.envoy.render import tls
from mcp_extproc.envoy.render.typed import any_of

REPAIR_MATCH = {"mcp_repair": True}
"""Metadata of the endpoint that is the repair listener, which always uses plaintext."""


def transport_socket_matches(server: Server) -> list[ClusterTransportSocketMatch]:
    """TLS for the replicas, none for the repair listener."""
    return [_plain_repair(), _tls_replicas(server)] if server.uses_tls else []


def _plain_repair() -> ClusterTransportSocketMatch:
    return ClusterTransportSocketMatch(
        name="repair",
        match=Struct.from_dict(REPAIR_MATCH),
        transport_socket=TransportSocket(name="envoy.transport_sockets.raw_buffer", typed_config=any_of(RawBuffer())),
    )


def _tls_replicas(server: Server) -> ClusterTransportSocketMatch:
    return ClusterTransportSocketMatch(
        name="tls",
        match=Struct(),
        transport_socket=tls.to_server(server),
    )
