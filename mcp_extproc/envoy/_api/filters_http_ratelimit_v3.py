"""envoy.extensions.filters.http.ratelimit.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3, config_ratelimit_v3, config_route_v3, type_v3


class RateLimitXRateLimitHeadersRfcVersion(StrEnum):
    OFF = "OFF"
    DRAFT_VERSION_03 = "DRAFT_VERSION_03"


class RateLimit(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.ratelimit.v3.RateLimit"
    domain: str = ''
    stage: int = 0
    request_type: str = ''
    timeout: timedelta | None = None
    failure_mode_deny: bool = False
    rate_limited_as_resource_exhausted: bool = False
    rate_limit_service: config_ratelimit_v3.RateLimitServiceConfig | None = None
    enable_x_ratelimit_headers: RateLimitXRateLimitHeadersRfcVersion = RateLimitXRateLimitHeadersRfcVersion.OFF
    disable_x_envoy_ratelimited_header: bool = False
    rate_limited_status: type_v3.HttpStatus | None = None
    response_headers_to_add: list[config_core_v3.HeaderValueOption] = []
    status_on_error: type_v3.HttpStatus | None = None
    stat_prefix: str = ''
    filter_enabled: config_core_v3.RuntimeFractionalPercent | None = None
    filter_enforced: config_core_v3.RuntimeFractionalPercent | None = None
    failure_mode_deny_percent: config_core_v3.RuntimeFractionalPercent | None = None
    rate_limits: list[config_route_v3.RateLimit] = []
    metadata_namespace: str = ''
