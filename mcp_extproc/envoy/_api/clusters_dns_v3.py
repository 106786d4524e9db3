"""envoy.extensions.clusters.dns.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy._api import clusters_common_dns_v3
from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3


class DnsCluster(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.clusters.dns.v3.DnsCluster"
    dns_refresh_rate: timedelta | None = None
    dns_failure_refresh_rate: DnsClusterRefreshRate | None = None
    respect_dns_ttl: bool = False
    dns_jitter: timedelta | None = None
    typed_dns_resolver_config: config_core_v3.TypedExtensionConfig | None = None
    dns_lookup_family: clusters_common_dns_v3.DnsLookupFamily = clusters_common_dns_v3.DnsLookupFamily.UNSPECIFIED
    all_addresses_in_single_endpoint: bool = False
    dns_min_refresh_rate: timedelta | None = None


class DnsClusterRefreshRate(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.clusters.dns.v3.DnsCluster.RefreshRate"
    base_interval: timedelta | None = None
    max_interval: timedelta | None = None
