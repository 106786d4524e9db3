"""envoy.extensions.upstreams.http.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3, config_route_v3, filters_network_http_connection_manager_v3


class HttpProtocolOptions(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    common_http_protocol_options: config_core_v3.HttpProtocolOptions | None = None
    explicit_http_config: HttpProtocolOptionsExplicitHttpConfig | None = None
    http_filters: list[filters_network_http_connection_manager_v3.HttpFilter] = []
    header_validation_config: config_core_v3.TypedExtensionConfig | None = None
    hash_policy: list[config_route_v3.RouteActionHashPolicy] = []
    retry_policy: config_route_v3.RetryPolicy | None = None


class HttpProtocolOptionsExplicitHttpConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig"
    http_protocol_options: config_core_v3.Http1ProtocolOptions | None = None
    http2_protocol_options: config_core_v3.Http2ProtocolOptions | None = None
