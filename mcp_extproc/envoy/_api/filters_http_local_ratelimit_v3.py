"""envoy.extensions.filters.http.local_ratelimit.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import common_ratelimit_v3, config_core_v3, config_route_v3, type_v3


class LocalRateLimit(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
    stat_prefix: str = ''
    status: type_v3.HttpStatus | None = None
    token_bucket: type_v3.TokenBucket | None = None
    filter_enabled: config_core_v3.RuntimeFractionalPercent | None = None
    filter_enforced: config_core_v3.RuntimeFractionalPercent | None = None
    request_headers_to_add_when_not_enforced: list[config_core_v3.HeaderValueOption] = []
    response_headers_to_add: list[config_core_v3.HeaderValueOption] = []
    descriptors: list[common_ratelimit_v3.LocalRateLimitDescriptor] = []
    stage: int = 0
    local_rate_limit_per_downstream_connection: bool = False
    always_consume_default_token_bucket: bool | None = None
    rate_limited_as_resource_exhausted: bool = False
    rate_limits: list[config_route_v3.RateLimit] = []
    max_dynamic_descriptors: int | None = None
