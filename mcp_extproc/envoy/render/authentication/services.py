"""Clusters of the services that prove who calls, or have the keys for it."""

from __future__ import annotations

from urllib.parse import urlsplit

from mcp_extproc.config.tls import is_ip
from mcp_extproc.envoy._api.config_cluster_v3 import Cluster, ClusterDiscoveryType, ClusterDnsLookupFamily
from mcp_extproc.envoy._api.config_core_v3 import Http2ProtocolOptions
from mcp_extproc.envoy._api.config_endpoint_v3 import ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints
from mcp_extproc.envoy._api.upstreams_http_v3 import HttpProtocolOptions, HttpProtocolOptionsExplicitHttpConfig
from mcp_extproc.envoy.render import tls
from mcp_extproc.envoy.render.typed import any_of, seconds, socket_address


def at(name: str, url: str, *, http2: bool = False, ca: str | None = None) -> Cluster:
    """The cluster of a service at a URL.

    Args:
        name: the cluster's.
        url: https verifies its certificate.
        http2: gRPC needs it.
        ca: file of the authorities of its certificate; ``None`` for the system's.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = socket_address("127.0.0.1" if host == "localhost" else host, port)
    found = cluster(
        name,
        ClusterDiscoveryType.STATIC if is_ip(host) or host == "localhost" else ClusterDiscoveryType.STRICT_DNS,
        [LbEndpoint(endpoint=Endpoint(address=address))],
    )
    found.dns_lookup_family = ClusterDnsLookupFamily.V4_PREFERRED
    if parts.scheme == "https":
        found.transport_socket = tls.to_authority(host, "h2" if http2 else "http/1.1", ca)
    if http2:
        explicit = HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
        found.typed_extension_protocol_options = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": any_of(
                HttpProtocolOptions(explicit_http_config=explicit)
            )
        }
    return found


def cluster(name: str, type: ClusterDiscoveryType, lb_endpoints: list[LbEndpoint]) -> Cluster:
    """A cluster with these addresses."""
    return Cluster(
        name=name,
        type=type,
        connect_timeout=seconds(5),
        load_assignment=ClusterLoadAssignment(
            cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=lb_endpoints)]
        ),
    )
