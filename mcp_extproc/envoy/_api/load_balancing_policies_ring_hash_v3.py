"""envoy.extensions.load_balancing_policies.ring_hash.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import load_balancing_policies_common_v3


class RingHash(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash"
    AS_TEXT: ClassVar[frozenset[str]] = frozenset({'minimum_ring_size', 'maximum_ring_size'})
    minimum_ring_size: int | None = None
    maximum_ring_size: int | None = None
    use_hostname_for_hashing: bool = False
    hash_balance_factor: int | None = None
    consistent_hashing_lb_config: load_balancing_policies_common_v3.ConsistentHashingLbConfig | None = None
