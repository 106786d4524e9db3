"""envoy.extensions.load_balancing_policies.common.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_route_v3


class ConsistentHashingLbConfig(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.load_balancing_policies.common.v3.ConsistentHashingLbConfig"
    use_hostname_for_hashing: bool = False
    hash_balance_factor: int | None = None
    hash_policy: list[config_route_v3.RouteActionHashPolicy] = []
