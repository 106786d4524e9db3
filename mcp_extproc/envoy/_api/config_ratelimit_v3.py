"""envoy.config.ratelimit.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import ClassVar

from mcp_extproc.envoy._api import config_core_v3
from mcp_extproc.envoy.message import Message


class RateLimitServiceConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.config.ratelimit.v3.RateLimitServiceConfig"
    grpc_service: config_core_v3.GrpcService | None = None
    transport_api_version: config_core_v3.ApiVersion = config_core_v3.ApiVersion.AUTO
