"""envoy.extensions.common.ratelimit.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import type_v3


class LocalRateLimitDescriptor(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.common.ratelimit.v3.LocalRateLimitDescriptor"
    entries: list[RateLimitDescriptorEntry] = []
    token_bucket: type_v3.TokenBucket | None = None
    shadow_mode: bool = False


class RateLimitDescriptorEntry(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.Entry"
    key: str = ''
    value: str = ''
