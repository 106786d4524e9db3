"""envoy.extensions.filters.http.composite.v3, as far as it is used. Written by `python -m protos.envoy_types`: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mcp_extproc.envoy.message import Message

if TYPE_CHECKING:
    from mcp_extproc.envoy._api import config_core_v3, xds_type_matcher_v3


class Composite(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.composite.v3.Composite"
    matcher: xds_type_matcher_v3.Matcher | None = None


class ExecuteFilterAction(Message):
    FULL_NAME: ClassVar[str] = "envoy.extensions.filters.http.composite.v3.ExecuteFilterAction"
    typed_config: config_core_v3.TypedExtensionConfig | None = None
    filter_chain_name: str = ''
    sample_percent: config_core_v3.RuntimeFractionalPercent | None = None
