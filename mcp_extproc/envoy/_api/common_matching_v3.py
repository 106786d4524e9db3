"""envoy.extensions.common.matching.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3, xds_type_matcher_v3


class ExtensionWithMatcher(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.common.matching.v3.ExtensionWithMatcher"
    xds_matcher: xds_type_matcher_v3.Matcher | None = None
    extension_config: config_core_v3.TypedExtensionConfig | None = None
