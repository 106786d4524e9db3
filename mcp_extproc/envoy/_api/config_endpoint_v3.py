"""envoy.config.endpoint.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3


class ClusterLoadAssignment(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.endpoint.v3.ClusterLoadAssignment"
    cluster_name: str = ''
    endpoints: list[LocalityLbEndpoints] = []
    named_endpoints: dict[str, Endpoint] = {}
    policy: ClusterLoadAssignmentPolicy | None = None


class ClusterLoadAssignmentPolicy(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy"
    overprovisioning_factor: int | None = None
    endpoint_stale_after: timedelta | None = None
    weighted_priority_health: bool = False


class Endpoint(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.endpoint.v3.Endpoint"
    address: config_core_v3.Address | None = None
    health_check_config: EndpointHealthCheckConfig | None = None
    hostname: str = ''
    additional_addresses: list[EndpointAdditionalAddress] = []
    observability_name: str = ''


class EndpointAdditionalAddress(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.endpoint.v3.Endpoint.AdditionalAddress"
    address: config_core_v3.Address | None = None


class EndpointHealthCheckConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.endpoint.v3.Endpoint.HealthCheckConfig"
    port_value: int = 0
    hostname: str = ''
    address: config_core_v3.Address | None = None
    disable_active_health_check: bool = False


class LbEndpoint(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.endpoint.v3.LbEndpoint"
    endpoint: Endpoint | None = None
    endpoint_name: str | None = None
    metadata: config_core_v3.Metadata | None = None
    load_balancing_weight: int | None = None


class LocalityLbEndpoints(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.endpoint.v3.LocalityLbEndpoints"
    metadata: config_core_v3.Metadata | None = None
    lb_endpoints: list[LbEndpoint] = []
    load_balancing_weight: int | None = None
    priority: int = 0
    proximity: int | None = None
