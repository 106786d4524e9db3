"""envoy.extensions.filters.http.router.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_accesslog_v3, filters_network_http_connection_manager_v3


class Router(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.router.v3.Router"
    dynamic_stats: bool | None = None
    start_child_span: bool = False
    upstream_log: list[config_accesslog_v3.AccessLog] = []
    suppress_envoy_headers: bool = False
    strict_check_headers: list[str] = []
    respect_expected_rq_timeout: bool = False
    suppress_grpc_request_failure_code_stats: bool = False
    upstream_http_filters: list[filters_network_http_connection_manager_v3.HttpFilter] = []
    reject_connect_request_early_data: bool | None = None
